"""An estimate as text and as plain values for `--json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from selfreward.estimate.ranges import Range
from selfreward.estimate.run import Estimate
from selfreward.estimate.scaling import StepEstimate
from selfreward.text import format_table

_COLUMNS = ("requests", "answers", "prompt_tokens", "new_tokens", "seconds")


def as_plain(estimate: Estimate) -> dict[str, Any]:
    """Every figure as `{low, likely, high}`; `cost` is null where no prices are given."""
    return {
        **asdict(estimate),
        "total": {name: asdict(estimate.total(name)) for name in _COLUMNS},
        "cost": asdict(estimate.total("cost")) if _has_cost(estimate) else None,
        "not_estimated": [step.name for step in estimate.steps if step.state == "not estimated"],
    }


def format_estimate(estimate: Estimate) -> str:
    """A line for each step, the total, and under the table what stands behind each line."""
    if all(step.state == "done" for step in estimate.steps):
        return f"nothing to do: all {len(estimate.steps)} steps of {estimate.run} are up to date"
    priced = _has_cost(estimate)
    rows = [_row(step.name, step.state, step, step.cost, priced) for step in estimate.steps]
    sums: dict[str, Any] = {name: estimate.total(name) for name in _COLUMNS}
    total = StepEstimate("in all", "", **sums)
    rows.append(_row(total.name, "", total, estimate.total("cost") if priced else None, priced))
    head = ("step", "", "requests", "prompt tokens", "new tokens", "time", "from … to", *(("cost",) * priced))
    parts = [format_table(head, rows)]
    parts.append("\n".join(f"{s.name}: {'; '.join(s.basis)}" for s in estimate.steps if s.basis))
    parts.append(_closing(estimate))
    return "\n\n".join(parts)


def _row(name: str, state: str, step: StepEstimate, cost: Range | None, priced: bool) -> tuple[Any, ...]:
    if state in ("done", "not estimated"):
        return (name, state, *(None,) * 3, "-", "", *(("-",) * priced))
    sizes = (round(value.likely) or None for value in (step.requests, step.prompt_tokens, step.new_tokens))
    seconds = step.seconds
    low, high = _time(seconds.low), _time(seconds.high)
    span = "" if low == high else f"{low} … {high}"
    money = (_money(cost),) if priced else ()
    return (name, state, *sizes, _time(seconds.likely), span, *money)


def _closing(estimate: Estimate) -> str:
    spent = "" if estimate.probe_cost is None else f" and cost {estimate.probe_cost:.4g}, outside of max_cost"
    lines = [
        f"The measuring took {_time(estimate.probe_seconds)}{spent}. Nothing in {estimate.run} was changed. Times hold "
        "for a machine as free as it was just now; `from … to` adds up the best and the worst of all steps."
    ]
    unknown = [step.name for step in estimate.steps if step.state == "not estimated"]
    if unknown:
        lines.append(f"The total is without: {', '.join(unknown)}.")
    if not _has_cost(estimate):
        lines.append(
            "No prices are given (engine.extra.price_per_million_in, …_out), so no money is counted."
        )
    return "\n".join(lines)


def _has_cost(estimate: Estimate) -> bool:
    return any(step.cost is not None for step in estimate.steps)


def _time(seconds: float) -> str:
    """
    >>> _time(0.4), _time(42), _time(130), _time(9000), _time(400_000)
    ('0.4 s', '42 s', '2.2 min', '2.5 h', '4.6 days')
    """
    for limit, unit, name in ((100, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}" if seconds / unit < 10 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.1f} days"


def _money(cost: Range | None) -> str:
    if cost is None:
        return "-"
    return (
        f"{cost.likely:.4g}"
        if cost.low == cost.high
        else f"{cost.likely:.4g} ({cost.low:.4g} … {cost.high:.4g})"
    )
