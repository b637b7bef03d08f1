"""Rows as Arrow tables and back, and the columns of a row class: type, NULL or not, accepted values."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row")


@cache
def arrow_schema(row_class: type) -> pa.Schema:
    """The Arrow schema of a row class, column order as written in the class."""
    import pyarrow as pa

    return pa.schema(_arrow_fields(row_class))


@cache
def required_columns(row_class: type) -> frozenset[str]:
    """The columns that may not be NULL: those whose annotation does not admit None."""
    # By annotation, not by Arrow's nullability flag, which `datasets` drops.
    return frozenset(name for name, hint in _hints(row_class).items() if _without_none(hint) is hint)


@cache
def accepted_values(row_class: type) -> dict[str, tuple[str, ...]]:
    """The columns with a closed set of values, and the values."""
    hints = {name: _without_none(hint) for name, hint in _hints(row_class).items()}
    return {name: typing.get_args(hint) for name, hint in hints.items() if _is_closed(hint)}


def to_table(rows: Iterable[Any], row_class: type) -> pa.Table:
    """Rows of one class as an Arrow table with the class's full schema."""
    import pyarrow as pa

    rows = list(rows)
    columns = {field.name: [_plain(getattr(row, field.name)) for row in rows] for field in fields(row_class)}
    # Without the schema, a column that is all NULL would get the type null.
    return pa.table(columns, schema=arrow_schema(row_class))


def from_table(table: pa.Table, row_class: type[Row]) -> list[Row]:
    """The rows of a table as instances of their class; extra columns are ignored."""
    names = list(_hints(row_class))
    return [_build(row_class, row) for row in table.select(names).to_pylist()]


def _build(row_class: type[Row], values: dict[str, Any]) -> Row:
    hints = _hints(row_class)
    for name, value in values.items():
        # A list of dictionaries holds nested rows (messages); a list of texts stays as it is.
        if isinstance(value, list) and value and isinstance(value[0], dict):
            (inner,) = typing.get_args(hints[name])
            values[name] = [inner(**item) for item in value]
    return row_class(**values)


def _plain(value: Any) -> Any:
    """Nested rows (messages) as dictionaries; scalars as they are."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value


def _hints(row_class: Any) -> dict[str, Any]:
    return typing.get_type_hints(row_class)


def _without_none(hint: Any) -> Any:
    """`T` of `T | None`; other hints unchanged."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
    return hint


def _is_closed(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _arrow_fields(row_class: type) -> list[pa.Field]:
    import pyarrow as pa

    hints = _hints(row_class)
    return [
        pa.field(field.name, _arrow_type(_without_none(hints[field.name]))) for field in fields(row_class)
    ]


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in scalars or _is_closed(hint):
        return scalars.get(hint, pa.string())
    if typing.get_origin(hint) is list:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    return pa.struct(_arrow_fields(hint))
