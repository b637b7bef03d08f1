"""Answers to prompts with rules: a row each with its verdict, and the figures of rows.

    rows = verdict_rows(prompts, completions, settings, model="M1@3f0c…", iteration=1)
    figures = rule_figures(rows)        figures.kept is the share of answers that keep every rule

Intervals resample prompts, with all answers of a prompt together. `paired` compares two models on the same prompts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from selfreward.config.evaluation import RuleEvalConfig
from selfreward.engines.base import Completion, Request, Sampling
from selfreward.judging.rules.files import PromptWithRules
from selfreward.judging.rules.rules import words
from selfreward.statistics import (
    Figure,
    Resampler,
    Share,
    drawn,
    paired_difference,
    rate_by_unit,
    share_figures,
)
from selfreward.tables import Message, RuleEval, row_id

# As many as elsewhere in reports; the seed is fixed, so that a repeated report has the same intervals.
_RESAMPLER_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class RuleFigures:
    """Of one model's answers."""

    kept: Figure
    """Share of the answers with a verdict that keep every rule."""
    by_rule: dict[str, tuple[int, int]]
    """Kind -> answers that keep it, answers with a verdict."""
    unchecked: dict[str, int]
    """Reason -> answers without a verdict."""
    mean_chars: float | None
    distinct_words: float | None
    """Mean over answers of the share of words that are different ones."""
    role_leakage: int
    """Answers that read like a judgement."""


def limited(prompts: Sequence[PromptWithRules], n_max: int | None) -> list[PromptWithRules]:
    """At most `n_max` prompts: a fixed draw, in their order."""
    kept = drawn((prompt.prompt for prompt in prompts), n_max)
    return [prompt for prompt in prompts if prompt.prompt in kept]


def answer_requests(prompts: Sequence[PromptWithRules], settings: RuleEvalConfig, seed: int) -> list[Request]:
    """One request for each prompt, with `samples` answers."""
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    return [
        Request(row_id("rp", p.prompt), (Message("user", p.prompt),), sampling, settings.samples, seed)
        for p in prompts
    ]


def verdict_rows(
    prompts: Sequence[PromptWithRules],
    completions: Mapping[tuple[str, int], Completion],
    settings: RuleEvalConfig,
    model: str,
    iteration: int,
) -> list[RuleEval]:
    """A row for each answer."""
    return [
        _row(prompt, completions[row_id("rp", prompt.prompt), sample], sample, model, iteration)
        for prompt in prompts
        for sample in range(settings.samples)
    ]


def _row(
    prompt: PromptWithRules, completion: Completion, sample: int, model: str, iteration: int
) -> RuleEval:
    prompt_id = row_id("rp", prompt.prompt)
    failed = completion.finish_reason == "error"
    # One unknown rule leaves the whole answer without a verdict: kept in part would count as kept.
    reason = "engine_error" if failed else "unknown_rule" if None in prompt.rules else None
    checked = [rule for rule in prompt.rules if rule is not None and reason is None]
    broken = [str(rule) for rule in checked if not rule.kept_by(completion.text)]
    found = words(completion.text)
    return RuleEval(
        rule_eval_id=row_id("re", iteration, model, prompt_id, sample),
        iteration=iteration,
        prompt_id=prompt_id,
        prompt=prompt.prompt,
        rules=[str(rule) if rule else "unknown" for rule in prompt.rules],
        sample=sample,
        model=model,
        response=None if failed else completion.text,
        kept=None if reason else not broken,
        broken=broken,
        reason=reason,
        finish_reason=completion.finish_reason,
        n_tokens=completion.n_tokens,
        n_chars=0 if failed else len(completion.text),
        distinct_words=len(set(found)) / len(found) if found else None,
    )


def rule_figures(rows: Sequence[RuleEval]) -> RuleFigures:
    """The figures of one model's answers."""
    numerator, denominator = rate_by_unit(_verdicts(rows), sorted({row.prompt_id for row in rows}))
    unchecked = Counter(row.reason for row in rows if row.reason)
    shares = {"kept": Share(numerator, denominator, "answers", sum(unchecked.values()))}
    by_rule: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        for rule in row.rules if row.kept is not None else ():
            kind = rule.partition(":")[0]
            by_rule[kind][0] += rule not in row.broken
            by_rule[kind][1] += 1
    distinct = [row.distinct_words for row in rows if row.distinct_words is not None]
    answered = [row for row in rows if row.response is not None]
    return RuleFigures(
        kept=share_figures(shares, Resampler(len(numerator), _RESAMPLER_DRAWS))["kept"],
        by_rule={kind: (kept, n) for kind, (kept, n) in sorted(by_rule.items())},
        unchecked=dict(unchecked),
        mean_chars=fmean(row.n_chars for row in answered) if answered else None,
        distinct_words=fmean(distinct) if distinct else None,
        role_leakage=sum(reads_like_judgement(row.response or "") for row in rows),
    )


def reads_like_judgement(answer: str) -> bool:
    """Whether an answer has the words that end a judgement.

    >>> reads_like_judgement("The response is clear.\\nScore: 4"), reads_like_judgement("The score was 4 to 2.")
    (True, False)
    """
    from selfreward.judging.parsing.scores import parse_score

    return parse_score(answer, "stop", 0.0, 5.0).score is not None


def paired(a: Sequence[RuleEval], b: Sequence[RuleEval]) -> Figure:
    """The rate of `a` minus that of `b`, over the prompts that both answered."""
    return paired_difference(_verdicts(a), _verdicts(b))


def _verdicts(rows: Sequence[RuleEval]) -> list[tuple[str, bool | None]]:
    return [(row.prompt_id, row.kept) for row in rows]
