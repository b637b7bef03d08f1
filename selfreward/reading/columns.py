"""Users' cells as Arrow columns of a given type: converted if lossless, refused otherwise.

Nothing else becomes a text, and a text never becomes a list; 3.0 is a whole number, 3.5 is not; NaN is not a value.
In a CSV, which has only texts, numbers and true/false are parsed, and lists are the JSON that `export` writes.
A column of messages also accepts from/value turns, and with `role` a text as one turn of that role.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.reading.messages import as_messages

if TYPE_CHECKING:
    import pyarrow as pa

# With `3.` and `3.0`, which spreadsheets write for whole numbers.
_INTEGER = re.compile(r"[+-]?[0-9]+(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Place:
    """The cells' location, for messages: a file, a column and the number of each row."""

    file: str
    column: str
    numbers: Sequence[int]

    def refuse(self, index: int, what: str) -> InputError:
        """The error about one cell."""
        return InputError(f"{self.file}: row {self.numbers[index]}: column {self.column!r} {what}")


def to_column(
    cells: pa.Array | list[Any],
    kind: pa.DataType,
    place: Place,
    *,
    from_csv: bool = False,
    role: str | None = None,
) -> pa.Array:
    """The cells as an array of `kind`. Raises InputError for the first that does not fit."""
    import pyarrow as pa

    if isinstance(cells, pa.Array):
        if (column := _as_it_is(cells, kind)) is not None:
            return column
        cells = _values(cells, place)
    elif pa.types.is_list(kind) and (column := _whole_lists(cells, kind)) is not None:
        return column
    convert = _converter(kind, from_csv, role)
    # Most columns have exact types already; comparing the set of types is much faster than converting.
    if set(map(type, cells)) - {type(None)} <= _EXACT.get(str(kind), frozenset()):
        values = cells
    else:
        values = []
        for index, cell in enumerate(cells):
            try:
                values.append(None if cell is None else convert(cell))
            except (ValueError, RecursionError) as error:
                raise place.refuse(index, str(error)) from error
    try:
        column = pa.array(values, kind)
    except (UnicodeEncodeError, OverflowError, pa.ArrowException) as error:
        raise _bad_cell(values, kind, place) from error
    _refuse_nan(column, place)
    return column


def extra_column(cells: pa.Array | list[Any], kind: pa.DataType | None, place: Place) -> pa.Array:
    """An extra column: as stored, or with the type of its JSON values."""
    import pyarrow as pa

    if isinstance(cells, pa.Array):
        kind = kind or (cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type)
        column = cells.cast(kind)
    else:
        try:
            column = pa.array(cells, kind)
        except (UnicodeEncodeError, OverflowError, pa.ArrowException) as error:
            raise _bad_cell(cells, kind, place) from error
    _refuse_nan(column, place)
    return column


def _bad_cell(values: list[Any], kind: pa.DataType | None, place: Place) -> InputError:
    """Find the value that Arrow rejects without naming it."""
    import pyarrow as pa

    # Each value alone; if all of them pass, only their mixture fails.
    for index, value in enumerate(values):
        try:
            pa.array([value], kind)
        except UnicodeEncodeError:
            return place.refuse(index, "holds half of a surrogate pair; expected valid Unicode text")
        except (OverflowError, pa.ArrowException):
            return place.refuse(
                index, f"holds {value!r:.60}, expected {kind or 'a number of 64 bits or a text'}"
            )
    return InputError(
        f"{place.file}: column {place.column!r} mixes values of different types; give it one type"
    )


def _as_it_is(cells: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Convert Arrow columns whose cells need no check; None for others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    given = cells.type.value_type if types.is_dictionary(cells.type) else cells.type
    if types.is_null(given):
        return pa.nulls(len(cells), kind)
    texts = types.is_string(given) or types.is_large_string(given) or types.is_string_view(given)
    same_nature = (
        (types.is_string(kind) and texts)
        or (types.is_int64(kind) and types.is_signed_integer(given))
        or (types.is_boolean(kind) and types.is_boolean(given))
    )
    if same_nature:
        return cells.cast(kind)
    numbers = types.is_float32(given) or types.is_float64(given)
    if types.is_float64(kind) and numbers and not pc.any(pc.is_nan(cells)).as_py():
        return cells.cast(kind)
    return cells if given == kind and types.is_list(kind) and _is_whole_list(cells) else None


def _whole_lists(cells: list[Any], kind: pa.DataType) -> pa.Array | None:
    """Lists of texts, or of messages with our keys and roles, as nearly all are; None if a cell needs a closer look."""
    import pyarrow as pa

    lists = [cell for cell in cells if cell is not None]
    if set(map(type, lists)) != {list}:
        return None
    parts = list(itertools.chain.from_iterable(lists))
    # Arrow would leave out keys that it does not know.
    if pa.types.is_struct(kind.value_type) and not (
        set(map(type, parts)) == {dict} and set(map(len, parts)) == {2}
    ):
        return None
    try:
        column = pa.array(cells, kind)
    except (UnicodeEncodeError, OverflowError, pa.ArrowException):
        return None
    return column if _is_whole_list(column) else None


def _is_whole_list(cells: pa.Array) -> bool:
    """A list column without a NULL inside, and of messages with known roles."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inner = cells.flatten()
    if not pa.types.is_struct(inner.type):
        return bool(inner.null_count == 0)
    roles, texts = inner.field("role"), inner.field("content")
    known = pc.is_in(roles, pa.array(["system", "user", "assistant"]))
    lengths = pc.list_value_length(cells)
    return bool(
        inner.null_count + texts.null_count == 0
        and pc.all(known, min_count=0).as_py()
        and pc.min(lengths).as_py() != 0
    )


def _values(cells: pa.Array, place: Place) -> list[Any]:
    try:
        values: list[Any] = cells.to_pylist()
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"{place.file}: rows from {place.numbers[0]}: column {place.column!r} holds a value that cannot be read ({error})"
        ) from error
    return values


def _refuse_nan(column: pa.Array, place: Place) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        # NaN means missing in pandas, but ranks above every number in DuckDB: only NULL is accepted.
        found = pc.index(pc.is_finite(column), False).as_py()
        if found >= 0:
            shown = column[found].as_py()
            raise place.refuse(found, f"holds {shown}, expected a number; leave out (null) what has no value")


_EXACT = {"string": frozenset({str}), "int64": frozenset({int}), "double": frozenset({int, float}),
          "bool": frozenset({bool})}  # fmt: skip


def _converter(kind: pa.DataType, from_csv: bool, role: str | None) -> Callable[[Any], Any]:
    import pyarrow as pa

    if pa.types.is_list(kind):
        messages = pa.types.is_struct(kind.value_type)
        return lambda cell: _messages(cell, role) if messages else _texts(cell, from_csv)
    scalar = {"string": _text, "int64": _integer, "double": _number, "bool": _flag}[str(kind)]
    return lambda cell: scalar(cell, from_csv)


def _text(cell: Any, from_csv: bool) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"holds {cell!r:.60}, expected a text (in quotes)")
    return cell


def _integer(cell: Any, from_csv: bool) -> int:
    if from_csv and isinstance(cell, str) and _INTEGER.fullmatch(cell):
        return int(cell.partition(".")[0])
    whole = isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer())
    # True is an int in Python, but not a number in a user's table.
    if isinstance(cell, bool) or not whole:
        raise ValueError(f"holds {cell!r:.60}, expected a whole number")
    return int(cell)


def _number(cell: Any, from_csv: bool) -> float:
    if from_csv and isinstance(cell, str) and _NUMBER.fullmatch(cell):
        return float(cell)
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not math.isfinite(cell):
        hint = "; leave out (null) what has no value" if isinstance(cell, float) else ""
        raise ValueError(f"holds {cell!r:.60}, expected a number{hint}")
    return float(cell)


def _flag(cell: Any, from_csv: bool) -> bool:
    if from_csv and isinstance(cell, str) and cell.lower() in _FLAGS:
        return _FLAGS[cell.lower()]
    if not isinstance(cell, bool):
        raise ValueError(f"holds {cell!r:.60}, expected true or false")
    return cell


def _texts(cell: Any, from_csv: bool) -> list[str]:
    value = _json(cell) if from_csv and isinstance(cell, str) else cell
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        form = ' written as JSON (["…", "…"])' if from_csv else ""
        raise ValueError(f"holds {cell!r:.60}, expected a list of texts{form}")
    return value


def _messages(cell: Any, role: str | None) -> list[dict[str, str]]:
    """A JSON list of messages, as `export` writes to CSV, is parsed; any other text is one turn of `role`."""
    value = cell
    if isinstance(cell, str):
        parsed = _json(cell) if cell.lstrip().startswith("[") else None
        is_list = isinstance(parsed, list) and bool(parsed) and all(isinstance(turn, dict) for turn in parsed)
        value = parsed if is_list else [{"role": role, "content": cell}] if role else cell
    try:
        return as_messages(value)
    except ValueError as error:
        raise ValueError(f"is not a conversation: {error}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
