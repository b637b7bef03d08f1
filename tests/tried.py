"""What the fault tests tried, counted by kind; pytest prints it at its end."""

from __future__ import annotations

from collections import Counter

COUNTS: Counter[str] = Counter()


def tried(kind: str, n: int = 1) -> None:
    """Add `n` cases that were tried and came out as promised."""
    COUNTS[kind] += n
