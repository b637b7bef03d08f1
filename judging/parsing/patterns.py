"""Scores of rubrics with another ending than ours, by the user's own pattern (`judging.score_pattern`)."""

from __future__ import annotations

import math

from selfreward.tables import Status
from selfreward.text import last_match


def read_pattern(
    pattern: str, text: str, minimum: float, maximum: float, cut_off: bool
) -> tuple[float | None, Status]:
    """Score and status by the pattern's last match; `cut_off`: the text ended at its length limit."""
    found = last_match(pattern, text)
    # A figure at the very end of a reply that was cut off may have gone on.
    if cut_off and (found is None or found[1] == len(text)):
        return None, "truncated"
    try:
        score = float(found[0].replace(",", ".")) if found else math.nan
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        return None, "no_score"
    return (score, "ok") if minimum <= score <= maximum else (None, "out_of_range")
