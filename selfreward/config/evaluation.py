"""Settings of what is measured after training; see selfreward/evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from selfreward.unkeyed import Count, KeyedApart, Section


class AlpacaConfig(Section):
    """Answers of each model judged against reference answers with the alpaca-eval package."""

    prompts: str = "eft_eval"
    """`eft_eval` (best human reply of each EFT eval prompt as the reference), or a file in AlpacaEval's format."""
    judge: str = "fixed"
    """`fixed` (the configured `model`), `current`, `M1` or a model string; one judge for all models of a run."""
    mode: Literal["logprobs", "text"] = "logprobs"
    """`logprobs`: the judge's token probabilities, as alpaca-eval's weighted annotators; `text`: its written verdict."""
    both_orders: bool = True
    """Each comparison in both orders of the answers."""
    max_tokens: Count = 1024
    """New tokens of an answer."""
    n_max: int | None = None
    """Prompts at most; all of them by default."""


class JudgeEvalConfig(Section):
    """How well each model judges: ranked replies scored by M0, M1, M2… against their ranks."""

    replies: KeyedApart[str] = "eft_eval"
    """`eft_eval` (the EFT eval split), `rules` (the control experiment's held-out replies), or a file as for
    `seeds.source`."""
    samples: Count = 1
    """Judgements of each reply."""
    n_max: int | None = None
    """Rows of the eval split, whole prompts in hash order; all of them by default."""


class RuleEvalConfig(Section):
    """How often each model keeps rules that a program checks, on prompts with rules."""

    prompts: KeyedApart[str] = "rules"
    """`rules` (the control experiment's held-out prompts), or a file: IFEval's form, or prompts that state a rule in the
    words of `selfreward.judging.rules`."""
    samples: Count = 1
    """Answers to each prompt."""
    temperature: float = Field(0.7, ge=0)
    """Of the answers; 0 is greedy."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Share of probability that is sampled from."""
    max_tokens: Count = 512
    """New tokens of an answer."""
    n_max: int | None = None
    """Prompts at most; all of them by default."""


class EvaluateConfig(Section):
    """What is measured after training; an empty section (`alpaca: null`) turns a measure off."""

    alpaca: AlpacaConfig | None = AlpacaConfig()
    judge: JudgeEvalConfig | None = JudgeEvalConfig()
    rules: RuleEvalConfig | None = None
