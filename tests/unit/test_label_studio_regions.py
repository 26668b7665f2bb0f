"""Label Studio's regions: shapes, labels, and masks by the brush."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.formats._label_studio_regions import of_brush
from tests.label_writers.label_studio import RECT, rect, result, task
from tests.labelling import Collected, Result


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path).image("a.jpg").image("b.jpg")


def read(collected: Collected, *tasks: Any) -> Result:
    return collected.text("tasks.json", json.dumps(tasks)).run()


def kinds(found: Result) -> list[tuple[str, str]]:
    """What the ledger says of boxes."""
    return [(entry.action, entry.reason) for entry in found.entries if entry.item == "box"]


def test_shapes(collected: Collected) -> None:
    mask = Image.new("RGBA", (100, 50))
    mask.paste((0, 0, 0, 255), (30, 10, 60, 20))
    stream = BytesIO()
    mask.save(stream, "PNG")
    url = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    vertices = [{"x": 10, "y": 20, "isBezier": False}, {"x": 30, "y": 20}, {"x": 20, "y": 60}]
    values = {
        "bitmasklabels": {"imageDataURL": url},
        "vectorlabels": {"vertices": vertices, "closed": True},
        "polygonlabels": {"points": [[1, 2], [3, 2], [2, 8]]},
        "rectanglelabels": {**RECT, "rotation": 360},
        "ellipselabels": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 90},
    }
    results = [
        result(number, {**value, kind: ["cat"]}, kind, from_name=kind) for number, (kind, value) in enumerate(values.items())
    ]
    found = read(collected, task(1, "a.jpg", results))
    assert [box[2:] for box in found.boxes()] == [
        (30, 10, 60, 20),
        (10, 10, 30, 30),
        (1, 1, 3, 4),
        (10, 10, 40, 30),
        (45, 15, 55, 35),  # half axes of 10 and 5 px, swapped by the turn
    ]
    assert [reason for _, reason in kinds(found)] == ["mask", "polygon", "polygon", "ellipse"]


def test_what_has_no_box(collected: Collected) -> None:
    open_line = {"vertices": [{"x": 1, "y": 1}, {"x": 5, "y": 5}], "closed": False, "vectorlabels": ["cat"]}
    found = read(
        collected,
        task(
            1,
            "a.jpg",
            [
                result(1, rect("cat")),
                result(2, {"x": 5, "y": 6, "width": 0.5, "keypointlabels": ["nose"]}, "keypointlabels"),
                result(3, {"x": 5, "y": 6, "width": 0.5, "labels": ["nose"]}, "labels"),
                result(4, open_line, "vectorlabels"),
                {"id": "t", "type": "choices", "from_name": "c", "to_name": "image", "value": {"choices": ["day"]}},
                {"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"},
            ],
        ),
    )
    dropped = ["keypoints", "keypoints", "polyline", "tag"]
    assert kinds(found) == [("dropped", reason) for reason in dropped]
    assert found.entries[0].detail == "task 1, result 2"
    assert collected.run(on_invalid="error").boxes() == found.boxes(), "none of these is a defect"


def test_results_of_one_region(collected: Collected) -> None:
    again = {**RECT, "x": 50}
    results = [
        result(1, RECT, "rectangle", from_name="box"),
        result(1, {**RECT, "labels": ["cat"]}, "labels", from_name="kind"),
        result(1, {**RECT, "text": ["hello"]}, "textarea", from_name="text"),
        result(2, {**again, "labels": ["dog"]}, "labels", from_name="kind"),
        result(2, again, "rectangle", from_name="box"),
        result(3, RECT, "rectangle", from_name="box"),
    ]
    found = read(collected, task(1, "a.jpg", results))
    assert [box[1:3] for box in found.boxes()] == [("cat", 10), ("dog", 50)]
    assert kinds(found) == [("dropped", "no_class")], "the rectangle that nobody labelled"


def test_one_id_for_all(collected: Collected) -> None:
    results = [result(1, rect("cat", x=number)) for number in (1, 2, 3)]
    assert [box[2] for box in read(collected, task(1, "a.jpg", results)).boxes()] == [1, 2, 3]


def test_several_labels(collected: Collected) -> None:
    found = read(collected, task(1, "a.jpg", [result(1, rect("cat", " dog ", "cat"))]))
    assert [box[1] for box in found.boxes()] == ["cat", "dog"]
    (entry,) = found.entries[:1]
    assert (entry.action, entry.reason, entry.detail) == ("converted", "several_labels", "task 1, result 1 cat, dog")


@pytest.mark.parametrize(
    "value",
    [
        rect(),
        rect(""),
        rect(None, 7),
        {**RECT, "rectanglelabels": None},
        RECT,
    ],
)
def test_regions_without_a_class(collected: Collected, value: Any) -> None:
    found = read(collected, task(1, "a.jpg", [result(1, rect("cat")), result(2, value)]))
    assert kinds(found) == [("dropped", "no_class")]


@pytest.mark.parametrize(
    "value",
    [
        rect("cat", x=None),
        rect("cat", height=[]),
        rect("cat", rotation="steep"),
        {"x": 1, "y": 2, "height": 4, "rectanglelabels": ["cat"]},
        {"x": 1, "y": 2, "rectanglelabels": ["cat"]},
        {"rectanglelabels": ["cat"]},
        {"points": [[1, 2], [3, 4]], "polygonlabels": ["cat"]},
        {"points": 5, "polygonlabels": ["cat"]},
        {"points": [[1], [2], [3]], "polygonlabels": ["cat"]},
        {"vertices": [1, 2, 3], "closed": True, "vectorlabels": ["cat"]},
        {"rle": [0, 0, 78], "brushlabels": ["cat"]},
        {"rle": "no", "brushlabels": ["cat"]},
        {"rle": [300] * 20, "brushlabels": ["cat"]},
        {"rle": 10**9, "brushlabels": ["cat"]},
        {"imageDataURL": 5, "bitmasklabels": ["cat"]},
        {"imageDataURL": "data:image/png;base64,AAAA", "bitmasklabels": ["cat"]},
        {"x": 1, "y": 1, "radiusX": 4, "ellipselabels": ["cat"]},
    ],
)
def test_malformed_regions(collected: Collected, value: Any) -> None:
    found = read(collected, task(1, "a.jpg", [result(1, rect("cat")), result(2, value)]))
    assert len(found.boxes()) == 1
    (entry,) = [entry for entry in found.entries if entry.item == "box"]
    assert (entry.action, entry.reason, entry.path, entry.detail) == ("dropped", "malformed_box", "a.jpg", "task 1, result 2")


# --- Brush masks ------------------------------------------------------------------------------------------------------------


BRUSHES = {
    # By label_studio_sdk 2.1.2 (converter.brush: mask2rle, encode_rle), of 6 x 4 px.
    "AAAAYDkb/l8AAA==": None,
    "AAAAYDkb/l//AA==": (0, 0, 6, 4),
    "AAAAYDkb/h8Atg9sAtg+GwAA": (2, 1, 5, 3),
    "AAAAYDkb/GAAAMQAABRAAAHEAAAkIAAAgAsQAADRAAAPEAABEQAAExAAAVEAABcQAAGRAAAbEAAB0QAA"
    "HxAAAhEAACMQAAJRAAAnEAACkQAAKxAAAtEAAC8IAAEg": (4, 0, 6, 4),
    # By @thi.ng/rle-pack 3, which the editor uses: a coloured image.
    "AAAAYDkb/CAJd/wAHA/8ADgb/ABUJ/wAcDP8AIw//ACoS/wAxFf/IOBj/yD8b/wBGHv8ATSH/AFQk/wB"
    "bJ/8AYir/AGkt/wBwMP/IdzP/AH42/wCFOf8AjDz/AJM//wCaQv8AoUX/AA=": (1, 1, 5, 3),
}


@pytest.mark.parametrize("rle", BRUSHES)
def test_brushes_of_other_programs(rle: str) -> None:
    assert of_brush(list(base64.b64decode(rle + "==")), 6, 4) == BRUSHES[rle]


def pack(values: list[int], as_runs: bool) -> list[int]:
    """Values as a brush holds them, in one of the two ways that there are."""
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    if as_runs:
        start = 0
        for end in range(1, len(values) + 1):
            if end == len(values) or values[end] != values[start]:
                bits += f"1{3:02b}{end - start - 1:016b}{values[start]:08b}"
                start = end
    else:
        for start in range(0, len(values), 11):
            part = values[start : start + 11]
            bits += f"0{1:02b}{len(part) - 1:04b}" + "".join(f"{value:08b}" for value in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 9)),
    painted=st.sets(st.integers(0, 107), max_size=6),
    colour=st.lists(st.integers(0, 255), min_size=3, max_size=3),
    as_runs=st.booleans(),
)
def test_brushes_of_every_form(size: tuple[int, int], painted: set[int], colour: list[int], as_runs: bool) -> None:
    width, height = size
    pixels = [number for number in painted if number < width * height]
    values = [value for number in range(width * height) for value in (*colour, 9 if number in pixels else 0)]
    xs, ys = [number % width for number in pixels], [number // width for number in pixels]
    wanted = (min(xs), min(ys), max(xs) + 1, max(ys) + 1) if pixels else None
    packed = pack(values, as_runs)
    assert of_brush(packed, width, height) == wanted
    assert of_brush(packed, width + 1, height) is None, "made for another image"
    if width * height > 1:
        with pytest.raises(ValueError, match="end before"):
            of_brush(packed[: len(packed) // 2], width, height)
