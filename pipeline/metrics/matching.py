"""Which detection found which box: COCO's greedy matching, for all images, classes and IoU thresholds at once.

COCO walks image by image, class by class, threshold by threshold, detection by detection. Only one order in it matters: within
one image and class, the better-scored detection chooses first. So all groups advance together, one detection a round, and a
round is a few array operations. The result is the same to the last tie; `tests/unit/test_metrics_matching.py` holds it against
pycocotools.

Source: `COCOeval.evaluateImg` in https://github.com/cocodataset/cocoapi/blob/master/PythonAPI/pycocotools/cocoeval.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.boxes import Boxes, to_xywh
from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
"""COCO counts the 100 best-scored detections of an image and class; those after are not scored."""

_PAIRS_AT_ONCE = 2_000_000

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """The labelled boxes of a data set, as columns.

    Attributes:
        image: (M,) image numbers, ascending.
        class_id: (M,) the data set's class ids.
        xywh: (M, 4) float64 `x, y, width, height` in pixels. COCO computes with these, and edges rebuilt from them differ in
        the last bit.
    """

    image: Ints
    class_id: Ints
    xywh: Boxes

    @classmethod
    def of(cls, dataset: Dataset) -> Labels:
        boxes = dataset.boxes
        return cls(boxes["image"].to_numpy(), boxes["class_id"].to_numpy(), to_xywh(boxes[EDGES].to_numpy()))

    def __len__(self) -> int:
        return len(self.image)

    def where(self, keep: NDArray[np.bool_]) -> Labels:
        return Labels(self.image[keep], self.class_id[keep], self.xywh[keep])


@dataclass(frozen=True)
class Found:
    """The detections in many images, as columns; within an image, best first.

    Attributes:
        image: (N,) image numbers, ascending.
        class_id: (N,) the data set's class ids.
        xywh: (N, 4) float64, as in `Labels`.
        score: (N,) float32 in [0, 1].
    """

    image: Ints
    class_id: Ints
    xywh: Boxes
    score: NDArray[np.float32]

    @classmethod
    def of(cls, detections: Sequence[Detections], class_map: ArrayLike | None = None) -> Found:
        """Join the detections of images 0, 1, 2, …

        Args:
            class_map: position = the model's class id, value = the data set's class id, or −1 for a class to leave out. None:
                the ids are the same.
        """
        image = np.repeat(np.arange(len(detections)), [len(found) for found in detections])
        class_id = np.concatenate([found.class_ids for found in detections]) if detections else np.zeros(0, np.int64)
        boxes = np.concatenate([found.boxes for found in detections]) if detections else np.zeros((0, 4))
        score = np.concatenate([found.scores for found in detections]) if detections else np.zeros(0, np.float32)
        if class_map is not None:
            class_id = np.asarray(class_map, dtype=np.int64)[class_id]
        return cls(image, class_id, to_xywh(boxes), score).where(class_id >= 0)

    def __len__(self) -> int:
        return len(self.image)

    def where(self, keep: NDArray[np.bool_]) -> Found:
        return Found(self.image[keep], self.class_id[keep], self.xywh[keep], self.score[keep])

    def limited(self, most: int = MAX_DETECTIONS) -> Found:
        """Only the `most` best of each image and class."""
        return self.where(_rank_in_group(_group(self, by_class=True)) < most)


@dataclass(frozen=True)
class Matches:
    """A data set's boxes, the detections that COCO counts, and who found whom within the same class.

    Attributes:
        label_of: (10, N) row of `labels` that each detection of `found` is matched to at each of `IOU_THRESHOLDS`, −1 for none.
        images, classes: how many there are, with or without boxes.
    """

    labels: Labels
    found: Found
    label_of: Ints
    images: int
    classes: int

    @classmethod
    def of(cls, dataset: Dataset, detections: Sequence[Detections], class_map: ArrayLike | None = None) -> Matches:
        """Match one `Detections` per row of `dataset.images`; `class_map` as in `Found.of`."""
        if len(detections) != len(dataset.images):
            raise ValueError(f"expected {len(dataset.images)} detections, one per image, got {len(detections)}")
        labels, found = Labels.of(dataset), Found.of(detections, class_map).limited()
        return cls(labels, found, match(found, labels, IOU_THRESHOLDS), len(dataset.images), len(dataset.class_names))

    @property
    def is_true(self) -> NDArray[np.bool_]:
        """(N,) whether a detection found a box of its class at IoU 0.5."""
        return np.asarray(self.label_of[0] >= 0)


def match(found: Found, labels: Labels, thresholds: ArrayLike, *, by_class: bool = True) -> Ints:
    """Give each detection, best score first, the free box that it overlaps most, if that reaches the IoU threshold.

    Args:
        thresholds: (T,) IoU, each above 0 and below 1.
        by_class: only boxes of the detection's own class; otherwise any box of the image.

    Returns:
        (T, N) rows of `labels`, −1 for none. Of equal overlaps the later box wins, as in COCO.
    """
    limits = np.asarray(thresholds, dtype=np.float64).reshape(-1, 1)
    label_of = np.full((len(limits), len(found)), -1, dtype=np.int64)
    taken = np.zeros((len(limits), len(labels)), dtype=bool)
    for detection, label, iou in _rounds(found, labels, float(limits.min()), by_class):
        is_open = (iou >= limits) & ~taken[:, label]
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        value = np.where(is_open, iou, -1.0)
        best = np.repeat(np.maximum.reduceat(value, starts, axis=1), np.diff(starts, append=len(detection)), axis=1)
        position = np.where(is_open & (value == best), np.arange(len(detection)), -1)
        chosen = np.maximum.reduceat(position, starts, axis=1)
        threshold, winner = np.nonzero(chosen >= 0)
        pair = chosen[threshold, winner]
        label_of[threshold, detection[pair]] = label[pair]
        taken[threshold, label[pair]] = True
    return label_of


def _rounds(found: Found, labels: Labels, least_iou: float, by_class: bool) -> Iterator[tuple[Ints, Ints, NDArray[np.float64]]]:
    """Pairs (detection, label, IoU) that overlap enough to be matched, in rounds of one detection per group, best first."""
    group = _group(found, by_class)
    detection, label, iou = _overlaps(found, labels, group, _group(labels, by_class), least_iou)
    contenders, contender = np.unique(detection, return_inverse=True)
    turn = _rank_in_group(group[contenders])[contender]
    order = np.lexsort((label, detection, turn))
    ends = np.cumsum(np.bincount(turn)) if len(turn) else np.zeros(0, np.int64)
    for start, end in pairwise([0, *ends]):
        rows = order[start:end]
        yield detection[rows], label[rows], iou[rows]


def _overlaps(
    found: Found, labels: Labels, found_group: Ints, label_group: Ints, least_iou: float
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """All pairs of a detection and a label of the same group with at least that IoU, in blocks to bound the memory."""
    order = np.argsort(label_group, kind="stable")
    first = np.searchsorted(label_group[order], found_group, side="left")
    count = np.searchsorted(label_group[order], found_group, side="right") - first
    total = np.cumsum(count)
    pairs = int(total[-1]) if len(total) else 0
    edges = [*np.searchsorted(total, np.arange(0, pairs, _PAIRS_AT_ONCE), side="right"), len(total)]
    parts: list[tuple[Ints, Ints, NDArray[np.float64]]] = []
    for start, end in pairwise(edges):
        n = count[start:end]
        detection = np.repeat(np.arange(start, end), n)
        within = np.arange(len(detection)) - np.repeat(np.cumsum(n) - n, n)
        label = order[np.repeat(first[start:end], n) + within]
        iou = _iou(found.xywh[detection], labels.xywh[label])
        near = iou >= least_iou
        parts.append((detection[near], label[near], iou[near]))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    detections, matched, ious = zip(*parts, strict=True)
    return np.concatenate(detections), np.concatenate(matched), np.concatenate(ious)


def _iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """IoU of each row of `a` with the same row of `b`, in the very operations of pycocotools' `bbIou`, so that 0.5 is 0.5 in
    both."""
    overlap = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = np.where((overlap > 0).all(axis=1), overlap[:, 0] * overlap[:, 1], 0.0)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - common
    ratio: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    return ratio


def _group(table: Found | Labels, by_class: bool) -> Ints:
    """A number for each row; rows compete for each other's matches when it is the same."""
    if not by_class:
        return table.image
    # 2**20 classes are more than any detector has, and leave room for 8 million million images.
    return np.asarray(table.image * (1 << 20) + table.class_id)


def _rank_in_group(group: Ints) -> Ints:
    """0 for the first row of each group, 1 for its second, …, in the given order."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return rank
