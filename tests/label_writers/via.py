"""VIA label files for the tests: the annotations that VIA 2 exports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    entries = {}
    for number, (path, boxes) in enumerate(labels.items(), 3000):
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
                "region_attributes": {"species": name},
            }
            for name, x1, y1, x2, y2 in boxes
        ]
        entry = {"filename": f"images/{path}", "size": number, "regions": regions, "file_attributes": {}}
        entries[f"images/{path}{number}"] = entry
    where.text(f"{folder}via_region_data.json", json.dumps(entries))
