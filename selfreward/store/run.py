"""The dataset store of a run: immutable versions, found by key, published whole or not at all.

    RUN/config.yaml                          the resolved configuration
    RUN/run.json                             which versions are current (see state.py)
    RUN/datasets/<name>/<version>/           ift, eft, iter1/prompts, iter1/pairs, …
    RUN/models/versions/M1/<version>/        RUN/models/M1 is a symlink to the current one
    RUN/.work/                               journals and checkpoints of unfinished steps (hidden)

A version's *key* is the SHA-256 of its inputs and parameters; its folder is named by the key's first 16 digits. Same
key: the version is reused. A version is published by a rename that the kernel refuses if the name is taken, so of
several writers exactly one wins and the others use its version.
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
# Times and memory of the training: two trainings that gave equal weights are the same model.
NOT_HASHED_IN_MODELS = ("training.json",)


class Run:
    """A run folder, opened. Cheap to open; safe to use from several processes at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        refuse_links(self.path)
        self.state()  # raises if this is not a run folder, is damaged, or has a newer format

    @classmethod
    def create(cls, path: Path | str) -> Run:
        """Open a run folder; create it if it does not exist."""
        path = Path(path)
        # `--run ~` by mistake must not fill the user's home with our folders.
        if path.exists() and not (path / "run.json").exists() and not (path / ".run").exists():
            strangers = [p.name for p in path.iterdir() if not p.name.startswith(".")]
            if strangers:
                raise UsageError(
                    f"{path}: is not empty and not a run folder (found {strangers[0]!r}); "
                    "choose another folder with --run"
                )
        refuse_links(path)
        durable.make_folder(path)
        create_state(path)
        return cls(path)

    def state(self) -> State:
        """The current versions, as of now."""
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
        """A version by the first digits of its name, current or not, or by `current` or `previous`."""
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
        """All published versions of a name, oldest first, damaged ones included."""
        folder, entry = folder_of(self.path, name), self.state().current.get(name)
        with durable.explained("read", folder):
            found = [p for p in folder.glob("*") if is_version(p.name) and p.is_dir()]
            found.sort(key=_published_at)
        # A current version whose folder is gone is listed too, so that `verify --quarantine` can repair run.json.
        if entry is not None and folder / entry.version not in found:
            found.append(folder / entry.version)
        return [Version(name, path) for path in found]

    def find(self, recipe: Recipe) -> Version | None:
        """The published version of a recipe, current or not; None if there is none."""
        version = Version(recipe.name, folder_of(self.path, recipe.name) / recipe.version)
        if not version.folder.is_dir():
            return None
        entry = self.state().current.get(recipe.name)
        # A version that run.json does not name (its writer died before naming it) was never read: hash all of it.
        if entry is not None and version.version in (entry.version, *entry.previous):
            version.check_files()
        else:
            version.verify()
        # The folder's name has 16 of the key's 64 digits; a collision must not pass for a match.
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
        """A hidden folder beside the version to be published; removed if it is not."""
        # `prompts` without an iteration would be published beside `iter1/prompts`, where no step reads it.
        if not is_model(name) and not (dataset := DatasetName.parse(name)).in_place:
            expected = dataset.kind if dataset.iteration is not None else f"iter1/{dataset.kind}"
            raise UsageError(f"dataset {name!r}: not a name for these rows; expected {expected}")
        folder = durable.new_hidden_folder(folder_of(self.path, name), "draft")
        try:
            with durable.filling(folder):
                yield folder
        except BaseException:
            # The user must see the first error, not that of the clean-up; `gc` finds what is left.
            with suppress(StoreError):
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

        AccountingError if the counts do not add up, a value is NaN or a row breaks `rules`.
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
        """Publish a folder that a training step filled; it must be a draft of this name."""
        counts.check(recipe.name, counts.n_out)
        files = [_file_entry(folder, path) for path in sorted(folder.rglob("*")) if not path.is_dir()]
        if not files:
            raise StoreError(
                f"{folder}: the training step of {recipe.name} left no file; nothing was published"
            )
        content = digest([[f["name"], f["sha256"]] for f in files if f["name"] not in NOT_HASHED_IN_MODELS])
        return self._publish(recipe, folder, files, content, counts, {})

    def make_current(self, version: Version) -> None:
        """Name this version as current in run.json; update the model's symlink."""
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
        """Point `models/M1` to the current version."""
        # Repeated until run.json did not change in between: otherwise the slower of two writers could leave its own link.
        entry = None
        while entry != (entry := self.state().current.get(model)):
            if entry is not None:
                link = self.path / "models" / model
                # `cp -rL` and some archivers follow links, so a copied run has a folder here.
                if link.is_dir() and not link.is_symlink():
                    aside = self._aside(f"{model}-copy")
                    durable.rename(link, aside)
                    print(f"{link}: was a folder, expected a link; it is now {aside}", file=sys.stderr)
                durable.point_symlink(link, f"versions/{model}/{entry.version}")

    def work_folder(self, recipe: Recipe) -> Path:
        """The hidden folder of an unfinished step: its journal and checkpoints, found again by key."""
        return self.path / ".work" / f"{recipe.name.replace('/', '-')}-{recipe.version}"

    def quarantine(self, version: Version, damaged: bool = False) -> Path:
        """Move a version aside, so that the next run builds it again, and return its new folder; nothing is deleted."""
        full = None
        try:
            aside = self._aside(f"{version.name.replace('/', '-')}-{version.version}")
            # First stop naming it: after a crash in between, it is verified in full before any use.
            update_state(self.path, lambda state: state.forgetting(version.name, version.version))
        except StoreError as error:
            # A full disk: one that is certainly `damaged` is moved all the same, since no reader could read it.
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
        """A free name in the quarantine folder."""
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
            version.verify()  # another writer was first: its version is used, after verification
        self.make_current(version)
        return version

    def _unknown(self, name: str) -> str:
        known = self.names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known) or 'none yet'}"
        return f"{self.path}: no dataset or model {name!r}{hint}"


def _published_at(folder: Path) -> tuple[int, str]:
    # Readers and `datasets` may add caches, which changes the folder's own time but not the manifest's.
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
    """Versions of the libraries that can change a dataset, without importing them."""
    found = {}
    for name in ("selfreward", *_LIBRARIES):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
