"""Small charts as inline SVG: bars, curves with intervals, scatter, and the boxes of a flow. No script, no font, no file.

    chart("score", "judgements", [Series("judged", [(0, 3), (1, 5)], "bars")])

Colors are classes (`c0`, `c1`, …), so that the page's style decides them, light and dark. Every text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One thing drawn; `intervals` are the ends of a bar through each point, None for no bar."""

    label: str
    points: Sequence[Point]
    kind: Literal["bars", "line", "dashed", "dots"] = "line"
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with."""

    label: str
    y: float


@dataclass(frozen=True)
class _Plane:
    """Maps values to places in the picture."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers within the two.

    >>> ticks(0, 23), ticks(0.1, 0.35)
    ([0, 5, 10, 15, 20], [0.1, 0.15, 0.2, 0.25, 0.3, 0.35])
    """
    rough = (high - low) / n or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    # 0.999, so that a range that is already round does not jump to the next step.
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    # The margins keep an end that floating point puts just outside.
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    values = [round((first + k) * step, 10) for k in range(count)]
    return [int(value) if value == int(value) else value for value in values]


def number(value: float) -> str:
    """A short number for display.

    >>> number(12345.0), number(0.25), number(3), number(-1.5)
    ('12,345', '0.25', '3', '-1.5')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def chart(
    x: str,
    y: str,
    series: Sequence[Series],
    *,
    names: Sequence[str] | None = None,
    levels: Sequence[Level] = (),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    bar_width: float = 1.0,
) -> Markup:
    """A picture with labelled axes; `names` label the places 0, 1, … of the x axis."""
    plane = _plane(series, names, levels, x_range, y_range, bar_width)
    parts = [_axes(plane, x, y, names)]
    n_bars = sum(one.kind == "bars" for one in series)
    for level in levels:
        parts.append(Markup('<line class="level" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, _WIDTH - _RIGHT, plane.y(level.y), plane.y(level.y)))  # fmt: skip
        parts.append(_text(_WIDTH - _RIGHT, plane.y(level.y) - 4, level.label, "end"))
    bars = 0
    for color, one in enumerate(series):
        if one.kind == "bars":
            parts.append(_bars(plane, one, color, bar_width, bars, n_bars))
            bars += 1
        else:
            parts.append(_curve(plane, one, color, names))
    label = f"{y} by {x}: {', '.join(one.label for one in series)}"
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, label, Markup("").join(parts)
    )


def _plane(
    series: Sequence[Series],
    names: Sequence[str] | None,
    levels: Sequence[Level],
    x_range: tuple[float, float] | None,
    y_range: tuple[float, float] | None,
    bar_width: float,
) -> _Plane:
    xs = [p[0] for one in series for p in one.points]
    ys = [p[1] for one in series for p in one.points] + [level.y for level in levels]
    ys += [end for one in series for interval in one.intervals if interval for end in interval]
    half = bar_width / 2 if any(one.kind == "bars" for one in series) else 0.0
    if names is not None:
        x0, x1 = -0.5, len(names) - 0.5
    elif x_range is not None:
        x0, x1 = x_range
    else:
        x0, x1 = min(xs, default=0.0) - half, max(xs, default=1.0) + half
    # Bars start at zero, since their length is read as the value; curves may use the full height.
    low, high = y_range or (min([0.0, *ys]) if half or not ys else min(ys), max(ys, default=1.0))
    room = 0.0 if y_range else 0.08 * (high - low) or 0.5
    low = low if y_range or (low == 0 and half) else low - room
    # A single point has no extent, and any positive one avoids a division by zero.
    return _Plane(x0, x1 if x1 > x0 else x0 + 1, low, high + room if high + room > low else low + 1)


def _axes(plane: _Plane, x: str, y: str, names: Sequence[str] | None) -> Markup:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in ticks(plane.y0, plane.y1):
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                _LEFT, right, plane.y(value), plane.y(value)
            )
        )
        parts.append(_text(_LEFT - 6, plane.y(value) + 4, number(value), "end"))
    places = (
        list(enumerate(names))
        if names is not None
        else [(v, number(v)) for v in ticks(plane.x0, plane.x1, 6)]
    )
    parts += [_text(plane.x(value), bottom + 16, name, "middle") for value, name in places]
    parts.append(Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(_LEFT, _TOP, bottom, right))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 8, x, "middle", "name"))
    middle = (_TOP + bottom) / 2
    turned = Markup(
        '<text class="name" text-anchor="middle" transform="translate(13 {:.0f}) rotate(-90)">{}</text>'
    )
    return Markup("").join([*parts, turned.format(middle, y)])


def _bars(plane: _Plane, one: Series, color: int, width: float, place: int, n_bars: int) -> Markup:
    """Bars of several series are side by side within the width of one."""
    each = 0.86 * width / n_bars
    parts = []
    for value, height in one.points:
        left = plane.x(value - 0.43 * width + place * each)
        top, zero = plane.y(height), plane.y(max(0.0, plane.y0))
        parts.append(
            Markup('<rect class="c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>').format(
                color, left, min(top, zero), max(0.5, plane.x(value + each) - plane.x(value)), abs(zero - top),
                f"{one.label} {number(value)}: {number(height)}",
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
    if one.kind != "line" or names is not None or len(places) == 1:
        radius = 2.2 if one.kind == "dots" else 3.6
        for (x, y), (_, value) in zip(places, one.points, strict=True):
            parts.append(
                Markup(
                    '<circle class="c{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
                ).format(color, x, y, radius, f"{one.label}: {number(value)}")
            )
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    # `Markup.format` escapes its arguments, here and above: labels may come from rows.
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


# -- the flow ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """One dataset or model of a line of the flow; `lost` is shown under the arrow to it."""

    name: str
    said: str
    target: str
    lost: Sequence[str] = ()
    outdated: bool = False


_BOX, _GAP, _TALL = 104, 108, 46


def flow(lines: Sequence[tuple[str, Sequence[Box]]]) -> Markup:
    """Lines of boxes with arrows between them; each box links to a section."""
    width = max((len(boxes) * (_BOX + _GAP) - _GAP for _, boxes in lines), default=_BOX) + 10
    parts, top = [], 4.0
    for label, boxes in lines:
        parts.append(_text(4, top + 12, label, "start", "name"))
        top += 22
        for k, box in enumerate(boxes):
            left = 4 + k * (_BOX + _GAP)
            parts.append(_arrow(left, top, box) if k else Markup(""))
            parts.append(_box(left, top, box))
        top += _TALL + 14 + 13 * max([0, *(len(box.lost) - 1 for box in boxes)])
    return Markup(
        '<svg class="flow" viewBox="0 0 {0} {1:.0f}" width="{0}" height="{1:.0f}" role="img" aria-label="{2}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>{3}</svg>'
    ).format(width, top, "rows from step to step, and what was lost on the way", Markup("").join(parts))


def _arrow(left: float, top: float, box: Box) -> Markup:
    y = top + 16
    line = Markup('<path class="arrow" d="M{:.0f} {:.0f}H{:.0f}" marker-end="url(#tip)"/>').format(
        left - _GAP + 3, y, left - 3
    )
    lost = [
        _text(left - _GAP / 2, y + 14 + 13 * k, text, "middle", "lost") for k, text in enumerate(box.lost)
    ]
    return Markup("").join([line, *lost])


def _box(left: float, top: float, box: Box) -> Markup:
    return Markup(
        '<a href="#{}"><rect class="box{}" x="{:.0f}" y="{:.0f}" width="{}" height="{}" rx="7"/>{}{}</a>'
    ).format(
        box.target, " old" * box.outdated, left, top, _BOX, _TALL,
        _text(left + _BOX / 2, top + 19, box.name, "middle", "name"),
        _text(left + _BOX / 2, top + 36, box.said, "middle", "tick"),
    )  # fmt: skip
