from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pipeline.boxes import area, iou
from pipeline.dataset import EDGES, Dataset
from pipeline.health import labels
from pipeline.health.findings import Finding
from pipeline.health.opening import open_folder
from pipeline.stage import Context

Row = tuple[int, int, float, float, float, float]


def dataset(
    boxes: list[Row], images: int = 3, names: tuple[str, ...] = ("a", "b"), size: tuple[int, int] = (200, 100)
) -> Dataset:
    rows = [{"path": f"{i}.jpg", "width": size[0], "height": size[1]} for i in range(images)]
    return Dataset.from_rows(names, rows, boxes)


def found(data: Dataset) -> dict[str, Finding]:
    return {one.code: one for one in labels.check(data)}


def test_two_boxes_around_one_object_are_told_apart_from_doubles_and_from_boxes_inside() -> None:
    data = dataset(
        [
            (0, 0, 10, 10, 60, 60),
            (0, 0, 10, 10, 60, 61),  # the same object
            (1, 0, 10, 10, 60, 60),
            (1, 0, 10, 10, 60, 60),  # a double
            (2, 0, 0, 0, 100, 100),
            (2, 0, 20, 20, 40, 40),  # inside
            (2, 1, 0, 0, 100, 99),  # another class is nobody's double
        ]
    )
    result = found(data)
    assert [result[code].count for code in ("box_near_identical", "box_duplicate", "box_contained")] == [1, 1, 1]
    near = result["box_near_identical"].items[0]
    assert (near.path, [mark.box for mark in near.marks]) == ("0.jpg", [(10, 10, 60, 60), (10, 10, 60, 61)])


EDGE = st.integers(0, 12).map(float)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), EDGE, EDGE, EDGE, EDGE), max_size=25))
def test_the_sweep_finds_exactly_the_pairs_that_overlap(rows: list[Row]) -> None:
    boxes = [(i, k, min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for i, k, x1, y1, x2, y2 in rows]
    data = dataset(boxes)
    edges = data.boxes[EDGES].to_numpy()
    key = data.boxes[["image", "class_id"]].to_numpy().tolist()
    expected = set()
    for i, j in combinations(range(len(edges)), 2):
        one, other = edges[i : i + 1], edges[j : j + 1]
        width, height = np.minimum(one, other)[0, 2:] - np.maximum(one, other)[0, :2]
        smaller = min(area(one)[0], area(other)[0])
        share = max(width, 0) * max(height, 0) / smaller if smaller else 0
        if key[i] == key[j] and (share >= labels.CONTAINED_SHARE or iou(one, other)[0, 0] > labels.NEAR_IDENTICAL_IOU):
            expected.add((i, j))
    pairs = labels.overlapping(data)
    got = [tuple(sorted(pair)) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    assert set(got) == expected
    assert len(got) == len(expected)


def test_odd_sizes_are_told_with_their_values() -> None:
    data = dataset(
        [(0, 0, 5, 5, 7, 50), (0, 0, 30, 30, 30, 60), (1, 1, 0, 0, 200, 99), (2, 1, -5, 0, 20, 20)]
        + [(2, 0, 20 + i, 20, 40 + i, 40) for i in range(10)]
    )
    result = found(data)
    assert result["box_tiny"].items[0].detail == "a 2.0 x 45.0 px"
    assert result["box_zero_area"].severity == "error"
    assert [item.path for item in result["box_giant"].items] == ["1.jpg"]
    assert [item.path for item in result["box_out_of_bounds"].items] == ["2.jpg"]


def test_where_many_boxes_fill_their_image_that_is_what_the_data_are_about() -> None:
    data = dataset([(i, 0, 0, 0, 200, 100) for i in range(3)] + [(0, 1, 5, 5, 50, 50)])
    assert "box_giant" not in found(data)


def cells(sizes: list[float]) -> Dataset:
    """A box of class a for each size."""
    return dataset([(i % 20, 0, 1, 1, 1 + size, 1 + size) for i, size in enumerate(sizes)], 20, size=(400, 400))


def test_a_box_unlike_its_class_is_told_but_not_a_class_of_two_sizes_or_of_all_sizes() -> None:
    usual = [30 + i % 7 for i in range(150)]
    (item,) = found(cells([*usual, 130]))["box_unlike_class"].items
    assert item.detail == "a 130.0 x 130.0 px"
    assert found(cells([*usual, 8]))["box_unlike_class"].count == 1
    assert "box_unlike_class" not in found(cells([*usual, *[130] * 10]))  # near and far
    assert "box_unlike_class" not in found(cells([*usual, 60]))  # less than twice as large
    assert "box_unlike_class" not in found(cells(np.geomspace(5, 200, 150).tolist()))
    assert "box_unlike_class" not in found(cells([*usual[:60], 130]))  # too few to know what is usual


def test_a_crowd_is_told_because_detectors_answer_no_more_boxes() -> None:
    rows: list[Row] = [(1, 0, i % 180, i // 180 * 20, i % 180 + 9, i // 180 * 20 + 9) for i in range(301)]
    item = found(dataset(rows))["image_crowded"].items[0]
    assert (item.path, item.detail) == ("1.jpg", "301 boxes")


def test_classes_without_boxes_rare_ones_and_names_spelled_alike() -> None:
    names = ("car", "Car ", "bus", "traffic light", "Traffic-Light")
    data = dataset([(i, 0, 0, 0, 9, 9) for i in range(25)] + [(0, 1, 0, 0, 9, 9), (1, 1, 0, 0, 9, 9)], 25, names)
    result = found(data)
    assert [item.detail for item in result["class_empty"].items] == ["bus", "traffic light", "Traffic-Light"]
    assert [item.detail for item in result["class_rare"].items] == ["Car : 2 boxes in 2 images"]
    assert [item.detail for item in result["class_names_alike"].items] == ["'car' = 'Car '", "'traffic light' = 'Traffic-Light'"]


def test_statistics_tell_figures_and_are_silent_without_boxes() -> None:
    result = found(dataset([(0, 0, 90, 40, 110, 60), (0, 1, 0, 0, 20, 10)]))
    assert result["class_balance"].detail == "a 1 (50%), b 1 (50%)"
    assert result["boxes_per_image"].detail.endswith("2 of 3 images have none")
    assert result["box_positions"].detail.startswith("50%")
    assert {found.severity for found in result.values() if found.code.startswith("box_")} == {"info"}
    assert [one.code for one in labels.check(dataset([]))] == ["class_empty"]


def test_a_million_boxes_take_seconds() -> None:
    rng = np.random.default_rng(0)
    count, images = 1_000_000, 50_000
    low = rng.random((count, 2)) * (600, 440)
    high = low + rng.random((count, 2)) * 40 + 3
    boxes = pd.DataFrame(np.concatenate([low, high], axis=1), columns=EDGES)
    boxes.insert(0, "class_id", rng.integers(0, 80, count))
    boxes.insert(0, "image", np.sort(rng.integers(0, images, count)))
    paths = [f"{i}.jpg" for i in range(images)]
    frame = pd.DataFrame({"path": paths, "width": 640, "height": 480, "hash": "", "source_id": paths, "group_id": paths})
    data = Dataset(tuple(map(str, range(80))), frame.assign(split="", dhash=""), boxes)
    started = time.perf_counter()
    assert labels.check(data)
    assert time.perf_counter() - started < 30  # two seconds on an idle machine


def test_real_blood_cells_have_the_errors_that_one_sees_in_them(shared_data: Path) -> None:
    subject = open_folder(shared_data / "bccd-voc", Context(workers=2))
    result = found(subject.dataset)
    odd = sorted(item.path.rpartition("_")[2] for item in result["box_unlike_class"].items)
    assert odd == ["00113.jpg", "00133.jpg", "00135.jpg"]  # a platelet called WBC, and two WBC called platelets
    assert result["box_near_identical"].count == 7
    assert not {"box_tiny", "box_giant", "class_rare", "class_empty"} & result.keys()
