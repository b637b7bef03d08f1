"""`content_sha256`: one hash for the logical rows of a table, whatever wrote them.

Unchanged by shard size, record batches, writer version, column order and machine; changed by any cell, any
type, any column name, any order of rows. Specification with a worked example: docs/content-hash.md; a second
implementation, written from that page, is in tests/test_contenthash.py.

In short: every column is a few byte streams (validity, lengths, values), each stream has its own SHA-256, and
the result is the SHA-256 of a canonical JSON list of them. A stream does not know where a batch ended, which
makes the hash independent of chunking; it never builds Python objects, which makes it as fast as SHA-256.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.sealed import digest

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "selfreward-rows-1"


class ContentHasher:
    """Feed record batches in row order, then ask for `hexdigest()`."""

    def __init__(self, schema: pa.Schema) -> None:
        self.n_rows = 0
        self._schema = schema
        self._streams: dict[str, dict[str, Any]] = {name: {} for name in schema.names}

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of one batch; its schema must be the one given at the start."""
        self.n_rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._feed(self._streams[name], "", column)

    def hexdigest(self) -> str:
        """The content hash of all rows so far, 64 hex digits."""
        columns = [
            [
                name,
                type_name(self._schema.field(name).type),
                sorted([path, stream.hexdigest()] for path, stream in self._streams[name].items()),
            ]
            for name in sorted(self._schema.names)
        ]
        return digest({"format": FORMAT, "rows": self.n_rows, "columns": columns})

    def _feed(self, streams: dict[str, Any], path: str, array: pa.Array) -> None:
        """Validity of every slot, then the content of the slots that are not NULL."""
        import pyarrow as pa

        self._write(streams, path + "validity", _validity(array))
        if array.null_count:
            array = array.drop_null()
        kind = array.type
        if pa.types.is_struct(kind):
            for i in range(kind.num_fields):
                child = array.field(i).slice(0, len(array))
                self._feed(streams, f"{path}{kind.field(i).name}.", child)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self._write(streams, path + "lengths", _little_endian(_list_lengths(array), pa.int64()))
            self._feed(streams, path + "item.", array.flatten())
        elif _is_text(kind):
            import pyarrow.compute as pc

            self._write(streams, path + "lengths", _little_endian(pc.binary_length(array), pa.int64()))
            self._write(streams, path + "values", _text_bytes(array))
        else:
            self._write(streams, path + "values", _fixed_width_bytes(array))

    @staticmethod
    def _write(streams: dict[str, Any], path: str, content: Any) -> None:
        if path not in streams:
            streams[path] = hashlib.sha256()
        streams[path].update(content)


def content_sha256(table: pa.Table) -> str:
    """The content hash of a whole table."""
    hasher = ContentHasher(table.schema)
    for batch in table.to_batches():
        hasher.update(batch)
    if table.num_rows == 0:  # an empty table still has its streams
        import pyarrow as pa

        hasher.update(pa.RecordBatch.from_pylist([], schema=table.schema))
    return hasher.hexdigest()


def type_name(kind: pa.DataType) -> str:
    """The name of a type in the hash: nullability and field metadata are left out.

    >>> import pyarrow as pa
    >>> type_name(pa.list_(pa.struct({"role": pa.string()})))
    'list<struct<role: string>>'
    """
    import pyarrow as pa

    if pa.types.is_struct(kind):
        inner = ", ".join(
            f"{kind.field(i).name}: {type_name(kind.field(i).type)}" for i in range(kind.num_fields)
        )
        return f"struct<{inner}>"
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_large_list(kind):
        return f"large_list<{type_name(kind.value_type)}>"
    return str(kind)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _validity(array: pa.Array) -> Any:
    """One byte per slot: 1 has a value, 0 is NULL."""
    import pyarrow as pa

    if not array.null_count:
        return b"\x01" * len(array)
    return _little_endian(array.is_valid(), pa.uint8())


def _little_endian(array: pa.Array, kind: pa.DataType) -> Any:
    import numpy as np

    values = array.cast(kind).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _list_lengths(array: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.list_value_length(array)


def _text_bytes(array: pa.Array) -> Any:
    """The bytes of all strings one after the other, without a copy. `array` has no NULL."""
    import numpy as np
    import pyarrow as pa

    if len(array) == 0:
        return b""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets_buffer, data = array.buffers()
    if data is None:
        return b""
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64 if wide else np.int32)
    start, end = int(offsets[array.offset]), int(offsets[array.offset + len(array)])
    return memoryview(data)[start:end]


def _fixed_width_bytes(array: pa.Array) -> Any:
    """Little-endian values of a fixed width; booleans as one byte, every NaN as the same NaN."""
    import numpy as np
    import pyarrow as pa

    kind = array.type
    if pa.types.is_null(kind):
        return b""
    if pa.types.is_boolean(kind):
        return _little_endian(array, pa.uint8())
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind) or pa.types.is_duration(kind):
        return _little_endian(array, pa.int64())
    if pa.types.is_date32(kind):
        return _little_endian(array, pa.int32())
    if pa.types.is_floating(kind):
        values = array.to_numpy(zero_copy_only=False)
        if np.isnan(values).any():
            values = np.where(np.isnan(values), np.array(np.nan, dtype=values.dtype), values)
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    if pa.types.is_integer(kind):
        return _little_endian(array, kind)
    raise InputError(
        f"a column of type {kind} cannot be stored: expected text, numbers, booleans, dates, lists, structs"
    )
