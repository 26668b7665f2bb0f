"""What a model does at one confidence threshold, which threshold to choose, and what it takes for what.

AP looks at all thresholds; whoever uses a model has to set one. All counts here are at IoU 0.5 and come from the matches that
AP is made of, so a detection that is true in one table is true in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.matching import Ints, Matches, match

CONFIDENCES = (np.arange(1, 1000) / 1000).astype(np.float32)
"""The thresholds tried: 0.001, 0.002, …, 0.999. float32, as scores are, or 0.7 would not be at least 0.7."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """True and false detections and missed boxes; any shape, the same for all three.

    Precision without a detection and recall without a box are 0, not undefined, so that a class that is never found lowers the
    mean.
    """

    tp: Ints
    fp: Ints
    fn: Ints

    @property
    def precision(self) -> Floats:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Floats:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> Floats:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def counts_by_confidence(matches: Matches) -> Counts:
    """Per class and threshold: (classes, len(CONFIDENCES))."""
    boxes = np.bincount(matches.labels.class_id, minlength=matches.classes)
    tp = np.zeros((matches.classes, len(CONFIDENCES)), dtype=np.int64)
    fp = np.zeros_like(tp)
    for k in range(matches.classes):
        of_class = matches.found.class_id == k
        for count, rows in ((tp, of_class & matches.is_true), (fp, of_class & ~matches.is_true)):
            scores = np.sort(matches.found.score[rows])
            count[k] = len(scores) - np.searchsorted(scores, CONFIDENCES, side="left")
    return Counts(tp, fp, boxes[:, None] - tp)


def best_confidence(f1: Floats) -> float:
    """The threshold of `CONFIDENCES` with the highest F1; of several, the middle of the widest run.

    F1 changes only where a score lies. In the middle of a plateau, scores that come out slightly different (another runtime,
    another camera) change the least.

    Args:
        f1: (len(CONFIDENCES),).
    """
    edges = np.diff(np.concatenate([[0], (f1 >= f1.max()).astype(np.int64), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    widest = int(np.argmax(ends - starts))
    return round(float(CONFIDENCES[(starts[widest] + ends[widest] - 1) // 2]), 3)


def present(matches: Matches) -> NDArray[np.bool_]:
    """Which classes have boxes."""
    return np.bincount(matches.labels.class_id, minlength=matches.classes) > 0


def counts_per_class(matches: Matches, confidence: float) -> Counts:
    """At one threshold: (classes,)."""
    return _count(matches, confidence, matches.found.class_id, matches.labels.class_id, matches.classes)


def counts_per_image(matches: Matches, confidence: float) -> Counts:
    """At one threshold: (images,)."""
    return _count(matches, confidence, matches.found.image, matches.labels.image, matches.images)


def _count(matches: Matches, confidence: float, found_key: Ints, label_key: Ints, size: int) -> Counts:
    shown = matches.found.score >= np.float32(confidence)
    tp = np.bincount(found_key[shown & matches.is_true], minlength=size)
    fp = np.bincount(found_key[shown & ~matches.is_true], minlength=size)
    return Counts(tp, fp, np.bincount(label_key, minlength=size) - tp)


def false_confidence_per_image(matches: Matches, confidence: float) -> Floats:
    """Sum of the scores of the false detections at one threshold: (images,)."""
    wrong = (matches.found.score >= np.float32(confidence)) & ~matches.is_true
    score = matches.found.score[wrong].astype(np.float64)
    return np.bincount(matches.found.image[wrong], weights=score, minlength=matches.images).astype(np.float64)


def confusion_matrix(matches: Matches, confidence: float) -> Ints:
    """How often a labelled class was detected as another, or not at all.

    First come the matches within a class, which AP counts; what is left over on both sides is then matched across classes by
    IoU alone. The diagonal is therefore the true positives of `counts_per_class`, a row sums up to the class's boxes, a column
    to its detections.

    Returns:
        (classes + 1, classes + 1) int64; rows are what is labelled, columns what is detected. The last column holds missed
        boxes, the last row detections where nothing is labelled.
    """
    shown = matches.found.score >= np.float32(confidence)
    found, label_of = matches.found.where(shown), matches.label_of[0][shown]
    labels, nothing = matches.labels, matches.classes
    missed = np.ones(len(labels), dtype=bool)
    missed[label_of[label_of >= 0]] = False
    left_found, left_labels = found.where(label_of < 0), labels.where(missed)
    other = match(left_found, left_labels, [0.5], by_class=False)[0]
    mistaken = np.zeros(len(left_labels), dtype=bool)
    mistaken[other[other >= 0]] = True

    matrix = np.zeros((matches.classes + 1, matches.classes + 1), dtype=np.int64)
    true_class = found.class_id[label_of >= 0]
    np.add.at(matrix, (true_class, true_class), 1)
    np.add.at(matrix, (left_labels.class_id[other[other >= 0]], left_found.class_id[other >= 0]), 1)
    np.add.at(matrix, (left_labels.class_id[~mistaken], nothing), 1)
    np.add.at(matrix, (nothing, left_found.class_id[other < 0]), 1)
    return matrix


def _ratio(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(whole), dtype=np.float64), where=whole > 0)
