"""Figures of reports: a value, its denominator, and a bootstrap confidence interval.

Every statistic in this package is a function of sums over units (prompts, or pairs of responses), so one routine serves
them all: draw the units with replacement, add up, apply the function, take percentiles. All figures of one report use
the same resamples, so that their intervals can be compared.

Promises: the same numbers for the same units in the same order and the same seed; never NaN (an undefined figure is
None); resamples in which a figure is undefined are left out and counted. Not promised: good coverage with a handful of
units, where a percentile bootstrap is too narrow.

Agreement of several readings is Krippendorff's alpha, 1 - observed / expected disagreement (Klaus Krippendorff,
"Computing Krippendorff's Alpha-Reliability", 2011, "any number of observers, any metric, missing data"): 1 is perfect,
0 is chance level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Metric = Literal["nominal", "interval"]
Readings = Sequence[Sequence[float | None]]

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

    def shown(self, scale: float = 100.0, digits: int = 1, sign: str = "") -> str:
        """The value, in percent by default, with its interval; `-` where there is none.

        >>> Figure(0.065, 0.021, 0.108, 330, "prompts").shown(sign="+")
        '+6.5 [+2.1, +10.8]'
        """
        if self.value is None:
            return "-"
        # z: -0.0 is printed as 0.0.
        value, *ends = (
            f"{scale * x:{sign}z.{digits}f}" for x in (self.value, self.low, self.high) if x is not None
        )
        return f"{value} [{', '.join(ends)}]" if len(ends) == 2 else value


@dataclass(frozen=True, slots=True)
class Share:
    """A numerator and a denominator per unit; the figure is the ratio of their sums."""

    numerator: Floats
    denominator: Floats
    of: str
    n_undefined: int = 0


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """How far the sampled judgements of one response agree with each other.

    `all_agree`: share of responses whose scored samples are all equal. `variance`: mean over responses of the
    sample variance (divisor m - 1), in squared score points. `alpha`: Krippendorff's alpha, interval metric.
    All three are over responses with at least two scored samples; `n_left_out` counts the others.
    """

    all_agree: Figure
    variance: Figure
    alpha: Figure
    n_responses: int
    n_left_out: int
    n_samples: int
    n_unscored_samples: int


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


def rate_by_unit(found: Iterable[tuple[str, bool | None]], units: Sequence[str]) -> tuple[Floats, Floats]:
    """Yes and all answers of each unit, from (unit, answer); None and units that are not asked for count in neither."""
    place = {unit: index for index, unit in enumerate(units)}
    yes, total = np.zeros(len(units)), np.zeros(len(units))
    for unit, answer in found:
        if answer is not None and unit in place:
            yes[place[unit]] += answer
            total[place[unit]] += 1
    return yes, total


def paired_difference(
    a: Sequence[tuple[str, bool | None]], b: Sequence[tuple[str, bool | None]], of: str = "prompts"
) -> Figure:
    """The rate of `a` minus the rate of `b` over the units of both; the interval resamples units, each with its answers.

    >>> gain = paired_difference([("p", True), ("q", True)], [("p", False), ("q", True)])
    >>> gain.value, gain.n
    (0.5, 2)
    """
    units = sorted({unit for unit, _ in a} & {unit for unit, _ in b})
    sums = np.stack([*rate_by_unit(a, units), *rate_by_unit(b, units)], axis=1)
    value = _difference(sums.sum(axis=0)[None])
    resampled = _difference(Resampler(len(units), 2000).totals(sums)) if units else None
    return make_figure(float(value[0]), resampled, n=len(units), of=of, n_units=len(units))


def _difference(totals: Floats) -> Floats:
    return ratio(totals[:, 0], totals[:, 1]) - ratio(totals[:, 2], totals[:, 3])


def open_share(counted: Mask, unknown: Mask, of: str = "prompts", n_resamples: int = 2000) -> Figure:
    """Share of the known units; the interval counts unknown ones against it (low) and for it (high)."""
    n_known, n_unknown = int((~unknown).sum()), int(unknown.sum())
    if not n_known:
        return Figure(None, None, None, 0, of, n_unknown)
    sure = counted & ~unknown
    value = float(sure.sum() / n_known)
    if len(counted) < 2:
        return Figure(value, None, None, n_known, of, n_unknown)
    low, high = open_interval(sure.astype(float), (counted | unknown).astype(float), n_resamples)
    return Figure(value, low, high, n_known, of, n_unknown, n_resamples)


def open_interval(least: Floats, most: Floats, n_resamples: int) -> tuple[float, float]:
    """95 % interval of a mean of partly unknown units, from the smallest and largest value that each may have."""
    means = Resampler(len(least), n_resamples).totals(np.stack([least, most], axis=1)) / len(least)
    return float(np.percentile(means[:, 0], 2.5)), float(np.percentile(means[:, 1], 97.5))


def drawn(items: Iterable[str], n_max: int | None) -> set[str]:
    """At most `n_max` of the items."""
    # Those with the smallest SHA-256, so that the choice does not depend on the order of the items.
    items = set(items)
    return set(sorted(items, key=lambda item: hashlib.sha256(item.encode()).digest())[:n_max])


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element, NaN if the denominator is not positive."""
    result: Floats = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def count_by(unit: NDArray[np.intp], weights: NDArray[Any], n_units: int) -> Floats:
    """The sums of `weights` by `unit`, zero for units that do not occur."""
    sums: Floats = np.bincount(unit, weights=weights.astype(np.float64), minlength=n_units).astype(np.float64)
    return sums


def krippendorff_alpha(units: Readings, metric: Metric = "interval") -> float | None:
    """Krippendorff's alpha over units, each a list of readings with None for a missing one.

    None if it is undefined: no unit has two readings, or all readings are equal.

    >>> krippendorff_alpha([[1, 1], [2, 2], [3, None]])
    1.0
    """
    sums = _unit_sums([[value for value in unit if value is not None] for unit in units], metric)
    alpha = float(_alpha(sums.sum(axis=0, keepdims=True))[0])
    return alpha if np.isfinite(alpha) else None


def alpha_figure(
    units: Readings, metric: Metric, cluster: NDArray[np.intp], resampler: Resampler, of: str
) -> Figure:
    """Alpha with an interval; `cluster[k]` is the cluster (prompt) of unit k."""
    # Whole prompts are resampled: the responses to one prompt are not independent.
    readings = [[value for value in unit if value is not None] for unit in units]
    sums = _unit_sums(readings, metric)
    per_cluster = np.stack([count_by(cluster, column, resampler.n_units) for column in sums.T], axis=1)
    value = float(_alpha(per_cluster.sum(axis=0, keepdims=True))[0])
    resampled = _alpha(resampler.totals(per_cluster)) if resampler.n_resamples else None
    n_units = int(np.count_nonzero(per_cluster[:, 0]))
    return make_figure(value, resampled, n=int(np.count_nonzero(sums[:, 0])), of=of, n_units=n_units)


def self_consistency(samples: Readings, prompt: NDArray[np.intp], resampler: Resampler) -> SelfConsistency:
    """Agreement between the samples of each response; `prompt[k]` is the prompt of response k."""
    scored = [np.array([value for value in unit if value is not None], dtype=np.float64) for unit in samples]
    repeated = [len(unit) > 1 for unit in scored]
    agree = [twice and bool(np.all(unit == unit[0])) for unit, twice in zip(scored, repeated, strict=True)]
    variance = [
        float(np.var(unit, ddof=1)) if twice else 0.0 for unit, twice in zip(scored, repeated, strict=True)
    ]
    n_repeated = count_by(prompt, np.array(repeated), resampler.n_units)
    shares = {
        "all_agree": Share(count_by(prompt, np.array(agree), resampler.n_units), n_repeated, "responses"),
        "variance": Share(count_by(prompt, np.array(variance), resampler.n_units), n_repeated, "responses"),
    }
    n_samples = sum(len(unit) for unit in samples)
    return SelfConsistency(
        **share_figures(shares, resampler),
        alpha=alpha_figure(samples, "interval", prompt, resampler, "responses"),
        n_responses=sum(repeated),
        n_left_out=len(samples) - sum(repeated),
        n_samples=n_samples,
        n_unscored_samples=n_samples - sum(len(unit) for unit in scored),
    )


def _unit_sums(units: Sequence[Sequence[float]], metric: Metric) -> Floats:
    """Per unit: m, sum of |v|^2, disagreement within, sum of v by dimension; zeros with fewer than two readings."""
    n_values = np.array([len(unit) for unit in units], dtype=np.intp)
    unit = np.repeat(np.arange(len(units)), n_values)
    points = _points(np.array([value for values in units for value in values], dtype=np.float64), metric)
    sums = np.stack([count_by(unit, column, len(units)) for column in points.T], axis=1)
    squares = count_by(unit, (points**2).sum(axis=1), len(units))
    pairable = n_values > 1
    # With squared distances the pairs need not be listed: over m values the sum of (v_i - v_j)^2 is m *
    # sum(v^2) - sum(v)^2, up to a factor that cancels.
    within = (n_values * squares - (sums**2).sum(axis=1)) / np.maximum(n_values - 1, 1)
    table: Floats = np.column_stack([n_values, squares, within, sums])
    # Units with fewer than two readings are left out, as in the definition.
    table[~pairable] = 0.0
    return table


def _points(values: Floats, metric: Metric) -> Floats:
    """Values as points whose squared distances are the metric's: (n, 1) or one indicator per category."""
    # The nominal metric is the same formula on indicator vectors.
    if metric == "nominal" and values.size:
        indicators: Floats = (values[:, None] == np.unique(values)[None, :]).astype(np.float64)
        return indicators
    # Relative to the smallest value, so that equal readings give exact zeros.
    points: Floats = (values - values.min(initial=np.inf))[:, None]
    return points


def _alpha(totals: Floats) -> Floats:
    """Alpha of each row of totals in the layout of `_unit_sums`; NaN if the expected disagreement is 0."""
    n, squares, within = totals[:, 0], totals[:, 1], totals[:, 2]
    expected = n * squares - (totals[:, 3:] ** 2).sum(axis=1)
    # Relative, since rounding leaves a small rest if all readings are equal.
    defined = expected > 1e-9 * np.maximum(n * squares, 1e-300)
    safe = np.where(defined, expected, 1.0)
    alpha: Floats = np.where(defined, 1 - (n - 1) * within / safe, np.nan)
    return alpha
