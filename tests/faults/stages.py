"""Every stage of a run as an operation to interrupt: the scripted engine answers, a stub stands for the trainer."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from driver import Operation

from selfreward.config.files import check_config
from selfreward.config.run import RunConfig
from selfreward.engines.scripted import ScriptedEngine
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure
from selfreward.evaluation.ask.results import publish as publish_figures
from selfreward.exchange.importing import import_file
from selfreward.steps.pipeline import plans_until, run_pipeline
from selfreward.store.run import Run

GROUP_SIZE = 6
_LOG = ".generated"
_PROMPTS = [
    "Explain how tides work to a curious child.",
    "Suggest five cheap vegetarian dinners for a busy week.",
    "Why does bread rise when it is baked?",
    "Compare bicycles and scooters for a short commute.",
    "List ways to remember the names of people at a party.",
]
_SCRIPT = {
    "settings": {"group_size": GROUP_SIZE},
    "rules": [
        {"contains": "list of tasks", "pick": "position", "answers": _PROMPTS},
        {"contains": "<response>", "pick": "seed", "answers": ["Fine. Score: 4", "Poor. Score: 1", "No idea", "Score: 3"]},
        {"pick": "seed", "answers": ["I think so, yes indeed.", "No.", "It depends on what you need.", "Ask an expert."]},
    ],
}  # fmt: skip


def config_for(folder: Path, **changes: Any) -> RunConfig:
    script = folder / "script.yaml"
    script.write_text(yaml.safe_dump(_SCRIPT))
    values = {
        "model": f"scripted:{script}",
        "train": False,
        "eft": {"targets": "written"},
        "prompts": {"n": 3, "round_size": 5},
        "candidates": {"n": 3},
        "pairs": {"min_pairs": 1},
        "judging": {"samples": 2},
        "evaluate": {"alpaca": {"mode": "text"}},
    }
    return check_config({**values, **changes}, "tests.faults")


def _logged(generate: Any) -> Any:
    """Every group the engine gives out leaves its ids in the run folder, before anybody can journal it."""

    def generate_and_log(engine: Any, requests: Any, done: Any = frozenset()) -> Any:
        for group in generate(engine, requests, done):
            with open(os.environ["SELFREWARD_TEST_LOG"], "a") as log:
                log.write(json.dumps([f"{c.request_id} {c.sample}" for c in group]) + "\n")
            yield group

    return generate_and_log


def stage_operation(config: RunConfig, name: str, before: str | None) -> Operation:
    """One step of the run: the steps before it are done, it is interrupted, and every answer is counted."""

    def act(folder: Path) -> None:
        log = folder / _LOG
        with (
            mock.patch.dict(os.environ, {"SELFREWARD_TEST_LOG": str(log)}),
            mock.patch.object(ScriptedEngine, "generate", _logged(ScriptedEngine.generate)),
        ):
            run_pipeline(config, folder, until=name)

    def prepare(folder: Path) -> None:
        folder.mkdir()
        if before is not None:
            run_pipeline(config, folder, until=before)

    return Operation(f"stage {name}", prepare, act, check=_at_most_one_group_twice)


def _at_most_one_group_twice(folder: Path) -> None:
    log = folder / _LOG
    groups = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    counts = Counter(answer for group in groups for answer in group)
    repeated = [answer for answer, n in counts.items() if n > 1]
    assert max(counts.values(), default=0) <= 2
    assert len(repeated) <= GROUP_SIZE, f"{len(repeated)} answers were generated twice"


def stage_operations(folder: Path) -> list[Operation]:
    """All steps of a data-only run, a training step with a stub for the trainer, an import, an evaluation's results."""
    config = config_for(folder)
    names = [plan.name for plan in plans_until(config, None)]
    steps = [
        stage_operation(config, name, before) for before, name in zip([None, *names], names, strict=False)
    ]
    return [
        *steps,
        training_operation(folder),
        import_operation(folder, config),
        evaluation_operation(config),
    ]


def training_operation(folder: Path) -> Operation:
    """Without the gate: its audits read and write nothing, and would take most of the time."""
    config = config_for(folder, train=True, gate=False)

    def stub(job: Any, module: str, draft: Path, *_: Any, **__: Any) -> dict[str, Any]:
        for file in ("model.safetensors", "config.json", "training.json"):
            (draft / file).write_text(file)
        return {"rows": {"in": 3, "out": 2, "dropped": {"too long": 1}}}

    def act(path: Path) -> None:
        with (
            mock.patch("selfreward.training.make_sft.train", stub),
            mock.patch("selfreward.training.make_sft.trainable", return_value=path),
        ):
            run_pipeline(config, path, until="M1")

    def prepare(path: Path) -> None:
        run_pipeline(config, path, until="eft")

    return Operation("training step M1 (its publish)", prepare, act)


def import_operation(folder: Path, config: RunConfig) -> Operation:
    """A user's prompts replace those of the run."""
    rows = folder / "prompts.jsonl"
    made = folder / "for-import"
    run_pipeline(config, made, until="iter1/prompts")
    table = Run(made).current("iter1/prompts").table()
    rows.write_text("".join(json.dumps(row) + "\n" for row in table.slice(0, 2).to_pylist()))
    return Operation(
        "import",
        lambda path: run_pipeline(config, path, until="iter1/prompts"),
        lambda path: import_file(Run.create(path), "iter1/prompts", rows),
    )


def evaluation_operation(config: RunConfig) -> Operation:
    """The figures of a second evaluation come beside those of a first."""

    def put(folder: Path, judge: str) -> None:
        evaluation = Evaluation("head_to_head", "M2@a", "M1@b", judge, "a test", 3, {"seed": 1})
        figure = evaluation.figure("win", 55.5, low=49.2, high=61.7, n=3, of="prompts", unit="percent")
        publish_figures(Run.create(folder), evaluation, {FIGURES: ([figure], EvaluationFigure)})

    return Operation("evaluation results", lambda path: put(path, "first"), lambda path: put(path, "second"))
