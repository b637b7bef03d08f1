"""From what was measured of a step's calls to what the whole step takes; what of it is journalled already is taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from selfreward.engines.openai.usage import Prices
from selfreward.estimate.ranges import NOTHING, Range, mean_range
from selfreward.estimate.rehearsal import Call


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
    """In the currency of the prices; None where the engine has none."""
    basis: tuple[str, ...] = ()
    """What was measured and what is assumed, a sentence each."""


def add_call(
    step: StepEstimate,
    call: Call,
    times: Range,
    untrained: bool,
    taught: float | None,
    prices: Prices | None,
) -> StepEstimate:
    """A step with one more of its calls, scaled up from what was measured of it."""
    if (
        call.again and untrained
    ):  # how much an untrained judge leaves unscored says little about the trained one
        times = times * Range(0.0, 0.5, 1.0)
    probe = call.probe
    requests, answers = times * call.n_requests, times * call.n_answers
    prompt_tokens = requests * mean_range(probe.prompt_tokens, call.n_requests)
    own_length = mean_range(probe.new_tokens, call.n_answers)
    length = own_length.each(lambda tokens: min(tokens, call.max_tokens))
    if taught is not None:
        other = min(taught, call.max_tokens)
        length = Range(min(length.low, other), (length.likely + other) / 2, max(length.high, other))
    slower = length * (1 / own_length.likely) if own_length.likely else Range.exactly(1.0)
    seconds = answers * slower * (probe.seconds / probe.n_answers)
    new_tokens = answers * length
    cost = step.cost
    if prices:
        money = prompt_tokens * (prices.per_million_in / 1e6) + new_tokens * (prices.per_million_out / 1e6)
        cost = (cost or NOTHING) + money
    return replace(
        step,
        requests=step.requests + requests,
        answers=step.answers + answers,
        prompt_tokens=step.prompt_tokens + prompt_tokens,
        new_tokens=step.new_tokens + new_tokens,
        seconds=step.seconds + seconds,
        cost=cost,
    )


def measured(calls: Sequence[Call], untrained: bool, taught: float | None) -> list[str]:
    """What stands behind a step's figures."""
    sentences = []
    for probe, max_tokens in dict.fromkeys((call.probe, call.max_tokens) for call in calls):
        rate = sum(probe.new_tokens) / probe.seconds if probe.seconds else 0.0
        sentences.append(
            f"measured: {probe.n_answers} answers of {fmean(probe.new_tokens):.1f} tokens (at most {max_tokens}) in "
            f"{probe.seconds:.1f} s, {rate:,.0f} tokens/s"
        )
    if untrained:
        learnt = f"; what it will be taught to write has {taught:.1f} tokens" if taught is not None else ""
        sentences.append(f"by the model it starts from, since this one is still to be trained{learnt}")
    return sentences


def less_done(step: StepEstimate, n_done: int) -> StepEstimate:
    """What is left once `n_done` answers are in the journal."""
    left = step.answers.each(lambda answers: max(0.0, 1 - n_done / answers) if answers else 0.0)
    return replace(
        step,
        state="partly done",
        requests=step.requests * left,
        answers=step.answers * left,
        prompt_tokens=step.prompt_tokens * left,
        new_tokens=step.new_tokens * left,
        seconds=step.seconds * left,
        cost=step.cost and step.cost * left,
        basis=(f"{n_done:,} answers are written already", *step.basis),
    )
