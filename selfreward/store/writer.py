"""Fills the hidden folder of a version with Arrow shards, in bounded memory, hashed while they are written.

Rows arrive as record batches. Each is written to the current shard while two threads hash: one the bytes of the shard,
one the rows. A third thread fsyncs finished shards, so that publishing has little left to wait for. The result is a
folder that `datasets.load_from_disk` reads. `Run.publish_table` makes it visible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import AccountingError
from selfreward.store import durable
from selfreward.store.contenthash import ContentHasher

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500 << 20
_BATCH_ROWS = 10_000
_BATCH_BYTES = 16 << 20
# Batches or blocks that may wait for a hash: this bounds memory.
_WAITING = 4


@dataclass(frozen=True)
class Written:
    """What `write_shards` wrote."""

    files: list[dict[str, Any]]
    """The manifest's `files`."""
    content_sha256: str
    n_rows: int


@dataclass(frozen=True)
class Rules:
    """Constraints on every row, checked while it is written. NaN is never allowed."""

    required: Collection[str] = ()
    """Columns that may not be NULL (Arrow's own flag for that does not survive `datasets`)."""
    unique: str | None = None
    """The id column (of type string), if any: ids are unique and never NULL."""


def write_shards(
    folder: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    rules: Rules | None = None,
) -> Written:
    """Write batches as Arrow stream shards plus the two JSON files `datasets` reads.

    AccountingError if a row breaks a rule, InputError if a type cannot be stored.
    """
    hasher = ContentHasher(schema)
    check = _RowCheck(folder.parent.name, schema, rules or Rules())
    shards: list[_Shard] = []
    with _InOrder() as disk, _InOrder() as rows_thread, _InOrder() as bytes_thread, ExitStack() as last_shard:
        for batch in _rechunk(schema, batches):
            if not shards or shards[-1].n_bytes >= SHARD_BYTES:
                last_shard.close()
                shard = _Shard(folder, schema, len(shards), bytes_thread, disk)
                shards.append(last_shard.enter_context(shard))
            rows_thread.do(hasher.update, batch)
            rows_thread.do(check.update, batch)
            shards[-1].write(batch)
    check.finish()
    files = _name_as_datasets_does(folder, shards)
    content = hasher.hexdigest()
    return Written(files + _datasets_files(folder, schema, files, content), content, hasher.n_rows)


class _InOrder:
    """One thread that runs calls in order; `do` blocks while `_WAITING` are queued, and raises the first failure."""

    def __enter__(self) -> _InOrder:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Future[Any]] = []
        return self

    def do(self, function: Callable[[Any], object], thing: Any) -> None:
        self._waiting.append(self._thread.submit(function, thing))
        while len(self._waiting) > _WAITING:
            self._waiting.pop(0).result()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._thread.shutdown(cancel_futures=error is not None)
        if error is None:
            for future in self._waiting:
                future.result()


class _HashingFile:
    """A binary file that Arrow writes to; its bytes are hashed by another thread."""

    def __init__(self, path: Path, thread: _InOrder) -> None:
        self.hasher = hashlib.sha256()
        self.n_bytes = 0
        self.closed = False
        self._thread = thread
        self._file = path.open("wb", buffering=1 << 20)

    def write(self, data: Any) -> int:
        self._thread.do(self.hasher.update, data)
        self.n_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True


class _Shard:
    def __init__(
        self, folder: Path, schema: pa.Schema, number: int, hashing: _InOrder, disk: _InOrder
    ) -> None:
        import pyarrow as pa

        self._disk = disk
        self.path = folder / f"data-{number:05d}.arrow"
        with durable.call("write", self.path):
            self._file = _HashingFile(self.path, hashing)
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._file, mode="w"), schema)
        self._n_rows = 0

    @property
    def n_bytes(self) -> int:
        return self._file.n_bytes

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self._n_rows += batch.num_rows

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            # `close` writes Arrow's end marker; after an error the shard must not look finished.
            if error is None:
                self._writer.close()
        finally:
            self._file.close()
        if error is None:
            self._disk.do(durable.sync_file, self.path)

    def entry(self, name: str) -> dict[str, Any]:
        """Its line in the manifest; the hashing thread must be done."""
        sha256 = self._file.hasher.hexdigest()
        return {"name": name, "rows": self._n_rows, "bytes": self.n_bytes, "sha256": sha256}


@dataclass
class _RowCheck:
    """Checks the rules of a dataset, and that no value is NaN."""

    name: str
    schema: pa.Schema
    rules: Rules
    _ids: list[Any] = field(default_factory=list)

    def update(self, batch: pa.RecordBatch) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        for column in self.schema.names:
            values = batch[column]
            if column in self.rules.required and values.null_count:
                self._refuse(f"{values.null_count} NULLs in column {column!r}, which may have none")
            # DuckDB sorts NaN above every number, so a NaN score would be picked as the best.
            if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
                self._refuse(f"NaN in column {column!r}; what has no value is NULL")
        if self.rules.unique:
            self._ids.append(batch[self.rules.unique])

    def finish(self) -> None:
        """Compare the ids of all batches."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = pa.chunked_array(self._ids, pa.string()) if self._ids else pa.chunked_array([], pa.string())
        if ids.null_count:
            self._refuse(f"{ids.null_count} rows without {self.rules.unique}")
        # One last character at a time, which bounds the memory that the hash tables take.
        tails = pc.utf8_slice_codeunits(ids, -1)
        for tail in pc.unique(tails):
            part = ids.filter(pc.equal(tails, tail))
            if pc.count_distinct(part).as_py() < len(part):
                counted = pc.value_counts(part)
                twins = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
                self._refuse(f"two rows with {self.rules.unique} {twins[0].as_py()!r}")

    def _refuse(self, found: str) -> None:
        raise AccountingError(f"{self.name}: found {found}; this is a bug in the step, nothing was published")


def _rechunk(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join small batches and cut large ones."""
    import pyarrow as pa

    # Starts with an empty batch, so that a dataset without rows still gets a shard with its schema.
    waiting: list[pa.RecordBatch] = [pa.RecordBatch.from_pylist([], schema=schema)]
    n_rows = n_bytes = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.slice(start, _BATCH_ROWS)
            waiting.append(part)
            n_rows, n_bytes = n_rows + part.num_rows, n_bytes + part.nbytes
            if n_rows >= _BATCH_ROWS or n_bytes >= _BATCH_BYTES:
                yield _joined(waiting)
                waiting, n_rows, n_bytes = [], 0, 0
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    import pyarrow as pa

    filled = [batch for batch in batches if batch.num_rows]
    return pa.concat_batches(filled) if len(filled) > 1 else (filled or batches)[0]


def _name_as_datasets_does(folder: Path, shards: list[_Shard]) -> list[dict[str, Any]]:
    # The names hold the number of shards, which is known only after the last one is written.
    entries = []
    for number, shard in enumerate(shards):
        name = f"data-{number:05d}-of-{len(shards):05d}.arrow"
        durable.rename(shard.path, folder / name)
        entries.append(shard.entry(name))
    return entries


def _datasets_files(
    folder: Path, schema: pa.Schema, shards: list[dict[str, Any]], content: str
) -> list[dict[str, Any]]:
    """`dataset_info.json` and `state.json`, as `Dataset.save_to_disk` lays them out."""
    from datasets import Features

    info = {"features": Features.from_arrow_schema(schema).to_dict(), "citation": "", "description": "",
            "homepage": "", "license": ""}  # fmt: skip
    state: dict[str, Any] = {
        "_data_files": [{"filename": shard["name"]} for shard in shards],
        "_fingerprint": content[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    entries = []
    for name, value in (("dataset_info.json", info), ("state.json", state)):
        text = json.dumps(value, indent=2, sort_keys=True).encode()
        durable.write_new(folder / name, text)
        entries.append(
            {"name": name, "rows": None, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        )
    return entries
