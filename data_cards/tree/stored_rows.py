"""Published rows as the store's Arrow files again; with the same Arrow version, identical bytes.

Besides the rows, those bytes depend on the ends of the record batches, the buffer contents under a NULL, and the
writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data_cards.tree.parquet import DatasetFiles
from selfreward.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa


def write_rows(folder: Path, table: pa.Table, files: DatasetFiles) -> list[dict[str, Any]]:
    """Write the rows into `folder`; the files as a manifest lists them."""
    from selfreward.store.writer import write_shards

    written = write_shards(folder, table.schema, _as_stored(table, files.batches))
    if written.content_sha256 != files.content_sha256:
        raise StoreError(f"{files.name}: the content hash changed between reading and writing; this is a bug")
    return written.files


def _as_stored(table: pa.Table, batches: tuple[int, ...]) -> Iterator[pa.RecordBatch]:
    """The rows in the record batches of the original files, with zeros under NULLs as a builder leaves them."""
    import pyarrow as pa

    start = 0
    for n in batches:
        batch = table.slice(start, n).combine_chunks().to_batches()[0]
        yield pa.RecordBatch.from_arrays(
            [_zeros_under_nulls(column) for column in batch.columns], schema=batch.schema
        )
        start += n


def _zeros_under_nulls(column: pa.Array) -> pa.Array:
    """Zero the buffer under NULLs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not plain or not column.null_count:
        return column
    column = pa.concat_arrays([column])  # an offset of zero, so that the buffers can be put together
    # the buffer is part of the file's bytes, and Parquet leaves a neighboring value there; builders leave
    # zeros
    filled = pc.fill_null(column, 0)
    return pa.Array.from_buffers(column.type, len(column), [column.buffers()[0], filled.buffers()[1]])
