"""Answers of a model or a reference, in alpaca-eval's own file format, read and checked.

    {"instruction": "How did US states get their names?", "output": "US states …", "generator": "alpaca-7b",
     "dataset": "helpful_base"}

JSON (an array, lines or by column), CSV or Parquet, plain or gzip. Refused, with the count and the first offender: a
repeated instruction, answers of two generators, an answer to a prompt that the reference does not have. Missing
(absent or null) and empty answers are counted separately; the caller decides whether they are an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.errors import InputError
from selfreward.reading import files
from selfreward.text import shorten

JsonRow = Mapping[str, Any]
# halves of surrogate pairs (an emoji cut by a token limit): neither tokenizers nor Arrow can represent them
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers, by instruction, in file order."""

    source: str
    """File name, or the caller's description, for messages."""
    generator: str | None
    """Name in the rows; None if the rows carry none."""
    outputs: dict[str, str | None]
    datasets: dict[str, str | None]
    """Which part of AlpacaEval each instruction comes from (`oasst`, `koala`, …), if the file says so."""


@dataclass(frozen=True, slots=True)
class PromptPair:
    """One prompt of the reference with both answers; `output` is None if the model gave none."""

    instruction: str
    dataset: str | None
    reference: str
    output: str | None


def read_answers(path: Path) -> Answers:
    """`model_outputs.json` or a reference file. Raises `InputError` (see the module's text)."""
    return answers_from_rows(read_rows(path), path.name)


def answers_from_rows(rows: Iterable[JsonRow], source: str) -> Answers:
    """Rows as written in the file, checked and keyed by instruction."""
    outputs: dict[str, str | None] = {}
    datasets: dict[str, str | None] = {}
    # joined by instruction everywhere, never by position: files are shuffled, filtered and edited
    generators: dict[str, int] = {}
    repeated = Offenders()
    for number, row in enumerate(rows, start=1):
        instruction = instruction_of(row, source, number)
        if instruction in outputs:
            repeated.add(number, instruction)
        outputs[instruction] = text_of(row, "output", source, number)
        datasets[instruction] = text_of(row, "dataset", source, number)
        generator = text_of(row, "generator", source, number)
        if generator is not None:
            generators.setdefault(generator, number)
    repeated.refuse(source, "repeating an instruction; keep one answer to each")
    if not outputs:
        raise InputError(f"{source}: holds no rows; expected one answer to each prompt")
    if len(generators) > 1:
        (first, _), (second, number) = list(generators.items())[:2]
        raise InputError(
            f"{source}: mixes the answers of {len(generators)} generators ({first!r}, and {second!r} from row "
            f"{number} on); give one model's answers"
        )
    return Answers(source, next(iter(generators), None), outputs, datasets)


def match(references: Answers, outputs: Answers) -> list[PromptPair]:
    """The prompts of the reference, in its order, with the model's answers.

    Raises `InputError` if the reference lacks an answer or the outputs answer other prompts.
    """
    lacking, foreign = Offenders(), Offenders()
    for number, (instruction, text) in enumerate(references.outputs.items(), start=1):
        if text is None:
            lacking.add(number, instruction)
    for number, instruction in enumerate(outputs.outputs, start=1):
        if instruction not in references.outputs:
            foreign.add(number, instruction)
    lacking.refuse(references.source, "without an output; every reference answer is needed")
    foreign.refuse(
        outputs.source,
        f"for an instruction that {references.source} does not have; give the reference they belong to"
        + _near_miss(references, outputs),
    )
    return [
        PromptPair(
            instruction, references.datasets[instruction], text or "", outputs.outputs.get(instruction)
        )
        for instruction, text in references.outputs.items()
    ]


def _near_miss(references: Answers, outputs: Answers) -> str:
    """A hint for instructions that differ only in white space."""
    # they look alike when printed, so the message alone would not help
    known = {" ".join(instruction.split()) for instruction in references.outputs}
    foreign = outputs.outputs.keys() - references.outputs.keys()
    n = sum(" ".join(instruction.split()) in known for instruction in foreign)
    return (
        f". White space (a blank, a line break) is all that {n} of them differ in from an instruction there"
        if n
        else ""
    )


class Offenders:
    """Counts bad rows and remembers the first, for one sentence at the end."""

    def __init__(self, unit: str = "row") -> None:
        self.unit = unit
        self.count = 0
        self.first = ""

    def add(self, number: int, instruction: str) -> None:
        self.count += 1
        self.first = self.first or f"first is {self.unit} {number}, {shorten(instruction, 60)!r}"

    def sentence(self, source: str, what: str) -> str:
        return f"{source}: {self.count} {self.unit}{'s' * (self.count != 1)} {what} ({self.first})"

    def refuse(self, source: str, what: str) -> None:
        if self.count:
            raise InputError(self.sentence(source, what))


def text_of(row: JsonRow, column: str, source: str, number: int) -> str | None:
    """A text column of a row; None if it is absent, null or NaN."""
    value = row.get(column)
    # NaN is what pandas writes for a missing text
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise InputError(f"{source}, row {number}: {column!r} is {type(value).__name__}, expected a text")
    # one character for one, so that lengths stay the same
    return LONE_SURROGATE.sub("\ufffd", value)


def instruction_of(row: JsonRow, source: str, number: int) -> str:
    """The text used as join key; a row without one is refused."""
    instruction = text_of(row, "instruction", source, number)
    if instruction is None:
        raise InputError(f"{source}, row {number}: has no instruction")
    return instruction


def read_rows(path: Path) -> list[JsonRow]:
    """The rows of any file that `selfreward.reading.files` reads."""
    return [row for _, row in files.read_rows(path, path.name)]
