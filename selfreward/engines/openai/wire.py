"""The chat-completions format: a request as a JSON body, a response body as completions. No network here.

Promises: an answer is assigned to its own (request id, sample) or missing from `Answer.completions`; malformed or
missing values are an `InvalidAnswer` or an error row, never a guess. One exception, counted in `Answer.n_estimated`:
servers count tokens per response, not per choice, so the lengths of `n > 1` choices are the server's total divided in
proportion to characters (exact for `n = 1`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite, nan
from typing import Any

from selfreward.engines.base import FINISH_REASONS, Completion, Request, is_count, row_seed
from selfreward.tables import FinishReason
from selfreward.text import one_line

_CHARACTERS_PER_TOKEN = 4
# Some servers store a seed in a signed 32-bit integer.
_LARGEST_SEED = 2**31 - 1
# The maximum that the format allows.
_TOP_LOGPROBS = 20
# How far above 0 rounding (in half precision, for example) may put a log-probability.
_ROUNDING = 1e-3
NO_LOGPROBS = "the server gave no log-probabilities"


class InvalidAnswer(Exception):
    """The body does not follow the format; the message says how."""


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
    """The content of one response. `prompt_tokens` and `completion_tokens` are None if the server omits them."""

    completions: list[Completion]
    prompt_tokens: int | None
    completion_tokens: int | None
    n_estimated: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """Settings in which servers differ."""

    model: str
    send_seed: bool = True
    max_tokens_field: str = "max_tokens"
    body: Mapping[str, Any] | None = None
    """Further fields of every request body."""


def request_body(ask: Ask, dialect: Dialect) -> dict[str, Any]:
    """The JSON body of one HTTP request."""
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
    # vLLM's and SGLang's fields for continuing an assistant's turn; OpenAI's own format has none.
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if request.choices:
        body |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
    return body | dict(dialect.body or {})


def sent_seed(ask: Ask) -> int:
    """The seed of the first requested sample, reduced to the bits that every server accepts."""
    return row_seed(ask.request.seed, ask.request.id, ask.samples[0]) & _LARGEST_SEED


def read_answer(content: bytes, ask: Ask, dialect: Dialect) -> Answer:
    """The completions in a response body, each assigned to its sample by the choice's `index`.

    Choices with an index out of range or seen before are ignored, and so are malformed ones beside valid ones: their
    samples are missing. InvalidAnswer if nothing is left, the body is not JSON or its token counts are invalid.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidAnswer(f"the answer is not JSON: {_start(content)}") from None
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        raise InvalidAnswer(f"the answer has no list of choices: {_start(content)}")
    prompt_tokens, completion_tokens = _usage(body)
    seed = sent_seed(ask) if dialect.send_seed else 0
    by_sample: dict[int, Completion] = {}
    reason = "the answer has no choices"
    for choice in choices:
        sample = _sample(choice, ask)
        if sample is None or sample in by_sample:
            continue
        try:
            by_sample[sample] = _completion(ask.request, sample, choice, prompt_tokens or 0, seed)
        except InvalidAnswer as invalid:
            reason = str(invalid)
    if not by_sample:
        raise InvalidAnswer(reason)
    lengths = _shared_out(completion_tokens, [completion.text for completion in by_sample.values()])
    exact = completion_tokens is not None and len(by_sample) == 1
    completions = [replace(c, n_tokens=n) for c, n in zip(by_sample.values(), lengths, strict=True)]
    return Answer(completions, prompt_tokens, completion_tokens, 0 if exact else len(completions))


def error_row(request: Request, sample: int, reason: str) -> Completion:
    return Completion(request.id, sample, "", "error", 0, error=reason)


def _sample(choice: Any, ask: Ask) -> int | None:
    index = choice.get("index", 0) if isinstance(choice, dict) else None
    return ask.samples[index] if type(index) is int and 0 <= index < len(ask.samples) else None


def _completion(
    request: Request, sample: int, choice: dict[str, Any], n_prompt_tokens: int, seed: int
) -> Completion:
    """A completion without its length, which the body states for all choices together."""
    logprobs = _choice_logprobs(choice, request.choices) if request.choices else None
    finish_reason, error = _end(choice)
    if error is None and request.choices and logprobs is None:
        finish_reason, error = "error", NO_LOGPROBS
    return Completion(
        request_id=request.id,
        sample=sample,
        text=_text(choice),
        finish_reason=finish_reason,
        n_tokens=0,
        n_prompt_tokens=n_prompt_tokens,
        seed=seed,
        error=error,
        choice_logprobs=logprobs,
    )


def _end(choice: dict[str, Any]) -> tuple[FinishReason, str | None]:
    """`stop` or `length`; or `error` and the server's reason."""
    said = choice.get("finish_reason")
    known = FINISH_REASONS.get(said.lower()) if isinstance(said, str) else None
    if known:
        return known, None
    told = f": {one_line(choice['error'])}" if choice.get("error") else ""
    return "error", (
        f"the server ended the answer with finish_reason {one_line(repr(said), 80)}{told}; "
        "expected stop, length or a known name for them"
    )


def _text(choice: dict[str, Any]) -> str:
    """The text of the answer; of a list of parts, the joined texts without the model's reasoning.

    `null` (no token before the end, or only hidden reasoning) is an empty answer.
    """
    message = choice.get("message")
    if not isinstance(message, dict):
        raise InvalidAnswer(f"a choice has no message: {_start(choice)}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise InvalidAnswer(
            f"the content of a message is neither a text nor a list of parts: {_start(content)}"
        )
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    kind = part.get("type", "text") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else part
    if kind in ("thinking", "reasoning"):
        return ""
    if kind not in ("text", "output_text", None) or not isinstance(text, str):
        raise InvalidAnswer(f"a part of the answer is not text: {_start(part)}")
    return text


def _choice_logprobs(choice: dict[str, Any], wanted: Sequence[str]) -> dict[str, float] | None:
    """Log-probabilities at the first position, without wanted tokens outside the top 20; None if the server gave none."""
    logprobs = choice.get("logprobs")
    positions = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not positions:
        return None
    first = positions[0] if isinstance(positions, list) else None
    others = first.get("top_logprobs") or [] if isinstance(first, dict) else None
    if not isinstance(others, list):
        raise InvalidAnswer(f"log-probabilities in an unknown form: {_start(logprobs)}")
    found = {}
    for entry in (first, *others):
        token = entry.get("token") if isinstance(entry, dict) else None
        if not isinstance(token, str):
            raise InvalidAnswer(f"a log-probability without its token: {_start(entry)}")
        if token in wanted:
            found[token] = _logprob(entry.get("logprob"), token)
    return found


def _logprob(value: Any, token: str) -> float:
    """A finite log-probability of at most 0; a value that rounding puts just above 0 is 0."""
    try:
        number = float(value) if type(value) in (int, float) else nan
    except OverflowError:
        number = nan
    if not isfinite(number) or number > _ROUNDING:
        raise InvalidAnswer(f"{_start(value)} as the log-probability of {token!r}; expected a number up to 0")
    return min(number, 0.0)


def _usage(body: dict[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens; None if the server omits them. InvalidAnswer for invalid counts."""
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    for count in (prompt, completion):
        if count is not None and not is_count(count):
            raise InvalidAnswer(
                f"the answer counts {_start(count)} tokens; expected a whole number below 2**31"
            )
    if usage is not None and not isinstance(usage, dict):
        raise InvalidAnswer(f"the answer's usage is not an object: {_start(usage)}")
    return prompt, completion


def _shared_out(total: int | None, texts: Sequence[str]) -> list[int]:
    """`total` tokens divided over the texts by their characters; without a total, 4 characters per token.

    >>> _shared_out(10, ["abc", "abcdef"])
    [4, 6]
    """
    if total is None:
        return [-(-len(text) // _CHARACTERS_PER_TOKEN) for text in texts]
    # Cumulative rounding, so that the lengths add up to the total. An empty text still has its end token.
    weights = [len(text) + 1 for text in texts]
    cuts = [round(total * sum(weights[:place]) / sum(weights)) for place in range(len(texts) + 1)]
    return [end - start for start, end in pairwise(cuts)]


def _start(found: Any) -> str:
    """What was found, for a message."""
    text = found.decode(errors="replace") if isinstance(found, bytes) else _as_json(found)
    return repr(one_line(text, 80))


def _as_json(found: Any) -> str:
    try:
        return json.dumps(found, ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a deep nest
        return type(found).__name__
