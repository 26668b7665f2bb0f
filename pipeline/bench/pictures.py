"""Pictures of a comparison: ratios with their intervals, the times of each pair as distributions, and mAP against latency.

Names come from records of other machines; what no font here has is written in escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import fonts
from pipeline.bench.cells import Cell
from pipeline.bench.compare import Row
from pipeline.bench.recommend import Candidate, Recommendation
from pipeline.metrics.pictures import ACCENT, ALARM, FAINT, INK, MUTED, SERIES, save, style, subtitle

MOST_BARS = 40
MOST_PANELS = 24
MOST_NAMED_POINTS = 14
_COLUMNS = 3


def ratios(path: Path, rows: Sequence[Row], title: str) -> int:
    """A bar a row, from 1 to its ratio on a logarithmic axis, with the interval. Right of 1 the other record is faster than the
    base, left of it slower; grey where the interval holds 1. Returns how many rows did not fit in."""
    shown = rows[:MOST_BARS]
    several = len({row.other.record for row in rows}) > 1
    places = np.arange(len(shown))[::-1]
    values = np.array([row.ratio.value for row in shown])
    limits = np.array([(row.ratio.low, row.ratio.high) for row in shown])
    with style():
        figure, axes = _axes(8.2, 1.5 + 0.42 * len(shown))
        colours = [MUTED if row.ratio.is_noise else ACCENT if row.ratio.value > 1 else ALARM for row in shown]
        axes.barh(places, values - 1, left=1, height=0.56, color=colours, alpha=0.85)
        errors = np.abs(limits.T - values)
        axes.errorbar(values, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1.3, capsize=3)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xscale("log")
        low, high = min(1, float(limits.min())), max(1, float(limits.max()))
        span = max(high / low, 1.2)
        axes.set_xlim(low / span**0.08, high * span**0.28)  # room for the figures at the right
        for place, row in zip(places, shown, strict=True):
            told = f"{_times(row.ratio.value)}  [{_times(row.ratio.low)}, {_times(row.ratio.high)}]"
            told = f"{told}  unlike" if row.unlike else told
            at = (max(1, row.ratio.high), place)
            axes.annotate(told, at, (7, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9)
        _plain_ticks(axes.xaxis, axes.get_xlim(), "×")
        axes.set_yticks(places, [_row_name(row, several) for row in shown], fontsize=9.5)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_title(title)
        subtitle(axes, f"times as fast as {_legible(shown[0].base.record)}, 95 % interval; grey: no difference beyond the noise")
        save(figure, path)
    return len(rows) - len(shown)


def distributions(path: Path, rows: Sequence[Row], phase: str) -> int:
    """A panel a row: which share of the images took at most so long, a line for each record (the empirical distribution
    function), with half of them and 99 of 100 marked. Returns how many rows did not fit in."""
    shown = rows[:MOST_PANELS]
    names = list(dict.fromkeys(cell.record for row in rows for cell in (row.base, row.other)))
    colour_of = {name: SERIES[number % len(SERIES)] for number, name in enumerate(names)}
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(max(6.4, 3.9 * columns), 1.1 + 2.9 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, row in zip(panels, shown, strict=False):
            faster, slower = sorted((row.base, row.other), key=lambda cell: cell.typical_ms(phase))
            for cell, side in ((faster, "right"), (slower, "left")):
                _distribution(axes, cell, phase, colour_of[cell.record], side)
            axes.set_title("\n".join(_wrapped(_row_name(row, several=False))), fontsize=9.5, pad=6)
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis, axes.get_xlim(), "")
            axes.set_ylim(0, 1.03)
            axes.set_yticks([0, 0.5, 0.99], ["0", "50 %", "99 %"])
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(shown) - columns) : len(shown)]:
            axes.set_xlabel("ms per image, logarithmic")
        handles = [_key(colour_of[name], "-", _legible(name)) for name in names]
        handles += [_key(INK, "o", "half of the images"), _key(INK, "D", "99 of 100")]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), fontsize=9.5)
        save(figure, path)
    return len(rows) - len(shown)


def pareto(path: Path, recommendation: Recommendation) -> bool:
    """mAP against latency: all candidates, the front as steps, what meets the wish in full colour, the choice as a star. False,
    and no picture, where nobody measured an mAP."""
    known = [each for each in recommendation.candidates if each.map50_95 is not None]
    if not known:
        return False
    with style():
        figure, axes = _axes(7.6, 5.2)
        axes.set_xscale("log")
        front = recommendation.front
        axes.plot(
            [each.latency_ms for each in front],
            [each.map50_95 for each in front],
            drawstyle="steps-post",
            color=FAINT,
            linewidth=1.8,
            zorder=2,
        )
        for each in known:
            axes.plot(each.latency_ms, each.map50_95, **_mark(each, recommendation))
        wish = recommendation.wish
        dashed: dict[str, Any] = {"color": MUTED, "linewidth": 1.1, "linestyle": (0, (4, 3)), "zorder": 1}
        if wish.target_fps is not None:
            axes.axvline(1000 / wish.target_fps, **dashed)
        if wish.min_map is not None:
            axes.axhline(wish.min_map, **dashed)
        axes.margins(0.14, 0.14)
        _name_points(axes, recommendation)
        _plain_ticks(axes.xaxis, axes.get_xlim(), "")
        axes.set_xlabel("p50 of the latency in ms, logarithmic")
        axes.set_ylabel("mAP50-95")
        axes.set_title("Accuracy and speed")
        subtitle(axes, "line: nothing measured beats these in both; dashed: the wish; star: the choice")
        handles = [_key(ACCENT, "o", "meets the wish"), _key(MUTED, "x", "does not")]
        axes.legend(handles=handles, loc="lower right")
        save(figure, path)
    return True


# ---------------------------------------------------------------- pieces


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _distribution(axes: Any, cell: Cell, phase: str, colour: str, alignment: str) -> None:
    """One line; its figures are aligned so that they lie on the side where the other line is not."""
    times = np.sort(cell.times_ms(phase))
    share = np.arange(1, len(times) + 1) / len(times)
    axes.step(times, share, where="post", color=colour, linewidth=1.7)
    axes.margins(x=0.2)
    for level, marker in ((0.5, "o"), (0.99, "D")):
        at = float(np.quantile(times, level))
        axes.plot(at, level, marker, color=colour, markersize=6, markeredgecolor="white", zorder=5)
        place = (7 if alignment == "left" else -7, -4 if level == 0.5 else -10)
        note = axes.annotate(_ms(at), (at, level), place, textcoords="offset points", color=colour, fontsize=8, zorder=6)
        note.set(horizontalalignment=alignment)
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})


def _mark(each: Candidate, recommendation: Recommendation) -> dict[str, Any]:
    if each is recommendation.chosen:
        return {"marker": "*", "color": ACCENT, "markersize": 17, "markeredgecolor": "white", "zorder": 5}
    if each.failures:
        return {"marker": "x", "color": MUTED, "markersize": 7, "zorder": 3}
    return {"marker": "o", "color": ACCENT, "markersize": 7.5, "markeredgecolor": "white", "zorder": 4}


def _name_points(axes: Any, recommendation: Recommendation) -> None:
    """Names of the points on the front, the ones to choose from."""
    several = len({each.cell.record for each in recommendation.candidates}) > 1
    axes.get_xlim()  # settles the scale
    to_share = axes.transData + axes.transAxes.inverted()
    for each in recommendation.front[:MOST_NAMED_POINTS]:
        share = to_share.transform((each.latency_ms, each.map50_95))[0]
        text = each.cell.title("model", "runtime", "precision")
        text = f"{text} · {each.cell.record}" if several else text
        axes.annotate(
            _legible(text, 44),
            (each.latency_ms, each.map50_95),
            (0, 11),
            textcoords="offset points",
            ha="left" if share < 1 / 3 else "right" if share > 2 / 3 else "center",  # not over the axis or the edge
            fontsize=8.5,
            color=INK if each is recommendation.chosen else MUTED,
            fontweight="bold" if each is recommendation.chosen else "normal",
        )


def _key(colour: str, marker: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    if marker == "-":
        return Line2D([], [], color=colour, linewidth=2, label=label)
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=label)


def _plain_ticks(axis: Any, limits: tuple[float, float], unit: str) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written out; closer ones where the axis spans only a few of those."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = limits
    found: list[float] = []
    for locator in (LogLocator(subs=(1.0, 2.0, 5.0)), LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), MaxNLocator(4)):
        if len(found) < 4:
            found = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    if len(found) > 7:
        found = found[:: -(-len(found) // 7)]
    axis.set_ticks(found, [f"{tick:g}{unit}" for tick in found])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _row_name(row: Row, several: bool) -> str:
    name = row.title
    return _legible(f"{name} · {row.other.record}" if several else name, 70)


def _wrapped(text: str, width: int = 40) -> list[str]:
    lines = [""]
    for piece in text.split(" · "):
        if lines[-1] and len(lines[-1]) + len(piece) + 3 > width:
            lines.append(piece)
        else:
            lines[-1] = f"{lines[-1]} · {piece}" if lines[-1] else piece
    return lines


def _legible(text: str, longest: int = 60) -> str:
    text = fonts.legible(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio >= 10 else f"{ratio:.2f}×"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
