"""`selfreward publish`: a whole run on the Hub as one dataset repository, and its models beside it.

Everything that can be found wrong here is found before anything is sent: the repository's name, the token and what it
may do, the licence, the audits, the rows themselves (verified against their manifests while they are written). Then
the datasets go up in one commit, and each model in one of its own; see `push` for what an interruption leaves.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selfreward.data_cards.cards.audits import audit_run
from selfreward.data_cards.cards.base_models import require_base_licence
from selfreward.data_cards.cards.facts import read_config, seed_sources
from selfreward.data_cards.cards.licences import choose_licence
from selfreward.data_cards.cards.redact import secret_in
from selfreward.data_cards.hub.account import connect, require_writer
from selfreward.data_cards.hub.failures import HubError, Patience
from selfreward.data_cards.hub.push import Pushed, push
from selfreward.data_cards.hub.record import Record
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.model_trees import model_tree, refuse_unsafe_weights
from selfreward.data_cards.staging import Selection, Staged, select, stage_datasets, write_dry_run
from selfreward.data_cards.tree.layout import checked_repo, model_repo
from selfreward.data_cards.tree.parquet import read_dataset
from selfreward.data_cards.tree.trees import Tree
from selfreward.errors import UsageError
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.store.version import Version

_PACKED = (".parquet", ".safetensors", ".png")
"""Files without readable text; rows are searched where the store holds them, unpacked."""


@dataclass(frozen=True)
class PublishOptions:
    """What the command line gives."""

    repo: str
    private: bool = False
    only: Sequence[str] = ()
    models: bool = False
    licence: str | None = None
    model_licence: str | None = None
    gate: bool = True
    onto: str | None = None
    endpoint: str | None = None
    """The Hub; default: `HF_ENDPOINT`, or the public one."""


def publish(path: Path, options: PublishOptions, patience: Patience | None = None) -> list[Pushed]:
    """Push a run; the first entry is the dataset repository, then one for each model."""
    patience = patience or Patience()
    run, selection = _opened(path, options)
    api = connect(options.endpoint)
    require_writer(api, options.repo, patience)
    audits = audit_run(run, options.gate)
    record = Record(path)
    with _scratch(run) as scratch:
        repo = HubRepo(api, options.repo, "dataset", patience)
        staged = stage_datasets(
            run, selection, options.repo, repo.url, scratch / "tree", options.licence, audits
        )
        refuse_secrets(staged.tree, selection.datasets)
        pushed = [
            push(
                repo,
                staged.tree,
                record,
                staged.tag,
                f"Publish {staged.tag}: {len(staged.files)} datasets, {staged.facts.rows:,} rows",
                scratch / "back",
                options.private,
                options.onto,
                lambda folder: _compare_rows(staged, folder),
            )
        ]
        for version in selection.models:
            model = HubRepo(api, model_repo(options.repo, version.name), "model", patience)
            datasets = pushed[0]
            tree = _model_tree(run, staged, options, version, datasets.url, datasets.revision, scratch)
            refuse_secrets(tree)
            pushed.append(
                push(
                    model,
                    tree,
                    record,
                    f"version-{version.version}",
                    f"Publish {version.name}, version {version.version}",
                    scratch / f"back-{version.name}",
                    options.private,
                    options.onto,
                )
            )
    return pushed


def dry_run(path: Path, options: PublishOptions, folder: Path) -> list[Path]:
    """Write what would be pushed: the dataset repository's tree into `folder`, each model's into `folder`-M1."""
    run, selection = _opened(path, options)
    audits = audit_run(run, options.gate)
    with _scratch(run) as scratch:
        url = HubRepo(connect(options.endpoint), options.repo, "dataset").url
        staged = stage_datasets(run, selection, options.repo, url, scratch / "tree", options.licence, audits)
        trees = {folder: staged.tree}
        for version in selection.models:
            tree = _model_tree(run, staged, options, version, url, staged.tag, scratch)
            trees[folder.with_name(f"{folder.name}-{version.name}")] = tree
        for tree in trees.values():
            refuse_secrets(tree, selection.datasets)
        write_dry_run(trees)
    return list(trees)


def _opened(path: Path, options: PublishOptions) -> tuple[Run, Selection]:
    """Everything that is wrong with the call itself, before anything is read or asked."""
    checked_repo(options.repo)
    run = Run(path)
    selection = select(run, options.only, options.models)
    if options.models and not selection.models:
        raise UsageError(f"{path}: --models was given, but the run holds no model")
    for version in selection.models:
        checked_repo(model_repo(options.repo, version.name))
        refuse_unsafe_weights(version)
    if selection.models:
        _model_licence(run, options)
    choose_licence(seed_sources(run), options.licence)
    return run, selection


def _model_licence(run: Run, options: PublishOptions) -> str:
    config = read_config(run.path)
    return require_base_licence(config.model if config else None, options.model_licence)


def _model_tree(
    run: Run,
    staged: Staged,
    options: PublishOptions,
    version: Version,
    url: str,
    revision: str,
    scratch: Path,
) -> Tree:
    """One model's repository; its card names `revision` of the datasets at `url`."""
    folder = scratch / f"model-{version.name}"
    folder.mkdir(parents=True)
    licence = _model_licence(run, options)
    return model_tree(version, staged.facts, licence, options.repo, url, revision, folder)


def _compare_rows(staged: Staged, folder: Path) -> None:
    """The rows that the Hub gave back, against the content hashes of the store."""
    for data in staged.files:
        read_dataset(data, folder)


def refuse_secrets(tree: Tree, rows: Sequence[Version] = ()) -> None:
    """HubError where a secret of the user's stands in what would be published: in a text, or in rows of a dataset."""
    texts = {path: source for path, source in tree.files.items() if source.suffix not in _PACKED}
    stored = {
        f"{v.name}, {entry['name']}": v.folder / entry["name"] for v in rows for entry in v.manifest["files"]
    }
    for path, source in (texts | stored).items():
        if secret := secret_in(source):
            raise HubError(f"{path}: holds {secret}; nothing was sent. Take it out of the run and revoke it")


@contextmanager
def _scratch(run: Run) -> Iterator[Path]:
    """A hidden folder in the run, gone afterwards; after a crash `selfreward gc` sees that its owner is dead."""
    folder = durable.new_hidden_folder(run.path / ".work", "publish")
    try:
        (folder / "tree").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
