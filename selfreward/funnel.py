"""The funnel of an iteration: generated prompts, kept, candidates, scored, not tied, pairs; beside the paper's.

Read from the manifests alone, so it costs nothing and is there even when a later stage refused to go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfreward.store import Run

PAPER_PAIRS = {1: 3964, 2: 6942}
"""AIFT(M1) and AIFT(M2), paper section 3.1.1."""


@dataclass(frozen=True)
class FunnelStep:
    """One line: how many are left, and what was lost on the way there, by reason."""

    what: str
    n: int
    lost: dict[str, int]


def funnel(run: Run, iteration: int) -> list[FunnelStep]:
    """The steps of one iteration, as far as they exist."""
    steps: list[FunnelStep] = []

    def counts(name: str) -> dict[str, Any] | None:
        name = f"iter{iteration}/{name}"
        return run.current(name).manifest["counts"] if run.has(name) else None

    if prompts := counts("prompts"):
        notes = prompts["notes"]
        steps.append(FunnelStep("prompts generated", prompts["out"], {}))
        steps.append(FunnelStep("prompts kept", notes["kept"], notes["rejected"]))
    if candidates := counts("candidates"):
        notes = candidates["notes"]
        lost = {"truncated": notes["truncated"], "failed": notes["engine_errors"]}
        steps.append(FunnelStep("candidates", candidates["out"], lost))
    if scores := counts("scores"):
        notes = scores["notes"]
        statuses = notes["judgements_by_status"]
        unscored = {status: n for status, n in statuses.items() if status != "ok"}
        steps.append(FunnelStep("judgements scored", statuses.get("ok", 0), unscored))
        n_unscored = notes["unscored_candidates"]
        scored = scores["out"] - n_unscored
        steps.append(FunnelStep("candidates scored", scored, {"unscored": n_unscored}))
    if pairs := counts("pairs"):
        steps.append(FunnelStep("pairs", pairs["out"], pairs["dropped"]))
    return steps


def format_funnel(steps: list[FunnelStep]) -> str:
    """The funnel for a terminal; zero losses are left out."""
    lines = []
    for step in steps:
        lost = ", ".join(f"{reason} {n}" for reason, n in sorted(step.lost.items(), key=lambda e: -e[1]) if n)
        lines.append(f"  {step.what:<20}{step.n:>8,}" + (f"   lost: {lost}" if lost else ""))
    return "\n".join(lines)
