"""The rows of meta-rewarding (arXiv 2407.19594), beside those of `selfreward.tables.rows`; their contract is the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from selfreward.tables.rows import FinishReason, Message, Status


@dataclass(frozen=True, slots=True)
class MetaJudgement:
    """One comparison of two judgements of the same candidate, in one order; the other order is another row."""

    meta_judgement_id: str
    iteration: int
    prompt_id: str
    candidate_id: str
    first_id: str
    """The judgement that was shown first."""
    second_id: str
    judge: str
    template: str
    judgement: str
    """The comparison's raw text."""
    winner: Literal["first", "second", "tie"] | None
    """By place, not by id; NULL exactly if `status` is not `ok`."""
    status: Status
    finish_reason: FinishReason
    n_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class JudgePair:
    """Two judgements of one candidate as a preference: the judge's prompt, and which of its answers is better."""

    judge_pair_id: str
    iteration: int
    prompt_id: str
    candidate_id: str
    prompt: list[Message]
    """The judge's prompt."""
    chosen: list[Message]
    rejected: list[Message]
    chosen_id: str
    """`judgement_id`."""
    rejected_id: str
    chosen_rating: float
    rejected_rating: float
    margin: float
    chosen_score: float
    """The score that the chosen judgement gives; not what it was chosen by."""
    rejected_score: float
    rule: str
