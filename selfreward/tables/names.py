"""Names of datasets: a kind (`ift`), or a kind of an iteration (`iter1/pairs`, `iter0` to `iter99`)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from selfreward.errors import UsageError
from selfreward.tables.datasets import BY_KIND, Dataset

MAX_NAME_CHARS = 64
# Without leading zeros, so that a dataset has only one name.
_DATASET = re.compile(r"(?:iter(0|[1-9][0-9]?)/)?([a-z][a-z0-9_]*)\Z")
# Names of views and schemas, which a dataset of that name would hide.
_RESERVED = re.compile(
    r"dataset_versions|model_versions|lineage_edges|score_versions|prompts_without_pair|iter[0-9]*"
)


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
        """The parts of a name. Raises UsageError for an invalid one."""
        match = _DATASET.match(name) if len(name) <= MAX_NAME_CHARS else None
        if match is None or _RESERVED.fullmatch(match[2]):
            shown = name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"
            raise UsageError(f"{shown!r} is no dataset name; expected ift, eft, iter1/prompts, M1, …")
        return cls(match[2], None if match[1] is None else int(match[1]))

    @property
    def in_place(self) -> bool:
        """Whether a known kind is where selfreward builds it: `ift`, not `iter1/ift`."""
        # A user's own kind may be anywhere; a known kind elsewhere would be read by nothing.
        return self.dataset is None or self.dataset.is_in_place(self.iteration)

    @property
    def dataset(self) -> Dataset | None:
        """The registry's entry for its kind; None for a user's own kind."""
        return BY_KIND.get(self.kind)

    def __str__(self) -> str:
        return self.kind if self.iteration is None else f"iter{self.iteration}/{self.kind}"

    def sibling(self, kind: str) -> DatasetName:
        """Another kind of the same iteration."""
        return DatasetName(kind, self.iteration)


def is_dataset(name: str) -> bool:
    """Whether a name of the store is that of a dataset."""
    try:
        return bool(DatasetName.parse(name))
    except UsageError:
        return False


def kind_of(name: str) -> str:
    """`pairs` of `iter1/pairs`; empty for anything else (a model, an input file)."""
    return DatasetName.parse(name).kind if is_dataset(name) else ""


# Made once: `json.dumps` would make an encoder for every id.
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def row_id(prefix: str, *parts: object) -> str:
    """A short deterministic id, e.g. `row_id("c", prompt_id, sample)`; 16 hex digits of a SHA-256.

    >>> row_id("c", "p-1", 0)
    'c-55906bd4cf02bc6f'
    """
    # As JSON, not joined, so that ("a", "bc") and ("ab", "c") differ.
    return f"{prefix}-{hashlib.sha256(_as_json(parts).encode()).hexdigest()[:16]}"
