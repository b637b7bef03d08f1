"""Ratings of judgements from comparisons of two, each in both orders (arXiv 2407.19594, section 2.3).

    >>> wins = [Contest("j1", "j2", "first"), Contest("j2", "j1", "second")]
    >>> ratings(wins, position_weights(wins), "wins")
    {'j1': 1.0, 'j2': -1.0}

A meta-judge likes one place better than the other, so a win is weighed by the share of wins of the *other* place among
all comparisons of the iteration: won where nearly everyone wins, it is worth nearly nothing. A judge that only
ever names one place gives no ratings at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.judging.meta.verdicts import Winner

# A drawn comparison with an imagined average judgement, of this weight, for each judgement: without it the likelihood has
# no maximum where one judgement wins every comparison. Small, so that it orders nothing by itself.
_PRIOR = 0.1
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Contest:
    """Two judgements in the order shown, and who won."""

    first: str
    second: str
    winner: Winner

    @property
    def winner_id(self) -> str | None:
        """None for a tie."""
        return {"first": self.first, "second": self.second, "tie": None}[self.winner]


@dataclass(frozen=True, slots=True)
class PositionWeights:
    """What a win in each place is worth; the two add up to 1."""

    first: float
    second: float


def position_weights(comparisons: Iterable[Contest]) -> PositionWeights:
    """The share of wins in the other place; a half each without any win.

    >>> wins = [Contest("a", "b", "first")] * 3 + [Contest("a", "b", "second")]
    >>> position_weights(wins)
    PositionWeights(first=0.25, second=0.75)
    """
    winners = [comparison.winner for comparison in comparisons]
    first, second = winners.count("first"), winners.count("second")
    if not first + second:
        return PositionWeights(0.5, 0.5)
    return PositionWeights(second / (first + second), first / (first + second))


def consistent(comparisons: Sequence[Contest]) -> list[Contest]:
    """Those whose two orders both stand and have the same winner."""
    shown = {(c.first, c.second): c.winner_id for c in comparisons}
    return [
        c for c in comparisons if c.winner_id is not None and shown.get((c.second, c.first)) == c.winner_id
    ]


def ratings(
    comparisons: Sequence[Contest], weights: PositionWeights, rule: Literal["bradley_terry", "wins"]
) -> dict[str, float]:
    """The rating of every judgement that was compared; ties count for neither side.

    `bradley_terry`: the strengths that make the weighted wins likeliest, in natural units (Elo's scale is 400 / ln 10
    times this). `wins`: weighted wins less weighted losses.
    """
    ids = sorted({id for c in comparisons for id in (c.first, c.second)})
    won = dict.fromkeys(((a, b) for a in ids for b in ids), 0.0)
    for c in comparisons:
        if c.winner == "first":
            won[c.first, c.second] += weights.first
        elif c.winner == "second":
            won[c.second, c.first] += weights.second
    if not ids:
        return {}
    if rule == "wins":
        return {a: round(sum(won[a, b] - won[b, a] for b in ids), 9) for a in ids}
    return _bradley_terry(ids, won)


def _bradley_terry(ids: Sequence[str], won: dict[tuple[str, str], float]) -> dict[str, float]:
    """The maximum of the likelihood with the prior, by Newton's steps."""
    import numpy as np

    wins = np.array([[won[a, b] for b in ids] for a in ids])
    games = wins + wins.T
    strength = np.zeros(len(ids))
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        average = 1 / (1 + np.exp(-strength))
        slope = (wins - games * expected).sum(1) + _PRIOR * (0.5 - average)
        bend = games * expected * (1 - expected)
        curve = np.diag(bend.sum(1) + _PRIOR * average * (1 - average)) - bend
        step = np.linalg.solve(curve, slope)
        # A whole step overshoots where the curve is flat; one point at a time, it arrives.
        strength = strength + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            break
    # Rounded, so that judgements with the same wins have the same rating whatever their order; no -0.0.
    return {id: round(float(value), 6) + 0.0 for id, value in zip(ids, strength, strict=True)}
