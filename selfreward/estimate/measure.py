"""One timed batch for each kind of request, on the engine of the run.

    measured = measure(needs, options)
    measured.batches[kind(need, requests)].seconds

A kind is a step's module, model and sampling: a second iteration is not timed again. A batch is as large as the engine
computes at once; each model is opened once. On a priced server the batches cost money: the sum is `spent`, and is not
part of the run's own costs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from selfreward.engines import open_engine
from selfreward.engines.base import Engine, EngineOptions, Request, Sampling
from selfreward.engines.openai.usage import Prices
from selfreward.estimate.requests import Need, Requests
from selfreward.progress import say
from selfreward.tables import Message

Kind = tuple[str, str, Sampling, bool]
_PRICES = {"price_per_million_in", "price_per_million_out"}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch took; failed answers are only in `errors`."""

    prompt_tokens: list[int]
    """Per request; its samples share one prefill."""
    new_tokens: list[int]
    """Of each answer."""
    seconds: float
    errors: list[str]


@dataclass
class Measured:
    """All batches, and opening time and prices by model string."""

    batches: dict[Kind, Batch] = field(default_factory=dict)
    opening_s: dict[str, float] = field(default_factory=dict)
    """Seconds from nothing to the first token."""
    prices: dict[str, Prices] = field(default_factory=dict)
    """Only of models whose prices are given."""
    spent: float = 0.0
    """Cost of the measurement itself, in the currency of the prices."""


def kind(need: Need, requests: Requests) -> Kind:
    """What two requests must share to use one measurement."""
    first = requests.examples[0]
    return need.module, need.model, first.sampling, bool(first.prefix)


def measure(needs: Sequence[Need], options: EngineOptions) -> Measured:
    """Time a batch of every kind of request. Raises what opening a model raises."""
    measured = Measured()
    for model in dict.fromkeys(need.model for need in needs if need.requests):
        kinds: dict[Kind, Requests] = {}
        for need in needs:
            for one in need.requests if need.model == model else ():
                kinds.setdefault(kind(need, one), one)
        started = time.monotonic()
        with open_engine(model, options) as engine:
            # The first request also pays for loading, which must not count for the batch.
            _time(engine, [Request("warm-up", (Message("user", "Hello"),), Sampling(0.0, 1.0, 1))])
            measured.opening_s[model] = time.monotonic() - started
            for key, requests in kinds.items():
                say(f"{key[0]}: measuring a batch of {model}")
                measured.batches[key] = _time(engine, _batch_of(requests.examples, model, options))
            usage = getattr(engine, "usage", None)
            if usage is not None and _PRICES & {*options.extra, *options.extra.get("openai", {})}:
                measured.prices[model] = usage.prices
                measured.spent += usage.prices.cost(usage.prompt_tokens, usage.completion_tokens)
    return measured


def _batch_of(examples: Sequence[Request], model: str, options: EngineOptions) -> list[Request]:
    """Enough requests to load the engine as the run will, drawn evenly from the whole list."""
    at_once = options.batch_size if model.startswith("hf:") else options.max_in_flight
    n = min(len(examples), -(-at_once // examples[0].n))
    return [examples[place * len(examples) // n] for place in range(n)]


def _time(engine: Engine, requests: Sequence[Request]) -> Batch:
    # As the steps do: on an engine that cannot continue an answer, they send no prefix.
    if not engine.capabilities.prefix:
        requests = [replace(request, prefix="") for request in requests]
    started = time.monotonic()
    answers = [one for group in engine.generate(requests) for one in group]
    seconds = time.monotonic() - started
    good = [one for one in answers if one.finish_reason != "error"]
    # By request, since the samples of one request share its prompt.
    prompt_tokens = {one.request_id: one.n_prompt_tokens for one in good}
    errors = [one.error or "unknown" for one in answers if one.finish_reason == "error"]
    return Batch(list(prompt_tokens.values()), [one.n_tokens for one in good], seconds, errors)
