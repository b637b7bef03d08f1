"""A measure by model, M0 to Mk: one row a figure, one kind of chart, one sentence on how it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.page.svg import Chart, Level, Series
from selfreward.statistics import Figure


@dataclass(frozen=True)
class ModelFigure:
    """One number of one model; `figure` names the curve it belongs to."""

    model: str
    figure: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def in_percent(figure: Figure | None, model: str, label: str = "this run") -> ModelFigure:
    """A share of `selfreward.statistics` as a row in percent."""
    if figure is None:
        return ModelFigure(model, label, None)
    value, low, high = (None if x is None else 100 * x for x in (figure.value, figure.low, figure.high))
    return ModelFigure(model, label, value, low, high, figure.n)


def by_model(
    y: str,
    figures: Sequence[ModelFigure],
    *,
    x: str = "model",
    levels: Sequence[Level] = (),
    paper: Mapping[str, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Chart | None:
    """A curve through the models for each figure, with intervals, and the paper's beside it; None without a value."""
    names = list(dict.fromkeys(figure.model for figure in figures))
    series = []
    for label in dict.fromkeys(figure.figure for figure in figures):
        found = [f for f in figures if f.figure == label and f.value is not None]
        points = [(float(names.index(f.model)), f.value) for f in found if f.value is not None]
        series += [Series(label, points, "line", [f.ends for f in found])] if points else []
    # Alone, the paper's curve would look like a result of this run.
    theirs = (
        [(float(k), paper[name]) for k, name in enumerate(names) if name in paper] if paper and series else []
    )
    series += [Series("the paper", theirs, "dashed")] if theirs else []
    return Chart(x, y, series, names, levels, y_range=y_range) if series else None


def change(figures: Sequence[ModelFigure], unit: str) -> str:
    """The last model beside the first, in one sentence; empty without two intervals."""
    known = [figure for figure in figures if figure.value is not None and figure.ends is not None]
    if len(known) < 2:
        return ""
    first, last = known[0], known[-1]
    by = (last.value or 0.0) - (first.value or 0.0)
    told = f"From {first.model} to {last.model} it changed by {by:+.1f} {unit}"
    # Two intervals that share no value differ beyond doubt; two that overlap may still differ.
    apart = first.ends and last.ends and (first.ends[1] < last.ends[0] or last.ends[1] < first.ends[0])
    return f"{told}; the intervals {'are apart' if apart else 'overlap, so chance alone can explain it'}."


def interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"
