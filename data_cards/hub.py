"""One repository on the Hugging Face Hub, as publishing and pulling need it: head, tree, one commit, tags, files.

Promises:

- a commit is sent with the revision it was made for (`parent_commit`), so nobody's newer commit is overwritten;
- a reply that got lost is no doubt: the head is compared with what was sent before anything is sent again;
- 429 and 5xx are waited out as the server says (`Retry-After`, `RateLimit`), a bounded number of times;
- every failure is one sentence that says which revision is current now. Tokens appear in none of them.

The token comes from the standard place (`HF_TOKEN`, the login file), read by the client itself. What the client
waits for by itself (uploads, downloads: 5 times) is not repeated here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_cards.layout import MADE_BY_THE_HUB
from data_cards.trees import Changes, RemoteFile, Tree, changes_between, is_same
from selfreward.errors import SelfrewardError
from selfreward.progress import say

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_RETRIED = (408, 429, 500, 502, 503, 504)
_CONFLICT = (409, 412)
T = TypeVar("T")


class HubError(SelfrewardError):
    """The Hub refused, failed or could not be reached; the message says what is current there now."""


@dataclass(frozen=True)
class Patience:
    """How long failures are waited out. A server that asks for more than is left is not waited for."""

    tries: int = 6
    total_s: float = 900.0
    sleep: Callable[[float], None] = time.sleep
    slept: list[float] = field(default_factory=list)

    def wait(self, error: Exception, number: int) -> bool:
        """Wait before try `number` + 1; False where there is none, or where the error will not pass."""
        if number >= self.tries or not will_pass(error):
            return False
        wanted = asked_wait_s(error)
        seconds = float(min(30, 2 ** (number - 1))) if wanted is None else wanted
        if sum(self.slept) + seconds > self.total_s:
            return False
        say(f"the Hub answered {short(error)}; waiting {seconds:g} s (try {number} of {self.tries})")
        self.slept.append(seconds)
        self.sleep(seconds)
        return True


@dataclass(frozen=True)
class Head:
    """What `main` is."""

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
        """The repository's page."""
        return f"{self.api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo_id}"

    def head(self) -> Head | None:
        """What `main` is; None where there is no such repository (or the token cannot see it)."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self._patiently(
                "asking for its head", lambda: self.api.repo_info(self.repo_id, repo_type=self.kind)
            )
        except RepositoryNotFoundError:
            return None
        return Head(str(info.sha), bool(info.private))

    def resolve(self, revision: str | None) -> str:
        """The commit that a branch or tag names; HubError where there is none."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> Any:
            return self.api.repo_info(self.repo_id, repo_type=self.kind, revision=revision)

        try:
            return str(self._patiently("asking for its revision", ask).sha)
        except RepositoryNotFoundError as error:
            raise HubError(
                f"{self.url}: no such {self.kind} repository, or it is private and your token (HF_TOKEN, `hf auth "
                "login`) may not see it"
            ) from error
        except RevisionNotFoundError as error:
            tags = ", ".join(sorted(self.tags())) or "none"
            raise HubError(f"{self.url}: has no revision {revision!r}; its tags are {tags}") from error

    def create(self, private: bool) -> Head:
        """Make the repository; HubError where it is not there afterwards."""

        def ask() -> Any:
            return self.api.create_repo(
                self.repo_id, repo_type=self.kind, private=private or None, exist_ok=True
            )

        self._patiently("creating it", ask)
        head = self.head()
        if head is None:
            raise HubError(
                f"{self.url}: was created, but the Hub does not show it; run the same command again"
            )
        return head

    def tree(self, revision: str) -> dict[str, RemoteFile]:
        """Path -> file of a revision, without what the Hub made itself."""
        from huggingface_hub.hf_api import RepoFile

        def ask() -> dict[str, RemoteFile]:
            entries = self.api.list_repo_tree(
                self.repo_id, repo_type=self.kind, revision=revision, recursive=True
            )
            files = [entry for entry in entries if isinstance(entry, RepoFile)]
            return {f.path: RemoteFile(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in files}

        tree = self._patiently("listing its files", ask)
        tree.pop(MADE_BY_THE_HUB, None)
        return tree

    def tags(self) -> dict[str, str]:
        """Tag -> commit."""
        refs = self._patiently(
            "listing its tags", lambda: self.api.list_repo_refs(self.repo_id, repo_type=self.kind)
        )
        return {tag.name: tag.target_commit for tag in refs.tags}

    def tag(self, name: str, revision: str) -> None:
        """Give a revision a name that is free (or its own already: a reply may have been lost)."""

        def ask() -> None:
            self.api.create_tag(self.repo_id, tag=name, revision=revision, repo_type=self.kind, exist_ok=True)

        self._patiently(f"tagging {short_revision(revision)}", ask)
        if (found := self.tags().get(name)) != revision:
            raise HubError(
                f"{self.url}: tag {name} names {found}, expected {revision}; somebody else just made it"
            )

    def commit(self, tree: Tree, parent: str, title: str) -> str:
        """Make `main` hold exactly `tree`, in one commit on top of `parent`; its revision.

        HubError where `main` has moved, naming both revisions, or where the Hub keeps failing.
        """
        operations = _operations(changes_between(tree, self.tree(parent)))
        self._upload(operations, parent)
        number = 1
        while True:
            try:
                return self._send(operations, parent, title)
            except _failures() as error:
                landed = self._where_it_landed(tree, parent, error)
                if landed is not None:
                    return landed
                if not self.patience.wait(error, number):
                    raise self._sentence("committing", error, parent) from error
                number += 1

    def download(self, path: str, revision: str, folder: Path) -> Path:
        """One file, below `folder`; what was fetched before an interruption is not fetched again."""

        def ask() -> Path:
            return Path(
                self.api.hf_hub_download(
                    self.repo_id, path, repo_type=self.kind, revision=revision, local_dir=folder
                )
            )

        return self._patiently(f"reading {path}", ask)

    def _upload(self, operations: list[Any], parent: str) -> None:
        """Large files go up first, and nobody sees them before the commit; what is there already is skipped."""
        additions = [operation for operation in operations if hasattr(operation, "path_or_fileobj")]
        try:
            self.api.preupload_lfs_files(self.repo_id, additions, repo_type=self.kind, free_memory=False)
        except _failures() as error:  # the client has waited and tried again itself
            raise self._sentence("uploading", error, parent) from error

    def _send(self, operations: list[Any], parent: str, title: str) -> str:
        info = self.api.create_commit(
            self.repo_id, operations, commit_message=title, repo_type=self.kind, parent_commit=parent
        )
        return str(info.oid)

    def _where_it_landed(self, tree: Tree, parent: str, error: Exception) -> str | None:
        """After a failed commit: its revision if it arrived all the same, None if `main` is still `parent`."""
        try:
            head = self.head()
        except HubError:
            head = None
        if head is None:
            raise HubError(
                f"{self.url}: committing failed: {_reason(error)}, and the Hub does not say whether it arrived; all of it "
                "did or nothing; run the same command again to see and to finish"
            ) from error
        if head.revision == parent:
            return None
        if is_same(tree, self.tree(head.revision)):
            return head.revision
        raise foreign_commit(self.url, head.revision, parent)

    def _patiently(self, doing: str, ask: Callable[[], T]) -> T:
        """Ask, wait and ask again; what will not pass is a HubError, except "not found", which callers explain."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        number = 1
        while True:
            try:
                return ask()
            except (RepositoryNotFoundError, RevisionNotFoundError) as error:
                if status_of(error) == 404:
                    raise
                raise self._sentence(doing, error, None) from error
            except _failures() as error:
                if not self.patience.wait(error, number):
                    raise self._sentence(doing, error, None) from error
                number += 1

    def _sentence(self, doing: str, error: Exception, current: str | None) -> HubError:
        after = f"; main is still {current}, nothing half-published" if current else ""
        return HubError(f"{self.url}: {doing} failed: {_reason(error)}{after}; {_advice(error)}")


def foreign_commit(url: str, head: str, expected: str | None) -> HubError:
    """Why nothing is sent on top of a commit that this run did not make."""
    known = f"this run last published {expected}" if expected else "this run has published nothing there"
    return HubError(
        f"{url}: main is {head}, which somebody else committed; {known}, so nothing was sent. Look at it, then "
        f"pull it into a new run folder, choose another repository, or name it: --onto {head}"
    )


def will_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later: a passing status, or no (readable) answer at all."""
    status = status_of(error)
    if status is not None:
        return status in _RETRIED
    return any(isinstance(link, (_http_error(), JSONDecodeError)) for link in _chain(error))


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error of the client, None where no answer came."""
    response = _response(error)
    return None if response is None else int(response.status_code)


def asked_wait_s(error: Exception) -> float | None:
    """The seconds the server asks to wait: `Retry-After` or the `t` of `RateLimit`; None where it says nothing."""
    response = _response(error)
    headers = {} if response is None else response.headers
    for name, text in (("retry-after", headers.get("retry-after")), ("ratelimit", headers.get("ratelimit"))):
        if text and name == "ratelimit":
            text = next((part.strip()[2:] for part in text.split(";") if part.strip().startswith("t=")), "")
        if text and text.strip().isdigit():
            return float(text)
    return None


def short(error: BaseException) -> str:
    """An error in a few words: its status, or its class."""
    status = status_of(error)
    return str(status) if status is not None else f"nothing ({type(_cause(error)).__name__})"


def short_revision(revision: str) -> str:
    """The first 12 digits of a commit, as people read them."""
    return revision[:12]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it: the client wraps some failures of uploads and downloads."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _response(error: BaseException) -> Any:
    return next((r for link in _chain(error) if (r := getattr(link, "response", None)) is not None), None)


def _cause(error: BaseException) -> BaseException:
    """What happened: the HTTP library's error where there is one, for its own cause names only system calls."""
    return next((link for link in _chain(error) if isinstance(link, _http_error())), error)


def _http_error() -> type[Exception]:
    """The base of all errors of the client's HTTP library (httpx or httpx2, as the client has it)."""
    from huggingface_hub.errors import HfHubHTTPError

    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def _failures() -> tuple[type[Exception], ...]:
    """What the client raises when the Hub fails: its HTTP library's errors, and its own of several kinds."""
    return (_http_error(), OSError, RuntimeError, ValueError)


def _reason(error: Exception) -> str:
    status = status_of(error)
    if status == 401:
        return "the Hub does not accept your token (401)"
    if status == 403:
        return "your token may not do that there (403)"
    if status is not None:
        return f"the Hub answered {status}"
    cause = _cause(error)
    text = " ".join(str(cause).split())[:200]
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _advice(error: Exception) -> str:
    status = status_of(error)
    if status in (401, 403):
        return "make a token with write access at huggingface.co/settings/tokens and log in again (`hf auth login`)"
    if status in _CONFLICT:
        return "somebody else is committing there; run the same command again"
    if status == 429 and (seconds := asked_wait_s(error)) is not None:
        return f"the Hub asks to wait {seconds:g} s; run the same command again after that"
    return "run the same command again to finish"


def _operations(changes: Changes) -> list[Any]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path, str(source)) for path, source in changes.added.items()),
        *(CommitOperationDelete(path) for path in changes.removed),
    ]


def connect(endpoint: str | None = None) -> HfApi:
    """The Hub's client, with the token of the standard place."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, library_name="selfreward")


def require_writer(api: HfApi, repo_id: str, patience: Patience) -> str:
    """The user behind the token; HubError where there is none, or where it may not write to the namespace."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            "no Hugging Face token found; set HF_TOKEN or log in with `hf auth login`; nothing was sent"
        )
    repo = HubRepo(api, repo_id, "dataset", patience)
    account = repo._patiently("asking who you are", api.whoami)
    namespace = repo_id.split("/")[0]
    name = str(account.get("name"))
    organisations = {str(org.get("name")) for org in account.get("orgs", [])}
    if namespace not in {name, *organisations}:
        mine = ", ".join([name, *sorted(organisations)])
        raise HubError(f"--repo {repo_id}: you are {name}, who may publish to {mine}; nothing was sent")
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise HubError(
            f"--repo {repo_id}: your token can only read; make one with write access at "
            "huggingface.co/settings/tokens and log in again; nothing was sent"
        )
    return name
