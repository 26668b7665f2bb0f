"""KITTI label files for the tests, in the layout of NVIDIA TAO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    for path, boxes in labels.items():
        rows = (f"{name} 0.00 0 0.00 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0\n" for name, x1, y1, x2, y2 in boxes)
        where.text(f"{folder}labels/{path.rpartition('.')[0]}.txt", "".join(rows))
