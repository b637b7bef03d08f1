"""MT-Bench's files as FastChat publishes them: questions, judge prompts, reference answers, models' answers.

    {"question_id": 81, "category": "writing", "turns": ["Compose a blog post …", "Rewrite it …"]}
    {"name": "single-v1", "type": "single", "system_prompt": "…", "prompt_template": "… {question} … {answer} …"}
    {"question_id": 101, "model_id": "gpt-4", "choices": [{"index": 0, "turns": ["…", "…"]}]}

The user provides them; the project contains none. Refused with row and reason: a missing column, a question
asked twice, other than two turns, a judge prompt that lacks a place to fill.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.errors import InputError
from selfreward.judging.prompts.markers import fill
from selfreward.reading.files import read_rows
from selfreward.tables import Message

NEEDS_REFERENCE = ("math", "reasoning", "coding")
"""Categories judged with a reference answer at hand."""
_SLOT = r"\{(question|answer|question_[12]|answer_[12]|ref_answer_[12])\}"


@dataclass(frozen=True, slots=True)
class Question:
    """Two turns; `reference` holds an answer to each where the category needs one."""

    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """One single-answer grading prompt."""

    name: str
    system: str
    template: str

    def fill(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """The chat for one answer."""
        # filled in one pass: a slot inside an answer must stay plain text
        system = (Message("system", self.system),) if self.system else ()
        return (*system, Message("user", fill(self.template, _SLOT, values)))


PROMPT_NAMES = {
    (1, False): "single-v1",
    (2, False): "single-v1-multi-turn",
    (1, True): "single-math-v1",
    (2, True): "single-math-v1-multi-turn",
}
"""(turn, with a reference) -> the name of FastChat's prompt for it."""
_TURN_1, _TURN_2 = {"question_1", "answer_1"}, {"question_2", "answer_2"}
_SLOTS = {
    "single-v1": {"question", "answer"},
    "single-math-v1": {"question", "answer", "ref_answer_1"},
    "single-v1-multi-turn": _TURN_1 | _TURN_2,
    "single-math-v1-multi-turn": _TURN_1 | _TURN_2 | {"ref_answer_1", "ref_answer_2"},
}


def read_questions(path: Path, references: Path | None) -> list[Question]:
    """The questions, with reference answers where their category needs them. Raises InputError."""
    answers = read_answers(references)[1] if references else {}
    questions: dict[str, Question] = {}
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        question_id, category = str(_column(row, "question_id", where)), str(_column(row, "category", where))
        turns = _two_turns(_column(row, "turns", where), where)
        if question_id in questions:
            raise InputError(f"{where}: question_id {question_id} is there already")
        questions[question_id] = Question(question_id, category, turns, answers.get(question_id))
    if not questions:
        raise InputError(f"{path.name}: holds no questions")
    lacking = [q.id for q in questions.values() if q.category in NEEDS_REFERENCE and q.reference is None]
    if lacking:
        where = references.name if references else "no file of reference answers was given, and"
        raise InputError(
            f"{where} {'has no answer to' if references else 'they are needed for'} {len(lacking)} questions of the "
            f"categories {', '.join(NEEDS_REFERENCE)}, the first is question_id {lacking[0]}"
        )
    return [
        # a reference in another category would select FastChat's prompt for math
        q if q.category in NEEDS_REFERENCE else Question(q.id, q.category, q.turns)
        for q in questions.values()
    ]


def read_answers(path: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    """A model's answers in FastChat's form: its name, and both turns by question id. Raises InputError."""
    answers: dict[str, tuple[str, str]] = {}
    names: set[str] = set()
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        question_id = str(_column(row, "question_id", where))
        choices = _column(row, "choices", where)
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise InputError(f"{where}: choices is {choices!r:.60}, expected a list of objects with turns")
        if question_id in answers:
            raise InputError(f"{where}: question_id {question_id} is answered already")
        answers[question_id] = _two_turns(_column(choices[0], "turns", where), where)
        names.add(str(row.get("model_id") or path.name.split(".")[0]))
    if len(names) > 1:
        raise InputError(f"{path.name}: mixes the answers of {len(names)} models: {', '.join(sorted(names))}")
    if not answers:
        raise InputError(f"{path.name}: holds no answers")
    return names.pop(), answers


def read_judge_prompts(path: Path) -> dict[str, JudgePrompt]:
    """The four single-answer prompts by name; others in the file are ignored. Raises InputError."""
    found: dict[str, JudgePrompt] = {}
    for number, row in read_rows(path):
        name = row.get("name")
        # FastChat's file has pairwise prompts too
        if name not in _SLOTS:
            continue
        template = str(_column(row, "prompt_template", f"{path.name}, row {number}"))
        missing = _SLOTS[name] - set(re.findall(_SLOT, template))
        if missing:
            raise InputError(
                f"{path.name}, row {number}: {name} has no place for {', '.join(sorted(missing))}"
            )
        found[name] = JudgePrompt(name, str(row.get("system_prompt") or ""), template)
    lacking = [name for name in _SLOTS if name not in found]
    if lacking:
        raise InputError(f"{path.name}: has no judge prompt named {', '.join(lacking)}")
    return found


def slot_values(question: Question, answers: Sequence[str], turn: int) -> dict[str, str]:
    """Slot values of the prompt for one turn; `answers` are the model's, up to that turn."""
    values = {"question": question.turns[0], "answer": answers[0]}
    for n in range(turn):
        values |= {f"question_{n + 1}": question.turns[n], f"answer_{n + 1}": answers[n]}
    for n, text in enumerate(question.reference or ()):
        values[f"ref_answer_{n + 1}"] = text
    return values


def _column(row: dict[str, Any], name: str, where: str) -> Any:
    if row.get(name) is None:
        raise InputError(f"{where}: has no {name}; its columns are {', '.join(sorted(row))}")
    return row[name]


def _two_turns(value: Any, where: str) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(turn, str) for turn in value):
        raise InputError(f"{where}: turns is {value!r:.60}, expected a list of two texts")
    return value[0], value[1]
