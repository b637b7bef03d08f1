"""Rows in: `selfreward import` (`selfreward.exchange.exporting` writes rows out).

Rows are validated by `selfreward.exchange.incoming` and published like any other version. Columns that the dataset's class does
not have are kept; columns that the file does not have are filled in where `selfreward.exchange.own_rows` has a rule.
"""

from __future__ import annotations

import re
from pathlib import Path

from selfreward import tables
from selfreward.errors import InputError, UsageError
from selfreward.exchange.incoming import Incoming
from selfreward.exchange.own_rows import describe_columns
from selfreward.store.run import Counts, Recipe, Run, file_input
from selfreward.store.version import Version

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
WITHOUT_ITERATION = ("seeds", "ift", "eft")
_OF_MODELS = ("judge_eval", "model_outputs", "annotations")
"""Datasets about a model, so also about M0: iter0/judge_eval."""
IMPORTER = "import 2"
_ENDINGS = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
_NAME = re.compile(r"(?:iter(0|[1-9][0-9]?)/)?([a-z_]+)\Z")


def import_file(run: Run, name: str, path: Path) -> list[Version]:
    """Publish the rows of a file as `name`; a folder publishes each of its files, named like the datasets in it.

    All files are checked before any is published.
    """
    if not path.is_dir():
        return [_publish(_checked(run, name, path))]
    files = sorted(p for p in path.rglob("*") if p.name.endswith(_ENDINGS))
    if not files:
        raise InputError(f"{path}: holds no {', '.join(_ENDINGS)} file")
    prefix = "" if name in (".", "all") else f"{name}/"
    checked = [_checked(run, prefix + f.relative_to(path).as_posix().split(".")[0], f) for f in files]
    names = {rows.name for rows in checked}
    for rows in checked:
        prompts = f"{rows.name.rpartition('/')[0]}/prompts"
        if rows.looks_up_prompts and prompts in names:
            raise InputError(
                f"{rows.path}: has no column 'prompt_id'; import {prompts} first, then this file on its own"
            )
    return [_publish(rows) for rows in checked]


def _checked(run: Run, name: str, path: Path) -> Incoming:
    kind, _ = dataset_kind(name)
    return Incoming(run, name, path, ROW_CLASSES[kind], KEYS.get(kind))


def _publish(rows: Incoming) -> Version:
    """Stream the rows into the store; an earlier import of the same file becomes current again."""
    import pyarrow as pa

    run = rows.run
    recipe = Recipe(rows.name, IMPORTER, {"file": file_input(rows.path), **rows.prompts_input})
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


def dataset_kind(name: str) -> tuple[str, int | None]:
    """`iter1/pairs` -> pairs, 1; UsageError for a name that no dataset with a row class can have."""
    found = _NAME.match(name)
    kind = found[2] if found else ""
    if found is None or kind not in ROW_CLASSES:
        raise UsageError(
            f"{name!r}: no such dataset; known: {', '.join(map(_shown, ROW_CLASSES))} (N from 1 to 99)"
        )
    misplaced = (found[1] is None) != (kind in WITHOUT_ITERATION)
    if misplaced or (found[1] == "0" and kind not in _OF_MODELS):
        raise UsageError(f"{name!r}: no such dataset; did you mean {_shown(kind).replace('N', '1')}?")
    return kind, None if found[1] is None else int(found[1])


def column_table(name: str) -> list[tuple[str, str, str]]:
    """Column, type, and whether a file for `name` needs it, for display."""
    kind, _ = dataset_kind(name)
    return describe_columns(kind, ROW_CLASSES[kind])


def _shown(kind: str) -> str:
    return kind if kind in WITHOUT_ITERATION else f"iterN/{kind}"
