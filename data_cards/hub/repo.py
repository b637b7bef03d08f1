"""One repository on the Hugging Face Hub, as publishing and pulling need it: head, tree, one commit, tags, files.

Promises:

- a commit names its parent revision (`parent_commit`), so no newer commit is overwritten;
- after a lost reply, the head is compared with what was sent before anything is sent again;
- 429 and 5xx are retried after the wait the server asks for (`Retry-After`, `RateLimit`), with a limit;
- every failure is one sentence that names the current revision; none contains a token.

Not promised: a limit on the client's own retries inside an upload or a download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from selfreward.data_cards.cards.redact import public_endpoint
from selfreward.data_cards.hub.failures import (
    HubError,
    Patience,
    advice_for,
    client_failures,
    foreign_commit,
    reason_of,
    status_of,
)
from selfreward.data_cards.tree.layout import MADE_BY_THE_HUB, short_revision
from selfreward.data_cards.tree.trees import Changes, RemoteFile, Tree, changes_between, is_same
from selfreward.store import foreign

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")


@dataclass(frozen=True)
class Head:
    """The head of `main`."""

    revision: str
    private: bool


class HubRepo:
    """A dataset or model repository. Nothing is created by opening one."""

    def __init__(self, api: HfApi, repo_id: str, kind: str, patience: Patience | None = None) -> None:
        self.api = api
        self.repo_id = repo_id
        self.kind = kind
        """`dataset` or `model`."""
        self.patience = patience or Patience()

    @property
    def url(self) -> str:
        """The repository's page, as messages, cards and records name it: without a login of `HF_ENDPOINT`."""
        return f"{public_endpoint(self.api.endpoint)}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo_id}"

    def head(self) -> Head | None:
        """The head of `main`; None if there is no such repository (or the token cannot see it)."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self.patiently(
                "asking for its head", lambda: self.api.repo_info(self.repo_id, repo_type=self.kind)
            )
        except RepositoryNotFoundError:
            return None
        return Head(str(info.sha), bool(info.private))

    def resolve(self, revision: str | None) -> str:
        """The commit that a branch or tag names; HubError if it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> Any:
            return self.api.repo_info(self.repo_id, repo_type=self.kind, revision=revision)

        try:
            return str(self.patiently("asking for its revision", ask).sha)
        except RepositoryNotFoundError as error:
            raise HubError(
                f"{self.url}: no such {self.kind} repository, or it is private and your token (HF_TOKEN, `hf auth "
                "login`) may not see it"
            ) from error
        except RevisionNotFoundError as error:
            tags = ", ".join(sorted(self.tags())) or "none"
            raise HubError(f"{self.url}: has no revision {revision!r}; its tags are {tags}") from error

    def create(self, private: bool) -> Head:
        """Create the repository. Raises HubError if it does not exist afterwards."""

        def ask() -> Any:
            # None, not False: the default of the account or organization applies
            return self.api.create_repo(
                self.repo_id, repo_type=self.kind, private=private or None, exist_ok=True
            )

        self.patiently("creating it", ask)
        # `exist_ok` also hides a name that was taken meanwhile, so the head is asked again
        head = self.head()
        if head is None:
            raise HubError(
                f"{self.url}: was created, but the Hub does not show it; run the same command again"
            )
        return head

    def tree(self, revision: str) -> dict[str, RemoteFile]:
        """Path -> file of a revision, without the one the Hub creates."""
        from huggingface_hub.hf_api import RepoFile

        def ask() -> dict[str, RemoteFile]:
            entries = self.api.list_repo_tree(
                self.repo_id, repo_type=self.kind, revision=revision, recursive=True
            )
            files = [entry for entry in entries if isinstance(entry, RepoFile)]
            return {f.path: RemoteFile(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in files}

        tree = self.patiently("listing its files", ask)
        tree.pop(MADE_BY_THE_HUB, None)
        return tree

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        refs = self.patiently(
            "listing its tags", lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind)
        )
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, name: str, revision: str) -> None:
        """Give a revision a name that is free, or already its own."""

        def ask() -> None:
            # also without a tag, if the first reply was lost: `exist_ok` accepts the own tag
            self.api.create_tag(self.repo_id, tag=name, revision=revision, repo_type=self.kind, exist_ok=True)

        self.patiently(f"tagging {short_revision(revision)}", ask)
        if (found := self.tags().get(name)) != revision:
            raise HubError(
                f"{self.url}: tag {name} names {found}, expected {revision}; someone else just created it"
            )

    def commit(self, tree: Tree, parent: str, title: str) -> str:
        """Make `main` hold exactly `tree`, in one commit on top of `parent`; returns its revision.

        Raises HubError if `main` has moved, naming both revisions, or if the Hub keeps failing.
        """
        operations = _operations(changes_between(tree, self.tree(parent)))
        self._upload(operations, parent)
        number = 1
        while True:
            try:
                return self._send(operations, parent, title)
            except client_failures() as error:
                # a reply may be lost after the commit was made: sending it again would fail or make a second
                # one
                landed = self._where_it_landed(tree, parent, error)
                if landed is not None:
                    return landed
                if not self.patience.wait(error, number):
                    raise self._sentence("committing", error, parent) from error
                number += 1

    def download(self, path: str, revision: str, folder: Path) -> Path:
        """One file, below `folder`; files fetched before an interruption are reused."""

        foreign.inside(folder, path)

        def ask() -> Path:
            found = self.api.hf_hub_download(
                self.repo_id, path, repo_type=self.kind, revision=revision, local_dir=folder
            )
            return Path(found)

        return self.patiently(f"reading {path}", ask)

    def _upload(self, operations: list[Any], parent: str) -> None:
        """Upload large files first, invisible until the commit; existing ones are skipped."""
        additions = [operation for operation in operations if hasattr(operation, "path_or_fileobj")]
        try:
            # `free_memory=False`: a retried commit needs the operations whole
            self.api.preupload_lfs_files(self.repo_id, additions, repo_type=self.kind, free_memory=False)
        except client_failures() as error:  # the client has already retried
            raise self._sentence("uploading", error, parent) from error

    def _send(self, operations: list[Any], parent: str, title: str) -> str:
        info = self.api.create_commit(
            self.repo_id, operations, commit_message=title, repo_type=self.kind, parent_commit=parent
        )
        return str(info.oid)

    def _where_it_landed(self, tree: Tree, parent: str, error: Exception) -> str | None:
        """After a failed commit: its revision if it arrived anyway, None if `main` is still `parent`."""
        try:
            head = self.head()
        except HubError:
            # neither committed nor not: the message must not promise either
            head = None
        if head is None:
            raise HubError(
                f"{self.url}: committing failed: {reason_of(error)}, and the Hub does not say whether it arrived; either all of it "
                "did or nothing; run the same command again to check and finish"
            ) from error
        if head.revision == parent:
            return None
        if is_same(tree, self.tree(head.revision)):
            return head.revision
        raise foreign_commit(self.url, head.revision, parent)

    def patiently(self, doing: str, ask: Callable[[], T]) -> T:
        """Send a request, with retries. Permanent errors become a HubError, except 404."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        number = 1
        while True:
            try:
                return ask()
            except (RepositoryNotFoundError, RevisionNotFoundError) as error:
                # 404 is an answer, which callers explain; 401 and 403 come as the same classes
                if status_of(error) == 404:
                    raise
                raise self._sentence(doing, error, None) from error
            except client_failures() as error:
                if not self.patience.wait(error, number):
                    raise self._sentence(doing, error, None) from error
                number += 1

    def _sentence(self, doing: str, error: Exception, current: str | None) -> HubError:
        after = f"; main is still {current}, nothing half-published" if current else ""
        return HubError(f"{self.url}: {doing} failed: {reason_of(error)}{after}; {advice_for(error)}")


def _operations(changes: Changes) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path, str(source)) for path, source in changes.added.items()),
        *(CommitOperationDelete(path) for path in changes.removed),
    ]
