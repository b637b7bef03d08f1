"""Checks on data from outside (a copied run folder, a Hub repository) before anything acts on it.

    check(RUN_JSON, body, path)      # DamagedError: `RUN/run.json: current.ift.version is 7, expected …`
    refuse_links(Path("runs/demo"))  # StoreError: a link would lead writes and removals out of the folder
    inside(folder, "a/b.json")       # the path, if it cannot leave the folder

A seal detects damage, not malice: anyone can write and seal a file. So every sealed file must have the shape that
selfreward writes (a *shape* is a predicate, a dict of required keys, a list of one shape, or `Each`), names and versions
must match closed patterns, and paths must stay inside their folder.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from selfreward.errors import DamagedError, StoreError
from selfreward.store.names import is_model, is_version
from selfreward.tables import DatasetName, is_dataset

# Of rows and bytes. Larger integers lose digits in JSON readers that use doubles, and overflow 64-bit columns.
MAX_COUNT = 1 << 53

_OWN_FOLDERS = (".work", ".run", ".damaged", "datasets", "models", "cards", "evaluations")
_MODEL_FILES = (".safetensors", ".json", ".txt", ".jinja", ".model", ".tiktoken", ".md")
_SHORT = reprlib.Repr()


@dataclass(frozen=True)
class Each:
    """A mapping of any size: every key and every value has a shape."""

    key: Any
    value: Any


def check(shape: Any, value: Any, path: Path | str) -> None:
    """DamagedError (file, place, found, expected) unless the value has the shape."""
    for place, found, expected in _differences(shape, value, ""):
        raise DamagedError(
            f"{path}: {place or 'the content'} is {_SHORT.repr(found)}, expected {expected}; selfreward did not write this "
            "file, so fetch it from its source again"
        )


def _differences(shape: Any, value: Any, place: str) -> Iterator[tuple[str, Any, str]]:
    # A generator, so that `check` stops at the first difference and never walks the rest of a hostile file.
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield place, value, "an object"
            return
        for key, inner in shape.items():
            if key not in value:
                yield f"{place}.{key}".lstrip("."), None, "a value, and there is none"
                return
            yield from _differences(inner, value[key], f"{place}.{key}".lstrip("."))
    elif isinstance(shape, Each):
        if not isinstance(value, dict):
            yield place, value, "an object"
            return
        for key, inner in value.items():
            yield from _differences(shape.key, key, f"a name in {place}")
            yield from _differences(shape.value, inner, f"{place}.{key}".lstrip("."))
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield place, value, "a list"
            return
        for number, inner in enumerate(value):
            yield from _differences(shape[0], inner, f"{place}[{number}]")
    elif not shape(value):
        yield place, value, str(shape.__doc__)


def text(value: Any) -> bool:
    """a text"""
    return isinstance(value, str)


def count(value: Any) -> bool:
    """a whole number from 0"""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_COUNT


def rows(value: Any) -> bool:
    """a number of rows, or null"""
    return value is None or count(value)


def anything(value: Any) -> bool:
    """anything"""
    return True


def sha256(value: Any) -> bool:
    """a SHA-256 of 64 hex digits"""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def version(value: Any) -> bool:
    """the name of a version, 16 hex digits"""
    return isinstance(value, str) and is_version(value)


def dataset(value: Any) -> bool:
    """the name of a dataset, such as ift or iter1/pairs"""
    return isinstance(value, str) and is_dataset(value)


def model(value: Any) -> bool:
    """the name of a model, such as SFT or M1"""
    return isinstance(value, str) and is_model(value)


def name(value: Any) -> bool:
    """the name of a dataset or model"""
    return dataset(value) or model(value)


def dataset_in_place(value: Any) -> bool:
    """the name of a dataset where selfreward makes it, such as ift or iter1/pairs"""
    return dataset(value) and DatasetName.parse(value).in_place


def file_name(value: Any) -> bool:
    """the name of a file inside the folder, without `..`, hidden or unprintable parts"""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable() or "\\" in value:
        return False
    parts = value.split("/")
    return all(parts) and not any(part.startswith(".") for part in parts) and value != "manifest.json"


def model_file(value: Any) -> bool:
    """the name of a safetensors, json, txt, jinja, md or tokenizer file inside the folder (no pickle, no code)"""
    return file_name(value) and value.endswith(_MODEL_FILES)


RUN_JSON = {
    "generation": count,
    "current": Each(name, {"version": version, "manifest_sha256": sha256, "previous": [version]}),
}
MANIFEST_JSON: dict[str, Any] = {
    "name": name,
    "key": sha256,
    "content_sha256": sha256,
    "builder": text,
    "counts": {"in": count, "out": count, "dropped": Each(text, count), "notes": Each(text, anything)},
    "files": [{"name": file_name, "rows": rows, "bytes": count, "sha256": sha256}],
    "schema": Each(text, text),
    "inputs": Each(text, {"name": text, "content_sha256": text}),
    "params": Each(text, anything),
    "created": text,
}


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`; StoreError if that is outside of the folder."""
    path = folder / relative
    if ".." in PurePosixPath(relative).parts or not path.is_relative_to(folder):
        raise StoreError(f"{folder}: {relative!r} would lie outside of this folder; nothing was done")
    return path


def refuse_links(run: Path) -> None:
    """StoreError for a symbolic link in the run's own folders, except `models/M1` to `versions/M1/<version>`."""
    # A copied run folder could hold a link to the user's home, and `gc` would remove what it points to.
    for top in _OWN_FOLDERS:
        path = run / top
        if path.is_symlink():
            raise _is_a_link(path)
        for link in _links(path):
            if not _leads_to_a_version(run, link):
                raise _is_a_link(link)


def _links(folder: Path | str) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):  # no such folder, or one that was removed meanwhile
        return
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _links(entry.path)


def _leads_to_a_version(run: Path, link: Path) -> bool:
    """Whether a link is `models/M1`, or the hidden name under which another process is making it."""
    hidden = link.name.startswith(".tmp-")
    if link.parent != run / "models" or not (hidden or is_model(link.name)):
        return False
    try:
        _, model_name, version_name = PurePosixPath(target := os.readlink(link)).parts
    except FileNotFoundError:  # the other process has renamed its hidden link since we listed it
        return True
    except ValueError:
        return False
    wanted = f"versions/{model_name if hidden else link.name}/{version_name}"
    return target == wanted and is_model(model_name) and is_version(version_name)


def _is_a_link(path: Path) -> StoreError:
    return StoreError(
        f"{path}: is a symbolic link to {os.readlink(path)!r}, expected a folder or file inside the run folder; replace "
        "it with a copy of its target, or remove it"
    )
