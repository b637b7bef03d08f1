"""The row of `reviews`: a person's verdict on a row of the run, given in `selfreward view` or imported.

Beside the verdict stand the judgement's own facts, so that a review keeps its sense after the judgement was made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# `flagged` says only that the row is worth another look; agreement counts the two others.
ReviewVerdict = Literal["agree", "disagree", "flagged"]


@dataclass(frozen=True, slots=True)
class Review:
    """What one reviewer says of one row; a later verdict of the same reviewer replaces it."""

    review_id: str
    dataset: str
    """The kind of the row: `judgements`, `pairs`, …"""
    iteration: int | None
    row_id: str
    reviewer: str
    verdict: ReviewVerdict
    note: str
    human_score: float | None
    """The score that the reviewer would have given."""
    prompt_id: str | None
    candidate_id: str | None
    judge: str | None
    template: str | None
    score: float | None
    """The judge's, when it was reviewed."""
    created: str
    """UTC, ISO 8601."""
