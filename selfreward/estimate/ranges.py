"""A figure that is not known exactly: the least, the likely and the most it can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Z = 1.96
"""A measured mean or share lies within so many standard errors in 95 of 100 cases."""


@dataclass(frozen=True, slots=True)
class Range:
    """Least, likely, most. Sums and products take the least with the least: both going badly is not ruled out."""

    low: float
    likely: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Range:
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, other: Range | float) -> Range:
        by = other if isinstance(other, Range) else Range.exactly(other)
        return Range(self.low * by.low, self.likely * by.likely, self.high * by.high)

    def each(self, change: Callable[[float], float]) -> Range:
        """A growing function of all three."""
        return Range(change(self.low), change(self.likely), change(self.high))


NOTHING = Range.exactly(0.0)


def mean_range(values: Sequence[float], of: int) -> Range:
    """The mean of `of` values, `values` being a draw of them; exact where all are there.

    >>> mean_range([10.0, 20.0], of=2)
    Range(low=15.0, likely=15.0, high=15.0)
    """
    mean = fmean(values)
    if len(values) >= of or len(values) < 2:
        return Range.exactly(mean)
    error = Z * stdev(values) / math.sqrt(len(values))
    return Range(max(0.0, mean - error), mean, mean + error)


def share_range(hits: int, n: int) -> Range:
    """A share of which `hits` in `n` were seen: Wilson's 95 % interval.

    >>> share_range(8, 32).each(lambda share: round(share, 3))
    Range(low=0.133, likely=0.25, high=0.421)
    """
    share, square = hits / n, Z * Z / n
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return Range(max(0.0, middle - half), share, min(1.0, middle + half))
