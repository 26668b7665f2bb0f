"""A table as spreadsheets write it, for the tests: semicolons, a byte-order mark, and a blank row for an image without boxes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, delimiter=";")
    writer.writerow(["Image", "Label", "Left", "Top", "Right", "Bottom"])
    for path, boxes in labels.items():
        rows = list(boxes)
        writer.writerows((path, name, *(str(value).replace(".", ",") for value in box)) for name, *box in rows)
        if not rows:
            writer.writerow([path, *[""] * 5])
    where.data(f"{folder}boxes.csv", table.getvalue().encode("utf-8-sig"))
