"""Agreement of two models, and its difference in mAP."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import parity
from pipeline.dataset import Dataset
from pipeline.detections import Detections

CAR, TRAM = 0, 1


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections.make(table[:, :4], table[:, 4], table[:, 5])


ONE = found((10, 10, 110, 60, 0.9, CAR))
NOTHING = found()


def test_the_same_boxes_agree_wholly() -> None:
    result = parity.agreement([ONE, NOTHING], [ONE, NOTHING])
    assert (result.images, result.boxes, result.matched, result.fraction) == (2, 2, 2, 1.0)
    assert (result.max_edge_px, result.max_score, result.min_iou) == (0, 0, 1)


def test_a_limit_that_is_just_met_is_met() -> None:
    """93 of 100 boxes are 0.93, and not a rounding less."""
    rows = [(20 * n, 0, 20 * n + 10, 10, 0.9, CAR) for n in range(100)]
    faint = [(*row[:4], 0.2, CAR) for row in rows[:93]]
    result = parity.agreement([found(*rows)], [found(*faint)])
    assert (result.matched, result.boxes) == (93, 100)
    assert result.fraction >= 0.93


def test_a_shift_is_measured_in_pixels() -> None:
    result = parity.agreement([ONE], [found((12, 10, 110, 57, 0.8, CAR))])
    assert result.fraction == 1
    assert result.max_edge_px == 3
    assert result.max_score == pytest.approx(0.1)
    assert result.min_iou == pytest.approx(98 * 47 / (100 * 50))


def test_a_lost_an_invented_and_a_renamed_box_have_no_partner() -> None:
    assert parity.agreement([ONE], [NOTHING]).fraction == 0
    assert parity.agreement([NOTHING], [ONE]).fraction == 0
    renamed = parity.agreement([ONE], [found((10, 10, 110, 60, 0.9, TRAM))])
    assert (renamed.boxes, renamed.matched) == (2, 0)
    assert renamed.max_edge_px is None


def test_a_box_under_the_confidence_may_be_a_partner_but_needs_none() -> None:
    faint = found((10, 10, 110, 60, 0.2, CAR))
    result = parity.agreement([ONE], [faint])
    assert (result.boxes, result.fraction) == (1, 1)
    assert result.max_score == pytest.approx(0.7)
    assert parity.agreement([faint], [NOTHING]).boxes == 0


def test_each_box_has_one_partner_and_the_nearest() -> None:
    twice = found((10, 10, 110, 60, 0.9, CAR), (11, 10, 111, 60, 0.8, CAR))
    result = parity.agreement([twice], [found((11, 10, 111, 60, 0.9, CAR))])
    assert (result.boxes, result.matched) == (3, 2)
    assert result.max_edge_px == 0


def test_the_worst_image_is_the_one_that_lost_a_box_then_the_one_that_moved_it_most() -> None:
    moved = found((10, 10, 110, 66, 0.9, CAR))
    assert parity.agreement([ONE, ONE, ONE], [ONE, moved, ONE]).worst_image == 1
    assert parity.agreement([ONE, ONE, ONE], [ONE, moved, NOTHING]).worst_image == 2
    assert parity.agreement([NOTHING], [NOTHING]).worst_image is None
    assert parity.agreement([], []).fraction == 1


detections = st.lists(
    st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(61, 99)] * 2, st.floats(0, 1), st.integers(0, 2)), max_size=8
).map(lambda rows: found(*rows))


@given(detections, detections)
def test_agreement_does_not_depend_on_which_model_comes_first(a: Detections, b: Detections) -> None:
    there, back = parity.agreement([a], [b]), parity.agreement([b], [a])
    assert there.boxes == back.boxes
    assert 0 <= there.matched <= there.boxes
    assert parity.agreement([a], [a]).fraction == 1


def test_map_falls_when_boxes_are_lost() -> None:
    rows = [{"path": "a.jpg", "width": 200, "height": 100}, {"path": "b.jpg", "width": 200, "height": 100}]
    dataset = Dataset.from_rows(["car", "tram"], rows, [(0, CAR, 10, 10, 110, 60), (1, CAR, 10, 10, 110, 60)])
    whole, half = parity.mean_average_precision(dataset, [ONE, ONE]), parity.mean_average_precision(dataset, [ONE, NOTHING])
    assert whole is not None
    assert half is not None
    assert whole == pytest.approx((1, 1))
    assert half[0] == pytest.approx(51 / 101)
    assert parity.mean_average_precision(dataset.of_split("test"), []) is None
