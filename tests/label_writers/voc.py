"""Pascal VOC label files for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    for path, boxes in labels.items():
        where.voc(f"{folder}Annotations/{path.rpartition('.')[0]}.xml", path.rpartition("/")[2], boxes)
