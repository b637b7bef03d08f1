"""`selfreward gc`: remove unreferenced versions and leftovers of dead processes.

Kept: current versions; their inputs, direct and indirect, so that lineage can be followed; quarantined versions;
unfinished work and kept answers touched in the last 30 days. Removed, each with its reason:

- any other version of a dataset or model;
- hidden temporary folders and files whose process no longer runs (those of another machine after a day);
- the journal and checkpoints of a step whose version is published, or that were not touched for 30 days;
- answers that a step kept for a later version (`selfreward.steps.kept_answers`), after the same time.

The run's lock is held, so nothing that is being built is touched. A version loses its name in one step, then its
content: a reader that has opened it continues on its memory maps, later readers find no such version.
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
# Another machine's processes are invisible from here; no write of a single file or version takes a day.
FOREIGN_TEMPORARY_AGE_S = 24 * 3600
_WORK = re.compile(r".*-([0-9a-f]{16})\Z")


@dataclass(frozen=True)
class Removed:
    """A file or folder that was removed, or would be."""

    path: Path
    bytes: int
    reason: str


def collect(run: Run, dry_run: bool = False) -> list[Removed]:
    """Remove what is unreferenced; with `dry_run` list what would be removed, remove nothing.

    BusyError while another process works on the run; DamagedError if the manifest of a current version cannot be
    read, since its inputs are then unknown.
    """
    with nullcontext() if dry_run else run.hold("selfreward gc"):
        leftovers = list(_leftovers(run.path))
        # Leftovers go first: removing them needs no space, while run.json cannot be replaced on a full disk.
        if not dry_run:
            for item in leftovers:
                _remove_leftover(item.path)
        doomed = list(_unreferenced(run))
        versions = [Removed(v.folder, _n_bytes(v.folder), _WHY_NOT_REFERENCED) for v in doomed]
        if dry_run:
            return versions + leftovers
        forgotten = _forget_all(run, doomed)
        removed = [item for v, item in zip(doomed, versions, strict=True) if _remove_version(run, v)]
        if not forgotten:
            update_state(run.path, lambda state: _forget(state, doomed))
        return removed + leftovers


_WHY_NOT_REFERENCED = "not current, and no current version was made from it"


def _unreferenced(run: Run) -> Iterator[Version]:
    versions = [v for name in names_on_disk(run.path) for v in run.versions(name)]
    kept = _kept(run, versions)
    for version in versions:
        if version.folder not in kept:
            yield version


def _kept(run: Run, versions: list[Version]) -> set[Path]:
    """Current versions and all their inputs, direct and indirect."""
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
    """Whether a version is one of the inputs."""
    # Manifests name a dataset by its version, a model by its content. A damaged version's content cannot be read, so
    # nothing refers to it.
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
    """Whether run.json could be written."""
    try:
        update_state(run.path, lambda state: _forget(state, doomed))
    except StoreError as error:
        # On a full disk run.json is updated after the versions are gone, in the space they leave.
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
    # The lock is advisory: another process may have made the version current between the check and the rename.
    if _is_current(run, version):
        durable.rename(doomed, version.folder)
        return False
    link = run.path / "models" / version.name
    if is_model(version.name) and link.is_symlink() and not link.exists():
        durable.remove_file(link)
    durable.empty_trash(doomed)
    return True


def _leftovers(run: Path) -> Iterator[Removed]:
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
        return f"unfinished work or kept answers that nobody touched for {WORK_AGE_S // 86400} days"
    return None


def _temporaries(run: Path) -> Iterator[Path]:
    """Temporary files and folders of `durable`, wherever it makes them; never inside a version."""
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


def _remove_leftover(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        durable.remove_tree(path)
    else:
        durable.remove_file(path)


def _age_s(path: Path) -> float:
    # The youngest file counts: a journal that still grows keeps its whole folder.
    return time.time() - max((stat.st_mtime for stat in _stats(path)), default=time.time())


def _n_bytes(path: Path) -> int:
    return sum(stat.st_size for stat in _stats(path) if not S_ISDIR(stat.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    # `--dry-run` holds no lock, so files may disappear while we look.
    with suppress(FileNotFoundError):
        yield path.lstat()
        for parent, folders, files in os.walk(path):
            for name in folders + files:
                yield Path(parent, name).lstat()
