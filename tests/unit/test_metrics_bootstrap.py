"""Confidence intervals: weights mean copies, groups stay together, seeds repeat."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.metrics import bootstrap, coco
from pipeline.metrics.matching import Matches
from tests.detecting import Scene, make_dataset, scenes


def with_copies(scene: Scene, weights: np.ndarray) -> Scene:
    """The data set in which image n is there `weights[n]` times."""
    dataset, detections = scene
    chosen = np.repeat(np.arange(len(weights)), weights)
    images = dataset.images.iloc[chosen].assign(path=[f"copy{n}.jpg" for n in range(len(chosen))])
    boxes = [dataset.boxes_of(old).assign(image=new) for new, old in enumerate(chosen)]
    return Dataset(dataset.class_names, images, pd.concat([dataset.boxes[:0], *boxes])), [detections[n] for n in chosen]


def without_ties(scene: Scene) -> Scene:
    """Distinct scores: where images tie, COCO's figure depends on the order of the images, and copies change that order."""
    dataset, detections = scene
    total = sum(map(len, detections))
    scores = np.random.default_rng(total).permutation(np.linspace(0.01, 1, max(total, 1)))
    starts = np.cumsum([0, *map(len, detections)])
    return dataset, [
        Detections.make(found.boxes, scores[start : start + len(found)], found.class_ids)
        for found, start in zip(detections, starts, strict=False)
    ]


@given(scenes(), st.integers(0, 2**32 - 1))
def test_a_weight_is_a_number_of_copies(scene: Scene, seed: int) -> None:
    dataset, detections = without_ties(scene)
    weights = np.random.default_rng(seed).integers(0, 4, len(detections))
    copies, found = with_copies((dataset, detections), weights)
    ap = bootstrap.average_precision(Matches.of(dataset, detections), weights[None])[0]
    if not len(copies.boxes):
        assert np.isnan(ap).all()
        return
    result = coco.evaluate(copies, found)
    assert np.nanmean(ap) == pytest.approx(result.map50_95, abs=1e-12)
    assert np.nanmean(ap[:, 0]) == pytest.approx(result.map50, abs=1e-12)
    for k, row in enumerate(result.per_class):
        assert np.isnan(ap[k]).all() if row.ap50_95 is None else ap[k].mean() == pytest.approx(row.ap50_95, abs=1e-12)


def noisy(images: int, seed: int = 0) -> tuple[Dataset, Matches]:
    """Boxes of one class, each found with a small error that differs from image to image, among false detections."""
    rng = np.random.default_rng(seed)
    dataset = make_dataset(rng, images, classes=1)
    detections = []
    for image in range(images):
        edges, ids = dataset.edges_of(image)
        size = np.tile(edges[:, 2:] - edges[:, :2], 2)
        boxes = np.concatenate([edges + rng.normal(0, 0.08, edges.shape) * size, edges + 150])
        scores = np.concatenate([rng.beta(5, 2, len(edges)), rng.beta(2, 5, len(edges))])
        detections.append(Detections.make(boxes, scores, [*ids, *ids]))
    return dataset, Matches.of(dataset, detections)


def test_the_interval_holds_the_figure_and_repeats() -> None:
    dataset, matches = noisy(40)
    figure = float(np.nanmean(bootstrap.average_precision(matches, np.ones((1, 40), dtype=np.int64))))
    first = bootstrap.intervals(matches, dataset.images["group_id"], 300, seed=1)
    assert first.map50_95[0] < figure < first.map50_95[1]
    assert 0 <= first.map50[0] < first.map50[1] <= 1
    assert (first.unit, first.groups) == ("image", 40)
    assert first == bootstrap.intervals(matches, dataset.images["group_id"], 300, seed=1)
    assert first != bootstrap.intervals(matches, dataset.images["group_id"], 300, seed=2)


def test_more_images_give_a_narrower_interval() -> None:
    widths = []
    for images in (20, 320):
        dataset, matches = noisy(images)
        low, high = bootstrap.intervals(matches, dataset.images["group_id"], 300, seed=0).map50_95
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def repeated(images: int, times: int) -> tuple[Dataset, Matches]:
    """Each image `times` times, as the frames of a still video."""
    rng = np.random.default_rng(3)
    single, _ = noisy(images)
    detections = [
        Detections.make(edges + rng.normal(0, 4, edges.shape), rng.random(len(edges)), ids)
        for edges, ids in map(single.edges_of, range(images))
    ]
    dataset, found = with_copies((single, detections), np.full(images, times))
    return dataset, Matches.of(dataset, found)


def test_near_copies_are_drawn_together() -> None:
    """Sixteen copies of each image say no more than one: drawn singly they would pass for sixteen times the evidence."""
    dataset, matches = repeated(images=15, times=16)
    groups = dataset.images["group_id"]
    singly = pd.Series([f"{n}" for n in range(len(groups))])
    together = bootstrap.intervals(matches, groups, 300, seed=0)
    apart = bootstrap.intervals(matches, singly, 300, seed=0)
    assert (together.unit, together.groups, apart.unit) == ("group", 15, "image")
    width, too_narrow = (high - low for low, high in (together.map50_95, apart.map50_95))
    assert width > 2.5 * too_narrow


def test_a_handful_of_groups_is_drawn_by_image() -> None:
    dataset, matches = repeated(images=3, times=5)
    found = bootstrap.intervals(matches, dataset.images["group_id"], 100, seed=0)
    assert (found.unit, found.groups) == ("image", 3)


def test_a_perfect_model_has_no_spread() -> None:
    dataset = make_dataset(np.random.default_rng(0), 12, classes=2)
    detections = [Detections.make(edges, np.ones(len(ids)), ids) for edges, ids in map(dataset.edges_of, range(12))]
    found = bootstrap.intervals(Matches.of(dataset, detections), dataset.images["group_id"], 50, seed=0)
    assert found.map50_95 == pytest.approx((1, 1))


def found_in(labelled: list[int], images: int = 4, group_ids: list[str] | None = None) -> bootstrap.Intervals | None:
    """The intervals where some images have one box each, which is found."""
    rows = [{"path": f"{n}.jpg", "width": 100, "height": 100} for n in range(images)]
    dataset = Dataset.from_rows(["a"], rows, [(n, 0, 10, 10, 50, 50) for n in labelled])
    one, nothing = Detections.make([[10, 10, 50, 50]], [0.9], [0]), Detections.make([], [], [])
    matches = Matches.of(dataset, [one if n in labelled else nothing for n in range(images)])
    return bootstrap.intervals(matches, pd.Series(group_ids or [str(n) for n in range(images)]), 50, seed=0)


def test_one_image_or_one_group_has_no_interval() -> None:
    assert found_in([0], images=1) is None
    assert found_in([2], images=4) is None, "the other images have no boxes to differ by"
    assert found_in([0, 1, 2, 3], group_ids=["video"] * 4) is None
    assert found_in([0, 1], group_ids=["video", "video", "a", "b"]) is None
    assert found_in([0, 1], group_ids=["video", "other", "a", "b"]) is not None


def test_resamples_without_a_box_do_not_count() -> None:
    found = found_in([0, 1], images=12)
    assert found
    assert found.map50 == pytest.approx((1, 1))


def test_the_correction_moves_a_shifted_distribution_back() -> None:
    resampled = np.random.default_rng(0).normal(0.55, 0.05, 20_000)
    low, high = bootstrap.corrected_percentiles(resampled, 0.5)
    assert (low + high) / 2 == pytest.approx(0.45, abs=0.01)
    low, high = bootstrap.corrected_percentiles(resampled, float(np.median(resampled)))
    assert (low, high) == pytest.approx((0.55 - 1.96 * 0.05, 0.55 + 1.96 * 0.05), abs=0.005)
    assert bootstrap.corrected_percentiles(resampled, 0.1)[0] == 0.1
