"""`selfreward card`: only the cards and their pictures, with unknown values left open."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from selfreward.data_cards.cards.audits import audit_run
from selfreward.data_cards.cards.base_models import base_licence
from selfreward.data_cards.cards.facts import Origin, RunFacts, gather, seed_origin
from selfreward.data_cards.cards.licences import choose_licence
from selfreward.data_cards.cards.render import write_dataset_card
from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.model_trees import write_card_of
from selfreward.data_cards.staging import Selection, select
from selfreward.data_cards.tree.layout import CARD
from selfreward.data_cards.tree.parquet import write_dataset
from selfreward.errors import UsageError
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.summary.settings import settings_of


def write_cards(path: Path, repo: str, licence: str | None, folder: Path) -> list[Path]:
    """Write the dataset card into `folder` and the models' into `folder`/M1 and so on; returns the paths.

    Raises UsageError for a license that the seeds forbid; an unknown one is left open.
    """
    import pyarrow.parquet

    run = Run(path)
    selection = select(run, with_models=True)
    settings, origin = settings_of(path, {v.name: v for v in selection.versions}), seed_origin(run)
    chosen = _licence(origin, licence)
    facts = gather(run, selection.versions, settings, origin)
    # a preview shows failed audits instead of stopping at them, so nothing was overruled
    audits = replace(audit_run(run, gated=False), overruled=False)
    # drawn elsewhere first: each card in the folder is either the old one or the new one
    with tempfile.TemporaryDirectory(prefix="selfreward-card-") as scratch, durable.filling(Path(scratch)):
        files = [write_dataset(version, Path(scratch)) for version in selection.datasets]
        described = [
            (data, pyarrow.parquet.read_schema(Path(scratch) / data.files[0].path)) for data in files
        ]
        drawn = Path(scratch, "cards")
        drawn.mkdir()
        write_dataset_card(drawn, repo, selection.tag, chosen, facts, described, audits)
        _draw_model_cards(selection, facts, repo, drawn)
        return _put(drawn, folder)


def _draw_model_cards(selection: Selection, facts: RunFacts, repo: str, folder: Path) -> None:
    licence = base_licence(facts.config.model) if facts.config else None
    url = HubRepo(connect(), repo, "dataset").url
    for version in selection.models:
        (folder / version.name).mkdir()
        write_card_of(version, facts, licence, repo, url, selection.tag, folder / version.name / CARD)


def _put(drawn: Path, folder: Path) -> list[Path]:
    """Move the drawn files into the folder; the dataset card is named first."""
    names = [path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file()]
    names.sort(key=lambda name: (name != Path(CARD), name))
    # written last, after the pictures that it shows
    for name in reversed(names):
        durable.make_folder((folder / name).parent)
        durable.replace_file(folder / name, (drawn / name).read_bytes())
    return [folder / name for name in names]


def _licence(origin: Origin, wanted: str | None) -> str | None:
    try:
        return choose_licence(origin.sources, wanted)
    except UsageError:
        # unknown is fine in a preview; a license that the seeds forbid is not
        if wanted is not None:
            raise
        return None
