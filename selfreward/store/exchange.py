"""Rows in and rows out: `selfreward import` and `selfreward export`.

Import validates rows against the dataset's class (columns, types, NULLs, unique keys, accepted values) and publishes
them like any other version; extra columns are kept. Export writes the current version as one file; pairs also in the
forms other trainers read:

    conversational  prompt, chosen, rejected as message lists (TRL, as stored)
    plain           prompt, chosen, rejected as texts
    alpaca          instruction, input, output: [chosen, rejected] (LLaMA-Factory's ranking form)
    sharegpt        conversations, chosen, rejected as from/value turns (LLaMA-Factory, Axolotl)
    unpaired        prompt, completion, label: two rows a pair (TRL's KTO form)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward import tables
from selfreward.errors import InputError, UsageError
from selfreward.store import durable
from selfreward.store.run import Counts, Recipe, Run, file_input
from selfreward.store.version import Version

if TYPE_CHECKING:
    import pyarrow as pa

ROW_CLASSES: dict[str, type] = {
    "seeds": tables.Seed,
    "ift": tables.Ift,
    "eft": tables.Eft,
    "prompts": tables.Prompt,
    "candidates": tables.Candidate,
    "judgements": tables.Judgement,
    "scores": tables.Score,
    "pairs": tables.Pair,
    "judge_eval": tables.JudgeEval,
    "model_outputs": tables.ModelOutput,
    "annotations": tables.Annotation,
}
KEYS = {
    "seeds": "seed_id",
    "ift": "ift_id",
    "eft": "eft_id",
    "prompts": "prompt_id",
    "candidates": "candidate_id",
    "judgements": "judgement_id",
    "scores": "candidate_id",
    "pairs": "pair_id",
    "model_outputs": "output_id",
    "annotations": "output_id",
}
IMPORTER = "import 1"
_ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
_ACCEPTED = {
    "split": {"train", "eval"},
    "status": {"ok", "no_score", "out_of_range", "truncated", "empty", "engine_error"},
    "finish_reason": {"stop", "length", "error"},
    "judge_mode": {"sampled", "expected"},
}


def import_file(run: Run, name: str, path: Path) -> list[Version]:
    """Publish the rows of a file as `name`; a folder publishes each of its files, named like the datasets in it."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith(_ENDINGS))
        if not files:
            raise InputError(f"{path}: holds no {', '.join(_ENDINGS)} file")
        prefix = "" if name in (".", "all") else f"{name}/"
        checked = [
            (prefix + _dataset_name(path, f), f, _validated(prefix + _dataset_name(path, f), f))
            for f in files
        ]
        return [_publish(run, dataset, file, table) for dataset, file, table in checked]
    return [_publish(run, name, path, _validated(name, path))]


def _dataset_name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix().split(".")[0]


def _publish(run: Run, name: str, path: Path, table: pa.Table) -> Version:
    recipe = Recipe(name, IMPORTER, {"file": file_input(path)})
    found = run.find(recipe)
    if found is None:
        return run.publish_table(recipe, table, Counts(table.num_rows, table.num_rows))
    run.make_current(found)
    return found


def undo_import(run: Run, name: str) -> str | None:
    """Take imported rows out of use; the next `run` makes the dataset itself. The version that was imported, if any."""
    from selfreward.store.state import update_state

    current = run.current(name)
    if not is_imported(current):
        return None
    update_state(run.path, lambda state: state.without(name))
    return current.version


def is_imported(version: Version) -> bool:
    """Whether a version was brought by the user; `run` takes such a version as it is."""
    return str(version.manifest["builder"]) == IMPORTER


def _validated(name: str, path: Path) -> pa.Table:
    """The file's rows with the dataset's schema; InputError names file, row and column."""
    row_class = _row_class(name)
    table = _read(path)
    schema = tables.arrow_schema(row_class)
    missing = [column for column in schema.names if column not in table.column_names]
    required = tables.required_columns(row_class)
    if absent := [column for column in missing if column in required]:
        raise InputError(f"{path}: has no column {absent[0]!r}; {name} needs {', '.join(sorted(required))}")
    columns = {column: _column(path, table, column, schema.field(column).type) for column in schema.names}
    for column in required:
        _refuse_nulls(path, column, columns[column])
    for column in set(_ACCEPTED) & set(columns):
        _refuse_unknown_values(path, column, columns[column])
    _refuse_duplicates(path, KEYS.get(_kind(name)), columns)
    extra = {c: table[c] for c in table.column_names if c not in schema.names}
    import pyarrow as pa

    return pa.table({**columns, **extra})


def _column(path: Path, table: pa.Table, column: str, kind: Any) -> Any:
    import pyarrow as pa

    if column not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    values = table[column]
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        for number, value in enumerate(values.to_pylist(), 1):
            try:
                pa.array([value], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                raise InputError(
                    f"{path}: row {number}: column {column!r} holds {value!r}, expected {kind}"
                ) from error
        return pa.chunked_array([pa.array(values.to_pylist(), kind)])


def _refuse_nulls(path: Path, column: str, values: Any) -> None:
    if values.null_count:
        number = values.is_null().to_pylist().index(True) + 1
        raise InputError(f"{path}: row {number}: column {column!r} is NULL, which {column} may not be")


def _refuse_unknown_values(path: Path, column: str, values: Any) -> None:
    for number, value in enumerate(values.to_pylist(), 1):
        if value is not None and value not in _ACCEPTED[column]:
            expected = ", ".join(sorted(_ACCEPTED[column]))
            raise InputError(
                f"{path}: row {number}: column {column!r} holds {value!r}, expected one of {expected}"
            )


def _refuse_duplicates(path: Path, key: str | None, columns: dict[str, Any]) -> None:
    seen: dict[Any, int] = {}
    for number, value in enumerate(columns[key].to_pylist() if key else [], 1):
        if value in seen:
            raise InputError(f"{path}: row {number}: {key} {value!r} is already that of row {seen[value]}")
        seen[value] = number


def _kind(name: str) -> str:
    return name.rpartition("/")[2]


def _row_class(name: str) -> type:
    kind = _kind(name)
    if kind not in ROW_CLASSES:
        raise UsageError(f"{name!r}: no such kind of dataset; known: {', '.join(ROW_CLASSES)}")
    return ROW_CLASSES[kind]


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".jsonl": pyarrow.json.read_json,
        ".csv": pyarrow.csv.read_csv,
        ".parquet": pyarrow.parquet.read_table,
    }
    ending = next((e for e in _ENDINGS if path.name.endswith(e)), None)
    if ending is None:
        raise UsageError(f"{path}: unknown kind of file; expected one of {', '.join(_ENDINGS)}")
    try:
        return readers[ending.removesuffix(".gz")](path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: cannot be read as {ending}: {' '.join(str(error).split())}") from error


# -- export --------------------------------------------------------------------------------------------------


def export_file(run: Run, name: str, path: Path, form: str = "rows") -> int:
    """Write the current version of a dataset as one file; returns its number of rows. An old file is replaced whole."""
    table = run.current(name).table()
    if form not in ("rows", "conversational"):
        if _kind(name) != "pairs" or form not in _FORMS:
            raise UsageError(
                f"--as {form!r}: pairs have the forms conversational, {', '.join(_FORMS)}; others only rows"
            )
        table = _as_table([row for pair in table.to_pylist() for row in _FORMS[form](pair)])
    ending = next((e for e in (".jsonl", ".csv", ".parquet") if path.name.endswith(e)), None)
    if ending is None:
        raise UsageError(f"{path}: unknown kind of file; expected .parquet, .jsonl or .csv")
    with durable.new_file(path) as temporary:
        _WRITERS[ending](table, temporary)
    return int(table.num_rows)


def _as_table(rows: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows)


def _texts(pair: dict[str, Any]) -> tuple[str, str, str]:
    return pair["prompt"][-1]["content"], pair["chosen"][-1]["content"], pair["rejected"][-1]["content"]


def _plain(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = _texts(pair)
    yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _alpaca(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = _texts(pair)
    yield {"instruction": prompt, "input": "", "output": [chosen, rejected]}


def _sharegpt(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = _texts(pair)
    yield {
        "conversations": [{"from": "human", "value": prompt}],
        "chosen": {"from": "gpt", "value": chosen},
        "rejected": {"from": "gpt", "value": rejected},
    }


def _unpaired(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for column, label in (("chosen", True), ("rejected", False)):
        yield {"prompt": pair["prompt"], "completion": pair[column], "label": label}


_FORMS: dict[str, Callable[[dict[str, Any]], Iterator[dict[str, Any]]]] = {
    "plain": _plain,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "unpaired": _unpaired,
}


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches():
            for row in batch.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _write_csv(table: pa.Table, path: Path) -> None:
    """Nested columns as JSON text; pandas quotes what needs it."""
    frame = table.to_pandas()
    for field in table.schema:
        if str(field.type).startswith(("list", "struct")):
            frame[field.name] = [
                json.dumps(value, ensure_ascii=False) for value in table[field.name].to_pylist()
            ]
    frame.to_csv(path, index=False)


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path, compression="zstd")


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
