"""`selfreward verify`: hashes every file of every version and compares it with the manifest, with a progress bar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfreward.errors import DamagedError, StoreError
from selfreward.progress import bar
from selfreward.store.run import Run
from selfreward.store.version import Version


@dataclass(frozen=True)
class Check:
    """One version and its problem; None if it is whole."""

    name: str
    version: str
    rows: int | None
    n_bytes: int
    problem: str | None


def verify_run(path: Path, name: str | None = None, quarantine: bool = False) -> list[Check]:
    """Check all versions of all names (or of one), current or not; damaged ones are moved aside on request."""
    run = Run(path)
    names = [name] if name else run.names()
    versions = {
        v.folder: v for n in names for v in ([run.current(n)] if not run.versions(n) else run.versions(n))
    }
    sizes = {folder: _size(version) for folder, version in versions.items()}
    checks = []
    with bar(sum(sizes.values()), "verify", "B", unit_scale=True) as progress:
        for folder, version in versions.items():
            end = progress.n + sizes[folder]
            check = _check(run, version, progress.update)
            progress.update(end - progress.n)  # the manifest, and files after the first damaged one
            checks.append(check)
            if check.problem and quarantine:
                run.quarantine(version, damaged=True)
    return checks


def _check(run: Run, version: Version, on_bytes: object) -> Check:
    rows: int | None = None
    try:
        entry = run.state().current.get(version.name)
        if entry is not None and entry.version == version.version:
            run.current(version.name)
        rows = version.n_rows
        version.verify(on_bytes)  # type: ignore[arg-type]
    except (DamagedError, StoreError) as error:
        return Check(version.name, version.version, rows, _size(version), str(error))
    return Check(version.name, version.version, rows, _size(version), None)


def _size(version: Version) -> int:
    return sum(p.stat().st_size for p in version.folder.rglob("*") if p.is_file())
