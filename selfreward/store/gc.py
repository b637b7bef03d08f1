"""`selfreward gc`: remove versions nobody refers to, and what dead processes left.

Kept: what is current; what a current version was made from, directly or not, so that its lineage can be followed;
quarantined versions; unfinished work that was touched in the last 30 days. Removed, each with its reason:

- any other version of a dataset or model;
- hidden temporary folders and files whose process no longer runs (those of another machine after a day);
- the journal and checkpoints of a stage whose version is published, or that nobody has touched for 30 days.

The run's lock is held, so nothing that is being built is touched. A version loses its name in one step and its
content after that: a reader that has opened it reads on from its memory maps, one that comes later finds no such
version. `run.json` is asked again before each removal and after the name is gone; a version that somebody made
current in between gets its name back.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

from selfreward.errors import DamagedError, StoreError
from selfreward.store import durable
from selfreward.store.names import folder_of, is_model, is_version, names_on_disk
from selfreward.store.owner import owner_runs
from selfreward.store.run import Run
from selfreward.store.state import State, update_state
from selfreward.store.version import Version

WORK_AGE_S = 30 * 24 * 3600
FOREIGN_TEMPORARY_AGE_S = 24 * 3600
_WORK = re.compile(r".*-([0-9a-f]{16})\Z")


@dataclass(frozen=True)
class Removed:
    """One thing that went, or would go."""

    path: Path
    bytes: int
    reason: str


def collect(run: Run, dry_run: bool = False) -> list[Removed]:
    """Remove what nobody refers to; with `dry_run` only say what would go.

    BusyError while another process works on the run; DamagedError where the manifest of a current version cannot be
    read, since what it was made from is then unknown.
    """
    with nullcontext() if dry_run else run.hold("selfreward gc"):
        rubbish = list(_rubbish(run.path))
        if not dry_run:  # first, since run.json cannot be written anew on a full disk
            for item in rubbish:
                _remove_rubbish(item.path)
        doomed = list(_unreferenced(run))
        versions = [Removed(v.folder, _n_bytes(v.folder), _WHY_NOT_REFERENCED) for v in doomed]
        if dry_run:
            return versions + rubbish
        forgotten = _forget_all(run, doomed)
        removed = [item for v, item in zip(doomed, versions, strict=True) if _remove_version(run, v)]
        if not forgotten:
            update_state(run.path, lambda state: _forget(state, doomed))
        return removed + rubbish


_WHY_NOT_REFERENCED = "not current, and no current version was made from it"


def _unreferenced(run: Run) -> Iterator[Version]:
    versions = [v for name in names_on_disk(run.path) for v in run.versions(name)]
    kept = _kept(run, versions)
    for version in versions:
        if version.folder not in kept:
            yield version


def _kept(run: Run, versions: list[Version]) -> set[Path]:
    """Current versions and everything they were made from."""
    kept: set[Path] = set()
    to_follow = [run.current(name) for name in run.names()]
    while to_follow:
        version = to_follow.pop()
        if version.folder in kept:
            continue
        kept.add(version.folder)
        inputs = version.manifest["inputs"].values()
        to_follow += [v for v in versions if v.folder not in kept and _is_among(v, inputs)]
    return kept


def _is_among(version: Version, inputs: object) -> bool:
    """A dataset is named by its version; a model by what it is. A damaged version is kept by nobody."""
    try:
        return any(
            (i["name"], i["version"]) == (version.name, version.version)
            if "version" in i
            else i["content_sha256"] == version.content_sha256
            for i in inputs  # type: ignore[attr-defined]
        )
    except DamagedError:
        return False


def _forget_all(run: Run, doomed: list[Version]) -> bool:
    """Whether run.json could be written; where the disk is full, that has to wait for the room these versions leave."""
    try:
        update_state(run.path, lambda state: _forget(state, doomed))
    except StoreError as error:
        if not doomed or not durable.is_no_space(error):
            raise
        return False
    return True


def _forget(state: State, doomed: list[Version]) -> State:
    for version in doomed:
        entry = state.current.get(version.name)
        if entry is not None and entry.version != version.version:
            state = state.forgetting(version.name, version.version)
    return state


def _is_current(run: Run, version: Version) -> bool:
    entry = run.state().current.get(version.name)
    return entry is not None and entry.version == version.version


def _remove_version(run: Run, version: Version) -> bool:
    if _is_current(run, version):
        return False
    doomed = durable.move_to_trash(version.folder)
    if _is_current(run, version):
        durable.rename(doomed, version.folder)
        return False
    link = run.path / "models" / version.name
    if is_model(version.name) and link.is_symlink() and not link.exists():
        durable.remove_file(link)
    durable.empty_trash(doomed)
    return True


def _rubbish(run: Path) -> Iterator[Removed]:
    published = {p.name for name in names_on_disk(run) for p in folder_of(run, name).iterdir()}
    for work in sorted((run / ".work").glob("[!.]*")):
        if reason := _why_work_goes(work, published):
            yield Removed(work, _n_bytes(work), reason)
    for path in _temporaries(run):
        if _is_left_over(path):
            yield Removed(path, _n_bytes(path), "left by a process that no longer runs")


def _why_work_goes(work: Path, published: set[str]) -> str | None:
    match = _WORK.match(work.name)
    if match and match[1] in published:
        return "unfinished work whose version is published"
    if _age_s(work) > WORK_AGE_S:
        return f"unfinished work that nobody touched for {WORK_AGE_S // 86400} days"
    return None


def _temporaries(run: Path) -> Iterator[Path]:
    """Names of `durable`'s temporary things, wherever it makes them; never inside a version."""
    for parent, folders, files in os.walk(run):
        for name in sorted(folders + files):
            if name.startswith((".tmp-", ".trash-")):
                yield Path(parent, name)
        folders[:] = [
            f for f in folders if not f.startswith((".tmp-", ".trash-", ".damaged")) and not is_version(f)
        ]


def _is_left_over(path: Path) -> bool:
    runs = owner_runs(path.name)
    return not runs if runs is not None else _age_s(path) > FOREIGN_TEMPORARY_AGE_S


def _remove_rubbish(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        durable.remove_tree(path)
    else:
        durable.remove_file(path)


def _age_s(path: Path) -> float:
    """Since the youngest thing in it was written."""
    return time.time() - max((stat.st_mtime for stat in _stats(path)), default=time.time())


def _n_bytes(path: Path) -> int:
    return sum(stat.st_size for stat in _stats(path) if not S_ISDIR(stat.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of everything in a folder; without the lock (`--dry-run`), what is in it may go while we look."""
    with suppress(FileNotFoundError):
        yield path.lstat()
        for parent, folders, files in os.walk(path):
            for name in folders + files:
                yield Path(parent, name).lstat()
