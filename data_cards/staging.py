"""The whole tree of a dataset repository, made in a folder before anything is sent.

    staged = stage_datasets(selection, facts, licence, audits, repo="ann/x", url=…, folder=…)

The same tree is pushed, written by `--dry-run`, and compared afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.config.files import dump_config
from selfreward.data_cards.cards.audits import AUDITS_DATASET, Audits
from selfreward.data_cards.cards.croissant import croissant
from selfreward.data_cards.cards.facts import RunFacts
from selfreward.data_cards.cards.redact import left_out, public_config
from selfreward.data_cards.cards.render import ModelLink, write_dataset_card
from selfreward.data_cards.tree.layout import (
    AUDITS,
    CONFIG,
    CROISSANT,
    RUN_FILE,
    config_names,
    manifest_path,
    model_repo,
    state_digest,
    tag_stem,
)
from selfreward.data_cards.tree.parquet import DatasetFiles, write_dataset
from selfreward.data_cards.tree.trees import Tree
from selfreward.errors import UsageError
from selfreward.notes import JsonObject
from selfreward.store.run import Run, is_model
from selfreward.store.sealed import seal
from selfreward.store.state import Current
from selfreward.store.version import Version
from selfreward.summary.facts import as_made

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""Format of `selfreward/run.json`; `pull` refuses a newer one."""


@dataclass(frozen=True)
class Selection:
    """The versions to publish, as of one moment."""

    datasets: list[Version]
    models: list[Version]
    """Empty unless asked for."""
    state: dict[str, Current]

    @property
    def versions(self) -> list[Version]:
        """All of them."""
        return [*self.datasets, *self.models]

    @property
    def tag(self) -> str:
        """The stem of the tag: it changes when any chosen version does."""
        return tag_stem(state_digest(self.state))


@dataclass(frozen=True)
class Staged:
    """A repository's files, ready to be sent or copied."""

    tree: Tree
    facts: RunFacts
    files: list[DatasetFiles]
    tag: str


def select(run: Run, only: Sequence[str] = (), with_models: bool = False) -> Selection:
    """The current versions to publish; UsageError for an unknown name, or if none is left."""
    current = run.state().current
    for name in only:
        run.current(name)  # raises for an unknown name, suggesting the nearest
    chosen = {
        name: entry
        for name, entry in current.items()
        # audits are findings about the run, published only if named
        if (with_models if is_model(name) else name in only if only else name != AUDITS_DATASET)
    }
    datasets = [run.current(name) for name in sorted(chosen, key=as_made) if not is_model(name)]
    models = [run.current(name) for name in sorted(chosen) if is_model(name)]
    if not datasets and only:
        raise UsageError(
            f"--only {', '.join(only)}: names no dataset; models are published with --models, beside at least one"
        )
    if not datasets:
        raise UsageError(f"{run.path}: holds no dataset to publish; `selfreward run` makes some")
    # two datasets with one configuration name would overwrite each other's files
    config_names(version.name for version in datasets)
    return Selection(datasets, models, chosen)


def stage_datasets(
    selection: Selection, facts: RunFacts, licence: str, audits: Audits, *, repo: str, url: str, folder: Path
) -> Staged:
    """Write the tree of the dataset repository below `folder`."""
    files = [write_dataset(version, folder) for version in selection.datasets]
    described = [(data, _schema(data, folder)) for data in files]
    paths = {entry.path: folder / entry.path for data in files for entry in data.files}
    for version in selection.datasets:
        paths[manifest_path(version.name)] = version.folder / "manifest.json"
    texts: dict[str, bytes] = {
        AUDITS: audits.to_json().encode(),
        RUN_FILE: seal(_run_file(selection, files, repo)),
        CROISSANT: croissant(
            repo.rpartition("/")[2],
            f"Datasets of a self-rewarding language model run: {facts.rows:,} rows in {len(files)} datasets.",
            url,
            licence,
            selection.tag,
            # the newest version's date, not today's: the same versions give the same tree
            max(dataset.created for dataset in facts.datasets)[:10],
            described,
        ).encode(),
    }
    if config := public_config(facts.config):
        # named in a comment, so that readers know that a setting is missing
        names = left_out(facts.config)
        note = f"# not published: {', '.join(names)}\n" if names else ""
        texts[CONFIG] = (note + dump_config(config)).encode()
    paths |= write_texts(folder, texts)
    links = [ModelLink(v.name, model_repo(repo, v.name), _model_url(url, v.name)) for v in selection.models]
    paths |= write_dataset_card(folder, repo, selection.tag, licence, facts, described, audits, links)
    return Staged(Tree.of(paths), facts, files, selection.tag)


def write_texts(folder: Path, texts: Mapping[str, bytes]) -> dict[str, Path]:
    """Write small files; path in the repository -> file."""
    for path, content in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return {path: folder / path for path in texts}


def write_dry_run(trees: Mapping[Path, Tree]) -> None:
    """Copy trees into folders; UsageError if one is not empty."""
    for folder in trees:
        # `write_to` would replace files of the user
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"--dry-run {folder}: already exists; remove it, or choose an empty or new folder"
            )
    for folder, tree in trees.items():
        tree.write_to(folder)


def _run_file(selection: Selection, files: Sequence[DatasetFiles], repo: str) -> JsonObject:
    """The contents of `run.json`, from which `pull` restores the run folder."""
    described = {data.name: data.described() for data in files}
    return {
        "format": FORMAT,
        "tag": selection.tag,
        "datasets": {
            v.name: {
                "version": v.version,
                "key": v.key,
                "manifest_sha256": v.manifest_sha256,
                **described[v.name],
            }
            for v in selection.datasets
        },
        "models": {
            v.name: {
                "version": v.version,
                "manifest_sha256": v.manifest_sha256,
                "repo": model_repo(repo, v.name),
            }
            for v in selection.models
        },
    }


def _schema(data: DatasetFiles, folder: Path) -> pa.Schema:
    import pyarrow.parquet

    return pyarrow.parquet.read_schema(folder / data.files[0].path)


def _model_url(dataset_url: str, model: str) -> str:
    return model_repo(dataset_url.replace("/datasets/", "/", 1), model)
