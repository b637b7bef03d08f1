"""`selfreward card`: the dataset card and its pictures alone, with whatever is not known yet left open."""

from __future__ import annotations

import tempfile
from pathlib import Path

from data_cards.audits import audit_run
from data_cards.cards import write_dataset_card
from data_cards.facts import gather, seed_sources
from data_cards.licences import choose_licence
from data_cards.parquet import write_dataset
from data_cards.staging import select
from selfreward import durable
from selfreward.errors import UsageError
from selfreward.store import Run


def write_cards(path: Path, repo: str, licence: str | None, folder: Path) -> list[Path]:
    """Write the card into `folder`; the paths written. A failed audit stands in the card and stops nothing.

    UsageError for a licence that the seeds forbid; one that is not known yet is left open.
    """
    import pyarrow.parquet

    run = Run(path)
    selection = select(run)
    facts = gather(run, selection.datasets)
    chosen = _licence(run, licence)
    audits = audit_run(run, gated=False)
    with tempfile.TemporaryDirectory(prefix="selfreward-card-") as scratch:
        files = [write_dataset(version, Path(scratch)) for version in selection.datasets]
        described = [
            (data, pyarrow.parquet.read_schema(Path(scratch) / data.files[0].path)) for data in files
        ]
        durable.make_folder(folder)
        written = write_dataset_card(folder, repo, selection.tag, chosen, facts, described, audits)
    return list(written.values())


def _licence(run: Run, wanted: str | None) -> str | None:
    try:
        return choose_licence(seed_sources(run), wanted)
    except UsageError:
        if wanted is not None:
            raise
        return None
