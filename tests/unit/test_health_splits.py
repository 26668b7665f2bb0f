from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.health import duplicates, splits
from pipeline.health.findings import Finding
from pipeline.health.opening import open_folder
from pipeline.images import decode, dhash
from pipeline.stage import Context


def look(seed: int, lost: int = 0) -> str:
    """A hash of a picture with many edges, `lost` of which are gone."""
    bits = int.from_bytes(np.random.default_rng(seed).bytes(32))
    for _ in range(lost):
        bits &= bits - 1
    return f"{bits:064x}" * 2


def dataset(rows: list[dict[str, object]], boxes: list[tuple[float, ...]] | None = None) -> Dataset:
    images = [{"path": f"{i}.jpg", "width": 100, "height": 100, **row} for i, row in enumerate(rows)]
    return Dataset.from_rows(["a", "b"], images, boxes or [])


def leaks(data: Dataset) -> dict[str, Finding]:
    hashes = data.images["dhash"].tolist()
    nothing_seen = [float("nan")] * len(hashes)
    return {
        found.code: found
        for found in splits.check(data, hashes, nothing_seen, duplicates.look_alikes(hashes))
        if found.code.startswith("leak")
    }


def doubles(data: Dataset) -> dict[str, Finding]:
    hashes = data.images["dhash"].tolist()
    return {found.code: found for found in duplicates.check(data, hashes, duplicates.look_alikes(hashes))}


def test_the_same_image_on_two_sides_is_an_error_told_once() -> None:
    rows = [{"hash": "x", "split": side, "dhash": look(1)} for side in ("train", "train", "val", "test")]
    found = leaks(dataset([*rows, {"hash": "y", "split": "test", "dhash": look(2)}]))
    assert found.keys() == {"leak_duplicate"}
    assert [(item.path, item.other, item.detail) for item in found["leak_duplicate"].items] == [
        ("2.jpg", "0.jpg", "val and train"),
        ("3.jpg", "0.jpg", "test and train"),
    ]


def test_a_group_and_a_source_on_two_sides_are_errors() -> None:
    rows: list[dict[str, object]] = [
        {"group_id": "clip 1", "split": "train"},
        {"group_id": "clip 1", "split": "val"},
        {"source_id": "photo.jpg", "group_id": "p", "split": "train"},
        {"source_id": "photo.jpg", "group_id": "q", "split": "test"},
        {"group_id": "clip 2", "split": "val"},
        {"group_id": "clip 2", "split": ""},
    ]
    found = leaks(dataset(rows))
    assert sorted((item.path, item.detail) for item in found["leak_group"].items) == [
        ("1.jpg", "val and train, of 'clip 1'"),
        ("3.jpg", "test and train, of 'photo.jpg'"),
    ]


def test_images_that_look_alike_on_two_sides_are_a_warning_unless_told_already() -> None:
    rows: list[dict[str, object]] = [
        {"split": "train", "dhash": look(1)},
        {"split": "val", "dhash": look(1, lost=3)},
        {"split": "val", "dhash": look(2)},
        {"split": "train", "dhash": look(3), "group_id": "g"},
        {"split": "test", "dhash": look(3, lost=2), "group_id": "g"},
        {"split": "test", "dhash": "0" * 128},
        {"split": "train", "dhash": "0" * 128},  # blank pictures look like nothing
    ]
    found = leaks(dataset(rows))
    near = found["leak_near_duplicate"]
    assert [(item.path, item.other) for item in near.items] == [("1.jpg", "0.jpg")]
    assert (near.severity, near.detail) == ("warning", "1 of 4 images of val and test")
    assert found["leak_group"].count == 1


def test_without_two_sides_there_is_nothing_to_compare() -> None:
    data = dataset([{"hash": "x", "split": "train"}, {"hash": "x", "split": ""}])
    assert splits.check(data, ["", ""], [1.0, 2.0], None) == []


def test_a_side_without_a_class_is_told() -> None:
    data = dataset([{"split": "train"}, {"split": "val"}], [(0, 0, 1, 1, 9, 9), (0, 1, 1, 1, 9, 9), (1, 0, 1, 1, 9, 9)])
    (found,) = [one for one in splits.check(data, ["", ""], [1.0, 1.0], None) if one.code == "split_class_missing"]
    assert [item.detail for item in found.items] == ["val has no b"]


# ---------------------------------------------------------------- doubles on one side


def test_copies_on_one_side_are_a_warning_and_an_error_where_they_are_labelled_otherwise() -> None:
    boxes = [(0, 0, 10, 10, 20, 20), (1, 0, 10, 10, 20, 20.001), (3, 0, 5, 5, 30, 30)]
    data = dataset([{"hash": "x"}, {"hash": "x"}, {"hash": "y"}, {"hash": "y"}], boxes)
    found = doubles(data)
    assert [(item.path, item.other) for item in found["image_duplicate"].items] == [("1.jpg", "0.jpg")]
    differing = found["image_duplicate_labels"]
    assert (differing.severity, differing.items[0].detail) == ("error", "1 and 0 boxes")


def test_tiles_and_augmented_copies_of_one_original_are_no_doubles() -> None:
    rows = [{"hash": "x", "dhash": look(1), "source_id": "s"}, {"hash": "x", "dhash": look(1, 1), "source_id": "s"}]
    assert doubles(dataset(rows)) == {}


def test_near_duplicates_are_counted_by_chain_and_one_of_each_chain_is_named_first() -> None:
    chains = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)]
    found = doubles(dataset([{"hash": str(i), "dhash": look(*chain)} for i, chain in enumerate(chains)]))["image_near_duplicate"]
    assert (found.count, found.detail) == (3, "in 2 groups")
    assert [(item.path, item.other) for item in found.items] == [("1.jpg", "0.jpg"), ("4.jpg", "3.jpg"), ("2.jpg", "0.jpg")]


def test_too_many_images_to_compare_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 2)
    assert doubles(dataset([{"dhash": look(1)}] * 3)).keys() == {"near_unchecked"}


# ---------------------------------------------------------------- drift


def drawn(seed: int, shares: dict[str, float], images: int = 100, group: int = 1, boxes: int = 6) -> Dataset:
    """Images whose boxes are all of one class within a group: class b with the probability of the side."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    edges: list[tuple[float, ...]] = []
    for side, share in shares.items():
        for start in range(0, images, group):
            class_id = int(rng.random() < share)
            for _ in range(group):
                edges += [(len(rows), class_id, 10, 10, 30, 30)] * boxes
                rows.append({"split": side, "group_id": f"{side} {start}"})
    return dataset(rows, edges)


def drifts(data: Dataset, brightness: list[float] | None = None) -> dict[str, Finding]:
    grey = brightness or [100.0] * len(data.images)
    return {found.code: found for found in splits.check(data, [""] * len(grey), grey, None) if found.code.startswith("drift")}


def test_other_classes_on_a_side_are_told_with_the_class_that_differs_most() -> None:
    found = drifts(drawn(0, {"train": 0.3, "val": 0.3, "test": 0.7}))
    assert found.keys() == {"drift_classes"}
    (item,) = found["drift_classes"].items
    assert "of boxes of test are" in item.detail
    assert "distance 0.4" in item.detail or "distance 0.3" in item.detail


def test_equal_sides_raise_no_alarm_also_when_there_are_few_videos() -> None:
    """Boxes of one video are all alike: a test that counted each box as a draw would call every one of these adrift."""
    false_alarms = sum(bool(drifts(drawn(seed, {"train": 0.5, "val": 0.5}, images=80, group=10))) for seed in range(60))
    assert false_alarms <= 2


def test_a_small_difference_is_no_drift_however_many_images_prove_it() -> None:
    assert drifts(drawn(1, {"train": 0.40, "val": 0.50}, images=3000, boxes=1)) == {}


def test_box_sizes_and_brightness_are_compared_too() -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = [{"split": "train" if i % 2 else "val"} for i in range(120)]
    edges = []
    for i in range(120):
        side = rng.uniform(5, 9) if i % 2 else rng.uniform(20, 40)
        edges += [(i, 0, 10, 10, 10 + side, 10 + side)] * 3
    grey = [rng.uniform(30, 90) if i % 2 else rng.uniform(120, 200) for i in range(120)]
    found = drifts(dataset(rows, edges), grey)
    assert found.keys() == {"drift_box_sizes", "drift_brightness"}
    assert "images of val are" in found["drift_brightness"].items[0].detail


def test_real_splits_are_apart_and_the_same_slide_on_two_sides_is_found(shared_data: Path) -> None:
    subject = open_folder(shared_data / "bccd-voc", Context(workers=2))
    pixels = [decode(subject.folder / path) for path in subject.dataset.images["path"]]
    grey = [float(image.mean()) for image in pixels]
    hashes = [dhash(image) for image in pixels]
    found = {one.code: one for one in splits.check(subject.dataset, hashes, grey, duplicates.look_alikes(hashes))}
    assert found.keys() == {"leak_near_duplicate"}
    (item,) = found["leak_near_duplicate"].items
    assert (item.path[-9:], item.other[-9:]) == ("00037.jpg", "00038.jpg")
