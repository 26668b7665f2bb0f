"""labelme JSON files for the tests, beside their images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.label_writers import Box
from tests.labelling import Collected

CANNOT_SAY = frozenset({"inverted"})  # corners may come in any order


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    for path, boxes in labels.items():
        document: dict[str, Any] = {
            "version": "5.2.1",
            "flags": {},
            "shapes": [
                {"label": name, "points": [[x1, y1], [x2, y2]], "group_id": None, "shape_type": "rectangle", "flags": {}}
                for name, x1, y1, x2, y2 in boxes
            ],
            "imagePath": path.rpartition("/")[2],
            "imageData": None,
            "imageHeight": 50,
            "imageWidth": 100,
        }
        text = json.dumps(document, ensure_ascii=False, indent=2)
        where.text(f"{folder}images/{path.rpartition('.')[0]}.json", text)
