"""Rows of a dataset on the Hub, at a commit that is recorded."""

from __future__ import annotations

from typing import Any

from selfreward.errors import InputError


def hub_commit(name: str, revision: str | None) -> str | None:
    """The commit that `revision` (a branch, a tag or nothing) points to; None if unknown, such as offline."""
    from huggingface_hub import HfApi

    try:
        commit: str | None = HfApi().dataset_info(name, revision=revision, timeout=30).sha
        return commit
    # The Hub client raises many unrelated classes; `load_dataset` may still have the rows cached
    except Exception:
        return None


def hub_rows(name: str, split: str, revision: str | None, key: str) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a split, numbered from 1; `key` is the setting that names the dataset, for the message."""
    import datasets

    try:
        loaded = datasets.load_dataset(name, split=split, revision=revision)
    # The Hub client raises many unrelated classes; all mean that the dataset cannot be loaded.
    except Exception as error:
        raise InputError(
            f"{key} {name!r}: is no local file, and the Hub did not give it "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'})"
        ) from error
    return list(enumerate(map(dict, loaded), 1))


def is_local(source: str) -> bool:
    """Whether a source is a file rather than a Hub dataset."""
    from pathlib import Path

    # A name such as `OpenAssistant/oasst1` is the Hub's, unless a file of that path exists.
    return Path(source).exists() or source.count("/") != 1 or source.endswith(_ENDINGS)


_ENDINGS = (".json", ".jsonl", ".csv", ".parquet", ".gz")
