"""Rows in: `selfreward import` (`selfreward.exchange.exporting` writes rows out).

Rows are validated by `selfreward.exchange.incoming` and published like any other version. Columns that the dataset's class does
not have are kept; columns that the file does not have are filled in where `selfreward.exchange.own_rows` has a rule.
"""

from __future__ import annotations

from pathlib import Path

from selfreward.errors import InputError, UsageError
from selfreward.exchange.incoming import Incoming
from selfreward.exchange.own_rows import describe_columns
from selfreward.store.run import Counts, Recipe, Run, file_input
from selfreward.store.version import Version
from selfreward.tables import DATASETS, Dataset, DatasetName, is_dataset

IMPORTER = "import 2"
_ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


def import_file(run: Run, name: str, path: Path) -> list[Version]:
    """Publish the rows of a file as `name`; of a folder, each file as the dataset that it is named after."""
    if not path.is_dir():
        return [_publish(_checked(run, name, path))]
    files = sorted(p for p in path.rglob("*") if p.name.endswith(_ENDINGS))
    if not files:
        raise InputError(f"{path}: holds no {', '.join(_ENDINGS)} file")
    prefix = "" if name in (".", "all") else f"{name}/"
    # All files are checked before any is published, so that a folder is imported whole or not at all.
    checked = [_checked(run, prefix + f.relative_to(path).as_posix().split(".")[0], f) for f in files]
    # Rows that look up their prompts were checked before the folder's own prompts were published.
    names = {rows.name for rows in checked}
    for rows in checked:
        if rows.looks_up_prompts and (prompts := rows.name.sibling("prompts")) in names:
            raise InputError(
                f"{rows.path}: has no column 'prompt_id'; import {prompts} first, then this file on its own"
            )
    return [_publish(rows) for rows in checked]


def _checked(run: Run, name: str, path: Path) -> Incoming:
    return Incoming(run, *importable(name), path)


def _publish(rows: Incoming) -> Version:
    """Stream the rows into the store; an earlier import of the same file becomes current again."""
    import pyarrow as pa

    run = rows.run
    recipe = Recipe(str(rows.name), IMPORTER, {"file": file_input(rows.path), **rows.prompts_input})
    found = run.find(recipe)
    if found is not None:
        run.make_current(found)
        return found
    batches = pa.RecordBatchReader.from_batches(rows.schema, rows.batches())
    return run.publish_table(recipe, batches, Counts(rows.n_rows, rows.n_rows))


def undo_import(run: Run, name: str) -> str | None:
    """Stop using imported rows, so that the next `run` builds the dataset. Returns the imported version, if any."""
    from selfreward.store.state import update_state

    current = run.current(name)
    if not is_imported(current):
        return None
    update_state(run.path, lambda state: state.without(name))
    return current.version


def is_imported(version: Version) -> bool:
    """Whether a version was imported; `run` uses such a version unchanged."""
    return str(version.manifest["builder"]).split()[0] == IMPORTER.split()[0]


def importable(name: str) -> tuple[DatasetName, Dataset]:
    """A name and its registry entry. Raises UsageError unless it is a known kind in its usual place."""
    parsed = DatasetName.parse(name) if is_dataset(name) else None
    dataset = None if parsed is None else parsed.dataset
    if parsed is None or dataset is None or not dataset.importable:
        known = ", ".join(dataset.pattern for dataset in DATASETS if dataset.importable)
        raise UsageError(f"{name!r}: no such dataset; known: {known} (N from 1 to 99)")
    if not parsed.in_place:
        raise UsageError(f"{name!r}: no such dataset; did you mean {dataset.pattern.replace('N', '1')}?")
    return parsed, dataset


def column_table(name: str) -> list[tuple[str, str, str]]:
    """Column, type, and whether a file for `name` needs it."""
    _, dataset = importable(name)
    return describe_columns(dataset)
