"""`selfreward run`: every step of the plan, in order, each one reused, resumed or built.

    report = run_pipeline(config, Path("runs/demo"))

A step's key is computed from the content of its inputs; if that version is published, it is made current and nothing
is built. Otherwise the step is built in a hidden folder and published whole. So the same command again does nothing, a
changed parameter rebuilds what depends on it and nothing else, and a killed run resumes where its journal ends. The
run's lock is held throughout, so that two commands do not duplicate work; the data would survive it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from selfreward.config.run import RunConfig
from selfreward.engines.base import EngineOptions
from selfreward.engines.pool import EnginePool
from selfreward.engines.references import ModelRef, resolve
from selfreward.errors import UsageError
from selfreward.exchange.importing import is_imported
from selfreward.progress import say
from selfreward.secrets import mask_tree
from selfreward.steps.configuration import store_config
from selfreward.steps.costs import spent
from selfreward.steps.model_checks import check_models
from selfreward.steps.signals import interruptible
from selfreward.steps.step import Job, Plan, Rows, plan_run, stage_module
from selfreward.store import durable
from selfreward.store.run import Recipe, Run, file_input, is_model, text_input
from selfreward.store.version import Version
from selfreward.tables import kind_of


@dataclass(frozen=True)
class StepResult:
    """The result of one planned step."""

    name: str
    status: str
    """`built`, `reused`, or `imported` (the user's own rows, never rebuilt)."""
    version: str
    n_in: int
    n_out: int
    dropped: dict[str, int]
    seconds: float


def run_pipeline(
    config: RunConfig,
    path: Path,
    until: str | None = None,
    on_step: Callable[[StepResult], None] = lambda step: None,
    only: Callable[[Plan], bool] = lambda plan: True,
) -> list[StepResult]:
    """Run every step (up to and including `until`), and report each. Raises what the steps raise."""
    plans = [plan for plan in plans_until(config, until) if only(plan)]
    run = Run.create(path)
    with run.hold("selfreward run"), interruptible(), EnginePool() as engines:
        store_config(run, config)
        steps = []
        before_building = functools.cache(lambda: check_models(plans, config))
        for plan in plans:
            step = do_step(run, config, plan, engines, before_building)
            steps.append(step)
            on_step(step)
        return steps


def plans_until(config: RunConfig, until: str | None) -> list[Plan]:
    """The plan, cut after the last step that `until` names (`ift`, `iter1/pairs`, or `pairs` of the last iteration)."""
    plans = list(plan_run(config))
    if until is None:
        return plans
    hits = [i for i, plan in enumerate(plans) if until in (plan.name, kind_of(plan.name))]
    if not hits:
        raise UsageError(f"--until {until!r}: no such step; the steps are {', '.join(p.name for p in plans)}")
    return plans[: hits[-1] + 1]


def do_step(
    run: Run,
    config: RunConfig,
    plan: Plan,
    engines: EnginePool,
    before_building: Callable[[], None] = lambda: None,
) -> StepResult:
    """Reuse or build one step."""
    started = time.monotonic()
    if run.has(plan.name) and is_imported(run.current(plan.name)):
        return _step(run.current(plan.name), "imported", started)
    recipe, inputs, models = resolve_plan(run, config, plan)
    version = find_version(run, plan, recipe)
    status = "reused"
    if version is None:
        status = "built"
        before_building()
        say(f"{plan.name}: building")
        job = make_job(run, config, plan, recipe, inputs, models, engines)
        version = build_step(run, plan, job)
        durable.remove_tree(job.work)
    else:
        run.make_current(version)
    return _step(version, status, started)


def _step(version: Version, status: str, started: float) -> StepResult:
    counts = version.manifest["counts"]
    return StepResult(
        name=version.name,
        status=status,
        version=version.version,
        n_in=counts["in"],
        n_out=counts["out"],
        dropped=counts["dropped"],
        seconds=time.monotonic() - started,
    )


def find_version(run: Run, plan: Plan, recipe: Recipe) -> Version | None:
    """The published version of a recipe, or one that the step declares equivalent."""
    reusable = getattr(stage_module(plan.module), "reusable", None)
    return run.find(recipe) or (reusable(run, recipe) if reusable else None)


def resolve_plan(
    run: Run, config: RunConfig, plan: Plan
) -> tuple[Recipe, dict[str, Version], dict[str, ModelRef]]:
    """The recipe of a step (its key) and its resolved inputs, as of now."""
    inputs = {role: run.current(name) for role, name in plan.inputs.items()}
    models = {role: resolve(name, run, config.model, config.train) for role, name in plan.models.items()}
    return recipe_of(plan, inputs, models), inputs, models


def recipe_of(plan: Plan, inputs: dict[str, Version], models: dict[str, ModelRef]) -> Recipe:
    """The recipe of a step from its resolved inputs."""
    described = {role: {"name": v.name, "version": v.version, "content_sha256": v.content_sha256}
                 for role, v in inputs.items()}  # fmt: skip
    described |= {role: _describe_model(model) for role, model in models.items()}
    described |= {role: _describe_file(plan, path) for role, path in plan.files.items()}
    described |= {role: text_input(role, text) for role, text in plan.texts.items()}
    module = stage_module(plan.module)
    builder = f"{module.NAME} {module.VERSION}"
    return Recipe(plan.name, builder, described, mask_tree(plan.params))


def _describe_model(model: ModelRef) -> dict[str, str]:
    described = {"name": model.name, "content_sha256": model.content_sha256}
    return {**described, "revision": model.revision} if model.revision else described


def _describe_file(plan: Plan, path: Path) -> dict[str, str]:
    if not path.is_file():
        raise UsageError(f"{plan.name}: {path}: no such file")
    return file_input(path)


def engine_options(config: RunConfig, run: Run) -> EngineOptions:
    """The engine options of a configuration; with a cost limit, they include the amount spent so far."""
    options = config.engine.model_dump()
    if config.max_cost is not None:
        options["extra"] = {
            **options["extra"],
            "max_cost": config.max_cost,
            "spent": spent(run.path / ".work"),
        }
    return EngineOptions(**options)


def make_job(
    run: Run,
    config: RunConfig,
    plan: Plan,
    recipe: Recipe,
    inputs: dict[str, Version],
    models: dict[str, ModelRef],
    engines: EnginePool,
) -> Job:
    """What a step's `build` works with; its hidden folder is made."""
    work = durable.make_folder(run.work_folder(recipe))
    return Job(
        run,
        recipe,
        inputs,
        models,
        plan.files,
        plan.texts,
        plan.unkeyed,
        engine_options(config, run),
        work,
        engines,
    )


def build_step(run: Run, plan: Plan, job: Job) -> Version:
    """Build and publish."""
    module = stage_module(plan.module)
    if is_model(plan.name):
        # Training needs the memory that an engine holds.
        job.engines.close()
        with run.draft(plan.name) as folder:
            return run.publish_model(job.recipe, folder, module.build(job, folder))
    rows: Rows = module.build(job)
    return run.publish_table(job.recipe, rows.table, rows.counts)
