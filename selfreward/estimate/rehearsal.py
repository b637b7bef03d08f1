"""Doing a step for an estimate: the model answers a few of its requests, copies of those answers stand for the rest.

    rehearsal = Rehearsal(n_answers=32)
    rows = module.build(RehearsedJob(…, rehearsal=rehearsal, module="selfreward.builders.candidates"))
    rehearsal.calls         what the step asked for, and what a part of it took

So no step is described a second time for the estimate: what is counted is what its own `build` asks for, request by
request. A call of the same shape that the same kind of step makes with the same model (a second iteration, a second model
that is not trained yet) is not timed again. Not promised: that the copies make sense as data; they are counted, never kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from statistics import fmean
from typing import Any

from selfreward.engines.base import BaseEngine, Completion, Engine, EngineOptions, Request, Sampling
from selfreward.engines.openai.usage import Prices
from selfreward.progress import say
from selfreward.steps.step import Job
from selfreward.tables import Message, row_id


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Answers of the real model and the seconds they took together; one measurement, equal to itself only."""

    answers: tuple[tuple[Completion, ...], ...]
    """By request, then sample."""
    seconds: float

    @property
    def n_answers(self) -> int:
        return sum(map(len, self.answers))

    @property
    def prompt_tokens(self) -> list[int]:
        """Of each request; its samples share one reading of it."""
        return [max(one.n_prompt_tokens for one in group) for group in self.answers]

    @property
    def new_tokens(self) -> list[int]:
        return [one.n_tokens for group in self.answers for one in group]


@dataclass(frozen=True, slots=True)
class Call:
    """What a step asked its engine for at once."""

    n_requests: int
    n_answers: int
    max_tokens: int
    again: bool
    """The same prompts as in an earlier call of the step: judgements without a score are asked for once more."""
    probe: Probe


class Rehearsal:
    """Lends engines to steps, one open at a time, and keeps what was measured with them."""

    def __init__(self, n_answers: int | None = None) -> None:
        self.calls: list[Call] = []
        """Of the step under way; the caller empties it."""
        self.opening_s: dict[str, float] = {}
        """Model string -> seconds from nothing to the first token."""
        self.prices: dict[str, Prices | None] = {}
        """Model string -> what it costs; None where no prices are given."""
        self.spent = 0.0
        """By the measuring itself, in the currency of the prices."""
        self.n_answers = n_answers
        """To be measured for each kind of request; None: as many as the engine computes at once."""
        self._probes: dict[tuple[Any, ...], Probe] = {}
        self._open: tuple[str, Engine] | None = None

    def lend(self, model: str, options: EngineOptions, module: str, opening: Callable[[], Engine]) -> Engine:
        """An engine that measures and copies; closing it leaves the real one open for the next step."""
        if self._open is None or self._open[0] != model:
            self.close()
            started = time.monotonic()
            engine = opening()
            self._open = (model, engine)
            warm_up = Request("warm-up", (Message("user", "Hello"),), Sampling(0.0, 1.0, 1))
            list(engine.generate([warm_up]))
            self.opening_s.setdefault(model, time.monotonic() - started)
            self.prices.setdefault(model, _prices(engine, options))
        n_answers = self.n_answers or answers_at_once(model, options)
        return _Rehearsed(self._open[1], n_answers, (module, model), self._probes, self.calls)

    def mean_tokens(self, texts: Sequence[str]) -> float | None:
        """Mean length of texts as the open engine's model writes them; None where it cannot tell, or there are none."""
        if self._open is None or not texts:
            return None
        counts = [self._open[1].count_tokens((Message("user", text),)) for text in ("", *texts)]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return None
        empty, *full = known
        return fmean(full) - empty

    def close(self) -> None:
        """Free the model."""
        if self._open is not None:
            usage = getattr(self._open[1], "usage", None)
            self.spent += usage.prices.cost(usage.prompt_tokens, usage.completion_tokens) if usage else 0.0
            self._open[1].close()
            self._open = None


def answers_at_once(model: str, options: EngineOptions) -> int:
    """What keeps the engine as busy as the run will: a full batch, or all that may be in flight."""
    return options.batch_size if model.startswith("hf:") else options.max_in_flight


@dataclass(frozen=True)
class RehearsedJob(Job):
    """A step's job whose engines are lent by a rehearsal."""

    rehearsal: Rehearsal
    module: str

    def open_engine(self, role: str = "model") -> Engine:
        """The engine of one of the stage's models, for measuring."""
        opening = super().open_engine
        return self.rehearsal.lend(
            self.models[role].model_string, self.options, self.module, lambda: opening(role)
        )


class _Rehearsed(BaseEngine):
    """Sends a draw of the requests to the engine and answers the others with copies."""

    def __init__(
        self,
        engine: Engine,
        n_answers: int,
        whose: tuple[str, str],
        probes: dict[tuple[Any, ...], Probe],
        calls: list[Call],
    ) -> None:
        self.name, self.capabilities = engine.name, engine.capabilities
        self._engine = engine
        self._n_answers = n_answers
        self._whose = whose
        self._probes = probes
        self._calls = calls
        self._asked: set[tuple[Any, ...]] = set()

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return self._engine.count_tokens(messages)

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """One group with everything."""
        first = requests[0]
        shape = (*self._whose, first.n, first.sampling, bool(first.prefix), bool(first.choices))
        known = self._probes.get(shape)
        probe = known or self._measure(_draw(requests, self._n_answers))
        self._probes[shape] = probe
        prompts = {(request.messages, request.prefix, request.choices) for request in requests}
        again = bool(prompts & self._asked)
        self._asked |= prompts
        n_answers = sum(request.n for request in requests)
        self._calls.append(Call(len(requests), n_answers, first.sampling.max_tokens, again, probe))
        own = {} if known else {group[0].request_id: group for group in probe.answers}
        copies = cycle(probe.answers)
        yield [
            replace(one, request_id=request.id, sample=sample)
            for request in requests
            for sample, one in zip(range(request.n), cycle(own.get(request.id) or next(copies)), strict=False)
        ]

    def _measure(self, requests: Sequence[Request]) -> Probe:
        n_answers = sum(request.n for request in requests)
        say(f"{self._whose[0]}: measuring {n_answers} answers of {self.name}")
        started = time.monotonic()
        completions = [one for group in self._engine.generate(requests) for one in group]
        seconds = time.monotonic() - started
        by_request: dict[str, list[Completion]] = {request.id: [] for request in requests}
        for one in sorted(completions, key=lambda one: one.sample):
            by_request[one.request_id].append(one)
        return Probe(tuple(map(tuple, by_request.values())), seconds)


def _draw(requests: Sequence[Request], n_answers: int) -> list[Request]:
    """Requests with about so many answers together, in the order of a hash: no length or topic goes first."""
    drawn: list[Request] = []
    n = 0
    for request in sorted(requests, key=lambda request: row_id("draw", request.id)):
        if n >= n_answers:
            break
        drawn.append(request)
        n += request.n
    return drawn


def _prices(engine: Engine, options: EngineOptions) -> Prices | None:
    usage = getattr(engine, "usage", None)
    given = {**options.extra, **options.extra.get("openai", {})}
    priced = "price_per_million_in" in given or "price_per_million_out" in given
    return usage.prices if usage is not None and priced else None
