from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.boxes import area
from pipeline.dataset import EDGES, Dataset
from pipeline.health.repair import repair
from pipeline.ledger import Ledger

Row = tuple[int, int, float, float, float, float]


def dataset(rows: list[dict[str, object]], boxes: list[Row]) -> Dataset:
    images = [{"path": f"{i}.jpg", "width": 100, "height": 50, **row} for i, row in enumerate(rows)]
    return Dataset.from_rows(["a", "b"], images, boxes)


def mended(data: Dataset, unlabelled: Iterable[str] = ()) -> tuple[Dataset, list[tuple[str, str, str, str]]]:
    ledger = Ledger()
    for path in unlabelled:
        ledger.add("image", "kept", "no_label_file", path=path)
    before = len(ledger.entries)
    result = repair(data, ledger)
    return result, [(entry.item, entry.action, entry.reason, entry.path) for entry in ledger.entries[before:]]


def test_boxes_are_clipped_and_empty_and_double_ones_go() -> None:
    boxes = [(0, 0, 90, 10, 130, 40), (0, 0, 5, 5, 5, 20), (0, 1, 10, 10, 30, 30), (0, 1, 10, 10, 30, 30), (1, 0, -9, 1, -2, 9)]
    result, entries = mended(dataset([{}, {}], boxes))
    assert result.boxes[["image", "class_id", *EDGES]].to_numpy().tolist() == [[0, 0, 90, 10, 100, 40], [0, 1, 10, 10, 30, 30]]
    assert sorted(entries) == [
        ("box", "clipped", "out_of_bounds", "0.jpg"),
        ("box", "dropped", "duplicate_box", "0.jpg"),
        ("box", "dropped", "outside_image", "1.jpg"),
        ("box", "dropped", "zero_area", "0.jpg"),
    ]


def test_of_equal_files_the_labelled_one_stays_and_of_those_the_one_held_out() -> None:
    box: Row = (0, 0, 10, 10, 30, 30)
    rows: list[dict[str, object]] = [
        {"hash": "x"},
        {"hash": "x"},
        {"hash": "y", "split": "train"},
        {"hash": "y", "split": "test"},
        {"hash": "z"},
    ]
    boxes = [(number, *box[1:]) for number in (1, 2, 3)]
    result, entries = mended(dataset(rows, boxes), ["0.jpg"])
    assert result.images["path"].tolist() == ["1.jpg", "3.jpg", "4.jpg"]
    assert len(result.boxes) == 2
    assert entries == [
        ("image", "dropped", "duplicate_image", "0.jpg"),
        ("image", "dropped", "duplicate_image", "2.jpg"),
        ("box", "dropped", "image_dropped", "2.jpg"),
    ]


def test_copies_that_are_labelled_otherwise_are_left_to_a_person() -> None:
    data = dataset([{"hash": "x"}, {"hash": "x"}], [(0, 0, 10, 10, 30, 30), (1, 1, 10, 10, 30, 30)])
    result, entries = mended(data)
    assert len(result.images) == 2
    assert entries == [("image", "kept", "copies_differ", "0.jpg"), ("image", "kept", "copies_differ", "1.jpg")]


def test_a_copy_labelled_as_having_no_object_contradicts_one_with_a_box() -> None:
    data = dataset([{"hash": "x"}, {"hash": "x"}, {"hash": "x"}], [(0, 0, 10, 10, 30, 30)])
    result, entries = mended(data, ["2.jpg"])
    assert result.images["path"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert {(action, reason) for _, action, reason, _ in entries} == {("kept", "copies_differ")}
    result, entries = mended(data, ["1.jpg", "2.jpg"])
    assert result.images["path"].tolist() == ["0.jpg"]


def test_of_copies_that_nobody_labelled_one_stays() -> None:
    result, _ = mended(dataset([{"hash": "x"}, {"hash": "x"}], []), ["0.jpg", "1.jpg"])
    assert result.images["path"].tolist() == ["0.jpg"]


def test_a_sound_data_set_comes_back_as_it_is() -> None:
    data = dataset([{"hash": "x", "split": "train"}, {"hash": "y"}], [(0, 0, 10, 10, 30, 30), (1, 1, 0, 0, 100, 50)])
    result, entries = mended(data)
    assert entries == []
    assert result.images.equals(data.images)
    assert result.boxes.equals(data.boxes)


VALUE = st.integers(-5, 12).map(lambda value: value * 10.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), VALUE, VALUE, VALUE, VALUE), max_size=12), st.booleans())
def test_whatever_comes_in_every_box_is_accounted_for_and_nothing_is_left_to_mend(rows: list[Row], copies: bool) -> None:
    data = dataset([{"hash": "x" if copies else str(i)} for i in range(3)], rows)
    ledger = Ledger()
    result = repair(data, ledger)
    dropped = sum(entry.item == "box" and entry.action == "dropped" for entry in ledger.entries)
    assert len(result.boxes) + dropped == len(data.boxes)
    edges = result.boxes[EDGES].to_numpy()
    assert (area(edges) > 0).all()
    assert (edges >= 0).all()
    assert (edges <= np.array([100, 50, 100, 50])).all()
    assert not result.boxes.duplicated().any()
    again = Ledger()
    assert repair(result, again).boxes.equals(result.boxes)
    assert {entry.reason for entry in again.entries} <= {"copies_differ"}
