"""The files of a repository before they are sent, what the Hub says it holds, and the difference.

Files are compared by the hash that the Hub keeps for them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hashes:
    """Both hashes of a file's content."""

    sha256: str
    git_sha1: str


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub lists it; `sha256` only for files in large-file storage."""

    size: int
    blob_id: str
    sha256: str | None


@dataclass(frozen=True)
class Tree:
    """Path in the repository -> a local file, with its hashes."""

    files: Mapping[str, Path]
    hashes: Mapping[str, Hashes]

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> Tree:
        """Hash every file, in the order of the paths."""
        ordered = dict(sorted(files.items()))
        return cls(ordered, {path: hash_file(source) for path, source in ordered.items()})

    def write_to(self, folder: Path) -> None:
        """Copy everything into a folder, laid out as in the repository."""
        for path, source in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def listing(self) -> dict[str, list[str]]:
        """The tree as stored in the record of pushes."""
        return {path: [hashes.sha256, hashes.git_sha1] for path, hashes in self.hashes.items()}


@dataclass(frozen=True)
class Changes:
    """The changes that turn a remote tree into ours."""

    added: dict[str, Path]
    removed: list[str]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def changes_between(tree: Tree, remote: Mapping[str, RemoteFile]) -> Changes:
    """New and changed files, and those that only the Hub has."""
    added = {
        path: source
        for path, source in tree.files.items()
        if path not in remote or not _matches(tree.hashes[path], remote[path])
    }
    return Changes(added, sorted(set(remote) - set(tree.files)))


def is_same(tree: Tree, remote: Mapping[str, RemoteFile]) -> bool:
    """Whether the Hub holds exactly this tree."""
    return not changes_between(tree, remote)


def is_listed(listing: Mapping[str, list[str]], remote: Mapping[str, RemoteFile]) -> bool:
    """Whether the Hub holds exactly what a `Tree.listing` says."""
    same_paths = listing.keys() == remote.keys()
    return same_paths and all(_matches(Hashes(*listing[path]), file) for path, file in remote.items())


def _matches(hashes: Hashes, remote: RemoteFile) -> bool:
    # SHA-256 for large files, git's SHA-1 of a blob for small ones; the Hub decides at upload which
    return remote.sha256 == hashes.sha256 if remote.sha256 else remote.blob_id == hashes.git_sha1


def hash_file(path: Path) -> Hashes:
    """Both hashes in one pass."""
    sha256 = hashlib.sha256()
    # git hashes a header with the size before the content
    git_sha1 = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            git_sha1.update(block)
    return Hashes(sha256.hexdigest(), git_sha1.hexdigest())
