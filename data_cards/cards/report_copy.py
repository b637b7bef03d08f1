"""The report beside a card: every plot as an SVG file, and a copy of the page that a browser opens without network.

Both come from `selfreward.page`, so that card and report show the same figures, counted once. The copy holds nothing that is
not in the published versions and the published settings: no folder of this machine, no costs, no other dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from selfreward.config.files import dump_config
from selfreward.data_cards.cards.facts import RunFacts
from selfreward.data_cards.cards.redact import public_config
from selfreward.data_cards.tree.layout import REPORT, picture_path
from selfreward.page.figures import Told
from selfreward.page.write import make_page, render

# What a card shows of each iteration; the page has more.
_OF_AN_ITERATION = ("scores", "lengths", "pair-lengths")


@dataclass(frozen=True)
class ReportCopy:
    """The files that were written, and what the card shows of them: path in the repository -> caption."""

    files: list[str]
    better: Mapping[str, str]
    """Does it get better?"""
    iterations: Mapping[int, Mapping[str, str]]
    changes: list[str]
    """What the figures of `better` say of the first and the last model."""


def write_report(folder: Path, title: str, repo: str, facts: RunFacts) -> ReportCopy:
    """Write the plots and the page below `folder`."""
    config = public_config(facts.config)
    told = Told(
        name=title,
        path="RUN",
        settings=replace(facts.settings, config=config),
        config_text=dump_config(config) if config else "",
        next=[f"selfreward pull {repo} RUN"],
    )
    page = make_page(facts.path, facts.summary, told)
    texts = {picture_path(id): picture for id, picture in page.pictures().items()} | {REPORT: render(page)}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        # As for the page of a run: a lone surrogate in a row must not prevent it.
        (folder / path).write_bytes(text.encode("utf-8", "replace"))
    drawn = {panel.id: panel for panel in page.panels if panel.chart}
    better = [panel for part in page.sections if part.id == "better" for panel in part.figures if panel.chart]
    return ReportCopy(
        files=list(texts),
        better={picture_path(panel.id): panel.title for panel in better},
        iterations={
            iteration.number: {
                picture_path(id): drawn[id].title
                for kind in _OF_AN_ITERATION
                if (id := f"iter{iteration.number}-{kind}") in drawn
            }
            for iteration in facts.summary.iterations
        },
        changes=[f"{panel.title}: {panel.changed}" for panel in better if panel.changed],
    )
