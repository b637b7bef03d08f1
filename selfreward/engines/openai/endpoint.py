"""One base URL of a server: sends a body, gives back the bytes, or says in what way that failed.

    MayPass        the same request may succeed later: refused, reset, time-out, `RETRYABLE_STATUS`
    RowRefused     the server will not answer this request, but may well answer others
    EngineError    no request will be answered: key refused, model unknown, anything unexpected

The client's own retries are off: they would neither be counted nor follow our schedule.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from selfreward.engines.openai.retry import RETRYABLE_STATUS, Clock, server_delay_s
from selfreward.errors import EngineError

KEY_VARIABLES = ("SELFREWARD_API_KEY", "OPENAI_API_KEY")
_ROW_STATUS = frozenset({400, 413, 422})
_CONNECT_TIMEOUT_S = 10.0


class Failure(Exception):
    """An attempt failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RowRefused(Failure):
    """The server will never answer this request."""


class MayPass(Failure):
    """Another attempt may succeed."""

    def __init__(
        self,
        reason: str,
        *,
        server_delay_s: float | None = None,
        connected: bool = True,
        billed: bool = False,
    ) -> None:
        super().__init__(reason)
        self.server_delay_s = server_delay_s
        self.connected = connected
        """False: nobody is there."""
        self.billed = billed
        """The server may have generated, and charged for, an answer that was lost."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key and the environment variable it is from; `repr` shows the variable alone."""

    variable: str | None
    value: str | None

    def __repr__(self) -> str:
        return f"Key(from {self.variable or 'nowhere'})"

    def masked(self, text: str) -> str:
        """The text without the key: error messages of HTTP libraries can quote a header."""
        return text.replace(self.value, "***") if self.value else text


class Endpoint:
    """A base URL with its connections and its load. Belongs to the event loop it is first used in."""

    def __init__(self, url: str, key: Key, timeout_s: float, max_connections: int, clock: Clock) -> None:
        self.url = url
        self.in_flight = 0
        self.n_sent = 0
        self.was_reached = False
        """Some response has come, of whatever status."""
        self._key = key
        self._timeout_s = timeout_s
        self._clock = clock
        # Proxies of the environment are not meant for servers on this machine.
        http_client = httpx2.AsyncClient(
            trust_env=not _is_on_this_machine(url),
            timeout=httpx2.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=key.value or "none",
            max_retries=0,
            timeout=timeout_s,
            http_client=http_client,
        )

    async def aclose(self) -> None:
        await self._client.close()

    async def chat(self, body: dict[str, Any]) -> bytes:
        """The body of the answer to one chat-completions request; the whole exchange within the time-out."""
        self.n_sent += 1
        self.in_flight += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            self.was_reached = True
            content: bytes = response.content
            return content
        except (TimeoutError, openai.APITimeoutError) as error:
            connected = not isinstance(error.__cause__, httpx2.ConnectTimeout)
            reason = f"no answer from {self.url} in {self._timeout_s:g} s"
            raise MayPass(reason, connected=connected, billed=connected) from None
        except openai.APIConnectionError as error:
            connected = not isinstance(error.__cause__, httpx2.ConnectError)
            cause = self._key.masked(str(error.__cause__) or type(error.__cause__).__name__)
            raise MayPass(
                f"no connection to {self.url}: {cause}", connected=connected, billed=connected
            ) from None
        except openai.APIStatusError as error:
            self.was_reached = True
            raise self._from_status(error) from None
        finally:
            self.in_flight -= 1

    def _from_status(self, error: openai.APIStatusError) -> Exception:
        status = error.status_code
        said = f"HTTP {status} from {self.url}: {self._key.masked(_server_message(error))}"
        if status in RETRYABLE_STATUS:
            return MayPass(said, server_delay_s=server_delay_s(error.response.headers, self._clock.wall()))
        if status in _ROW_STATUS:
            return RowRefused(said)
        advice = "check the address (it normally ends in /v1) and the model's name"
        if status in (401, 403):
            found = f"the key in {self._key.variable}" if self._key.variable else "no key"
            advice = (
                f"it was sent {found}; put a valid key into the environment as {' or '.join(KEY_VARIABLES)}"
            )
        return EngineError(f"{said}; {advice}")


def _is_on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _server_message(error: openai.APIStatusError) -> str:
    """What the server says, in at most 300 characters: its `message`, or the body as it is."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body.get("error") or body
    text = " ".join(str(body or error.response.text).split())
    return text[:300] or "(no message)"
