"""The loss curve in a few numbers."""

from __future__ import annotations

from statistics import fmean
from typing import Any

CURVE_POINTS = 200
_DPO = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


def summarize(history: list[dict[str, Any]]) -> dict[str, Any]:
    """First, last and late values of a trainer's log; means are over the last tenth of the steps.

    >>> logs = [{"step": 1, "loss": 2.0, "learning_rate": 0.1}, {"step": 2, "loss": 1.0, "learning_rate": 0.05}]
    >>> summarize(logs)["loss_last_tenth"]
    1.0
    """
    steps = [entry for entry in history if "loss" in entry]
    if not steps:
        return {"steps": 0}
    late = steps[-max(1, len(steps) // 10) :]
    stride = -(-len(steps) // CURVE_POINTS)
    summary = {
        "steps": steps[-1]["step"],
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "loss_last_tenth": fmean(entry["loss"] for entry in late),
        "learning_rate_first": steps[0]["learning_rate"],
        "learning_rate_last": steps[-1]["learning_rate"],
        "curve": [[e["step"], e["loss"], e["learning_rate"]] for e in steps[::stride]],
    }
    for name in _DPO:
        if name in steps[-1]:
            summary[name] = fmean(entry[name] for entry in late)
    return summary
