"""Blind sheets: n prompts, each judged by several annotators without knowing which model wrote which answer.

    sheets = export_sheets(answers_a, answers_b, Path("people"))     # sheet-1.csv … sheet-3.csv, key.json
    result = read_sheets(sheets.key, [*sheets.paths])                # filled in; see evaluation.human_result

One CSV for each annotator, all with the same prompts, each shuffled independently, with a random side for every row.
Neither the sheets nor the item ids reveal a model; `key.json` does, and must be kept from the annotators. A verdict
is 1 or 2 (the better response) or 0 (a tie); an empty cell is a missing one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import ModelAccess, greedy, replace_text
from selfreward.evaluation.ask.files import Answers
from selfreward.evaluation.measure import (
    ModelName,
    Out,
    PromptsFile,
    RandomSeed,
    Result,
    Temperature,
    WithAnswers,
)
from selfreward.tables import row_id
from selfreward.unkeyed import Count

COLUMNS = ("item", "prompt", "response_1", "response_2", "verdict", "comment")
INSTRUCTIONS = """For each row read the prompt and both responses, then write into `verdict`:

1   response 1 answers the prompt better
2   response 2 answers it better
0   neither is better

Judge how well the person who asked is served. Being longer is no merit of its own. Write a verdict into every row;
`comment` is free. Change nothing else, keep the file a CSV, and do not discuss rows before everyone has finished.
"""
# a text that starts with one of these would be run by a spreadsheet as a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@plain_dataclass(frozen=True, slots=True)
class KeyItem:
    """One row of one sheet, as recorded in the key."""

    item: str
    annotator: int
    prompt: str
    first: str
    """`a` or `b`: whose answer is response 1."""
    cells_sha256: str
    """Of the prompt and both responses as written in the sheet."""


@plain_dataclass(frozen=True, slots=True)
class SheetKey:
    """The whole key. `left_out` counts prompts that were not exported, by reason."""

    model_a: str
    model_b: str
    n_annotators: int
    seed: int
    left_out: dict[str, int]
    items: tuple[KeyItem, ...]

    @property
    def prompts(self) -> list[str]:
        """In the order of the first sheet."""
        return list(dict.fromkeys(item.prompt for item in self.items))


@plain_dataclass(frozen=True, slots=True)
class HumanSheets(Result):
    """The written files."""

    key_path: Path
    paths: tuple[Path, ...]
    key: SheetKey
    n_not_drawn: int = 0
    """Prompts that were left out before anything was answered."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "sheets": [str(path) for path in self.paths],
            "key": str(self.key_path),
            "prompts": len(self.key.prompts),
            "left_out": {"not_drawn": self.n_not_drawn, **self.key.left_out},
        }

    def text(self) -> str:
        """The files, with their purpose."""
        left_out = self.to_dict()["left_out"].items()
        words = ", ".join(f"{count} {reason}" for reason, count in left_out if count)
        lines = [f"{len(self.key.prompts)} prompts" + (f" (left out: {words})" if words else "")]
        lines += [f"{path}: for one annotator" for path in self.paths]
        return "\n".join(
            [*lines, f"{self.key_path}: says whose answer is whose; keep it from the annotators"]
        )


@dataclass(frozen=True, kw_only=True)
class HumanExport(WithAnswers[HumanSheets, HumanSheets]):
    """Write blind sheets for human annotators."""

    name = "human-export"
    a: ModelName
    """A model, M1 of --run, or a file of answers."""
    b: ModelName
    """The model to compare with."""
    out: Out
    prompts: PromptsFile | None = None
    n: Count = 50
    """Prompts on each sheet."""
    annotators: Count = 3
    """Annotators, one sheet each."""
    seed: RandomSeed = 0
    """Seed of the draw, the order and the sides."""
    temperature: Temperature = 0.0

    def rows(self, ask: ModelAccess) -> HumanSheets:
        """Draw, answer and write; drawn first, so that no unused answer is generated."""
        prompts = ask.prompts(self.prompts, self.n)
        sampling = greedy(self.max_tokens, self.temperature)
        a, b = (ask.answers(side, prompts, sampling) for side in (self.a, self.b))
        ask.claim()
        sheets = export_sheets(a, b, ask.out, self.n, self.annotators, self.seed)
        return replace(sheets, n_not_drawn=prompts.n_in_source - len(prompts.texts))


def export_sheets(
    a: Answers, b: Answers, out: Path, n_prompts: int = 50, n_annotators: int = 3, seed: int = 0
) -> HumanSheets:
    """Write a blind sheet for each annotator, the instructions and the key.

    Raises UsageError if OUT holds the key of another export.
    """
    prompts, left_out = _draw(a, b, n_prompts, seed)
    sheets: list[str] = []
    items: list[KeyItem] = []
    for annotator in range(1, n_annotators + 1):
        shuffled = list(prompts)
        random.Random(f"order-{seed}-{annotator}").shuffle(shuffled)
        rows = [
            _row(prompt, annotator, seed, str(a.outputs[prompt]), str(b.outputs[prompt]))
            for prompt in shuffled
        ]
        items += [item for item, _ in rows]
        sheets.append(_csv([cells for _, cells in rows]))
    names = (a.generator or "a", b.generator or "b")
    key = SheetKey(names[0], names[1], n_annotators, seed, left_out, tuple(items))
    content = json.dumps(asdict(key), indent=1, ensure_ascii=False)
    key_path = out / "key.json"
    # replacing it would make the filled sheets of that export unreadable
    if key_path.exists() and key_path.read_text(encoding="utf-8") != content:
        raise UsageError(
            f"{key_path}: is the key of another export, and without it its sheets cannot be read; choose another --out"
        )
    paths = tuple(
        # a byte-order mark, without which Excel reads UTF-8 as the local code page
        replace_text(out / f"sheet-{number}.csv", "\ufeff" + text)
        for number, text in enumerate(sheets, start=1)
    )
    replace_text(out / "instructions.txt", INSTRUCTIONS)
    return HumanSheets(replace_text(key_path, content), paths, key)


def read_key(path: Path) -> SheetKey:
    """The key of an export. Raises InputError."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        items = tuple(KeyItem(**item) for item in values.pop("items"))
        return SheetKey(**values, items=items)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected the key.json that human-export wrote") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: not a key of human-export ({error})") from error


def cells_sha256(cells: Sequence[str]) -> str:
    """Hash of texts, independent of their line ends."""
    # spreadsheets give texts back with other line ends
    plain = "\0".join("\n".join(cell.splitlines()) for cell in cells)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _draw(a: Answers, b: Answers, n_prompts: int, seed: int) -> tuple[list[str], dict[str, int]]:
    if a.outputs.keys() != b.outputs.keys():
        raise InputError(f"{a.source} and {b.source} answer different prompts")
    both = [p for p in a.outputs if a.outputs[p] is not None and b.outputs[p] is not None]
    drawn = sorted(both, key=lambda prompt: row_id("draw", seed, prompt))[:n_prompts]
    if not drawn:
        raise InputError(f"{a.source} and {b.source}: there is no prompt that both answered")
    left_out = {"not_answered_by_both": len(a.outputs) - len(both), "not_drawn": len(both) - len(drawn)}
    return drawn, {reason: n for reason, n in left_out.items() if n}


def _row(prompt: str, annotator: int, seed: int, a: str, b: str) -> tuple[KeyItem, dict[str, str]]:
    item = row_id("item", seed, annotator, prompt)
    # a coin per row: a fixed side would let an annotator learn which model is which
    first = random.Random(f"coin-{seed}-{annotator}-{prompt}").choice("ab")
    responses = (a, b) if first == "a" else (b, a)
    cells = [_harmless(text) for text in (prompt, *responses)]
    row = dict(zip(COLUMNS, [item, *cells, "", ""], strict=True))
    return KeyItem(item, annotator, prompt, first, cells_sha256(cells)), row


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
