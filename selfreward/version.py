"""One immutable version of a dataset or a model: a folder, its sealed manifest, verified reads.

    datasets/iter1/pairs/3f0c…/  data-00000-of-00001.arrow  dataset_info.json  state.json  manifest.json

The folder loads with `datasets.load_from_disk`. Reading through this module checks more: every byte is hashed
and compared with the manifest *before* Arrow parses it, because an Arrow stream cut at a batch boundary opens
as a shorter valid dataset, and most flipped bits in it are read without an error. Hash and parse see the same
memory map, so nothing can change in between.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import DamagedError, StoreError
from selfreward.sealed import unseal

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 22

OnBytes = Callable[[int], object]


@dataclass(frozen=True)
class Version:
    """A published version. `name` is `iter1/pairs`, `ift`, `M1`…; `folder` ends in the version's name."""

    name: str
    folder: Path

    @property
    def version(self) -> str:
        """The first 16 hex digits of the key."""
        return self.folder.name

    @cached_property
    def manifest_bytes(self) -> bytes:
        try:
            return (self.folder / MANIFEST).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{self.folder}: no {MANIFEST}, so this is not a published version") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The sealed manifest; DamagedError where it was changed."""
        return unseal(self.manifest_bytes, self.folder / MANIFEST)

    @property
    def manifest_sha256(self) -> str:
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def content_sha256(self) -> str:
        return str(self.manifest["content_sha256"])

    @property
    def n_rows(self) -> int:
        return int(self.manifest["counts"]["out"])

    def check_files(self) -> None:
        """Names and sizes only (no hashing): cheap enough for every command."""
        expected = {entry["name"]: int(entry["bytes"]) for entry in self.manifest["files"]}
        present = {
            path.relative_to(self.folder).as_posix(): path
            for path in self.folder.rglob("*")
            if path.is_file() or path.is_symlink()
        }
        present.pop(MANIFEST, None)
        caches = sorted(name for name in present if _is_datasets_cache(name))
        for name in caches:
            del present[name]
        if caches:
            print(
                f"{self.folder}: ignoring {len(caches)} cache file(s) that `datasets` left here ({caches[0]}); "
                "load through selfreward to avoid them",
                file=sys.stderr,
            )
        for name in sorted(set(expected) - set(present)):
            raise DamagedError(f"{self.folder / name}: this file of the version is missing")
        for name in sorted(set(present) - set(expected)):
            raise DamagedError(
                f"{self.folder / name}: this file is not part of the version; move it elsewhere"
            )
        for name, n_bytes in expected.items():
            found = present[name].stat().st_size
            if found != n_bytes:
                raise DamagedError(f"{present[name]}: found {found:,} bytes, the manifest says {n_bytes:,}")

    def verify(self, on_bytes: OnBytes = lambda n: None) -> None:
        """Hash every file and compare with the manifest; DamagedError names the first that differs."""
        self.check_files()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda entry: self._check_hash(entry, on_bytes), self.manifest["files"]))

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All rows as an Arrow table over memory-mapped, verified files."""
        import pyarrow as pa

        self.check_files()
        tables = [pa.ipc.open_stream(data).read_all() for data in self._verified_shards()]
        table = pa.concat_tables(tables)
        return table.select(columns) if columns else table

    def dataset(self) -> datasets.Dataset:
        """All rows as a `datasets.Dataset` made from the verified table, not from the folder.

        `map` and `filter` on a dataset loaded from a folder write `cache-*.arrow` into that folder; on this one
        they stay in memory.
        """
        import datasets

        return datasets.Dataset(self.table(), fingerprint=self.content_sha256[:16])

    def _verified_shards(self) -> Iterator[Any]:
        import pyarrow as pa

        for entry in self.manifest["files"]:
            if entry["rows"] is None:
                self._check_hash(entry)
                continue
            path = self.folder / entry["name"]
            data = pa.memory_map(str(path)).read_buffer()
            _compare(path, hashlib.sha256(memoryview(data)).hexdigest(), entry["sha256"])
            yield data

    def _check_hash(self, entry: dict[str, Any], on_bytes: OnBytes = lambda n: None) -> None:
        path = self.folder / entry["name"]
        _compare(path, file_sha256(path, on_bytes), entry["sha256"])


def file_sha256(path: Path, on_bytes: OnBytes = lambda n: None) -> str:
    """SHA-256 of a file; `on_bytes` hears how many bytes each block had."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(buffer):
            hasher.update(buffer[:n_bytes])
            on_bytes(n_bytes)
    return hasher.hexdigest()


def _compare(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DamagedError(
            f"{path}: SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…, so it was changed after it was "
            "published; `selfreward verify RUN --quarantine` moves the version aside, and the next run rebuilds it"
        )


def _is_datasets_cache(name: str) -> bool:
    return name.startswith("cache-") and name.endswith(".arrow")
