"""Box geometry, by properties: maps that have an inverse are inverted, and the maps of boxes agree with those of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import boxes as geometry
from pipeline.images import upright

finite = st.floats(0, 4000, allow_nan=False, width=32)


@st.composite
def box_arrays(draw: st.DrawFn) -> np.ndarray:
    corners = draw(arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=finite))
    return np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1)


sides = st.integers(1, 4000)


@given(box_arrays())
def test_xywh_there_and_back(boxes: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.from_xywh(geometry.to_xywh(boxes)), boxes, atol=1e-9)


@given(box_arrays(), sides, sides)
def test_normalised_centre_form_there_and_back(boxes: np.ndarray, width: int, height: int) -> None:
    rows = geometry.to_cxcywhn(boxes, width, height)
    np.testing.assert_allclose(geometry.from_cxcywhn(rows, width, height), boxes, atol=1e-6)


def test_normalised_centre_form_with_a_size_per_box() -> None:
    boxes = np.array([[0, 0, 10, 20], [0, 0, 10, 20.0]])
    rows = geometry.to_cxcywhn(boxes, np.array([10, 20]), np.array([20, 40]))
    np.testing.assert_allclose(rows, [[0.5, 0.5, 1, 1], [0.25, 0.25, 0.5, 0.5]])


@given(box_arrays(), sides, sides)
def test_clipped_boxes_lie_in_the_image_and_inside_the_original(boxes: np.ndarray, width: int, height: int) -> None:
    cut = geometry.clip(boxes, width, height)
    assert (cut[:, :2] >= 0).all()
    assert (cut[:, 2] <= width).all()
    assert (cut[:, 3] <= height).all()
    assert (geometry.area(cut) <= geometry.area(boxes) + 1e-6).all()
    np.testing.assert_array_equal(geometry.clip(cut, width, height), cut)


@given(box_arrays(), box_arrays())
def test_iou_is_symmetric_and_between_0_and_1(a: np.ndarray, b: np.ndarray) -> None:
    overlap = geometry.iou(a, b)
    assert overlap.shape == (len(a), len(b))
    assert ((overlap >= 0) & (overlap <= 1 + 1e-9)).all()
    np.testing.assert_allclose(overlap, geometry.iou(b, a).T)


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 10, 10.0], [5, 5, 5, 5.0]])
    b = np.array([[5, 0, 15, 10.0], [5, 5, 5, 5.0]])
    np.testing.assert_allclose(geometry.iou(a, b), [[50 / 150, 0], [0, 0]])


def test_empty_arrays_stay_empty() -> None:
    none = geometry.as_boxes([])
    assert none.shape == (0, 4)
    assert geometry.transform(none, np.eye(2, 3)).shape == (0, 4)
    assert geometry.iou(none, none).shape == (0, 0)
    assert geometry.to_cxcywhn(none, 10, 10).shape == (0, 4)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(N, 4\), got \(2, 3\)"):
        geometry.as_boxes([[1, 2, 3], [4, 5, 6]])


@given(box_arrays(), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-500, 500), st.floats(-500, 500))
def test_scaling_and_shifting_is_undone_by_its_inverse(boxes: np.ndarray, sx: float, sy: float, tx: float, ty: float) -> None:
    there = np.array([[sx, 0, tx], [0, sy, ty]])
    back = np.array([[1 / sx, 0, -tx / sx], [0, 1 / sy, -ty / sy]])
    np.testing.assert_allclose(geometry.transform(geometry.transform(boxes, there), back), boxes, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@given(data=st.data())
def test_boxes_turn_as_pixels_do(orientation: int, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40))
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    stored = np.zeros((height, width, 3), np.uint8)
    stored[y1:y2, x1:x2] = 255

    matrix = geometry.orientation_matrix(orientation, width, height)
    box = geometry.transform(np.array([[x1, y1, x2, y2]], dtype=float), matrix)[0]

    rows, columns = np.nonzero(upright(stored, orientation)[:, :, 0])
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
