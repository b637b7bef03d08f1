"""Pairwise judging in this process: requests out, completions in, annotations in alpaca-eval's format.

    plan = plan_annotations(references, answers, load_annotator("selfreward_weighted"), judge=engine.name)
    rows = judge_pairs(generation, plan, "on M2")       # annotations.json
    result = summarise_rows(rows, references, answers)

Making requests and reading completions are separate, so that the generation between them (possibly hours) can be
journalled and resumed. Both run alpaca-eval's own pairwise annotator over the same rows. The prompt text is ours (see
`selfreward.evaluation.alpaca.annotators`); alpaca-eval caches and writes nothing.

Every pair gets a row. A reply that names neither answer, both, or is cut or lost leaves `preference` NULL and
a `status`. With `both_orders` each pair is judged twice, answers swapped; the preference is the mean, NULL if
either verdict is, and `disagree` says whether the winner changed. Identical answers are a draw without asking
(`order` NULL). `choice_mass` is the probability that the judge's reply starts with any of the choices at all:
near 0, a weighted preference is noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from math import exp
from typing import Any

from selfreward.engines.base import Completion, Engine, Request, Sampling
from selfreward.engines.references import ModelRef
from selfreward.errors import AccountingError, CapabilityError
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate
from selfreward.evaluation.alpaca.pairwise import (
    MODEL_FIRST,
    REFERENCE_FIRST,
    ComparisonKey,
    Order,
    comparisons,
    parse_replies,
)
from selfreward.evaluation.ask.files import Answers, PromptPair, match
from selfreward.judging.prompts.injection import holds_prompt_parts
from selfreward.steps.generation import Generation
from selfreward.tables import row_id


@dataclass(frozen=True, slots=True)
class AnnotationPlan:
    """The judging task: the pairs, and one request per comparison."""

    template: PairwiseTemplate
    annotator: str
    """Name in the rows; includes the judging model, so that two judges cannot be mixed unnoticed."""
    generators: tuple[str, str]
    """Names of reference and model."""
    prompts: tuple[PromptPair, ...]
    """Those that have an answer."""
    both_orders: bool
    seed: int
    keys: tuple[ComparisonKey, ...]
    requests: tuple[Request, ...]
    """In the order of `keys`."""


def plan_annotations(
    references: Answers,
    answers: Answers,
    template: PairwiseTemplate,
    judge: str | None = None,
    both_orders: bool = False,
    seed: int = 0,
    max_tokens: int | None = None,
) -> AnnotationPlan:
    """The requests that judge a model against the reference, in the reference's prompt order.

    `judge` names the judging model; without it the rows have only the annotator's name. In one order,
    alpaca-eval's seeded coin decides per instruction which answer is shown first. Prompts without an answer
    get no request; `summarise_rows` counts them.
    """
    prompts = tuple(prompt for prompt in match(references, answers) if prompt.output is not None)
    by_instruction = {prompt.instruction: prompt for prompt in prompts}
    wanted: set[ComparisonKey] = set()
    # the first pass of the annotator, to learn which pairs it wants judged and in which order it shows them
    for order in _orders(both_orders):
        wanted |= comparisons(template, prompts, order, seed)
    keys = tuple(
        (prompt.instruction, order)
        for prompt in prompts
        for order in (REFERENCE_FIRST, MODEL_FIRST)
        if (prompt.instruction, order) in wanted
    )
    sampling = Sampling(template.temperature, 1.0, max_tokens or template.max_tokens)
    requests = tuple(_request(template, by_instruction[key[0]], key[1], sampling, seed) for key in keys)
    annotator = f"{template.name}:{judge}" if judge else template.name
    generators = (references.generator or "reference", answers.generator or "model")
    return AnnotationPlan(template, annotator, generators, prompts, both_orders, seed, keys, requests)


def judge_pairs(generation: Generation, plan: AnnotationPlan, description: str) -> list[dict[str, Any]]:
    """Judge all comparisons of a plan. Raises before the first request if the engine has no log-probabilities."""
    require_logprobs(generation.engine, plan.requests)
    completions = generation.complete(plan.requests, description)
    return annotation_rows(plan, [completions[request.id, 0] for request in plan.requests])


def annotator_name(template: PairwiseTemplate, judge: ModelRef) -> str | None:
    """None if the judge is the configuration's own model, so that its name suffices."""
    return None if judge.name == f"openai:{template.model_name}" else judge.name


def require_logprobs(engine: Engine, requests: Sequence[Request]) -> None:
    """Raise `CapabilityError` if the requests need log-probabilities and the engine has none."""
    if any(request.choices for request in requests) and not engine.capabilities.logprobs:
        raise CapabilityError(
            f"{engine.name} gives no log-probabilities, which a weighted judge needs; use a judge whose text is "
            "parsed, such as selfreward_pairwise"
        )


def annotation_rows(plan: AnnotationPlan, completions: Sequence[Completion]) -> list[dict[str, Any]]:
    """One row for each pair of the plan, in prompt order; `annotations.json` of a submission.

    A request without a completion leaves its pair unjudged (`engine_error`); a completion that answers no
    request of the plan, or a second one to the same, is an `AccountingError`.
    """
    replies = _by_key(plan, completions)
    parsed: dict[ComparisonKey, float] = {}
    # the second pass, over the same rows: alpaca-eval parses the replies and turns the preference back
    for order in _orders(plan.both_orders):
        parsed |= parse_replies(plan.template, plan.prompts, replies, order, plan.seed)
    asked: dict[str, list[ComparisonKey]] = {prompt.instruction: [] for prompt in plan.prompts}
    for key in plan.keys:
        asked[key[0]].append(key)
    return [_row(plan, prompt, asked[prompt.instruction], replies, parsed) for prompt in plan.prompts]


def _request(
    template: PairwiseTemplate, prompt: PromptPair, order: str, sampling: Sampling, seed: int
) -> Request:
    first, second = prompt.reference, prompt.output or ""
    if order == MODEL_FIRST:
        first, second = second, first
    return Request(
        id=row_id("cmp", template.sha256, prompt.instruction, first, second),
        messages=template.fill(prompt.instruction, first, second),
        sampling=sampling,
        seed=seed,
        choices=template.choices,
    )


def _orders(both_orders: bool) -> tuple[Order, ...]:
    """One pass of the annotator for each; None: alpaca-eval tosses its coin."""
    return (REFERENCE_FIRST, MODEL_FIRST) if both_orders else (None,)


def _by_key(plan: AnnotationPlan, completions: Sequence[Completion]) -> dict[ComparisonKey, Completion]:
    keys = {request.id: key for request, key in zip(plan.requests, plan.keys, strict=True)}
    found: dict[ComparisonKey, Completion] = {}
    for completion in completions:
        key = keys.get(completion.request_id)
        if key is None or key in found:
            what = (
                "answers no comparison of this plan" if key is None else "answers a comparison a second time"
            )
            raise AccountingError(
                f"completion {completion.request_id} {what}; judge and plan do not belong together"
            )
        found[key] = completion
    return found


@cache
def _harness() -> str:
    return f"alpaca_eval=={version('alpaca-eval')}"


def _row(
    plan: AnnotationPlan,
    prompt: PromptPair,
    asked: Sequence[ComparisonKey],
    replies: Mapping[ComparisonKey, Completion],
    parsed: Mapping[ComparisonKey, float],
) -> dict[str, Any]:
    """One annotation: alpaca-eval's columns first, then what was asked and answered in each order."""
    statuses = [_status(replies.get(key), key in parsed) for key in asked]
    preferences = [parsed.get(key) for key in asked]
    known = [preference for preference in preferences if preference is not None]
    # not asked: the answers are identical, which is a draw; one unread order leaves the pair without a
    # preference
    preference = 1.5 if not asked else sum(known) / len(known) if len(known) == len(asked) else None
    raw = {key[1]: replies[key].text for key in asked if key in replies}
    by_order = {key[1]: value for key, value in zip(asked, preferences, strict=True)}
    return {
        "instruction": prompt.instruction,
        "dataset": prompt.dataset,
        "output_1": prompt.reference,
        "generator_1": plan.generators[0],
        "output_2": prompt.output,
        "generator_2": plan.generators[1],
        "annotator": plan.annotator,
        "preference": preference,
        "preference_raw_completion": raw.get(asked[0][1]) if asked else None,
        "preference_version": _harness(),
        "status": next((status for status in statuses if status != "ok"), "ok"),
        "order": None if not asked else asked[0][1] if len(asked) == 1 else "both",
        "preference_reference_first": by_order.get(REFERENCE_FIRST),
        "preference_model_first": by_order.get(MODEL_FIRST),
        "raw_reference_first": raw.get(REFERENCE_FIRST),
        "raw_model_first": raw.get(MODEL_FIRST),
        "disagree": _disagree(known) if len(known) == 2 else None,
        "choice_mass": _choice_mass(plan.template, [replies[key] for key in asked if key in replies]),
        "error": next((replies[key].error for key in asked if key in replies and replies[key].error), None),
        "injection_suspected": any(
            holds_prompt_parts(text, "pairwise") for text in (prompt.instruction, prompt.output or "")
        ),
    }


def _status(reply: Completion | None, is_parsed: bool) -> str:
    """As a `selfreward.tables.Status`."""
    if reply is None or reply.finish_reason == "error":
        return "engine_error"
    if is_parsed:
        return "ok"
    if not reply.text.strip() and reply.choice_logprobs is None:
        return "empty"
    return "truncated" if reply.finish_reason == "length" and reply.choice_logprobs is None else "no_score"


def _disagree(preferences: Sequence[float]) -> bool:
    """Whether swapping the answers changed the winner."""
    # a draw in one order does not count as a changed winner
    return (preferences[0] - 1.5) * (preferences[1] - 1.5) < 0


def _choice_mass(template: PairwiseTemplate, replies: Sequence[Completion]) -> float | None:
    """The probability that a reply starts with any of the choices; the smaller one of the two orders."""
    masses = [
        sum(exp(value) for value in reply.choice_logprobs.values())
        for reply in replies
        if reply.choice_logprobs
    ]
    # near 0, a weighted preference is noise: the judge would have written something else
    return min(masses) if template.choices and masses else None
