"""Does an exported model still say what the original said? Two lists of detections, image by image.

Two views. Agreement holds the boxes against each other and needs no labels: it sees a shift of pixels or a lost box that a mean
would hide. The difference in mAP holds both against the labels: it says whether it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import boxes as geometry
from pipeline.dataset import Dataset
from pipeline.detections import Detections

CONFIDENCE = 0.25
"""Boxes below it are noise to a user: they need no partner, but may be one."""
MIN_IOU = 0.5


@dataclass(frozen=True)
class Agreement:
    """How two models' boxes compare.

    Attributes:
        images: how many images both saw.
        boxes: boxes of either model with a confidence of at least `CONFIDENCE`.
        matched: those with a partner of the same class in the other's list, IoU at least `MIN_IOU`.
        fraction: matched / boxes; 1 when there are no boxes.
        max_edge_px, median_edge_px: largest difference of the four edges of a pair, in pixels of the image; None without pairs.
        max_score: largest difference of the two scores of a pair; None without pairs.
        min_iou: of the worst pair; None without pairs.
        worst_image: number of the image with most boxes without a partner, then with the largest edge difference; None if there
            are no boxes.
    """

    images: int
    boxes: int
    matched: int
    fraction: float
    max_edge_px: float | None
    median_edge_px: float | None
    max_score: float | None
    min_iou: float | None
    worst_image: int | None


@dataclass(frozen=True)
class _Pairs:
    """One image: boxes without a partner, and for each pair the difference of edges and scores and its IoU."""

    boxes: int
    lonely: int
    edge_px: NDArray[np.float64]
    score: NDArray[np.float64]
    iou: NDArray[np.float64]


def agreement(reference: Sequence[Detections], candidate: Sequence[Detections]) -> Agreement:
    """Compare two models over the same images, in the same order."""
    images = [_pairs(a, b) for a, b in zip(reference, candidate, strict=True)]
    boxes, lonely = sum(image.boxes for image in images), sum(image.lonely for image in images)
    edge_px, score, iou = (
        np.concatenate([getattr(image, name) for image in images] or [np.zeros(0)]) for name in ("edge_px", "score", "iou")
    )
    worst = max(range(len(images)), key=lambda n: (images[n].lonely, images[n].edge_px.max(initial=0)), default=None)
    return Agreement(
        images=len(images),
        boxes=boxes,
        matched=boxes - lonely,
        fraction=(boxes - lonely) / boxes if boxes else 1.0,
        max_edge_px=float(edge_px.max()) if len(edge_px) else None,
        median_edge_px=float(np.median(edge_px)) if len(edge_px) else None,
        max_score=float(score.max()) if len(score) else None,
        min_iou=float(iou.min()) if len(iou) else None,
        worst_image=worst if boxes else None,
    )


def _pairs(reference: Detections, candidate: Detections) -> _Pairs:
    """Pair the boxes of one image one to one, largest IoU first; a box under the confidence counts only as a partner."""
    overlap = geometry.iou(reference.boxes, candidate.boxes)
    overlap[reference.class_ids[:, None] != candidate.class_ids[None]] = 0
    seen_a, seen_b = reference.scores >= CONFIDENCE, candidate.scores >= CONFIDENCE
    overlap[~(seen_a[:, None] | seen_b[None])] = 0
    first, second = np.nonzero(overlap >= MIN_IOU)
    partner_a = np.full(len(reference), -1)
    partner_b = np.full(len(candidate), -1)
    for position in np.argsort(-overlap[first, second], kind="stable"):
        a, b = first[position], second[position]
        if partner_a[a] < 0 and partner_b[b] < 0:
            partner_a[a], partner_b[b] = b, a
    paired = np.flatnonzero(partner_a >= 0)
    partners = partner_a[paired]
    edges = np.abs(reference.boxes[paired] - candidate.boxes[partners])
    return _Pairs(
        boxes=int(seen_a.sum() + seen_b.sum()),
        lonely=int((seen_a & (partner_a < 0)).sum() + (seen_b & (partner_b < 0)).sum()),
        edge_px=edges.max(axis=1, initial=0),
        score=np.abs(reference.scores[paired].astype(np.float64) - candidate.scores[partners]),
        iou=overlap[paired, partners],
    )


def mean_average_precision(dataset: Dataset, detections: Sequence[Detections]) -> tuple[float, float] | None:
    """(mAP50-95, mAP50) by the project's one evaluator; None when the data set has no boxes to measure with."""
    from pipeline.metrics import coco

    if not len(dataset.boxes):
        return None
    result = coco.evaluate(dataset, detections)
    return float(result.map50_95), float(result.map50)
