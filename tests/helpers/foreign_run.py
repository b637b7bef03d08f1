"""Run folders as a stranger could hand them over: sealed and consistent, and wrong in one place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from selfreward.errors import SelfrewardError
from selfreward.store.sealed import seal, unseal
from selfreward.store.version import MANIFEST

MISSING = object()


def snapshot(folder: Path, without: tuple[Path, ...] = ()) -> dict[str, str]:
    """Everything below a folder: files by their content, links by their target, folders by being there."""
    found = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in without]
        for name in folders + files:
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path)] = f"link {os.readlink(path)}"
            else:
                content = b"" if path.is_dir() else path.read_bytes()
                found[str(path)] = hashlib.sha256(content).hexdigest() if content else "empty"
    return found


@contextmanager
def one_sentence(*kinds: type[SelfrewardError]) -> Iterator[list[str]]:
    """The block must raise an error meant for the user, in one line that names no bug; yields where it will stand."""
    told: list[str] = []
    with pytest.raises(kinds or SelfrewardError) as caught:
        yield told
    told.append(str(caught.value))
    assert told[0]
    assert "\n" not in told[0]
    assert "this is a bug" not in told[0]


def put(body: dict, place: str, value: object) -> dict:
    """The body with another value at `files.0.name`; MISSING takes the key away."""
    body = json.loads(json.dumps(body))
    *path, last = place.split("|")
    inner = body
    for key in path:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    key = int(last) if isinstance(inner, list) else last
    if value is MISSING:
        del inner[key]
    else:
        inner[key] = value
    return body


def reseal(path: Path, change: Callable[[dict], dict]) -> None:
    """Change a sealed file and seal it again."""
    body = unseal(path.read_bytes(), path)
    path.write_bytes(seal(change(body)))


def change_state(run: Path, change: Callable[[dict], dict]) -> None:
    """run.json changed, and no generation beside it that says otherwise."""
    for path in (run / ".run").glob("*.json"):
        path.unlink()
    reseal(run / "run.json", change)


def folder_of_current(run: Path, name: str) -> Path:
    body = json.loads((run / "run.json").read_text())
    parent = run / "models" / "versions" / name if name.startswith("M") else run / "datasets" / name
    return parent / body["current"][name]["version"]


def change_manifest(run: Path, name: str, change: Callable[[dict], dict]) -> Path:
    """The manifest of a current version changed, and run.json made to name it."""
    path = folder_of_current(run, name) / MANIFEST
    reseal(path, change)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    change_state(run, lambda body: put(body, f"current|{name}|manifest_sha256", sha256))
    return path


def change_shard(run: Path, name: str, content: bytes, rows: int | None = None) -> Path:
    """The one data file of a version with other bytes, all hashes and sizes made to fit."""
    folder = folder_of_current(run, name)
    path = next(folder.glob("data-*.arrow"))
    path.write_bytes(content)

    def change(body: dict) -> dict:
        for entry in body["files"]:
            if entry["name"] == path.name:
                entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                entry |= {} if rows is None else {"rows": rows}
        return body if rows is None else put(body, "counts|out", rows)

    change_manifest(run, name, change)
    return path


def stream(table: pa.Table, **options: object) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
