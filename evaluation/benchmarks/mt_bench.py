"""MT-Bench: 80 questions of two turns, each answer graded from 1 to 10 by a judge.

    result = measure(MtBench(model="M2", judge="openai:…", questions=…, judge_prompts=…, reference_answers=…, out=…))

As in FastChat: the second turn is answered with the first in the conversation, each turn is judged by itself, answers
to math, code and reasoning against a reference; the score is the mean over all turns. Unlike FastChat: of several
ratings in one judgement the last counts, and unrated answers are counted by status and excluded from the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.requests import failed
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.benchmarks.mt_bench_files import (
    PROMPT_NAMES,
    Question,
    read_answers,
    read_judge_prompts,
    read_questions,
    slot_values,
)
from selfreward.evaluation.benchmarks.mt_bench_result import (
    MtBenchResult,
    MtBenchRow,
    parse_rating,
    summarise,
)
from selfreward.evaluation.measure import File, Judge, ModelName, Out, RandomSeed, WithAnswers, WithJudge
from selfreward.judging.prompts.injection import holds_prompt_parts
from selfreward.store.sealed import digest
from selfreward.tables import Message, row_id

TABLE = "mt_bench"
# FastChat's own, so that scores stay comparable with published ones
TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""Of the answers, by category; greedy elsewhere."""
JUDGE = Sampling(temperature=0.0, top_p=1.0, max_tokens=2048)
Texts = dict[str, tuple[str | None, str | None]]
"""Both answers by question id; None if missing."""


@dataclass(frozen=True, kw_only=True)
class MtBench(WithAnswers[list[MtBenchRow], MtBenchResult], WithJudge[list[MtBenchRow], MtBenchResult]):
    """The answering model (or a file of answers), the judge, and the benchmark's files."""

    name = "mt-bench"
    judge: Judge
    questions: File
    """FastChat's question.jsonl."""
    judge_prompts: File
    """FastChat's judge_prompts.jsonl."""
    out: Out
    reference_answers: File | None = None
    """Reference answers to math, coding and reasoning (FastChat's form)."""
    model: ModelName | None = None
    """The answering model: hf:…, M2 of --run, …"""
    answers: File | None = None
    """Or answers in FastChat's form."""
    seed: RandomSeed = 0
    """Seed of the sampled answers."""

    def __post_init__(self) -> None:
        if (self.model is None) == (self.answers is None):
            raise UsageError("mt-bench: expected either --model MODEL or --answers FILE")

    def rows(self, ask: ModelAccess) -> list[MtBenchRow]:
        """Answer both turns, judge both; OUT gets `answers.jsonl` (FastChat's form) and `judgements.jsonl`."""
        questions = read_questions(self.questions, self.reference_answers)
        prompts = read_judge_prompts(self.judge_prompts)
        judge = ask.models.ref(self.judge).name
        name, texts = _given(self.answers, questions) if self.answers else self._answer(ask, questions)
        ask.write("answers.jsonl", (_fastchat(name, q, texts[q.id]) for q in questions))
        requests = {}
        for question, turn in _turns(questions):
            answers = [text for text in texts[question.id][:turn] if text is not None]
            if len(answers) == turn:
                prompt = prompts[PROMPT_NAMES[turn, question.reference is not None]]
                messages = prompt.fill(slot_values(question, answers, turn))
                requests[question.id, turn] = Request(_request_id(question, turn), messages, JUDGE)
        with ask.judge(self.judge, "judgements") as generation:
            found = generation.complete(list(requests.values()), f"on {name}")
        rows = [
            _row(name, judge, question, turn, texts, found.get((_request_id(question, turn), 0)))
            for question, turn in _turns(questions)
        ]
        ask.write("judgements.jsonl", map(asdict, rows))
        return rows

    def figures(self, rows: list[MtBenchRow]) -> MtBenchResult:
        """Mean scores."""
        return summarise(rows)

    def tables(self, result: MtBenchResult) -> Iterable[Tables]:
        """`mt_bench`, a row for each turn."""
        evaluation = Evaluation(
            measure="mt_bench",
            model=result.model,
            against=None,
            judge=result.judge,
            prompts=self.questions.name,
            n_prompts=len({row.question_id for row in result.rows}),
            settings={
                "questions": digest(sorted({row.question for row in result.rows})),
                "judge_prompts": digest([asdict(p) for p in read_judge_prompts(self.judge_prompts).values()]),
                "max_tokens": self.max_tokens,
                "seed": self.seed,
            },
        )
        figures = [
            evaluation.of_figure("score", figure, "score", part=part) for part, figure in result.parts()
        ]
        yield Tables(evaluation, figures, {TABLE: result.rows})

    def _answer(self, ask: ModelAccess, questions: Sequence[Question]) -> tuple[str, Texts]:
        model = str(self.model)
        with ask.open(model, "answers", ask.answering) as generation:
            first = generation.complete([self._request(q, None) for q in questions], "first turn")
            by_id = {q.id: _text(first[_request_id(q, 1), 0]) for q in questions}
            # no second turn without an answer to the first one: there is no conversation to continue
            follow_ups = [self._request(q, text) for q in questions if (text := by_id[q.id]) is not None]
            second = generation.complete(follow_ups, "second turn")
        texts: Texts = {}
        for question in questions:
            key = (_request_id(question, 2), 0)
            texts[question.id] = (by_id[question.id], _text(second[key]) if key in second else None)
        return ask.models.ref(model).name, texts

    def _request(self, question: Question, first_answer: str | None) -> Request:
        messages = [Message("user", question.turns[0])]
        if first_answer is not None:
            messages += [Message("assistant", first_answer), Message("user", question.turns[1])]
        sampling = Sampling(TEMPERATURES.get(question.category, 0.0), 1.0, self.max_tokens)
        turn = 1 if first_answer is None else 2
        return Request(_request_id(question, turn), tuple(messages), sampling, 1, self.seed)


def _turns(questions: Sequence[Question]) -> list[tuple[Question, int]]:
    return [(question, turn) for question in questions for turn in (1, 2)]


def _given(path: Path, questions: Sequence[Question]) -> tuple[str, Texts]:
    name, answers = read_answers(path)
    known = {question.id for question in questions}
    strangers = [question_id for question_id in answers if question_id not in known]
    if strangers:
        raise InputError(
            f"{path.name}: answers {len(strangers)} questions that are not asked, the first is {strangers[0]}"
        )
    return name, {q.id: answers.get(q.id, (None, None)) for q in questions}


def _row(
    model: str, judge: str, question: Question, turn: int, texts: Texts, completion: Completion | None
) -> MtBenchRow:
    answer = texts[question.id][turn - 1]
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
