"""Our figures are COCO's: held against pycocotools, the reference implementation, on random data sets full of ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.detections import Detections
from pipeline.metrics import bootstrap, coco
from pipeline.metrics.matching import IOU_THRESHOLDS, Matches
from tests.detecting import Scene, make_dataset, pycocotools_run, scenes

SUMMARY = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "ar1", "ar10", "ar100")


def assert_equal(ours: float | None, theirs: float) -> None:
    """−1 is COCO's word for "does not exist"."""
    assert (ours is None) == (theirs == -1)
    assert ours is None or abs(ours - theirs) <= 1e-12


def check(scene: Scene) -> None:
    dataset, detections = scene
    oracle = pycocotools_run(dataset, detections)
    result = coco.evaluate(dataset, detections)
    for name, theirs in zip(SUMMARY, oracle.stats, strict=False):
        assert_equal(getattr(result, name), theirs)

    precision = oracle.eval["precision"][:, :, :, 0, 2]
    for k, row in enumerate(result.per_class):
        assert (row.ap50_95 is None) == (row.boxes == 0)
        assert_equal(row.ap50_95, precision[:, :, k].mean())
        assert_equal(row.ap50, precision[0, :, k].mean())
        assert_equal(row.ap75, precision[5, :, k].mean())
        assert_equal(row.ar100, oracle.eval["recall"][:, k, 0, 2].mean())
        if row.boxes:
            np.testing.assert_allclose(result.precision50[k], precision[0, :, k], atol=1e-12, rtol=0)

    ap = bootstrap.average_precision(Matches.of(dataset, detections), np.ones((1, len(dataset.images)), dtype=np.int64))[0]
    theirs = precision.mean(axis=1).T
    np.testing.assert_allclose(ap, np.where(theirs < 0, np.nan, theirs), atol=1e-12, rtol=0)


@settings(max_examples=150)
@given(scenes())
def test_random_scenes(scene: Scene) -> None:
    check(scene)


def test_more_detections_than_coco_counts() -> None:
    """300 boxes in an image; only the best 100 of a class count."""
    rng = np.random.default_rng(0)
    dataset = make_dataset(rng, images=4, classes=2, most=12)
    detections = []
    for image in range(4):
        edges, _ = dataset.edges_of(image)
        boxes = edges[rng.integers(len(edges), size=300)] + rng.normal(0, 2, (300, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        detections.append(Detections.make(boxes, rng.random(300).round(1), rng.integers(0, 2, 300)))
    check((dataset, detections))
    assert max(row.detections for row in coco.evaluate(dataset, detections).per_class) <= 400


def test_many_images_are_matched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.metrics import matching
    from tests.detecting import _found

    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", 7)
    rng = np.random.default_rng(1)
    dataset = make_dataset(rng, images=40, classes=3)
    check((dataset, [_found(rng, dataset, image, 10, 4.0, 5) for image in range(40)]))


@given(scenes())
def test_matches_are_those_of_coco(scene: Scene) -> None:
    """Not only their number: the very box that each detection is given, at each threshold."""
    dataset, detections = scene
    oracle = pycocotools_run(dataset, detections)
    matches = Matches.of(dataset, detections)
    theirs = np.full((len(IOU_THRESHOLDS), len(matches.found)), -1)
    for one in oracle.evalImgs:
        if one is None or one["aRng"] != [0, 1e10]:
            continue
        rows = np.flatnonzero((matches.found.image == one["image_id"] - 1) & (matches.found.class_id == one["category_id"] - 1))
        theirs[:, rows] = one["dtMatches"].astype(int) - 1
    np.testing.assert_array_equal(matches.label_of, theirs)
