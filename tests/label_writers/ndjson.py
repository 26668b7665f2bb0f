"""Ultralytics NDJSON label files for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    header = {
        "type": "dataset",
        "task": "detect",
        "name": "example",
        "description": "",
        "url": "https://platform.ultralytics.com/user/datasets/example",
        "class_names": {str(number): name for number, name in enumerate(names)},
        "version": 1,
    }
    lines = [header]
    for path, boxes in labels.items():
        rows = [
            [names.index(name), (x1 + x2) / 200, (y1 + y2) / 100, (x2 - x1) / 100, (y2 - y1) / 50]
            for name, x1, y1, x2, y2 in boxes
        ]
        image = {"type": "image", "file": path, "url": "https://storage/0123?signature=x", "width": 100, "height": 50}
        lines.append({**image, "annotations": {"boxes": rows}} if rows else image)
    where.text(f"{folder}dataset.ndjson", "".join(json.dumps(line) + "\n" for line in lines))
