"""Output of `selfreward sql`: a table for the terminal, JSON, CSV, Parquet, a DuckDB file; and the prompt.

Rows are streamed: a query over millions of rows holds one batch at a time, and a table fetches only the rows that it
shows. NULL is `-` in a table, null in JSON, empty in CSV; NaN is shown as NULL. A table says how many
rows and columns it does not show, and ends cells that it cuts with `…`; the other formats show everything. Decimals of
SQL (`sum` of whole numbers, `0.5`) are written as numbers: whole ones as 64-bit integers where all fit, else as doubles.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from selfreward.errors import SelfrewardError, UsageError
from selfreward.progress import say
from selfreward.sql.parquet import write_parquet
from selfreward.sql.views import OpenRun, open_run, read_stream
from selfreward.store import durable
from selfreward.text import format_table, inert_cell, one_line, printable, shorten

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["table", "json", "csv"]
FORMATS = ("table", "json", "csv")
MAX_ROWS = 40
_BATCH_ROWS = 10_000
_CELL_WIDTHS = (80, 60, 40, 30, 20, 12)
_FILES = (".parquet", ".json", ".jsonl", ".csv", ".duckdb")


def run_query(
    run_path: Path,
    query: str,
    *,
    format: Format = "table",
    out: Path | None = None,
    max_rows: int = MAX_ROWS,
    stream: TextIO | None = None,
    spreadsheet: bool = False,
) -> int:
    """Print a query's rows, or write them to `out` (format by its ending); returns how many rows there were.

    `spreadsheet` makes CSV cells inert that a spreadsheet would take for formulas.
    `out` with the ending .duckdb gets every dataset of the run, and the query's rows as the table `result`.
    """
    stream = stream or sys.stdout
    if spreadsheet and (format if out is None else out.suffix[1:]) != "csv":
        raise UsageError("--spreadsheet is for CSV: with --csv or --out FILE.csv")
    if out is not None and out.suffix not in _FILES:
        raise UsageError(f"--out {out}: unknown kind of file; expected {', '.join(_FILES)}")
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first")
    with open_run(run_path) as run:
        if out is None:
            return print_rows(run, query, format, stream, max_rows, spreadsheet)
        if out.suffix == ".duckdb":
            from selfreward.sql.file import write_audit_file

            return write_audit_file(run, out, query)
        return write_file(run, query, out, spreadsheet)


def print_rows(
    run: OpenRun,
    query: str,
    format: Format,
    stream: TextIO,
    max_rows: int = MAX_ROWS,
    spreadsheet: bool = False,
) -> int:
    """Rows of a query in one of `FORMATS`; returns how many there were."""
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}; expected one of {', '.join(FORMATS)}")
    with _explained():
        if format == "table":
            return _print_table(run, query, stream, max_rows)
        with _reader(run, query) as reader:
            return _printer(format, spreadsheet)(reader, stream)


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
def _explained() -> Iterator[None]:
    """Report an error while rows are computed as a usage error too."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    # ValueError, ArithmeticError: a value that DuckDB can hold and Python cannot, such as an infinite time.
    except (duckdb.Error, pa.ArrowException, ArithmeticError, ValueError) as error:
        raise UsageError(f"query: {one_line(error)}") from error


@contextmanager
def _reader(run: OpenRun, query: str) -> Iterator[pa.RecordBatchReader]:
    """The rows of a query as Arrow batches; no columns if the statement returns none."""
    import pyarrow as pa

    relation = run.sql(query)
    reader = (
        pa.RecordBatchReader.from_batches(pa.schema([]), []) if relation is None else read_stream(relation)
    )
    try:
        yield reader
    finally:
        # Otherwise the connection accepts no other query.
        reader.close()


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    """Rows by position, since column names may repeat."""
    for batch in batches:
        yield from zip(*(map(_plain, column.to_pylist()) for column in batch.columns), strict=True)


def _without_twins(names: list[str]) -> list[str]:
    """Names made unique: a, b, a become a, b, a_1, with a notice on stderr."""
    seen: list[str] = []
    for name in names:
        number, new = 0, name
        # A new name must not be that of a later column either.
        while new in seen or (number and new in names):
            number += 1
            new = f"{name}_{number}"
        seen.append(new)
    if seen != names:
        say(f"columns with the same name were renamed to {', '.join(s for s in seen if s not in names)}")
    return seen


def _plain(value: Any) -> Any:
    """A value as JSON: NaN becomes null, big integers stay exact."""
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _objects(reader: pa.RecordBatchReader) -> Iterator[str]:
    names = _without_twins(reader.schema.names)
    for row in _rows(reader):
        yield json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)


def _print_json(reader: pa.RecordBatchReader, stream: TextIO) -> int:
    n_rows = 0
    stream.write("[")
    for text in _objects(reader):
        stream.write((",\n " if n_rows else "\n ") + printable(text))
        n_rows += 1
    stream.write("\n]\n" if n_rows else "]\n")
    return n_rows


def _print_jsonl(reader: pa.RecordBatchReader, stream: TextIO) -> int:
    n_rows = 0
    for text in _objects(reader):
        stream.write(f"{text}\n")
        n_rows += 1
    return n_rows


def _print_csv(reader: pa.RecordBatchReader, stream: TextIO, inert: bool = False) -> int:
    """Write rows as CSV; values are quoted only if needed."""
    writer = csv.writer(stream, lineterminator="\n")
    # Programs get the text unchanged; a terminal gets no control characters.
    shown = printable if stream.isatty() else str
    names: Iterable[str] = map(shown, reader.schema.names)
    writer.writerow(map(inert_cell, names) if inert else names)
    n_rows = 0
    for batch in reader:
        n_rows += batch.num_rows
        # By column, which is several times faster than by value.
        columns: Iterable[list[Any]] = map(_csv_cells, batch.columns)
        if stream.isatty():
            columns = ([printable(v) if isinstance(v, str) else v for v in column] for column in columns)
        if inert:
            columns = (list(map(inert_cell, column)) for column in columns)
        writer.writerows(zip(*columns, strict=True))
    return n_rows


def _csv_cells(column: pa.Array) -> list[Any]:
    import pyarrow as pa

    values: list[Any] = column.to_pylist()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return values
    plain = map(_plain, values)
    return [_text(value) if isinstance(value, list | dict) else value for value in plain]


_PRINTERS: dict[str, Callable[[pa.RecordBatchReader, TextIO], int]] = {
    "json": _print_json,
    "jsonl": _print_jsonl,
    "csv": _print_csv,
}


def _printer(format: str, spreadsheet: bool) -> Callable[[pa.RecordBatchReader, TextIO], int]:
    return partial(_print_csv, inert=True) if spreadsheet else _PRINTERS[format]


def _print_table(run: OpenRun, query: str, stream: TextIO, max_rows: int) -> int:
    """Print the first rows; returns how many there are in all."""
    relation = run.sql(query)
    if relation is None:
        stream.write("(0 rows)\n")
        return 0
    names = list(relation.columns)
    # EXPLAIN returns a drawing of many lines, which a table cell would cut.
    if names == ["explain_key", "explain_value"]:
        plan = relation.fetchall()
        stream.write("".join(f"{printable(text)}\n" for _, text in plan))
        return len(plan)
    rows = list(_rows(read_stream(relation.limit(max_rows + 1))))
    shown = rows[:max_rows]
    # DuckDB counts the rest, so that a million rows do not become Python objects.
    n_rows = len(rows) if len(rows) <= max_rows else int(relation.count("*").fetchall()[0][0])
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


def write_file(run: OpenRun, query: str, out: Path, spreadsheet: bool) -> int:
    """Write the rows to a file atomically."""
    with _explained(), durable.new_file(out) as temporary:
        if out.suffix == ".parquet":
            return write_parquet(partial(_reader, run, query), temporary)
        with temporary.open("w", encoding="utf-8", newline="") as stream, _reader(run, query) as reader:
            return _printer(out.suffix[1:], spreadsheet)(reader, stream)
