"""Label Studio exports for the tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from tests.label_writers import Box
from tests.labelling import Collected

RECT = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}


def rect(*labels: Any, **more: Any) -> dict[str, Any]:
    """The value of a rectangle: 10, 10, 40, 30 in pixels."""
    return {**RECT, "rectanglelabels": list(labels), **more}


def result(number: int, value: dict[str, Any], kind: str = "rectanglelabels", **more: Any) -> dict[str, Any]:
    """One result on an image of 100 x 50 px, as the editor writes it."""
    return {
        "original_width": 100,
        "original_height": 50,
        "image_rotation": 0,
        "value": value,
        "id": f"r{number:09d}",
        "from_name": "label",
        "to_name": "image",
        "type": kind,
        "origin": "manual",
        **more,
    }


def task(number: int, image: str, results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A task with one annotation, as the server exports it."""
    annotation = {
        "id": 10 + number,
        "completed_by": 1,
        "result": results,
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-05-06T07:08:09.000000Z",
        "updated_at": "2024-05-06T07:08:09.000000Z",
        "result_count": 0,
    }
    return {
        "id": number,
        "annotations": [annotation],
        "drafts": [],
        "predictions": [],
        "data": {"image": image},
        "meta": {},
        **more,
    }


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    tasks = []
    for number, (path, boxes) in enumerate(labels.items(), 1):
        results = []
        for position, (name, x1, y1, x2, y2) in enumerate(boxes):
            value = {"x": x1, "y": 2 * y1, "width": x2 - x1, "height": 2 * (y2 - y1), "rotation": 0, "rectanglelabels": [name]}
            results.append(result(position, value))
        tasks.append(task(number, f"/data/local-files/?d={quote(f'images/{path}')}", results))
    where.text(f"{folder}project-1-at-2024-05-06-07-08-0a1b2c3d.json", json.dumps(tasks))
