"""The rows of what is measured: judges on ranked replies, answers to evaluation prompts, verdicts on them, audits.

As in `selfreward.tables.rows`: one frozen class per dataset, `T | None` where a column may be NULL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfreward.tables.rows import FinishReason, JudgeMode, Status

Severity = Literal["fail", "warn"]
AuditVerdict = Literal["pass", "warn", "fail", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class JudgeEval:
    """One judgement of a human-ranked response of the EFT eval split, by model M_k (k is `iteration`)."""

    eft_id: str
    iteration: int
    prompt_id: str
    response_id: str
    human_rank: int
    n_chars: int
    sample: int
    judge: str
    template: str
    judge_mode: JudgeMode
    judgement: str
    score: float | None
    status: Status
    finish_reason: FinishReason
    n_tokens: int


@dataclass(frozen=True, slots=True)
class RuleEval:
    """The answer of model M_k to a prompt with rules, and which of them a program finds kept."""

    rule_eval_id: str
    iteration: int
    prompt_id: str
    prompt: str
    rules: list[str]
    """Each as `kind` or `kind: value`."""
    sample: int
    model: str
    response: str | None
    """NULL where the engine failed."""
    kept: bool | None
    """Whether every rule is kept; NULL with a `reason`."""
    broken: list[str]
    """The rules that it does not keep; empty without a verdict."""
    reason: str | None
    """Why there is no verdict: `engine_error`, or `unknown_rule` (a rule of IFEval that is not checked here)."""
    finish_reason: FinishReason
    n_tokens: int
    n_chars: int
    distinct_words: float | None
    """Share of the words that are different ones; NULL without words."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """The answer of model M_k to one evaluation prompt, with the reference answer it is compared to."""

    output_id: str
    iteration: int
    instruction: str
    dataset: str | None
    output: str | None
    """NULL where the engine failed; counted as missing by the evaluation."""
    generator: str
    finish_reason: FinishReason
    n_tokens: int
    n_chars: int
    reference: str
    reference_generator: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One pairwise verdict on (reference, output), in alpaca-eval's words: preference 1 reference, 2 model."""

    output_id: str
    iteration: int
    instruction: str
    dataset: str | None
    output_1: str
    generator_1: str
    output_2: str | None
    generator_2: str
    annotator: str
    preference: float | None
    status: Status
    order: str | None
    preference_reference_first: float | None
    preference_model_first: float | None
    raw_reference_first: str | None
    raw_model_first: str | None
    disagree: bool | None
    choice_mass: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class OffendingRow:
    """One row that an audit found, with the audit's verdict; published only by name."""

    audit: str
    severity: Severity
    verdict: AuditVerdict
    figure: float | None
    threshold: float
    dataset: str | None
    iteration: int | None
    id: str | None
    detail: str
    """The query's other columns, as JSON."""
