"""CSV and Parquet files as Arrow record batches, in bounded memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.reading.opening import explained, kind_of, open_bytes

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes of CSV parsed at a time, and so the maximum length of a row.
_CSV_BLOCK = 64 << 20
_BATCH_ROWS, _BATCH_BYTES = 10_000, 32 << 20


def read_batches(path: Path, where: str | None = None) -> Iterator[pa.RecordBatch]:
    """A CSV or Parquet file as record batches in order; all columns of a CSV are text. At least one, if empty."""
    where = where or str(path)
    read = _csv_batches if kind_of(path) == "csv" else _parquet_batches
    with explained(path, where):
        yield from read(path, where)


def _csv_batches(path: Path, where: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    header = _header(path, where)
    bad_rows: list[Any] = []

    def refuse(row: Any) -> str:
        bad_rows.append(row)
        return "error"

    if not header:
        yield pa.RecordBatch.from_pylist([], schema=pa.schema([]))
        return
    try:
        with open_bytes(path) as file:
            blocks = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=refuse),
                # `""` is an empty text, an empty cell is NULL; all stays text, so that 007 keeps its zeros.
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            for block in blocks:
                for start in range(0, max(1, block.num_rows), _BATCH_ROWS):
                    yield block.slice(start, _BATCH_ROWS)
    except pa.ArrowInvalid as error:
        # Arrow counts the header as row 1.
        if not bad_rows:
            reason = re.sub(
                r"Row #(\d+)", lambda found: f"row {int(found[1]) - 1}", " ".join(str(error).split())
            )
            raise InputError(
                f"{where}: cannot be read as CSV ({reason}); expected UTF-8, closed quotes, and rows below "
                f"{_CSV_BLOCK >> 20} MB"
            ) from error
        row = bad_rows[0]
        raise InputError(
            f"{where}: row {row.number - 1} has {row.actual_columns} cells; the header has {row.expected_columns} columns"
        ) from error


def _header(path: Path, where: str) -> list[str]:
    with open_bytes(path) as file:
        lines = (line.decode("utf-8-sig" if number == 0 else "utf-8") for number, line in enumerate(file))
        try:
            header = next(csv.reader(lines), [])
        except csv.Error as error:
            raise InputError(f"{where}: its header cannot be read ({error})") from error
    return _unique(header, where)


def _unique(names: list[str], where: str) -> list[str]:
    twins = [name for number, name in enumerate(names) if name in names[:number]]
    if twins:
        raise InputError(f"{where}: has two columns named {twins[0]!r}; rename one")
    return names


def _parquet_batches(path: Path, where: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_bytes(path) as file:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        _unique(schema.names, where)
        meta = parquet.metadata
        n_bytes = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        # With 10 MB rows, a fixed number of rows would exceed the memory bound.
        n_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * max(1, meta.num_rows) // max(1, n_bytes)))
        yield pa.RecordBatch.from_pylist([], schema=schema)
        for number, batch in enumerate(parquet.iter_batches(n_rows)):
            try:
                batch.validate(full=True)
            except pa.ArrowInvalid as error:
                first, reason = number * n_rows + 1, " ".join(str(error).split())
                raise InputError(
                    f"{where}: rows {first} to {first + batch.num_rows - 1}: contain damaged values ({reason})"
                ) from error
            yield batch
