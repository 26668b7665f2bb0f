"""Matching in cases small enough to be followed by hand; tests/contract/test_coco_exact.py holds it against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.metrics.matching import Found, Labels, Matches, match

LEFT, RIGHT = (0, 0, 10, 10), (5, 0, 15, 10)
"""Boxes whose IoU is 1/3."""


def one_image(*boxes: tuple[float, ...], class_ids: tuple[int, ...] | None = None) -> Dataset:
    rows = [(0, k, *box) for box, k in zip(boxes, class_ids or (0,) * len(boxes), strict=True)]
    return Dataset.from_rows(["a", "b"], [{"path": "0.jpg", "width": 100, "height": 100}], rows)


def found(*rows: tuple[tuple[float, ...], float, int]) -> list[Detections]:
    return [Detections.make([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])]


def test_the_better_score_chooses_first() -> None:
    matches = Matches.of(one_image(LEFT), found((LEFT, 0.4, 0), ((0, 0, 10, 9), 0.9, 0)))
    np.testing.assert_array_equal(matches.label_of[0], [0, -1])
    assert matches.label_of[-1].tolist() == [-1, 0], "0.9 overlap does not reach 0.95, so the exact box is free for the other"


def test_a_detection_takes_the_box_it_overlaps_most() -> None:
    matches = Matches.of(one_image(LEFT, (1, 0, 11, 10)), found(((1, 0, 11, 10), 0.9, 0), (LEFT, 0.8, 0)))
    assert matches.label_of[0].tolist() == [1, 0]


def test_of_equal_overlaps_the_later_box_wins_as_in_coco() -> None:
    assert Matches.of(one_image(LEFT, LEFT), found((LEFT, 0.9, 0))).label_of[0].tolist() == [1]


def test_an_overlap_of_exactly_the_threshold_is_enough() -> None:
    matches = Matches.of(one_image(LEFT), found(((0, 0, 10, 5), 0.9, 0)))
    assert matches.label_of[:2, 0].tolist() == [0, -1]


def test_another_class_is_no_match_unless_asked() -> None:
    dataset, detections = one_image(LEFT, class_ids=(1,)), found((LEFT, 0.9, 0))
    assert Matches.of(dataset, detections).label_of[0].tolist() == [-1]
    assert match(Found.of(detections), Labels.of(dataset), [0.5], by_class=False).tolist() == [[0]]


def test_another_image_is_no_match() -> None:
    images = [{"path": f"{n}.jpg", "width": 100, "height": 100} for n in range(2)]
    dataset = Dataset.from_rows(["a"], images, [(1, 0, *LEFT)])
    assert Matches.of(dataset, [*found((LEFT, 0.9, 0)), *found((RIGHT, 0.9, 0))]).label_of[0].tolist() == [-1, -1]


def test_boxes_without_area_match_nothing() -> None:
    assert Matches.of(one_image((5, 5, 5, 9)), found(((5, 5, 5, 9), 0.9, 0))).label_of[0].tolist() == [-1]


def test_nothing_found_and_nothing_labelled() -> None:
    assert Matches.of(one_image(LEFT), found()).label_of.shape == (10, 0)
    assert Matches.of(one_image(), found((LEFT, 0.9, 0))).label_of[0].tolist() == [-1]


def test_only_the_best_hundred_of_a_class_and_image_count() -> None:
    rows = [(LEFT, 1 - n / 1000, n % 2) for n in range(300)]
    limited = Found.of(found(*rows)).limited()
    assert np.bincount(limited.class_id).tolist() == [100, 100]
    assert limited.score.min() == pytest.approx(1 - 0.199)


def test_classes_are_mapped_and_left_out() -> None:
    table = Found.of(found((LEFT, 0.9, 0), (RIGHT, 0.8, 1), (LEFT, 0.7, 2)), [5, -1, 3])
    assert table.class_id.tolist() == [5, 3]
    assert table.xywh.tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]


def test_each_image_needs_its_detections() -> None:
    with pytest.raises(ValueError, match="expected 1 detections, one per image, got 2"):
        Matches.of(one_image(LEFT), found() + found())
