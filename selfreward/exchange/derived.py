"""Columns of a file of a user's rows that are made from others: the prompt of a chat, a pair whose answers begin with the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selfreward import chats
from selfreward.exchange.own_rows import Row
from selfreward.reading.columns import Place

if TYPE_CHECKING:
    import pyarrow as pa


def last_turns(known: Mapping[str, pa.Array], place: Place) -> dict[str, pa.Array]:
    """The prompts of chats: the text of the last turn, which a column `prompt` may say as well."""
    import pyarrow as pa

    turns = known[chats.COLUMN].to_pylist()
    said = known["prompt"].to_pylist() if "prompt" in known else [None] * len(turns)
    texts = []
    for index, (chat, text) in enumerate(zip(turns, said, strict=True)):
        if chat is None and text is None:
            raise place.refuse(
                index, "is NULL, and there is no prompt either; write each row as messages, or as a prompt"
            )
        problem = chats.problem_with(chat) if chat else None
        if problem:
            raise place.refuse(index, problem)
        if chat and text is not None and text != chat[-1]["content"]:
            raise place.refuse(
                index,
                f"ends with {chat[-1]['content']!r:.40}, but prompt says {text!r:.40}; leave one of them out",
            )
        texts.append(chat[-1]["content"] if chat else text)
    return {"prompt": pa.array(texts, pa.string())}


class Cells(dict[str, list[Any]]):
    """Columns as Python values, converted when one is read: most rules read none."""

    def __init__(self, columns: Mapping[str, pa.Array]) -> None:
        self._columns = columns

    def has(self, column: str) -> bool:
        """Whether the file has it."""
        return column in self._columns

    def __missing__(self, column: str) -> list[Any]:
        values: list[Any] = self._columns[column].to_pylist()
        self[column] = values
        return values


class CellRow(Row):
    """One row of them."""

    def __init__(self, cells: Cells, index: int) -> None:
        self._cells, self._index = cells, index

    def __missing__(self, column: str) -> Any:
        return self._cells[column][self._index]

    def get(self, column: str, default: Any = None) -> Any:
        # `dict.get` does not ask `__missing__`.
        return self[column] if column in self or self._cells.has(column) else default


def one_turn_answers(known: Mapping[str, pa.Array], place: Place) -> dict[str, pa.Array]:
    """Pairs whose chosen and rejected begin with the prompt, as in many published sets: strip the prompt."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sides = ("chosen", "rejected")

    def first_role(values: pa.Array) -> pa.Array:
        return pc.struct_field(pc.list_element(values.drop_null(), 0), "role")

    answers = all(
        pc.all(pc.equal(first_role(known[side]), "assistant"), min_count=0).as_py() for side in sides
    )
    if "prompt" in known and answers:
        return {}
    prompts = known["prompt"].to_pylist() if "prompt" in known else [None] * len(known["chosen"])
    parts: dict[str, list[Any]] = {"prompt": [], "chosen": [], "rejected": []}
    cells = zip(prompts, known["chosen"].to_pylist(), known["rejected"].to_pylist(), strict=True)
    for index, (prompt, chosen, rejected) in enumerate(cells):
        if chosen is None or rejected is None:
            raise place.refuse(index, "or its partner is NULL; a pair needs chosen and rejected")
        # Without a prompt, it is all turns before the last one.
        before = prompt or chosen[:-1]
        answers_of = [
            side[len(before) :] if side[: len(before)] == before else side for side in (chosen, rejected)
        ]
        if not before or any(not turns or turns[0]["role"] != "assistant" for turns in answers_of):
            raise place.refuse(
                index,
                "has no prompt: expected a column prompt, or chosen and rejected that begin with the same "
                "turns and end with the assistant's",
            )
        for column, value in zip(parts, (before, *answers_of), strict=True):
            parts[column].append(value)
    return {column: pa.array(values, known["chosen"].type) for column, values in parts.items()}
