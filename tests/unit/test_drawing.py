"""Names at boxes: whole, one beside the other, and in a crowd only where there is room."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageDraw

from pipeline import drawing
from pipeline.boxes import as_boxes
from pipeline.detections import Image

GREY = np.full((240, 320, 3), 128, np.uint8)


def names(boxes: list[list[float]], scores: list[float] | None = None) -> Image:
    """A picture of the names alone: 1 where one is drawn."""
    ids = np.zeros(len(boxes), dtype=np.int64)
    found = None if scores is None else np.array(scores, np.float32)
    drawn, plain = (
        drawing.draw_boxes(GREY, as_boxes(np.array(boxes)), ids, ("name",), scores=found, labels=labels)
        for labels in (True, False)
    )
    return np.asarray((drawn != plain).any(axis=2))


def test_names_of_boxes_that_begin_at_one_place_stand_apart() -> None:
    one, two = names([[40, 60, 200, 200]]).sum(), names([[40, 60, 200, 200], [41, 61, 120, 130]]).sum()
    assert two > 1.8 * one


def test_in_a_crowd_no_name_covers_another_and_the_weakest_are_left_out() -> None:
    draw = ImageDraw.Draw(PillowImage.fromarray(GREY))
    taken: list[drawing.Area] = []
    for n in range(180):
        x, y = 30 * (n % 10) + n // 60, 35 * (n // 10 % 6) + n % 7
        drawing._label(draw, [x, y, x + 40, y + 40], "a name", (0, 0, 0), drawing._font("a name", 11), (320, 240), taken, True)
    assert 10 < len(taken) < 180
    assert not any(drawing._overlap(one, other) for one, other in combinations(taken, 2))
    assert all(0 <= x1 < x2 <= 320 and 0 <= y1 < y2 <= 240 for x1, y1, x2, y2 in taken)

    boxes, scores = [[100.0, 100.0, 140.0, 130.0]] * 30, [0.1] * 30
    scores[17] = 0.9
    strongest_alone = names([boxes[0]], [0.9])
    assert (names(boxes, scores) & strongest_alone).sum() > 0.9 * strongest_alone.sum()


def test_few_boxes_are_all_named_even_where_names_overlap() -> None:
    tiny = np.full((30, 40, 3), 128, np.uint8)
    box = np.array([[0.0, 0, 40, 30]] * 3)
    drawn = drawing.draw_boxes(tiny, box, np.arange(3), ("a", "b", "c"))
    assert tuple(drawing.colour_of(2)) in {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}


@given(st.lists(st.tuples(st.floats(-20, 330), st.floats(-20, 250), st.floats(1, 200), st.floats(1, 200)), max_size=20))
def test_any_boxes_can_be_drawn(rows: list[tuple[float, float, float, float]]) -> None:
    boxes = as_boxes(np.array([(x, y, x + w, y + h) for x, y, w, h in rows]).reshape(-1, 4))
    drawn = drawing.draw_boxes(GREY, boxes, np.zeros(len(rows), np.int64), ("a name",))
    assert drawn.shape == GREY.shape
