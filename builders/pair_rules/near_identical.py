"""Pairs whose two answers are nearly the same text: there is little to learn from the difference."""

from __future__ import annotations

from typing import Any

from selfreward.similarity.near import similarities


def mark_near_identical(outcomes: list[dict[str, Any]], most: float) -> None:
    """Drop the pairs whose answers are more alike than `most`, as the audit `near_duplicates` compares texts."""
    if most == 1:
        return
    paired = [row for row in outcomes if row["reason"] is None]
    found = similarities([row["chosen"] for row in paired], [row["rejected"] for row in paired])
    for row, similarity in zip(paired, found, strict=True):
        row["reason"] = "near_identical" if similarity > most else None
