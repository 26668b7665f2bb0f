from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import splitting
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.ledger import Ledger
from pipeline.neighbours import components, near_pairs
from pipeline.stages.split import Fractions, Params


def dataset(rows: list[dict[str, object]], boxes: list[tuple[int, int]] | None = None, classes: int = 2) -> Dataset:
    """Images from partial rows; boxes as (image, class)."""
    images = [{"width": 100, "height": 100, **row} for row in rows]
    edges = [(image, class_id, 10, 10, 50, 50) for image, class_id in boxes or []]
    return Dataset.from_rows([f"c{i}" for i in range(classes)], images, edges)


def many(count: int, group_size: int = 1) -> Dataset:
    rows: list[dict[str, object]] = [{"path": f"{i:04}.jpg", "group_id": f"g{i // group_size}"} for i in range(count)]
    # Class 1 is rare: one box in every tenth image.
    boxes = [(i, 0) for i in range(count)] + [(i, 1) for i in range(0, count, 10)]
    return dataset(rows, boxes)


def divide(data: Dataset, previous: Path | None = None, **params: object) -> list[str]:
    rules = Params.model_validate(params)
    groups = splitting.group_images(data, rules.group_by, rules.group_pattern, rules.duplicate_distance)
    return splitting.divide(data, groups, rules, previous, Ledger())


def group(data: Dataset, **params: object) -> list[int]:
    rules = Params.model_validate(params)
    return splitting.group_images(data, rules.group_by, rules.group_pattern, rules.duplicate_distance).tolist()


def test_fractions_of_images_and_of_every_class_are_met() -> None:
    data = many(200)
    sides = np.array(divide(data))
    assert Counter(sides) == {"train": 140, "val": 30, "test": 30}
    rare = sides[data.boxes["image"][data.boxes["class_id"] == 1]]
    assert Counter(rare) == {"train": 14, "val": 3, "test": 3}


def test_groups_never_straddle() -> None:
    data = many(120, group_size=6)
    sides = divide(data)
    by_group: dict[str, set[str]] = {}
    for name, side in zip(data.images["group_id"], sides, strict=True):
        by_group.setdefault(name, set()).add(side)
    assert all(len(present) == 1 for present in by_group.values())
    assert set(sides) == {"train", "val", "test"}


def test_file_order_does_not_matter_and_the_seed_does() -> None:
    data = many(60)
    sides = dict(zip(data.images["path"], divide(data), strict=True))
    shuffled = data.select(np.ones(60, dtype=bool))
    order = np.random.default_rng(0).permutation(60)
    images = data.images.iloc[order]
    inverse = np.argsort(order)
    boxes = data.boxes.assign(image=inverse[data.boxes["image"]])
    shuffled = Dataset(data.class_names, images, boxes)
    assert dict(zip(shuffled.images["path"], divide(shuffled), strict=True)) == sides
    assert dict(zip(data.images["path"], divide(data, seed=1), strict=True)) != sides


def test_a_photo_keeps_its_side_when_others_are_added(tmp_path: Path) -> None:
    first = many(50)
    before = divide(first)
    Dataset(first.class_names, first.images.assign(split=before), first.boxes).save(tmp_path)
    grown = many(80)
    after = divide(grown, previous=tmp_path)
    assert after[:50] == before
    assert abs(Counter(after)["train"] - 56) <= 1


def test_a_given_split_is_kept_or_ignored() -> None:
    data = many(30)
    given_sides = ["test"] * 20 + ["train"] * 10
    data = Dataset(data.class_names, data.images.assign(split=given_sides), data.boxes)
    assert divide(data) == given_sides
    assert Counter(divide(data, given="ignore"))["train"] == 21


def test_images_without_a_side_join_a_partly_given_split() -> None:
    data = many(40)
    data = Dataset(data.class_names, data.images.assign(split=["val"] * 6 + [""] * 34), data.boxes)
    sides = divide(data)
    assert sides[:6] == ["val"] * 6
    assert Counter(sides) == {"train": 28, "val": 6, "test": 6}


def test_a_leaking_given_split_is_reported() -> None:
    data = dataset(
        [
            {"path": "a.jpg", "split": "train", "hash": "same"},
            {"path": "b.jpg", "split": "test", "hash": "same"},
            {"path": "c.jpg", "split": "val", "hash": "other"},
        ]
    )
    rules = Params()
    ledger = Ledger()
    groups = splitting.group_images(data, rules.group_by, "", 3)
    assert splitting.divide(data, groups, rules, None, ledger) == ["train", "test", "val"]
    assert ledger.counts() == {"image kept: straddles_given_split": 2}


def test_what_joins_images_into_groups() -> None:
    rows: list[dict[str, object]] = [
        {"path": "x/cam1_01.jpg", "group_id": "v", "hash": "1", "dhash": "0000000000000000"},
        {"path": "x/cam1_02.jpg", "group_id": "v", "hash": "2", "dhash": "ffffffffffffffff"},
        {"path": "y/cam1_03.jpg", "group_id": "w", "hash": "1", "dhash": "00ff00ff00ff00ff"},
        {"path": "y/cam2_01.jpg", "group_id": "u", "hash": "4", "dhash": "00ff00ff00ff00f8"},
        {"path": "z/cam3.jpg", "group_id": "t", "hash": "5", "dhash": ""},
    ]
    data = dataset(rows)
    assert group(data, group_by=[]) == [0, 1, 2, 3, 4]
    assert group(data, group_by=["source"]) == [0, 0, 2, 3, 4]
    assert group(data, group_by=["folder"]) == [0, 0, 2, 2, 4]
    assert group(data, group_by=["duplicates"]) == [0, 1, 0, 0, 4]
    assert group(data, group_by=["duplicates"], duplicate_distance=2) == [0, 1, 0, 3, 4]
    assert group(data, group_by=[], group_pattern=r"(cam\d)_") == [0, 0, 0, 3, 4]
    assert group(data) == [0, 0, 0, 0, 4]


def test_fewer_groups_than_sides_is_an_error_and_small_sets_fill_every_side() -> None:
    with pytest.raises(DataError, match=r"'test' would be empty|'val' would be empty"):
        divide(many(2))
    assert set(divide(many(3))) == {"train", "val", "test"}
    assert set(divide(many(2), fractions={"train": 0.5, "val": 0.5, "test": 0})) == {"train", "val"}


@pytest.mark.parametrize(
    "values", [{"train": 0.5, "val": 0.2, "test": 0.2}, {"train": 1.0}, {"train": 0, "val": 0.5, "test": 0.5}]
)
def test_fractions_must_sum_to_one(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be 1|greater than 0"):
        Fractions.model_validate(values)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(0, 16))
def test_near_pairs_are_exactly_those_within_the_distance(values: list[int], distance: int) -> None:
    # Neighbours by construction, else random hashes would never be near each other.
    values += [value ^ (1 << (i % 64)) for i, value in enumerate(values)]
    pairs = {tuple(pair) for pair in near_pairs(np.array(values, dtype=np.uint64), distance).tolist()}
    expected = {
        (i, j) for i in range(len(values)) for j in range(i + 1, len(values)) if (values[i] ^ values[j]).bit_count() <= distance
    }
    assert pairs == expected


def test_pairs_are_found_across_blocks() -> None:
    hashes = np.arange(3000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes[2999] = hashes[5]
    assert [5, 2999] in near_pairs(hashes, 0).tolist()


def test_components_are_named_by_their_smallest_member() -> None:
    assert components(6, np.array([[4, 2], [2, 5], [0, 1]])).tolist() == [0, 0, 2, 3, 2, 2]
