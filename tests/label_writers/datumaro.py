"""Datumaro label files for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    document = {
        "dm_format_version": "1.0",
        "media_type": 2,
        "infos": {},
        "categories": {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in names]}},
        "items": [
            {
                "id": path.rpartition(".")[0],
                "annotations": [
                    {
                        "id": 0,
                        "type": "bbox",
                        "attributes": {},
                        "group": 0,
                        "label_id": names.index(name),
                        "z_order": 0,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                    }
                    for name, x1, y1, x2, y2 in boxes
                ],
                "image": {"path": path, "size": [50, 100]},
            }
            for path, boxes in labels.items()
        ],
    }
    where.text(f"{folder}annotations/default.json", json.dumps(document))
