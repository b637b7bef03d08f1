"""Small charts as SVG: bars, curves with intervals, scatter. No script, no font, nothing loaded.

    Chart("score", "judgements", [Series("judged", [(0, 3), (1, 5)], "bars")]).inline()

Colors are classes (`c0`, `c1`, …) that `plots.css` defines, light and dark, for the page and for a picture in a file of
its own. Every text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from selfreward.secrets import mask, mask_values
from selfreward.text import formatted, printable, shorten

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 44
# Of a picture in a file: room for its title and legend.
_HEAD, _LINE = 34, 18
# Of one character on an axis.
_CHAR_PX = 6.0
N_COLORS = 5

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One thing drawn; `intervals` are the ends of a bar through each point, None for no bar."""

    label: str
    points: Sequence[Point]
    kind: Literal["bars", "line", "dashed", "dots"] = "line"
    intervals: Sequence[tuple[float, float] | None] = ()
    guide: bool = False
    """Whether it is a guide for the eye and holds no figure of the run."""


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    label: str
    y: float


@dataclass(frozen=True)
class Chart:
    """A picture with labelled axes; `names` label the places 0, 1, … of the x axis."""

    x: str
    y: str
    series: Sequence[Series]
    names: Sequence[str] | None = None
    levels: Sequence[Level] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    bar_width: float = 1.0

    @property
    def legend(self) -> list[str]:
        """What the colors mean, in their order; nothing for a single one."""
        return [one.label for one in self.series] if len(self.series) > 1 else []

    def inline(self) -> Markup:
        """For a page that has `plots.css`."""
        label = _clean(f"{self.y} by {self.x}: {', '.join(one.label for one in self.series)}")
        return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            _WIDTH, _HEIGHT, label, self._drawn()
        )

    def file(self, title: str) -> str:
        """A picture that stands alone, with its title, its legend and the style in it."""
        style = Markup(Path(__file__).with_name("plots.css").read_text("utf-8"))
        head, parts = _HEAD, [_text(14, 22, title, "start", "title")]
        left = 14.0
        for color, label in enumerate(self.legend):
            wide = 26 + _CHAR_PX * len(label)
            if left + wide > _WIDTH and left > 14:
                left, head = 14.0, head + _LINE
            parts.append(Markup('<rect class="c{}" x="{:.0f}" y="{}" width="10" height="10" rx="2"/>').format(
                color % N_COLORS, left, head))  # fmt: skip
            parts.append(_text(left + 15, head + 9, label, "start"))
            left += wide
        head += _LINE if self.legend else 0
        return str(
            Markup(
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img">'
                '<title>{2}</title><style>{3}</style><rect class="ground" width="{0}" height="{1}" rx="8"/>{4}'
                '<g transform="translate(0 {5})">{6}</g></svg>\n'
            ).format(
                _WIDTH, _HEIGHT + head, _clean(title), style, Markup("").join(parts), head, self._drawn()
            )
        )

    def _drawn(self) -> Markup:
        plane = self._plane()
        parts = [self._axes(plane), *self._levels(plane)]
        n_bars = sum(one.kind == "bars" for one in self.series)
        bars = 0
        for color, one in enumerate(self.series):
            if one.kind == "bars":
                parts.append(_bars(plane, one, color % N_COLORS, self.bar_width, bars, n_bars, self.names))
                bars += 1
            else:
                parts.append(_curve(plane, one, color % N_COLORS, self.names))
        return Markup("").join(parts)

    def _plane(self) -> _Plane:
        xs = [p[0] for one in self.series for p in one.points]
        ys = [p[1] for one in self.series for p in one.points] + [level.y for level in self.levels]
        ys += [end for one in self.series for interval in one.intervals if interval for end in interval]
        has_bars = any(one.kind == "bars" for one in self.series)
        half = self.bar_width / 2 if has_bars else 0.0
        if self.names is not None:
            x0, x1 = -0.5, len(self.names) - 0.5
        elif self.x_range is not None:
            x0, x1 = self.x_range
        else:
            x0, x1 = min(xs, default=0.0) - half, max(xs, default=1.0) + half
            # A dot on the edge would be cut.
            edge = 0.03 * (x1 - x0) if any(one.kind == "dots" for one in self.series) else 0.0
            x0, x1 = x0 if x0 == 0 else x0 - edge, x1 + edge
        # Bars start at zero, since their length is read as the value; curves may use the full height.
        low = min([0.0, *ys]) if has_bars or not ys else min(ys)
        high = max([0.0, *ys]) if has_bars else max(ys, default=1.0)
        room = 0.08 * (high - low) or 0.5
        # No room beyond the zero that bars stand on.
        low = low if has_bars and low == 0 else low - room
        high = high if has_bars and high == 0 and low < 0 else high + room
        low, high = self.y_range or (low, high)
        # A single point has no extent, and any positive one avoids a division by zero.
        # Levels are named beside the plot, where no curve crosses their names.
        names = max((len(level.label) for level in self.levels), default=0)
        right = _WIDTH - max(_RIGHT, 10 + _CHAR_PX * names if names else 0)
        return _Plane(x0, x1 if x1 > x0 else x0 + 1, low, high if high > low else low + 1, right)

    def _levels(self, plane: _Plane) -> list[Markup]:
        parts, above = [], -math.inf
        for level in sorted(self.levels, key=lambda level: -level.y):
            y = plane.y(level.y)
            parts.append(Markup('<line class="level" x1="{}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, plane.right, y, y))  # fmt: skip
            # Moved down where it would touch the name above.
            above = max(y + 4, above + 13)
            parts.append(_text(plane.right + 5, above, level.label, "start"))
        return parts

    def _axes(self, plane: _Plane) -> Markup:
        bottom, right = _HEIGHT - _BOTTOM, plane.right
        parts = []
        counts = all(one.kind == "bars" and all(y == int(y) for _, y in one.points) for one in self.series)
        for value in ticks(plane.y0, plane.y1, whole=counts):
            parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    _LEFT, right, plane.y(value), plane.y(value)
                )
            )
            parts.append(_text(_LEFT - 6, plane.y(value) + 4, formatted(value), "end"))
        if self.names is None:
            steps = all(x == int(x) for one in self.series for x, _ in one.points)
            places = [(value, formatted(value)) for value in ticks(plane.x0, plane.x1, 6, whole=steps)]
        else:
            fit = max(4, int((right - _LEFT) / max(1, len(self.names)) / _CHAR_PX) - 1)
            places = [(float(k), shorten(name, fit)) for k, name in enumerate(self.names)]
        parts += [_text(plane.x(value), bottom + 16, name, "middle") for value, name in places]
        parts.append(Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(_LEFT, _TOP, bottom, right))
        parts.append(_text((_LEFT + right) / 2, _HEIGHT - 8, self.x, "middle", "name"))
        turned = Markup(
            '<text class="name" text-anchor="middle" transform="translate(13 {:.0f}) rotate(-90)">{}</text>'
        )
        return Markup("").join([*parts, turned.format((_TOP + bottom) / 2, self.y)])


@dataclass(frozen=True)
class _Plane:
    """Maps values to places in the picture."""

    x0: float
    x1: float
    y0: float
    y1: float
    right: float
    """Where the axes end, in the picture."""

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)


def ticks(low: float, high: float, n: int = 5, whole: bool = False) -> list[float]:
    """About `n` round numbers within the two, only whole ones if asked for.

    >>> ticks(0, 23), ticks(0.1, 0.35)
    ([0, 5, 10, 15, 20], [0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
    """
    step = round_step((high - low) / n)
    # 2.5 is a round number, but no whole one.
    step = max(1.0, 5.0 if step == 2.5 else step) if whole else step
    # The margins keep an end that floating point puts just outside.
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    values = [round((first + k) * step, 10) for k in range(count)]
    return [int(value) if value == int(value) else value for value in values]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `least`.

    >>> round_step(0.3), round_step(21), round_step(0)
    (0.5, 25.0, 1.0)
    """
    least = least or 1.0
    power = 10.0 ** math.floor(math.log10(least))
    # 0.999, so that a range that is already round does not jump to the next step.
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least * 0.999)


def _bars(
    plane: _Plane, one: Series, color: int, width: float, place: int, n_bars: int, names: Sequence[str] | None
) -> Markup:
    """Bars of several series are side by side within the width of one."""
    each = 0.86 * width / n_bars
    parts = []
    for value, height in one.points:
        left = plane.x(value - 0.43 * width + place * each)
        top, zero = plane.y(height), plane.y(min(max(0.0, plane.y0), plane.y1))
        at = formatted(value) if names is None else names[int(value)]
        parts.append(
            Markup('<rect class="c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
                color, left, min(top, zero), max(0.5, plane.x(value + each) - plane.x(value) - 0.5), abs(zero - top),
                _clean(f"{one.label}, {at}: {formatted(height)}"),
            )
        )  # fmt: skip
    return Markup("").join(parts)


def _curve(plane: _Plane, one: Series, color: int, names: Sequence[str] | None) -> Markup:
    places = [(plane.x(x), plane.y(y)) for x, y in one.points]
    parts = []
    if one.kind in ("line", "dashed") and len(places) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(
            Markup('<path class="s{}{}" d="{}"/>').format(color, " dashed" * (one.kind == "dashed"), path)
        )
    for (x, _), ends in zip(places, one.intervals, strict=False):
        if ends is not None:
            low, high = plane.y(ends[0]), plane.y(ends[1])
            path = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 5:.1f} {low:.1f}h10M{x - 5:.1f} {high:.1f}h10"
            parts.append(Markup('<path class="s{}" d="{}"/>').format(color, path))
    # A line over many steps needs no dots; a single point would be invisible without one.
    if not one.guide and (one.kind != "line" or names is not None or len(places) == 1):
        radius = 2.8 if one.kind == "dots" else 3.6
        for (x, y), (at, value) in zip(places, one.points, strict=True):
            named = formatted(at) if names is None else names[int(at)]
            parts.append(
                Markup(
                    '<circle class="c{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
                ).format(color, x, y, radius, _clean(f"{one.label}, {named}: {formatted(value)}"))
            )
    return Markup("").join(parts)


def _clean(text: str) -> str:
    """A label without secrets and without control characters, which no SVG file may hold."""
    return printable(mask(mask_values(text)))


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    # `Markup.format` escapes its arguments, here and above: labels may come from rows.
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, _clean(text)
    )
