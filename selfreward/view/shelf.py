"""The datasets of a run for readers: each version hashed once, in the background, then kept mapped.

A damaged dataset is named and left out; the others stay usable. What another process publishes meanwhile is found by
`refresh`, and versions that did not change are not hashed again.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import SelfrewardError, UsageError
from selfreward.sql.queries import connect, quoted
from selfreward.sql.views import OpenRun
from selfreward.store import lock
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.tables import BY_KIND, DATASETS, DatasetName, accepted_values, kind_of
from selfreward.text import one_line
from selfreward.view.orders import LARGE, RowOrders

if TYPE_CHECKING:
    import pyarrow as pa

THREADS = 2
# Longer than a dataset of a few hundred megabytes takes; a reader of a larger one is told to wait.
_PATIENCE_S = 1.0
_SQL_MEMORY = "800MB"


class StillReading(Exception):
    """A dataset's hashes are being checked; the reader should ask again."""


@dataclass(frozen=True)
class Entry:
    """A dataset or model of the run, for the list of all."""

    name: str
    version: str
    n_rows: int
    made_by: str
    created: str
    is_model: bool
    problem: str = ""

    @property
    def iteration(self) -> int:
        """-1 for what is made before the iterations."""
        kind = kind_of(self.name)
        number = DatasetName.parse(self.name).iteration if kind else None
        return -1 if number is None else number


class Shelf:
    """A run, its verified tables and their orders. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.run = Run(path)
        self.generation = self.run.state().generation
        self._scratch = tempfile.TemporaryDirectory(prefix="selfreward-view-")
        # One reader: two that hash at once are no faster, and a small dataset waits no longer.
        self._reader = ThreadPoolExecutor(1, "read")
        self._preparer = ThreadPoolExecutor(1, "prepare")
        self._reading: dict[Path, Future[Any]] = {}
        self._orders: dict[Path, RowOrders] = {}
        self._lock = threading.RLock()
        self._sql_lock = threading.Lock()
        self._closed = False
        self._opened = self._open()

    def close(self) -> None:
        """Stop preparing, release the maps, remove the files of the orders."""
        self._closed = True
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._preparer.shutdown(wait=True, cancel_futures=True)
        self._opened.close()
        self._scratch.cleanup()

    def refresh(self) -> int:
        """See what was published since; the run's generation, which changes whenever a dataset does."""
        generation = self.run.state().generation
        if generation != self.generation:
            with self._sql_lock, self._lock:
                self._opened.close()
                self._opened, self.generation = self._open(), generation
                current = {self.run.current(name).folder for name in self._opened.names()}
                # Versions that are no longer current are released; a query for them reads them again.
                self._orders = {folder: o for folder, o in self._orders.items() if folder in current}
                self._reading = {folder: f for folder, f in self._reading.items() if folder in current}
        return generation

    def entries(self) -> list[Entry]:
        """Everything that is current, from the manifests, in the order in which a run builds it."""
        found = [self._entry(name) for name in self.run.names()]
        return sorted(found, key=_place)

    def at_work(self) -> str:
        """The process that is writing the run now; empty if there is none."""
        return lock.at_work(self.run.path)

    def read(self, version: Version) -> pa.Table:
        """The verified rows of a version."""
        return self._future(version).result()

    def orders(self, name: str) -> RowOrders:
        """A dataset for paging. Raises StillReading while it is hashed, DamagedError if it is not what was published."""
        version = self._version(name)
        try:
            self._future(version).result(_PATIENCE_S)
        except TimeoutError as error:
            raise StillReading(
                f"{name}: its {version.n_bytes / 1e6:,.0f} MB are being checked against their hashes"
            ) from error
        with self._lock:
            if version.folder not in self._orders:
                folder = Path(tempfile.mkdtemp(dir=self._scratch.name))
                orders = RowOrders(self._opened.table(name), folder, closed_columns(name), THREADS)
                self._orders[version.folder] = orders
                if orders.table.num_rows >= LARGE:
                    self._preparer.submit(orders.prepare, lambda: self._closed)
            return self._orders[version.folder]

    def find(self, name: str, column: str, id: str) -> list[dict[str, Any]]:
        """The rows of a dataset with this id in a column (or in its list of ids)."""
        import duckdb

        table = self.orders(name).table
        if column not in table.column_names:
            return []
        is_list = str(table.schema.field(column).type).startswith("list")
        where = f"list_contains({quoted(column)}, ?)" if is_list else f"{quoted(column)} = ?"
        with connect({"threads": THREADS}) as connection:
            connection.register("looked_at", table)
            try:
                result = connection.execute(f"SELECT * FROM looked_at WHERE {where} LIMIT 200", [id])
                names = [entry[0] for entry in result.description]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
            except (duckdb.Error, ValueError, ArithmeticError) as error:
                raise UsageError(f"{name}: cannot be searched by {column}: {one_line(error)}") from error

    def place(self, id: str) -> tuple[str, dict[str, Any]] | None:
        """The dataset and the row of an id."""
        prefix, first = id.partition("-")[0], []
        for name in self.names():
            dataset = BY_KIND.get(kind_of(name))
            if dataset is not None and dataset.prefix:
                first.append((dataset.prefix != prefix, name, dataset.key[0]))
        # The prefix is only a hint: imported rows may have ids of any form.
        for _, name, column in sorted(first):
            try:
                rows = self.find(name, column, id)
            # A damaged dataset is named where it is asked for; others may have the row.
            except SelfrewardError:
                continue
            if rows:
                return name, rows[0]
        return None

    def names(self) -> list[str]:
        """The datasets, without models."""
        return [name for name in self.run.names() if not is_model(name)]

    @contextmanager
    def opened(self) -> Iterator[OpenRun]:
        """The run for SQL; one query at a time."""
        with self._sql_lock:
            yield self._opened

    def _open(self) -> OpenRun:
        return OpenRun(self.run.path, THREADS, _SQL_MEMORY, self.read)

    def _version(self, name: str) -> Version:
        if is_model(name):
            raise UsageError(f"{name}: is a model, which has no rows")
        return self.run.current(name)

    def _future(self, version: Version) -> Future[Any]:
        with self._lock:
            if version.folder not in self._reading:
                self._reading[version.folder] = self._reader.submit(version.table)
            return self._reading[version.folder]

    def _entry(self, name: str) -> Entry:
        try:
            version = self.run.current(name)
            version.check_files()
            manifest = version.manifest
            problem = self._found_wrong(version)
        except SelfrewardError as error:
            return Entry(name, "", 0, "", "", is_model(name), one_line(error))
        return Entry(
            name,
            version.version,
            version.n_rows,
            str(manifest["builder"]),
            str(manifest["created"]),
            is_model(name),
            problem,
        )

    def _found_wrong(self, version: Version) -> str:
        """Why a version that was read already cannot be used."""
        future = self._reading.get(version.folder)
        error = future.exception() if future is not None and future.done() else None
        return one_line(error) if error is not None else ""


def closed_columns(name: str) -> list[str]:
    """The columns of a dataset that have a fixed set of values."""
    dataset = DatasetName.parse(name).dataset
    return list(accepted_values(dataset.row)) if dataset else []


def _place(entry: Entry) -> tuple[int, int, str]:
    kinds = [dataset.kind for dataset in DATASETS]
    kind = kind_of(entry.name)
    return (entry.iteration, kinds.index(kind) if kind in kinds else len(kinds), entry.name)
