"""A query's rows as Parquet, without SQL's decimals, which `datasets` and others read as texts.

Whole decimals (`sum` of whole numbers) become 64-bit integers if all fit, else doubles, with a notice; other decimals
(`0.5`) become doubles.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.progress import say

if TYPE_CHECKING:
    import pyarrow as pa


class _DoesNotFitError(Exception):
    def __init__(self, column: int) -> None:
        self.column = column


def write_parquet(open_rows: Callable[[], AbstractContextManager[pa.RecordBatchReader]], path: Path) -> int:
    """The rows as Parquet; the query is run again if a whole number does not fit."""
    import pyarrow as pa

    doubles: set[int] = set()
    while True:
        # A stream can be read only once: an overflow in a late batch means running the query again.
        with open_rows() as reader:
            fields = (
                pa.field(field.name, _without_decimals(field.type, number in doubles))
                for number, field in enumerate(reader.schema)
            )
            try:
                return _write_batches(reader, pa.schema(list(fields)), path)
            except _DoesNotFitError as error:
                doubles.add(error.column)
                name = reader.schema.names[error.column]
                say(f"column {name!r} holds a number of more than 64 bits; it is written as doubles")


def _write_batches(reader: pa.RecordBatchReader, schema: pa.Schema, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet

    n_rows = 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in reader:
            columns = []
            for number, column in enumerate(batch.columns):
                kind = schema.field(number).type
                # Doubles may be rounded, whole numbers may not.
                try:
                    columns.append(column.cast(kind, safe=pa.types.is_integer(kind)))
                except pa.ArrowInvalid as error:
                    raise _DoesNotFitError(number) from error
            writer.write_batch(pa.record_batch(columns, schema=schema))
            n_rows += batch.num_rows
    return n_rows


def _without_decimals(kind: pa.DataType, as_double: bool) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return pa.float64() if as_double or kind.scale > 0 else pa.int64()
    if pa.types.is_list(kind):
        return pa.list_(_without_decimals(kind.value_type, as_double))
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return pa.struct([pa.field(f.name, _without_decimals(f.type, as_double)) for f in fields])
    return kind
