"""Open Images label files for the tests: codes instead of class names, and ImageIDs without suffix."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    boxes, descriptions = io.StringIO(), io.StringIO()
    writer = csv.writer(boxes)
    writer.writerow(HEADER.split(","))
    for path, rows in labels.items():
        for name, x1, y1, x2, y2 in rows:
            edges = x1 / 100, x2 / 100, y1 / 50, y2 / 50
            writer.writerow([path.rpartition(".")[0], "xclick", f"/m/0{names.index(name)}", 1, *edges, 0, 0, 0, 0, 0])
    csv.writer(descriptions).writerows((f"/m/0{number}", name) for number, name in enumerate(names))
    where.text(f"{folder}annotations/default-annotations-bbox.csv", boxes.getvalue())
    where.text(f"{folder}annotations/class-descriptions-boxable.csv", descriptions.getvalue())
