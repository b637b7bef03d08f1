"""Read a table of ratings: .jsonl, .json (a list of objects), .csv, each also .gz, .parquet, or a dataset folder.

A dataset folder is one version, any `save_to_disk` folder, or `RUN/datasets/NAME`, which gives its current version. Cells are taken as they stand; `selfreward.judging.agreement.rating_tables` says what they must be. The only reading done here is of
CSV, which knows nothing but text: an empty cell is NULL, and a column that holds numbers is read as numbers.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from selfreward.errors import InputError
from selfreward.judging.agreement.rating_tables import (
    HUMAN_COLUMNS,
    Columns,
    check_ratings,
    join_rows,
    rating_columns,
)

if TYPE_CHECKING:
    import datasets
    import pandas as pd

ID_KEYS = ("prompt_id", "response_id")


def read_rows(path: str | Path) -> pd.DataFrame:
    """Read and check a table of ratings, of any kind that this module reads.

    Returns one row per response; `score` is float64 with NaN for NULL, `scores` keeps None within its lists.
    Raises InputError in one sentence that names the column and, where it is about a cell, the row.
    """
    import pandas as pd

    columns, row_numbers = read_columns(Path(path))
    checked = check_ratings(columns, where=Path(path).name, row_numbers=row_numbers)
    return pd.DataFrame(checked).astype({"score": "float64"})


def read_joined(scores: str | Path, ranks: str | Path) -> pd.DataFrame:
    """Scores from one table and human ranks from another, side by side by `prompt_id` and `response_id`.

    Raises InputError as `join_rows` does where a row has no partner, and as `read_rows` does for a bad cell.
    """
    import pandas as pd

    left, right = (pd.DataFrame(read_columns(Path(path))[0]) for path in (scores, ranks))
    joined = join_rows(left, right, ID_KEYS, left_name=Path(scores).name, right_name=Path(ranks).name)
    return pd.DataFrame(rating_columns(joined)).astype({"score": "float64"})


def read_columns(path: Path) -> tuple[Columns, list[int]]:
    """All cells of a table by column, and the row number of each; a key absent from a row is NULL."""
    if path.is_dir():
        dataset = _dataset(path)
        return dataset.with_format("arrow")[:].to_pydict(), list(range(1, len(dataset) + 1))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_list, ".csv": _csv_rows}
    if kind not in readers and kind != ".parquet":
        raise InputError(
            f"{path.name}: the kind of file is read from its name; .jsonl, .json, .csv and .parquet are known."
        )
    try:
        if kind == ".parquet":
            return _parquet_columns(path)
        opened = gzip.open if suffixes[-1] == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
            rows = list(readers[kind](cast(TextIO, text), path.name))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} cannot be read: {error}.") from error
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    return {name: [row.get(name) for _, row in rows] for name in names}, [number for number, _ in rows]


def _dataset(folder: Path) -> datasets.Dataset:
    from selfreward.store.run import Run, load_rows

    for run in folder.resolve().parents:
        if (run / "run.json").is_file():
            name = folder.resolve().relative_to(run).as_posix().removeprefix("datasets/")
            if name in Run(run).names():
                return Run(run).current(name).dataset()
    return load_rows(folder)


def _parquet_columns(path: Path) -> tuple[Columns, list[int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise InputError(f"{path.name} cannot be read as Parquet: {error}.") from error
    return table.to_pydict(), list(range(1, table.num_rows + 1))


def _json_lines(text: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield number, _json_object(_json_value(line, f"{name}, row {number}"), f"{name}, row {number}")


def _json_list(text: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _json_value(text.read(), name)
    if not isinstance(rows, list):
        raise InputError(
            f"{name} holds a JSON {type(rows).__name__}; a list of objects, one per response, was expected."
        )
    for number, row in enumerate(rows, start=1):
        yield number, _json_object(row, f"{name}, row {number}")


def _json_value(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{place} is not JSON: {error}.") from None


def _json_object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"{place} is {value!r:.60}; an object with a column name for each value was expected."
        )
    return value


def _csv_rows(text: TextIO, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """CSV rows; empty cells are NULL, and the columns that hold numbers are read as numbers where they are."""
    csv.field_size_limit(2**31 - 1)  # responses are longer than the default 128 kB
    reader = csv.reader(text)
    header = next(reader, [])
    for number, cells in enumerate(filter(None, reader), start=1):
        if len(cells) != len(header):
            raise InputError(
                f"{name}, row {number} has {len(cells)} cells; the header has {len(header)} columns."
            )
        yield number, {column: _csv_cell(column, cell) for column, cell in zip(header, cells, strict=True)}


def _csv_cell(column: str, cell: str) -> Any:
    if column == "response":
        return cell  # an empty response is a response
    if not cell.strip():
        return None
    try:
        if column == "scores":
            return json.loads(cell)
        return float(cell) if column in (*HUMAN_COLUMNS, "score", "n_chars") else cell
    except ValueError:
        return cell  # the check of the column says what is wrong with it
