"""YOLO label files for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    where.text(f"{folder}data.yaml", "names:\n" + "".join(f"- '{name}'\n" for name in names))
    for path, boxes in labels.items():
        rows = "".join(
            f"{names.index(name)} {(x1 + x2) / 200} {(y1 + y2) / 100} {(x2 - x1) / 100} {(y2 - y1) / 50}\n"
            for name, x1, y1, x2, y2 in boxes
        )
        where.text(f"{folder}labels/{path.rpartition('.')[0]}.txt", rows)
