"""`selfreward pull`: a published run back as a run folder, hash for hash.

    RUN/datasets/…/<version>/   the same keys, the same content hashes, current as they were
    RUN/config.yaml             the published configuration (without the publisher's paths), marked as pulled

Rows are restored through the store's own writer. With the same Arrow version the files are byte-identical and the
version gets its original manifest; otherwise it gets one with its own file hashes and a note about its origin, with
the same key and content hash, so that `run` reuses it. An interrupted pull is finished by the same command.
"""

from __future__ import annotations

import re
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
from selfreward.data_cards.tree.parquet import DESCRIBED, DatasetFiles, read_dataset
from selfreward.data_cards.tree.stored_rows import write_rows
from selfreward.data_cards.tree.trees import RemoteFile
from selfreward.errors import DamagedError, StoreError, UsageError
from selfreward.progress import bar, say
from selfreward.steps.trust import mark
from selfreward.store import durable, foreign
from selfreward.store.run import Run
from selfreward.store.sealed import seal, unseal
from selfreward.store.state import State, update_state
from selfreward.store.version import MANIFEST, Version, file_sha256, read_as_manifest

MAX_BYTES = 100e9
"""Default limit of the unpacked size."""
MAX_JSON_BYTES = 64 << 20
"""Size limit of `run.json` and of a manifest."""


def _repository(value: Any) -> bool:
    """the name of a repository, such as ann/x-M1"""
    return isinstance(value, str) and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", value, re.ASCII) is not None


# the file comes from a stranger: every value is checked before it is used as a name or a size
_VERSION = {"version": foreign.version, "manifest_sha256": foreign.sha256}
_RUN_FILE = {
    "datasets": foreign.Each(foreign.dataset_in_place, {**_VERSION, "key": foreign.sha256, **DESCRIBED}),
    "models": foreign.Each(foreign.model, {**_VERSION, "repo": _repository}),
}


@dataclass(frozen=True)
class Restored:
    """One restored version."""

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
    max_bytes: float = MAX_BYTES,
) -> list[Restored]:
    """Restore a published run into `path`: a new folder, or one that an earlier pull of the same run began.

    Raises UsageError if the folder holds another run or the unpacked size exceeds `max_bytes`, HubError if the Hub
    fails or the repository is not a published run, DamagedError if a file differs from what was published.
    """
    checked_repo(repo_id)
    patience = patience or Patience()
    repo = HubRepo(connect(endpoint), repo_id, "dataset", patience)
    commit = repo.resolve(revision)
    _refuse_other_runs(path)
    tree = repo.tree(commit)
    body = _run_file(repo, commit, tree)
    files = _files(repo, tree, body)
    # before the first download: a small file can unpack to more than the disk holds
    _refuse_too_much(repo.url, sum(sum(f.arrow_bytes.values()) for f in files.values()), path, max_bytes)
    run = Run.create(path)
    _refuse_other_versions(run, body)
    scratch = durable.make_folder(path / ".work" / f"pull-{commit[:16]}")
    with run.hold("selfreward pull"):
        restored = [
            _restore_dataset(run, repo, commit, scratch, files[name], entry)
            for name, entry in _each(body["datasets"])
        ]
        if models:
            restored += [
                _restore_model(run, repo, patience, scratch, name, entry, max_bytes)
                for name, entry in _each(body["models"])
            ]
        _write_config(run, repo, commit, tree, scratch)
        # everything is checked before anything becomes current, and all of it becomes current at once
        _make_current(run, restored)
    # a later push may then build on this commit as the run's own
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


def _run_file(repo: HubRepo, commit: str, tree: dict[str, RemoteFile]) -> dict[str, Any]:
    if RUN_FILE not in tree:
        raise HubError(
            f"{repo.url}: revision {commit} holds no {RUN_FILE}, so it was not published by selfreward; load it with "
            "`datasets.load_dataset` and bring its rows in with `selfreward import`"
        )
    shown = f"{repo.url}/{RUN_FILE}"
    _refuse_odd_sizes(repo, tree, {RUN_FILE: None})
    with tempfile.TemporaryDirectory(prefix="selfreward-pull-") as scratch:
        content = repo.download(RUN_FILE, commit, Path(scratch)).read_bytes()
    body = unseal(content, shown)
    foreign.check(_RUN_FILE, body, shown)
    if not body["datasets"]:
        raise HubError(f"{shown}: names no dataset, so there is nothing to restore; publish the run again")
    for name, entry in body["datasets"].items():
        # the key decides what `run` reuses: a forged one would pass foreign rows off as built here
        if entry["name"] != name or not entry["key"].startswith(entry["version"]):
            raise DamagedError(
                f"{shown}: version {entry['version']} of {name} is described as {entry['name']} with key "
                f"{entry['key'][:16]}…; selfreward wrote no such file"
            )
    return body


def _files(repo: HubRepo, tree: dict[str, RemoteFile], body: dict[str, Any]) -> dict[str, DatasetFiles]:
    """Dataset -> its files, sizes checked against the listing; nothing has been fetched yet."""
    shown = f"{repo.url}/{RUN_FILE}"
    files = {name: DatasetFiles.from_described(entry, shown) for name, entry in body["datasets"].items()}
    expected: dict[str, int | None] = {f.path: f.bytes for d in files.values() for f in d.files}
    expected |= {manifest_path(name): None for name in files}
    _refuse_odd_sizes(repo, tree, expected)
    packed = sum(f.bytes for d in files.values() for f in d.files)
    unpacked = sum(sum(d.arrow_bytes.values()) for d in files.values())
    say(
        f"{repo.url}: {len(files)} datasets, {packed / 1e6:,.1f} MB to fetch, {unpacked / 1e6:,.1f} MB unpacked"
    )
    return files


def _refuse_odd_sizes(repo: HubRepo, tree: dict[str, RemoteFile], expected: dict[str, int | None]) -> None:
    """Raise DamagedError for a missing file or another size; None means any size up to the limit."""
    for path, n_bytes in expected.items():
        found = tree.get(path)
        if found is None or (found.size > MAX_JSON_BYTES if n_bytes is None else found.size != n_bytes):
            size = "is missing" if found is None else f"has {found.size:,} bytes"
            most = f"at most {MAX_JSON_BYTES:,}" if n_bytes is None else f"{n_bytes:,}"
            raise DamagedError(f"{repo.url}/{path}: {size}, expected {most} bytes; nothing of it is used")


def _refuse_too_much(url: str, n_bytes: int, path: Path, max_bytes: float) -> None:
    if n_bytes > max_bytes:
        raise UsageError(
            f"{url}: would need {n_bytes / 1e9:,.1f} GB, more than the {max_bytes / 1e9:,.1f} GB that --max-size allows"
        )
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise StoreError(
            f"{url}: needs {n_bytes / 1e9:,.1f} GB, and {existing} has {free / 1e9:,.1f} GB free; make room first"
        )


def _refuse_other_versions(run: Run, body: dict[str, Any]) -> None:
    """Refuse a folder with versions of another run: a pull never mixes two runs."""
    published = {
        name: entry["version"] for kind in ("datasets", "models") for name, entry in body[kind].items()
    }
    for name, current in run.state().current.items():
        if published.get(name) != current.version:
            raise UsageError(
                f"{run.path}: holds {name} version {current.version}, which is not part of the published run; pull into a new folder"
            )


def _restore_dataset(
    run: Run, repo: HubRepo, commit: str, scratch: Path, files: DatasetFiles, entry: dict[str, Any]
) -> Restored:
    name = files.name
    found = _existing(run, name, entry)
    if found is not None:
        return _restored(found, entry, repo, commit)
    manifest = repo.download(manifest_path(name), commit, scratch)
    shown = f"{repo.url}/{manifest_path(name)}"
    body = _manifest(manifest, name, entry, shown)
    if (body["key"], body["content_sha256"], body["counts"]["out"]) != (
        entry["key"],
        files.content_sha256,
        files.n_rows,
    ):
        raise DamagedError(
            f"{shown}: key, content and rows are not those that {RUN_FILE} names; nothing of it is used"
        )
    for file in files.files:
        repo.download(file.path, commit, scratch)
    table = read_dataset(files, scratch)
    with run.draft(name) as folder:
        try:
            written = write_rows(folder, table, files)
        # Arrow raises all of these for schemas that no version of this program writes
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # a stranger's features
            raise DamagedError(
                f"{shown}: its columns cannot be stored: {error}; nothing of it is used"
            ) from error
        identical = written == body["files"]
        if not identical:
            # another Arrow version writes other bytes; the rows are the same, so key and content hash are
            # kept
            origin = {"repo": repo.url, "revision": commit, "manifest_sha256": entry["manifest_sha256"]}
            body = {**body, "files": written, "restored_from": origin}
        durable.write_new(folder / MANIFEST, manifest.read_bytes() if identical else seal(body))
        return _restored(_publish(folder, name, entry), entry, repo, commit)


def _restore_model(
    run: Run,
    datasets: HubRepo,
    patience: Patience,
    scratch: Path,
    name: str,
    entry: dict[str, Any],
    max_bytes: float,
) -> Restored:
    repo = HubRepo(datasets.api, entry["repo"], "model", patience)
    commit = repo.resolve(f"version-{entry['version']}")
    found = _existing(run, name, entry)
    if found is not None:
        return _restored(found, entry, repo, commit)
    below = durable.make_folder(scratch / name)
    tree = repo.tree(commit)
    _refuse_odd_sizes(repo, tree, {MODEL_MANIFEST: None})
    shown = f"{repo.url}/{MODEL_MANIFEST}"
    body = _manifest(repo.download(MODEL_MANIFEST, commit, below), name, entry, shown)
    foreign.check({"files": [{"name": foreign.model_file}]}, body, shown)
    # pickles run code when loaded
    if not any(file["name"].endswith(".safetensors") for file in body["files"]):
        raise DamagedError(
            f"{shown}: names no .safetensors file, and other weights are not loaded; nothing of {name} is used"
        )
    _refuse_odd_sizes(repo, tree, {published_path(file["name"]): file["bytes"] for file in body["files"]})
    _refuse_too_much(repo.url, sum(file["bytes"] for file in body["files"]), run.path, max_bytes)
    with run.draft(name) as folder:
        for file in body["files"]:
            source = repo.download(published_path(file["name"]), commit, below)
            # hashed before it is moved: nothing unverified enters the run
            if file_sha256(source) != file["sha256"]:
                raise DamagedError(
                    f"{repo.url}: {file['name']} is not what the manifest says; nothing of {name} is used"
                )
            target = foreign.inside(folder, file["name"])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
        durable.write_new(folder / MANIFEST, (below / MODEL_MANIFEST).read_bytes())
        return _restored(_publish(folder, name, entry), entry, repo, commit)


def _manifest(path: Path, name: str, entry: dict[str, Any], shown: str) -> dict[str, Any]:
    if file_sha256(path) != entry["manifest_sha256"]:
        raise DamagedError(f"{shown}: is not the manifest that {RUN_FILE} names; nothing of it is used")
    body = read_as_manifest(path.read_bytes(), shown)
    if not body["key"].startswith(entry["version"]) or body["name"] != name:
        raise DamagedError(
            f"{shown}: is of {body['name']} with key {body['key']}, expected version {entry['version']} of {name}"
        )
    return body


def _existing(run: Run, name: str, entry: dict[str, Any]) -> Version | None:
    """A version that an earlier, interrupted pull completed."""
    found = next((v for v in run.versions(name) if v.version == entry["version"]), None)
    if found is not None:
        found.verify()
        if found.key != entry.get("key", found.key):
            raise DamagedError(f"{found.folder}: holds key {found.key}, {RUN_FILE} says {entry['key']}")
    return found


def _restored(version: Version, entry: dict[str, Any], repo: HubRepo, commit: str) -> Restored:
    identical = version.manifest_sha256 == entry["manifest_sha256"]
    return Restored(version.name, version.version, version.n_rows, identical, repo.url, commit)


def _publish(folder: Path, name: str, entry: dict[str, Any]) -> Version:
    """Publish a finished draft after verifying it against its manifest."""
    Version(name, folder).verify()
    version = Version(name, foreign.inside(folder.parent, entry["version"]))
    # another process may have published the same version first; it must hold the same
    if not durable.publish_folder(folder, version.folder):
        version.verify()
    return version


def _make_current(run: Run, restored: list[Restored]) -> None:
    """Update run.json once, then the models' symlinks."""
    versions = [run.version(entry.name, entry.version) for entry in restored]

    def change(state: State) -> State:
        for version in versions:
            current = state.current.get(version.name)
            if current is None or current.version != version.version:
                state = state.with_current(version.name, version.version, version.manifest_sha256)
        return state

    # one update: readers see the whole run or none of it
    update_state(run.path, change)
    for version in versions:
        run.make_current(version)


def _write_config(run: Run, repo: HubRepo, commit: str, tree: dict[str, RemoteFile], scratch: Path) -> None:
    if CONFIG in tree and not (run.path / "config.yaml").exists():
        _refuse_odd_sizes(repo, tree, {CONFIG: None})
        content = repo.download(CONFIG, commit, scratch).read_bytes()
        durable.replace_file(run.path / "config.yaml", mark(content, repo.url, commit))
