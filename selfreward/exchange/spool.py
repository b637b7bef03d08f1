"""Checked rows on disk until they are published, so that a file is parsed once however many columns it turns out to have.

    spool = Spool(run.path)
    spool.add({"pair_id": …, "score": …})        # one chunk; a later one may have other columns
    for batch in spool.batches(schema): …        # all of them again, with the same columns

The file has no name: it is gone when the process ends, however it ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.store import durable

if TYPE_CHECKING:
    import pyarrow as pa


class Spool:
    """Record batches in a file without a name, on the disk of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with durable.explained("write", folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the object

    def add(self, columns: Mapping[str, pa.Array]) -> None:
        """Append a chunk. Raises StoreError on a full disk."""
        import pyarrow as pa

        batch = pa.record_batch(dict(columns))
        # A stream for each chunk, since its extra columns and their types are its own.
        with durable.explained("write", self._folder), pa.ipc.new_stream(self._file, batch.schema) as stream:
            stream.write_batch(batch)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The chunks in order; a column that a chunk lacks, or has no value in, is NULL."""
        import pyarrow as pa

        self._file.seek(0, 2)
        n_bytes = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < n_bytes:
            with durable.explained("read", self._folder), pa.ipc.open_stream(self._file) as stream:
                chunk = stream.read_all()
            given = {
                name: chunk[name].combine_chunks()
                for name in chunk.column_names
                if not pa.types.is_null(chunk[name].type)
            }
            columns = [
                given[field.name] if field.name in given else pa.nulls(chunk.num_rows, field.type)
                for field in schema
            ]
            yield pa.record_batch(columns, schema=schema)
