"""Annotations (a judge's preferences) in alpaca-eval's own format, checked against the answers they judge.

    {"instruction": "How did US states get their names?", "output_1": "…", "generator_1": "gpt4_1106_preview",
     "output_2": "…", "generator_2": "alpaca-7b", "annotator": "weighted_alpaca_eval_gpt4_turbo", "preference": 1.02}

`preference` is in [1, 2]: 1 the reference is better, 2 the model, 1.5 a draw (0 in old files). A row without a usable
preference is a verdict with `preference=None` and a status, and is counted. `output_1` and `output_2` are optional.

Refused, with the count and the first offender: annotations of another judge or another model mixed in, of
other prompts, of other answers than those in the outputs file, a prompt annotated twice, and a preference that is
text, true or false.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from selfreward.errors import InputError
from selfreward.evaluation.ask.files import Answers, JsonRow, Offenders, instruction_of, text_of

Numbered = list[tuple[int, JsonRow]]
"""Rows with their numbers in the file, from 1."""


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """One judgement. `preference` is None unless `status` is `ok`."""

    preference: float | None
    status: str
    """As in the table `judgements`: `ok`, `no_score`, `out_of_range`, `truncated`, `empty`, `engine_error`."""
    order: str | None = None
    """Which answer was shown first, or `both`."""
    disagree: bool | None = None
    """Whether the winner changed with the order."""


@dataclass(frozen=True, slots=True)
class JudgeVerdicts:
    """One judge's verdicts on one model, by instruction."""

    annotator: str | None
    by_instruction: dict[str, JudgeVerdict]
    notes: tuple[str, ...]
    """Counted notes: old notation, ignored rows of other judges."""


def verdicts_from_rows(
    rows: Iterable[JsonRow], source: str, references: Answers, outputs: Answers, annotator: str | None = None
) -> JudgeVerdicts:
    """Check annotation rows and key them by instruction.

    `annotator` picks one judge's rows out of a file that holds several; without it a second judge is an error.
    """
    numbered: Numbered = [
        (number, {**row, "instruction": instruction_of(row, source, number)})
        for number, row in enumerate(rows, start=1)
    ]
    numbered, judge, notes = _one_judge(numbered, source, annotator)
    _refuse_foreign(numbered, source, references)
    notes += _check_names(numbered, source, references, outputs)
    _refuse_other_types(numbered, source)
    legacy, verdicts = 0, {}
    for _, row in numbered:
        legacy += row.get("preference") == 0 and not isinstance(row.get("preference"), bool)
        verdicts[row["instruction"]] = verdict_of(row)
    if legacy:
        notes.append(f"{source}: {legacy} times preference 0, an older notation for a draw, read as 1.5")
    return JudgeVerdicts(judge, verdicts, tuple(notes))


def verdict_of(row: JsonRow) -> JudgeVerdict:
    """The preference of a row, or why it has none.

    >>> verdict_of({"preference": 1.25}).preference, verdict_of({"preference": 0}).preference
    (1.25, 1.5)
    >>> verdict_of({"preference": -1}).status, verdict_of({"preference": None}).status
    ('out_of_range', 'no_score')
    """
    value, status, order, disagree = (row.get(k) for k in ("preference", "status", "order", "disagree"))
    shown = (order if isinstance(order, str) else None, disagree if isinstance(disagree, bool) else None)
    # bool is an int in Python, and true would be read as 1: the reference is better
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        said = isinstance(status, str) and status != "ok"
        # alpaca-eval silently drops such rows from the denominator; here they stay, with a status
        return JudgeVerdict(None, str(status) if said else "no_score", *shown)
    preference = 1.5 if value == 0 else float(value)
    in_range = 1 <= preference <= 2
    return JudgeVerdict(preference if in_range else None, "ok" if in_range else "out_of_range", *shown)


def _one_judge(
    numbered: Numbered, source: str, annotator: str | None
) -> tuple[Numbered, str | None, list[str]]:
    """The rows of one judge, its name, and notes on ignored rows."""
    judges: dict[str | None, Offenders] = {}
    for number, row in numbered:
        name = text_of(row, "annotator", source, number)
        judges.setdefault(name, Offenders()).add(number, row["instruction"])
    if annotator is None:
        # a mix of two judges would be the win rate of neither
        if len(judges) > 1:
            (main, rows), *others = sorted(judges.items(), key=lambda item: -item[1].count)
            name, strangers = others[0]
            raise InputError(
                strangers.sentence(source, f"by another judge, {name!r}, beside the {rows.count} by {main!r}")
                + "; name the judge whose rows to read"
            )
        return numbered, next(iter(judges), None), []
    if annotator not in judges:
        found = ", ".join(sorted(repr(name) for name in judges)) or "no rows"
        raise InputError(f"{source}: holds no annotations by {annotator!r}; found {found}")
    mine = [(number, row) for number, row in numbered if row.get("annotator") == annotator]
    left = len(numbered) - len(mine)
    return (mine, annotator, [f"{source}: left aside {left} by other judges than {annotator!r}"] * bool(left))


def _refuse_foreign(numbered: Numbered, source: str, references: Answers) -> None:
    """Refuse repeated instructions and instructions of another prompt set."""
    seen: set[str] = set()
    repeated, foreign = Offenders(), Offenders()
    # alpaca-eval would count a repeated prompt twice
    for number, row in numbered:
        instruction = row["instruction"]
        if instruction in seen:
            repeated.add(number, instruction)
        if instruction not in references.outputs:
            foreign.add(number, instruction)
        seen.add(instruction)
    repeated.refuse(source, "annotating an instruction a second time; keep one verdict to each")
    foreign.refuse(source, f"annotating an instruction that {references.source} does not have")


def _refuse_other_types(numbered: Numbered, source: str) -> None:
    """Refuse preferences of other types."""
    # a judge gives a number or nothing: "1" or true was made by a program, and one such row means many
    other = Offenders()
    for number, row in numbered:
        value = row.get("preference")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            other.add(number, row["instruction"])
    other.refuse(source, "whose preference is no number; expected a number from 1 to 2, or null")


def _check_names(numbered: Numbered, source: str, references: Answers, outputs: Answers) -> list[str]:
    """Check that the verdicts are about the given answers."""
    _check_texts(numbered, source, "output_1", references)
    # texts decide if the rows have them, names otherwise
    texts_agree = _check_texts(numbered, source, "output_2", outputs)
    _check_generator(numbered, source, "generator_1", references)
    names = _names(numbered, source, "generator_2")
    if not texts_agree or outputs.generator is None or len(names) > 1:
        _check_generator(numbered, source, "generator_2", outputs)
        return []
    # the same texts under another name are a renamed model: noted, not refused
    return [
        f"{source}: calls the model {name!r}, {outputs.source} calls it {outputs.generator!r}; the answers agree"
        for name in names
        if name != outputs.generator
    ]


def _check_texts(numbered: Numbered, source: str, column: str, answers: Answers) -> bool:
    """True if every row has the text and it is the given answer. Raises if one differs."""
    other, n_compared = Offenders(), 0
    for number, row in numbered:
        judged = text_of(row, column, source, number)
        answer = answers.outputs.get(row["instruction"])
        if judged is not None and answer is not None:
            n_compared += 1
            # white space at the ends does not make another answer
            if judged.strip() != answer.strip():
                other.add(number, row["instruction"])
    other.refuse(
        source,
        f"judging another {column} than the answer in {answers.source}; give the annotations of these answers",
    )
    return n_compared == len(numbered) > 0


def _names(numbered: Numbered, source: str, column: str) -> dict[str, Offenders]:
    names: dict[str, Offenders] = {}
    for number, row in numbered:
        name = text_of(row, column, source, number)
        if name is not None:
            names.setdefault(name, Offenders()).add(number, row["instruction"])
    return names


def _check_generator(numbered: Numbered, source: str, column: str, answers: Answers) -> None:
    """One name in the column, which must be that of the answers (if they have any)."""
    names = _names(numbered, source, column)
    expected = answers.generator or next(iter(names), None)
    for name, rows in names.items():
        if name != expected:
            sentence = rows.sentence(
                source, f"with {column} {name!r}, but {answers.source} holds {expected!r}"
            )
            raise InputError(sentence + "; give annotations of one model against one reference")
