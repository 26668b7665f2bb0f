"""Letterbox, decoding and suppression, held against ultralytics and torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline import boxes as geometry
from pipeline.inference import Batch, Detector, Letterbox, Thresholds, decode, suppress, to_batch

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
INPUTS = st.tuples(st.sampled_from([32, 64, 96, 320]), st.sampled_from([32, 64, 96, 320]))


@pytest.fixture(scope="session", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pipeline.yolo import ultralytics

    return ultralytics(tmp_path_factory.mktemp("ultralytics"))


def noise(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(SIZES, INPUTS, st.booleans())
@settings(max_examples=80)
def test_letterbox_is_that_of_ultralytics(size: tuple[int, int], inputs: tuple[int, int], rectangular: bool) -> None:
    from ultralytics.data.augment import LetterBox

    image = noise(*size)
    ours = Letterbox.fit(size, inputs, rectangular)
    np.testing.assert_array_equal(ours.apply(image), LetterBox(inputs, auto=rectangular, stride=32)(image=image))


@given(SIZES, INPUTS, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_boxes_come_back_from_the_letterbox(
    size: tuple[int, int], inputs: tuple[int, int], corners: list[tuple[float, ...]]
) -> None:
    height, width = size
    letterbox = Letterbox.fit(size, inputs)
    boxes = geometry.as_boxes([sorted([a, c])[:1] + sorted([b, d])[:1] + [max(a, c), max(b, d)] for a, b, c, d in corners])
    boxes *= [width, height, width, height]
    scale = np.array([letterbox.scaled_size[1] / width, letterbox.scaled_size[0] / height] * 2)
    placed = boxes * scale + [letterbox.left, letterbox.top] * 2
    found = letterbox.to_image(placed.astype(np.float32))
    np.testing.assert_allclose(found, boxes, atol=2e-4 * max(size))


@given(SIZES, arrays.arrays(np.float32, (3, 4), elements=st.floats(-500, 900, width=32)))
def test_boxes_are_mapped_as_by_ultralytics_and_stay_in_the_image(size: tuple[int, int], boxes: Any) -> None:
    from ultralytics.utils.ops import scale_boxes

    found = Letterbox.fit(size, (320, 320)).to_image(boxes)
    np.testing.assert_allclose(found, scale_boxes((320, 320), boxes.astype(np.float64), size), atol=1e-6)
    assert (found >= 0).all()
    assert (found[:, [0, 2]] <= size[1]).all()
    assert (found[:, [1, 3]] <= size[0]).all()


def test_a_flat_photo_gets_a_flat_input() -> None:
    assert Letterbox.fit((1080, 1920), (640, 640), rectangular=True).input_size == (384, 640)
    assert Letterbox.fit((1080, 1920), (640, 640)).input_size == (640, 640)


def test_batch_is_rgb_planes_from_zero_to_one() -> None:
    image = noise(32, 64)
    batch = to_batch([image, image[::-1]])
    assert batch.shape == (2, 3, 32, 64)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch[0], image.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def raw_output(rng: np.random.Generator, anchors: int, classes: int) -> Any:
    """What a head gives: clusters of boxes around a few objects, scores anywhere."""
    centre = rng.uniform(50, 270, (4, 2))[rng.integers(0, 4, anchors)] + rng.normal(0, 12, (anchors, 2))
    size = rng.uniform(30, 90, (anchors, 2))
    scores = rng.uniform(0, 1, (anchors, classes)) ** 3
    return np.concatenate([centre, size, scores], axis=1).T.astype(np.float32)


ANCHORS = st.integers(0, 900).filter(lambda count: count != 6)  # ultralytics takes six columns for boxes after suppression


@given(st.integers(0, 10_000), ANCHORS, st.integers(1, 5), st.booleans(), st.sampled_from([0.001, 0.25, 0.9]))
@settings(max_examples=60)
def test_detections_are_those_of_ultralytics(seed: int, anchors: int, classes: int, multi_label: bool, confidence: float) -> None:
    import torch
    import torchvision  # noqa: F401 - with it imported, ultralytics uses its suppression
    from ultralytics.utils.nms import non_max_suppression

    raw = raw_output(np.random.default_rng(seed), anchors, classes)
    thresholds = Thresholds(confidence, iou=0.6, max_det=100, multi_label=multi_label)
    if anchors == 0:
        assert len(decode(raw, thresholds)[0]) == 0
        return
    boxes, scores, class_ids = decode(raw, thresholds)
    theirs = non_max_suppression(torch.from_numpy(raw)[None], confidence, 0.6, multi_label=multi_label, max_det=100, nc=classes)[
        0
    ].numpy()
    # They move each class 7,680 px away, which rounds boxes: a pair within 1e-4 of the threshold may go the other way.
    if len(theirs) == len(scores) and (theirs[:, 5] == class_ids).all():
        np.testing.assert_allclose(boxes, theirs[:, :4], atol=1e-4)
        np.testing.assert_array_equal(scores, theirs[:, 4])
    else:
        assert abs(len(theirs) - len(scores)) <= 2
        assert np.isin(np.round(scores, 6), np.round(theirs[:, 4], 6)).mean() > 0.95


@given(st.integers(0, 10_000), st.integers(0, 1500), st.sampled_from([0.3, 0.5, 0.7]), st.sampled_from([5, 300]))
@settings(max_examples=60)
def test_suppression_is_that_of_torchvision(seed: int, count: int, iou: float, max_det: int) -> None:
    import torch
    from torchvision.ops import nms

    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 120, (count, 2))], axis=1).astype(np.float32)
    class_ids = rng.integers(0, 3, count)
    scores = torch.arange(count, 0, -1, dtype=torch.float32)  # best first
    per_class = [np.flatnonzero(class_ids == k) for k in range(3)]
    theirs = np.sort(np.concatenate([rows[nms(torch.from_numpy(boxes[rows]), scores[rows], iou).numpy()] for rows in per_class]))
    np.testing.assert_array_equal(suppress(boxes, class_ids, iou, max_det), theirs[:max_det])


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = np.zeros((3, 4), dtype=np.float32)
    assert len(suppress(boxes, np.zeros(3, dtype=np.int64), 0.5, 10)) == 3


class Recorder:
    """A network that sees one object in the middle, and remembers what it was fed."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, batch: Batch) -> Any:
        self.shapes.append(batch.shape)
        height, width = batch.shape[2:]
        one = np.array([width / 2, height / 2, 20, 10, 0.9, 0.1], dtype=np.float32)
        return np.repeat(one[None, :, None], len(batch), axis=0)


def test_a_fixed_batch_is_filled_and_cut() -> None:
    network = Recorder()
    found = Detector(network, ["a", "b"], (64, 64), "test", batch=4).predict([noise(30, 40, n) for n in range(6)])
    assert network.shapes == [(4, 3, 64, 64)] * 2
    assert [len(each.above(0.5)) for each in found] == [1] * 6


def test_a_rectangular_input_groups_neighbours_of_one_shape() -> None:
    network = Recorder()
    detector = Detector(network, ["a", "b"], (64, 64), "test", batch=4, fixed_batch=False, rectangular=True)
    flat, tall = noise(20, 64), noise(64, 20)
    found = detector.predict([flat, flat, tall, flat])
    assert network.shapes == [(2, 3, 32, 64), (1, 3, 64, 32), (1, 3, 32, 64)]
    np.testing.assert_allclose(found[0].boxes[0], [22, 5, 42, 15])


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8)])
def test_only_rgb_images_are_taken(image: Any) -> None:
    with pytest.raises(ValueError, match="expected an RGB image"):
        Detector(Recorder(), ["a", "b"], (64, 64), "test").predict([image])


def test_inference_needs_neither_torch_nor_ultralytics(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, pipeline.inference; print(sorted({'torch', 'ultralytics', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
