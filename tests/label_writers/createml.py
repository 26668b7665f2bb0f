"""Create ML label files for the tests: one beside the folder of images, as Roboflow names it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    document = [
        {
            "image": path,
            "annotations": [
                {"label": name, "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}}
                for name, x1, y1, x2, y2 in boxes
            ],
        }
        for path, boxes in labels.items()
    ]
    where.text(f"{folder}_annotations.createml.json", json.dumps(document, indent=1))
