"""MT-Bench: 80 questions of two turns, each answer graded from 1 to 10 by a judge.

    result = mt_bench(MtBenchJob(model="M2", judge="openai:…", questions=…, judge_prompts=…, references=…, out=…))

As FastChat does it: the second turn is answered with the first in the conversation, each turn is judged by itself,
answers to maths, code and reasoning against a reference; answers are sampled at FastChat's temperature for their
category, the judge is greedy; the score is the mean over all turns. Otherwise than FastChat: of several ratings in one
judgement the last counts (the first may be quoted from the answer), a single-bracketed number is none, reasoning blocks
are not read, and what has no rating is counted by status and excluded from the means.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.engines.references import ModelRef
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import Models
from selfreward.evaluation.ask.requests import Terms, asking, failed
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish, write_rows
from selfreward.evaluation.benchmarks.mt_bench_files import (
    PROMPT_NAMES,
    JudgePrompt,
    Question,
    read_answers,
    read_judge_prompts,
    read_questions,
    slot_values,
)
from selfreward.evaluation.benchmarks.mt_bench_result import MtBench, MtBenchRow, parse_rating, summarise
from selfreward.judging.prompts.injection import holds_prompt_parts
from selfreward.store import durable, lock
from selfreward.store.run import Run
from selfreward.store.sealed import digest
from selfreward.tables import Message, row_id

TABLE = "mt_bench"
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Of the answers, by category; greedy elsewhere."""
JUDGE = Sampling(temperature=0.0, top_p=1.0, max_tokens=2048)
Texts = dict[str, tuple[str | None, str | None]]
"""Both answers by question id; None where there is none."""


@dataclass(frozen=True, slots=True)
class MtBenchJob:
    """Who answers (or a file of answers), who judges, and the benchmark's files."""

    judge: str
    questions: Path
    judge_prompts: Path
    out: Path
    references: Path | None = None
    model: str | None = None
    answers: Path | None = None
    """Answers in FastChat's form, in place of `model`."""
    max_tokens: int = 1024
    seed: int = 0
    models: Models = field(default_factory=Models)
    terms: Terms = field(default_factory=Terms)
    judge_terms: Terms = field(default_factory=Terms)


def mt_bench(job: MtBenchJob) -> MtBench:
    """Answer both turns, judge both; OUT gets `answers.jsonl` (FastChat's form) and `judgements.jsonl`."""
    if (job.model is None) == (job.answers is None):
        raise UsageError("mt-bench: expected either --model MODEL or --answers FILE")
    questions = read_questions(job.questions, job.references)
    prompts = read_judge_prompts(job.judge_prompts)
    judge = job.models.ref(job.judge)
    durable.make_folder(job.out)
    with lock.hold(job.out, "selfreward evaluate mt-bench"):
        name, texts = _given(job.answers, questions) if job.answers else _answer(job, questions)
        _write(job.out / "answers.jsonl", [_fastchat(name, q, texts[q.id]) for q in questions])
        rows = _judge(job, judge, name, questions, texts, prompts)
        _write(job.out / "judgements.jsonl", [asdict(row) for row in rows])
    return summarise(rows, name, judge.name)


def publish_mt_bench(run: Run, job: MtBenchJob, result: MtBench) -> None:
    """Rows and scores as tables of a run."""
    evaluation = Evaluation(
        measure="mt_bench",
        model=result.model,
        against=None,
        judge=result.judge,
        prompts=job.questions.name,
        n_prompts=len({row.question_id for row in result.rows}),
        settings={
            "questions": digest(sorted({row.question for row in result.rows})),
            "judge_prompts": digest([asdict(p) for p in read_judge_prompts(job.judge_prompts).values()]),
            "max_tokens": job.max_tokens,
            "seed": job.seed,
        },
    )
    rows = [MtBenchRow(**{**asdict(row), "evaluation_id": evaluation.id}) for row in result.rows]
    figures = [
        evaluation.of_figure("score", figure, unit="score", part=part) for part, figure in result.parts()
    ]
    publish(run, evaluation, {TABLE: (rows, MtBenchRow), FIGURES: (figures, EvaluationFigure)})


def _given(path: Path, questions: Sequence[Question]) -> tuple[str, Texts]:
    name, answers = read_answers(path)
    known = {question.id for question in questions}
    strangers = [question_id for question_id in answers if question_id not in known]
    if strangers:
        raise InputError(
            f"{path.name}: answers {len(strangers)} questions that are not asked, the first is {strangers[0]}"
        )
    return name, {q.id: answers.get(q.id, (None, None)) for q in questions}


def _answer(job: MtBenchJob, questions: Sequence[Question]) -> tuple[str, Texts]:
    ref = job.models.ref(str(job.model))
    with asking(ref, job.out / ".work", "answers", job.models.terms_for(str(job.model), job.terms)) as asked:
        first = asked.complete([_turn(job, q, None) for q in questions], "first turn")
        by_id = {q.id: _text(first[_request_id(q, 1), 0]) for q in questions}
        follow_ups = [_turn(job, q, text) for q in questions if (text := by_id[q.id]) is not None]
        second = asked.complete(follow_ups, "second turn")
    texts: Texts = {}
    for question in questions:
        key = (_request_id(question, 2), 0)
        texts[question.id] = (by_id[question.id], _text(second[key]) if key in second else None)
    return ref.name, texts


def _turn(job: MtBenchJob, question: Question, first_answer: str | None) -> Request:
    messages = [Message("user", question.turns[0])]
    if first_answer is not None:
        messages += [Message("assistant", first_answer), Message("user", question.turns[1])]
    temperature = TEMPERATURES.get(question.category, 0.0)
    sampling = Sampling(temperature, 1.0, job.max_tokens)
    return Request(
        _request_id(question, 1 + (first_answer is not None)), tuple(messages), sampling, 1, job.seed
    )


def _judge(
    job: MtBenchJob,
    judge: ModelRef,
    name: str,
    questions: Sequence[Question],
    texts: Texts,
    prompts: dict[str, JudgePrompt],
) -> list[MtBenchRow]:
    requests = {}
    for question in questions:
        for turn in (1, 2):
            answers = texts[question.id][:turn]
            if all(answer is not None for answer in answers):
                prompt = prompts[PROMPT_NAMES[turn, question.reference is not None]]
                messages = prompt.fill(slot_values(question, [str(a) for a in answers], turn))
                requests[question.id, turn] = Request(_request_id(question, turn), messages, JUDGE)
    with asking(
        judge, job.out / ".work", "judgements", job.models.terms_for(job.judge, job.judge_terms)
    ) as asked:
        found = asked.complete(list(requests.values()), f"on {name}")
    return [
        _row(name, judge.name, question, turn, texts, requests.get((question.id, turn)), found)
        for question in questions
        for turn in (1, 2)
    ]


def _row(
    model: str,
    judge: str,
    question: Question,
    turn: int,
    texts: Texts,
    request: Request | None,
    found: dict[tuple[str, int], Completion],
) -> MtBenchRow:
    answer = texts[question.id][turn - 1]
    completion = found[request.id, 0] if request is not None else None
    rating, status = (None, "missing_answer") if completion is None else parse_rating(completion)
    return MtBenchRow(
        evaluation_id="",
        row_id=row_id("mt", model, judge, question.id, turn),
        question_id=question.id,
        category=question.category,
        turn=turn,
        question=question.turns[turn - 1],
        answer=answer,
        n_chars=None if answer is None else len(answer),
        model=model,
        judge=judge,
        template=PROMPT_NAMES[turn, question.reference is not None],
        rating=rating,
        status=status,
        judgement=None if completion is None else completion.text,
        injection_suspected=holds_prompt_parts(answer or "", "mt_bench"),
    )


def _text(completion: Completion) -> str | None:
    return None if failed(completion) else completion.text


def _request_id(question: Question, turn: int) -> str:
    return f"mt-{question.id}-{turn}"


def _fastchat(name: str, question: Question, answers: tuple[str | None, str | None]) -> dict[str, Any]:
    choices = [{"index": 0, "turns": list(answers)}]
    return {"question_id": question.id, "model_id": name, "choices": choices}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return write_rows(path, text)
