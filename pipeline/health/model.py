"""Likely label errors: where a model and the labels disagree, the surest disagreements first.

In each image, labels and detections of one class that overlap by `SAME` are matched greedily, the best overlap first. What is
left is held against what is left on the other side:

| code                  | label                              | detection                                                      |
|-----------------------|------------------------------------|----------------------------------------------------------------|
| `model_other_class`   | hardly or not seen as its class    | sure, of another class, overlaps by `SAME`                     |
| `model_misplaced_box` | not matched                        | sure, of its class, overlaps by `TOUCHES`, but not by `SAME`   |
| `model_missing_box`   | none overlaps by `TOUCHES`         | sure, neither within nor around a label of its class           |
| `model_extra_box`     | of a class that the model finds    | none, however unsure, overlaps by `TOUCHES`                    |

A model has learnt the labels that it was trained on, errors included: it tells most about images that it has not seen.

Source: the kinds of errors and their ranking by the model's confidence follow U. Tkachenko, A. Thyagarajan, J. Mueller,
"ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection Data", 2023, https://arxiv.org/abs/2309.00832.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, iou
from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.health.findings import Finding, Item, Mark, finding

SURE = 0.5
"""Score of a detection that may accuse a label."""
HINT = 0.05
"""Score of a detection that defends one: it is no guess in the blue yet."""
SAME = 0.5
"""IoU of two boxes of one object, as everywhere in detection."""
TOUCHES = 0.2
"""IoU of two boxes that may be about the same object."""
OWN_SHARE = 0.5
"""A label is defended when its own class scores at least this share of what the other class scores."""
INSIDE = 0.7
"""Share of a box that lies in another of its class, from which on one may be a part of the other."""
TRUSTED_RECALL = 0.8
"""Only where the model finds so many of the labels of a class does it mean something that it does not find one."""
WEAK_RECALL = 0.5
"""Below it, over all classes, the model's opinion is worth nothing."""

Ints = NDArray[np.int64]


@dataclass
class _Image:
    """What one image comes to: rows of labels and of detections, by kind; `(label, detection)` where it is about both."""

    seen: list[tuple[int, int]] = field(default_factory=list)
    other_class: list[tuple[int, int]] = field(default_factory=list)
    misplaced: list[tuple[int, int]] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)


@dataclass
class _Found:
    """Items with the figure that ranks them."""

    items: list[tuple[float, Item]] = field(default_factory=list)

    def add(self, rank: float, path: str, detail: str, *marks: Mark) -> None:
        self.items.append((rank, Item(path, detail=detail, marks=marks)))

    def ranked(self) -> list[Item]:
        return [item for _, item in sorted(self.items, key=lambda pair: -pair[0])]


def check(dataset: Dataset, detections: Sequence[Detections | None]) -> list[Finding]:
    """The disagreements of a model and the labels.

    Args:
        detections: one for each row of `dataset.images`, with the data set's class ids; None for images the model was not shown.
    """
    labels = dataset.by_image()
    looked_at = [row for row, found in enumerate(detections) if found is not None]
    compared = {row: compare(*labels[row], found) for row, found in enumerate(detections) if found is not None}
    recall = _recall(dataset, [compared[row] for row in looked_at], [labels[row][1] for row in looked_at])
    overall = _overall(recall)
    if overall is None:
        return []
    seen = f"it finds {overall:.0%} of the labelled boxes in {len(looked_at)} images"
    if overall < WEAK_RECALL:
        return [finding("model_weak", [], seen, count=len(looked_at))]
    found: dict[str, _Found] = defaultdict(_Found)
    for row, image in compared.items():
        answer = detections[row]
        if answer is not None:
            _collect(found, dataset, row, labels[row], answer, image, recall)
    codes = ("model_missing_box", "model_other_class", "model_misplaced_box", "model_extra_box")
    return [finding(code, found[code].ranked(), seen) for code in codes if found[code].items]


def compare(edges: Boxes, class_ids: Ints, found: Detections) -> _Image:
    """Match the labels of one image with its detections; see the module."""
    found = found.above(HINT)
    overlap = iou(found.boxes, edges)
    is_own = np.asarray(found.class_ids[:, None] == class_ids[None, :])
    is_sure = (found.scores >= np.float32(SURE)).reshape(-1, 1)
    result = _Image(seen=_greedy(np.where(is_own, overlap, 0), SAME))
    explained = {detection for _, detection in result.seen}
    own_score = np.zeros(len(edges))
    for label, detection in result.seen:
        own_score[label] = found.scores[detection]
    rest = np.array([number not in explained for number in range(len(found))], dtype=bool)[:, None]
    stronger = own_score[None, :] < OWN_SHARE * found.scores[:, None]
    result.other_class = _greedy(np.where(~is_own & rest & is_sure & stronger, overlap, 0), SAME)
    explained |= {detection for _, detection in result.other_class}
    settled = {label for label, _ in result.seen + result.other_class}
    free = np.array([number not in settled for number in range(len(edges))], dtype=bool)[None, :]
    rest = np.array([number not in explained for number in range(len(found))], dtype=bool)[:, None]
    result.misplaced = _greedy(np.where(is_own & rest & free & is_sure, overlap, 0), TOUCHES)
    explained |= {detection for _, detection in result.misplaced}
    settled |= {label for label, _ in result.misplaced}
    result.missing = _missing(edges, found, overlap, is_own, explained)
    touched = np.asarray((overlap >= TOUCHES).any(axis=0))
    result.unseen = [label for label in range(len(edges)) if label not in settled and not touched[label]]
    return result


def _greedy(overlap: NDArray[np.float64], least: float) -> list[tuple[int, int]]:
    """Pairs (label, detection), each used once, best overlap first; `overlap` (detections, labels)."""
    detection, label = np.nonzero(overlap >= least)
    order = np.argsort(-overlap[detection, label], kind="stable")
    pairs: list[tuple[int, int]] = []
    labels: set[int] = set()
    detections: set[int] = set()
    for one, other in zip(label[order].tolist(), detection[order].tolist(), strict=True):
        if one not in labels and other not in detections:
            pairs.append((one, other))
            labels.add(one)
            detections.add(other)
    return pairs


def _missing(
    edges: Boxes, found: Detections, overlap: NDArray[np.float64], is_own: NDArray[np.bool_], explained: set[int]
) -> list[int]:
    """Sure detections of something that no label is about; of several on one object the surest."""
    share = _share_of_smaller(found.boxes, edges)
    near_a_label = (overlap >= TOUCHES).any(axis=1) | (is_own & (share >= INSIDE)).any(axis=1)
    result: list[int] = []
    for number in np.flatnonzero((found.scores >= SURE) & ~near_a_label).tolist():
        one = found.boxes[number : number + 1]
        if number not in explained and not (iou(one, found.boxes[result]) >= TOUCHES).any():
            result.append(number)
    return result


def _share_of_smaller(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over the area of the smaller box, (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    smaller = np.minimum(area(a)[:, None], area(b)[None, :])
    return np.asarray(np.divide(common, smaller, out=np.zeros_like(common), where=smaller > 0))


def _recall(dataset: Dataset, compared: Sequence[_Image], class_ids: Sequence[Ints]) -> NDArray[np.float64]:
    """(classes, 2): labels of each class that were seen, and all of them."""
    counts = np.zeros((len(dataset.class_names), 2))
    for image, ids in zip(compared, class_ids, strict=True):
        np.add.at(counts[:, 1], ids, 1)
        np.add.at(counts[:, 0], ids[[label for label, _ in image.seen]], 1)
    return counts


def _overall(recall: NDArray[np.float64]) -> float | None:
    seen, total = recall.sum(axis=0).tolist()
    return seen / total if total else None


def _collect(
    found: dict[str, _Found],
    dataset: Dataset,
    row: int,
    labels: tuple[Boxes, Ints],
    answer: Detections,
    image: _Image,
    recall: NDArray[np.float64],
) -> None:
    """Put what one image comes to into `found`, by code."""
    path, names = str(dataset.images["path"].iloc[row]), dataset.class_names
    edges, ids = labels
    said = [Mark(_edges(edges, k), f"label: {names[ids[k]]}") for k in range(len(edges))]
    scores = answer.scores.tolist()
    class_of = [names[k] for k in answer.class_ids]
    sees = [Mark(_edges(answer.boxes, k), f"model: {class_of[k]} {scores[k]:.2f}") for k in range(len(answer))]
    for detection in image.missing:
        found["model_missing_box"].add(scores[detection], path, f"{class_of[detection]} {scores[detection]:.2f}", sees[detection])
    for label, detection in image.other_class:
        detail = f"labelled {names[ids[label]]}, looks like {class_of[detection]} {scores[detection]:.2f}"
        found["model_other_class"].add(scores[detection], path, detail, said[label], sees[detection])
    for label, detection in image.misplaced:
        overlap = float(iou(edges[label : label + 1], answer.boxes[detection : detection + 1])[0, 0])
        detail = f"{names[ids[label]]}, IoU {overlap:.2f} with the model's box {scores[detection]:.2f}"
        found["model_misplaced_box"].add(scores[detection] * (1 - overlap), path, detail, said[label], sees[detection])
    for label in image.unseen:
        seen, total = recall[ids[label]].tolist()
        if seen >= TRUSTED_RECALL * total:
            detail = f"{names[ids[label]]}, of which the model finds {seen / total:.0%}"
            found["model_extra_box"].add(seen / total, path, detail, said[label])


def _edges(boxes: Boxes, row: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = boxes[row].tolist()
    return x1, y1, x2, y2
