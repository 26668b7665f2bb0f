"""Supervisely label files for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    meta = {"classes": [{"title": name, "shape": "rectangle", "color": "#00FF00"} for name in names], "tags": []}
    where.text(f"{folder}meta.json", json.dumps(meta))
    for path, boxes in labels.items():
        objects = [
            {
                "classTitle": name,
                "tags": [],
                "geometryType": "rectangle",
                "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []},
            }
            for name, x1, y1, x2, y2 in boxes
        ]
        document = {"description": "", "size": {"height": 50, "width": 100}, "tags": [], "objects": objects}
        where.text(f"{folder}ann/{path}.json", json.dumps(document, indent=4))
