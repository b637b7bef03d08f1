"""What a reader may ask of a table: filters, a search and an order, from the address of a page to conditions in SQL.

    /table/iter1/judgements?f=status:is:truncated&f=score:min:4&q=harbour&sort=-score&page=3

The address is the whole state of a page, so that it can be kept, shared with oneself and walked back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from selfreward.errors import UsageError
from selfreward.sql.queries import quoted

if TYPE_CHECKING:
    import pyarrow as pa

OPERATIONS = {
    "is": "is",
    "not": "is not",
    "min": "at least",
    "max": "at most",
    "has": "contains",
    "hasi": "contains (any case)",
    "null": "is empty",
    "set": "has a value",
}
_ID = re.compile(r"[a-z]{1,8}-[0-9A-Za-z_-]+")


@dataclass(frozen=True)
class Filter:
    """One condition: `status:is:truncated`."""

    column: str
    operation: str
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Filter:
        """From the address. Raises UsageError for an operation that does not exist."""
        column, _, rest = text.partition(":")
        operation, _, value = rest.partition(":")
        if operation not in OPERATIONS:
            raise UsageError(
                f"filter {text[:80]!r}: expected COLUMN:OPERATION:VALUE with one of {', '.join(OPERATIONS)}"
            )
        return cls(column, operation, value)

    def __str__(self) -> str:
        return f"{self.column}:{self.operation}:{self.value}"

    @property
    def said(self) -> str:
        """For a reader."""
        return f"{self.column} {OPERATIONS[self.operation]} {self.value}".rstrip()


@dataclass(frozen=True)
class RowsWanted:
    """Which rows of a table, in which order."""

    filters: tuple[Filter, ...] = ()
    search: str = ""
    sort: str = ""
    descending: bool = False

    def query(self, page: int = 1, at: int | None = None, **other: Any) -> str:
        """As the end of an address; `other` replaces fields of the selection."""
        filters = other.get("filters", self.filters)
        sort, descending = other.get("sort", self.sort), other.get("descending", self.descending)
        parts: list[tuple[str, Any]] = [("f", str(one)) for one in filters]
        parts += [("q", self.search)] if self.search else []
        parts += [("sort", f"{'-' if descending else ''}{sort}")] if sort else []
        parts += [("page", page)] if page != 1 else []
        parts += [] if at is None else [("at", at)]
        return "?" + urlencode(parts)


def selection(values: Sequence[tuple[str, str]]) -> RowsWanted:
    """The selection in an address, or in the form that adds a filter (`column`, `operation`, `value`)."""
    given = dict(values)
    filters = [Filter.parse(value) for name, value in values if name == "f" and value]
    if given.get("column"):
        filters.append(
            Filter.parse(f"{given['column']}:{given.get('operation', 'is')}:{given.get('value', '')}")
        )
    sort = given.get("sort", "")
    return RowsWanted(
        tuple(dict.fromkeys(filters)),
        given.get("q", "").strip(),
        sort.removeprefix("-"),
        sort.startswith("-"),
    )


def condition(
    wanted: RowsWanted, schema: pa.Schema, closed: Sequence[str]
) -> tuple[str, list[Any], list[str]]:
    """The rows that are wanted as an SQL condition, its parameters, and the columns it reads.

    `closed` are columns with a fixed set of values, which a search leaves out.
    """
    parts, parameters, columns = [], [], []
    for one in wanted.filters:
        if one.column not in schema.names:
            raise UsageError(
                f"filter: there is no column {one.column!r}; there are {', '.join(schema.names)}"
            )
        part, values = _part(one, schema.field(one.column).type)
        parts.append(part)
        parameters += values
        columns.append(one.column)
    if wanted.search:
        searched = _searched(wanted.search, schema, closed)
        texts = [f"coalesce(contains({_as_text(n, schema.field(n).type)}, ?), false)" for n in searched]
        parts.append("(" + (" OR ".join(texts) or "false") + ")")
        parameters += [wanted.search] * len(searched)
        columns += searched
    return " AND ".join(parts) or "true", parameters, list(dict.fromkeys(columns))


def _part(one: Filter, kind: pa.DataType) -> tuple[str, list[Any]]:
    name = quoted(one.column)
    if one.operation in ("null", "set"):
        return f"{name} IS {'NOT ' if one.operation == 'set' else ''}NULL", []
    if one.operation in ("has", "hasi"):
        text = _as_text(one.column, kind)
        if one.operation == "hasi":
            return f"coalesce(contains(lower({text}), lower(?)), false)", [one.value]
        return f"coalesce(contains({text}, ?), false)", [one.value]
    value = _value(one, kind)
    if one.operation in ("is", "not"):
        return f"{name} IS {'NOT ' if one.operation == 'is' else ''}DISTINCT FROM ?", [value]
    return f"coalesce({name} {'>=' if one.operation == 'min' else '<='} ?, false)", [value]


def _value(one: Filter, kind: pa.DataType) -> Any:
    """The typed value. UsageError if the column holds no such values."""
    import pyarrow.types as types

    text = one.value.strip()
    try:
        if types.is_boolean(kind):
            return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]
        if types.is_integer(kind):
            return int(text.replace(",", ""))
        if types.is_floating(kind):
            return float(text)
    except (ValueError, KeyError) as error:
        expected = "yes or no" if types.is_boolean(kind) else "a number"
        raise UsageError(f"filter {one.said!r}: {one.column} holds {kind}; expected {expected}") from error
    if not types.is_string(kind):
        raise UsageError(f"filter {one.said!r}: {one.column} holds {kind}; use `contains`")
    return one.value


def _as_text(name: str, kind: pa.DataType) -> str:
    """A column as one text: messages by their contents."""
    import pyarrow.types as types

    if (
        types.is_list(kind)
        and types.is_struct(kind.value_type)
        and kind.value_type.get_field_index("content") >= 0
    ):
        return f"array_to_string([m.content for m in {quoted(name)}], chr(10))"
    if types.is_list(kind) and types.is_string(kind.value_type):
        return f"array_to_string({quoted(name)}, chr(10))"
    return quoted(name) if types.is_string(kind) else f"{quoted(name)}::VARCHAR"


def _searched(needle: str, schema: pa.Schema, closed: Sequence[str]) -> list[str]:
    """The columns of texts; for what looks like an id, the columns of ids."""
    import pyarrow.types as types

    names = [
        field.name
        for field in schema
        if types.is_string(field.type)
        or (types.is_list(field.type) and not types.is_primitive(field.type.value_type))
    ]
    ids = [name for name in names if name.endswith(("_id", "_ids"))]
    # An id is searched for in ids alone, a word in texts alone: each reads half of a large table.
    if _ID.fullmatch(needle) and ids:
        return ids
    return [name for name in names if name not in ids and name not in closed]
