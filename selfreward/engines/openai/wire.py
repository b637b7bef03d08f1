"""The chat-completions format: a request as a JSON body, a response body as completions. No network here.

Promises: an answer lands on its own (request id, sample) or is missing from `Answer.completions`; what a
server says wrongly or not at all is an `InvalidAnswer` or an error row, never a guess. One exception, counted
in `Answer.n_estimated`: servers count tokens for a response, not for each of its choices, so the lengths of
`n > 1` choices are the server's total shared out by characters (all of them are exact for `n = 1`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from selfreward.engines.base import Completion, Request, row_seed

_CHARACTERS_PER_TOKEN = 4
_LARGEST_SEED = 2**31 - 1
"""Some servers keep a seed in a signed 32-bit integer."""
_TOP_LOGPROBS = 20
"""The most that the format allows."""


class InvalidAnswer(Exception):
    """The body is not what the format asks for; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request: some of the samples of one request."""

    request: Request
    samples: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.request.id}/{self.samples[0]}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one response holds. `prompt_tokens` and `completion_tokens` are None where the server is silent."""

    completions: list[Completion]
    prompt_tokens: int | None
    completion_tokens: int | None
    n_estimated: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what servers differ."""

    model: str
    send_seed: bool = True
    max_tokens_field: str = "max_tokens"
    body: Mapping[str, Any] | None = None
    """Further fields of every request body."""


def request_body(ask: Ask, dialect: Dialect) -> dict[str, Any]:
    """The JSON body of one HTTP request.

    A prefix becomes the start of the assistant's turn in vLLM's and SGLang's way (`continue_final_message`).
    """
    request, sampling = ask.request, ask.request.sampling
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    body: dict[str, Any] = {
        "model": dialect.model,
        "messages": messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        dialect.max_tokens_field: sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if len(ask.samples) > 1:
        body["n"] = len(ask.samples)
    if dialect.send_seed:
        body["seed"] = sent_seed(ask)
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
    return body | dict(dialect.body or {})


def sent_seed(ask: Ask) -> int:
    """The seed of the first sample asked for, as many bits of it as every server takes."""
    return row_seed(ask.request.seed, ask.request.id, ask.samples[0]) & _LARGEST_SEED


def read_answer(content: bytes, ask: Ask, dialect: Dialect) -> Answer:
    """The completions in a response body, each under its own sample.

    A choice belongs to the sample at the place of its `index`; choices with an index out of range or seen
    before are ignored. Raises InvalidAnswer where the body is not JSON, no object, or without any choice.
    """
    try:
        body = json.loads(content)
    except ValueError:
        raise InvalidAnswer(f"the answer is not JSON: {_shortened(content)!r}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        raise InvalidAnswer(f"the answer has no list of choices: {_shortened(content)!r}")
    by_sample: dict[int, dict[str, Any]] = {}
    for choice in choices:
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if isinstance(index, int) and 0 <= index < len(ask.samples):
            by_sample.setdefault(ask.samples[index], choice)
    if not by_sample:
        raise InvalidAnswer("the answer has no choices")
    prompt_tokens, completion_tokens = _usage(body)
    texts = [_text(choice) for choice in by_sample.values()]
    lengths = _shared_out(completion_tokens, texts)
    exact = completion_tokens is not None and len(texts) == 1
    seed = sent_seed(ask) if dialect.send_seed else 0
    completions = [
        _completion(ask.request, sample, choice, n_tokens, prompt_tokens or 0, seed)
        for (sample, choice), n_tokens in zip(by_sample.items(), lengths, strict=True)
    ]
    return Answer(completions, prompt_tokens, completion_tokens, 0 if exact else len(completions))


def error_row(request: Request, sample: int, reason: str) -> Completion:
    return Completion(request.id, sample, "", "error", 0, error=reason)


def _completion(
    request: Request, sample: int, choice: dict[str, Any], n_tokens: int, n_prompt_tokens: int, seed: int
) -> Completion:
    finish_reason = choice.get("finish_reason")
    logprobs = _choice_logprobs(choice, request.choices) if request.choices else None
    error = None
    if finish_reason not in ("stop", "length"):
        error = f"the server ended the answer with finish_reason {finish_reason!r}"
    elif request.choices and logprobs is None:
        error = "the server gave no log-probabilities"
    return Completion(
        request_id=request.id,
        sample=sample,
        text=_text(choice),
        finish_reason="error" if error else str(finish_reason),
        n_tokens=n_tokens,
        n_prompt_tokens=n_prompt_tokens,
        seed=seed,
        error=error,
        choice_logprobs=logprobs,
    )


def _text(choice: dict[str, Any]) -> str:
    """The answer itself; `null` (nothing before the end, or only hidden reasoning) is an empty answer.

    Half of an escaped surrogate pair, which no file could hold, becomes U+FFFD.
    """
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return (
        content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if isinstance(content, str)
        else ""
    )


def _choice_logprobs(choice: dict[str, Any], wanted: Sequence[str]) -> dict[str, float] | None:
    """Log-probabilities at the first position; a wanted token outside the top 20 is absent. None: none given."""
    try:
        first = choice["logprobs"]["content"][0]
        entries = [first, *first.get("top_logprobs", [])]
        return {entry["token"]: float(entry["logprob"]) for entry in entries if entry["token"] in wanted}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None


def _usage(body: dict[str, Any]) -> tuple[int | None, int | None]:
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return (prompt if isinstance(prompt, int) else None, completion if isinstance(completion, int) else None)


def _shared_out(total: int | None, texts: Sequence[str]) -> list[int]:
    """`total` tokens over the texts by their characters, adding up to it; without a total, 4 characters a token.

    >>> _shared_out(10, ["abc", "abcdef"])
    [4, 6]
    """
    if total is None:
        return [-(-len(text) // _CHARACTERS_PER_TOKEN) for text in texts]
    weights = [len(text) + 1 for text in texts]
    cuts = [round(total * sum(weights[:place]) / sum(weights)) for place in range(len(texts) + 1)]
    return [end - start for start, end in pairwise(cuts)]


def _shortened(content: bytes) -> str:
    return content[:80].decode(errors="replace")
