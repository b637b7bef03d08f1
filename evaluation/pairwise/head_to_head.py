"""Two models on the same prompts before one judge, both orders, as in the paper: win, tie, loss.

    result = head_to_head(HeadToHeadJob(a="M2", b="M1", judge="openai:…", prompts=prompts, out=Path("h2h"), models=models))

Each pair is judged twice, the answers swapped. Who wins both times wins; every other pair of verdicts is a tie, and two
equal answers are one without asking. A prompt that one of them did not answer, or on which a verdict cannot be read, has
no verdict: it is counted by reason, left out of the shares, and may be anything in the intervals. Those are 95 %
bootstrap intervals over *all* prompts, such a prompt counted against a share in the low end and for it in the high one.

`how often the order decided` is beside it: a judge that often names the same place twice says little about answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from selfreward.engines.base import Sampling
from selfreward.errors import InputError
from selfreward.evaluation.alpaca.annotators import JudgeTemplate, load_annotator
from selfreward.evaluation.alpaca.judge import annotation_rows, plan_annotations, require_logprobs
from selfreward.evaluation.alpaca.run import DEFAULT_ANNOTATOR, annotator_name
from selfreward.evaluation.ask.answers import GREEDY, Models, Prompts, answers_of, output_rows
from selfreward.evaluation.ask.files import Answers
from selfreward.evaluation.ask.requests import Asking, Terms, asking
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish, write_rows
from selfreward.evaluation.pairwise.result import HeadToHead, HeadToHeadRow, sign, summarise, verdict_of
from selfreward.store import durable, lock
from selfreward.store.run import Run
from selfreward.tables import row_id
from selfreward.text import shorten

TABLE = "head_to_head"


@dataclass(frozen=True, slots=True)
class HeadToHeadJob:
    """Who, on what, before whom. `a` and `b` are models, models of a run, or files of answers."""

    a: str
    b: str
    judge: str
    prompts: Prompts
    out: Path
    annotator: str = DEFAULT_ANNOTATOR
    max_tokens: int = 1024
    temperature: float = 0.0
    models: Models = field(default_factory=Models)
    terms: Terms = field(default_factory=Terms)
    judge_terms: Terms = field(default_factory=Terms)


def head_to_head(job: HeadToHeadJob) -> HeadToHead:
    """Answer, judge, count; OUT gets `answers_a.json`, `answers_b.json` and `verdicts.json`."""
    template = load_annotator(job.annotator)
    judge = job.models.ref(job.judge)
    sampling = Sampling(job.temperature, GREEDY.top_p, job.max_tokens)
    durable.make_folder(job.out)
    with lock.hold(job.out, "selfreward evaluate head-to-head"):
        answers = []
        for side, source in (("a", job.a), ("b", job.b)):
            answers.append(answers_of(source, job.prompts, job.models, job.out, job.terms, sampling))
            _write(job.out / f"answers_{side}.json", output_rows(answers[-1]))
        with asking(
            judge, job.out / ".work", "verdicts", job.models.terms_for(job.judge, job.judge_terms)
        ) as asked:
            result = compare(answers[0], answers[1], template, asked, annotator_name(template, judge))
        _write(job.out / "verdicts.json", [asdict(row) for row in result.rows])
    return result


def compare(
    a: Answers, b: Answers, template: JudgeTemplate, asked: Asking, judge: str | None = None
) -> HeadToHead:
    """Judge b's answers against a's in both orders. Both answer the same prompts; None is no answer.

    `judge` is the judging model's name in rows, None where the template's own name says it all.
    """
    if a.outputs.keys() != b.outputs.keys():
        strangers = a.outputs.keys() ^ b.outputs.keys()
        raise InputError(
            f"{a.source} and {b.source} answer different prompts: {len(strangers)} are only in one of them, "
            f"such as {shorten(min(strangers), 60)!r}"
        )
    names = (a.generator or "a", b.generator or "b")
    if names[0] == names[1]:
        names = (f"{names[0]} (a)", f"{names[1]} (b)")
    both = {
        prompt for prompt, text in a.outputs.items() if text is not None and b.outputs[prompt] is not None
    }
    annotations: dict[str, dict[str, Any]] = {}
    if both:
        first, second = (_only(answers, both) for answers in (a, b))
        plan = plan_annotations(first, second, template, judge, both_orders=True)
        require_logprobs(asked.engine, plan.requests)
        completions = asked.complete(plan.requests, f"on {names[0]} and {names[1]}")
        found = annotation_rows(plan, [completions[request.id, 0] for request in plan.requests])
        annotations = {row["instruction"]: row for row in found}
    judge_shown = f"{template.name}:{judge}" if judge else template.name
    rows = [
        _row(prompt, a.outputs[prompt], b.outputs[prompt], annotations.get(prompt), names, judge_shown)
        for prompt in a.outputs
    ]
    return summarise(rows, names, judge_shown)


def publish_head_to_head(
    run: Run, job: HeadToHeadJob, result: HeadToHead, measure: str = TABLE
) -> Evaluation:
    """Rows and figures as tables of a run."""
    evaluation = Evaluation(
        measure=measure,
        model=result.model_a,
        against=result.model_b,
        judge=result.judge,
        prompts=job.prompts.source,
        n_prompts=result.n_prompts,
        settings={
            "prompts": job.prompts.sha256,
            "max_tokens": job.max_tokens,
            "temperature": job.temperature,
        },
    )
    rows = [replace(row, evaluation_id=evaluation.id) for row in result.rows]
    figures = [
        *(
            evaluation.of_figure(name, getattr(result, name), scale=100.0)
            for name in ("win", "tie", "loss", "order_decided")
        ),
        evaluation.figure("avg_length", result.avg_length_a, unit="characters", part="model"),
        evaluation.figure("avg_length", result.avg_length_b, unit="characters", part="against"),
    ]
    publish(run, evaluation, {TABLE: (rows, HeadToHeadRow), FIGURES: (figures, EvaluationFigure)})
    return evaluation


def _row(
    prompt: str,
    answer_a: str | None,
    answer_b: str | None,
    annotation: dict[str, Any] | None,
    names: tuple[str, str],
    judge: str,
) -> HeadToHeadRow:
    a_first: float | None = annotation["preference_reference_first"] if annotation else None
    b_first: float | None = annotation["preference_model_first"] if annotation else None
    status = annotation["status"] if annotation else _missing(answer_a, answer_b)
    verdict, order_decided = "tie" if status == "ok" else None, None
    if a_first is not None and b_first is not None:
        verdict, order_decided = verdict_of(a_first, b_first), sign(a_first) * sign(b_first) < 0
    return HeadToHeadRow(
        evaluation_id="",
        comparison_id=row_id("h2h", *names, judge, prompt),
        prompt=prompt,
        model_a=names[0],
        model_b=names[1],
        judge=judge,
        answer_a=answer_a,
        answer_b=answer_b,
        n_chars_a=None if answer_a is None else len(answer_a),
        n_chars_b=None if answer_b is None else len(answer_b),
        verdict=verdict,
        status=status,
        preference_a_first=a_first,
        preference_b_first=b_first,
        order_decided=order_decided,
    )


def _missing(answer_a: str | None, answer_b: str | None) -> str:
    if answer_a is None and answer_b is None:
        return "missing_both"
    return "missing_a" if answer_a is None else "missing_b"


def _only(answers: Answers, prompts: set[str]) -> Answers:
    outputs = {prompt: text for prompt, text in answers.outputs.items() if prompt in prompts}
    return Answers(answers.source, answers.generator, outputs, {p: answers.datasets.get(p) for p in outputs})


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return write_rows(path, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False))
