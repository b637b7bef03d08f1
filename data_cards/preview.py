"""`selfreward card`: the cards and their pictures alone, with whatever is not known yet left open."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_cards.audits import audit_run
from data_cards.bases import base_licence
from data_cards.cards import write_dataset_card
from data_cards.facts import RunFacts, gather, seed_sources
from data_cards.hub import HubRepo, connect
from data_cards.layout import CARD
from data_cards.licences import choose_licence
from data_cards.model_trees import write_card_of
from data_cards.parquet import write_dataset
from data_cards.staging import Selection, select
from selfreward import durable
from selfreward.errors import UsageError
from selfreward.store import Run


def write_cards(path: Path, repo: str, licence: str | None, folder: Path) -> list[Path]:
    """Write the dataset card into `folder` and the models' into `folder`/M1 and so on; the paths written.

    A failed audit stands in the card and stops nothing.
    UsageError for a licence that the seeds forbid; one that is not known yet is left open.
    """
    import pyarrow.parquet

    run = Run(path)
    selection = select(run, with_models=True)
    facts = gather(run, [*selection.datasets, *selection.models])
    chosen = _licence(run, licence)
    audits = audit_run(run, gated=False)
    with tempfile.TemporaryDirectory(prefix="selfreward-card-") as scratch:
        files = [write_dataset(version, Path(scratch)) for version in selection.datasets]
        described = [
            (data, pyarrow.parquet.read_schema(Path(scratch) / data.files[0].path)) for data in files
        ]
        durable.make_folder(folder)
        written = write_dataset_card(folder, repo, selection.tag, chosen, facts, described, audits)
    return [*written.values(), *_model_cards(selection, facts, repo, folder)]


def _model_cards(selection: Selection, facts: RunFacts, repo: str, folder: Path) -> Iterator[Path]:
    licence = base_licence(facts.config.model) if facts.config else None
    url = HubRepo(connect(), repo, "dataset").url
    for version in selection.models:
        path = durable.make_folder(folder / version.name) / CARD
        write_card_of(version, facts, licence, repo, url, selection.tag, path)
        yield path


def _licence(run: Run, wanted: str | None) -> str | None:
    try:
        return choose_licence(seed_sources(run), wanted)
    except UsageError:
        if wanted is not None:
            raise
        return None
