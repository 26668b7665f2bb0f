"""The learning curves of a training run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline import files

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
    """Losses on train and val, metrics on val and learning rate over the epochs; a line marks the epoch of best.pt."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(14, 4), layout="constrained")
    train, val, metrics = figure.subplots(1, 3)
    for axes, side in ((train, "train"), (val, "val")):
        for key, label in _LOSSES.items():
            if f"{side}/{key}" in rows[0]:
                axes.plot(epochs, [row[f"{side}/{key}"] for row in rows], marker=".", label=label)
        axes.set(title=f"Loss on {side}", xlabel="epoch", ylabel="loss")
    for key, label in _METRICS.items():
        metrics.plot(epochs, [row[key] for row in rows], marker=".", label=label)
    metrics.set(title="Metrics on val (ultralytics' measure)", xlabel="epoch", ylabel="value", ylim=(0, 1))
    for axes in (train, val, metrics):
        axes.axvline(best_epoch, color="grey", linestyle=":", label=f"best epoch ({best_epoch})")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    with files.atomic_path(target) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)
