"""`run.json`: which version of each dataset and model is current, and what was current before.

Generation n of the state is the file `.run/<n>.json`, whose name is claimed with a hard link: of several
writers exactly one gets it, and a loser reads the winner's state and tries again on top of it. `run.json` is
the same content, replaced atomically right after. A writer that dies between the two leaves `.run/` one ahead;
every reader looks there too, so nothing is lost and nobody waits. No lock is involved.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfreward import durable
from selfreward.errors import FormatError, StoreError
from selfreward.sealed import seal, unseal

FORMAT = 1
"""Of the run folder. Older formats are read; a newer one is refused."""
_KEPT_GENERATIONS = 50


@dataclass(frozen=True)
class Current:
    """The current version of one dataset or model, and the versions that were current before, newest first."""

    version: str
    manifest_sha256: str
    previous: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What `run.json` says."""

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
        return State(self.generation + 1, {**self.current, name: entry})

    def without(self, name: str) -> State:
        """The next state, in which `name` has no current version."""
        return State(self.generation + 1, {k: v for k, v in self.current.items() if k != name})

    def to_bytes(self) -> bytes:
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


def read_state(run: Path) -> State:
    """The newest state; DamagedError where `run.json` or the newest generation was changed."""
    shown = _parse(run / "run.json")
    newest = max(_generations(run), default=0)
    while newest > shown.generation:
        try:
            return _parse(_generation_path(run, newest))
        except StoreError:
            if _generation_path(run, newest).exists():
                raise
            newest = max(_generations(run), default=0)  # pruned between the listing and the read
    return shown


def create_state(run: Path) -> None:
    """The first, empty state of a new run folder; nothing happens if there is one."""
    durable.make_folder(run / ".run")
    if not (run / "run.json").exists() and not _generations(run):
        durable.replace_file(run / "run.json", State().to_bytes())


def update_state(run: Path, change: Callable[[State], State]) -> State:
    """Apply `change` to the newest state and make the result current; other writers' changes are kept.

    `change` may be called several times and must not have side effects; returning its argument changes nothing.
    """
    while True:
        old = read_state(run)
        new = change(old)
        if new is old:
            _show_newest(run, old)
            return old
        new = replace(new, generation=old.generation + 1)
        if _claim(run, new):
            _show_newest(run, new)
            _prune(run, new.generation)
            return new


def _claim(run: Path, state: State) -> bool:
    temporary = run / ".run" / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    durable.write_new(temporary, state.to_bytes())
    claimed = durable.link_new(temporary, _generation_path(run, state.generation))
    durable.remove_file(temporary)
    return claimed


def _show_newest(run: Path, state: State) -> None:
    """Make `run.json` show `state`, or a newer one if another writer was faster."""
    content = state.to_bytes()
    if (run / "run.json").read_bytes() != content:
        durable.replace_file(run / "run.json", content)
    newest = max(_generations(run), default=0)
    if newest > state.generation:
        _show_newest(run, read_state(run))


def _prune(run: Path, newest: int) -> None:
    for generation in _generations(run):
        if generation <= newest - _KEPT_GENERATIONS:
            durable.remove_file(_generation_path(run, generation))


def _generation_path(run: Path, generation: int) -> Path:
    return run / ".run" / f"{generation:08d}.json"


def _generations(run: Path) -> list[int]:
    try:
        return [int(path.stem) for path in (run / ".run").glob("[0-9]*.json")]
    except FileNotFoundError:
        return []


def _parse(path: Path) -> State:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{path.parent}: not a run folder (no {path.name})") from error
    body: dict[str, Any] = unseal(content, path)
    if body["format"] > FORMAT:
        raise FormatError(
            f"{path}: the run folder has format {body['format']}, this selfreward reads up to {FORMAT}; "
            "install a newer selfreward"
        )
    current = {
        name: Current(entry["version"], entry["manifest_sha256"], tuple(entry["previous"]))
        for name, entry in body["current"].items()
    }
    return State(body["generation"], current)


def state_sha256(run: Path) -> str:
    """A short name for the whole state of a run: SHA-256 over what is current."""
    state = read_state(run)
    lines = "".join(f"{name} {entry.manifest_sha256}\n" for name, entry in sorted(state.current.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
