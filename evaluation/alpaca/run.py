"""AlpacaEval with a model and a judge at hand: answers, verdicts, and the files that alpaca-eval's readers know.

    files = run_alpaca(AlpacaJob(reference=…, model="hf:…", judge_model="openai:…", out=Path("alpaca/mine")))
    result = summarise_run(files, difficulty, gamed)

OUT holds `reference.json` (the prompts in use), `model_outputs.json` and `annotations.json` in alpaca-eval's formats,
each replaced whole, and `.work/` with every answer and verdict ever asked for there; nothing is written elsewhere.
With `n_max` a fixed draw of the prompts is used, and the result says of how many.

The judge's prompt, choices and parser are those of an annotator configuration, its model is the one given. The row is
called by the configuration's own name where that is the model it was made for, else `configuration:model`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfreward.engines.base import Sampling
from selfreward.engines.references import ModelRef
from selfreward.errors import UsageError
from selfreward.evaluation.alpaca.annotators import JudgeTemplate, load_annotator
from selfreward.evaluation.alpaca.baselines import constant_outputs
from selfreward.evaluation.alpaca.judge import annotation_rows, plan_annotations, require_logprobs
from selfreward.evaluation.alpaca.result import AlpacaResult, Baseline
from selfreward.evaluation.alpaca.score import evaluate_files
from selfreward.evaluation.ask.answers import GREEDY, Models, Prompts, answers_of, draw, output_rows, restrict
from selfreward.evaluation.ask.files import Answers, read_answers
from selfreward.evaluation.ask.requests import Asking, Terms, asking
from selfreward.evaluation.ask.results import write_rows
from selfreward.store import durable, lock

DEFAULT_ANNOTATOR = "selfreward_weighted"


@dataclass(frozen=True, slots=True)
class AlpacaJob:
    """What to answer, who answers, who judges, and where it goes."""

    reference: Path
    judge_model: str
    out: Path
    model: str | None = None
    outputs: Path | None = None
    """Answers that exist already, in place of `model`."""
    annotator: str = DEFAULT_ANNOTATOR
    both_orders: bool = False
    n_max: int | None = None
    max_tokens: int = 1024
    temperature: float = 0.0
    model_name: str | None = None
    judge_constant: bool = False
    """Have one constant answer judged as well, as a baseline: as many verdicts again."""
    models: Models = field(default_factory=Models)
    terms: Terms = field(default_factory=Terms)
    judge_terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class AlpacaFiles:
    """What a job left in its folder."""

    reference: Path
    outputs: Path
    annotations: Path
    constant: Path | None
    notes: tuple[str, ...]


def run_alpaca(job: AlpacaJob) -> AlpacaFiles:
    """Answer (or read), judge, write. Asking goes on where an earlier run of the same folder ended."""
    if (job.model is None) == (job.outputs is None):
        raise UsageError("expected either a model that answers or a file of outputs")
    source = str(job.outputs) if job.outputs is not None else str(job.model)
    everything = read_answers(job.reference)
    template = load_annotator(job.annotator)
    judge = job.models.ref(job.judge_model)
    texts = draw(list(everything.outputs), job.n_max)
    references = restrict(everything, texts)
    prompts = Prompts(job.reference.name, tuple(texts), len(everything.outputs))
    durable.make_folder(job.out)
    with lock.hold(job.out, "selfreward evaluate alpaca"):
        reference = _write(job.out, "reference", output_rows(references))
        sampling = Sampling(job.temperature, GREEDY.top_p, job.max_tokens)
        answers = answers_of(
            source, prompts, job.models, job.out, job.terms, sampling, job.model_name, references.datasets
        )
        outputs = _write(job.out, "model_outputs", output_rows(answers))
        with asking(
            judge, job.out / ".work", "verdicts", job.models.terms_for(job.judge_model, job.judge_terms)
        ) as asked:
            rows = _judge(asked, job, template, judge, references, answers)
            annotations = _write(job.out, "annotations", rows)
            constant = None
            if job.judge_constant:
                rows = _judge(asked, job, template, judge, references, constant_outputs(references))
                constant = _write(job.out, "constant_annotations", rows)
    notes = _draw_note(job, prompts)
    return AlpacaFiles(reference, outputs, annotations, constant, notes)


def summarise_run(
    files: AlpacaFiles, difficulty: Path | None = None, gamed: Path | None = None, strict: bool = False
) -> AlpacaResult:
    """The leaderboard row of what `run_alpaca` left, the draw and the judged constant answer in it."""
    result = evaluate_files(
        files.outputs, files.reference, files.annotations, difficulty, gamed, strict=strict
    )
    result = replace(result, warnings=files.notes + result.warnings)
    if files.constant is None:
        return result
    rows = json.loads(files.constant.read_bytes())
    return replace(result, baselines=tuple(_with_constant(result.baselines, rows)))


def annotator_name(template: JudgeTemplate, judge: ModelRef) -> str | None:
    """None where the configuration's own name says it all: it is judged by the model it was made for."""
    return None if judge.name == f"openai:{template.model_name}" else judge.name


def _judge(
    asked: Asking,
    job: AlpacaJob,
    template: JudgeTemplate,
    judge: ModelRef,
    references: Answers,
    answers: Answers,
) -> list[dict[str, Any]]:
    plan = plan_annotations(
        references, answers, template, annotator_name(template, judge), both_orders=job.both_orders
    )
    require_logprobs(asked.engine, plan.requests)
    completions = asked.complete(plan.requests, f"on {plan.generators[1]}")
    return annotation_rows(plan, [completions[request.id, 0] for request in plan.requests])


def _with_constant(baselines: Sequence[Baseline], rows: Sequence[dict[str, Any]]) -> list[Baseline]:
    won = [row["preference"] - 1 for row in rows if row["preference"] is not None]
    judged = Baseline(
        "constant answer",
        100 * sum(won) / len(won) if won else None,
        None,
        f"{rows[0]['output_2']!r} to every prompt, {len(won)} of {len(rows)} judged",
    )
    return [judged if baseline.name == "constant answer" else baseline for baseline in baselines]


def _draw_note(job: AlpacaJob, prompts: Prompts) -> tuple[str, ...]:
    n, of = len(prompts.texts), prompts.n_in_source
    if n == of:
        return ()
    return (
        f"{n} of the {of} prompts of {prompts.source} were drawn (n_max {job.n_max}); n_total counts these",
    )


def _write(out: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    return write_rows(out / f"{name}.json", json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))
