"""One base URL of a server: sends a body and returns the response's bytes, or raises the kind of failure.

    MayPass        the same request may succeed later: refused, reset, time-out, `RETRYABLE_STATUS`, too long a body
    RowRefused     the server will not answer this request, but may well answer others
    EngineError    no request will be answered: key refused, model unknown, anything unexpected

Promises: a key is sent only to the servers it is for (`key_for`); redirects are not followed; no more of a body is held
than `longest_body` allows, compressed or not. No retries here: the session counts attempts.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx2

from selfreward.engines.openai.retry import RETRYABLE_STATUS, Clock, server_delay_s
from selfreward.errors import EngineError, UsageError
from selfreward.text import one_line

OPENAI_HOST = "api.openai.com"
OPENAI_VARIABLE, OWN_VARIABLE = "OPENAI_API_KEY", "SELFREWARD_API_KEY"
_ROW_STATUS = frozenset({400, 413, 422})
_CONNECT_TIMEOUT_S = 10.0
_BODY_BYTES = 1 << 20
_BYTES_PER_TOKEN = 64
"""Of JSON. A token with 20 log-probabilities takes more, but those are requested for the first token only."""
_AUTO_GZIP = 32 + zlib.MAX_WBITS


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
        """False: no server is listening."""
        self.billed = billed
        """The server may have generated, and charged for, an answer that was lost."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key and its environment variable; `repr` shows only the variable."""

    variable: str | None
    value: str | None

    def __repr__(self) -> str:
        return f"ApiKey(from {self.variable or 'nowhere'})"


def key_for(url: str) -> ApiKey:
    """The key for a server: OPENAI_API_KEY for OpenAI only; a local server needs none."""
    variables = (OPENAI_VARIABLE, OWN_VARIABLE) if _is_openai(url) else (OWN_VARIABLE,)
    for variable in variables:
        key = os.environ.get(variable, "").strip()
        if key:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(f"{variable}: holds characters that no key has; set it to the key alone")
            return ApiKey(variable, key)
    return ApiKey(None, None)


def is_on_this_machine(url: str) -> bool:
    """Whether an address is loopback."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, such as 127.0.0.1.example.com
        return False


def longest_body(n_tokens: int) -> int:
    """The most bytes of an answer of so many new tokens, uncompressed."""
    return max(_BODY_BYTES, n_tokens * _BYTES_PER_TOKEN)


class Endpoint:
    """A base URL with its connections and its load. Belongs to the event loop it is first used in."""

    def __init__(self, url: str, key: ApiKey, timeout_s: float, max_connections: int, clock: Clock) -> None:
        self.url = url
        self.in_flight = 0
        self.n_sent = 0
        self.was_reached = False
        """Some response has arrived, with any status."""
        self._address = httpx2.URL(url)
        self._key = key
        self._timeout_s = timeout_s
        self._clock = clock
        self._client = httpx2.AsyncClient(
            # A proxy from the environment is not meant for servers on this machine, and would see their prompts.
            trust_env=not is_on_this_machine(url),
            headers={
                "Authorization": f"Bearer {self._key.value or 'none'}",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
            timeout=httpx2.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def chat(self, body: dict[str, Any], n_tokens: int) -> bytes:
        """The response's body, of at most `n_tokens`; the time-out applies to the whole exchange."""
        self.n_sent += 1
        self.in_flight += 1
        sent = json.dumps(body).encode()
        address = self._address.copy_with(path=f"{self._address.path}/chat/completions")  # its query stays
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("POST", address, content=sent) as response,
            ):
                self.was_reached = True
                content = await _bounded(response, longest_body(n_tokens))
        except (TimeoutError, httpx2.TimeoutException) as error:
            connected = not isinstance(error, httpx2.ConnectTimeout)
            reason = f"no answer from {self.url} in {self._timeout_s:g} s"
            raise MayPass(reason, connected=connected, billed=connected) from None
        except httpx2.HTTPError as error:
            connected = not isinstance(error, httpx2.ConnectError)
            cause = one_line(error) or type(error).__name__
            raise MayPass(
                f"no connection to {self.url}: {cause}", connected=connected, billed=connected
            ) from None
        finally:
            self.in_flight -= 1
        if not response.is_success:
            raise self._from_status(response, content)
        return content

    def _from_status(self, response: httpx2.Response, content: bytes) -> Exception:
        status = response.status_code
        said = f"HTTP {status} from {self.url}: {_server_message(content)}"
        if status in RETRYABLE_STATUS:
            return MayPass(said, server_delay_s=server_delay_s(response.headers, self._clock.wall()))
        if status in _ROW_STATUS:
            return RowRefused(said)
        advice = "check the address (it normally ends in /v1) and the model's name"
        if status in (401, 403):
            found = f"the key in {self._key.variable}" if self._key.variable else "no key"
            wanted = f"{OPENAI_VARIABLE} or {OWN_VARIABLE}" if _is_openai(self.url) else OWN_VARIABLE
            advice = f"it was sent {found}; put a valid key into the environment as {wanted}"
            if not self._key.variable and os.environ.get(OPENAI_VARIABLE):
                advice += f" ({OPENAI_VARIABLE} goes to https://{OPENAI_HOST} only)"
        return EngineError(f"{said}; {advice}")


def _is_openai(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.hostname == OPENAI_HOST


async def _bounded(response: httpx2.Response, limit: int) -> bytes:
    """The body, uncompressed. MayPass for one longer than `limit`; of an error's body only the start is read."""
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise MayPass(f"the answer is compressed as {packing!r}, which was not requested", billed=True)
    unpacker = None if packing in ("identity", "") else zlib.decompressobj(_AUTO_GZIP)
    content = bytearray()
    async for part in response.aiter_raw():
        try:
            content += unpacker.decompress(part, limit + 1 - len(content)) if unpacker else part
        except zlib.error:
            raise MayPass(f"the answer is not {packing}, as its header says", billed=True) from None
        if len(content) > limit:
            if not response.is_success:
                break
            raise MayPass(f"the answer is longer than {limit:,} bytes, more than was requested", billed=True)
    return bytes(content)


def _server_message(content: bytes) -> str:
    """The server's message in at most 300 characters: its `message` field, or the whole body."""
    body: Any = content.decode(errors="replace")
    with suppress(ValueError, RecursionError):
        body = json.loads(content)
    for _ in range(2):
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body.get("error") or str(body)
    return one_line(body) or "(no message)"
