"""The engine protocol: requests in, completions out as they finish, matched by (id, sample).

Promises of every engine:

- each requested (request id, sample) that is not in `done` comes back exactly once, in any order, either with
  its text or with `finish_reason="error"` and the reason in `error`; one bad request never affects the others;
- completions that come out in one list (a *group*) were computed together and are journalled together. Which
  requests share a group is a pure function of the whole request list, never of `done`, so that a restart
  repeats at most the groups in flight and computes the same rows (engines without `Capabilities.seeds`
  promise the matching, not the equality);
- the number of requests in flight is bounded; `generate` is lazy and does not buffer everything;
- the chat template is applied once, a prompt that does not fit the context is an error row, and a truncated answer
  has `finish_reason="length"`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from selfreward.secrets import mask, mask_values
from selfreward.tables import FinishReason, Message
from selfreward.text import whole_characters
from selfreward.unkeyed import Unkeyed

_FINISH_REASONS: dict[FinishReason, tuple[str, ...]] = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
}
FINISH_REASONS = {name: ours for ours, names in _FINISH_REASONS.items() for name in names}
"""A server's finish reason in lower case -> `stop` or `length`. Any other one is an error row, never a guess."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to pick tokens. `temperature=0` is greedy; `top_p` in (0, 1]; `max_tokens` new tokens at most."""

    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Strings that end the answer; the stop string itself is not part of the text."""


@dataclass(frozen=True, slots=True)
class Request:
    """One chat to complete `n` times."""

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    n: int = 1
    seed: int = 0
    """Sample i is drawn with `row_seed(seed, id, i)`, independent of its neighbors in the batch."""
    prefix: str = ""
    """Given start of the assistant's answer (e.g. `"Score:"`); not repeated in the completion."""
    choices: tuple[str, ...] = ()
    """Strings whose log-probability as the *next token* after prompt and prefix is wanted (each must be one
    token, with the leading space after the prefix, if any)."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `text` excludes the prompt, the prefix, special tokens and the stop string."""

    request_id: str
    sample: int
    text: str
    finish_reason: FinishReason
    """`stop`, `length` or `error`."""
    n_tokens: int
    n_prompt_tokens: int = 0
    seed: int = 0
    error: str | None = None
    choice_logprobs: dict[str, float] | None = None
    """Natural-log probability of each of `Request.choices` at the first new position; NULL if none asked."""

    def __post_init__(self) -> None:
        """Clean the texts of any engine; ValueError for token counts that are not valid."""
        for count in (self.n_tokens, self.n_prompt_tokens):
            if not is_count(count):
                raise ValueError(f"request {self.request_id!r}: {count!r} is not a number of tokens")
        # Lone surrogates cannot be written to a file, and a server may echo the key it was sent.
        object.__setattr__(self, "text", mask_values(whole_characters(self.text)))
        if self.error is not None:
            object.__setattr__(self, "error", mask(whole_characters(self.error)))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; a step that needs more refuses before it starts (`CapabilityError`)."""

    logprobs: bool = False
    prefix: bool = False
    seeds: bool = False


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The configuration's options for engines; each engine uses those that apply to it.

    `batch_size`, `dtype` and `max_context` can change numerics and are part of a dataset's key.
    """

    batch_size: int = 16
    """hf: rows per batch."""
    dtype: str = "auto"
    """hf, vllm: `float32`, `bfloat16`, or `auto` (bfloat16 if the device computes in it, else float32)."""
    max_context: int = 0
    """Tokens of prompt and answer together; 0 is the model's own limit."""
    max_in_flight: Unkeyed[int] = 64
    timeout_s: Unkeyed[float] = 120.0
    max_retries: Unkeyed[int] = 6
    extra: dict[str, Any] = field(default_factory=dict)
    """Passed through to the engine's own constructor (vllm: `tensor_parallel_size`, …)."""


class Engine(Protocol):
    """The protocol; see the module's docstring for the promises."""

    @property
    def name(self) -> str:
        """The model string, as written in rows."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]: ...

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Prompt tokens after templating; None if the engine does not know (a server)."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BaseEngine:
    """The parts of the protocol that are the same for all engines."""

    name: str = ""
    capabilities: Capabilities = Capabilities()

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return None

    def close(self) -> None:
        """Free what the engine holds; calling it twice is fine."""

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_count(value: object) -> bool:
    """Whether a value can be a number of tokens: an integer from 0 that fits 31 bits."""
    # isinstance would accept True; larger values overflow the int32 columns.
    return type(value) is int and 0 <= value < 2**31


def row_seed(seed: int, request_id: str, sample: int) -> int:
    """The 63-bit seed of one answer: the same in any batch, order or process."""
    digest = hashlib.sha256(f"{seed}\x1f{request_id}\x1f{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
