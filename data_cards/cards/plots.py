"""The two pictures of an iteration: scores and lengths. The same figures give the same PNG, byte for byte.

Figures are made as objects, without pyplot.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from selfreward.summary.facts import Iteration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#3b6fb6", "#d9822b", "#8a8f98"
_SIZE_INCHES = (8.0, 3.2)
_N_BINS = 24


def draw_plots(
    iteration: Iteration, folder: Path, scale: tuple[float, float] | None = None
) -> dict[str, str]:
    """Write the pictures that have data; returns path in the repository -> caption.

    `scale` is the judge's lowest and highest score: scores that nothing received show as empty.
    """
    drawn = {}
    number = iteration.number
    if iteration.histogram or iteration.scores:
        path = f"images/iter{number}-scores.png"
        _save(_scores(iteration, scale), folder / path)
        drawn[path] = f"Iteration {number}: scores of single judgements, and mean scores of candidates"
    if iteration.lengths.candidates or iteration.lengths.chosen:
        path = f"images/iter{number}-lengths.png"
        _save(_lengths(iteration), folder / path)
        drawn[path] = f"Iteration {number}: characters of all candidates, and of chosen and rejected answers"
    return drawn


def _scores(iteration: Iteration, scale: tuple[float, float] | None) -> Figure:
    figure, (left, right) = _figure()
    values = [score for score, _ in iteration.histogram]
    counts = [n for _, n in iteration.histogram]
    if len(values) > _N_BINS:  # scores from token probabilities are all different
        left.hist(values, bins=_N_BINS, range=scale, weights=counts, color=_BLUE)
    else:
        left.bar(values, counts, width=_bar_width(values), color=_BLUE)
    # the judge's whole range: a score that nothing received must show as empty
    if scale is not None:
        left.set_xlim(scale[0] - 0.5, scale[1] + 0.5)
    unscored = sum(n for status, n in iteration.statuses.items() if status != "ok")
    without = f" ({unscored:,} without a score)" if unscored else ""
    _label(left, f"single judgements{without}", "score", "judgements")
    _histogram(right, [("candidates", iteration.scores, _ORANGE)])
    right.set_xlim(left.get_xlim())
    _label(right, "candidates (mean of their judgements)", "score", "candidates")
    return figure


def _lengths(iteration: Iteration) -> Figure:
    figure, (left, right) = _figure()
    lengths = iteration.lengths
    _histogram(left, [("all", lengths.candidates, _GREY)])
    _label(left, "all candidates", "characters", "answers")
    _histogram(right, [("chosen", lengths.chosen, _BLUE), ("rejected", lengths.rejected, _ORANGE)])
    _label(right, "answers in pairs", "characters", "answers")
    if lengths.chosen:
        right.legend(frameon=False, fontsize=8)
    return figure


def _figure() -> tuple[Figure, tuple[Axes, Axes]]:
    from matplotlib.figure import Figure

    # pyplot would change the user's matplotlib state and may need a display
    figure = Figure(figsize=_SIZE_INCHES, dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _histogram(axes: Axes, series: Sequence[tuple[str, Sequence[float], str]]) -> None:
    """Outlined bars over common bins."""
    import numpy as np

    values = [value for _, numbers, _ in series for value in numbers]
    if not values:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=_GREY)
        return
    # common bins, or chosen and rejected could not be compared; equal values give one bar, not an error
    edges = np.histogram_bin_edges(values, bins=_N_BINS).tolist()
    for label, numbers, colour in series:
        filled = len(series) == 1
        axes.hist(numbers, bins=edges, label=label, color=colour, histtype="stepfilled" if filled else "step",
                  linewidth=1.6)  # fmt: skip


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _bar_width(values: Sequence[float]) -> float:
    """A bar fills most of the space to its nearest neighbour."""
    gaps = [b - a for a, b in pairwise(values)]
    return 0.8 * min(gaps, default=1.0)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # the library's version would change the bytes
