"""Converts dataset versions to the conversational rows that TRL's trainers take; every dropped row is counted.

    ift     {"prompt": [user: "How do I boil an egg?"], "completion": [assistant: "Put it in …"]}
    eft     {"prompt": [user: judge prompt], "completion": [assistant: "It answers … Score: 4"]}
    pairs   {"prompt": [user: …], "chosen": [assistant: …], "rejected": [assistant: …]}
    judge_pairs   the same, with a judge's prompt and two judgements

Messages stay messages: TRL applies the chat template, once. A table's columns tell which dataset it is.
Promise: `n_in = len(rows) + sum(dropped.values())`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.store.sealed import unseal

if TYPE_CHECKING:
    import datasets

Row = dict[str, Any]
"""`source` (`ift`, `eft`, `pairs`, `judge_pairs`) and message lists named `prompt`, `completion`, `chosen`, `rejected`; of SFT also
`group`, which rows about one prompt share."""


@dataclass(frozen=True)
class TrainingRows:
    """The rows to train on, and the reasons for the dropped ones."""

    rows: list[Row]
    n_in: int
    dropped: dict[str, int]


def load_table(folder: Path) -> datasets.Dataset:
    """The verified rows of a dataset version (or any `save_to_disk` folder); nothing is written into it."""
    from selfreward.store.run import load_rows

    return load_rows(folder)


def content_sha256(folder: Path) -> str | None:
    """The content hash in the folder's manifest; None for a folder without one."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return None
    found: str | None = unseal(manifest.read_bytes(), manifest).get("content_sha256")
    return found


def sft_rows(tables: Iterable[datasets.Dataset]) -> TrainingRows:
    """IFT rows and accepted EFT training rows (paper section 2.1); of pairs, the chosen answers.

    The EFT evaluation split is never trained on. InputError for any other table.
    """
    # EFT first: its rows have a `response` as well, and would be read as IFT.
    readers = {"judge_prompt": _from_eft, "chosen": _from_chosen, "response": _from_ift}
    return _collect(tables, readers, "the datasets ift, eft or pairs")


def dpo_rows(tables: Iterable[datasets.Dataset]) -> TrainingRows:
    """Preference pairs, of answers or of judgements, in TRL's conversational form. InputError for any other table."""
    # Judge pairs first: they have a column `chosen` as well.
    readers = {"judge_pair_id": _from_judge_pair, "chosen": _from_pair}
    return _collect(tables, readers, "the datasets pairs or judge_pairs")


def _collect(
    tables: Iterable[datasets.Dataset], readers: Mapping[str, Callable[[Row], Row | str]], expected: str
) -> TrainingRows:
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    n_in = 0
    for table in tables:
        column = next((column for column in readers if column in table.column_names), None)
        if column is None:
            raise InputError(
                f"training data: found a table with the columns {', '.join(table.column_names)}; expected {expected}"
            )
        n_in += len(table)
        for row in table:
            read = readers[column](row)
            if isinstance(read, str):
                dropped[read] += 1
            else:
                rows.append(read)
    return TrainingRows(rows, n_in, dict(dropped))


def _from_ift(row: Row) -> Row:
    return _answered("ift", row["prompt"], _user(row["prompt"]), _assistant(row["response"]))


def _from_eft(row: Row) -> Row | str:
    """The row, or the reason why it is dropped."""
    if row["split"] != "train":
        return "eft_eval_split"
    if not row["accepted"]:
        return "eft_not_accepted"
    return _answered("eft", row.get("prompt", ""), _user(row["judge_prompt"]), _assistant(row["target"]))


def _from_chosen(row: Row) -> Row:
    return _answered("pairs", row.get("prompt_id", ""), _messages(row["prompt"]), _messages(row["chosen"]))


def _from_pair(row: Row) -> Row:
    sides = {name: _messages(row[name]) for name in ("prompt", "chosen", "rejected")}
    return {"source": "pairs", **sides}


def _from_judge_pair(row: Row) -> Row:
    return {**_from_pair(row), "source": "judge_pairs"}


def _answered(source: str, group: str, prompt: list[Row], completion: list[Row]) -> Row:
    return {"source": source, "group": group, "prompt": prompt, "completion": completion}


def _user(text: str) -> list[Row]:
    return [{"role": "user", "content": text}]


def _assistant(text: str | None) -> list[Row]:
    return [{"role": "assistant", "content": text or ""}]


def _messages(messages: Sequence[Row]) -> list[Row]:
    # Roles and contents only: some chat templates act on further keys, such as tool calls.
    return [{"role": message["role"], "content": message["content"] or ""} for message in messages]
