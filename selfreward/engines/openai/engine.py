"""Any OpenAI-compatible server: `openai:BASE_URL#MODEL`, several base URLs separated by commas.

    openai:http://localhost:8000/v1#my-model
    openai:http://a:8000/v1,http://b:8000/v1#my-model      each request goes to the URL with the fewest in flight

The key is SELFREWARD_API_KEY; OPENAI_API_KEY is sent to https://api.openai.com only. It appears in no message and no
row. Another machine must be reached over https, or over http with the user's consent (`selfreward.steps.trust`). Options
under `engine.extra` (or `engine.extra.openai`) are the fields of `ServerSettings`.

Failures and how they are handled:

- transient (refused, reset, time-out, 408, 409, 429, 500 to 504, an answer that cannot be parsed or is longer than
  requested): retried `max_retries` times, with the waits of `selfreward.engines.openai.retry`; then an error row;
- fewer choices than requested, or 400 for more than one: the missing samples are requested one by one;
- 400, 413, 422 for one sample (too long, invalid): an error row with the server's message, at once;
- no server, key refused, model unknown, any other status: EngineError. So are 16 failed samples in a row without
  any success: a step that finishes keeps its error rows, so a broken server must not let it finish.

Promises in addition to those of `selfreward.engines.base`: at most `max_in_flight` requests are out and as many finished
groups are unread; `max_cost` is checked before every request; before an error is raised, everything finished has been
returned. Not promised: equal rows on a restart (seeds are sent, but no server honors them across batches), and that a
group holds one sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from selfreward.engines.base import BaseEngine, Capabilities, Completion, EngineOptions, Request
from selfreward.engines.openai.endpoint import OWN_VARIABLE, Endpoint, is_on_this_machine, key_for
from selfreward.engines.openai.retry import Clock
from selfreward.engines.openai.session import ServerRecord, Session
from selfreward.engines.openai.usage import Prices, Usage
from selfreward.engines.openai.wire import Ask, Dialect
from selfreward.errors import UsageError
from selfreward.secrets import mask
from selfreward.steps.trust import VARIABLE, is_trusted


class ServerSettings(BaseModel):
    """Settings of `engine.extra` for a server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: bool = False
    """The server can continue an assistant's turn (vLLM, SGLang)."""
    logprobs: bool = True
    """The server returns log-probabilities."""
    send_seed: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of every request, as the server documents them."""
    price_per_million_in: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    price_per_million_out: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_cost: float | None = Field(default=None, ge=0)
    spent: float = Field(default=0.0, ge=0)
    """Already spent of `max_cost`, by earlier steps."""


class OpenAiEngine(BaseEngine):
    """The engine of the module's docstring. Raises UsageError for an invalid target or invalid options."""

    def __init__(self, target: str, options: EngineOptions, clock: Clock | None = None) -> None:
        self._urls, model = split_target(target)
        settings = _settings(options.extra)
        self.name = mask(f"openai:{target}")
        self.capabilities = Capabilities(logprobs=settings.logprobs, prefix=settings.prefix, seeds=False)
        self._dialect = Dialect(model, settings.send_seed, settings.max_tokens_field, settings.body)
        prices = Prices(settings.price_per_million_in or 0.0, settings.price_per_million_out or 0.0)
        self.usage = Usage(prices, settings.max_cost, settings.spent)
        """Tokens, requests and money since the engine was opened."""
        self._options = options
        self._clock = clock or Clock()
        self._keys = {url: key_for(url) for url in self._urls}
        refuse_plain_http(self._urls)
        self._record = ServerRecord()

    def __repr__(self) -> str:
        return f"OpenAiEngine({self.name!r}, {self._keys!r})"

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """Groups as they finish. Raises EngineError or CostLimitError after returning what is finished."""
        asks = []
        for request in requests:
            samples = tuple(sample for sample in range(request.n) if (request.id, sample) not in done)
            if samples:
                asks.append(Ask(request, samples))
        session = Session(
            self.name,
            asks,
            self._dialect,
            self._options,
            self._clock,
            self.usage,
            self._record,
            self._open_endpoints,
        )
        return session.groups()

    def _open_endpoints(self) -> list[Endpoint]:
        timeout_s, n = self._options.timeout_s, self._options.max_in_flight
        return [Endpoint(url, self._keys[url], timeout_s, n, self._clock) for url in self._urls]


def split_target(target: str) -> tuple[tuple[str, ...], str]:
    """`http://a/v1,http://b/v1#model` -> its URLs and the model. UsageError for a login in a URL."""
    addresses, _, model = target.partition("#")
    urls = tuple(url.strip().rstrip("/") for url in addresses.split(","))
    for url in urls:
        try:
            parts, host = urlsplit(url), httpx2.URL(url).host
            parts.port  # noqa: B018  (raises for an invalid port)
        except (ValueError, httpx2.InvalidURL):
            parts, host = urlsplit(""), ""
        # The message names only the host: the rest may be the password.
        if parts.password or parts.username:
            raise UsageError(
                f"model openai:…@{host}: found a name or password in the address; use {OWN_VARIABLE}"
            )
        if parts.scheme not in ("http", "https") or not host or not model:
            raise UsageError(
                f"model {'openai:' + target!r}: expected openai:BASE_URL#MODEL, such as "
                "openai:http://localhost:8000/v1#my-model"
            )
    return urls, model


def _settings(extra: dict[str, Any]) -> ServerSettings:
    # With a section `openai`, other keys may belong to another engine; keys of `ServerSettings` still apply.
    if "openai" in extra:
        extra = {key: extra[key] for key in ServerSettings.model_fields if key in extra} | extra["openai"]
    try:
        settings = ServerSettings.model_validate(extra)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ServerSettings.model_fields)
        raise UsageError(f"engine.extra.{where}: {first['msg']}; openai: knows {known}") from None
    if settings.max_cost is not None and settings.price_per_million_out is None:
        raise UsageError(
            "max_cost needs engine.extra.price_per_million_in and price_per_million_out (0 for a free server)"
        )
    return settings


def refuse_plain_http(urls: Sequence[str]) -> None:
    """UsageError for a server on another machine that would get key and prompts without encryption."""
    for url in urls:
        if url.startswith("http:") and not is_on_this_machine(url) and not is_trusted():
            raise UsageError(
                f"model openai:{url}: key and prompts would go to another machine without encryption; use https, or allow "
                f"it with `selfreward run … --trust` (other commands: {VARIABLE}=1)"
            )
