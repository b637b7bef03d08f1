"""Figures of reports: a value, its denominator, and a bootstrap confidence interval.

Every statistic in this package is a function of sums over units (prompts, or pairs of responses), so one routine serves
them all: draw the units with replacement, add up, apply the function, take percentiles. All figures of one report use
the same resamples, so that their intervals can be compared.

Promises: the same numbers for the same units in the same order and the same seed; never NaN (an undefined figure is
None); resamples in which a figure is undefined are left out and counted. Not promised: good coverage with a handful of
units, where a percentile bootstrap is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
# Cells of the weight matrix held at a time (8 MB), whatever the number of prompts.
_CELLS_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A statistic with its 95 % percentile interval.

    `n` counts what `of` names (pairs, responses, prompts): the figure's own denominator. `n_undefined` counts
    the units for which the statistic is undefined; the measure's docstring says how they are treated.
    `n_resamples` is how many resamples had a value; low and high are None if fewer than two units count.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    of: str
    n_undefined: int = 0
    n_resamples: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """A numerator and a denominator per unit; the figure is the ratio of their sums."""

    numerator: Floats
    denominator: Floats
    of: str
    n_undefined: int = 0


@dataclass(frozen=True, slots=True)
class Resampler:
    """Draws `n_units` units with replacement, `n_resamples` times, always the same ones for the same seed."""

    n_units: int
    n_resamples: int = 1000
    seed: int = 0

    def apply(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """`statistic` of all resamples: it maps weights (block, n_units), how often each unit was drawn, to (block, …)."""
        generator = np.random.default_rng(self.seed)
        at_once = max(1, _CELLS_AT_ONCE // max(1, self.n_units))
        blocks = []
        for start in range(0, self.n_resamples, at_once):
            size = min(at_once, self.n_resamples - start)
            drawn = generator.integers(self.n_units, size=(size, self.n_units))
            # Each resample gets its own range of numbers, so that one bincount counts all of the block.
            drawn += np.arange(size)[:, None] * self.n_units
            counts = np.bincount(drawn.ravel(), minlength=size * self.n_units)
            blocks.append(statistic(counts.reshape(size, self.n_units).astype(np.float64)))
        return np.concatenate(blocks)

    def totals(self, per_unit: Floats) -> Floats:
        """Sums over each resample: (n_units, k) in, (n_resamples, k) out."""
        return self.apply(lambda weights: weights @ per_unit)


def make_figure(
    value: float, resampled: Floats | None, *, n: int, of: str, n_units: int, n_undefined: int = 0
) -> Figure:
    """A figure from its value and its value in each resample, NaN if undefined.

    `n_units` is how many units carry weight: with fewer than two there is nothing to resample and no interval.
    """
    if not np.isfinite(value):
        return Figure(None, None, None, n, of, n_undefined)
    defined = np.empty(0) if resampled is None else resampled[np.isfinite(resampled)]
    if defined.size == 0 or n_units < 2:
        return Figure(float(value), None, None, n, of, n_undefined)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Figure(float(value), float(low), float(high), n, of, n_undefined, int(defined.size))


def share_figures(shares: Mapping[str, Share], resampler: Resampler) -> dict[str, Figure]:
    """All shares of a report in one pass over the resamples."""
    numerators = np.stack([share.numerator for share in shares.values()], axis=1)
    denominators = np.stack([share.denominator for share in shares.values()], axis=1)
    width = len(shares)
    values = ratio(numerators.sum(axis=0), denominators.sum(axis=0))
    resampled = None
    if resampler.n_resamples and resampler.n_units:
        totals = resampler.totals(np.hstack([numerators, denominators]))
        resampled = ratio(totals[:, :width], totals[:, width:])
    return {
        name: make_figure(
            values[k],
            None if resampled is None else resampled[:, k],
            n=round(share.denominator.sum()),
            of=share.of,
            n_units=int(np.count_nonzero(share.denominator)),
            n_undefined=share.n_undefined,
        )
        for k, (name, share) in enumerate(shares.items())
    }


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element, NaN if the denominator is not positive."""
    result: Floats = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def count_by(unit: NDArray[np.intp], weights: NDArray[Any], n_units: int) -> Floats:
    """The sums of `weights` by `unit`, zero for units that do not occur."""
    sums: Floats = np.bincount(unit, weights=weights.astype(np.float64), minlength=n_units).astype(np.float64)
    return sums
