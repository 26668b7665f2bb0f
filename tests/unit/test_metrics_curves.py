"""Thresholds, counts and confusion, in cases small enough to be followed by hand, and their sums in random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.metrics import curves
from pipeline.metrics.matching import Matches
from tests.detecting import Scene, scenes

A, B, C = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 90, 90)


def matches(labels: list[tuple[float, ...]], *found: tuple[tuple[float, ...], float, int]) -> Matches:
    """One image, three classes; labels are (class, x1, y1, x2, y2)."""
    rows = [(0, *label) for label in labels]
    dataset = Dataset.from_rows(["a", "b", "c"], [{"path": "0.jpg", "width": 100, "height": 100}], rows)
    return Matches.of(dataset, [Detections.make([f[0] for f in found], [f[1] for f in found], [f[2] for f in found])])


def test_counts_at_a_threshold() -> None:
    case = matches([(0, *A), (0, *B), (1, *C)], (A, 0.9, 0), (C, 0.6, 0), (C, 0.3, 1))
    high, low = curves.counts_per_class(case, 0.5), curves.counts_per_class(case, 0.25)
    assert (high.tp.tolist(), high.fp.tolist(), high.fn.tolist()) == ([1, 0, 0], [1, 0, 0], [1, 1, 0])
    assert (low.tp.tolist(), low.fp.tolist(), low.fn.tolist()) == ([1, 1, 0], [1, 0, 0], [1, 0, 0])
    assert low.precision.tolist() == [0.5, 1, 0]
    assert low.recall.tolist() == [0.5, 1, 0]
    assert low.f1.tolist() == [0.5, 1, 0]


def test_a_score_of_exactly_the_threshold_counts() -> None:
    for confidence in (0.1, 0.3, 0.7, 0.9):
        case = matches([(0, *A)], (A, confidence, 0))
        assert curves.counts_per_class(case, confidence).tp[0] == 1
        at = int(np.flatnonzero(np.float32(confidence) == curves.CONFIDENCES)[0])
        assert curves.counts_by_confidence(case).tp[0, at : at + 2].tolist() == [1, 0]


def test_the_best_threshold_is_the_middle_of_the_widest_run() -> None:
    """Right ones at 0.8 and 0.6, a wrong one at 0.2: everything above 0.2 up to 0.6 is best."""
    case = matches([(0, *A), (0, *B)], (A, 0.8, 0), (B, 0.6, 0), (C, 0.2, 0))
    assert curves.best_confidence(curves.counts_by_confidence(case).f1[0]) == 0.4
    f1 = np.zeros(999)
    f1[[10, 11, 12, 500, 501, 502, 503, 504, 900]] = 1
    assert curves.best_confidence(f1) == 0.503


def test_the_best_threshold_of_a_model_that_finds_nothing() -> None:
    assert curves.best_confidence(np.zeros(999)) == 0.5


def test_confusion() -> None:
    """`a` found, `b` taken for `c`, `c` missed, and an `a` where nothing is."""
    case = matches([(0, *A), (1, *B), (2, *C)], (A, 0.9, 0), (B, 0.8, 2), ((70, 0, 80, 10), 0.7, 0), (C, 0.1, 2))
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert curves.confusion_matrix(case, 0.5).tolist() == expected


def test_the_right_class_goes_before_the_larger_overlap() -> None:
    """A better-scored wrong class must not take the box away from the right one, or the diagonal would not be AP's."""
    case = matches([(0, *A)], (A, 0.9, 1), ((0, 0, 10, 9), 0.5, 0))
    assert curves.confusion_matrix(case, 0.1).tolist() == [[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 1, 0, 0]]


@given(scenes(), st.sampled_from([0.001, 0.2, 0.5, 0.999]))
def test_all_tables_agree(scene: Scene, confidence: float) -> None:
    dataset, detections = scene
    case = Matches.of(dataset, detections)
    per_class, per_image = curves.counts_per_class(case, confidence), curves.counts_per_image(case, confidence)
    matrix = curves.confusion_matrix(case, confidence)
    np.testing.assert_array_equal(np.diag(matrix)[:-1], per_class.tp)
    np.testing.assert_array_equal(matrix.sum(axis=1)[:-1], per_class.tp + per_class.fn)
    np.testing.assert_array_equal(matrix.sum(axis=0)[:-1], per_class.tp + per_class.fp)
    for name in ("tp", "fp", "fn"):
        assert getattr(per_class, name).sum() == getattr(per_image, name).sum()
    assert (per_class.tp + per_class.fn).sum() == len(dataset.boxes)
    shown = sum(len(found.above(confidence)) for found in detections)
    assert (per_class.tp + per_class.fp).sum() == shown

    at = int(np.flatnonzero(np.float32(confidence) == curves.CONFIDENCES)[0])
    by_confidence = curves.counts_by_confidence(case)
    for name in ("tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(by_confidence, name)[:, at], getattr(per_class, name))
    assert (curves.false_confidence_per_image(case, confidence) <= per_image.fp + 1e-6).all()
