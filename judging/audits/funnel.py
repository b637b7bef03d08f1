"""The funnel of a run for `selfreward audit`: prompts, candidates, scored, comparable, not tied, pairs; beside the paper's figures."""

from __future__ import annotations

from dataclasses import dataclass

from selfreward.cli.output import format_table
from selfreward.summary.facts import Summary
from selfreward.summary.funnel import ITERATION_STEPS


@dataclass(frozen=True)
class FunnelRow:
    """One step of one iteration. `n` None: the run has no such dataset. `share`: of the prompts, or of the candidates."""

    iteration: int
    step: str
    n: int | None
    share: float | None
    paper: int | None
    """What the paper reports for this step, where it does."""
    lost: dict[str, int]
    outdated: bool


def funnel_rows(summary: Summary) -> list[FunnelRow]:
    """Every step of every iteration; datasets that the run lacks leave their steps empty."""
    rows = []
    for iteration in summary.iterations:
        found = {step.what: step for step in iteration.funnel}
        for what in ITERATION_STEPS:
            name, step = what.replace(" ", "_"), found.get(what)
            if step is None:
                rows.append(FunnelRow(iteration.number, name, None, None, None, {}, False))
            else:
                outdated = step.dataset in summary.outdated
                rows.append(
                    FunnelRow(iteration.number, name, step.n, step.share, step.paper, step.lost, outdated)
                )
    return rows


def format_funnel_rows(rows: list[FunnelRow]) -> str:
    """The funnel as a table for a terminal."""
    head = ("iteration", "step", "n", "share", "paper", "lost there")
    cells = [
        (r.iteration, r.step.replace("_", " ") + " OUTDATED" * r.outdated, r.n, r.share, r.paper,
         ", ".join(f"{reason} {n}" for reason, n in r.lost.items() if n))
        for r in rows if r.n is not None
    ]  # fmt: skip
    return format_table(head, cells)
