"""Rows in the forms that trainers read, made batch by batch for `selfreward export --as FORM`.

    conversational  prompt, chosen, rejected as message lists; the score difference is `score_margin` (TRL)
    plain           prompt, chosen, rejected as texts (TRL, OpenRLHF, ms-swift with a column mapping)
    alpaca          instruction, input, chosen, rejected, system, history (LLaMA-Factory 0.8 and later)
    sharegpt        conversations, chosen, rejected as from/value turns (LLaMA-Factory, Axolotl)
    swift           messages that end with the chosen answer, rejected_response (ms-swift)
    unpaired        prompt, completion, label: two rows a pair (TRL's KTO)

and `ift` and `eft` as `messages` (TRL's SFTTrainer; of `eft` the accepted training rows). No form drops a turn: a row
that does not fit is refused, naming the forms that can hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward import tables
from selfreward.errors import InputError
from selfreward.progress import say

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
_BATCH_ROWS = 1_000

Form = Callable[["pa.Table"], "tuple[pa.Schema, Iterable[pa.RecordBatch]]"]


def forms_of(kind: str) -> dict[str, Form]:
    """The forms of a kind of dataset, by the value of `--as`."""
    if kind in ("pairs", "judge_pairs"):
        made = {form: partial(_mapped, form) for form in _ROWS}
        return {"rows": _stored, "conversational": _conversational, **made, "unpaired": _unpaired}
    return {"rows": _stored, "messages": _messages} if kind in ("ift", "eft") else {"rows": _stored}


def _stored(table: pa.Table) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    return table.schema, table.to_batches()


def _conversational(table: pa.Table) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """As stored, with `margin` renamed."""
    # TRL's RewardTrainer subtracts a column named `margin` from its rewards.
    names = ["score_margin" if name == "margin" else name for name in table.column_names]
    return _stored(table.rename_columns(names))


def _mapped(form: str, table: pa.Table) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    schema = _schema(form)

    def batches() -> Iterator[pa.RecordBatch]:
        number = 0
        for batch in table.to_batches(_BATCH_ROWS):
            pairs = [_Pair(form, number + i, row) for i, row in enumerate(batch.to_pylist(), 1)]
            number += len(pairs)
            yield _record_batch([_ROWS[form](pair) for pair in pairs], schema)

    return schema, batches()


def _schema(form: str) -> pa.Schema:
    import pyarrow as pa

    text, turn = pa.string(), pa.struct([("from", pa.string()), ("value", pa.string())])
    turns, pair = _messages_type(), [("chosen", text), ("rejected", text)]
    columns: dict[str, list[tuple[str, pa.DataType]]] = {
        "plain": [("prompt", text), *pair],
        "alpaca": [
            ("instruction", text),
            ("input", text),
            *pair,
            ("system", text),
            ("history", pa.list_(pa.list_(text))),
        ],
        "sharegpt": [("conversations", pa.list_(turn)), ("chosen", turn), ("rejected", turn)],
        "swift": [("messages", turns), ("rejected_response", text)],
        "unpaired": [("prompt", turns), ("completion", turns), ("label", pa.bool_())],
        "messages": [("messages", turns)],
    }
    return pa.schema(columns[form])


def _messages_type() -> pa.DataType:
    return tables.arrow_schema(tables.Pair).field("prompt").type


def _record_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist(rows, schema=schema)


class _Pair:
    """A pair being converted; one that the form cannot hold is refused, naming the row."""

    def __init__(self, form: str, number: int, row: Row) -> None:
        self.prompt: list[Row] = row["prompt"]
        self._form, self._number, self._row = form, number, row

    def answer(self, side: str) -> str:
        """The answer's only turn."""
        turns = self._row[side]
        if len(turns) != 1:
            raise self.refuse(f"{side} of {len(turns)} turns", "conversational")
        return str(turns[0]["content"])

    def refuse(self, what: str, others: str) -> InputError:
        """The error about a row that does not fit."""
        pair_id = self._row.get("pair_id") or self._row.get("judge_pair_id")
        return InputError(
            f"pairs, row {self._number} ({pair_id}): --as {self._form} cannot hold {what}; use --as {others}"
        )


def _plain(pair: _Pair) -> Row:
    if [turn["role"] for turn in pair.prompt] != ["user"]:
        roles = ", ".join(turn["role"] for turn in pair.prompt)
        raise pair.refuse(f"a prompt of the turns {roles}", "conversational, sharegpt or alpaca")
    return {
        "prompt": pair.prompt[0]["content"],
        "chosen": pair.answer("chosen"),
        "rejected": pair.answer("rejected"),
    }


def _alpaca(pair: _Pair) -> Row:
    """The last user turn is the instruction; what comes before is the system text and pairs of turns."""
    has_system = pair.prompt[0]["role"] == "system"
    turns = pair.prompt[has_system:]
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise pair.refuse(f"a prompt of the turns {', '.join(roles)}", "conversational or sharegpt")
    texts = [turn["content"] for turn in turns]
    return {
        "instruction": texts[-1],
        "input": "",
        "chosen": pair.answer("chosen"),
        "rejected": pair.answer("rejected"),
        "system": pair.prompt[0]["content"] if has_system else "",
        "history": [texts[i : i + 2] for i in range(0, len(texts) - 1, 2)],
    }


_FROM = {"system": "system", "user": "human", "assistant": "gpt"}


def _sharegpt(pair: _Pair) -> Row:
    return {
        "conversations": [{"from": _FROM[turn["role"]], "value": turn["content"]} for turn in pair.prompt],
        "chosen": {"from": "gpt", "value": pair.answer("chosen")},
        "rejected": {"from": "gpt", "value": pair.answer("rejected")},
    }


def _swift(pair: _Pair) -> Row:
    chosen = {"role": "assistant", "content": pair.answer("chosen")}
    return {"messages": [*pair.prompt, chosen], "rejected_response": pair.answer("rejected")}


_ROWS: dict[str, Callable[[_Pair], Row]] = {
    "plain": _plain,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "swift": _swift,
}


def _unpaired(table: pa.Table) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Chosen of one pair, then rejected of a pair far away."""
    schema = _schema("unpaired")
    # KTO compares a prompt with the answer of the row before it in the batch, and does not shuffle: no two
    # neighbors may have the same prompt, the first and the last row of a batch included, and each batch needs
    # both labels.
    pairs, labels, good = kto_order(
        table["prompt_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    )
    if not good and table.num_rows:
        say(
            f"{table.num_rows} pairs: too few different prompts for an order in which no row follows one of its own prompt, so "
            "KTO's baseline will be biased; add pairs of other prompts"
        )

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(pairs), _BATCH_ROWS):
            part = slice(start, start + _BATCH_ROWS)
            answers = {
                label: iter(_completions(table, column, pairs[part][labels[part] == label]))
                for label, column in ((True, "chosen"), (False, "rejected"))
            }
            rows = [{**next(answers[label]), "label": label} for label in labels[part].tolist()]
            yield _record_batch(rows, schema)

    return schema, batches()


def kto_order(prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The pair and the label (true: its chosen answer) of each row, and whether the order is good in batches of 2, 4, 8.

    >>> pairs, labels, _ = kto_order(np.arange(4))
    >>> pairs.tolist(), labels.tolist()
    ([0, 2, 1, 3, 2, 0, 3, 1], [True, False, True, False, True, False, True, False])
    """
    n = len(prompts)
    labels = np.tile([True, False], n)
    for shift in sorted(range(2, n), key=lambda shift: abs(shift - n // 2))[:20]:
        pairs = np.column_stack([np.arange(n), (np.arange(n) + shift) % n]).ravel()
        if _fits_kto(prompts[pairs]):
            return pairs, labels, True
    # Three pairs have no such shift, so their order is given explicitly.
    pairs, by_hand = np.array([0, 1, 0, 2, 1, 2]), np.array([True, False, False, True, True, False])
    if n == 3 and _fits_kto(prompts[pairs]):
        return pairs, by_hand, True
    return np.tile(np.arange(n), 2), np.repeat([True, False], n), False


def _fits_kto(prompts: np.ndarray) -> bool:
    for size in (2, 4, 8):
        n_whole = len(prompts) // size * size
        for batches in (prompts[:n_whole].reshape(-1, size), prompts[n_whole:].reshape(1, -1)):
            if (batches == np.roll(batches, 1, axis=1)).any():
                return False
    return True


def _completions(table: pa.Table, column: str, pairs: np.ndarray) -> list[Row]:
    """Prompt and one answer of some pairs."""
    # Contiguous runs are slices of the mapped table; `take` would copy all of it.
    runs = np.split(pairs, np.flatnonzero(np.diff(pairs) != 1) + 1) if len(pairs) else []
    parts = (table.slice(int(run[0]), len(run)).select(["prompt", column]) for run in runs)
    return [
        {"prompt": row["prompt"], "completion": row[column]} for part in parts for row in part.to_pylist()
    ]


def _messages(table: pa.Table) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    """Conversations alone."""
    schema = _schema("messages")
    # Without the other columns: SFTTrainer treats rows with a column `prompt` as another format.
    if "messages" in table.column_names:
        return _stored(table.select(["messages"]))

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table.to_batches(_BATCH_ROWS):
            taught = (row for row in batch.to_pylist() if row["split"] == "train" and row["accepted"])
            turns = ((("user", row["judge_prompt"]), ("assistant", row["target"])) for row in taught)
            rows = [{"messages": [{"role": role, "content": text} for role, text in pair]} for pair in turns]
            yield _record_batch(rows, schema)

    return schema, batches()
