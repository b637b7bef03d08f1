"""Prepares requests for an engine that takes token ids (templated once, tokenized, checked), and makes rows of its
answers.

A problem with one request becomes the `error` of its rows: a template that refuses it, a prompt that does not fit, a
choice that is not one token. Texts are cut and counted as by `hf:`, so that the rows of both can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfreward.engines.base import Completion, Request, row_seed
from selfreward.engines.chat_tokens import Chat, ChatTokenizer
from selfreward.tables import FinishReason

TOKENS_BEFORE = 8
"""Prompt tokens decoded together with an answer, to keep the space between a prefix and the text."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A request and the token ids of its prompt, or the reason why it cannot be computed."""

    request: Request
    samples: tuple[int, ...]
    """The samples that are not done."""
    ids: list[int]
    choice_ids: tuple[int, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One sample from the engine: token ids, `stop` or `length`, log-probabilities of the choices."""

    ids: list[int]
    finish_reason: FinishReason
    choice_logprobs: list[float] | None = None
    error: str | None = None


class Preparer:
    """Tokenizer and rules of one model folder. Raises EngineError for a folder without a chat template."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = ChatTokenizer(folder)
        self.eos_ids = sorted(self._tokenizer.eos_ids | _generation_eos(folder))

    def prepare(self, wanted: Sequence[tuple[Request, tuple[int, ...]]]) -> list[Ready]:
        """One for each request, in order."""
        prompts = self._tokenizer.encode([Chat(request.messages, request.prefix) for request, _ in wanted])
        return [
            self._with_choices(Ready(request, samples, list(prompt.ids), error=prompt.error))
            for (request, samples), prompt in zip(wanted, prompts, strict=True)
        ]

    def count_tokens(self, chat: Chat) -> int | None:
        prompt = self._tokenizer.encode([chat])[0]
        return None if prompt.error else len(prompt.ids)

    def completion(self, ready: Ready, sample: int, answer: RawAnswer, seeded: bool) -> Completion:
        """A row. `seed` is 0 if the engine has no per-row seeds."""
        request = ready.request
        after = ready.ids[-TOKENS_BEFORE:] if request.prefix else ()
        text = cut(self._tokenizer.decode(answer.ids, after), request.sampling.stop)
        logprobs = answer.choice_logprobs
        return Completion(
            request_id=request.id,
            sample=sample,
            text=text,
            finish_reason=answer.finish_reason,
            n_tokens=len(answer.ids),
            n_prompt_tokens=len(ready.ids),
            seed=row_seed(request.seed, request.id, sample) if seeded else 0,
            error=answer.error,
            choice_logprobs=None if logprobs is None else dict(zip(request.choices, logprobs, strict=True)),
        )

    def _with_choices(self, ready: Ready) -> Ready:
        """The one token of each choice."""
        # Prompt and choice are tokenized together: alone, a choice can get other tokens than after its prefix.
        request = ready.request
        if ready.error or not request.choices:
            return ready
        chats = [Chat(request.messages, request.prefix + choice) for choice in request.choices]
        longer = [list(prompt.ids) for prompt in self._tokenizer.encode(chats)]
        for choice, ids in zip(request.choices, longer, strict=True):
            if ids[:-1] != ready.ids:
                error = (
                    f"choice {choice!r} is not one token after prefix {request.prefix[-20:]!r} for this tokenizer; "
                    "try moving the space between them to the other side"
                )
                return Ready(request, ready.samples, ready.ids, error=error)
        return Ready(request, ready.samples, ready.ids, tuple(ids[-1] for ids in longer))


def still_wanted(
    requests: Sequence[Request], done: Collection[tuple[str, int]]
) -> list[tuple[Request, tuple[int, ...]]]:
    """Each request with its samples that are not done; requests without any are left out."""
    finished = frozenset(done)
    wanted = []
    for request in requests:
        samples = tuple(sample for sample in range(request.n) if (request.id, sample) not in finished)
        if samples:
            wanted.append((request, samples))
    return wanted


def misfit(ready: Ready, context: int) -> str | None:
    """The error of a request that does not fit a context of that many tokens; None if it fits."""
    max_tokens = ready.request.sampling.max_tokens
    if len(ready.ids) + max_tokens <= context:
        return None
    return f"prompt of {len(ready.ids)} tokens and max_tokens {max_tokens} do not fit the context of {context} tokens"


def error_rows(ready: Ready, error: str) -> list[Completion]:
    """The rows of a request that was not computed."""
    return [
        Completion(ready.request.id, sample, "", "error", 0, len(ready.ids), error=error)
        for sample in ready.samples
    ]


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the earliest stop string.

    >>> cut("one two three", ["three", "two"])
    'one '
    """
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _generation_eos(folder: Path) -> frozenset[int]:
    """End tokens of the folder's generation_config.json, which may list more than the tokenizer."""
    try:
        eos = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos or [])
