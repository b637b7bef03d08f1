"""`annotations`: pairwise verdicts on model M_k's answers against the reference, through the alpaca-eval package.

    {"output_id": "out-…", "iteration": 2, "preference": 1.41, "status": "ok", "annotator": "selfreward_weighted:…",
     "output_1": "<reference>", "output_2": "<model>", "preference_reference_first": 1.3, …}

One judge for all models of a run, or the figures could not be compared. The win rate with its interval is in the
manifest's notes; `RUN/evaluations/iter<k>/` holds `model_outputs.json` and `annotations.json` in alpaca-eval's formats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfreward.config.run import AlpacaConfig, RunConfig
from selfreward.notes import AnnotationsNotes, JsonObject
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store import durable
from selfreward.store.run import Counts
from selfreward.tables import Annotation, row_id, to_table

NAME = "evaluation.annotations"
VERSION = 1
_OURS = Path(__file__).parent / "alpaca" / "configs"
_ANNOTATORS = {"logprobs": "selfreward_weighted", "text": "selfreward_pairwise"}


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each trained model, unless `evaluate.alpaca` is null."""
    alpaca = config.evaluate.alpaca
    if alpaca is None or iteration == 0:
        return None
    judge = {"fixed": "M0", "current": f"M{iteration}"}.get(alpaca.judge, alpaca.judge)
    folder = _OURS / _ANNOTATORS[alpaca.mode]
    return Plan(
        name=f"iter{iteration}/annotations",
        module=__name__,
        inputs={"outputs": f"iter{iteration}/model_outputs"},
        models={"model": judge},
        texts={path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "alpaca": alpaca.model_dump(include={"mode", "both_orders"}),
            "engine": config.engine.keyed(),
        },
    )


def build(job: Job) -> Rows:
    """Judge each answer against its reference, then let alpaca-eval make the leaderboard row."""
    from selfreward.evaluation.alpaca.annotators import load_annotator
    from selfreward.evaluation.alpaca.judge import annotation_rows, plan_annotations
    from selfreward.evaluation.alpaca.score import summarise_rows
    from selfreward.evaluation.ask.files import answers_from_rows

    settings = job.section("alpaca", AlpacaConfig)
    outputs = job.table("outputs").to_pylist()
    references = answers_from_rows(
        (_answer(row, "reference", row["reference_generator"]) for row in outputs), "references"
    )
    answers = answers_from_rows(
        (_answer(row, "output", row["generator"]) for row in outputs), "model_outputs"
    )
    annotations = plan_annotations(
        references,
        answers,
        load_annotator(_ANNOTATORS[settings.mode]),
        job.models["model"].name,
        settings.both_orders,
        job.seed,
    )
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        completions = generation.complete(annotations.requests, "verdicts")
        asked = generation.notes()
    rows = annotation_rows(annotations, list(completions.values()))
    result = summarise_rows(rows, references, answers).to_dict()
    _write_alpaca_files(job.run.path / "evaluations" / f"iter{job.iteration}", outputs, rows, result)
    table = to_table([_row(job, row) for row in rows], Annotation)
    missing = len(outputs) - len(rows)
    dropped = {"no_output": missing} if missing else {}
    notes = AnnotationsNotes(generation=asked, alpaca=result)
    return Rows(table, Counts(len(outputs), len(rows), dropped, notes.stored()))


def _answer(row: dict[str, Any], column: str, generator: str) -> dict[str, Any]:
    return {
        "instruction": row["instruction"],
        "output": row[column],
        "generator": generator,
        "dataset": row["dataset"],
    }


def _row(job: Job, row: dict[str, Any]) -> Annotation:
    names = [name for name in Annotation.__dataclass_fields__ if name not in ("output_id", "iteration")]
    values = {name: row[name] for name in names}
    return Annotation(output_id=row_id("out", row["instruction"]), iteration=job.iteration, **values)


def _write_alpaca_files(
    folder: Path, outputs: Iterable[dict[str, Any]], rows: list[dict[str, Any]], result: JsonObject
) -> None:
    """The files a leaderboard submission needs; derived from the datasets, so they may be replaced."""
    durable.make_folder(folder)
    answers = [_answer(row, "output", row["generator"]) for row in outputs]
    for name, value in (("model_outputs", answers), ("annotations", rows), ("leaderboard", result)):
        text = json.dumps(value, indent=1, ensure_ascii=False)
        durable.replace_file(folder / f"{name}.json", text.encode())
