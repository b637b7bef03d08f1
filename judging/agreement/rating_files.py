"""Read a table of ratings: a file of any form that `selfreward.reading.files` reads, or a dataset folder.

A dataset folder is one version, any `save_to_disk` folder, or `RUN/datasets/NAME`, which gives its current version.
Cells are read unchecked; `selfreward.judging.agreement.rating_tables` checks them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.judging.agreement.rating_tables import (
    HUMAN_COLUMNS,
    Columns,
    check_ratings,
    join_rows,
    rating_columns,
)
from selfreward.reading.files import read_rows as read_file
from selfreward.reading.opening import kind_of

if TYPE_CHECKING:
    import datasets
    import pandas as pd

ID_KEYS = ("prompt_id", "response_id")


def read_rows(path: str | Path) -> pd.DataFrame:
    """Read and check a table of ratings, of any kind that this module reads.

    Returns one row per response; `score` is float64 with NaN for NULL, `scores` keeps None within its lists.
    Raises InputError in one sentence that names the column and, for a bad cell, the row.
    """
    import pandas as pd

    columns, row_numbers = read_columns(Path(path))
    checked = check_ratings(columns, where=Path(path).name, row_numbers=row_numbers)
    return pd.DataFrame(checked).astype({"score": "float64"})


def read_joined(scores: str | Path, ranks: str | Path) -> pd.DataFrame:
    """Scores from one table and human ranks from another, side by side by `prompt_id` and `response_id`.

    Raises InputError as `join_rows` does for a row without a partner, and as `read_rows` does for a bad cell.
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
    rows = list(read_file(path, path.name))
    if kind_of(path) == "csv":
        rows = [(n, {column: _csv_cell(column, cell) for column, cell in row.items()}) for n, row in rows]
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    return {name: [row.get(name) for _, row in rows] for name in names}, [number for number, _ in rows]


def _dataset(folder: Path) -> datasets.Dataset:
    from selfreward.store.run import Run, load_rows

    # Inside a run the folder of a dataset holds all its versions: the run knows the current one.
    for run in folder.resolve().parents:
        if (run / "run.json").is_file():
            name = folder.resolve().relative_to(run).as_posix().removeprefix("datasets/")
            if name in Run(run).names():
                return Run(run).current(name).dataset()
    return load_rows(folder)


def _csv_cell(column: str, cell: str | None) -> Any:
    """A CSV cell, as a number in the columns that hold numbers."""
    if column == "response":
        # An empty response is a response, not a missing one.
        return cell or ""
    if cell is None or not cell.strip():
        return None
    try:
        if column == "scores":
            return json.loads(cell)
        return float(cell) if column in (*HUMAN_COLUMNS, "score", "n_chars") else cell
    except ValueError:
        # The check of the column names file and row, which are unknown here.
        return cell
