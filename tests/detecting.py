"""Random data sets with detections, full of what makes evaluators differ: ties, duplicates, absent classes, equal overlaps."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections

Scene = tuple[Dataset, list[Detections]]


@st.composite
def scenes(draw: st.DrawFn, most_found: int = 12) -> Scene:
    """Up to 6 images and 4 classes; at least one box. Coarse coordinates and few scores make ties likely."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, classes = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    step, scores = draw(st.sampled_from([0.1, 4.0, 16.0])), draw(st.sampled_from([2, 5, 1000]))
    dataset = make_dataset(rng, images, classes, step)
    return dataset, [_found(rng, dataset, image, draw(st.integers(0, most_found)), step, scores) for image in range(images)]


def make_dataset(rng: np.random.Generator, images: int, classes: int, step: float = 0.1, most: int = 6) -> Dataset:
    rows = [
        (image, rng.integers(classes), *_box(rng, step)) for image in range(images) for _ in range(rng.integers(0, most + 1))
    ] or [(0, 0, 10.0, 10.0, 50.0, 60.0)]
    names = [f"class {number}" for number in range(classes)]
    return Dataset.from_rows(names, [{"path": f"{n}.jpg", "width": 400, "height": 300} for n in range(images)], rows)


def _box(rng: np.random.Generator, step: float) -> list[float]:
    corner = rng.integers(0, int(200 / step), 2) * step
    size = (1 + rng.integers(0, int(rng.choice([20, 60, 190]) / step + 1), 2)) * step
    return [float(value) for value in (*corner, *(corner + size))]


def _found(rng: np.random.Generator, dataset: Dataset, image: int, count: int, step: float, scores: int) -> Detections:
    """Half of them near a box, or the same box again; the others anywhere."""
    edges, class_ids = dataset.edges_of(image)
    boxes, ids = [], []
    for _ in range(count):
        if len(edges) and rng.random() < 0.6:
            pick = rng.integers(len(edges))
            near = edges[pick] + rng.integers(-1, 2, 4) * step * rng.integers(0, 3)
            boxes.append(near if (near[2:] > near[:2]).all() else edges[pick])
            ids.append(class_ids[pick] if rng.random() < 0.8 else rng.integers(len(dataset.class_names)))
        else:
            boxes.append(np.array(_box(rng, step)))
            ids.append(rng.integers(len(dataset.class_names)))
    return Detections.make(np.array(boxes).reshape(-1, 4), rng.integers(1, scores + 1, count) / scores, ids)


def pycocotools_run(dataset: Dataset, detections: list[Detections]) -> Any:
    """The oracle: a COCOeval of pycocotools that has evaluated, accumulated and summarized, in silence."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def xywh(x1: float, y1: float, x2: float, y2: float) -> list[float]:
        return [x1, y1, x2 - x1, y2 - y1]

    boxes = [xywh(*edges) for edges in dataset.boxes[EDGES].to_numpy().tolist()]
    found = [
        {"image_id": image + 1, "category_id": int(k) + 1, "bbox": xywh(*box), "score": float(score)}
        for image, each in enumerate(detections)
        for box, score, k in zip(each.boxes.tolist(), each.scores, each.class_ids, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": n + 1, "width": 400, "height": 300} for n in range(len(dataset.images))],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)],
            "annotations": [
                {
                    "id": n + 1,
                    "image_id": int(image) + 1,
                    "category_id": int(k) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for n, (image, k, box) in enumerate(zip(dataset.boxes["image"], dataset.boxes["class_id"], boxes, strict=True))
            ],
        }
        truth.createIndex()
        answers = COCO()
        if found:
            answers = truth.loadRes(found)
        else:  # loadRes cannot take an empty list
            answers.dataset = {**truth.dataset, "annotations": []}
            answers.createIndex()
        run = COCOeval(truth, answers, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run
