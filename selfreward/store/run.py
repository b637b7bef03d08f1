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
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import DamagedError, StoreError, UsageError
from selfreward.store import durable, lock
from selfreward.store.foreign import inside, refuse_links
from selfreward.store.names import folder_of, is_model, is_version
from selfreward.store.recipe import Counts, Recipe, file_input, text_input
from selfreward.store.sealed import FORMAT, digest, seal
from selfreward.store.state import State, create_state, read_state, update_state
from selfreward.store.version import MANIFEST, OnBytes, Version, file_sha256, load_rows, read_manifest
from selfreward.tables import DatasetName

if TYPE_CHECKING:
    import pyarrow as pa

    from selfreward.store.writer import Rules

__all__ = [
    "Counts",
    "Recipe",
    "Run",
    "file_input",
    "is_model",
    "library_versions",
    "load_rows",
    "read_manifest",
    "text_input",
]

_LIBRARIES = ("datasets", "pyarrow", "duckdb", "torch", "transformers", "trl", "peft", "accelerate", "vllm",
              "alpaca-eval", "rapidfuzz")  # fmt: skip
NOT_HASHED_IN_MODELS = ("training.json",)
"""Files of a model that describe how it was made (times, memory) and are no part of what it is."""


class Run:
    """A run folder, opened. Cheap to open; safe to use from several processes at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        refuse_links(self.path)
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
        refuse_links(path)
        durable.make_folder(path)
        create_state(path)
        return cls(path)

    def state(self) -> State:
        """What is current, as of now."""
        return read_state(self.path)

    def hold(self, doing: str) -> AbstractContextManager[None]:
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
        version = Version(name, folder_of(self.path, name) / entry.version)
        if not version.folder.is_dir():
            if self.state().current.get(name) != entry:  # replaced and collected since we looked
                return self.current(name)
            raise DamagedError(
                f"{version.folder}: the current version of {name} is missing from the disk; restore it from a copy, or "
                "let `selfreward verify RUN --quarantine` forget it, and the next run builds it again"
            )
        if version.manifest_sha256 != entry.manifest_sha256:
            raise DamagedError(
                f"{version.folder / MANIFEST}: is not the manifest that run.json names for {name}; "
                "`selfreward verify RUN --quarantine` moves the version aside, and the next run rebuilds it"
            )
        return version

    def has(self, name: str) -> bool:
        """Whether a name has a current version."""
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
        """All published versions of a name, oldest first.

        Damaged ones too, and the current one if its folder is gone, so that they can be found and put in order.
        """
        folder, entry = folder_of(self.path, name), self.state().current.get(name)
        with durable.explained("read", folder):
            found = [p for p in folder.glob("*") if is_version(p.name) and p.is_dir()]
            found.sort(key=_published_at)
        if entry is not None and folder / entry.version not in found:
            found.append(folder / entry.version)
        return [Version(name, path) for path in found]

    def find(self, recipe: Recipe) -> Version | None:
        """The published version of a recipe, if there is one (whether current or not).

        A version that run.json does not name (its writer died in between) is verified in full first.
        """
        version = Version(recipe.name, folder_of(self.path, recipe.name) / recipe.version)
        if not version.folder.is_dir():
            return None
        entry = self.state().current.get(recipe.name)
        if entry is not None and version.version in (entry.version, *entry.previous):
            version.check_files()
        else:
            version.verify()
        if version.key != recipe.key:
            raise StoreError(f"{version.folder}: holds key {version.key}, expected {recipe.key}")
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
        """A hidden folder next to where the version will be; removed if it was not published.

        UsageError for `prompts` without an iteration and the like: it would stand beside the true ones.
        """
        if not is_model(name) and not (dataset := DatasetName.parse(name)).in_place:
            expected = dataset.kind if dataset.iteration is not None else f"iter1/{dataset.kind}"
            raise UsageError(f"{name!r} is no place for these rows; expected {expected}")
        folder = durable.new_hidden_folder(folder_of(self.path, name), "draft")
        try:
            with durable.filling(folder):
                yield folder
        except BaseException:
            with suppress(
                StoreError
            ):  # what went wrong first is what the user must hear of; gc finds the rest
                durable.remove_tree(folder)
            raise
        durable.remove_tree(folder)

    def publish_table(
        self,
        recipe: Recipe,
        rows: pa.Table | pa.RecordBatchReader,
        counts: Counts,
        rules: Rules | None = None,
    ) -> Version:
        """Publish rows as the version of a recipe and make it current.

        AccountingError where the counts do not add up, where a value is NaN or where a row breaks `rules`.
        """
        from selfreward.store.contenthash import schema_names
        from selfreward.store.writer import write_shards

        batches = rows.to_batches() if hasattr(rows, "to_batches") else rows
        with self.draft(recipe.name) as folder:
            written = write_shards(folder, rows.schema, batches, rules)
            counts.check(recipe.name, written.n_rows)
            schema = schema_names(rows.schema)
            return self._publish(recipe, folder, written.files, written.content_sha256, counts, schema)

    def publish_model(self, recipe: Recipe, folder: Path, counts: Counts) -> Version:
        """Publish a folder that a training step filled (it must be a draft of this name)."""
        counts.check(recipe.name, counts.n_out)
        files = [_file_entry(folder, path) for path in sorted(folder.rglob("*")) if not path.is_dir()]
        if not files:
            raise StoreError(
                f"{folder}: the training step of {recipe.name} left no file; nothing was published"
            )
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
            self._point_symlink(version.name)

    def _point_symlink(self, model: str) -> None:
        """`models/M1` follows run.json, also where another writer changes that meanwhile."""
        entry = None
        while entry != (entry := self.state().current.get(model)):
            if entry is not None:
                link = self.path / "models" / model
                # A run folder that was copied with its links followed has a folder there.
                if link.is_dir() and not link.is_symlink():
                    aside = self._aside(f"{model}-copy")
                    durable.rename(link, aside)
                    print(f"{link}: was a folder, expected a link; it is now {aside}", file=sys.stderr)
                durable.point_symlink(link, f"versions/{model}/{entry.version}")

    def work_folder(self, recipe: Recipe) -> Path:
        """The hidden folder of an unfinished stage: its journal and checkpoints, found again by key."""
        return self.path / ".work" / f"{recipe.name.replace('/', '-')}-{recipe.version}"

    def quarantine(self, version: Version, damaged: bool = False) -> Path:
        """Move a damaged version aside, so that the next run builds it again; nothing is deleted.

        One whose folder is gone is only forgotten. The folder given back is where it lies now.

        It stops being current first: a crash in between leaves a version that run.json does not name, which is
        verified in full before anybody uses it, and which the same call moves aside. Where a full disk keeps run.json from
        being written, one that is `damaged` for certain is moved all the same: no reader loses what it could read.
        """
        full = None
        try:
            aside = self._aside(f"{version.name.replace('/', '-')}-{version.version}")
            update_state(self.path, lambda state: state.forgetting(version.name, version.version))
        except StoreError as error:
            if not damaged or not durable.is_no_space(error):
                raise
            full = error
            aside = version.folder.with_name(f".damaged-{version.version}-{secrets.token_hex(4)}")
        if version.folder.exists():
            durable.rename(version.folder, aside)
        if full is not None:
            print(f"{aside}: moved aside, but run.json still names it: {full}", file=sys.stderr)
        return aside

    def _aside(self, stem: str) -> Path:
        """A free name among the quarantined things."""
        return inside(durable.make_folder(self.path / ".damaged"), f"{stem}-{secrets.token_hex(4)}")

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
            "counts": counts.described(),
            "files": files,
            "schema": schema,
            "inputs": recipe.inputs,
            "params": recipe.params,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": library_versions(),
        }
        durable.write_new(folder / MANIFEST, seal(body))
        version = Version(recipe.name, folder_of(self.path, recipe.name) / recipe.version)
        if not durable.publish_folder(folder, version.folder):
            version.verify()  # another writer was first: its version is used, once it is seen to be whole
        self.make_current(version)
        return version

    def _unknown(self, name: str) -> str:
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known) or 'none yet'}"
        return f"{self.path}: no dataset or model {name!r}{hint}"


def _published_at(folder: Path) -> tuple[int, str]:
    manifest = folder / MANIFEST
    return (manifest if manifest.exists() else folder).stat().st_mtime_ns, folder.name


def _file_entry(folder: Path, path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise StoreError(f"{path}: is a symlink, which a version cannot hold; copy what it points to")
    n_bytes = path.stat().st_size
    return {
        "name": path.relative_to(folder).as_posix(),
        "rows": None,
        "bytes": n_bytes,
        "sha256": file_sha256(path),
    }


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a dataset, without importing them; asked for once a process."""
    found = {}
    for name in ("selfreward", *_LIBRARIES):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
