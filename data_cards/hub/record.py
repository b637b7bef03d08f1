"""`RUN/published.json`: the state of this run's repositories on the Hub, and a commit that is pending.

    {"https://huggingface.co/datasets/ann/x": {"revision": "9c1…", "tag": "run-3f0c…", "verified": true, "pending": null}}

It tells a later push whether `main` is still this run's own commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from selfreward.data_cards.tree.trees import RemoteFile, Tree, is_listed
from selfreward.store import durable
from selfreward.store.foreign import Each, check, text
from selfreward.store.sealed import seal, unseal

NAME = "published.json"
_FORMAT = 1


def _text_or_none(value: Any) -> bool:
    """a text, or null"""
    return value is None or isinstance(value, str)


def _flag(value: Any) -> bool:
    """true or false"""
    return isinstance(value, bool)


def _listing(value: Any) -> bool:
    """names of files with two hashes each, or null"""
    return value is None or (
        isinstance(value, dict)
        and all(
            isinstance(hashes, list) and len(hashes) == 2 and all(isinstance(h, str) for h in hashes)
            for hashes in value.values()
        )
    )


_REPOSITORY = {"revision": _text_or_none, "tag": _text_or_none, "verified": _flag, "pending": _listing}
_SHAPE = {"repositories": Each(text, _REPOSITORY)}


@dataclass(frozen=True)
class Published:
    """One repository, as this run knows it."""

    revision: str | None = None
    """The commit that this run made, or was pulled from."""
    tag: str | None = None
    verified: bool = False
    """Whether that commit was read back and compared."""
    pending: dict[str, list[str]] | None = None
    """Path -> hashes of a commit that may or may not have arrived."""

    def knows(self, head: str, remote: Mapping[str, RemoteFile]) -> bool:
        """Whether `main` is this run's own commit, or the initial one of an empty repository."""
        # sent, but the reply was lost: the commit is recognized by the hashes of its files
        sent = self.pending is not None and is_listed(self.pending, remote)
        new = self.revision is None and not remote
        return new or sent or head == self.revision


class Record:
    """The file of one run, read and replaced whole."""

    def __init__(self, run: Path) -> None:
        self._path = run / NAME

    def get(self, url: str) -> Published:
        """The record of a repository, empty if there is none."""
        return self._read().get(url, Published())

    def expect(self, url: str, tree: Tree) -> None:
        """Note what is about to be committed."""
        self._put(url, replace(self.get(url), pending=tree.listing()))

    def committed(self, url: str, revision: str) -> None:
        """Note that a commit is this run's; not yet verified, not yet tagged."""
        if self.get(url).revision != revision:
            self._put(url, Published(revision))

    def finished(self, url: str, revision: str, tag: str | None) -> None:
        """Note that a commit was read back and tagged."""
        if self.get(url) != (done := Published(revision, tag, verified=True)):
            self._put(url, done)

    def _put(self, url: str, published: Published) -> None:
        entries = {**self._read(), url: published}
        body = {name: asdict(entry) for name, entry in sorted(entries.items())}
        durable.replace_file(self._path, seal({"format": _FORMAT, "repositories": body}))

    def _read(self) -> dict[str, Published]:
        if not self._path.is_file():
            return {}
        body = unseal(self._path.read_bytes(), self._path)
        check(_SHAPE, body, self._path)
        return {
            name: Published(**{key: entry[key] for key in _REPOSITORY})
            for name, entry in body["repositories"].items()
        }
