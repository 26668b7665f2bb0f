"""The pictures of an evaluation: precision–recall, F1 against confidence, and the confusion matrix, as PNG files.

`style()` is the common look; other stages draw within it too, so that all pictures of a report belong together. Figures are made
without pyplot, hence without a window system, a global state, or a back end to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import files, fonts
from pipeline.metrics.coco import RECALLS, CocoResult
from pipeline.metrics.curves import CONFIDENCES, best_confidence

INK, MUTED, FAINT, ACCENT, ALARM = "#1f2933", "#66737f", "#c9d1d9", "#0b6bcb", "#c4432b"
SERIES = ("#0b6bcb", "#e07b00", "#2b8a5a", "#b5408f", "#7a5cc4", "#8c6d31", "#1399a8", "#c4432b", "#5b7083", "#93a800")
"""Colours of single series, in this order: the first ones differ in lightness too, not only in hue."""

_LONGEST_NAME = 22
_MOST_WITH_SHARES, _MOST_WITH_NUMBERS, _MOST_TICKS = 11, 30, 130

Floats = NDArray[np.float64]


@contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings for this project's pictures, as a context manager."""
    with fonts.silent():
        import matplotlib

        with matplotlib.rc_context(_settings()):
            yield


def _settings() -> dict[str, Any]:
    return {
        "font.family": list(fonts.installed()),
        "text.parse_math": False,  # a "$" in a class name is a dollar, and no formula
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": MUTED,
        "axes.titlecolor": INK,
        "axes.titlesize": 13,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 26,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e9edf1",
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.major.pad": 7,  # or the zeros of both axes run into each other
        "ytick.major.pad": 7,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.dpi": 160,
    }


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, atomically, and with equal bytes for equal figures."""
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.2, metadata={"Software": None})


def subtitle(axes: Any, text: str) -> None:
    """A line in muted ink under the title."""
    place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 9), "textcoords": "offset points"}
    axes.annotate(text, **place, color=MUTED, fontsize=9.5, va="bottom", linespacing=1.4)


def label_of(name: str, class_id: int) -> str:
    """A class name that fits beside an axis; its number where no font has its letters."""
    name = fonts.legible(name, f"class {class_id}")
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


@dataclass(frozen=True)
class Line:
    """One class in a picture of curves.

    Attributes:
        figure: what the class is ranked by, higher is better.
        label: its entry in the legend.
        y: one value per x.
    """

    figure: float
    label: str
    y: Floats


def pr_curve(path: Path, result: CocoResult) -> None:
    """Precision against recall at IoU 0.5: a thin line per class, a bold one for their mean. The area under a line is its
    AP50."""
    lines = [
        Line(row.ap50, f"{row.ap50:.3f}  {label_of(row.name, k)}", result.precision50[k])
        for k, row in enumerate(result.per_class)
        if row.ap50 is not None
    ]
    with style():
        figure, axes = _square_axes("recall", "precision")
        axes.set_title("Precision and recall")
        subtitle(axes, "IoU 0.5 · the area under a line is its AP50")
        mean = np.asarray(np.mean([line.y for line in lines], axis=0))
        _draw(axes, RECALLS, lines, Line(result.map50, f"{result.map50:.3f}  mean of {len(lines)} classes", mean), "AP50")
        save(figure, path)


def f1_curve(path: Path, names: Mapping[int, str], f1: Floats, confidence: float, chosen: str) -> None:
    """F1 against the confidence threshold, with the threshold in use marked.

    Args:
        names: class id → name of the classes that have boxes.
        f1: (classes, len(CONFIDENCES)), in the order of `names`.
        chosen: why the threshold is what it is, for the picture.
    """
    mean = np.asarray(f1.mean(axis=0))
    at = mean[np.abs(CONFIDENCES - confidence).argmin()]
    lines = [
        Line(float(y.max()), f"{y.max():.3f} at {best_confidence(y):.2f}  {label_of(name, k)}", y)
        for (k, name), y in zip(names.items(), f1, strict=True)
    ]
    mean_label = f"{mean.max():.3f} at {best_confidence(mean):.2f}  mean of {len(lines)} classes"
    with style():
        figure, axes = _square_axes("confidence threshold", "F1")
        axes.set_title("F1 and confidence")
        subtitle(axes, f"IoU 0.5 · {chosen}: {confidence:.3f}")
        _draw(axes, CONFIDENCES, lines, Line(float(mean.max()), mean_label, mean), "best F1")
        axes.axvline(confidence, color=ALARM, linewidth=1.2, linestyle=(0, (4, 3)), zorder=4)
        axes.plot([confidence], [at], "o", color=ALARM, markersize=7.5, markeredgecolor="white", zorder=6)
        side = 1 if confidence < 0.6 else -1
        note = axes.annotate(f"{confidence:.3f}", (confidence, 0), xytext=(6 * side, 6), textcoords="offset points", zorder=7)
        note.set(color=ALARM, fontweight="bold", horizontalalignment="left" if side > 0 else "right")
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})
        save(figure, path)


def _square_axes(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6))
    axes = figure.add_subplot()
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=x, ylabel=y, xticks=ticks, yticks=ticks)
    return figure, axes


def _draw(axes: Any, x: NDArray[Any], lines: Sequence[Line], mean: Line, figure_name: str) -> None:
    """The lines and the legend. With more classes than colours only the weakest are named: they are what one looks for."""
    ranked = sorted(lines, key=lambda line: line.figure, reverse=True)
    unnamed = 0 if len(ranked) <= len(SERIES) else len(ranked) - len(SERIES)
    if len(ranked) > 1:
        axes.plot(x, mean.y, color=INK, linewidth=2.8, label=mean.label, zorder=5)
    for number, line in enumerate(ranked[:unnamed]):
        label = f"{unnamed} better classes" if number == 0 else None
        axes.plot(x, line.y, color=FAINT, linewidth=0.7, label=label, zorder=2)
    for color, line in zip(SERIES, ranked[unnamed:], strict=False):
        axes.plot(x, line.y, color=color, linewidth=1.4 if len(ranked) > 1 else 2.6, label=line.label, zorder=3)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), title=figure_name, alignment="left", handlelength=1.6)
    legend.get_title().set_color(MUTED)


def confusion_matrix(path: Path, names: Sequence[str], matrix: NDArray[np.int64], confidence: float) -> None:
    """What was labelled against what was detected; right answers in blue, mistakes in red, the stronger the more frequent.

    Args:
        matrix: (classes + 1, classes + 1) of `curves.confusion_matrix`.
        confidence: the threshold it was counted at.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    n = len(matrix)
    cell = float(np.clip(7 / n, 0.17, 0.95))
    share = _shares(matrix)
    with style():
        figure = Figure(figsize=(cell * n, cell * n))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(_colors(share), interpolation="nearest")
        # A matrix of few classes is narrower than the text: break it there.
        between = "\n" if cell * n < 6 else " · "
        axes.set_title("Confusion matrix", pad=40 if between == "\n" else 26)
        share_of = "colour: share of the row; bottom row: of the column"
        subtitle(axes, f"counts at confidence {confidence:.3f}, IoU 0.5{between}{share_of}")
        axes.set(xlabel="detected as", ylabel="labelled as")
        step = max(1, int(np.ceil(n / _MOST_TICKS)))
        size = float(np.clip(cell * 34, 5.5, 10))
        labels = [label_of(name, k) for k, name in enumerate(names)]
        _label_ticks(axes, [*labels, "missed"], [*labels, "nothing"], step, size)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        for edge in (axes.axhline, axes.axvline):
            edge(n - 1.5, color="white" if n > 40 else INK, linewidth=1.2)
        for line in np.arange(n - 1) + 0.5 if n <= _MOST_TICKS else ():
            axes.axhline(line, color="white", linewidth=min(1.5, cell * 3), zorder=1)
            axes.axvline(line, color="white", linewidth=min(1.5, cell * 3), zorder=1)
        axes.add_patch(Rectangle((n - 1.5, n - 1.5), 1, 1, facecolor="#f4f6f8", edgecolor="white", hatch="////", linewidth=0))
        if n - 1 <= _MOST_WITH_NUMBERS:
            _write_numbers(axes, matrix, share, size)
        save(figure, path)


def _shares(matrix: NDArray[np.int64]) -> Floats:
    """Rows by the labelled boxes of their class, the last row by the detections of each column's class."""
    whole = np.repeat(matrix.sum(axis=1, keepdims=True), len(matrix), axis=1)
    whole[-1] = matrix.sum(axis=0)
    share: Floats = np.divide(matrix, whole, out=np.zeros(matrix.shape), where=whole > 0)
    return share


def _colors(share: Floats) -> Floats:
    """(n, n, 3): white for 0, to blue on the diagonal and to red elsewhere."""
    from matplotlib.colors import LinearSegmentedColormap

    right = LinearSegmentedColormap.from_list("right", ["#f3f8fd", "#9cc7f0", ACCENT, "#063f7d"])
    wrong = LinearSegmentedColormap.from_list("wrong", ["#fdf0ec", "#f2a893", ALARM, "#7c1d0c"])
    # The square root makes rare mistakes visible: 1 % gets a tenth of the scale.
    colors = np.where(np.eye(len(share), dtype=bool)[:, :, None], right(share)[:, :, :3], wrong(np.sqrt(share))[:, :, :3])
    colors[share == 0] = np.array([0.965, 0.972, 0.98])
    return np.asarray(colors)


def _label_ticks(axes: Any, columns: Sequence[str], rows: Sequence[str], step: int, size: float) -> None:
    shown = range(0, len(rows), step)
    longest = max(len(name) for name in columns)
    upright = len(columns) > 12 or longest > 12
    axes.set_xticks(shown, [columns[i] for i in shown], rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(shown, [rows[i] for i in shown], fontsize=size)


def _write_numbers(axes: Any, matrix: NDArray[np.int64], share: Floats, size: float) -> None:
    for row, column in np.argwhere(matrix > 0):
        dark = share[row, column] > (0.5 if row == column else 0.3)
        text = f"{matrix[row, column]}"
        if len(matrix) <= _MOST_WITH_SHARES:
            text += f"\n{share[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else INK, linespacing=1.3)
