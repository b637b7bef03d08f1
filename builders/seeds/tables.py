"""Ranked replies in a table of any form, as `Seed` rows and a funnel.

    {"prompt": "Why is …?", "response": "Because …", "score": 4.5}     one reply a row: `rank` (0 best) or `score`
    {"prompt": "Why is …?", "chosen": "Because …", "rejected": "No."}  one preference a row: ranks 0 and 1

`seeds.columns` maps our names to the table's. Equal prompts are one prompt. A prompt or reply may be a list with one
message; a longer conversation is counted as `not_first_turn`. A reply without a rank or with a score of NaN stays, unranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selfreward.config.data import SEED_ROLES
from selfreward.errors import InputError
from selfreward.reading.messages import as_messages, only_turn
from selfreward.reading.oasst import SeedReading, number_of, reason_to_leave_out, require_ranks, text_of
from selfreward.tables import Seed, row_id

Record = dict[str, Any]


def looks_like_table(record: Record, columns: dict[str, str]) -> bool:
    """Whether a record has a prompt and a reply, or a preference, under our names or under those of `columns`."""
    prompt, response = columns.get("prompt", "prompt"), columns.get("response", "response")
    return bool(columns) or (
        prompt in record and (response in record or {"chosen", "rejected"} <= record.keys())
    )


def read_table(
    lines: Iterable[tuple[int, Record]], columns: dict[str, str], source: str, lang: str, where: str
) -> SeedReading:
    """Rows of any table, numbered; `columns` maps our names to the table's."""
    names = {role: columns.get(role, role) for role in SEED_ROLES}
    records = list(lines)
    if not records:
        raise InputError(f"{where}: has no rows")
    present = {name for _, record in records for name in record}
    if {"chosen", "rejected"} <= present and names["response"] not in present:
        records = list(_preferences(records, names))
        present |= {names["response"], names["rank"]}
    _require_columns(present, names, columns, where)
    ranks = _ranks(records, names, names["rank"] if names["rank"] in present else names["score"], where)
    # Many tables name a reply by its model: such ids are unique only within a prompt.
    ids_repeat = _ids_repeat_across_prompts(records, names)
    reading = SeedReading()
    for index, (number, record) in enumerate(records):
        place = f"{where}: row {number}"
        prompt, turns = _prompt(record.get(names["prompt"]), place, names["prompt"])
        prompt_id = _prompt_id(record, names)
        response_id = str(_given(record.get(names["response_id"])) or f"{prompt_id}-{index}")
        seed = Seed(
            seed_id=f"{prompt_id}-{response_id}" if ids_repeat else response_id,
            prompt_id=prompt_id,
            prompt=prompt,
            response=_response(record.get(names["response"]), place, names["response"]),
            human_rank=ranks[index],
            quality=number_of(record.get(names["quality"]), place, names["quality"]),
            lang=text_of(record.get(names["lang"]), place, names["lang"]) or lang,
            judgement=text_of(record.get(names["judgement"]), place, names["judgement"]) or None,
            source=source,
        )
        reading.take(seed, "not_first_turn" if turns > 1 else reason_to_leave_out(seed, {}, {}, lang))
    require_ranks(reading, where)
    return reading


def _preferences(records: list[tuple[int, Record]], names: dict[str, str]) -> Iterator[tuple[int, Record]]:
    for number, record in records:
        for rank, side in enumerate(("chosen", "rejected")):
            yield number, {**record, names["response"]: record.get(side), names["rank"]: rank}


def _require_columns(present: set[str], names: dict[str, str], columns: dict[str, str], where: str) -> None:
    shown = ", ".join(sorted(map(str, present)))
    for role in ("prompt", "response"):
        if names[role] not in present:
            raise InputError(
                f"{where}: has no column {names[role]!r} for {role}; its columns are {shown}. "
                f"Name it with seeds.columns.{role}"
            )
    for role, name in columns.items():
        if name not in present:
            raise InputError(
                f"{where}: has no column {name!r}, which seeds.columns.{role} names; its columns are {shown}"
            )
    if names["rank"] not in present and names["score"] not in present:
        raise InputError(
            f"{where}: has neither a column {names['rank']!r} nor {names['score']!r}; name the one that ranks the "
            "replies with seeds.columns.rank (0 best) or seeds.columns.score (higher is better)"
        )


def _ranks(
    records: list[tuple[int, Record]], names: dict[str, str], column: str, where: str
) -> list[int | None]:
    """Ranks as given, or from scores: 0 for a prompt's highest score, equal scores share a rank."""
    values = [number_of(record.get(column), f"{where}: row {number}", column) for number, record in records]
    prompts = [str(record.get(names["prompt"])) for _, record in records]
    by_prompt: dict[str, set[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        if value is not None:
            by_prompt.setdefault(prompt, set()).add(value)
    # Ranks count up and scores count down; both become dense ranks from 0.
    order = {
        prompt: {value: rank for rank, value in enumerate(sorted(found, reverse=column != names["rank"]))}
        for prompt, found in by_prompt.items()
    }
    return [
        None if value is None else order[prompt][value] for prompt, value in zip(prompts, values, strict=True)
    ]


def _ids_repeat_across_prompts(records: list[tuple[int, Record]], names: dict[str, str]) -> bool:
    """Whether one reply id occurs under several prompts."""
    first: dict[str, str] = {}
    for _, record in records:
        if (response_id := _given(record.get(names["response_id"]))) is not None:
            prompt_id = _prompt_id(record, names)
            if first.setdefault(str(response_id), prompt_id) != prompt_id:
                return True
    return False


def _prompt_id(record: Record, names: dict[str, str]) -> str:
    given = _given(record.get(names["prompt_id"]))
    return str(given) if given is not None else row_id("q", _shown(record.get(names["prompt"])))


def _shown(prompt: Any) -> str:
    try:
        return only_turn(prompt, "user")
    except ValueError:
        # Good enough for an id: `_prompt` reports the cell with its row.
        return str(prompt)


def _given(value: Any) -> Any:
    # `value != value` holds only for NaN, as pandas and Parquet write a missing value.
    return None if value is None or value == "" or value != value else value


def _prompt(value: Any, where: str, column: str) -> tuple[str, int]:
    """The prompt's text and its number of turns."""
    if not isinstance(value, list):
        return text_of(value, where, column), 1
    try:
        turns = as_messages(value)
        return (only_turn(value, "user"), 1) if len(turns) == 1 else (turns[-1]["content"], len(turns))
    except ValueError as error:
        raise InputError(f"{where}: column {column!r}: {error}") from error


def _response(value: Any, where: str, column: str) -> str:
    if not isinstance(value, list):
        return text_of(value, where, column)
    try:
        return only_turn(value, "assistant")
    except ValueError as error:
        raise InputError(f"{where}: column {column!r}: {error}") from error
