"""Names of datasets and models, and where their versions are below a run folder.

    iter1/pairs -> RUN/datasets/iter1/pairs/<version>/        M1 -> RUN/models/versions/M1/<version>/

A dataset is a kind (`ift`), or a kind of an iteration (`iter1/pairs`, `iter0` to `iter99`). A version's name is the first 16
digits of its key. Other names in these folders are ignored. Names become paths only here.
"""

from __future__ import annotations

import re
from pathlib import Path

from selfreward.tables.names import DatasetName, is_dataset

_MODEL = re.compile(r"(M(0|[1-9][0-9]{0,2})|SFT)\Z")
_VERSION = re.compile(r"[0-9a-f]{16}\Z")


def is_model(name: str) -> bool:
    """Whether a name of the store is a model (`M1`, `SFT`) rather than a dataset."""
    return bool(_MODEL.match(name))


def is_version(name: str) -> bool:
    """Whether a folder's name is a version's."""
    return bool(_VERSION.match(name))


def folder_of(run: Path, name: str) -> Path:
    """The folder of a dataset's or model's versions; UsageError for an invalid name."""
    if is_model(name):
        return run / "models" / "versions" / name
    return run / "datasets" / str(DatasetName.parse(name))


def names_on_disk(run: Path) -> list[str]:
    """Every name that has at least one version, current or not."""
    datasets = [str(path.relative_to(run / "datasets")) for path in (run / "datasets").glob("*")]
    datasets += [str(path.relative_to(run / "datasets")) for path in (run / "datasets").glob("iter*/*")]
    names = [name for name in datasets if is_dataset(name)]
    names += [path.name for path in (run / "models" / "versions").glob("*") if is_model(path.name)]
    return sorted(name for name in names if _has_versions(folder_of(run, name)))


def _has_versions(folder: Path) -> bool:
    return folder.is_dir() and any(is_version(child.name) for child in folder.iterdir())
