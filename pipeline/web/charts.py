"""Geometry of the line charts: where lines, ticks and marks lie. The templates write the SVG, so that they escape all text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.web.text import figure

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26

Series = Mapping[str, Sequence[float | None]]
Whiskers = Mapping[str, Sequence[tuple[float, float] | None]]


@dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        points: `x,y x,y …` in the chart's units, a string a stretch without gaps.
        dots: positions of all values, drawn where they are few.
        whiskers: (x, y of the low end, y of the high end) of the values whose interval is known.
        last: the value at the end, for the legend.
    """

    name: str
    points: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    whiskers: tuple[tuple[float, float, float], ...]
    last: str


@dataclass(frozen=True)
class LineChart:
    """A chart of `WIDTH` x `HEIGHT` units.

    Attributes:
        x_ticks, y_ticks: (position, label).
        mark: x of the vertical line, or None.
        description: what the chart says, for those who do not see it.
    """

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    mark: float | None
    description: str

    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def line_chart(
    title: str,
    x: Sequence[float],
    series: Series,
    mark: float | None = None,
    unit_range: bool = False,
    whiskers: Whiskers | None = None,
) -> LineChart:
    """Lines over a common x; None is a gap.

    Args:
        mark: x at which a vertical line stands.
        unit_range: the values are shares, and the axis goes from 0 to 1.
        whiskers: the interval of each value, by the names of `series`.
    """
    intervals: Whiskers = whiskers or {name: [None] * len(x) for name in series}
    known = [value for values in series.values() for value in values if value is not None]
    known += [end for ends in intervals.values() for pair in ends if pair for end in pair]
    y_values = [0.0, 0.25, 0.5, 0.75, 1.0] if unit_range else ticks(min(known), max(known), 5)
    x_low, x_high = min(x), max(x)
    y_low, y_high = y_values[0], y_values[-1]

    def at_x(value: float) -> float:
        share = (value - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def at_y(value: float) -> float:
        return round(TOP + (y_high - value) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for name, values in series.items():
        dots = [None if value is None else (at_x(position), at_y(value)) for position, value in zip(x, values, strict=True)]
        last = next((value for value in reversed(values) if value is not None), None)
        bars = tuple((at_x(at), at_y(ends[0]), at_y(ends[1])) for at, ends in zip(x, intervals[name], strict=True) if ends)
        lines.append(Line(name, _stretches(dots), tuple(dot for dot in dots if dot), bars, _shown(last)))
    # The first epoch is always named; a round number too close to it is not.
    apart = [value for value in ticks(x_low, x_high, 6) if x_low + 0.08 * (x_high - x_low) < value <= x_high]
    named = [x_low, *(value for value in apart if value == round(value))]
    return LineChart(
        title=title,
        lines=tuple(lines),
        x_ticks=tuple((at_x(value), f"{value:.0f}") for value in named),
        y_ticks=tuple((at_y(value), _label(value, y_high)) for value in y_values),
        mark=None if mark is None else at_x(mark),
        description=f"{title}: " + "; ".join(_told(name, values) for name, values in series.items()),
    )


def _stretches(dots: Sequence[tuple[float, float] | None]) -> tuple[str, ...]:
    stretches: list[list[str]] = [[]]
    for dot in dots:
        if dot is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{dot[0]:g},{dot[1]:g}")
    return tuple(" ".join(stretch) for stretch in stretches if len(stretch) > 1)


def _told(name: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{name} from {_shown(known[0])} to {_shown(known[-1])}" if known else f"{name} without values"


def _shown(value: float | None) -> str:
    small = value is not None and 0 < abs(value) < 0.01
    return f"{value:.2g}" if small else figure(value)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low and high, about `most` of them."""
    if high <= low:
        pad = abs(high) / 10 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _label(value: float, highest: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if value and abs(highest) < 0.0005 else f"{value:.6g}"
