"""How many requests a run will still make: counted from the plan and the rows that exist, without asking a model.

    needs = list(Survey(config, run, scratch).needs(plans))

A step declares its requests in `Plan.requests`, from what is known so far. Steps that ask no model and whose
inputs exist are built in a scratch run, so that later steps can count their rows; nothing in the run folder changes. Requests
that cannot be counted yet are `not estimated`, with what they depend on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfreward.config.run import RunConfig
from selfreward.engines.base import Request
from selfreward.engines.pool import EnginePool
from selfreward.engines.references import ModelRef, of_version, resolve
from selfreward.exchange.importing import is_imported
from selfreward.steps.pipeline import build_step, make_job, recipe_of
from selfreward.steps.status import journalled
from selfreward.steps.step import Plan
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version

Known = Mapping[str, Version]
"""Datasets and models by name: those of the run, and those built for the estimate."""


@dataclass(frozen=True, slots=True)
class Range:
    """Least, likely, most. Sums and products combine least with least and most with most (worst case)."""

    low: float
    likely: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Range:
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.low * by.low, self.likely * by.likely, self.high * by.high)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one kind that a step will make."""

    examples: Sequence[Request]
    """All of them, or representative ones."""
    n: Range | None = None
    """How many there will be; None: `examples` are all."""
    assumed: str = ""
    """The assumption behind the number or the examples, if they do not come from the step's own input."""

    @property
    def count(self) -> Range:
        return self.n or Range.exactly(len(self.examples))

    def times(self, n: int, what: str) -> Requests:
        """The same of `n` models, of which only the first is timed."""
        if n == 1:
            return self
        as_one = f"{n} {what} are counted as if all were the first"
        return replace(self, n=self.count * n, assumed="; ".join(filter(None, [self.assumed, as_one])))


@dataclass(frozen=True)
class Need:
    """What one step still needs, before anything is measured. `state`: done, partly done, to do, not estimated."""

    name: str
    state: str
    basis: str = ""
    seconds: float = 0.0
    """Build time in seconds, if it asks no model."""
    module: str = ""
    model: str = ""
    """Model string of the model to measure."""
    untrained: bool = False
    """The step's own model is not trained yet; `model` is the one it will be trained from."""
    requests: Sequence[Requests] = ()
    n_done: int = 0
    """Answers in the journal of the unfinished step."""


@dataclass
class Survey:
    """Walks a plan; `known` grows with every dataset or model that exists."""

    config: RunConfig
    run: Run | None
    """The real run; None if it does not exist yet."""
    scratch: Run
    known: dict[str, Version] = field(default_factory=dict)

    def needs(self, plans: Sequence[Plan]) -> Iterator[Need]:
        """What each step needs, in the plan's order. Raises whatever would stop the run at a step without a model."""
        for plan in plans:
            if self.run and self.run.has(plan.name) and is_imported(self.run.current(plan.name)):
                self.known[plan.name] = self.run.current(plan.name)
                yield Need(plan.name, "done", "imported")
            else:
                yield self._need(plan)

    def _need(self, plan: Plan) -> Need:
        missing = [name for name in plan.inputs.values() if name not in self.known]
        untrained = any(self._is_untrained(name) for name in plan.models.values())
        models = {role: self._model(name) for role, name in plan.models.items()}
        n_done = 0
        if not missing and not untrained:
            inputs = {role: self.known[name] for role, name in plan.inputs.items()}
            recipe = recipe_of(plan, inputs, models)
            if self.run and (version := self.run.find(recipe)):
                self.known[plan.name] = version
                return Need(plan.name, "done")
            if not models:
                # Built for real, but in the scratch run: later steps count its rows.
                started = time.monotonic()
                job = make_job(self.scratch, self.config, plan, recipe, inputs, models, EnginePool())
                self.known[plan.name] = build_step(self.scratch, plan, job)
                return Need(plan.name, "to do", seconds=time.monotonic() - started)
            n_done = journalled(self.run.work_folder(recipe)) if self.run else 0
        if not models:
            return Need(plan.name, "to do", "asks no model")
        if is_model(plan.name):
            return Need(plan.name, "not estimated", "training is not timed, its first steps show its pace")
        requests = plan.requests(self.known) if plan.requests else None
        if requests is None:
            waiting = f"its requests can be counted once {' and '.join(missing)} is built"
            return Need(plan.name, "not estimated", waiting)
        return Need(
            plan.name,
            "partly done" if n_done else "to do",
            module=plan.module,
            model=next(iter(models.values())).model_string,
            untrained=untrained,
            requests=[one for one in requests if one.examples],
            n_done=n_done,
        )

    def _is_untrained(self, name: str) -> bool:
        return self.config.train and is_model(name) and name != "M0" and name not in self.known

    def _model(self, name: str) -> ModelRef:
        """The model; for one that is not trained yet, the newest that exists, or M0."""
        if self._is_untrained(name):
            # The newest trained model is closest in speed and length of answers.
            name = next((one for one in reversed(self.known) if is_model(one)), "M0")
        if name in self.known:
            return of_version(self.known[name], self.config.model)
        return resolve(name, self.scratch, self.config.model, self.config.train)
