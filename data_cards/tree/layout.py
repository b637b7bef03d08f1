"""Paths and names in a published repository.

    README.md                                   the card; its YAML names every configuration, split and feature
    data/iter1_pairs/train-00000-of-00001.parquet
    selfreward/run.json                         which versions, which files, how the rows go back in order (sealed)
    selfreward/manifests/iter1/pairs.json       the versions' own manifests, byte for byte
    selfreward/config.yaml  selfreward/audits.json
    report.html  images/judge-agreement.svg     the report of the run as a page, and its plots
    croissant.json

One dataset of the run is one configuration. Splits: `train` for every dataset, and for `eft` the values of its own
column `split`, `train` and `eval`; its training rows that were not accepted are in `rejected`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from selfreward.errors import UsageError
from selfreward.store.state import Current

CARD = "README.md"
CROISSANT = "croissant.json"
RUN_FILE = "selfreward/run.json"
CONFIG = "selfreward/config.yaml"
AUDITS = "selfreward/audits.json"
REPORT = "report.html"
MODEL_MANIFEST = "selfreward/manifest.json"
DEFAULT_SPLIT = "train"
REJECTED_SPLIT = "rejected"
"""Rows of `eft` that were not accepted for training."""
MADE_BY_THE_HUB = ".gitattributes"
"""The one file that we do not write: the Hub adds it when the repository is created."""


def config_name(dataset: str) -> str:
    """The configuration of a dataset.

    >>> config_name("iter1/pairs")
    'iter1_pairs'
    """
    # a configuration's name is part of addresses and cannot hold a slash
    return dataset.replace("/", "_")


def config_names(datasets: Iterable[str]) -> dict[str, str]:
    """Dataset -> configuration; UsageError if two would share a name (`iter1/pairs`, `iter1_pairs`)."""
    names = {dataset: config_name(dataset) for dataset in datasets}
    for dataset, config in names.items():
        twins = [other for other in names if names[other] == config and other != dataset]
        if twins:
            raise UsageError(
                f"{dataset} and {twins[0]} would both be configuration {config!r}; publish one of them with --only"
            )
    return names


def manifest_path(dataset: str) -> str:
    """Path of a version's manifest in the dataset repository."""
    return f"selfreward/manifests/{dataset}.json"


def picture_path(id: str) -> str:
    """Path of one of the report's plots."""
    return f"images/{id}.svg"


def shard_path(dataset: str, split: str, number: int, n_shards: int) -> str:
    """Path of a Parquet file, numbered as `datasets` does."""
    return f"data/{config_name(dataset)}/{split}-{number:05d}-of-{n_shards:05d}.parquet"


def model_repo(repo_id: str, model: str) -> str:
    """The repository of one of the run's models.

    >>> model_repo("ann/self-rewarding", "M1")
    'ann/self-rewarding-M1'
    """
    return f"{repo_id}-{model}"


def short_revision(revision: str) -> str:
    """The first 12 digits of a commit, for display."""
    return revision[:12]


def state_digest(current: Mapping[str, Current]) -> str:
    """Hash of the published versions; for all current ones, `selfreward.store.state.state_sha256`."""
    lines = "".join(f"{name} {entry.manifest_sha256}\n" for name, entry in sorted(current.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def tag_stem(digest: str) -> str:
    """The tag of a published run version.

    >>> tag_stem("0123456789abcdef")
    'run-0123456789ab'
    """
    return f"run-{digest[:12]}"


def free_tag(stem: str, revision: str, tags: Mapping[str, str]) -> str:
    """The tag that names `revision`, or the first free one; an existing tag never moves.

    >>> free_tag("run-01", "b", {"run-01": "a"})
    'run-01.2'
    """
    number = 1
    # an existing tag never moves: someone may have cited it
    while (tag := stem if number == 1 else f"{stem}.{number}") in tags and tags[tag] != revision:
        number += 1
    return tag


def checked_repo(repo_id: str) -> str:
    """A valid repository name. Raises UsageError before the Hub is contacted."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"--repo {repo_id!r}: {str(error).rstrip('.')}; expected USER/NAME") from error
    # `validate_repo_id` also accepts a name without a user
    if not re.fullmatch(r"[^/]+/[^/]+", repo_id):
        raise UsageError(f"--repo {repo_id!r}: expected USER/NAME, such as ann/self-rewarding")
    return repo_id
