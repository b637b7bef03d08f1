"""`selfreward pull`: a published run back as a run folder, hash for hash.

    RUN/datasets/…/<version>/   the same keys, the same content hashes, current as they were
    RUN/config.yaml             the published configuration (without the publisher's paths), marked as pulled

Rows come back through the store's own writer. With the same Arrow version the files are the very same bytes, and the
version gets its original manifest; otherwise it gets one with its own file hashes and a note where it came from, and
still the same key and content hash, so that `run` reuses it. Everything is checked before anything becomes current,
and all of it becomes current at once; an interrupted pull is finished by the same command.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.failures import HubError, Patience
from selfreward.data_cards.hub.record import Record
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.model_trees import published_path
from selfreward.data_cards.tree.layout import CONFIG, MODEL_MANIFEST, RUN_FILE, checked_repo, manifest_path
from selfreward.data_cards.tree.parquet import DatasetFiles, read_dataset
from selfreward.data_cards.tree.stored_rows import write_rows
from selfreward.errors import DamagedError, UsageError
from selfreward.progress import bar
from selfreward.store import durable
from selfreward.store.run import Run
from selfreward.store.sealed import seal, unseal
from selfreward.store.state import State, update_state
from selfreward.store.version import MANIFEST, Version, file_sha256
from selfreward.trust import mark


@dataclass(frozen=True)
class Restored:
    """One version that is in the run folder now."""

    name: str
    version: str
    rows: int
    identical: bool
    """Whether it has its original manifest, byte for byte."""
    url: str
    revision: str
    """Where it was pulled from: a later push builds on this commit."""


def pull(
    repo_id: str,
    path: Path,
    revision: str | None = None,
    models: bool = True,
    endpoint: str | None = None,
    patience: Patience | None = None,
) -> list[Restored]:
    """Restore a published run into `path`: a new folder, or one that an earlier pull of the same run began.

    UsageError where the folder holds another run, HubError where the Hub fails or the repository is no published run,
    DamagedError where a file is not what was published.
    """
    checked_repo(repo_id)
    patience = patience or Patience()
    repo = HubRepo(connect(endpoint), repo_id, "dataset", patience)
    commit = repo.resolve(revision)
    _refuse_other_runs(path)
    body = _run_file(repo, commit)
    run = Run.create(path)
    _refuse_other_versions(run, body)
    scratch = durable.make_folder(path / ".work" / f"pull-{commit[:16]}")
    with run.hold("selfreward pull"):
        restored = [
            _restore_dataset(run, repo, commit, scratch, name, entry)
            for name, entry in _each(body["datasets"])
        ]
        if models:
            restored += [
                _restore_model(run, repo, patience, scratch, name, entry)
                for name, entry in _each(body["models"])
            ]
        _write_config(run, repo, commit, scratch)
        _make_current(run, restored)
    for url, pulled in dict.fromkeys((entry.url, entry.revision) for entry in restored):
        Record(path).finished(url, pulled, None)
    shutil.rmtree(scratch, ignore_errors=True)
    return restored


def _each(entries: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    with bar(len(entries), "pulling", "version") as progress:
        for name, entry in entries.items():
            yield name, entry
            progress.update()


def _refuse_other_runs(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; expected a folder, or a name that is free")


def _run_file(repo: HubRepo, commit: str) -> dict[str, Any]:
    if RUN_FILE not in repo.tree(commit):
        raise HubError(
            f"{repo.url}: revision {commit} holds no {RUN_FILE}, so it was not published by selfreward; load it with "
            "`datasets.load_dataset` and bring its rows in with `selfreward import`"
        )
    with tempfile.TemporaryDirectory(prefix="selfreward-pull-") as scratch:
        content = repo.download(RUN_FILE, commit, Path(scratch)).read_bytes()
    return unseal(content, Path(f"{repo.url}/{RUN_FILE}"))


def _refuse_other_versions(run: Run, body: dict[str, Any]) -> None:
    """A run folder of somebody's own work is not mixed with a pulled one."""
    published = {
        name: entry["version"] for kind in ("datasets", "models") for name, entry in body[kind].items()
    }
    for name, current in run.state().current.items():
        if published.get(name) != current.version:
            raise UsageError(
                f"{run.path}: holds {name} version {current.version}, which is not of the published run; pull into a new folder"
            )


def _restore_dataset(
    run: Run, repo: HubRepo, commit: str, scratch: Path, name: str, entry: dict[str, Any]
) -> Restored:
    found = _existing(run, name, entry)
    if found is not None:
        return _restored(found, entry, repo, commit)
    manifest = repo.download(manifest_path(name), commit, scratch)
    body = _manifest(manifest, entry, f"{repo.url}/{manifest_path(name)}")
    files = DatasetFiles.from_described(entry)
    for file in files.files:
        repo.download(file.path, commit, scratch)
    table = read_dataset(files, scratch)
    with run.draft(name) as folder:
        written = write_rows(folder, table, files)
        identical = written == body["files"]
        if not identical:
            origin = {"repo": repo.url, "revision": commit, "manifest_sha256": entry["manifest_sha256"]}
            body = {**body, "files": written, "restored_from": origin}
        durable.write_new(folder / MANIFEST, manifest.read_bytes() if identical else seal(body))
        return _restored(_publish(folder, name, entry), entry, repo, commit)


def _restore_model(
    run: Run, datasets: HubRepo, patience: Patience, scratch: Path, name: str, entry: dict[str, Any]
) -> Restored:
    repo = HubRepo(datasets.api, entry["repo"], "model", patience)
    commit = repo.resolve(f"version-{entry['version']}")
    found = _existing(run, name, entry)
    if found is not None:
        return _restored(found, entry, repo, commit)
    below = durable.make_folder(scratch / name)
    manifest = repo.download(MODEL_MANIFEST, commit, below)
    body = _manifest(manifest, entry, f"{repo.url}/{MODEL_MANIFEST}")
    with run.draft(name) as folder:
        for file in body["files"]:
            source = repo.download(published_path(file["name"]), commit, below)
            if file_sha256(source) != file["sha256"]:
                raise DamagedError(
                    f"{repo.url}: {file['name']} is not what the manifest says; nothing of {name} is used"
                )
            target = folder / file["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
        durable.write_new(folder / MANIFEST, manifest.read_bytes())
        return _restored(_publish(folder, name, entry), entry, repo, commit)


def _manifest(path: Path, entry: dict[str, Any], shown: str) -> dict[str, Any]:
    if file_sha256(path) != entry["manifest_sha256"]:
        raise DamagedError(f"{shown}: is not the manifest that {RUN_FILE} names; nothing of it is used")
    body = unseal(path.read_bytes(), Path(shown))
    if not str(body["key"]).startswith(entry["version"]):
        raise DamagedError(f"{shown}: has key {body['key']}, which does not make version {entry['version']}")
    return body


def _existing(run: Run, name: str, entry: dict[str, Any]) -> Version | None:
    """A version that an earlier, interrupted pull has finished."""
    found = next((v for v in run.versions(name) if v.version == entry["version"]), None)
    if found is not None:
        found.verify()
    return found


def _restored(version: Version, entry: dict[str, Any], repo: HubRepo, commit: str) -> Restored:
    identical = version.manifest_sha256 == entry["manifest_sha256"]
    return Restored(version.name, version.version, version.n_rows, identical, repo.url, commit)


def _publish(folder: Path, name: str, entry: dict[str, Any]) -> Version:
    version = Version(name, folder.parent / entry["version"])
    if not durable.publish_folder(folder, version.folder):
        version.verify()
    return version


def _make_current(run: Run, restored: list[Restored]) -> None:
    """One change of run.json: readers see the whole run or none of it. The models' symlinks follow."""
    versions = [run.version(entry.name, entry.version) for entry in restored]

    def change(state: State) -> State:
        for version in versions:
            current = state.current.get(version.name)
            if current is None or current.version != version.version:
                state = state.with_current(version.name, version.version, version.manifest_sha256)
        return state

    update_state(run.path, change)
    for version in versions:
        run.make_current(version)


def _write_config(run: Run, repo: HubRepo, commit: str, scratch: Path) -> None:
    if CONFIG in repo.tree(commit) and not (run.path / "config.yaml").exists():
        content = repo.download(CONFIG, commit, scratch).read_bytes()
        durable.replace_file(run.path / "config.yaml", mark(content, repo.url, commit))
