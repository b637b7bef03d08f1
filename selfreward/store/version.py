"""One immutable version of a dataset or a model: a folder, its sealed manifest, verified reads.

    datasets/iter1/pairs/3f0c…/  data-00000-of-00001.arrow  dataset_info.json  state.json  manifest.json

The folder loads with `datasets.load_from_disk`. This module checks more: every byte is hashed and compared with the
manifest *before* Arrow parses it, because an Arrow stream cut at a batch boundary opens as a shorter valid dataset,
and most flipped bits in it raise no error. Hash and parse use the same memory map, so replacing or removing a file in
between changes nothing. Not covered: a program that writes into a shard in place while it is mapped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from selfreward.errors import DamagedError, InputError, StoreError
from selfreward.progress import say
from selfreward.store import durable
from selfreward.store.foreign import MANIFEST_JSON, check
from selfreward.store.names import is_model, is_version
from selfreward.store.sealed import unseal

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from selfreward.notes import Notes

NotesT = TypeVar("NotesT", bound="Notes")
MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 20
_THREADS = min(4, os.cpu_count() or 1)

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
        """The bytes of the manifest file."""
        path = self.folder / MANIFEST
        content = durable.read(path)
        if content is None and self.folder.is_dir():
            raise DamagedError(f"{path}: this file of the version is missing; {_REMEDY}")
        if content is None:
            raise StoreError(f"{self.folder}: does not exist; `selfreward gc` or a user removed this version")
        return content

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The sealed manifest; DamagedError if it was changed or has another shape, FormatError if too new."""
        return read_as_manifest(self.manifest_bytes, self.folder / MANIFEST)

    @property
    def manifest_sha256(self) -> str:
        """The hash by which run.json names the current version's manifest."""
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    @property
    def key(self) -> str:
        """SHA-256 of inputs and parameters, 64 hex digits."""
        return str(self.manifest["key"])

    @property
    def content_sha256(self) -> str:
        """Of the logical rows of a dataset; of the files of a model."""
        return str(self.manifest["content_sha256"])

    @property
    def n_rows(self) -> int:
        """Rows of a dataset; for a model, the rows it was trained on."""
        return int(self.manifest["counts"]["out"])

    def notes(self, kind: type[NotesT]) -> NotesT:
        """The step's notes beside the accounting; all None if the rows were imported."""
        return kind.read(self.manifest["counts"].get("notes") or {})

    @property
    def n_bytes(self) -> int:
        """Bytes that `verify` hashes."""
        return sum(int(entry["bytes"]) for entry in self.manifest["files"])

    def check_files(self) -> None:
        """Names and sizes only (no hashing): cheap enough for every command."""
        self._check_name()
        expected = {entry["name"]: int(entry["bytes"]) for entry in self.manifest["files"]}
        with durable.explained("read", self.folder):
            present = _files_in(self.folder)
        present.pop(MANIFEST, None)
        self._report_caches([name for name in present if _is_datasets_cache(name) and name not in expected])
        for name in sorted(expected.keys() - present.keys()):
            raise DamagedError(f"{self.folder / name}: this file of the version is missing; {_REMEDY}")
        for name in sorted(present.keys() - expected.keys()):
            if not _is_datasets_cache(name):
                raise DamagedError(
                    f"{self.folder / name}: this file is not part of the version; move it elsewhere"
                )
        for name, n_bytes in expected.items():
            if present[name] != n_bytes:
                raise DamagedError(
                    f"{self.folder / name}: found {present[name]:,} bytes, the manifest says {n_bytes:,}; {_REMEDY}"
                )

    def _check_name(self) -> None:
        """DamagedError if the folder holds another version's files."""
        name, key = self.manifest["name"], self.key
        renamed = is_version(self.version) and not key.startswith(self.version)
        # A folder that `load_rows` reads by its path has its version as name.
        if renamed or self.name not in (name, self.version):
            raise DamagedError(
                f"{self.folder}: holds version {key[:16]} of {name}, so it was renamed or swapped; move it back"
            )

    def _report_caches(self, names: list[str]) -> None:
        if names:
            say(
                f"{self.folder}: ignoring {len(names)} cache file(s) that `datasets` left here ({min(names)}); "
                "load through selfreward to avoid them"
            )

    def verify(self, on_bytes: OnBytes = lambda n: None) -> None:
        """Check every file's hash, then every value; DamagedError names the first file that is wrong."""
        self.check_files()
        entries = self.manifest["files"]
        paths = [self.folder / entry["name"] for entry in entries]
        _compare(
            zip(paths, entries, _in_threads(lambda path: file_sha256(path, on_bytes), paths), strict=True)
        )
        if not is_model(self.manifest["name"]):
            self._rows([_map(path) for path in paths])

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All rows as an Arrow table over memory-mapped files, verified."""
        entries = self.manifest["files"]
        if is_model(self.manifest["name"]):
            raise StoreError(f"{self.folder}: holds no rows, {self.name} is a model")
        self.check_files()
        paths = [self.folder / entry["name"] for entry in entries]
        # All shards are opened before the first is hashed, so that `gc` cannot remove one in between.
        maps = [_map(path) for path in paths]
        _compare(zip(paths, entries, _in_threads(_sha256, maps), strict=True))
        table = self._rows(maps)
        return table.select(columns) if columns is not None else table

    def _rows(self, maps: list[Any]) -> pa.Table:
        """The rows in these files, every value validated."""
        import pyarrow as pa

        from selfreward.store.contenthash import ContentHasher

        shards = []
        for data, entry in zip(maps, self.manifest["files"], strict=True):
            if entry["rows"] is None:
                continue
            path = self.folder / entry["name"]
            try:
                shard = _read_shard(data)
                ContentHasher(shard.schema)  # raises for types that cannot be stored
                # Hashes do not protect from whoever made the files: offsets out of range or invalid UTF-8 would crash
                # the process later, without a message.
                shard.validate(full=True)
                shards.append(shard)
                table = pa.concat_tables(shards)
            except (pa.ArrowException, InputError, ValueError, RecursionError, OSError) as error:
                raise DamagedError(
                    f"{path}: its bytes are those that were published, but they hold no valid rows "
                    f"({' '.join(str(error).split())[:200]}); {_REMEDY}"
                ) from error
            if shard.num_rows != entry["rows"]:
                raise DamagedError(
                    f"{path}: holds {shard.num_rows:,} rows, the manifest says {entry['rows']:,}; {_REMEDY}"
                )
        if not shards or table.num_rows != self.n_rows:
            found = f"{table.num_rows:,} rows" if shards else "no file of rows"
            raise DamagedError(
                f"{self.folder}: holds {found}, the manifest's counts say {self.n_rows:,} rows; {_REMEDY}"
            )
        return table

    def dataset(self) -> datasets.Dataset:
        """All rows as a `datasets.Dataset` made from the verified table, not from the folder."""
        import datasets

        # `map` and `filter` on a dataset loaded from a folder write `cache-*.arrow` into it; on this one they stay in
        # memory.
        try:
            return datasets.Dataset(self.table(), fingerprint=self.content_sha256[:16])
        # Feature metadata in a foreign file can be anything, and `datasets` raises whatever its parsing hits.
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise DamagedError(
                f"{self.folder}: `datasets` does not know the columns' types: {error}; {_REMEDY}"
            ) from error


def load_rows(folder: Path | str) -> datasets.Dataset:
    """A version folder (verified) or any `save_to_disk` folder as a `Dataset` that writes no cache into it."""
    import datasets

    folder = Path(folder)
    if (folder / MANIFEST).is_file() or (folder.is_dir() and is_version(folder.name)):
        return Version(folder.name, folder).dataset()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a dataset version or a `save_to_disk` folder")
    try:
        loaded = datasets.load_from_disk(str(folder))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: not a dataset; expected a dataset version or a `save_to_disk` folder"
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        raise InputError(
            f"{folder}: holds several splits, expected one; name the folder of one, such as {folder / min(loaded)}"
        )
    return datasets.Dataset(loaded.data.table)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The sealed manifest of a version folder, None if the folder has none."""
    content = durable.read(folder / MANIFEST)
    return None if content is None else read_as_manifest(content, folder / MANIFEST)


def read_as_manifest(content: bytes, path: Path | str) -> dict[str, Any]:
    """The body of a sealed manifest; DamagedError unless it has the shape that selfreward writes."""
    body = unseal(content, path)
    check(MANIFEST_JSON, body, path)
    twins = [entry["name"] for entry in body["files"]]
    if len(set(twins)) < len(twins):
        raise DamagedError(
            f"{path}: names {max(twins, key=twins.count)!r} twice, expected once; selfreward did not write this file"
        )
    return body


_REMEDY = "`selfreward verify RUN --quarantine` moves the version aside, and the next run rebuilds it"


def file_sha256(path: Path, on_bytes: OnBytes = lambda n: None) -> str:
    """SHA-256 of a file; `on_bytes` is called with the size of each block."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with durable.explained("read", path), path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(buffer):
            hasher.update(buffer[:n_bytes])
            on_bytes(n_bytes)
    return hasher.hexdigest()


def _sha256(data: Any) -> str:
    return hashlib.sha256(memoryview(data)).hexdigest()


def _map(path: Path) -> Any:
    import pyarrow as pa

    with durable.explained("read", path):
        return pa.memory_map(str(path)).read_buffer()


def _read_shard(data: Any) -> pa.Table:
    import pyarrow as pa

    reader, n_bytes = pa.ipc.open_stream(data), 0
    batches = []
    # Uncompressed batches are views into the map. Compressed ones, which the store never writes, could fill the memory.
    for batch in reader:
        n_bytes += batch.get_total_buffer_size()
        if n_bytes > 2 * len(data) + (1 << 20):
            raise ValueError(f"{len(data):,} bytes unpack to more than {n_bytes:,}")
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _in_threads(hash_one: Callable[[Any], str], things: list[Any]) -> list[str]:
    # hashlib releases the GIL, so threads run in parallel here.
    if len(things) == 1:
        return [hash_one(things[0])]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(hash_one, things))


def _compare(found: Iterable[tuple[Path, dict[str, Any], str]]) -> None:
    for path, entry, sha256 in found:
        if sha256 != entry["sha256"]:
            raise DamagedError(
                f"{path}: SHA-256 is {sha256[:12]}…, the manifest says {entry['sha256'][:12]}…, so it was changed "
                f"after it was published; {_REMEDY}"
            )


def _files_in(folder: Path) -> dict[str, int]:
    """Name relative to `folder` -> bytes, of everything but folders; -1 for links and special files."""

    # os.walk skips folders that it cannot read; here that would hide files from the check.
    def refuse(error: OSError) -> None:
        raise error

    found = {}
    for parent, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in files + links:
            path = Path(parent, name)
            is_file = path.is_file() and not path.is_symlink()
            found[path.relative_to(folder).as_posix()] = path.stat().st_size if is_file else -1
    return found


def _is_datasets_cache(name: str) -> bool:
    return name.startswith("cache-") and name.endswith(".arrow")
