"""What a dataset or model may be called, and where its versions lie below a run folder.

    iter1/pairs -> RUN/datasets/iter1/pairs/<version>/        M1 -> RUN/models/versions/M1/<version>/

A version's name is the first 16 digits of its key. Everything else in these folders is a stranger's.
"""

from __future__ import annotations

import re
from pathlib import Path

from selfreward.errors import UsageError

_MODEL = re.compile(r"(M\d+|SFT)\Z")
_DATASET = re.compile(r"(iter\d+/)?[a-z][a-z0-9_]*\Z")
_VERSION = re.compile(r"[0-9a-f]{16}\Z")


def is_model(name: str) -> bool:
    """Whether a name of the store is a model (`M1`, `SFT`) rather than a dataset."""
    return bool(_MODEL.match(name))


def is_version(name: str) -> bool:
    """Whether a folder's name is that of a version."""
    return bool(_VERSION.match(name))


def folder_of(run: Path, name: str) -> Path:
    """Where the versions of a dataset or model lie; UsageError for what is no name."""
    if is_model(name):
        return run / "models" / "versions" / name
    if not _DATASET.match(name):
        raise UsageError(f"{name!r} is no dataset name; expected ift, eft, iter1/prompts, M1, …")
    return run / "datasets" / name


def names_on_disk(run: Path) -> list[str]:
    """Every name that has a folder of versions, whether anything of it is current or not."""
    folders = [(run / "datasets", "")] + [(p, f"{p.name}/") for p in (run / "datasets").glob("iter*")]
    names = [f"{prefix}{path.name}" for folder, prefix in folders for path in _version_parents(folder)]
    return sorted(names + [path.name for path in _version_parents(run / "models" / "versions")])


def _version_parents(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("[!.]*") if path.is_dir()]
    return [path for path in found if any(is_version(child.name) for child in path.iterdir())]
