"""Any page of a table in any order: the numbers of its rows, sorted once for each column and kept outside the memory.

    orders = RowOrders(table, folder)
    rows = orders.rows(RowsWanted(sort="score", descending=True))     # row numbers; any slice of them is a page

A sorted column is a file of row numbers (4 bytes each) in a temporary folder, mapped; a filter is one pass of DuckDB over
the columns that it names. A page deep in a large table then costs what the first costs, unlike OFFSET, which sorts all
rows before it for every page. Texts of up to 128 bytes sort by their characters' code points, longer ones by their
length; NULL is last either way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfreward.errors import UsageError
from selfreward.sql.queries import connect, quoted, read_stream
from selfreward.text import one_line
from selfreward.view.filters import RowsWanted, condition

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = NDArray[np.uint32]
_KEPT = 3
"""Filtered orders in memory, 4 bytes a row at most."""
_SHORT = 128
_WORD = 8
# Below this, sorting a column takes a fraction of a second, and needs no preparation.
LARGE = 1_000_000


class RowOrders:
    """Row numbers of one table, sorted and filtered. Safe to use from several threads."""

    def __init__(self, table: pa.Table, folder: Path, closed: Sequence[str] = (), threads: int = 2) -> None:
        self.table = table
        self._folder = folder
        self._closed = closed
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)
        self._threads = threads
        self._sorted: dict[str, tuple[Numbers, int]] = {}
        self._made: OrderedDict[RowsWanted, Numbers] = OrderedDict()
        self._by_length: dict[str, bool] = {}
        self._lock, self._sorting = threading.Lock(), threading.Lock()
        self._sorted[""] = self._stored(np.arange(table.num_rows, dtype=np.uint32), 0)

    def rows(self, wanted: RowsWanted) -> Numbers:
        """The numbers of the rows that are wanted, in their order. UsageError for a column that cannot be used."""
        if wanted.sort and not self.sortable(wanted.sort):
            raise UsageError(f"sort: {wanted.sort!r} is no column that can be sorted")
        order, n_null = self._order_of(wanted.sort)
        if not (wanted.filters or wanted.search or (wanted.descending and n_null)):
            return order[::-1] if wanted.descending else order
        with self._lock:
            if wanted in self._made:
                self._made.move_to_end(wanted)
                return self._made[wanted]
        if wanted.descending:
            n = len(order) - n_null
            order = np.concatenate([order[:n][::-1], order[n:]])
        if wanted.filters or wanted.search:
            order = order[self._kept(wanted)[order]]
        with self._lock:
            self._made[wanted] = order
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return order

    def fetch(self, numbers: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The rows with these numbers."""
        found = []
        for number in numbers:
            # Not `take`, which copies a column's chunks into one first.
            place = int(np.searchsorted(self._ends, number, side="right"))
            batch = self._batches[place]
            start = int(self._ends[place]) - batch.num_rows
            row = batch.slice(int(number) - start, 1)
            found.append((row.select(list(columns)) if columns else row).to_pylist()[0])
        return found

    def sortable(self, column: str) -> bool:
        """Whether there is such a column, with values that have an order."""
        import pyarrow.types as types

        if column not in self.table.column_names:
            return False
        kind = self.table.schema.field(column).type
        return bool(
            types.is_string(kind)
            or types.is_boolean(kind)
            or types.is_integer(kind)
            or types.is_floating(kind)
        )

    def by_length(self, column: str) -> bool:
        """Whether a column sorts by the length of its texts."""
        # Kept: it looks at every text of a column, and each page asks for every column.
        if column not in self._by_length:
            self._by_length[column] = _is_text(self.table[column]) and _longest(self.table[column]) > _SHORT
        return self._by_length[column]

    def prepare(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Sort every column, so that no reader of a large table waits for it."""
        for column in self.table.column_names:
            if not stopped() and self.sortable(column):
                self._order_of(column)
                self.by_length(column)

    def _order_of(self, column: str) -> tuple[Numbers, int]:
        """All rows by one column, ascending, and how many at the end are NULL; without a column, as they are stored."""
        if column not in self._sorted:
            # One sort at a time: each needs some hundred megabytes for a table of many million rows. Not the lock of
            # the pages: one in an order that is there already must not wait for the sort of another column.
            with self._sorting:
                if column not in self._sorted:
                    self._sorted[column] = self._stored(*_sort(self.table[column]))
        return self._sorted[column]

    def _stored(self, order: Numbers, n_null: int) -> tuple[Numbers, int]:
        """An order as a mapped file."""
        if not len(order):
            return order, n_null
        path = self._folder / f"order-{len(self._sorted)}.u32"
        order.tofile(path)
        return np.memmap(path, np.uint32, "r"), n_null

    def _kept(self, wanted: RowsWanted) -> NDArray[np.bool_]:
        """For each row, whether it passes the filters."""
        import duckdb

        where, parameters, columns = condition(wanted, self.table.schema, self._closed)
        if not columns:
            return np.zeros(self.table.num_rows, np.bool_)
        with connect({"threads": self._threads, "memory_limit": "256MB"}) as connection:
            connection.register("looked_at", self.table.select(columns))
            try:
                relation = connection.sql(
                    f"SELECT ({where}) AS {quoted('kept')} FROM looked_at", params=parameters
                )
                parts = [batch.column(0).to_numpy(zero_copy_only=False) for batch in read_stream(relation)]
            # A value that the column's type cannot hold.
            except duckdb.Error as error:
                raise UsageError(f"filter: {one_line(error)}") from error
        return np.concatenate([np.zeros(0, np.bool_), *parts]).astype(np.bool_, copy=False)


def _sort(column: pa.ChunkedArray) -> tuple[Numbers, int]:
    order: NDArray[np.intp] | None = None
    # From the last word to the first, each sort stable: the order of whole texts, 8 bytes at a time.
    for key in _keys(column):
        ranks = key.argsort(kind="stable") if order is None else key[order].argsort(kind="stable")
        order = ranks if order is None else order[ranks]
    assert order is not None
    if not column.null_count:
        return order.astype(np.uint32), 0
    null = np.concatenate([chunk.is_null().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    last = null[order]
    return np.concatenate([order[~last], order[last]]).astype(np.uint32), column.null_count


def _keys(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    if not _is_text(column):
        yield _concatenated(_numbers(chunk) for chunk in column.chunks)
        return
    longest = _longest(column)
    if longest > _SHORT:
        yield _concatenated(np.diff(_offsets(chunk)) for chunk in column.chunks)
        return
    # What all values begin with (`j-`) says nothing of their order.
    start = _shared(column)
    for at in reversed(range(start, max(longest, start + 1), _WORD)):
        yield _concatenated(_words(chunk, at) for chunk in column.chunks)


def _concatenated(parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
    found = list(parts)
    return np.concatenate(found) if found else np.zeros(0)


def _numbers(chunk: pa.Array) -> NDArray[Any]:
    # Filled: with NULLs, Arrow would give whole numbers as doubles, which lose their last digits.
    filled = chunk.fill_null(False if str(chunk.type) == "bool" else 0) if chunk.null_count else chunk
    array: NDArray[Any] = filled.to_numpy(zero_copy_only=False)
    return array


def _words(chunk: pa.Array, at: int) -> NDArray[np.uint64]:
    """The eight bytes of each text from `at` on as one number that sorts as they do; zeros behind the end."""
    offsets, data = _offsets(chunk), chunk.buffers()[2]
    starts = offsets[:-1].astype(np.int64) + at
    left = np.clip(offsets[1:] - starts, 0, _WORD)
    n_bytes = 0 if data is None else data.size
    # The last texts of a chunk may have no eight bytes behind their start: a copy with room at its end.
    padded = np.zeros(n_bytes + _WORD, np.uint8)
    if n_bytes:
        padded[:n_bytes] = np.frombuffer(data, np.uint8)
    windows = np.ndarray((n_bytes + 1,), ">u8", padded.data, strides=(1,))
    words = windows[np.minimum(starts, n_bytes)].astype(np.uint64)
    unused = ((_WORD - left) * 8).astype(np.uint64)
    # Shifted twice: a shift by 64 is undefined.
    half = unused // np.uint64(2)
    mask = unused - half
    kept: NDArray[np.uint64] = ((words >> half) >> mask) << half << mask
    return kept


def _offsets(chunk: pa.Array) -> NDArray[np.int32]:
    if not len(chunk):
        return np.zeros(1, np.int32)
    found: NDArray[np.int32] = np.frombuffer(chunk.buffers()[1], np.int32)[
        chunk.offset : chunk.offset + len(chunk) + 1
    ]
    return found


def _longest(column: pa.ChunkedArray) -> int:
    return max((int(np.diff(_offsets(chunk)).max()) for chunk in column.chunks if len(chunk)), default=0)


def _shared(column: pa.ChunkedArray) -> int:
    """How many bytes all texts of a column begin with."""
    import pyarrow.compute as pc

    ends = pc.min_max(column).as_py()
    low, high = ((ends[name] or "").encode() for name in ("min", "max"))
    # An empty or NULL text has no beginning to share.
    if column.null_count or not low:
        return 0
    return next(
        (i for i, (x, y) in enumerate(zip(low, high, strict=False)) if x != y), min(len(low), len(high))
    )


def _is_text(column: pa.ChunkedArray) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(column.type))
