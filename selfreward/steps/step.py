"""A step is a module with `NAME`, `VERSION`, `plan(config, iteration)` and `build(job)`; all steps are listed here.

    NAME     identifies the step in keys, so that its module may move
    VERSION  part of the key; raised when the rows change
    plan     declares the output, the inputs and the parameters (cheap, no heavy import)
    build    makes the rows of a dataset, or fills a folder with a model

`build` sees its inputs and the parameters that `plan` named, and nothing else of the configuration: what a step cannot
read cannot be missing from its key. A new step is one module, and one line in `SETUP`, `ITERATION` or `EVALUATION`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from selfreward.engines.base import Engine, EngineOptions
from selfreward.engines.pool import EnginePool
from selfreward.errors import StoreError
from selfreward.store.run import Counts, Recipe, Run
from selfreward.store.version import Version

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.config.run import RunConfig
    from selfreward.engines.references import ModelRef
    from selfreward.estimate.requests import Known, Requests

SETUP = (
    "selfreward.builders.seed_replies",
    "selfreward.builders.ift",
    "selfreward.training.make_baseline",
    "selfreward.builders.eft",
    "selfreward.training.make_sft",
)
ITERATION = (
    "selfreward.builders.prompts",
    "selfreward.builders.given_prompts",
    "selfreward.builders.candidates",
    "selfreward.judging.judgements",
    "selfreward.judging.scores",
    "selfreward.judging.meta_judgements",
    "selfreward.builders.pairs",
    "selfreward.builders.judge_pairs",
    "selfreward.training.make_dpo",
    "selfreward.training.arms.make_positive",
)
EVALUATION = (
    "selfreward.evaluation.judge_eval",
    "selfreward.evaluation.rule_eval",
    "selfreward.evaluation.model_outputs",
    "selfreward.evaluation.annotations",
)
"""Run for every model of the run: iteration 0 is M0, iteration k is M_k."""


@dataclass(frozen=True)
class Plan:
    """One step of a run, before it is known whether it is already done."""

    name: str
    """The dataset or model it makes: `ift`, `iter1/pairs`, `M2`."""
    module: str
    inputs: dict[str, str] = field(default_factory=dict)
    """Role -> name of a dataset of this run."""
    models: dict[str, str] = field(default_factory=dict)
    """Role -> `M0`, `M1`… of this run, or a model string."""
    files: dict[str, Path] = field(default_factory=dict)
    """Role -> file whose content is part of the key (its path is not)."""
    texts: dict[str, str] = field(default_factory=dict)
    """Role -> text that is part of the key (a template, an SQL rule)."""
    params: dict[str, Any] = field(default_factory=dict)
    unkeyed: dict[str, Any] = field(default_factory=dict)
    """Settings that change speed, records or refusals, never the rows; not part of the key."""
    requests: Callable[[Known], Sequence[Requests] | None] | None = None
    """The requests of the step, given the datasets that are known so far; None if they cannot be counted yet. For
    `run --estimate`; not part of the key."""

    def __post_init__(self) -> None:
        roles = [*self.inputs, *self.models, *self.files, *self.texts]
        if len(set(roles)) != len(roles):
            raise StoreError(f"{self.name}: two inputs have the same role in {roles}")


def numbered(role: str, values: list[str]) -> dict[str, str]:
    """Roles for several values.

    >>> numbered("model", ["M2", "M1"])
    {'model': 'M2', 'model2': 'M1'}
    """
    return {f"{role}{i}" if i > 1 else role: value for i, value in enumerate(values, 1)}


SectionT = TypeVar("SectionT", bound=BaseModel)


@dataclass(frozen=True)
class Job:
    """The inputs of `build`."""

    run: Run
    recipe: Recipe
    inputs: dict[str, Version]
    models: dict[str, ModelRef]
    files: dict[str, Path]
    texts: dict[str, str]
    unkeyed: dict[str, Any]
    options: EngineOptions
    work: Path
    """The hidden folder of this step: journals, checkpoints. Found again after a crash."""
    engines: EnginePool = field(default_factory=EnginePool)

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def iteration(self) -> int:
        """The `iteration` parameter; 0 for steps before the first iteration."""
        return int(self.recipe.params.get("iteration", 0))

    @property
    def seed(self) -> int:
        return int(self.recipe.params["seed"])

    def table(self, role: str, columns: list[str] | None = None) -> pa.Table:
        """The verified rows of an input."""
        return self.inputs[role].table(columns)

    def section(self, name: str, section: type[SectionT]) -> SectionT:
        """A section of the parameters, typed again."""
        return section.model_validate(self.recipe.params[name])

    def open_engine(self, role: str = "model") -> AbstractContextManager[Engine]:
        """The engine of one of the step's models, for a `with` block; it may stay open for the next step."""
        return self.engines.lease(self.models[role].model_string, self.options)


@dataclass(frozen=True)
class Rows:
    """The result of a dataset's `build`; a large `table` may be a RecordBatchReader."""

    table: Any
    counts: Counts


def stage_module(name: str) -> ModuleType:
    """Import a step's module."""
    return importlib.import_module(name)


def plan_run(config: RunConfig) -> Iterator[Plan]:
    """Every step of a run, in order; a step's `plan` may return None for a configuration."""
    yield from _plan(SETUP, config, 0)
    for iteration in range(1, config.iterations + 1):
        yield from _plan(ITERATION, config.at(iteration), iteration)
    last_model = config.iterations + 1 if config.train else 1
    measured = [plan for k in range(last_model + 1) for plan in _plan(EVALUATION, config, k)]
    yield from in_order_of_models(measured)


def in_order_of_models(plans: Sequence[Plan]) -> list[Plan]:
    """The plans, grouped by model, each after its inputs.

    A model whose plans can all be built goes first, so that its engine is opened once: the judge of all models' answers
    comes after all have answered.
    """
    left = list(plans)
    ordered: list[Plan] = []
    while left:
        waiting = {plan.name for plan in left}
        ready = [plan for plan in left if not waiting & set(plan.inputs.values())]
        whole = [
            plan for plan in ready if all(other in ready for other in left if _model(other) == _model(plan))
        ]
        chosen = next(iter(whole or ready))
        group = [plan for plan in ready if _model(plan) == _model(chosen)]
        ordered += group
        left = [plan for plan in left if plan not in group]
    return ordered


def _model(plan: Plan) -> set[str]:
    return set(plan.models.values())


def _plan(modules: tuple[str, ...], config: RunConfig, iteration: int) -> Iterator[Plan]:
    for name in modules:
        if name.startswith("selfreward.training.") and not config.train:
            continue
        plan: Plan | None = stage_module(name).plan(config, iteration)
        if plan is not None:
            yield plan
