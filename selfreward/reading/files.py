"""The reader of users' tables: JSON, JSON lines, CSV and Parquet, each also gzipped.

    for number, row in read_rows(Path("replies.csv")):    # 1, {"prompt": "…", "response": "007"}

- JSON: an array of objects, JSON lines, or one object by column ({"prompt": ["…", "…"]}), detected from the content;
- CSV: every cell is the file's text byte for byte (007, 1.50, TRUE, N/A); an empty cell without quotes is None;
- Parquet: values as stored.

Guarantees: text is never parsed as a number or a date; a byte order mark is skipped; rows of many MB and line breaks in
quoted cells work; JSON lines, CSV and Parquet are read in bounded memory (an array or an object by column is not).
Unreadable input raises an InputError of one sentence that names the file and the row: the line of JSON lines, else the
row's number, counted from 1.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.reading.batches import read_batches
from selfreward.reading.opening import explained, kind_of, open_bytes

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
NumberedRows = Iterator[tuple[int, Row]]
_SizedRows = Iterator[tuple[int, Row, int]]

_BATCH_ROWS, _BATCH_CHARS = 10_000, 16 << 20


def read_rows(path: Path, where: str | None = None) -> NumberedRows:
    """Every row with its number; `where` is the file's name in messages (default: its path)."""
    where = where or str(path)
    if kind_of(path) == "json":
        yield from ((number, row) for number, row, _ in _json_rows(path, where))
        return
    rows = (row for batch in read_batches(path, where) for row in batch.to_pylist())
    try:
        yield from enumerate(rows, 1)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: holds text that is not UTF-8 (byte {error.start} of a cell)") from error


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of rows, by column: lists of JSON values, Arrow arrays of a CSV (all text) or of Parquet."""

    numbers: Sequence[int]
    columns: Mapping[str, pa.Array | list[Any]]


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The same rows in chunks of some thousands or some MB. A missing key is None."""
    if kind_of(path) == "json":
        waiting: list[tuple[int, Row]] = []
        n_chars = 0
        for number, row, size in _json_rows(path, str(path)):
            waiting.append((number, row))
            n_chars += size
            if len(waiting) == _BATCH_ROWS or n_chars > _BATCH_CHARS:
                yield _chunk(waiting)
                waiting, n_chars = [], 0
        if waiting:
            yield _chunk(waiting)
        return
    start = 1
    for batch in read_batches(path):
        columns = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        yield Chunk(range(start, start + batch.num_rows), columns)
        start += batch.num_rows


def _chunk(rows: list[tuple[int, Row]]) -> Chunk:
    numbers = [number for number, _ in rows]
    names = list(rows[0][1])
    if len(names) > 1 and all(len(row) == len(names) for _, row in rows):
        # Rows nearly always have the same keys, and this is three times faster.
        with suppress(KeyError):
            columns = zip(*map(itemgetter(*names), (row for _, row in rows)), strict=True)
            return Chunk(numbers, dict(zip(names, map(list, columns), strict=True)))
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    return Chunk(numbers, {name: [row.get(name) for _, row in rows] for name in names})


# -- JSON ----------------------------------------------------------------------------------------------------


def _json_rows(path: Path, where: str) -> _SizedRows:
    """Number, row and size in characters (0 if everything is in memory already)."""
    with explained(path, where), open_bytes(path) as file:
        lines = _numbered_lines(file, where)
        first = next(lines, None)
        if first is None:
            return
        # An array starts with `[`; if the first line is not a complete object, the file is one by column.
        if not first[1].startswith("[") and (record := _object_or_none(first[1])) is not None:
            second = next(lines, None)
            if (
                # The only line of a `.json` file, with a list under each key, holds columns.
                second is None
                and _is_by_column(record)
                and ".json" in (path.suffix, path.with_suffix("").suffix)
            ):
                yield from _by_column(record, where)
                return
            yield first[0], record, len(first[1])
            for number, line in itertools.chain([second] if second else [], lines):
                yield number, _row(_parse(line, where, number), where, number), len(line)
            return
        parts, last = [], 1
        for number, line in itertools.chain([first], lines):
            # Blank lines were skipped, but count in the line numbers of messages.
            parts.append("\n" * (number - last) + line)
            last = number
        whole = _parse("".join(parts), where, 1)
        if isinstance(whole, dict):
            yield from _by_column(whole, where)
            return
        for number, value in enumerate(whole, 1):
            yield number, _row(value, where, number), 0


def _numbered_lines(file: IO[bytes], where: str) -> Iterator[tuple[int, str]]:
    """The non-blank lines, decoded one by one, so that a bad byte is reported with its line."""
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}:{number}: is not UTF-8 text (byte {error.start} of the line); save it as UTF-8"
            ) from error
        if text.strip():
            yield number, text.lstrip() if number == 1 else text


def _parse(text: str, where: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}:{line + error.lineno - 1}: is not valid JSON ({error.msg} at column {error.colno})"
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}:{line}: is not valid JSON ({error})") from error


def _object_or_none(line: str) -> Row | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _row(value: Any, where: str, number: int) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{where}: row {number}: expected an object with columns, found {value!r:.60}")
    return value


def _is_by_column(value: Row) -> bool:
    return bool(value) and all(isinstance(column, list) for column in value.values())


def _by_column(value: Row, where: str) -> _SizedRows:
    cells = next(iter(value.values()), None)
    # {"rows": [{…}, …]} wraps an array of rows; it is not a column of objects.
    wrapped = len(value) == 1 and isinstance(cells, list) and all(isinstance(cell, dict) for cell in cells)
    if not _is_by_column(value) or wrapped:
        raise InputError(
            f"{where}: holds one JSON object with the keys {', '.join(sorted(value)[:8]) or '(none)'}; expected an array "
            "of rows, one row a line, or an object with a list for each column"
        )
    lengths = {name: len(column) for name, column in value.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise InputError(f"{where}: its columns have different lengths ({shown}); each row needs all of them")
    for number, cells in enumerate(zip(*value.values(), strict=True), 1):
        yield number, dict(zip(value, cells, strict=True)), 0
