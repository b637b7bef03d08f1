"""`selfreward publish`: a whole run on the Hub as one dataset repository, and its models beside it.

Everything is checked before anything is sent. The datasets are sent in one commit, and each model in its own; `push`
describes the state after an interruption.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selfreward.data_cards.cards.audits import audit_run
from selfreward.data_cards.cards.base_models import require_base_licence
from selfreward.data_cards.cards.facts import Origin, gather, seed_origin
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
from selfreward.progress import say
from selfreward.steps.status import outdated_lines
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.store.version import Version
from selfreward.summary.settings import Settings, settings_of

_PACKED = (".parquet", ".safetensors")
"""Files without readable text; rows are searched unpacked, in the store."""


@dataclass(frozen=True)
class PublishOptions:
    """The options of the command."""

    repo: str
    private: bool = False
    only: Sequence[str] = ()
    models: bool = False
    license: str | None = None
    model_license: str | None = None
    gate: bool = True
    onto: str | None = None
    endpoint: str | None = None
    """The Hub; default: `HF_ENDPOINT`, or the public one."""


def publish(path: Path, options: PublishOptions, patience: Patience | None = None) -> list[Pushed]:
    """Push a run; the first entry is the dataset repository, then one for each model."""
    patience = patience or Patience()
    chosen = _chosen(path, options)
    api = connect(options.endpoint)
    require_writer(api, options.repo, patience)
    record = Record(path)
    with _scratch(chosen.run) as scratch:
        repo = HubRepo(api, options.repo, "dataset", patience)
        staged = _staged(chosen, options, repo.url, scratch)
        # with the unpacked rows: a secret in compressed Parquet is invisible to a search
        refuse_secrets(staged.tree, chosen.selection.datasets)
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
        for version in chosen.selection.models:
            model = HubRepo(api, model_repo(options.repo, version.name), "model", patience)
            datasets = pushed[0]
            tree = _model_tree(chosen, staged, version, datasets.url, datasets.revision, scratch)
            refuse_secrets(tree)
            pushed.append(
                push(
                    model,
                    tree,
                    record,
                    f"version-{version.version}",
                    # by content version, so that an unchanged model keeps its tag in later runs
                    f"Publish {version.name}, version {version.version}",
                    scratch / f"back-{version.name}",
                    options.private,
                    options.onto,
                )
            )
    return pushed


def dry_run(path: Path, options: PublishOptions, folder: Path) -> list[Path]:
    """Write the trees that would be pushed: the datasets' into `folder`, each model's into `folder`-M1."""
    chosen = _chosen(path, options)
    with _scratch(chosen.run) as scratch:
        url = HubRepo(connect(options.endpoint), options.repo, "dataset").url
        staged = _staged(chosen, options, url, scratch)
        trees = {folder: staged.tree}
        for version in chosen.selection.models:
            tree = _model_tree(chosen, staged, version, url, staged.tag, scratch)
            trees[folder.with_name(f"{folder.name}-{version.name}")] = tree
        for tree in trees.values():
            refuse_secrets(tree, chosen.selection.datasets)
        write_dry_run(trees)
    return list(trees)


@dataclass(frozen=True)
class _Chosen:
    """The versions to publish and their licenses, before any row is read."""

    run: Run
    selection: Selection
    settings: Settings
    origin: Origin
    repo: str
    licence: str
    model_licence: str
    """Empty where no model is published."""


def _chosen(path: Path, options: PublishOptions) -> _Chosen:
    """Check the options before rows are read or the Hub is contacted."""
    checked_repo(options.repo)
    run = Run(path)
    selection = select(run, options.only, options.models)
    if options.models and not selection.models:
        raise UsageError(f"{path}: --models was given, but the run has no model")
    for version in selection.models:
        checked_repo(model_repo(options.repo, version.name))
        refuse_unsafe_weights(version)
    settings, origin = settings_of(path, {v.name: v for v in selection.versions}), seed_origin(run)
    base = settings.config.model if settings.config else None
    of_models = require_base_licence(base, options.model_license) if selection.models else ""
    licence = choose_licence(origin.sources, options.license)
    return _Chosen(run, selection, settings, origin, options.repo, licence, of_models)


def _staged(chosen: _Chosen, options: PublishOptions, url: str, scratch: Path) -> Staged:
    """Run the audits, gather the facts, write the tree."""
    audits = audit_run(chosen.run, options.gate)
    facts = gather(chosen.run, chosen.selection.versions, chosen.settings, chosen.origin)
    for line in outdated_lines(facts.summary.outdated):
        say(f"{line}; the card says so")
    return stage_datasets(
        chosen.selection, facts, chosen.licence, audits, repo=chosen.repo, url=url, folder=scratch / "tree"
    )


def _model_tree(
    chosen: _Chosen, staged: Staged, version: Version, url: str, revision: str, scratch: Path
) -> Tree:
    """One model's repository; its card names `revision` of the datasets at `url`."""
    folder = scratch / f"model-{version.name}"
    folder.mkdir(parents=True)
    return model_tree(version, staged.facts, chosen.model_licence, chosen.repo, url, revision, folder)


def _compare_rows(staged: Staged, folder: Path) -> None:
    """Compare the rows read back with the content hashes of the store."""
    for data in staged.files:
        read_dataset(data, folder)


def refuse_secrets(tree: Tree, rows: Sequence[Version] = ()) -> None:
    """Raise HubError if a text or dataset to be published contains one of the user's secrets."""
    texts = {path: source for path, source in tree.files.items() if source.suffix not in _PACKED}
    stored = {
        f"{v.name}, {entry['name']}": v.folder / entry["name"] for v in rows for entry in v.manifest["files"]
    }
    for path, source in (texts | stored).items():
        if secret := secret_in(source):
            raise HubError(f"{path}: holds {secret}; nothing was sent. Remove it from the run and revoke it")


@contextmanager
def _scratch(run: Run) -> Iterator[Path]:
    """A hidden folder in the run, removed afterwards."""
    # after a crash `selfreward gc` removes it, because its owner is dead
    folder = durable.new_hidden_folder(run.path / ".work", "publish")
    try:
        (folder / "tree").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
