"""Reads evaluation prompts, which must stay out of the training data, and indexes them to find overlaps.

A real risk: AlpacaEval's 188 "oasst" prompts are exactly the roots of the oasst1 English validation set.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from selfreward.errors import InputError
from selfreward.reading.files import read_rows
from selfreward.similarity.overlap import EvaluationIndex

_ROLE = "evaluation_set_"


def evaluation_files(paths: list[str]) -> dict[str, Path]:
    """The configured files by role; inputs with a role are part of the key."""
    return {f"{_ROLE}{number}": Path(path) for number, path in enumerate(paths)}


def load_evaluation_prompts(
    files: dict[str, Path], further: Iterable[tuple[str, str]] = ()
) -> EvaluationIndex:
    """An index over a job's evaluation files and `further` (id, prompt), such as EFT's eval split."""
    index = EvaluationIndex(further)
    for role, path in files.items():
        if role.startswith(_ROLE):
            for number, text in enumerate(read_prompts(path)):
                index.add(f"{path.name.split('.')[0]}/{number}", text)
    return index


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: its `instruction` (with its `input`, if there is one), `prompt` or `turns` column."""
    prompts: list[str] = []
    for number, row in read_rows(path):
        column = next((name for name in ("instruction", "prompt", "turns") if row.get(name)), None)
        if column is None:
            raise InputError(
                f"{path}: row {number}: found the columns {', '.join(sorted(map(str, row)))}; expected instruction, prompt or turns"
            )
        texts = row[column] if isinstance(row[column], list) else [row[column]]
        texts = [turn.get("content") if isinstance(turn, dict) else turn for turn in texts]
        further = row.get("input") if column == "instruction" else None
        for text in [*texts, *([further] if further else [])]:
            if not isinstance(text, str):
                raise InputError(
                    f"{path}: row {number}: column {column!r} holds {text!r:.60}, expected a text"
                )
        prompts += texts
        if further:
            # A training prompt may repeat either alone, or both as they are shown to a model.
            prompts += [further, f"{texts[0]}\n\n{further}"]
    return prompts
