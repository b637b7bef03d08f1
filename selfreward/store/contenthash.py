"""`content_sha256`: a hash of a table's logical rows, independent of how they were written.

Shard size, record batches, writer version, column order and machine do not change it; any change to a cell, type,
column name or the row order does. Specification with a worked example: docs/content-hash.md; a second
implementation, written from that page, is tests/helpers/content_hash_reference.py.

In short: every column is a few byte streams (validity, lengths, values), each stream has its own SHA-256, and
the result is the SHA-256 of a canonical JSON tree of them. Streams ignore batch boundaries, so chunking does not
matter; no Python objects are built, so hashing runs at the speed of SHA-256.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from selfreward.errors import InputError
from selfreward.store.sealed import digest

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "selfreward-rows-1"
# Nesting of lists and structs. Deeper types would be published here and then fail in the Parquet export.
MAX_DEPTH = 24


class ContentHasher:
    """Feed record batches in row order, then ask for `hexdigest()`.

    InputError if a column's type cannot be stored, or if two columns have the same name.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.n_rows = 0
        self._schema = schema
        _refuse_twins(schema.names, "the table")
        self._columns = {field.name: _node(field.type, field.name) for field in schema}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of one batch; InputError unless it has the names and types given at the start."""
        if not batch.schema.equals(self._schema):
            raise InputError(
                f"rows from {self.n_rows:,} on have other columns than those before: found {batch.schema.names} of "
                f"{batch.schema.types}, expected {self._schema.names} of {self._schema.types}"
            )
        self.n_rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._columns[name].feed(column)

    def hexdigest(self) -> str:
        """The content hash of all rows so far, 64 hex digits."""
        columns = [[name, self._columns[name].described()] for name in sorted(self._columns)]
        return digest({"format": FORMAT, "rows": self.n_rows, "columns": columns})


def content_sha256(table: pa.Table) -> str:
    """The content hash of a whole table."""
    hasher = ContentHasher(table.schema)
    for batch in table.to_batches():
        hasher.update(batch)
    return hasher.hexdigest()


def schema_names(schema: pa.Schema) -> dict[str, str]:
    """Column -> readable type: `list<struct<role: string, content: string>>`."""
    return {field.name: _readable(field.type) for field in schema}


def _readable(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        inner = [kind.field(i) for i in range(kind.num_fields)]
        return f"struct<{', '.join(f'{field.name}: {_readable(field.type)}' for field in inner)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{'list' if pa.types.is_list(kind) else 'large_list'}<{_readable(kind.value_type)}>"
    return type_name(kind)


class _Node(Protocol):
    """The streams of a column, or of the values inside a list or struct."""

    def feed(self, array: pa.Array) -> None: ...

    def described(self) -> list[Any]: ...


class _Leaf:
    """Numbers, booleans, dates: validity of every slot, then the values of those that are not NULL."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._validity = hashlib.sha256()
        self._values = hashlib.sha256()

    def feed(self, array: pa.Array) -> None:
        self._values.update(_fixed_width_bytes(_valid(array, self._validity)))

    def described(self) -> list[Any]:
        return [self._kind, self._validity.hexdigest(), self._values.hexdigest()]


class _Text:
    """Strings and binaries: lengths in bytes, then all bytes one after the other."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()

    def feed(self, array: pa.Array) -> None:
        import pyarrow.compute as pc

        array = _valid(array, self._validity)
        self._lengths.update(_int64_bytes(pc.binary_length(array)))
        self._values.update(_text_bytes(array))

    def described(self) -> list[Any]:
        return [
            self._kind,
            self._validity.hexdigest(),
            self._lengths.hexdigest(),
            self._values.hexdigest(),
        ]


class _List:
    """Lists: how many items each has, then the items of all of them as one column."""

    def __init__(self, kind: str, item: _Node) -> None:
        self._kind = kind
        self._item = item
        self._validity = hashlib.sha256()
        self._lengths = hashlib.sha256()

    def feed(self, array: pa.Array) -> None:
        import pyarrow.compute as pc

        array = _valid(array, self._validity)
        self._lengths.update(_int64_bytes(pc.list_value_length(array)))
        self._item.feed(array.flatten())

    def described(self) -> list[Any]:
        return [
            self._kind,
            self._validity.hexdigest(),
            self._lengths.hexdigest(),
            self._item.described(),
        ]


class _Struct:
    """Structs: each field as a column of the slots that are not NULL, in the order of the type."""

    def __init__(self, fields: list[tuple[str, _Node]]) -> None:
        self._fields = fields
        self._validity = hashlib.sha256()

    def feed(self, array: pa.Array) -> None:
        array = _valid(array, self._validity)
        for i, (_, node) in enumerate(self._fields):
            node.feed(array.field(i))

    def described(self) -> list[Any]:
        fields = [[name, node.described()] for name, node in self._fields]
        return ["struct", self._validity.hexdigest(), fields]


def _node(kind: pa.DataType, where: str, depth: int = 0) -> _Node:
    import pyarrow as pa

    if depth > MAX_DEPTH:
        raise InputError(
            f"{where[:60]}: is nested more than {MAX_DEPTH} levels deep, which Parquet cannot hold"
        )
    if pa.types.is_struct(kind):
        inner = [kind.field(i) for i in range(kind.num_fields)]
        _refuse_twins([field.name for field in inner], where)
        return _Struct(
            [(field.name, _node(field.type, f"{where}.{field.name}", depth + 1)) for field in inner]
        )
    if pa.types.is_list(kind):
        return _List("list", _node(kind.value_type, where, depth + 1))
    if pa.types.is_large_list(kind):
        return _List("large_list", _node(kind.value_type, where, depth + 1))
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return _Text(type_name(kind, where))
    return _Leaf(type_name(kind, where))


def type_name(kind: pa.DataType, where: str = "a column") -> str:
    """The name of a type without fields; InputError for a type that cannot be stored.

    >>> import pyarrow as pa
    >>> type_name(pa.timestamp("us", "UTC")), type_name(pa.float64())
    ('timestamp[us, UTC]', 'float64')
    """
    import pyarrow as pa

    # The names enter the hash, so they are spelled out here: Arrow does not promise to keep `str(type)` stable.
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}, {kind.tz}]" if kind.tz else f"timestamp[{kind.unit}]"
    if pa.types.is_duration(kind):
        return f"duration[{kind.unit}]"
    for name in _SIMPLE_TYPES:
        if kind == getattr(pa, name)():
            return name.rstrip("_")
    raise InputError(
        f"{where}: type {kind} cannot be stored; expected text, numbers, booleans, dates, lists or structs"
    )


_SIMPLE_TYPES = ("null", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
                 "float16", "float32", "float64", "date32", "date64", "string", "large_string", "binary",
                 "large_binary")  # fmt: skip


def _refuse_twins(names: list[str], where: str) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"{where}: has {names.count(twins[0])} fields named {twins[0]!r}, expected one")


def _valid(array: pa.Array, validity: Any) -> pa.Array:
    """The slots that are not NULL; hashes one byte per slot: 1 has a value, 0 is NULL."""
    import pyarrow as pa

    if not array.null_count:
        validity.update(b"\x01" * len(array))
        return array
    validity.update(array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False))
    return array.drop_null()


def _int64_bytes(array: pa.Array) -> Any:
    import pyarrow as pa

    return _little_endian(array.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _little_endian(values: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _text_bytes(array: pa.Array) -> Any:
    """The bytes of all strings one after the other, without a copy. `array` has no NULL."""
    import numpy as np
    import pyarrow as pa

    if len(array) == 0:
        return b""
    wide = array.type in (pa.large_string(), pa.large_binary())
    _, offsets_buffer, data = array.buffers()
    if data is None:
        return b""
    # A sliced array shares its parent's buffers: only the bytes between its first and last offset belong to it.
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64 if wide else np.int32)
    start, end = int(offsets[array.offset]), int(offsets[array.offset + len(array)])
    return memoryview(data)[start:end]


def _fixed_width_bytes(array: pa.Array) -> Any:
    """Little-endian values of a fixed width; booleans as one byte, every NaN as one bit pattern."""
    import numpy as np
    import pyarrow as pa

    kind = array.type
    if pa.types.is_null(kind):
        return b""
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    values = array.to_numpy(zero_copy_only=False)
    # NaN has many bit patterns, which differ between machines for equal rows.
    if pa.types.is_floating(kind) and np.isnan(values).any():
        values = np.where(np.isnan(values), np.array(np.nan, dtype=values.dtype), values)
    return _little_endian(values)
