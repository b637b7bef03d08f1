"""LLM-as-a-Judge over (prompt, response) items: sampled judgements, or the expected score (paper section 2.2).

`sampled`, the paper's: each item is judged `samples` times; a judgement without a score is requested again, up to
`max_attempts` completions, and the last one is kept, scored or not, with its status.

`expected`: one greedy justification (or none), then the probabilities of the score tokens behind the template's own
`Score:`; the score is their mean, so that the judge's uncertainty counts without sampling.

Not here: averaging over judgements (`selfreward.judging.scores`) and choosing pairs (`selfreward.builders.pairs`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from selfreward.config.judging import JudgingConfig
from selfreward.engines.base import Completion, Engine, Request, Sampling
from selfreward.errors import CapabilityError
from selfreward.estimate.requests import Range, Requests
from selfreward.judging.parsing.scores import ParsedScore, parse_score
from selfreward.judging.prompts.templates import JudgeTemplate
from selfreward.steps.generation import Generation
from selfreward.tables import FinishReason, Message, Status

SCORE_LABEL = "Score:"
EXPECTED_VERSION = 2
"""Part of the key of judgements in mode `expected`: raise it when any of them would change."""
# Probability that must fall on score tokens: below it, the judge was not about to write a score, and the
# judgement is `no_score`.
MIN_SCORE_MASS = 0.5


@dataclass(frozen=True, slots=True)
class Item:
    """One response to judge. `id` is unique within the stage."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One judgement. `text` is the judge's reply; `score` is NULL exactly if `status` is not `ok`."""

    item_id: str
    sample: int
    text: str
    score: float | None
    status: Status
    finish_reason: FinishReason
    n_tokens: int
    attempts: int
    seed: int
    error: str | None = None
    """The error of the engine, if it gave no answer."""


def judge_items(
    generation: Generation,
    engine: Engine,
    items: Sequence[Item],
    template: JudgeTemplate,
    settings: JudgingConfig,
    seed: int,
) -> list[Judged]:
    """Judge every item; the result is ordered by item, then sample, and complete."""
    if settings.mode == "expected":
        return _expected(generation, engine, items, template, settings, seed)
    return _sampled(generation, items, template, settings, seed)


def _sampled(
    generation: Generation, items: Sequence[Item], template: JudgeTemplate, settings: JudgingConfig, seed: int
) -> list[Judged]:
    requests = sampled_requests(items, template, settings, seed)
    by_id = {item.id: item for item in items}
    judged = {
        (item_id, sample): _judged(item_id, sample, completion, settings, 1)
        for (item_id, sample), completion in generation.complete(requests, "judgements").items()
    }
    for attempt in range(2, settings.max_attempts + 1):
        unscored = sorted(key for key, judgement in judged.items() if judgement.score is None)
        if not unscored:
            break
        again = {f"{item_id}#{sample}@{attempt}": (item_id, sample) for item_id, sample in unscored}
        requests = [
            Request(request_id, _chat(template, by_id[key[0]]), requests[0].sampling, 1, seed)
            for request_id, key in again.items()
        ]
        for (request_id, _), completion in generation.complete(requests, f"attempt {attempt}").items():
            item_id, sample = again[request_id]
            judged[item_id, sample] = _judged(item_id, sample, completion, settings, attempt)
    return [judged[item.id, sample] for item in items for sample in range(settings.samples)]


def planned_requests(
    items: Sequence[Item],
    template: JudgeTemplate,
    settings: JudgingConfig,
    seed: int,
    n_items: int | None = None,
    assumed: str = "",
) -> list[Requests]:
    """The requests of judging `items`, or `n_items` similar ones."""
    n = len(items) if n_items is None else n_items
    once = Range.exactly(n)
    if settings.mode == "sampled":
        first = sampled_requests(items, template, settings, seed)
        most = n * settings.samples * (settings.max_attempts - 1)
        again = [replace(request, n=1) for request in first] if most else []
        some = "judgements without a score are asked for again: none, half, all"
        return [Requests(first, once, assumed), Requests(again, Range(0, most / 2, most), some)]
    # Without choices: only the engine knows how a score's token is written, and it takes no time
    scores = [
        replace(_score_request(item.id, item, None, template, settings, seed, spaced=False), choices=())
        for item in items
    ]
    # One request more finds how a score's token is written
    last = Requests(scores, Range.exactly(n + 1), assumed)
    if not settings.justify:
        return [last]
    short = "prompt tokens are without the justifications that the score requests repeat"
    first = _justification_requests(items, template, settings, seed)
    return [Requests(first, once, assumed), replace(last, assumed=short)]


def shortest_request(template: JudgeTemplate, max_tokens: int) -> Request:
    """The shortest request to a judge: the template around an empty prompt and response."""
    empty = Item("shortest", "", "")
    return Request(empty.id, _chat(template, empty), Sampling(max_tokens=max_tokens))


def sampled_requests(
    items: Sequence[Item], template: JudgeTemplate, settings: JudgingConfig, seed: int
) -> list[Request]:
    """What mode `sampled` asks for first: every item, `samples` times."""
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    return [Request(i.id, _chat(template, i), sampling, settings.samples, seed) for i in items]


def _chat(template: JudgeTemplate, item: Item) -> tuple[Message, ...]:
    return (Message("user", template.render(item.prompt, item.response)),)


def _judged(
    item_id: str, sample: int, completion: Completion, settings: JudgingConfig, attempts: int
) -> Judged:
    parsed = read_score(completion.text, completion.finish_reason, settings)
    return Judged(
        item_id=item_id,
        sample=sample,
        text=completion.text,
        score=parsed.score,
        status=parsed.status,
        finish_reason=completion.finish_reason,
        n_tokens=completion.n_tokens,
        attempts=attempts,
        seed=completion.seed,
        error=completion.error,
    )


def read_score(text: str, finish_reason: str, settings: JudgingConfig) -> ParsedScore:
    """The score in a judge's reply, as the settings have it."""
    limits = settings.min_score, settings.max_score
    return parse_score(text, finish_reason, *limits, pattern=settings.score_pattern)


def _expected(
    generation: Generation,
    engine: Engine,
    items: Sequence[Item],
    template: JudgeTemplate,
    settings: JudgingConfig,
    seed: int,
) -> list[Judged]:
    able = engine.capabilities
    if not (able.logprobs and able.prefix):
        raise CapabilityError(
            f"judging.mode expected needs token probabilities after a given answer prefix, and {engine.name} does not "
            "offer both; use judging.mode: sampled, or an hf: or vllm: judge"
        )
    justifications = _justifications(generation, items, template, settings, seed)
    spaced = _scores_are_one_token_with_space(generation, items, template, settings, seed)
    requests = [
        _score_request(
            f"{item.id}#score", item, justifications.get(item.id), template, settings, seed, spaced
        )
        for item in items
    ]
    completions = generation.complete(requests, "score tokens")
    return [
        _expected_score(item, justifications.get(item.id), completions[f"{item.id}#score", 0])
        for item in items
    ]


def _justifications(
    generation: Generation, items: Sequence[Item], template: JudgeTemplate, settings: JudgingConfig, seed: int
) -> dict[str, Completion]:
    """Greedy justifications up to the score label; none if `justify` is off."""
    if not settings.justify:
        return {}
    requests = _justification_requests(items, template, settings, seed)
    return {request_id: c for (request_id, _), c in generation.complete(requests, "justifications").items()}


def _justification_requests(
    items: Sequence[Item], template: JudgeTemplate, settings: JudgingConfig, seed: int
) -> list[Request]:
    sampling = Sampling(0.0, 1.0, settings.max_tokens, stop=(SCORE_LABEL,))
    return [Request(item.id, _chat(template, item), sampling, 1, seed) for item in items]


def _scores_are_one_token_with_space(
    generation: Generation, items: Sequence[Item], template: JudgeTemplate, settings: JudgingConfig, seed: int
) -> bool:
    """Some tokenizers write " 4" as one token, others as a space and "4"; a probe finds out which."""
    if not items:
        return True
    probe = _score_request("probe-spaced", items[0], None, template, settings, seed, spaced=True)
    answer = generation.complete([probe], "probe")["probe-spaced", 0]
    # An engine that knows its tokens refuses the wrong form; a server lists none of them among the likeliest.
    return answer.finish_reason != "error" and bool(answer.choice_logprobs)


def _score_request(
    request_id: str,
    item: Item,
    justification: Completion | None,
    template: JudgeTemplate,
    settings: JudgingConfig,
    seed: int,
    spaced: bool,
) -> Request:
    written = justification.text.rstrip() + "\n" if justification and justification.text.strip() else ""
    space = " " if spaced else ""
    scores = range(math.ceil(settings.min_score), math.floor(settings.max_score) + 1)
    return Request(
        id=request_id,
        messages=_chat(template, item),
        sampling=Sampling(0.0, 1.0, 1),
        seed=seed,
        prefix=f"{written}{SCORE_LABEL}" + ("" if spaced else " "),
        choices=tuple(f"{space}{score}" for score in scores),
    )


def _expected_score(item: Item, justification: Completion | None, completion: Completion) -> Judged:
    """Mean score under the probabilities of the score tokens, renormalized over them.

    `finish_reason` is the justification's: `length` means that it was cut before the score was requested.
    """
    text = justification.text.rstrip() if justification else ""
    score: float | None = None
    status: Status = "engine_error"
    failed = "error" in (completion.finish_reason, justification.finish_reason if justification else "")
    if not failed and completion.choice_logprobs:
        weights = {float(choice): math.exp(logprob) for choice, logprob in completion.choice_logprobs.items()}
        mass = sum(weights.values())
        status = "no_score"
        if mass >= MIN_SCORE_MASS:
            score, status = sum(value * weight for value, weight in weights.items()) / mass, "ok"
            text = f"{text}\n{SCORE_LABEL} {score:.4f}".lstrip()
    n_tokens = completion.n_tokens + (justification.n_tokens if justification else 0)
    ended: FinishReason = "error" if failed else justification.finish_reason if justification else "stop"
    error = completion.error or (justification.error if justification else None)
    return Judged(item.id, 0, text, score, status, ended, n_tokens, 1, 0, error)
