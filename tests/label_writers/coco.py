"""COCO label files for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    images = [{"id": number, "file_name": path, "width": 100, "height": 50} for number, path in enumerate(labels, 7)]
    boxes = [(number, box) for number, path in enumerate(labels, 7) for box in labels[path]]
    where.coco(
        f"{folder}annotations.json",
        images,
        [
            {"id": n, "image_id": image, "category_id": 3 * names.index(name), "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for n, (image, (name, x1, y1, x2, y2)) in enumerate(boxes)
        ],
        [{"id": 3 * number, "name": name} for number, name in enumerate(names)],
    )
