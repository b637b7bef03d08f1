"""`annotations`: pairwise verdicts on model M_k's answers against the reference, through the alpaca-eval package.

    {"output_id": "out-…", "iteration": 2, "preference": 1.41, "status": "ok", "annotator": "selfreward_weighted:…",
     "output_1": "<reference>", "output_2": "<model>", "preference_reference_first": 1.3, …}

The win rate with its interval is in the manifest's notes; `RUN/evaluations/iter<k>/` holds `model_outputs.json` and
`annotations.json` in alpaca-eval's formats.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.config.evaluation import AlpacaConfig
from selfreward.config.run import RunConfig
from selfreward.estimate.requests import Known, Requests
from selfreward.evaluation.model_outputs import planned_prompts
from selfreward.notes import AnnotationsNotes
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import Annotation, DatasetName, row_id, to_table

if TYPE_CHECKING:
    from selfreward.evaluation.alpaca.judge import AnnotationPlan
    from selfreward.evaluation.ask.files import Answers

NAME = "evaluation.annotations"
VERSION = 1
_OURS = Path(__file__).parent / "alpaca" / "configs"
_ANNOTATORS = {"logprobs": "selfreward_weighted", "text": "selfreward_pairwise"}


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each trained model, unless `evaluate.alpaca` is null."""
    alpaca = config.alpaca
    if alpaca is None or iteration == 0:
        return None
    # one judge for all models of a run, or their win rates could not be compared
    judge = {"fixed": "M0", "current": f"M{iteration}"}.get(alpaca.judge, alpaca.judge)
    folder = _OURS / _ANNOTATORS[alpaca.mode]
    return Plan(
        name=str(DatasetName("annotations", iteration)),
        module=__name__,
        inputs={"outputs": str(DatasetName("model_outputs", iteration))},
        models={"model": judge},
        texts={path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir())},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "alpaca": alpaca.model_dump(include={"mode", "both_orders"}),
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, alpaca, iteration, config.seed),
    )


def _planned(alpaca: AlpacaConfig, iteration: int, seed: int, known: Known) -> list[Requests] | None:
    """The comparisons; before answers exist, they are assumed to be as long as the references."""
    if outputs := known.get(str(DatasetName("model_outputs", iteration))):
        plan, _, _ = _comparisons(outputs.table().to_pylist(), alpaca, "judge", seed)
        return [Requests(plan.requests)]
    prompts = planned_prompts(alpaca, known)
    if prompts is None:
        return None
    # of equal length, but not equal: identical answers would cost no request
    rows = [
        {**prompt, "reference": prompt["output"], "output": f"{prompt['output']} …",
         "reference_generator": "reference", "generator": "model"}
        for prompt in prompts
    ]  # fmt: skip
    plan, _, _ = _comparisons(rows, alpaca, "judge", seed)
    return [Requests(plan.requests, assumed="answers are as long as the references")]


def _comparisons(
    outputs: list[dict[str, Any]], settings: AlpacaConfig, judge: str, seed: int
) -> tuple[AnnotationPlan, Answers, Answers]:
    """The judging plan, with its references and answers."""
    from selfreward.evaluation.alpaca.annotators import load_annotator
    from selfreward.evaluation.alpaca.judge import plan_annotations
    from selfreward.evaluation.ask.files import answers_from_rows

    references = answers_from_rows(
        (_answer(row, "reference", "reference_generator") for row in outputs), "references"
    )
    answers = answers_from_rows((_answer(row, "output", "generator") for row in outputs), "model_outputs")
    annotator = load_annotator(_ANNOTATORS[settings.mode])
    plan = plan_annotations(references, answers, annotator, judge, settings.both_orders, seed)
    return plan, references, answers


def build(job: Job) -> Rows:
    """Judge each answer against its reference, then let alpaca-eval make the leaderboard row."""
    from selfreward.evaluation.alpaca.judge import judge_pairs
    from selfreward.evaluation.alpaca.score import summarise_rows
    from selfreward.evaluation.ask.answers import output_rows, replace_text

    settings = job.section("alpaca", AlpacaConfig)
    outputs = job.table("outputs").to_pylist()
    annotations, references, answers = _comparisons(outputs, settings, job.models["model"].name, job.seed)
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        rows = judge_pairs(generation, annotations, "verdicts")
        asked = generation.notes()
    result = summarise_rows(rows, references, answers).to_dict()
    # The leaderboard submission; derived from the datasets, so the files may be replaced.
    folder = job.run.path / "evaluations" / f"iter{job.iteration}"
    submission = {"model_outputs": output_rows(answers), "annotations": rows, "leaderboard": result}
    for name, value in submission.items():
        replace_text(folder / f"{name}.json", json.dumps(value, indent=1, ensure_ascii=False))
    table = to_table([_row(job, row) for row in rows], Annotation)
    missing = len(outputs) - len(rows)
    dropped = {"no_output": missing} if missing else {}
    notes = AnnotationsNotes(generation=asked, alpaca=result)
    return Rows(table, Counts(len(outputs), len(rows), dropped, notes.stored()))


def _answer(row: dict[str, Any], column: str, name: str) -> dict[str, Any]:
    return {**row, "output": row[column], "generator": row[name]}


def _row(job: Job, row: dict[str, Any]) -> Annotation:
    names = [name for name in Annotation.__dataclass_fields__ if name not in ("output_id", "iteration")]
    values = {name: row[name] for name in names}
    return Annotation(output_id=row_id("out", row["instruction"]), iteration=job.iteration, **values)
