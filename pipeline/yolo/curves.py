"""The learning curves of a training run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

_FEW_EPOCHS = 30

_LOSSES = {"box_loss": "box", "cls_loss": "class", "dfl_loss": "distribution focal"}
_METRICS = {
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50-95",
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
}


def read(results: Path) -> list[dict[str, float]]:
    """The rows of a `results.csv` of ultralytics, one an epoch."""
    with results.open(encoding="utf-8", newline="") as stream:
        return [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def draw(rows: list[dict[str, float]], best_epoch: int, target: Path) -> None:
    """Losses on train and val and metrics on val over the epochs; a line marks the epoch of best.pt."""
    from pipeline.metrics import pictures

    epochs = [row["epoch"] for row in rows]
    with pictures.style():
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(17, 4.2), layout="constrained")
        train, val, metrics = figure.subplots(1, 3)
        for axes, side in ((train, "train"), (val, "val")):
            axes.set_title(f"Loss on {side}")
            axes.set(ylabel="loss")
            _draw(axes, rows, {label: f"{side}/{key}" for key, label in _LOSSES.items()}, "last epoch")
        metrics.set_title("Metrics on val")
        metrics.set(ylabel="value", ylim=(0, 1.02))
        _draw(metrics, rows, {label: key for key, label in _METRICS.items()}, "last epoch, by ultralytics")
        for axes in (train, val, metrics):
            pictures.subtitle(axes, f"dotted: epoch {best_epoch}, which was kept")
            axes.axvline(best_epoch, color=pictures.ALARM, linewidth=1.2, linestyle=(0, (1, 2)), zorder=2)
            # Half an epoch on either side, or a single one would be shown in hundredths.
            axes.set(xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        pictures.save(figure, target)


def _draw(axes: Any, rows: list[dict[str, float]], columns: dict[str, str], title: str) -> None:
    """A line for each of the columns (label → name) that there are, and the legend beside them."""
    from pipeline.metrics import pictures

    for (label, column), colour in zip(columns.items(), pictures.SERIES, strict=False):
        if column in rows[0]:
            marker = "o" if len(rows) <= _FEW_EPOCHS else ""
            values = [row[column] for row in rows]
            axes.plot(
                [row["epoch"] for row in rows],
                values,
                color=colour,
                linewidth=1.8,
                marker=marker,
                markersize=4.5,
                label=f"{values[-1]:.3f}  {label}",
            )
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), title=title, alignment="left", handlelength=1.6)
    legend.get_title().set_color(pictures.MUTED)
