"""The dataset store of a run: immutable versions, found by key, published whole or not at all.

    RUN/config.yaml                          the resolved configuration
    RUN/run.json                             which versions are current (see state.py)
    RUN/datasets/<name>/<version>/           ift, eft, iter1/prompts, iter1/pairs, …
    RUN/models/versions/M1/<version>/        RUN/models/M1 is a symlink to the current one
    RUN/.work/                               journals and checkpoints of unfinished stages (hidden)

A version's *key* is the SHA-256 of everything that went into it; its folder is named by the key's first 16
digits. Same key: the version is reused. A version is published by a rename that the kernel refuses if the name
is taken, so of several writers exactly one wins and the others use its version.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward import durable, lock
from selfreward.errors import AccountingError, DamagedError, InputError, StoreError, UsageError
from selfreward.sealed import digest, seal, unseal
from selfreward.state import FORMAT, State, create_state, read_state, update_state
from selfreward.version import MANIFEST, OnBytes, Version, file_sha256

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_MODEL_NAME = re.compile(r"(M\d+|SFT)$")
_DATASET_NAME = re.compile(r"(iter\d+/)?[a-z][a-z0-9_]*$")
_LIBRARIES = ("datasets", "pyarrow", "duckdb", "torch", "transformers", "trl", "peft", "accelerate", "vllm",
              "alpaca-eval", "rapidfuzz")  # fmt: skip
NOT_HASHED_IN_MODELS = ("training.json",)
"""Files of a model that describe how it was made (times, memory) and are no part of what it is."""


@dataclass(frozen=True)
class Counts:
    """The accounting of one stage: rows in = rows out + dropped by reason, or it is not published.

    Where a stage multiplies rows (N candidates a prompt), `n_in` counts what was asked for (prompts x N).
    """

    n_in: int
    n_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """Further counts for people: the funnel, retries, cache hits."""

    def check(self, name: str, n_rows: int) -> None:
        """Raise AccountingError unless every row is accounted for."""
        dropped = sum(self.dropped.values())
        if self.n_out != n_rows or self.n_in != self.n_out + dropped:
            raise AccountingError(
                f"{name}: {self.n_in} rows in, {self.n_out} out and {dropped} dropped do not add up "
                f"({n_rows} rows were written); this is a bug in the builder, nothing was published"
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a version: its digest is the version's key."""

    name: str
    builder: str
    """Module and version of the code that makes the rows, e.g. `builders.pairs 1`."""
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Role -> {name, content_sha256} of datasets, models, files, templates."""
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        inputs = {role: entry["content_sha256"] for role, entry in self.inputs.items()}
        return digest({"name": self.name, "builder": self.builder, "inputs": inputs, "params": self.params})


class Run:
    """A run folder, opened. Cheap to open; safe to use from several processes at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.state()  # refuses what is no run folder, is damaged, or has a newer format

    @classmethod
    def create(cls, path: Path | str) -> Run:
        """Open a run folder, making it first if there is none."""
        path = Path(path)
        if path.exists() and not (path / "run.json").exists() and not (path / ".run").exists():
            strangers = [p.name for p in path.iterdir() if not p.name.startswith(".")]
            if strangers:
                raise UsageError(
                    f"{path}: is not empty and is no run folder (found {strangers[0]!r}); "
                    "choose another folder with --run"
                )
        durable.make_folder(path)
        create_state(path)
        return cls(path)

    def state(self) -> State:
        """What is current, as of now."""
        return read_state(self.path)

    def hold(self, doing: str) -> Any:
        """The run's lock as a context manager; BusyError if a live process holds it."""
        return lock.hold(self.path, doing)

    # -- reading ---------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Names that have a current version, sorted."""
        return sorted(self.state().current)

    def current(self, name: str) -> Version:
        """The current version of a dataset or model; its manifest must be the one run.json names."""
        entry = self.state().current.get(name)
        if entry is None:
            raise UsageError(self._unknown(name))
        version = Version(name, self._folder(name) / entry.version)
        if not version.folder.is_dir():
            raise DamagedError(f"{version.folder}: the current version of {name} is missing from the disk")
        if version.manifest_sha256 != entry.manifest_sha256:
            raise DamagedError(
                f"{version.folder / MANIFEST}: is not the manifest that run.json names for {name}"
            )
        return version

    def has(self, name: str) -> bool:
        return name in self.state().current

    def version(self, name: str, version: str) -> Version:
        """A version by the first digits of its name, current or not; `current` and `previous` work too."""
        entry = self.state().current.get(name)
        if version == "current":
            return self.current(name)
        if version == "previous":
            if entry is None or not entry.previous:
                raise UsageError(f"{self.path}: {name} has no previous version")
            version = entry.previous[0]
        found = [v for v in self.versions(name) if v.version.startswith(version)]
        if len(found) != 1:
            known = ", ".join(v.version for v in self.versions(name)) or "none"
            raise UsageError(
                f"{self.path}: {len(found)} versions of {name} start with {version!r}; known: {known}"
            )
        return found[0]

    def versions(self, name: str) -> list[Version]:
        """All published versions of a name, oldest first by name of the folder's manifest."""
        folder = self._folder(name)
        found = [Version(name, p) for p in sorted(folder.glob("[0-9a-f]*")) if (p / MANIFEST).is_file()]
        return sorted(found, key=lambda v: (v.folder / MANIFEST).stat().st_mtime_ns)

    def find(self, recipe: Recipe) -> Version | None:
        """The published version of a recipe, if there is one (whether current or not).

        A version that run.json has never named (its writer died in between) is verified in full first.
        """
        version = Version(recipe.name, self._folder(recipe.name) / recipe.key[:16])
        if not version.folder.is_dir():
            return None
        if version.key != recipe.key:
            raise StoreError(f"{version.folder}: holds key {version.key}, expected {recipe.key}")
        entry = self.state().current.get(recipe.name)
        known = entry is not None and version.version in (entry.version, *entry.previous)
        if known:
            version.check_files()
        else:
            version.verify()
        return version

    def verify(self, names: Iterable[str], on_bytes: OnBytes = lambda n: None) -> Iterator[Version]:
        """Hash every file of every published version of the names; DamagedError at the first that differs."""
        for name in names:
            if self.has(name):
                self.current(name)
            for version in self.versions(name):
                version.verify(on_bytes)
                yield version

    # -- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def draft(self, name: str) -> Iterator[Path]:
        """A hidden folder next to where the version will be; removed if it was not published."""
        folder = durable.new_hidden_folder(self._folder(name), "draft")
        try:
            yield folder
        finally:
            if folder.exists():
                durable.remove_tree(folder)

    def publish_table(self, recipe: Recipe, rows: pa.Table | pa.RecordBatchReader, counts: Counts) -> Version:
        """Publish rows as the version of a recipe and make it current."""
        from selfreward.writer import write_shards

        batches = rows.to_batches() if hasattr(rows, "to_batches") else rows
        with self.draft(recipe.name) as folder:
            files, content, n_rows = write_shards(folder, rows.schema, batches)
            counts.check(recipe.name, n_rows)
            schema = {f.name: str(f.type) for f in rows.schema}
            return self._publish(recipe, folder, files, content, counts, schema)

    def publish_model(self, recipe: Recipe, folder: Path, counts: Counts) -> Version:
        """Publish a folder that a training step filled (it must be a draft of this name)."""
        files = [
            {
                "name": path.relative_to(folder).as_posix(),
                "rows": None,
                "bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        content = digest([[f["name"], f["sha256"]] for f in files if f["name"] not in NOT_HASHED_IN_MODELS])
        return self._publish(recipe, folder, files, content, counts, {})

    def make_current(self, version: Version) -> None:
        """Say in run.json that this version is current; the models' symlink follows."""
        sha256 = version.manifest_sha256

        def change(state: State) -> State:
            entry = state.current.get(version.name)
            if entry is not None and (entry.version, entry.manifest_sha256) == (version.version, sha256):
                return state
            return state.with_current(version.name, version.version, sha256)

        update_state(self.path, change)
        if is_model(version.name):
            target = f"versions/{version.name}/{version.version}"
            durable.point_symlink(self.path / "models" / version.name, target)

    def work_folder(self, recipe: Recipe) -> Path:
        """The hidden folder of an unfinished stage: its journal and checkpoints, found again by key."""
        return self.path / ".work" / f"{recipe.name.replace('/', '-')}-{recipe.key[:16]}"

    def quarantine(self, version: Version) -> Path:
        """Move a damaged version aside, so that the next run builds it again; nothing is deleted."""
        aside = (
            self.path / ".damaged" / f"{version.name.replace('/', '-')}-{version.version}-{int(time.time())}"
        )
        durable.make_folder(aside.parent)
        durable.rename(version.folder, aside)
        update_state(
            self.path,
            lambda state: (
                state.without(version.name)
                if version.name in state.current and state.current[version.name].version == version.version
                else state
            ),
        )
        return aside

    def _publish(
        self,
        recipe: Recipe,
        folder: Path,
        files: list[dict[str, Any]],
        content: str,
        counts: Counts,
        schema: dict[str, str],
    ) -> Version:
        body = {
            "format": FORMAT,
            "name": recipe.name,
            "key": recipe.key,
            "content_sha256": content,
            "builder": recipe.builder,
            "counts": {
                "in": counts.n_in,
                "out": counts.n_out,
                "dropped": counts.dropped,
                "notes": counts.notes,
            },
            "files": files,
            "schema": schema,
            "inputs": recipe.inputs,
            "params": recipe.params,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": library_versions(),
        }
        durable.write_new(folder / MANIFEST, seal(body))
        version = Version(recipe.name, self._folder(recipe.name) / recipe.key[:16])
        if not durable.publish_folder(folder, version.folder):
            version.verify()  # another writer was first: its version is used, once it is seen to be whole
        self.make_current(version)
        return version

    def _folder(self, name: str) -> Path:
        if is_model(name):
            return self.path / "models" / "versions" / name
        if not _DATASET_NAME.match(name):
            raise UsageError(f"{name!r} is no dataset name; expected ift, eft, iter1/prompts, M1, …")
        return self.path / "datasets" / name

    def _unknown(self, name: str) -> str:
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none yet'}"
        return f"{self.path}: no dataset or model {name!r}{hint}"


def is_model(name: str) -> bool:
    """Whether a name of the store is a model (`M1`, `SFT`) rather than a dataset."""
    return bool(_MODEL_NAME.match(name))


def load_rows(folder: Path | str) -> datasets.Dataset:
    """A version folder (verified) or any `save_to_disk` folder as a `Dataset` that writes no cache into it."""
    import datasets

    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return Version(folder.name, folder).dataset()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a dataset version or a `save_to_disk` folder")
    loaded = datasets.load_from_disk(str(folder))
    return datasets.Dataset(loaded.data.table)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The sealed manifest of a version folder, None if the folder has none."""
    path = folder / MANIFEST
    return unseal(path.read_bytes(), path) if path.is_file() else None


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a dataset, without importing them."""
    found = {}
    for name in ("selfreward", *_LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def file_input(path: Path) -> dict[str, str]:
    """A user's file as an input of a recipe: what counts is its content, not where it lies."""
    return {"name": path.name, "content_sha256": file_sha256(path)}


def text_input(name: str, text: str) -> dict[str, str]:
    """A text (a template, a rule) as an input of a recipe."""
    return {"name": name, "content_sha256": hashlib.sha256(text.encode()).hexdigest()}


def new_token() -> str:
    """A random name for a temporary thing."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"
