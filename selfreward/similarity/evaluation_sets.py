"""Evaluation prompts that nothing may be trained on: reading them, and asking whether a prompt overlaps them.

AlpacaEval's 188 "oasst" prompts are exactly the roots of the oasst1 English validation set, so this is no theory.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfreward.errors import InputError
from selfreward.similarity.overlap import EvaluationIndex

_ROLE = "evaluation_set_"


def evaluation_files(paths: list[str]) -> dict[str, Path]:
    """The configured files by role, so that their content is part of the key."""
    return {f"{_ROLE}{number}": Path(path) for number, path in enumerate(paths)}


def load_evaluation_prompts(
    files: dict[str, Path], further: Iterable[tuple[str, str]] = ()
) -> EvaluationIndex:
    """An index over every evaluation file among a job's files, and `further` (id, prompt) such as EFT's eval split."""
    index = EvaluationIndex(further)
    for role, path in files.items():
        if role.startswith(_ROLE):
            for number, text in enumerate(read_prompts(path)):
                index.add(f"{path.name.split('.')[0]}/{number}", text)
    return index


def read_prompts(path: Path) -> list[str]:
    """The prompts of a json, jsonl or csv file: its `instruction`, `prompt` or `turns` column."""
    opener = gzip.open if path.suffix == ".gz" else open
    name = path.name.removesuffix(".gz")
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            records: list[dict[str, Any]]
            if name.endswith(".json"):
                records = json.load(file)
            elif name.endswith(".csv"):
                import pandas as pd

                records = json.loads(pd.read_csv(file).to_json(orient="records"))
            else:
                records = [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as evaluation prompts: {error}") from error
    prompts: list[str] = []
    for number, record in enumerate(records, 1):
        found = next((record[c] for c in ("instruction", "prompt", "turns") if record.get(c)), None)
        if found is None:
            raise InputError(
                f"{path}: record {number} has no instruction, prompt or turns; it has {sorted(record)}"
            )
        prompts += [found] if isinstance(found, str) else [str(turn) for turn in found]
    return prompts
