"""Scores that no judge gave, for the control experiment: shuffled ones, and the program's own verdicts.

A self-rewarding run that works must do better with its judge's scores than with the same scores shuffled, and at most
as well as with the truth.
"""

from __future__ import annotations

import random
from typing import Any

from selfreward.judging.rules.rules import rules_in

Row = dict[str, Any]


def shuffled(scores: list[Row], seed: int) -> list[Row]:
    """The rows with score and variance exchanged among a prompt's scored candidates; unscored ones stay unscored."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(scores):
        if row["score"] is not None:
            places.setdefault(row["prompt_id"], []).append(place)
    rows = [dict(row) for row in scores]
    for prompt_id, own in places.items():
        taken = own[:]
        # Seeded by the prompt, so that the exchange does not depend on the other prompts.
        random.Random(f"{seed}/{prompt_id}").shuffle(taken)
        for place, source in zip(own, taken, strict=True):
            rows[place] |= {name: scores[source][name] for name in ("score", "score_variance")}
    return rows


def by_rules(
    scores: list[Row], prompts: dict[str, str], answers: dict[str, str], lowest: float, highest: float
) -> list[Row]:
    """The rows with `highest` for a candidate that keeps every rule of its prompt, `lowest` for one that does not.

    `prompts` is prompt_id -> text, `answers` candidate_id -> text. Without a rule in known words the score is NULL.
    """
    rows = []
    for row in scores:
        rules = rules_in(prompts[row["prompt_id"]])
        kept = all(rule.kept_by(answers[row["candidate_id"]]) for rule in rules)
        score = None if not rules else highest if kept else lowest
        rows.append(row | {"score": score, "score_variance": None if score is None else 0.0})
    return rows
