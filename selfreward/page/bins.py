"""The one histogram: bars of round widths, counted by a query that a person can read, for the page and the cards.

    bins = histogram(source, "iter1.candidates", "n_chars")
    bins.query    # SELECT floor(n_chars / 20 + 1e-9) * 20 AS at_least, count(*) AS n FROM iter1.candidates …

A few different values (scores 0 to 5) are counted one by one. The number of bars otherwise grows with the root of the
number of rows, so that few rows give few bars, and whole numbers give bars that hold equally many of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from selfreward.page.figures import Source
from selfreward.page.svg import Point, round_step
from selfreward.text import formatted

_MOST_BARS, _FEWEST_BARS = 40, 6
# Different values up to which each has a bar of its own.
_FEW_VALUES = 12


@dataclass(frozen=True)
class Bins:
    """Bars around their middle, the width of one, and the query that counts them."""

    points: Sequence[Point]
    width: float
    query: str

    @property
    def shown_width(self) -> str:
        """How wide a bar is, in words; empty if each bar is one value."""
        return f"Each bar is {formatted(self.width)} wide." if "floor" in self.query else ""


def histogram(source: Source, rows: str, column: str) -> Bins:
    """How often which values occur; NULL is not counted."""
    facts = source.rows(
        f"SELECT count({column}), count(DISTINCT round({column}, 6)), min({column}), max({column}), "
        f"bool_and({column} = floor({column})) FROM {rows}"
    )[0]
    n, n_distinct, low, high, whole = facts
    if n_distinct <= _FEW_VALUES:
        return _by_value(source, rows, column)
    return _by_width(source, rows, column, bar_width(n, float(low), float(high), bool(whole)))


def bar_width(n: int, low: float, high: float, whole: bool) -> float:
    """A round width for `n` values between the two.

    >>> bar_width(96, 3, 512, whole=True), bar_width(10_000, 0.2, 4.9, whole=False), bar_width(300, 1, 14, whole=True)
    (100.0, 0.2, 1.0)
    """
    bars = min(_MOST_BARS, max(_FEWEST_BARS, math.ceil(math.sqrt(n))))
    width = round_step((high - low) / bars)
    # 2.5 would hold two whole numbers and three in turn.
    return max(1.0, 5.0 if width == 2.5 else width) if whole else width


def _by_value(source: Source, rows: str, column: str) -> Bins:
    # Rounded, since 11/3 - 2 and 5/3 are one margin, but two fractions.
    value = f"round({column}, 6) AS {column}"
    query = f"SELECT {value}, count(*) AS n FROM {rows} WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    points = [(float(value), float(n)) for value, n in source.rows(query)]
    gaps = [b[0] - a[0] for a, b in pairwise(points)]
    return Bins(points, min([1.0, *gaps]), query)


def _by_width(source: Source, rows: str, column: str, width: float) -> Bins:
    # 1e-9, since 0.3 / 0.1 is just below 3.
    lower = f"floor({column} / {width:g} + 1e-9) * {width:g}"
    query = f"SELECT {lower} AS at_least, count(*) AS n FROM {rows} WHERE {column} IS NOT NULL GROUP BY ALL ORDER BY ALL"
    points = [(float(at) + width / 2, float(n)) for at, n in source.rows(query)]
    return Bins(points, width, query)
