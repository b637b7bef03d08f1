"""What `selfreward sql` prints or writes: a table for the terminal, JSON, CSV, Parquet, a DuckDB file; and the prompt.

Rows are streamed: a query over millions of rows holds one batch at a time. NULL is `-` in a table, null in JSON, empty
in CSV; NaN, which is no value, is shown as NULL. A table says how many rows and columns it does not show, and ends
cells that it cuts with `…`; the other formats show everything.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TextIO

from selfreward.errors import SelfrewardError, UsageError
from selfreward.sql.views import OpenRun, open_run, read_stream
from selfreward.store import durable
from selfreward.text import format_table, one_line, printable, shorten

Format = Literal["table", "json", "csv"]
FORMATS = ("table", "json", "csv")
MAX_ROWS = 40
_BATCH_ROWS = 10_000
_CELL_WIDTHS = (80, 60, 40, 30, 20, 12)
_FILES = (".parquet", ".json", ".csv", ".duckdb")


def run_query(
    run_path: Path,
    query: str,
    *,
    format: Format = "table",
    out: Path | None = None,
    max_rows: int = MAX_ROWS,
    stream: TextIO | None = None,
) -> int:
    """Print a query's rows, or write them to `out` (format by its ending); returns how many rows there were.

    `out` with the ending .duckdb gets every dataset of the run, and the query's rows as the table `result`.
    """
    stream = stream or sys.stdout
    if out is not None and out.suffix not in _FILES:
        raise UsageError(f"--out {out}: unknown kind of file; expected {', '.join(_FILES)}")
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first")
    with open_run(run_path) as run:
        if out is None:
            return print_rows(run, query, format, stream, max_rows)
        if out.suffix == ".duckdb":
            from selfreward.sql.file import write_audit_file

            return write_audit_file(run, out, query)
        return _write_file(run, query, out)


def print_rows(run: OpenRun, query: str, format: Format, stream: TextIO, max_rows: int = MAX_ROWS) -> int:
    """Rows of a query in one of `FORMATS`; returns how many there were."""
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    with _rows(run, query) as (names, rows):
        if format == "json":
            return _print_json(names, rows, stream)
        if format == "csv":
            return _print_csv(names, rows, stream)
        return _print_table(names, rows, stream, max_rows)


def repl(run_path: Path, stream: TextIO | None = None) -> None:
    """An interactive prompt: queries end with `;`, `.tables` lists views, `.quit` or Ctrl-D leaves."""
    stream = stream or sys.stdout
    with suppress(ImportError):
        import readline  # noqa: F401  input() gets line editing and history from it
    with open_run(run_path) as run:
        print(f"{run_path}: {len(run.views())} views; .tables lists them, a query ends with ;", file=stream)
        for command in _commands():
            if command == ".tables":
                print(printable("\n".join(run.views())), file=stream)
                continue
            try:
                print_rows(run, command, "table", stream)
            except SelfrewardError as error:
                print(printable(str(error)), file=stream)


def _commands() -> Iterator[str]:
    """Commands and complete queries as they are typed; Ctrl-C drops a half-typed one."""
    typed: list[str] = []
    while True:
        try:
            line = input("...> " if typed else "sql> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            print()
            typed = []
            continue
        if not typed and line.strip() in (".quit", ".exit", "exit", "quit"):
            return
        if not typed and line.strip().startswith("."):
            yield line.strip()
        elif line.strip() or typed:
            typed.append(line)
            if line.rstrip().endswith(";"):
                yield "\n".join(typed)
                typed = []


@contextmanager
def _rows(run: OpenRun, query: str) -> Iterator[tuple[list[str], Iterator[tuple[Any, ...]]]]:
    """Column names and rows; an error while rows are computed is the user's to read, too."""
    import duckdb
    import pyarrow as pa

    relation = run.sql(query)
    try:
        if relation is None:
            yield [], iter(())
            return
        reader = read_stream(relation)
        batches = (batch.to_pydict() for batch in reader)
        yield (
            list(reader.schema.names),
            (row for batch in batches for row in zip(*map(_values, batch.values()), strict=True)),
        )
    except (duckdb.Error, pa.ArrowException) as error:
        raise UsageError(f"query: {one_line(error)}") from error


def _values(column: list[Any]) -> Iterator[Any]:
    return (_plain(value) for value in column)


def _plain(value: Any) -> Any:
    """A value as JSON can say it; NaN is no value, an exact big integer stays one."""
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _print_json(names: list[str], rows: Iterator[tuple[Any, ...]], stream: TextIO) -> int:
    n_rows = 0
    stream.write("[")
    for n_rows, row in enumerate(rows, 1):
        separator = ",\n " if n_rows > 1 else "\n "
        stream.write(
            separator + printable(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
        )
    stream.write("\n]\n" if n_rows else "]\n")
    return n_rows


def _print_csv(names: list[str], rows: Iterator[tuple[Any, ...]], stream: TextIO) -> int:
    shown = printable if stream.isatty() else str  # programs get the text as it is
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(shown, names))
    n_rows = 0
    for row in rows:
        n_rows += 1
        writer.writerow([shown(_text(v)) if isinstance(v, list | dict | str) else v for v in row])
    return n_rows


def _print_table(names: list[str], rows: Iterator[tuple[Any, ...]], stream: TextIO, max_rows: int) -> int:
    shown: list[tuple[Any, ...]] = []
    n_rows = 0
    for n_rows, row in enumerate(rows, 1):
        if n_rows <= max_rows:
            shown.append(row)
    if names == ["explain_key", "explain_value"]:
        stream.write("".join(f"{printable(text)}\n" for _, text in shown))
        return n_rows
    width = shutil.get_terminal_size((120, 40)).columns
    n_columns, cell = _fit(names, shown, width)
    cut = [[_cut(value, cell) for value in row[:n_columns]] for row in shown]
    stream.write(format_table(names[:n_columns], cut) + "\n")
    notes = [f"{n_rows:,} row{'' if n_rows == 1 else 's'}"]
    if n_rows > len(shown):
        notes.append(f"{n_rows - len(shown):,} of them not shown")
    if n_columns < len(names):
        notes.append(f"columns not shown: {printable(', '.join(names[n_columns:]))}")
    stream.write(f"({', '.join(notes)})\n")
    return n_rows


def _fit(names: list[str], rows: list[tuple[Any, ...]], width: int) -> tuple[int, int]:
    """How many columns fit the terminal, and how wide a cell may be: narrower cells before fewer columns."""
    for cell in _CELL_WIDTHS:
        widths = [
            max([len(name), *(len(str(_cut(row[i], cell))) for row in rows)]) for i, name in enumerate(names)
        ]
        if sum(widths) + 2 * (len(widths) - 1) <= width:
            return len(names), cell
    n_columns, total = 1, widths[0] if widths else 0
    while n_columns < len(names) and total + widths[n_columns] + 2 <= width:
        total += widths[n_columns] + 2
        n_columns += 1
    return n_columns, _CELL_WIDTHS[-1]


def _cut(value: Any, width: int) -> Any:
    return value if value is None or isinstance(value, int | float) else shorten(value, width)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_file(run: OpenRun, query: str, out: Path) -> int:
    """The rows in a file that appears whole or not at all."""
    with durable.new_file(out) as temporary:
        if out.suffix == ".parquet":
            return _write_parquet(run, query, temporary)
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            return print_rows(run, query, "json" if out.suffix == ".json" else "csv", stream)


def _write_parquet(run: OpenRun, query: str, path: Path) -> int:
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet

    try:
        reader = read_stream(run.sql(query))
        n_rows = 0
        with pyarrow.parquet.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                n_rows += batch.num_rows
    except (duckdb.Error, pa.ArrowInvalid) as error:
        raise UsageError(f"query: {one_line(error)}") from error
    return n_rows
