"""Rows out: `selfreward export` writes the current version of a dataset as one file, batch by batch.

`--as rows` (the default) writes what is stored: re-imported, the rows have the same content hash, whether from .jsonl,
.csv or .parquet (a CSV holds lists as JSON, a text in quotes, NULL as nothing). The forms of other trainers are in
`selfreward.exchange.trainer_forms`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import UsageError
from selfreward.exchange.trainer_forms import forms_of
from selfreward.progress import say
from selfreward.store import durable
from selfreward.store.run import Run, is_model
from selfreward.tables import DatasetName
from selfreward.text import inert_cell

if TYPE_CHECKING:
    import pyarrow as pa

_ENDINGS = (".jsonl", ".csv", ".parquet")


def export_file(run: Run, name: str, path: Path, form: str = "rows", spreadsheet: bool = False) -> int:
    """Write the current version of a dataset as one file; returns its number of rows. An old file is replaced whole.

    `spreadsheet` puts a `'` before CSV texts that would be formulas there; such a file is for reading, not for `import`.
    """
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
    if ending is None:
        raise UsageError(f"{path}: unknown kind of file; expected .parquet, .jsonl or .csv")
    if is_model(name):
        raise UsageError(f"{name}: is a model; `export` writes datasets such as iter1/pairs")
    if spreadsheet and ending != ".csv":
        raise UsageError(f"{path}: --spreadsheet is for files that end in .csv")
    kind = DatasetName.parse(name).kind
    forms = forms_of(kind)
    if form not in forms:
        raise UsageError(f"--as {form!r}: {name} has the forms {', '.join(forms)}")
    # A trainer would read a list in a CSV as text and train on its brackets.
    if ending == ".csv" and form not in ("rows", "plain"):
        raise UsageError(
            f"{path}: CSV cannot hold the lists of --as {form}; write .jsonl or .parquet"
            + (", or --as plain" if kind in ("pairs", "judge_pairs") else "")
        )
    table = run.current(name).table()
    if ending == ".csv" and any(_is_nested(field.type) for field in table.schema):
        lists = ", ".join(field.name for field in table.schema if _is_nested(field.type))
        if form == "rows":
            say(f"{path}: {lists} are JSON texts, which `selfreward import` reads and trainers do not")
    schema, batches = forms[form](table)
    if spreadsheet:
        batches = map(_inert, batches)
    # Renamed when complete: an interrupted export leaves the old file whole.
    with durable.new_file(path) as temporary:
        return _WRITERS[ending](schema, batches, temporary)


# -- files ---------------------------------------------------------------------------------------------------


def _write_jsonl(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    n_rows = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            n_rows += batch.num_rows
            for row in batch.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    return n_rows


def _write_csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Quote texts, so that an empty one differs from NULL; write lists as JSON."""
    import pyarrow as pa
    import pyarrow.csv

    flat = pa.schema([pa.field(f.name, pa.string() if _is_nested(f.type) else f.type) for f in schema])
    n_rows = 0
    with pyarrow.csv.CSVWriter(path, flat) as writer:
        for batch in batches:
            n_rows += batch.num_rows
            writer.write_batch(
                pa.record_batch(
                    [_as_json(column) if _is_nested(column.type) else column for column in batch.columns],
                    schema=flat,
                )
            )
    return n_rows


def _inert(batch: pa.RecordBatch) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [
        pa.array(map(inert_cell, column.to_pylist()), pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in batch.columns
    ]
    return pa.record_batch(columns, schema=batch.schema)


def _as_json(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    texts = (
        None if cell is None else json.dumps(cell, ensure_ascii=False, default=str)
        for cell in column.to_pylist()
    )
    return pa.array(texts, pa.string())


def _is_nested(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(kind))


def _write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> int:
    import pyarrow.parquet

    n_rows = 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            n_rows += batch.num_rows
            writer.write_batch(batch)
    return n_rows


_WRITERS: dict[str, Callable[[Any, Iterable[Any], Path], int]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
