"""Pushes one repository: compare, commit once, read back, tag. The same for datasets and models.

After an interruption, the same command resumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from selfreward.data_cards.hub.failures import HubError, foreign_commit
from selfreward.data_cards.hub.record import Record
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.tree.layout import free_tag, short_revision
from selfreward.data_cards.tree.trees import Tree, changes_between
from selfreward.progress import bar
from selfreward.store.version import file_sha256


@dataclass(frozen=True)
class Pushed:
    """The state of a repository after a push."""

    repo: str
    url: str
    revision: str
    tag: str
    committed: bool
    """False if it already held exactly this."""
    n_files: int
    removed: int
    """Files that the commit removed from `main`; older revisions keep them."""
    verified: int
    """Files read back now; 0 where this revision was read back before."""


def push(
    repo: HubRepo,
    tree: Tree,
    record: Record,
    tag: str,
    title: str,
    scratch: Path,
    private: bool = False,
    onto: str | None = None,
    check: Callable[[Path], None] = lambda folder: None,
) -> Pushed:
    """Make `main` of `repo` hold exactly `tree`, verified and tagged.

    `onto` names a foreign head to build on; `check` inspects the files read back. Raises HubError if the Hub refuses,
    fails, or returns something other than what was sent.
    """
    head = repo.head()
    # never changed by a push: only the owner decides whether a public repository becomes private
    if head is not None and private and not head.private:
        raise HubError(
            f"{repo.url}: is public, but --private was given; make it private in its settings first"
        )
    head = head or repo.create(private)
    remote = repo.tree(head.revision)
    changes = changes_between(tree, remote)
    revision = head.revision
    if changes:
        known = record.get(repo.url)
        # a commit by someone else would be overwritten; `onto` says that the user has looked at this one
        if not known.knows(head.revision, remote) and onto != head.revision:
            raise foreign_commit(repo.url, head.revision, known.revision)
        # noted before it is sent: if the reply is lost and the process dies, the commit is still recognized
        record.expect(repo.url, tree)
        revision = repo.commit(tree, head.revision, title)
    record.committed(repo.url, revision)
    known = record.get(repo.url)
    # only a verified revision is tagged, so a tag is a promise
    verified = 0 if known.verified else _read_back(repo, tree, revision, scratch, check)
    tags = repo.tags()
    name = free_tag(tag, revision, tags)
    if name not in tags:
        repo.tag(name, revision)
    record.finished(repo.url, revision, name)
    return Pushed(
        repo=repo.repo_id,
        url=repo.url,
        revision=revision,
        tag=name,
        committed=revision != head.revision,
        n_files=len(tree.files),
        removed=len(changes.removed),
        verified=verified,
    )


def _read_back(repo: HubRepo, tree: Tree, revision: str, scratch: Path, check: Callable[[Path], None]) -> int:
    """Download every file of the revision and compare. Raises HubError naming the first that differs."""
    remote = repo.tree(revision)
    changes = changes_between(tree, remote)
    different = [*changes.added, *changes.removed]
    if different:
        raise _not_what_was_sent(repo, revision, different[0])
    with bar(len(tree.files), "reading back", "file") as progress:
        for path, hashes in tree.hashes.items():
            if file_sha256(repo.download(path, revision, scratch)) != hashes.sha256:
                raise _not_what_was_sent(repo, revision, path)
            progress.update()
    check(scratch)
    return len(tree.files)


def _not_what_was_sent(repo: HubRepo, revision: str, path: str) -> HubError:
    return HubError(
        f"{repo.url}: {path} at {short_revision(revision)} differs from what was sent, so the revision was not tagged; run the same "
        "command again, and contact the Hub's support if it persists"
    )
