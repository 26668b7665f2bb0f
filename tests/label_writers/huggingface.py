"""Hugging Face image folders for the tests: metadata.jsonl, and the class names in the front matter of README.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.label_writers import Box
from tests.labelling import Collected


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    card = ["---", "dataset_info:", "  features:", "  - name: objects", "    struct:", "    - name: category", "      list:"]
    card += ["        class_label:", "          names:"]
    card += [f"            '{number}': {json.dumps(name)}" for number, name in enumerate(names)]
    where.text(f"{folder}README.md", "\n".join([*card, "---", "# A data set", ""]))
    lines = []
    for path, boxes in labels.items():
        rows = list(boxes)
        objects = {
            "bbox": [[x1, y1, x2 - x1, y2 - y1] for _, x1, y1, x2, y2 in rows],
            "category": [names.index(name) for name, *_ in rows],
        }
        lines.append({"file_name": f"images/{path}", "width": 100, "height": 50, "objects": objects})
    where.text(f"{folder}metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
