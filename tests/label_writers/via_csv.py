"""VIA CSV files for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def cell(value: object) -> str:
    """JSON as VIA puts it into a cell."""
    return '"' + json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace('"', '""') + '"'


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    lines = [HEADER]
    for number, (path, rows) in enumerate(labels.items(), 3000):
        boxes = list(rows)
        start = f'images/{path},{number},"{{}}",{len(boxes)}'
        for region, (name, x1, y1, x2, y2) in enumerate(boxes):
            shape = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
            lines.append(f"{start},{region},{cell(shape)},{cell({'species': name})}")
        if not boxes:
            lines.append(f'{start},0,"{{}}","{{}}"')
    where.text(f"{folder}via_region_data.csv", "\n".join(lines))
