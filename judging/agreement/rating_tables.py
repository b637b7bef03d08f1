"""Tables of human ratings and judge scores: checked and joined before anything is measured.

    {"prompt_id": "p1", "response_id": "r1", "human_rank": 0, "score": 4.333, "scores": [4, 5, 4], "response": "…"}

Needed: `prompt_id`, `human_rank` (0 is best) or `human_score` (higher is better), `score` (NULL: unscored).
Used if present: `response_id` or `candidate_id`, `scores` (the single samples), `n_chars`, `response`.
Other columns are kept unchanged.

Promised: a bad cell ends in one sentence naming file, row and column, and no row is dropped or repaired. Rows count
from 1 without a header; in JSON lines the row is the line. NULL (JSON null, an empty CSV cell) is unscored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Columns = dict[str, list[Any]]
HUMAN_COLUMNS = ("human_rank", "human_score")
ID_COLUMNS = ("response_id", "candidate_id")


def rating_columns(rows: pd.DataFrame | pa.Table) -> Columns:
    """The checked columns of a table in memory; raises InputError as `read_rows` does."""
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        return check_ratings(rows.to_pydict(), where="table")
    # pandas cannot distinguish NULL from NaN, so in a DataFrame NaN is read as NULL.
    columns = {str(name): [_null_if_nan(cell) for cell in rows[name].tolist()] for name in rows.columns}
    return check_ratings(columns, where="table")


def check_ratings(
    columns: Mapping[str, list[Any]], *, where: str, row_numbers: Sequence[int] | None = None
) -> Columns:
    """Columns with ids as text and numbers as floats, or InputError for the first thing that is wrong."""
    present = [name for name in HUMAN_COLUMNS if name in columns]
    missing = [name for name in ("prompt_id", "score") if name not in columns]
    if missing or not present:
        wanted = missing[0] if missing else "human_rank (0 is best) or human_score (higher is better)"
        raise InputError(f"{where} has no column {wanted}; it has: {', '.join(columns) or 'none'}.")
    # `judge parse` keeps a column score that the file brought: only its owner knows whose scores those are.
    if "parsed_score" in columns:
        raise InputError(
            f"{where} has the column score of the original file and parsed_score, which `judge parse` read; rename the "
            "judge's to score, people's to human_score, and leave out any other"
        )
    if not columns["prompt_id"]:
        raise InputError(f"{where} has no rows; agreement needs responses that people ranked.")
    checker = _Checker(where, row_numbers or range(1, len(columns["prompt_id"]) + 1))
    human = present[0]
    checked = dict(columns)
    checked["prompt_id"] = checker.each("prompt_id", columns["prompt_id"], _identifier)
    checked[human] = checker.each(human, columns[human], _required_number)
    checked["score"] = checker.each("score", columns["score"], _number_or_null)
    if "scores" in columns:
        checked["scores"] = checker.each("scores", columns["scores"], _numbers_or_nulls)
    if "n_chars" in columns:
        checked["n_chars"] = checker.each("n_chars", columns["n_chars"], _required_number)
    if "response" in columns:
        checker.each("response", columns["response"], _text)
    for name in ID_COLUMNS:
        if name in columns:
            checked[name] = checker.each(name, columns[name], _identifier)
            checker.unique(checked, ("prompt_id", name))
    checker.comparable(checked["prompt_id"], checked[human], human)
    return checked


def join_rows(
    left: pd.DataFrame,
    right: pd.DataFrame,
    on: str | Sequence[str],
    *,
    left_name: str = "the left table",
    right_name: str = "the right table",
) -> pd.DataFrame:
    """Rows of two tables side by side, one to one: human ranks from one, judge scores from the other.

    Every row must have a partner, and a column in both tables must have equal cells; ids match as text. Anything
    else is an InputError with the counts and the first offender.
    """
    keys = [on] if isinstance(on, str) else list(on)
    for name, table in ((left_name, left), (right_name, right)):
        absent = [key for key in keys if key not in table.columns]
        if absent:
            raise InputError(
                f"{name} has no column {absent[0]} to join on; it has: {', '.join(table.columns)}."
            )
    left_rows = _key_rows(left, keys, left_name)
    right_rows = _key_rows(right, keys, right_name)
    # No outer join: a response that was never judged is not the same as one that the judge left unscored.
    _all_found(left_rows, right_rows, keys, left_name, right_name)
    _all_found(right_rows, left_rows, keys, right_name, left_name)
    partner = right.iloc[[right_rows[key] for key in left_rows]].reset_index(drop=True)
    joined = left.reset_index(drop=True).copy()
    for name in partner.columns:
        if name in keys:
            continue
        if name in joined.columns:
            _same_cells(joined[name].tolist(), partner[name].tolist(), name, left_name, right_name)
        joined[name] = partner[name]
    return joined


class _Checker:
    """Checks columns cell by cell; knows how to name the place of the first bad one."""

    def __init__(self, where: str, row_numbers: Sequence[int]) -> None:
        self.where = where
        self.row_numbers = row_numbers

    def each(self, column: str, cells: Sequence[Any], check: Callable[[Any], Any]) -> list[Any]:
        """`check` of every cell; it raises ValueError with what was found and what was expected."""
        checked = []
        for row, cell in zip(self.row_numbers, cells, strict=True):
            try:
                checked.append(check(cell))
            except ValueError as error:
                raise InputError(f"{self.where}, row {row}, column {column}: {error}.") from None
        return checked

    def unique(self, columns: Mapping[str, list[Any]], names: tuple[str, str]) -> None:
        first: dict[tuple[Any, ...], int] = {}
        for row, key in zip(
            self.row_numbers, zip(*(columns[name] for name in names), strict=True), strict=True
        ):
            if key in first:
                raise InputError(
                    f"{self.where}, row {row}, column {names[1]}: {key[1]!r} of prompt {key[0]!r} stands in row "
                    f"{first[key]} already; a response may occur once (its samples go into `scores`)."
                )
            first[key] = row

    def comparable(self, prompts: Sequence[str], human: Sequence[float], column: str) -> None:
        """At least one prompt must have two responses with different human ratings."""
        ratings: dict[str, list[float]] = {}
        first_row: dict[str, int] = {}
        for row, prompt, rating in zip(self.row_numbers, prompts, human, strict=True):
            ratings.setdefault(prompt, []).append(rating)
            first_row.setdefault(prompt, row)
        several = [prompt for prompt, values in ratings.items() if len(values) > 1]
        if not several:
            raise InputError(
                f"{self.where}, row {self.row_numbers[0]}, column prompt_id: {prompts[0]!r} has one response only, and "
                f"so has every one of the {len(ratings)} prompts; agreement compares responses to the same prompt."
            )
        if all(len(set(ratings[prompt])) == 1 for prompt in several):
            raise InputError(
                f"{self.where}, row {first_row[several[0]]}, column {column}: people rated all responses to prompt "
                f"{several[0]!r} the same, and those to every other prompt; without one ordered pair there is "
                f"nothing to agree with."
            )


def _identifier(cell: Any) -> str:
    if (
        cell is None
        or isinstance(cell, bool | list | dict)
        or cell == ""
        or (isinstance(cell, float) and cell != cell)
    ):
        raise ValueError(f"found {cell!r:.60} where an id was expected")
    return str(cell)


def _number_or_null(cell: Any) -> float | None:
    if cell is None:
        return None
    if isinstance(cell, str):
        raise ValueError(f"found the text {cell!r:.60} where a number was expected (or NULL for unscored)")
    try:
        # `true` would pass as 1.0.
        number = math.nan if isinstance(cell, bool | list | dict) else float(cell)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    # NaN in a file is what a broken average looks like; read as unscored, it would hide the fault.
    if not math.isfinite(number):
        raise ValueError(
            f"found {cell!r:.60} where a finite number was expected (unscored is NULL, never NaN)"
        )
    return number


def _required_number(cell: Any) -> float:
    if (number := _number_or_null(cell)) is None:
        raise ValueError("found nothing where a number was expected; rate the response or take its row out")
    return number


def _numbers_or_nulls(cell: Any) -> list[float | None]:
    if hasattr(cell, "tolist"):
        cell = [_null_if_nan(value) for value in cell.tolist()]
    if not isinstance(cell, list | tuple):
        raise ValueError(f"found {cell!r:.60} where a list of scores was expected, one per sample")
    return [_number_or_null(value) for value in cell]


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"found {cell!r:.60} where the text of the response was expected")
    return cell


def _null_if_nan(cell: Any) -> Any:
    """None for the ways in which pandas writes a missing cell (NaN, <NA>)."""
    import pandas as pd

    return None if cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)) else cell


def _key_rows(table: pd.DataFrame, keys: list[str], name: str) -> dict[tuple[str, ...], int]:
    """Position of each key; a key that occurs twice cannot be joined one to one."""
    rows: dict[tuple[str, ...], int] = {}
    for row, key in enumerate(zip(*(table[column].astype(str) for column in keys), strict=True)):
        if key in rows:
            raise InputError(
                f"{name}, row {row + 1}, column {', '.join(keys)}: {_shown(key)} stands in row {rows[key] + 1} "
                f"already; a join needs each once."
            )
        rows[key] = row
    return rows


def _all_found(
    rows: Mapping[tuple[str, ...], int],
    others: Mapping[tuple[str, ...], int],
    keys: list[str],
    name: str,
    other: str,
) -> None:
    lonely = [key for key in rows if key not in others]
    if lonely:
        raise InputError(
            f"{name}, row {rows[lonely[0]] + 1}, column {', '.join(keys)}: {_shown(lonely[0])} is the first of "
            f"{len(lonely)} of {len(rows)} rows without a partner among the {len(others)} rows of {other}."
        )


def _same_cells(left: list[Any], right: list[Any], column: str, left_name: str, right_name: str) -> None:
    for row, (one, other) in enumerate(zip(left, right, strict=True), start=1):
        both_null = _null_if_nan(one) is None and _null_if_nan(other) is None
        if not both_null and one != other:
            raise InputError(
                f"{left_name}, row {row}, column {column}: {one!r:.60} where {right_name} has {other!r:.60}; "
                f"leave the column out of one of the two."
            )


def _shown(key: tuple[str, ...]) -> str:
    return ", ".join(repr(part) for part in key)
