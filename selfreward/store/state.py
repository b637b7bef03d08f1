"""`run.json`: which version of each dataset and model is current, and what was current before.

Generation n of the state is the file `.run/<n>.json`, whose name is claimed with a hard link: of several writers
exactly one gets it; the others read the winner's state and try again on top of it. `run.json` is the same content,
replaced atomically right after. A writer that dies between the two leaves `.run/` one ahead; every reader looks there
too, so nothing is lost and nobody waits. No lock is involved.

A run folder copied without its hidden files still reads, and continues counting from `run.json`. If `run.json` is
missing, the error names the file to restore it from: nothing here ever removes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from selfreward.errors import DamagedError, StoreError
from selfreward.store import durable
from selfreward.store.foreign import RUN_JSON, check
from selfreward.store.owner import temporary_name
from selfreward.store.sealed import FORMAT, seal, unseal

# A writer that slept longer than this many changes must start again (`_was_free`); each file is a few kilobytes.
_KEPT_GENERATIONS = 50
_GENERATION = re.compile(r"([0-9]{8}|[1-9][0-9]{8,15})\.json\Z")


@dataclass(frozen=True)
class Current:
    """The current version of one dataset or model, and the versions that were current before, newest first."""

    version: str
    manifest_sha256: str
    previous: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """The content of `run.json`."""

    generation: int = 0
    current: dict[str, Current] = field(default_factory=dict)

    def with_current(self, name: str, version: str, manifest_sha256: str) -> State:
        """The next state, in which `version` is current for `name`."""
        before = self.current.get(name)
        previous: tuple[str, ...] = ()
        if before is not None:
            candidates = (before.version, *before.previous)
            previous = tuple(dict.fromkeys(v for v in candidates if v != version))
        entry = Current(version, manifest_sha256, previous)
        return replace(self, current={**self.current, name: entry})

    def without(self, name: str) -> State:
        """The next state, in which `name` has no current version."""
        return replace(self, current={k: v for k, v in self.current.items() if k != name})

    def forgetting(self, name: str, version: str) -> State:
        """The next state, which no longer mentions a version; the same object if it already does not."""
        entry = self.current.get(name)
        if entry is None or version not in (entry.version, *entry.previous):
            return self
        if entry.version == version:
            return self.without(name)
        previous = tuple(v for v in entry.previous if v != version)
        return replace(self, current={**self.current, name: replace(entry, previous=previous)})

    def to_bytes(self) -> bytes:
        """The sealed content of `run.json`."""
        return seal(
            {
                "format": FORMAT,
                "generation": self.generation,
                "current": {
                    name: {
                        "version": entry.version,
                        "manifest_sha256": entry.manifest_sha256,
                        "previous": list(entry.previous),
                    }
                    for name, entry in sorted(self.current.items())
                },
            }
        )


def create_state(run: Path) -> None:
    """The first, empty state of a new run folder; does nothing if a state exists."""
    durable.make_folder(run / ".run")
    if not (run / "run.json").exists() and max(_generations(run), default=0) == 0:
        _claim(run, State())
        _show_newest(run)


def read_state(run: Path) -> State:
    """The newest state; DamagedError if `run.json` or the newest generation was changed."""
    shown = _read_shown(run)
    # None: a writer pruned that generation since we listed it, so there is a newer one.
    while (newest := max(_generations(run), default=0)) > shown.generation:
        if (state := _read_generation(run, newest)) is not None:
            return state
    return shown


def update_state(run: Path, change: Callable[[State], State]) -> State:
    """Apply `change` to the newest state and make the result current; other writers' changes are kept.

    `change` may be called several times and must not have side effects; if it returns its argument, nothing is written.
    """
    while True:
        old = read_state(run)
        new = change(old)
        if new is old:
            break
        new = replace(new, generation=old.generation + 1)
        _keep(run, old)
        if _claim(run, new) and _was_free(run, old):
            _prune(run, new.generation)
            old = new
            break
    _show_newest(run)
    return old


def state_sha256(run: Path) -> str:
    """SHA-256 over the current versions: identifies the whole state of a run."""
    state = read_state(run)
    lines = "".join(f"{name} {entry.manifest_sha256}\n" for name, entry in sorted(state.current.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _keep(run: Path, state: State) -> None:
    """Make sure that the generation to build on is in `.run/`."""
    # It is missing in a run folder that was copied without its hidden files.
    durable.make_folder(run / ".run")
    if not any(generation >= state.generation for generation in _generations(run)):
        _claim(run, state)


def _claim(run: Path, state: State) -> bool:
    temporary = run / ".run" / temporary_name("state")
    durable.write_new(temporary, state.to_bytes())
    try:
        return durable.link_new(temporary, _generation_path(run, state.generation))
    finally:
        durable.remove_file(temporary)


def _was_free(run: Path, old: State) -> bool:
    """Whether the name just claimed, the one after `old`, was never used before; if it was, the claim is undone."""
    # A writer that slept through fifty generations finds the name free because it was pruned, and would drop everything
    # newer. Pruning starts at the oldest, so while `old` exists, the name after it was never pruned.
    if _generation_path(run, old.generation).exists():
        return True
    durable.remove_file(_generation_path(run, old.generation + 1))
    return False


def _prune(run: Path, newest: int) -> None:
    for generation in sorted(_generations(run)):
        if generation <= newest - _KEPT_GENERATIONS:
            durable.remove_file(_generation_path(run, generation))


def _show_newest(run: Path) -> None:
    """Make `run.json` show the newest state."""
    # Read back until it is: a slower writer may replace it with an older state in between.
    while True:
        content = _newest_for_show(run).to_bytes()
        if durable.read(run / "run.json") == content:
            return
        durable.replace_file(run / "run.json", content)


def _newest_for_show(run: Path) -> State:
    if (run / "run.json").exists():
        return read_state(run)
    return _read_generation(run, 0) or State()  # being created: there is no run.json yet


def _generation_path(run: Path, generation: int) -> Path:
    return run / ".run" / f"{generation:08d}.json"


def _generations(run: Path) -> list[int]:
    with durable.explained("read", run / ".run"):
        try:
            return [int(p.stem) for p in (run / ".run").iterdir() if _GENERATION.match(p.name)]
        except FileNotFoundError:
            return []


def _read_shown(run: Path) -> State:
    path = run / "run.json"
    newest = max(_generations(run), default=0)
    hint = f"; copy `.run/{newest:08d}.json`, which holds the same" if newest else ""
    content = durable.read(path)
    if content is None and newest:
        raise DamagedError(f"{path}: is missing, and selfreward never removes it{hint}")
    if content is None:
        raise StoreError(f"{run}: not a run folder (no run.json)")
    try:
        return _parse(content, path)
    except DamagedError as error:
        raise DamagedError(f"{error}{hint}") from error


def _read_generation(run: Path, generation: int) -> State | None:
    """The state of a generation; None if it was pruned since it was listed."""
    path = _generation_path(run, generation)
    content = durable.read(path)
    if content is None:
        return None
    state = _parse(content, path)
    # Renamed by hand: writers would build on one number and claim another.
    if state.generation != generation:
        raise DamagedError(
            f"{path}: holds generation {state.generation}, so it was renamed; remove it, `run.json` has the current state"
        )
    return state


@lru_cache(maxsize=16)
def _parse(content: bytes, path: Path) -> State:
    # Cached by content: a run reads its state hundreds of times and changes it some ten times.
    body: dict[str, Any] = unseal(content, path)
    check(RUN_JSON, body, path)
    current = {
        name: Current(entry["version"], entry["manifest_sha256"], tuple(entry["previous"]))
        for name, entry in body["current"].items()
    }
    return State(body["generation"], current)
