"""The funnels of a run, beside the paper's: EFT rows from the seeds, and pairs from the generated prompts.

Read from the manifests alone (but for imported rows), so it costs nothing and is there even when a later stage refused to
go on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from selfreward.store.run import Run

PAPER_PAIRS = {1: 3964, 2: 6942}
"""AIFT(M1) and AIFT(M2), paper section 3.1.1."""


@dataclass(frozen=True)
class FunnelStep:
    """One line: how many are left, and what was lost on the way there, by reason."""

    what: str
    n: int
    lost: dict[str, int]
    paper: int | None = None


PAPER_EFT = (1630, 541)
"""EFT rows to train on and to evaluate with, paper section 3.1.1."""


def eft_funnel(run: Run) -> list[FunnelStep]:
    """From the seeds' replies to what the judge is trained on and measured with; empty where nothing was made of them."""
    if not run.has("eft") or "train" not in (counts := run.current("eft").manifest["counts"])["notes"]:
        return []
    notes = counts["notes"]
    train, evaluation = PAPER_EFT
    return [
        FunnelStep("seed replies", counts["in"], {}),
        FunnelStep("EFT replies", counts["out"], counts["dropped"]),
        FunnelStep("EFT rows, train", notes["train_accepted"], notes["train_rejected"], train),
        FunnelStep("EFT rows, eval", notes["eval"], {}, evaluation),
    ]


def funnel(run: Run, iteration: int) -> list[FunnelStep]:
    """The steps of one iteration, as far as they exist. Imported rows have no notes: they are counted."""
    steps: list[FunnelStep] = []

    def counts(name: str) -> dict[str, Any] | None:
        name = f"iter{iteration}/{name}"
        return run.current(name).manifest["counts"] if run.has(name) else None

    def counted(name: str, column: str) -> Counter[Any]:
        return Counter(run.current(f"iter{iteration}/{name}").table([column])[column].to_pylist())

    if prompts := counts("prompts"):
        notes = prompts["notes"]
        if "kept" not in notes:
            reasons = {reason: n for reason, n in counted("prompts", "reason").items() if reason}
            notes = {"kept": counted("prompts", "kept")[True], "rejected": reasons}
        steps.append(FunnelStep("prompts generated", prompts["out"], {}))
        steps.append(FunnelStep("prompts kept", notes["kept"], notes["rejected"]))
    if candidates := counts("candidates"):
        notes = candidates["notes"]
        if "truncated" not in notes:
            ended = counted("candidates", "finish_reason")
            notes = {"truncated": ended["length"], "engine_errors": ended["error"]}
        lost = {"truncated": notes["truncated"], "failed": notes["engine_errors"]}
        steps.append(FunnelStep("candidates", candidates["out"], lost))
    if scores := counts("scores"):
        notes = scores["notes"]
        if "unscored_candidates" not in notes:
            statuses = counted("judgements", "status") if counts("judgements") else Counter()
            notes = {
                "judgements_by_status": statuses,
                "unscored_candidates": counted("scores", "score")[None],
            }
        statuses = notes["judgements_by_status"]
        unscored = {status: n for status, n in statuses.items() if status != "ok"}
        steps.append(FunnelStep("judgements scored", statuses.get("ok", 0), unscored))
        n_unscored = notes["unscored_candidates"]
        scored = scores["out"] - n_unscored
        steps.append(FunnelStep("candidates scored", scored, {"unscored": n_unscored}))
    if pairs := counts("pairs"):
        steps.append(FunnelStep("pairs", pairs["out"], pairs["dropped"], PAPER_PAIRS.get(iteration)))
    return steps


def format_funnel(steps: list[FunnelStep]) -> str:
    """The funnel for a terminal; zero losses are left out."""
    lines = []
    for step in steps:
        lost = ", ".join(f"{reason} {n}" for reason, n in sorted(step.lost.items(), key=lambda e: -e[1]) if n)
        beside = f"   (paper: {step.paper:,})" if step.paper else ""
        lines.append(f"  {step.what:<20}{step.n:>8,}" + (f"   lost: {lost}" if lost else "") + beside)
    return "\n".join(lines)
