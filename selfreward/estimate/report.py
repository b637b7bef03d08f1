"""Requests times measured batch time and price: an estimate per step and in total, as a table or as JSON.

    print(format_estimate(estimate_run(config, Path("runs/demo"))))

The range of an answer's length is the measured mean with its 95 % interval. Not covered: training, and a
machine that is busier later than during the measurement.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from selfreward.config.run import RunConfig
from selfreward.engines.openai.usage import Prices
from selfreward.estimate.measure import Batch, Measured, kind, measure
from selfreward.estimate.requests import Need, Range, Requests, Survey
from selfreward.steps.model_checks import check_models
from selfreward.steps.pipeline import engine_options, plans_until
from selfreward.steps.signals import interruptible
from selfreward.store.run import Run
from selfreward.text import format_table

# Half width of a 95 % interval, in standard errors.
Z = 1.96
NOTHING = Range.exactly(0.0)
_COLUMNS = ("requests", "answers", "prompt_tokens", "new_tokens", "seconds")


@dataclass(frozen=True)
class StepEstimate:
    """What one step still needs. `state`: done, partly done, to do, not estimated."""

    name: str
    state: str
    requests: Range = NOTHING
    answers: Range = NOTHING
    prompt_tokens: Range = NOTHING
    new_tokens: Range = NOTHING
    seconds: Range = NOTHING
    cost: Range | None = None
    """In the currency of the prices; None without prices."""
    basis: tuple[str, ...] = ()
    """What was measured and what is assumed, a sentence each."""


@dataclass(frozen=True)
class Estimate:
    """All steps, and the time and cost of the measurement."""

    run: str
    steps: tuple[StepEstimate, ...]
    probe_seconds: float
    probe_cost: float | None

    def total(self, name: str) -> Range:
        """The sum of a column over all steps."""
        return sum((getattr(step, name) or NOTHING for step in self.steps), NOTHING)


def estimate_run(config: RunConfig, path: Path, until: str | None = None) -> Estimate:
    """Count, measure, multiply. Nothing in the run folder changes."""
    started = time.monotonic()
    plans = plans_until(config, until)
    check_models(plans, config)
    # An estimate may come before the first run, and must not create its folder.
    real = Run(path) if (path / "run.json").exists() or (path / ".run").exists() else None
    with interruptible(), tempfile.TemporaryDirectory(prefix="selfreward-estimate-") as folder:
        scratch = Run.create(Path(folder) / "run")
        needs = list(Survey(config, real, scratch).needs(plans))
        measured = measure(needs, engine_options(config, real or scratch))
    steps = tuple(estimate_step(need, measured) for need in needs)
    cost = measured.spent if measured.prices else None
    return Estimate(str(path), steps, time.monotonic() - started, cost)


def estimate_step(need: Need, measured: Measured) -> StepEstimate:
    """All kinds of request of a step, added up, minus the journalled answers."""
    basis = [need.basis, f"{need.n_done:,} answers are already written" if need.n_done else ""]
    prices = measured.prices.get(need.model)
    amounts = dict.fromkeys((*_COLUMNS, *(["cost"] if prices else [])), NOTHING)
    for requests in need.requests:
        batch = measured.batches[kind(need, requests)]
        if not batch.new_tokens:
            reason = f"none of {len(batch.errors)} measured requests was answered: {batch.errors[0]}"
            return StepEstimate(need.name, "not estimated", basis=(reason,))
        more = _scaled(requests, batch, need.untrained, prices)
        amounts = {name: amount + more[name] for name, amount in amounts.items()}
        basis += [requests.assumed, _sentence(batch, requests)]
    if need.untrained:
        basis.append("measured with the model it starts from, since this one is not trained yet")
    if need.n_done:
        all_ = amounts["answers"]
        left = Range(
            *(max(0.0, 1 - need.n_done / n) if n else 0.0 for n in (all_.low, all_.likely, all_.high))
        )
        amounts = {name: amount * left for name, amount in amounts.items()}
    amounts["seconds"] += Range.exactly(need.seconds + measured.opening_s.get(need.model, 0.0))
    return StepEstimate(need.name, need.state, **amounts, basis=tuple(dict.fromkeys(filter(None, basis))))


def _scaled(requests: Requests, batch: Batch, untrained: bool, prices: Prices | None) -> dict[str, Range]:
    """Column name -> total over all requests of a kind."""
    first = requests.examples[0]
    n, answers = requests.count, requests.count * first.n
    prompt_tokens, length = (
        mean_range(batch.prompt_tokens, n.high),
        mean_range(batch.new_tokens, answers.high),
    )
    # Training may change the length: from the shortest measured answer to `max_tokens`.
    if untrained:
        length = Range(min(batch.new_tokens), length.likely, max(first.sampling.max_tokens, length.likely))
    # Time grows with the length of the answers.
    slower = length * (1 / length.likely) if length.likely else Range.exactly(1.0)
    amounts = {
        "requests": n,
        "answers": answers,
        "prompt_tokens": n * prompt_tokens,
        "new_tokens": answers * length,
        "seconds": answers * slower * (batch.seconds / len(batch.new_tokens)),
    }
    if prices:
        paid_in = amounts["prompt_tokens"] * (prices.per_million_in / 1e6)
        amounts["cost"] = paid_in + amounts["new_tokens"] * (prices.per_million_out / 1e6)
    return amounts


def mean_range(values: Sequence[float], of: float) -> Range:
    """The mean of `of` values, `values` being a draw of them; exact if they are all.

    >>> mean_range([10.0, 20.0], of=2)
    Range(low=15.0, likely=15.0, high=15.0)
    """
    mean = fmean(values)
    if len(values) >= of or len(values) < 2:
        return Range.exactly(mean)
    error = Z * stdev(values) / math.sqrt(len(values))
    return Range(max(0.0, mean - error), mean, mean + error)


def _sentence(batch: Batch, requests: Requests) -> str:
    rate = sum(batch.new_tokens) / batch.seconds if batch.seconds else 0.0
    failed = f"; {len(batch.errors)} more failed, the first: {batch.errors[0]}" if batch.errors else ""
    return (
        f"measured: {len(batch.new_tokens)} answers of {fmean(batch.new_tokens):.1f} tokens (at most "
        f"{requests.examples[0].sampling.max_tokens}) in {batch.seconds:.1f} s, {rate:,.0f} tokens/s{failed}"
    )


def as_plain(estimate: Estimate) -> dict[str, Any]:
    """Every figure as `{low, likely, high}`; `cost` is null without prices."""
    return {
        **asdict(estimate),
        "total": {name: asdict(estimate.total(name)) for name in _COLUMNS},
        "cost": asdict(estimate.total("cost")) if _has_cost(estimate) else None,
        "not_estimated": [step.name for step in estimate.steps if step.state == "not estimated"],
    }


def format_estimate(estimate: Estimate) -> str:
    """A line per step, the total, and below the table the basis of each line."""
    if all(step.state == "done" for step in estimate.steps):
        return f"nothing to do: all {len(estimate.steps)} steps of {estimate.run} are up to date"
    priced = _has_cost(estimate)
    sums: dict[str, Any] = {name: estimate.total(name) for name in (*_COLUMNS, *(["cost"] * priced))}
    head = ("step", "", "requests", "prompt tokens", "new tokens", "time", "from … to", *(["cost"] * priced))
    rows = [_row(step, priced) for step in (*estimate.steps, StepEstimate("in all", "", **sums))]
    basis = "\n".join(f"{s.name}: {'; '.join(s.basis)}" for s in estimate.steps if s.basis)
    return "\n\n".join(filter(None, [format_table(head, rows), basis, _closing(estimate)]))


def _row(step: StepEstimate, priced: bool) -> tuple[Any, ...]:
    if step.state in ("done", "not estimated"):
        return (step.name, step.state, *(None,) * 3, "-", "", *(["-"] * priced))
    sizes = (round(value.likely) or None for value in (step.requests, step.prompt_tokens, step.new_tokens))
    money = [_span(step.cost, "{:.4g}".format) if step.cost else "-"] * priced
    likely, _, span = _span(step.seconds, _time).partition(" (")
    return (step.name, step.state, *sizes, likely, span.removesuffix(")"), *money)


def _closing(estimate: Estimate) -> str:
    spent = "" if estimate.probe_cost is None else f" and cost {estimate.probe_cost:.4g}, outside of max_cost"
    unknown = [step.name for step in estimate.steps if step.state == "not estimated"]
    lines = [
        f"Measured in {_time(estimate.probe_seconds)}{spent}. Nothing in {estimate.run} was changed. Times assume "
        "the machine stays as idle as it was; `from … to` adds up the best and the worst of all steps.",
        f"The total is without: {', '.join(unknown)}." if unknown else "",
        ""
        if _has_cost(estimate)
        else "No prices are given (engine.extra.price_per_million_in, …_out), so no money is counted.",
    ]
    return "\n".join(filter(None, lines))


def _has_cost(estimate: Estimate) -> bool:
    return any(step.cost is not None for step in estimate.steps)


def _span(value: Range, show: Callable[[float], str]) -> str:
    low, likely, high = show(value.low), show(value.likely), show(value.high)
    return likely if low == high else f"{likely} ({low} … {high})"


def _time(seconds: float) -> str:
    """
    >>> _time(0.4), _time(42), _time(130), _time(9000), _time(400_000)
    ('0.4 s', '42 s', '2.2 min', '2.5 h', '4.6 days')
    """
    for limit, unit, name in ((100, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}" if seconds / unit < 10 else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.1f} days"
