"""Requests to one model: journalled in a folder, resumed, and their cost shown before anything is sent.

    with open_model(reference_of_model, out / ".work", "answers", settings) as generation:
        completions = generation.complete(requests, "answers")

Guarantees:

- an answer is cached by the content of its request (messages, sampling, seed) and the model's identity, so that
  the same folder never sends a request twice, whatever was sent in between;
- a failed request is retried once by the next run of the same command, and only by that;
- for a priced server the minimum and maximum cost of the open requests are printed before the first one is
  sent; if even the minimum exceeds `max_cost`, nothing is sent. `max_cost` applies to the folder: all models and
  all restarts together.

Not guaranteed: equal answers from a server when asked again in another folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from selfreward.engines import open_engine
from selfreward.engines.base import Completion, Engine, EngineOptions, Request
from selfreward.engines.openai.usage import Usage
from selfreward.engines.references import ModelRef
from selfreward.errors import CostLimitError, UsageError
from selfreward.notes import GenerationNotes
from selfreward.progress import say
from selfreward.steps.costs import spent
from selfreward.steps.generation import Completions, Generation
from selfreward.store.sealed import digest
from selfreward.unkeyed import marks

_BYTES_PER_TOKEN = 4
"""Of English text, roughly; for the lower end of an estimate."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Options of a model's engine, and the most that the whole folder may cost."""

    options: EngineOptions = field(default_factory=EngineOptions)
    max_cost: float | None = None


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Size and cost of open requests. Cost in the currency of the prices, NULL if no prices were given."""

    n_requests: int
    n_prompt_tokens: int
    """At about four bytes a token."""
    n_new_tokens: int
    """At most."""
    least: float | None
    most: float | None

    def sentence(self, name: str) -> str:
        """For display before anything is sent."""
        size = (
            f"{name}: {self.n_requests:,} requests, about {self.n_prompt_tokens:,} prompt tokens, at most "
            f"{self.n_new_tokens:,} new ones"
        )
        if self.least is None or self.most is None:
            return f"{size}; no prices given, so the cost is unknown"
        return f"{size}; cost {self.least:.4g} to {self.most:.4g}"


def estimate_cost(requests: Sequence[Request], usage: Usage | None, has_prices: bool) -> CostEstimate:
    """Least: prompts at four bytes a token and one new token an answer. Most: the engine's own reservation."""
    n_prompt = sum(_n_bytes(request) // _BYTES_PER_TOKEN for request in requests)
    n_new = sum(request.n * request.sampling.max_tokens for request in requests)
    least = most = None
    if usage is not None and has_prices:
        least = usage.prices.cost(n_prompt, sum(request.n for request in requests))
        most = max(least, sum(usage.prices.worst_case(request, request.n) for request in requests))
    return CostEstimate(len(requests), n_prompt, n_new, least, most)


class CachedGeneration(Generation):
    """A `Generation` whose completions are cached by content. `open_model` opens one with its engine."""

    _asks_failed_again = False  # attempts are numbered here, so that each has its own seed

    def __init__(self, name: str, work: Path, engine: Engine, settings: EngineSettings) -> None:
        super().__init__(name, work, engine)
        self._name_shown = name
        self._settings = settings
        self._failures: dict[tuple[str, int], int] = {}
        self._answered: Completions = {}

    def __enter__(self) -> CachedGeneration:
        super().__enter__()
        for (request_id, sample), completion in self._done.items():
            if failed(completion):
                # the journal keeps failed attempts too; the last one says which attempt is next
                place, attempt = _place(request_id, sample)
                self._failures[place] = max(self._failures.get(place, 0), attempt)
        return self

    def complete(self, requests: Sequence[Request], description: str) -> Completions:
        """All completions by (request id, sample), as the caller named them."""
        contents = {request.id: _content_id(request) for request in requests}
        asked = [replace(request, id=f"{contents[request.id]}@1") for request in requests]
        # failed samples are asked again one by one: the others of the same request are answered
        again = [
            replace(request, id=self._id_of(contents[request.id], sample)[0], n=1)
            for request in requests
            for sample in range(request.n)
            if (contents[request.id], sample) in self._failures
        ]
        self._announce([*asked, *again])
        found = super().complete([*asked, *again], description)
        completions = {
            (request.id, sample): replace(
                found[self._id_of(contents[request.id], sample)], request_id=request.id, sample=sample
            )
            for request in requests
            for sample in range(request.n)
        }
        self._answered |= completions
        return completions

    def _errors(self) -> list[str]:
        return [c.error or "unknown" for c in self._answered.values() if failed(c)]

    def notes(self) -> GenerationNotes:
        """Counts over the completions of this command, cached ones included."""
        answered, errors = list(self._answered.values()), self._errors()
        return replace(
            super().notes(),
            completions=len(answered),
            truncated=sum(c.finish_reason == "length" for c in answered),
            engine_errors=len(errors),
            first_engine_error=errors[0] if errors else None,
        )

    def _id_of(self, content: str, sample: int) -> tuple[str, int]:
        """The attempt that counts: the one after the last that failed in an earlier run."""
        n_failures = self._failures.get((content, sample), 0)
        return (f"{content}#{sample}@{n_failures + 1}", 0) if n_failures else (f"{content}@1", sample)

    def _announce(self, requests: Sequence[Request]) -> None:
        """Print the estimate for a server; refuse if the limit is too low."""
        usage: Usage | None = getattr(self.engine, "usage", None)
        # cached answers cost nothing and must not be part of the estimate
        still_open = [r for r in requests if any((r.id, s) not in self._done for s in range(r.n))]
        if usage is None or not still_open:
            return
        coming = estimate_cost(still_open, usage, _has_prices(self._settings.options))
        limit = self._settings.max_cost
        before = f", {usage.spent:.4g} of {limit:.4g} spent before" if limit is not None else ""
        say(coming.sentence(self._name_shown) + before)
        # the least cost: a refusal must be certain; the engine enforces the limit for every single request
        if limit is not None and coming.least is not None and usage.spent + coming.least > limit:
            raise CostLimitError(
                f"{self._name_shown}: would cost {coming.least:.4g} at least, and {usage.spent:.4g} of --max-cost "
                f"{limit:.4g} are spent; nothing was sent: raise --max-cost or ask for fewer prompts (--n-max)"
            )


@contextmanager
def open_model(ref: ModelRef, work: Path, name: str, settings: EngineSettings) -> Iterator[CachedGeneration]:
    """Open the model's engine and its journal under `work`."""
    priced = ref.model_string.startswith("openai:")
    unkeyed = {"extra", *marks(EngineOptions)}  # `extra` holds prices and a server's own switches
    # a batch size or dtype changes answers, so each has its own journal
    keyed = {key: value for key, value in asdict(settings.options).items() if key not in unkeyed}
    folder = work / f"{name}-{digest({'model': ref.content_sha256, 'options': keyed})[:12]}"
    options = _with_limit(ref, settings, work) if priced else settings.options
    with (
        open_engine(ref.model_string, options) as engine,
        CachedGeneration(name, folder, engine, settings) as generation,
    ):
        yield generation


def _with_limit(ref: ModelRef, settings: EngineSettings, work: Path) -> EngineOptions:
    """The engine options with the cost limit in them."""
    if settings.max_cost is None:
        return settings.options
    if not _has_prices(settings.options):
        raise UsageError(
            f"--max-cost needs the prices of {ref.name}: give price_per_million_in=… and price_per_million_out=… "
            "with --engine (the model) or --judge-engine (the judge); 0 for a free server"
        )
    extra = {**settings.options.extra, "max_cost": settings.max_cost, "spent": spent(work)}
    return replace(settings.options, extra=extra)


def _has_prices(options: EngineOptions) -> bool:
    return "price_per_million_out" in options.extra


def _content_id(request: Request) -> str:
    # with the content beside the caller's id: another prompt or sampling is another request
    return f"{request.id}~{digest({**asdict(request), 'id': '', 'n': 1})[:12]}"


def _place(request_id: str, sample: int) -> tuple[tuple[str, int], int]:
    """(content, sample) and the number of the attempt, from an id in the journal."""
    content, _, attempt = request_id.rpartition("@")
    if attempt != "1":
        content, _, number = content.rpartition("#")
        sample = int(number)
    return (content, sample), int(attempt)


def _n_bytes(request: Request) -> int:
    texts = [*(message.content for message in request.messages), request.prefix]
    # lone surrogates have no bytes in UTF-8, and an estimate must not fail on them
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def failed(completion: Completion) -> bool:
    """Whether the engine gave no answer."""
    return completion.finish_reason == "error"
