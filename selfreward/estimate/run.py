"""`selfreward run --estimate`: the requests, tokens, time and money that a run still needs, from a short measured probe.

    estimate = estimate_run(config, Path("runs/demo"))

Every step that is not published yet is rehearsed in a temporary folder (`selfreward.estimate.rehearsal`): its own code runs, the
model answers about as many of its requests as it computes at once, and what that took is scaled up. A training step trains
two batches. Nothing in the run folder changes; what is built under the same key counts nothing, answers in the journal
of an unfinished step are taken off. What has to be assumed is said with each step:

- a model that is still to be trained is stood in for by the one it starts from; its answers' length lies between the
  measured one and that of the texts it will be taught to write;
- prompts are kept at the rate of the first round (later rounds keep fewer, since more earlier texts are near);
- pairs, where nothing scored can be measured yet: from `pairs.min_pairs` to one for each prompt.

Not covered: a machine that is busier later than during the probe; money that the probe itself costs is stated, and is not
part of the run's `max_cost`.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from selfreward.config.run import RunConfig
from selfreward.engines.references import ModelRef, of_version, resolve
from selfreward.errors import EmptyResultError, GateError
from selfreward.estimate.ranges import NOTHING, Range
from selfreward.estimate.rehearsal import Rehearsal, RehearsedJob, answers_at_once
from selfreward.estimate.scaling import StepEstimate, add_call, less_done, measured
from selfreward.estimate.training import TrainingProbe, probe_training
from selfreward.steps.model_checks import check_models
from selfreward.steps.pipeline import engine_options, interruptible, plans_until, recipe_of
from selfreward.steps.status import journalled
from selfreward.steps.step import Plan, Rows, stage_module
from selfreward.store import durable
from selfreward.store.exchange import is_imported
from selfreward.store.run import Counts, Recipe, Run, is_model
from selfreward.store.sealed import digest
from selfreward.store.version import Version

TAUGHT = {
    "selfreward.builders.candidates": ("ift", "response"),
    "selfreward.evaluation.model_outputs": ("ift", "response"),
    "selfreward.judging.judgements": ("eft", "target"),
    "selfreward.evaluation.judge_eval": ("eft", "target"),
}
"""Step -> the dataset and column that show how long its answers are once the model is trained."""


class Grade(IntEnum):
    """What the rows of a dataset, and all that is made of them, rest on."""

    EXACT = 0
    MEASURED = 1
    """A few answers of the model that the run will ask."""
    ASSUMED = 2
    """Answers of another model, or rows that stand in for those that could not be made."""


@dataclass(frozen=True)
class Estimate:
    """All steps, and what the measuring took."""

    run: str
    steps: tuple[StepEstimate, ...]
    probe_seconds: float
    probe_cost: float | None

    def total(self, name: str) -> Range:
        """The sum of a column over all steps."""
        return sum((getattr(step, name) or NOTHING for step in self.steps), NOTHING)


def estimate_run(
    config: RunConfig, path: Path, until: str | None = None, n_answers: int | None = None
) -> Estimate:
    """Rehearse what is not built. `n_answers` are measured for each kind of request; None: as many as run at once."""
    started = time.monotonic()
    plans = plans_until(config, until)
    check_models(plans, config)
    is_run = (path / "run.json").exists() or (path / ".run").exists()
    with interruptible(), tempfile.TemporaryDirectory(prefix="selfreward-estimate-") as scratch:
        with closing(Rehearsal(n_answers)) as rehearsal:
            walk = _Walk(config, Run(path) if is_run else None, Path(scratch), rehearsal)
            steps = tuple(walk.step(plan) for plan in plans)
        priced = any(rehearsal.prices.values())
    cost = rehearsal.spent if priced else None
    return Estimate(str(path), steps, time.monotonic() - started, cost)


class _Scratch(Run):
    """The temporary run; what earlier versions there are, steps learn from the real one."""

    real: Run | None = None

    def versions(self, name: str) -> list[Version]:
        return self.real.versions(name) if self.real else []


@dataclass
class _Walk:
    """The plan, step after step; `known` are the datasets and models that exist or were rehearsed."""

    config: RunConfig
    real: Run | None
    folder: Path
    rehearsal: Rehearsal
    known: dict[str, Version] = field(default_factory=dict)
    grades: dict[str, Grade] = field(default_factory=dict)
    trained: dict[str, TrainingProbe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _Scratch.create(self.folder / "run")
        self.scratch = _Scratch(self.folder / "run")
        self.scratch.real = self.real

    def step(self, plan: Plan) -> StepEstimate:
        """Found, or rehearsed."""
        if self.real and self.real.has(plan.name) and is_imported(self.real.current(plan.name)):
            self.known[plan.name] = self.real.current(plan.name)
            return StepEstimate(plan.name, "done", basis=("imported",))
        inputs = {role: self.known[name] for role, name in plan.inputs.items() if name in self.known}
        models = {role: self._model(name) for role, name in plan.models.items()}
        recipe = recipe_of(plan, inputs, models)
        complete = len(inputs) == len(plan.inputs)
        version = self.real.find(recipe) if self.real and complete else None
        if version is not None:
            self.known[plan.name] = version
            return StepEstimate(plan.name, "done")
        if not is_model(plan.name):
            return self._dataset(plan, recipe, inputs, models)
        if not complete:
            return StepEstimate(plan.name, "not estimated", basis=("there are no rows to try it with",))
        return self._training(plan, recipe, inputs, models)

    def _model(self, name: str) -> ModelRef:
        """The model, or the one that it will be trained from, under a key that no version has."""
        if not is_model(name) or name == "M0" or not self.config.train:
            return resolve(name, self.scratch, self.config.model, self.config.train)
        if name in self.known:
            return of_version(self.known[name], self.config.model)
        earlier = [f"M{k}" for k in range(int(name[1:]) - 1, 0, -1)] if name != "SFT" else []
        start = next((one for one in earlier if one in self.known), None)
        base = (
            of_version(self.known[start], self.config.model)
            if start
            else resolve("M0", self.scratch, self.config.model)
        )
        return replace(base, name=f"{name}, not trained yet", content_sha256=digest({"stand_in": name}))

    def _untrained(self, plan: Plan) -> bool:
        """Whether a model of the step is one that the run has yet to train."""
        return self.config.train and any(
            is_model(name) and name != "M0" and name not in self.known for name in plan.models.values()
        )

    def _job(
        self, plan: Plan, recipe: Recipe, inputs: dict[str, Version], models: dict[str, ModelRef]
    ) -> RehearsedJob:
        options = engine_options(self.config, self.real or self.scratch)
        work = durable.make_folder(self.scratch.work_folder(recipe))
        return RehearsedJob(
            self.scratch, recipe, inputs, models, plan.files, plan.texts, plan.unkeyed, options, work,
            self.rehearsal, plan.module,
        )  # fmt: skip

    # ------------------------------------------------------------------------------ datasets

    def _dataset(
        self, plan: Plan, recipe: Recipe, inputs: dict[str, Version], models: dict[str, ModelRef]
    ) -> StepEstimate:
        module: Any = stage_module(plan.module)
        job = self._job(plan, recipe, inputs, models)
        basis: list[str] = []
        if hasattr(module, "rehearsed"):
            n_answers = answers_at_once(models["model"].model_string, job.options)
            params = module.rehearsed(plan.params, self.rehearsal.n_answers or n_answers)
            job = replace(job, recipe=replace(recipe, params=params))
        self.rehearsal.calls.clear()
        started = time.monotonic()
        rows = self._rows(plan, job, basis)
        if not self.rehearsal.calls:
            self._keep(plan, job, rows)
            seconds = Range.exactly(time.monotonic() - started)
            state = "not estimated" if plan.models and rows is None else "to do"
            return StepEstimate(plan.name, state, seconds=seconds, basis=tuple(basis))
        times = Range.exactly(1.0)
        if rows and hasattr(module, "foreseen"):
            table, answers = module.foreseen(plan.params, rows.table)
            times = answers * (1 / rows.table.num_rows)
            kept = sum(rows.table["kept"].to_pylist())
            basis.append(f"{kept} of {rows.table.num_rows} measured answers were kept")
            counts = Counts(
                table.num_rows, table.num_rows, notes={**rows.counts.notes, "kept": table.num_rows}
            )
            rows = Rows(table, counts)
        self._keep(plan, job, rows)
        step = self._of_calls(plan, models["model"].model_string, times, basis)
        n_done = journalled(self.real.work_folder(recipe) / "journal.jsonl") if self.real else 0
        return less_done(step, n_done) if n_done else step

    def _rows(self, plan: Plan, job: RehearsedJob, basis: list[str]) -> Rows | None:
        """What the step makes of the rehearsed answers, or else its stand-in; None where it has none."""
        module: Any = stage_module(plan.module)
        grade = max(
            (self.grades.get(name, Grade.EXACT) for name in plan.inputs.values()), default=Grade.EXACT
        )
        self.grades[plan.name] = Grade.ASSUMED if self._untrained(plan) else grade
        if len(job.inputs) == len(plan.inputs):
            try:
                rows: Rows = module.build(job)
                if grade == Grade.EXACT or not self._too_few(plan, rows):
                    if self.rehearsal.calls:
                        self.grades[plan.name] = max(self.grades[plan.name], Grade.MEASURED)
                    return rows
                basis.append(
                    f"the measured answers give {rows.table.num_rows} pairs, fewer than pairs.min_pairs "
                    f"({self.config.pairs.min_pairs}); others stand in for them"
                )
            except (EmptyResultError, GateError) as error:
                if grade == Grade.EXACT and not self.rehearsal.calls:
                    raise  # no answer of a model is in it: the run would stop here just so
                basis.append(f"the measured answers would stop the run here: {str(error).splitlines()[0]}")
        else:
            missing = sorted(name for name in plan.inputs.values() if name not in self.known)
            basis.append(f"without {', '.join(missing)} there is nothing to try it with")
        self.grades[plan.name] = Grade.ASSUMED
        instead: Rows | None = module.stand_in(job) if hasattr(module, "stand_in") else None
        return instead

    def _too_few(self, plan: Plan, rows: Rows) -> bool:
        """Pairs too few to train on. A judge that is still to be trained may score a few answers, all alike."""
        return (
            plan.module == "selfreward.builders.pairs" and rows.table.num_rows < self.config.pairs.min_pairs
        )

    def _keep(self, plan: Plan, job: RehearsedJob, rows: Rows | None) -> None:
        if rows is not None:
            self.known[plan.name] = self.scratch.publish_table(job.recipe, rows.table, rows.counts)

    def _of_calls(self, plan: Plan, model: str, times: Range, basis: list[str]) -> StepEstimate:
        untrained = self._untrained(plan)
        taught = self._taught(plan.module) if untrained else None
        step = StepEstimate(plan.name, "to do", seconds=Range.exactly(self.rehearsal.opening_s[model]))
        prices = self.rehearsal.prices[model]
        for call in self.rehearsal.calls:
            step = add_call(step, call, times, untrained, taught, prices)
        return replace(step, basis=(*basis, *measured(self.rehearsal.calls, untrained, taught)))

    def _taught(self, module: str) -> float | None:
        """Mean tokens of the texts that training will teach the model to write in this step."""
        name, column = TAUGHT.get(module, ("", ""))
        if name not in self.known:
            return None
        rows = self.known[name].table().to_pylist()
        texts = [row[column] for row in rows if row[column] and row.get("accepted", True)]
        return self.rehearsal.mean_tokens(texts)

    # ------------------------------------------------------------------------------ models

    def _training(
        self, plan: Plan, recipe: Recipe, inputs: dict[str, Version], models: dict[str, ModelRef]
    ) -> StepEstimate:
        self.rehearsal.close()
        if plan.module not in self.trained:
            job = self._job(plan, recipe, inputs, models)
            self.trained[plan.module] = probe_training(job, plan)
        probe = self.trained[plan.module]
        n_rows, basis = Range.exactly(probe.n_rows), []
        if "pairs" in inputs:
            n_rows = self._n_pairs(plan, inputs["pairs"])
            if n_rows.low < n_rows.high:
                basis.append(f"{n_rows.low:,.0f} to {n_rows.high:,.0f} pairs (pairs.min_pairs, one a prompt)")
        return StepEstimate(plan.name, "to do", seconds=probe.seconds(n_rows), basis=(*basis, probe.sentence))

    def _n_pairs(self, plan: Plan, pairs: Version) -> Range:
        """As many as there are; from `min_pairs` to one a prompt where they are not made of the run's own answers."""
        name = plan.inputs["pairs"]
        grade = self.grades.get(name, Grade.EXACT)
        if grade == Grade.EXACT:
            return Range.exactly(pairs.n_rows)
        candidates = self.known[name.replace("pairs", "candidates")]
        most = candidates.n_rows / self.config.candidates.n
        least = min(self.config.pairs.min_pairs, most)
        return Range(least, (least + most) / 2 if grade == Grade.ASSUMED else pairs.n_rows, most)
