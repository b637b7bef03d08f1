"""How far several readings of one thing agree: Krippendorff's alpha, and a judge's agreement with itself.

    alpha = 1 - observed disagreement / disagreement expected by chance

after Klaus Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), University of Pennsylvania,
section "any number of observers, any metric, missing data". 1 is perfect, 0 is what chance gives, below 0 is
systematic disagreement. Things read fewer than twice cannot be compared and are left out, as the definition has it.

With squared distances the pairs need not be listed: over m values the sum of (v_i - v_j)^2 is
m * sum(v^2) - sum(v)^2, up to a factor that cancels. The nominal metric is the same formula on indicator vectors (two
different categories are all equally far apart), so one implementation serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from selfreward.statistics import Figure, Floats, Resampler, Share, count_by, make_figure, share_figures

Metric = Literal["nominal", "interval"]
Readings = Sequence[Sequence[float | None]]


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


def krippendorff_alpha(units: Readings, metric: Metric = "interval") -> float | None:
    """Krippendorff's alpha over units, each a list of readings with None for a missing one.

    None where it is undefined: no unit was read twice, or all readings are the same (nothing to disagree about).

    >>> krippendorff_alpha([[1, 1], [2, 2], [3, None]])
    1.0
    """
    sums = _unit_sums([[value for value in unit if value is not None] for unit in units], metric)
    alpha = float(_alpha(sums.sum(axis=0, keepdims=True))[0])
    return alpha if np.isfinite(alpha) else None


def alpha_figure(
    units: Readings, metric: Metric, cluster: NDArray[np.intp], resampler: Resampler, of: str
) -> Figure:
    """Alpha with an interval; whole clusters (prompts) are resampled, `cluster[k]` being that of unit k."""
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
    """Per unit: m, sum of |v|^2, disagreement within, then sum of v by dimension; zeros if read fewer than twice."""
    n_values = np.array([len(unit) for unit in units], dtype=np.intp)
    unit = np.repeat(np.arange(len(units)), n_values)
    points = _points(np.array([value for values in units for value in values], dtype=np.float64), metric)
    sums = np.stack([count_by(unit, column, len(units)) for column in points.T], axis=1)
    squares = count_by(unit, (points**2).sum(axis=1), len(units))
    pairable = n_values > 1
    within = (n_values * squares - (sums**2).sum(axis=1)) / np.maximum(n_values - 1, 1)
    table: Floats = np.column_stack([n_values, squares, within, sums])
    table[~pairable] = 0.0
    return table


def _points(values: Floats, metric: Metric) -> Floats:
    """Values as points whose squared distances are the metric's: (n, 1) or one indicator per category."""
    if metric == "nominal" and values.size:
        indicators: Floats = (values[:, None] == np.unique(values)[None, :]).astype(np.float64)
        return indicators
    # From the smallest value, so that equal readings give exact zeros.
    points: Floats = (values - values.min(initial=np.inf))[:, None]
    return points


def _alpha(totals: Floats) -> Floats:
    """Alpha of each row of totals as `_unit_sums` lays them out; NaN where chance disagreement is nil."""
    n, squares, within = totals[:, 0], totals[:, 1], totals[:, 2]
    expected = n * squares - (totals[:, 3:] ** 2).sum(axis=1)
    defined = expected > 1e-9 * np.maximum(n * squares, 1e-300)
    safe = np.where(defined, expected, 1.0)
    alpha: Floats = np.where(defined, 1 - (n - 1) * within / safe, np.nan)
    return alpha
