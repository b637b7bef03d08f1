"""Filling the hidden folder of a version with Arrow shards, in bounded memory, hashed on the way.

Rows arrive as record batches; each batch is written to the current shard (whose bytes are hashed as they are
written) while a second thread feeds the content hash. The result is a folder that `datasets.load_from_disk`
reads. Nothing here is visible to a reader: `Run.publish` does that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.contenthash import ContentHasher

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 500 << 20
_BATCH_ROWS = 10_000


class _HashingFile:
    """A binary file that hashes what is written to it; Arrow writes through it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hasher = hashlib.sha256()
        self.n_bytes = 0
        self._file = path.open("wb", buffering=1 << 20)
        self.closed = False

    def write(self, data: Any) -> int:
        self.hasher.update(data)
        self.n_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True


def write_shards(
    folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], shard_bytes: int = SHARD_BYTES
) -> tuple[list[dict[str, Any]], str, int]:
    """Write batches as Arrow stream shards plus the two JSON files `datasets` reads.

    Returns the manifest's `files` entries, the content hash and the number of rows.
    """
    hasher = ContentHasher(schema)
    shards: list[dict[str, Any]] = []
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(1) as thread:
        open_shard = _Shard(folder, schema, 0)
        for batch in _rechunk(schema, batches):
            if open_shard.file.n_bytes >= shard_bytes:
                shards.append(open_shard.close())
                open_shard = _Shard(folder, schema, len(shards))
            pending.append(thread.submit(hasher.update, batch))
            open_shard.write(batch)
            while len(pending) > 4:  # bounds memory: at most a few batches wait for the hash
                pending.pop(0).result()
        shards.append(open_shard.close())
        for future in pending:
            future.result()
    _name_as_datasets_does(folder, shards)
    content = hasher.hexdigest()
    return shards + _datasets_files(folder, schema, shards, content), content, hasher.n_rows


class _Shard:
    def __init__(self, folder: Path, schema: pa.Schema, number: int) -> None:
        import pyarrow as pa

        self.file = _HashingFile(folder / f"data-{number:05d}.arrow")
        self._writer = pa.ipc.new_stream(pa.PythonFile(self.file, mode="w"), schema)
        self._n_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self._n_rows += batch.num_rows

    def close(self) -> dict[str, Any]:
        self._writer.close()
        self.file.close()
        return {
            "name": self.file.path.name,
            "rows": self._n_rows,
            "bytes": self.file.n_bytes,
            "sha256": self.file.hasher.hexdigest(),
        }


def _rechunk(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """At least one batch (the hash of an empty table has streams too), none of unbounded size."""
    import pyarrow as pa

    yield pa.RecordBatch.from_pylist([], schema=schema)
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _name_as_datasets_does(folder: Path, shards: list[dict[str, Any]]) -> None:
    for number, shard in enumerate(shards):
        name = f"data-{number:05d}-of-{len(shards):05d}.arrow"
        os.rename(folder / shard["name"], folder / name)
        shard["name"] = name


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
        content_bytes = json.dumps(value, indent=2, sort_keys=True).encode()
        (folder / name).write_bytes(content_bytes)
        entries.append({"name": name, "rows": None, "bytes": len(content_bytes),
                        "sha256": hashlib.sha256(content_bytes).hexdigest()})  # fmt: skip
    return entries
