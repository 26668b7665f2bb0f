"""The learning curves of a training run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

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
    from pipeline.metrics import pictures

    epochs = [row["epoch"] for row in rows]
    with pictures.style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(14, 4), layout="constrained")
        train, val, metrics = figure.subplots(1, 3)
        for axes, side in ((train, "train"), (val, "val")):
            shown = {label: f"{side}/{key}" for key, label in _LOSSES.items() if f"{side}/{key}" in rows[0]}
            for (label, key), colour in zip(shown.items(), pictures.SERIES, strict=False):
                axes.plot(epochs, [row[key] for row in rows], marker=".", color=colour, label=label)
            axes.set(xlabel="epoch", ylabel="loss")
            axes.set_title(f"Loss on {side}", pad=8)
        for (key, label), colour in zip(_METRICS.items(), pictures.SERIES, strict=False):
            metrics.plot(epochs, [row[key] for row in rows], marker=".", color=colour, label=label)
        metrics.set(xlabel="epoch", ylabel="value", ylim=(0, 1))
        metrics.set_title("Metrics on val (ultralytics' measure)", pad=8)
        for axes in (train, val, metrics):
            axes.axvline(best_epoch, color=pictures.MUTED, linestyle=":", label=f"best epoch ({best_epoch})")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(fontsize="small")
        pictures.save(figure, target)
