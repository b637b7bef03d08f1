"""The funnel of a run, asked of its rows: prompts, candidates, scored, not tied, pairs; beside the paper's figures.

`judging/audits/funnel.sql` is the one query. `selfreward.funnel` tells the same from the manifests, with the reasons for what
was lost; that the two agree is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfreward.judging.audits.data import AuditData
from selfreward.judging.audits.tables import PROVIDED
from selfreward.sql.views import OpenRun
from selfreward.store.run import Run

FUNNEL = Path(__file__).parent / "funnel.sql"


@dataclass(frozen=True)
class FunnelRow:
    """One step of one iteration. `n` None: the run has no such dataset. `share`: of the prompts, or of the candidates."""

    iteration: int
    step: str
    n: int | None
    share: float | None
    paper: int | None
    """What the paper reports for this step, where it does."""


def funnel_rows(run: Run) -> list[FunnelRow]:
    """Every step of every iteration; datasets that the run lacks leave their steps empty."""
    with OpenRun(run.path) as opened:
        data = AuditData(opened, PROVIDED)
        data.need(("prompts", "candidates", "judgements", "scores", "pairs"))
        return [FunnelRow(*row) for row in data.connection.execute(FUNNEL.read_text()).fetchall()]


def format_funnel_rows(rows: list[FunnelRow]) -> str:
    """The funnel as a table for a terminal."""
    from selfreward.text import format_table

    head = ("iteration", "step", "n", "share", "paper")
    cells = [(r.iteration, r.step.replace("_", " "), r.n, r.share, r.paper) for r in rows if r.n is not None]
    return format_table(head, cells)
