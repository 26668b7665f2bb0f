"""TensorFlow Object Detection CSV for the tests, as the raccoon data set has it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
    writer.writerows((path, 100, 50, *box) for path, boxes in labels.items() for box in boxes)
    where.text(f"{folder}labels.csv", table.getvalue())
