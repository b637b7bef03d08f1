"""A version of the store as Parquet files that the Hub's viewer can show, and back again, row for row.

    files = write_dataset(version, folder)     # data/iter1_pairs/train-00000-of-00001.parquet
    table = read_dataset(files, folder)        # the same rows in the same order, or DamagedError

A page index and content-defined chunks let the viewer and the Hub's storage read only what they need.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.data_cards.tree.layout import DEFAULT_SPLIT, REJECTED_SPLIT, RUN_FILE, shard_path
from selfreward.errors import DamagedError, InputError
from selfreward.store import foreign
from selfreward.store.contenthash import content_sha256
from selfreward.store.version import Version, file_sha256
from selfreward.tables import DatasetName

if TYPE_CHECKING:
    import pyarrow as pa

# Arrow bytes: the viewer refuses row groups above about 286 MB
ROW_GROUP_BYTES = 32 << 20
BATCH_ROWS = 1_000
SLACK_BYTES = 1 << 20
"""Allowance on top of twice a split's published size: validity bitmaps and offsets of small tables."""
FILE_BYTES = 500 << 20


@dataclass(frozen=True)
class DataFile:
    """One Parquet file; `path` is relative to the repository."""

    path: str
    split: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one dataset, and what is needed to restore its version from them."""

    name: str
    content_sha256: str
    files: tuple[DataFile, ...]
    order: tuple[tuple[str, int], ...]
    """Run lengths of the splits: [["eval", 2], ["train", 5]] is two eval rows, then five train rows."""
    batches: tuple[int, ...]
    """Rows in each record batch of the store's Arrow files, so that identical files can be written again."""
    arrow_bytes: dict[str, int]
    """Split -> bytes of its rows in memory, which the card calls `num_bytes`."""

    @property
    def splits(self) -> dict[str, list[DataFile]]:
        """Split -> its files, in order."""
        return {
            s: [f for f in self.files if f.split == s] for s in dict.fromkeys(f.split for f in self.files)
        }

    @property
    def n_rows(self) -> int:
        """Total rows of all splits."""
        return sum(entry.rows for entry in self.files)

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_described(cls, value: dict[str, Any], shown: str = RUN_FILE) -> DatasetFiles:
        """Back from JSON of the shape `DESCRIBED`; raises DamagedError if its row counts disagree."""
        found = cls(
            name=value["name"],
            content_sha256=value["content_sha256"],
            files=tuple(DataFile(**{key: entry[key] for key in _FILE}) for entry in value["files"]),
            order=tuple((split, n) for split, n in value["order"]),
            batches=tuple(value["batches"]),
            arrow_bytes=dict(value["arrow_bytes"]),
        )
        ordered = Counter[str]()
        for split, n in found.order:
            ordered[split] += n
        filed = Counter[str]()
        for file in found.files:
            filed[file.split] += file.rows
        batched = sum(found.batches)
        # unary plus drops zero counts: a split without rows has no file
        if +ordered != +filed or batched != found.n_rows or set(found.splits) != set(found.arrow_bytes):
            raise DamagedError(
                f"{shown}: {found.name}: files of {dict(filed)} rows, an order of {dict(ordered)}, batches of {batched} and "
                f"sizes of {sorted(found.arrow_bytes)} do not agree, so it was not published by selfreward"
            )
        return found


def _data_path(value: Any) -> bool:
    """the path of a Parquet file below data/"""
    return foreign.file_name(value) and value.startswith("data/") and value.endswith(".parquet")


def _split(value: Any) -> bool:
    """the name of a split, such as train"""
    return isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,31}", value) is not None


def _run_length(value: Any) -> bool:
    """a split and a number of rows"""
    return isinstance(value, list) and len(value) == 2 and _split(value[0]) and foreign.count(value[1])


def _batch(value: Any) -> bool:
    """a number of rows from 1"""
    return foreign.count(value) and value > 0


_FILE = {
    "path": _data_path,
    "split": _split,
    "rows": foreign.count,
    "bytes": foreign.count,
    "sha256": foreign.sha256,
}
DESCRIBED = {
    "name": foreign.dataset,
    "content_sha256": foreign.sha256,
    "files": [_FILE],
    "order": [_run_length],
    "batches": [_batch],
    "arrow_bytes": foreign.Each(_split, foreign.count),
}
"""Schema of a dataset's files in `run.json`."""


def write_dataset(version: Version, folder: Path) -> DatasetFiles:
    """Write the (verified) rows of a version below `folder`."""
    table = version.table()
    order = _order(version.name, table)
    files: list[DataFile] = []
    arrow_bytes = {}
    for split in sorted({name for name, _ in order}, key=lambda name: (name != DEFAULT_SPLIT, name)):
        rows = _rows_of(table, order, split)
        arrow_bytes[split] = rows.nbytes
        shards = list(pieces(rows, FILE_BYTES))
        for number, shard in enumerate(shards):
            path = shard_path(version.name, split, number, len(shards))
            _write_file(shard, folder / path)
            files.append(_described(folder, path, split, shard.num_rows))
    batches = tuple(batch.num_rows for batch in table.to_batches() if batch.num_rows)
    return DatasetFiles(version.name, version.content_sha256, tuple(files), order, batches, arrow_bytes)


def read_dataset(files: DatasetFiles, folder: Path) -> pa.Table:
    """The rows of downloaded (or dry-run) files in the store's order; DamagedError unless they are the same rows."""
    import pyarrow as pa

    # hashes first: only expected bytes reach the Parquet reader
    for entry in files.files:
        if file_sha256(foreign.inside(folder, entry.path)) != entry.sha256:
            raise DamagedError(
                f"{entry.path}: its SHA-256 is not the one that was published; nothing of it is used"
            )
    try:
        tables = {split: _read_split(files, split, folder) for split in files.splits}
        table = _in_order(tables, files.order)
        table.validate(full=True)
        found = content_sha256(table)
    # everything that Arrow raises for damaged files, `RecursionError` for deeply nested ones included
    except (pa.ArrowException, InputError, OSError, ValueError, RecursionError) as error:
        raise DamagedError(
            f"{files.name}: its Parquet files hold no valid rows ({' '.join(str(error).split())[:200]}); nothing of it is used"
        ) from error
    if found != files.content_sha256:
        raise DamagedError(
            f"{files.name}: the published rows have content {found[:12]}…, its manifest says "
            f"{files.content_sha256[:12]}…; publish it again, or pull another revision"
        )
    return table


def _read_split(files: DatasetFiles, split: str, folder: Path) -> pa.Table:
    """The rows of one split, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet

    # a small file can unpack to more than memory, so it is stopped as soon as it exceeds its published size
    n_bytes, most = 0, 2 * files.arrow_bytes[split] + SLACK_BYTES
    tables = []
    for entry in files.splits[split]:
        with pyarrow.parquet.ParquetFile(folder / entry.path) as file:
            if file.metadata.num_rows != entry.rows:
                raise DamagedError(
                    f"{entry.path}: holds {file.metadata.num_rows:,} rows, {entry.rows:,} were published; nothing of it is used"
                )
            batches = []
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                n_bytes += batch.nbytes
                if n_bytes > most:
                    raise DamagedError(
                        f"{entry.path}: unpacks to more than the {files.arrow_bytes[split]:,} bytes that were published; "
                        "nothing of it is used"
                    )
                batches.append(batch)
            tables.append(pa.Table.from_batches(batches, file.schema_arrow))
    return pa.concat_tables(tables)


def pieces(table: pa.Table, max_bytes: int) -> Iterator[pa.Table]:
    """The table in parts of at most `max_bytes` (a single larger row stays whole); at least one part."""
    if table.nbytes <= max_bytes or table.num_rows <= 1:
        yield table
        return
    # halves, not equal parts: rows differ in size, and a slice's size is known only afterwards
    half = table.num_rows // 2
    yield from pieces(table.slice(0, half), max_bytes)
    yield from pieces(table.slice(half), max_bytes)


def _order(name: str, table: pa.Table) -> tuple[tuple[str, int], ...]:
    # splits of `eft` interleave, and the content hash depends on the order of the rows: published as run
    # lengths
    if DatasetName.parse(name).kind == "eft" and table.num_rows:
        columns = zip(table["split"].to_pylist(), table["accepted"].to_pylist(), strict=True)
        splits = [
            split if accepted or split != DEFAULT_SPLIT else REJECTED_SPLIT for split, accepted in columns
        ]
        return tuple((split, len(list(run))) for split, run in groupby(splits))
    return ((DEFAULT_SPLIT, table.num_rows),)


def _rows_of(table: pa.Table, order: tuple[tuple[str, int], ...], split: str) -> pa.Table:
    import pyarrow as pa

    start, parts = 0, []
    for name, n in order:
        if name == split:
            parts.append(table.slice(start, n))
        start += n
    return pa.concat_tables(parts)


def _in_order(tables: dict[str, pa.Table], order: tuple[tuple[str, int], ...]) -> pa.Table:
    import pyarrow as pa

    taken = dict.fromkeys(tables, 0)
    parts = []
    for split, n in order:
        parts.append(tables[split].slice(taken[split], n))
        taken[split] += n
    return pa.concat_tables(parts)


def _write_file(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.parquet.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        write_page_index=True,
        use_content_defined_chunking=True,
        use_compliant_nested_type=False,  # compliant names rename list items, so the schema would change
    ) as writer:
        for group in pieces(table, ROW_GROUP_BYTES):
            # `datasets` cannot read a group without rows; a file without groups is an empty table
            if group.num_rows:
                writer.write_table(group, row_group_size=group.num_rows)


def _described(folder: Path, path: str, split: str, rows: int) -> DataFile:
    return DataFile(path, split, rows, (folder / path).stat().st_size, file_sha256(folder / path))
