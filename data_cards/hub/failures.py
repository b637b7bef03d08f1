"""Hub failures: whether to retry, how long to wait, and a one-sentence message.

An error is classified by its HTTP status or its class, never by a substring of its message: the messages of the Hub's
client change between releases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json import JSONDecodeError
from typing import Any

from selfreward.errors import SelfrewardError
from selfreward.progress import say
from selfreward.text import one_line

_RETRIED = (408, 429, 500, 502, 503, 504)
_CONFLICT = (409, 412)


class HubError(SelfrewardError):
    """The Hub refused, failed or could not be reached; the message names the current revision."""


@dataclass(frozen=True)
class Patience:
    """Retry limits. If the server asks for a longer wait than is left, the request fails."""

    tries: int = 6
    total_s: float = 900.0
    sleep: Callable[[float], None] = time.sleep
    slept: list[float] = field(default_factory=list)

    def wait(self, error: Exception, number: int) -> bool:
        """Wait before try `number` + 1; False after the last try, or if the error is permanent."""
        if number >= self.tries or not will_pass(error):
            return False
        wanted = asked_wait_s(error)
        seconds = float(min(30, 2 ** (number - 1))) if wanted is None else wanted
        if sum(self.slept) + seconds > self.total_s:
            return False
        say(f"the Hub answered {status_words(error)}; waiting {seconds:g} s (try {number} of {self.tries})")
        self.slept.append(seconds)
        self.sleep(seconds)
        return True


def foreign_commit(url: str, head: str, expected: str | None) -> HubError:
    """The refusal to commit on top of a commit that this run did not make."""
    known = f"this run last published {expected}" if expected else "this run has published nothing there"
    return HubError(
        f"{url}: main is {head}, committed by someone else; {known}, so nothing was sent. Inspect it, then "
        f"pull it into a new run folder, choose another repository, or build on it: --onto {head}"
    )


def will_pass(error: Exception) -> bool:
    """Whether the same request may succeed later: a transient status, or no (readable) response."""
    status = status_of(error)
    if status is not None:
        return status in _RETRIED
    if _is_offline(error):
        return False
    return any(isinstance(link, (_http_error(), JSONDecodeError)) for link in _chain(error))


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind a client error, None without a response."""
    response = _response(error)
    return None if response is None else int(response.status_code)


def asked_wait_s(error: Exception) -> float | None:
    """The seconds the server asks to wait: `Retry-After` or the `t` of `RateLimit`; None if it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers

    response = _response(error)
    if response is None:
        return None
    # `Retry-After` may also be a date, which is not read
    retry_after = response.headers.get("retry-after", "").strip()
    if retry_after.isdigit():
        return float(retry_after)
    limit = parse_ratelimit_headers(response.headers)
    return None if limit is None else float(limit.reset_in_seconds)


def status_words(error: BaseException) -> str:
    """An error in a few words: its status, or its class."""
    status = status_of(error)
    return str(status) if status is not None else f"nothing ({type(_cause(error)).__name__})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    # the client wraps some failures of uploads and downloads, so the status may be on a cause
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _response(error: BaseException) -> Any:
    return next((r for link in _chain(error) if (r := getattr(link, "response", None)) is not None), None)


def _cause(error: BaseException) -> BaseException:
    """The HTTP library's error if there is one, otherwise the error itself."""
    # not the last of the chain: the causes of an HTTP error name only system calls
    return next((link for link in _chain(error) if isinstance(link, _http_error())), error)


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return any(isinstance(link, OfflineModeIsEnabled) for link in _chain(error))


def _http_error() -> type[Exception]:
    """The base class of all errors of the client's HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    # httpx or httpx2, whichever the client uses; importing either by name would break with the other
    base: type[Exception] = HfHubHTTPError.__bases__[0]
    return base


def client_failures() -> tuple[type[Exception], ...]:
    """The exceptions that the client raises when the Hub fails: its HTTP library's and its own."""
    return (_http_error(), OSError, RuntimeError, ValueError)


def reason_of(error: Exception) -> str:
    """A description of the failure, without request headers."""
    status = status_of(error)
    if status == 401:
        return "the Hub does not accept your token (401)"
    if status == 403:
        return "your token may not do that there (403)"
    if status is not None:
        return f"the Hub answered {status}"
    if _is_offline(error):
        return "HF_HUB_OFFLINE is set"
    cause = _cause(error)
    text = one_line(cause, 200)
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def advice_for(error: Exception) -> str:
    """Advice for the user on how to recover."""
    status = status_of(error)
    if status in (401, 403):
        return "make a token with write access at huggingface.co/settings/tokens and log in again (`hf auth login`)"
    if _is_offline(error):
        return "unset it and run the same command again"
    if status in _CONFLICT:
        return "someone else is committing there; run the same command again"
    if status == 429 and (seconds := asked_wait_s(error)) is not None:
        return f"the Hub asks to wait {seconds:g} s; run the same command again after that"
    return "run the same command again to finish"
