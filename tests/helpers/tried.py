"""What tests tried, counted by kind, and figures they saw; pytest prints both at its end (see conftest.py)."""

from __future__ import annotations

from collections import Counter

COUNTS: Counter[str] = Counter()
FIGURES: list[str] = []


def tried(kind: str, n: int = 1) -> None:
    """Add `n` cases that were tried and came out as promised."""
    COUNTS[kind] += n


def seen(figure: str) -> None:
    """A line for the reader of the log, whatever the verdict."""
    FIGURES.append(figure)
