"""What a dataset or model may be called, and where its versions lie below a run folder.

    iter1/pairs -> RUN/datasets/iter1/pairs/<version>/        M1 -> RUN/models/versions/M1/<version>/

A dataset is a kind (`ift`), or a kind of an iteration (`iter1/pairs`, `iter0` to `iter99`). A version's name is the first 16
digits of its key. Everything else in these folders is a stranger's, and names become paths only here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from selfreward.errors import UsageError

_MODEL = re.compile(r"(M(0|[1-9][0-9]{0,2})|SFT)\Z")
_DATASET = re.compile(r"(?:iter(0|[1-9][0-9]?)/)?([a-z][a-z0-9_]*)\Z")
_VERSION = re.compile(r"[0-9a-f]{16}\Z")

_OF_THE_RUN = {"seeds", "ift", "eft", "audits"}
_OF_AN_ITERATION = {"prompts", "candidates", "judgements", "scores", "pairs", "judge_eval", "model_outputs",
                    "annotations"}  # fmt: skip
_RESERVED = re.compile(r"dataset_versions|model_versions|lineage_edges|score_versions|iter[0-9]*")
"""Names of views and schemas, which a dataset of that name would hide."""
MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class DatasetName:
    """`iter1/pairs` is `DatasetName("pairs", 1)`, `ift` is `DatasetName("ift")`.

    >>> str(DatasetName.parse("iter1/pairs")), DatasetName.parse("ift").iteration
    ('iter1/pairs', None)
    """

    kind: str
    iteration: int | None = None

    @classmethod
    def parse(cls, name: str) -> DatasetName:
        """The parts of a name; UsageError for what is no name of a dataset."""
        match = _DATASET.match(name) if len(name) <= MAX_NAME_CHARS else None
        if match is None or _RESERVED.fullmatch(match[2]):
            shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"
            raise UsageError(f"{shown!r} is no dataset name; expected ift, eft, iter1/prompts, M1, …")
        return cls(match[2], None if match[1] is None else int(match[1]))

    @property
    def in_place(self) -> bool:
        """Whether a kind that selfreward makes stands where it makes it; nothing else is published any more."""
        return self.kind not in (_OF_AN_ITERATION if self.iteration is None else _OF_THE_RUN)

    def __str__(self) -> str:
        return self.kind if self.iteration is None else f"iter{self.iteration}/{self.kind}"

    def sibling(self, kind: str) -> DatasetName:
        """Another kind of the same iteration."""
        return DatasetName(kind, self.iteration)


def is_model(name: str) -> bool:
    """Whether a name of the store is a model (`M1`, `SFT`) rather than a dataset."""
    return bool(_MODEL.match(name))


def is_dataset(name: str) -> bool:
    """Whether a name of the store is that of a dataset."""
    try:
        return bool(DatasetName.parse(name))
    except UsageError:
        return False


def is_version(name: str) -> bool:
    """Whether a folder's name is that of a version."""
    return bool(_VERSION.match(name))


def folder_of(run: Path, name: str) -> Path:
    """Where the versions of a dataset or model lie; UsageError for what is no name."""
    if is_model(name):
        return run / "models" / "versions" / name
    return run / "datasets" / str(DatasetName.parse(name))


def names_on_disk(run: Path) -> list[str]:
    """Every name that has a folder of versions, whether anything of it is current or not."""
    datasets = [str(path.relative_to(run / "datasets")) for path in (run / "datasets").glob("*")]
    datasets += [str(path.relative_to(run / "datasets")) for path in (run / "datasets").glob("iter*/*")]
    names = [name for name in datasets if is_dataset(name)]
    names += [path.name for path in (run / "models" / "versions").glob("*") if is_model(path.name)]
    return sorted(name for name in names if _has_versions(folder_of(run, name)))


def _has_versions(folder: Path) -> bool:
    return folder.is_dir() and any(is_version(child.name) for child in folder.iterdir())
