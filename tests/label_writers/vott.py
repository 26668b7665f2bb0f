"""A VoTT export for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import md5
from typing import Any
from urllib.parse import quote

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    assets = [asset(path, boxes) for path, boxes in labels.items()]
    document = {
        "name": "pets",
        "tags": [{"name": name, "color": "#5db300"} for name in names],
        "id": "0OPxbBiQE",
        "version": "2.2.0",
        "assets": {entry["asset"]["id"]: entry for entry in assets},
    }
    where.text(f"{folder}vott-json-export/pets-export.json", json.dumps(document, indent=4))


def asset(path: str, boxes: Iterable[Box]) -> dict[str, Any]:
    """What `<id>-asset.json` has, and an export for each image."""
    location = "file:C:/Users/me/images/" + quote(path)
    return {
        "asset": {
            "format": path.rpartition(".")[2],
            "id": md5(location.encode(), usedforsecurity=False).hexdigest(),
            "name": quote(path.rpartition("/")[2]),
            "path": location,
            "size": {"width": 100, "height": 50},
            "state": 2,
            "type": 1,
        },
        "regions": [_region(*box) for box in boxes],
        "version": "2.2.0",
    }


def _region(name: str, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
    return {
        "id": "BsO3zj9bn",
        "type": "RECTANGLE",
        "tags": [name],
        "boundingBox": {"height": y2 - y1, "width": x2 - x1, "left": x1, "top": y1},
        "points": [{"x": x1, "y": y1}, {"x": x2, "y": y1}, {"x": x2, "y": y2}, {"x": x1, "y": y2}],
    }
