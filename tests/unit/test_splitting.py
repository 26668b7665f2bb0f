from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import images, splitting
from pipeline.dataset import Dataset
from pipeline.ledger import Ledger
from pipeline.neighbours import MIN_EDGES, components, near_groups, parse
from pipeline.stage import Context
from pipeline.stages import split
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


def look(byte: str, lost: int = 0) -> str:
    """A hash with the strong edges of a repeated byte, all but the `lost` last; no edge is weak without being strong."""
    bits = int(byte * 32, 16)
    for _ in range(lost):
        bits &= bits - 1
    return f"{bits:064x}" * 2


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
    given_sides = ["test"] * 15 + ["train"] * 10 + ["val"] * 5
    data = Dataset(data.class_names, data.images.assign(split=given_sides), data.boxes)
    assert divide(data) == given_sides
    assert Counter(divide(data, given="ignore"))["train"] == 21


def test_a_given_split_of_train_and_test_gets_val_from_train() -> None:
    data = many(40)
    given_sides = ["train"] * 20 + ["test"] * 20
    images = data.images.assign(split=given_sides, group_id=["shared"] * 2 + [str(i) for i in range(36)] + ["shared"] * 2)
    data = Dataset(data.class_names, images, data.boxes)
    rules, ledger = Params(), Ledger()
    groups = splitting.group_images(data, ["source"], "", 0)
    sides = splitting.divide(data, groups, rules, None, ledger)
    assert sides[20:] == ["test"] * 20
    assert sides[:2] == ["train"] * 2, "what shares a group with test is not even fit for val"
    assert Counter(sides[:20]) == {"train": 17, "val": 3}
    assert [entry.path for entry in ledger.entries if entry.reason == "val_from_train"] == [
        path for path, side in zip(images["path"], sides, strict=True) if side == "val"
    ]


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
        {"path": "x/cam1_01.jpg", "group_id": "v", "hash": "1", "dhash": look("0f")},
        {"path": "x/cam1_02.jpg", "group_id": "v", "hash": "2", "dhash": look("f0")},
        {"path": "y/cam1_03.jpg", "group_id": "w", "hash": "1", "dhash": look("33")},
        {"path": "y/cam2_01.jpg", "group_id": "u", "hash": "4", "dhash": look("33", lost=9)},
        {"path": "z/cam3.jpg", "group_id": "t", "hash": "5", "dhash": ""},
    ]
    data = dataset(rows)
    assert group(data, group_by=[]) == [0, 1, 2, 3, 4]
    assert group(data, group_by=["source"]) == [0, 0, 2, 3, 4]
    assert group(data, group_by=["folder"]) == [0, 0, 2, 2, 4]
    assert group(data, group_by=["duplicates"]) == [0, 1, 0, 0, 4]
    assert group(data, group_by=["duplicates"], duplicate_distance=1) == [0, 1, 0, 3, 4]
    assert group(data, group_by=[], group_pattern=r"(cam\d)_") == [0, 0, 0, 3, 4]
    assert group(data) == [0, 0, 0, 0, 4]


def test_a_pattern_whose_group_is_optional_falls_back_on_the_whole_match() -> None:
    data = dataset([{"path": name} for name in ("cam_1.jpg", "cam_2.jpg", "cam7_1.jpg", "cam7_2.jpg", "x.jpg")])
    assert group(data, group_by=[], group_pattern=r"cam(\d+)?_") == [0, 0, 2, 2, 4]


def test_a_side_that_lost_all_its_photos_is_filled_again(tmp_path: Path) -> None:
    first = many(20)
    before = np.array(divide(first))
    Dataset(first.class_names, first.images.assign(split=before), first.boxes).save(tmp_path)
    kept = first.select(before != "val")
    rules, ledger = Params(), Ledger()
    groups = splitting.group_images(kept, rules.group_by, "", 6)
    after = np.array(splitting.divide(kept, groups, rules, tmp_path, ledger))
    assert set(after) == {"train", "val", "test"}
    assert (after != before[before != "val"]).sum() == 1
    assert ledger.counts() == {"image kept: filled_empty_side": 1}


def test_a_new_photo_fills_an_empty_side_before_an_old_one_does(tmp_path: Path) -> None:
    first = many(20)
    before = np.array(["train"] * 13 + ["val"] * 4 + ["test"] * 3)
    Dataset(first.class_names, first.images.assign(split=before), first.boxes).save(tmp_path)
    grown = many(21)
    keep = np.append(before != "test", True)
    assert divide(grown.select(keep), previous=tmp_path) == [*before[before != "test"], "test"]


def run_stage(data: Dataset, folder: Path, history: Path | None = None, **params: object) -> list[str]:
    """The warnings of the stage."""
    said: list[str] = []
    for path in data.images["path"]:
        (folder / "in/images" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in/images" / path).write_bytes(b"pixels")
    data.save(folder / "in")
    context = Context(history=history, warn=said.append)
    split.run({"annotate": folder / "in", "preprocess": folder / "in"}, Params.model_validate(params), folder / "out", context)
    return said


def test_warnings_say_what_is_true_of_an_empty_side(tmp_path: Path) -> None:
    first = many(20)
    assert run_stage(first, tmp_path / "first") == []
    before = Dataset.load(tmp_path / "first/out").images["split"].to_numpy()
    (said,) = run_stage(first.select(before != "test"), tmp_path / "second", history=tmp_path / "first/out")
    assert "a side had lost all of its images" in said
    assert "from another side: 1 image, named" in said
    given = Dataset(first.class_names, first.images.assign(split=["train"] * 15 + ["val"] * 5), first.boxes)
    (said,) = run_stage(given, tmp_path / "third")
    assert "test has no images: evaluate and export will measure on val" in said
    assert "`split.given: ignore` splits anew" in said


def test_a_group_that_holds_much_of_the_data_is_warned_of(tmp_path: Path) -> None:
    data = many(40)
    names = ["video"] * 11 + data.images["group_id"].tolist()[11:]
    (said,) = run_stage(Dataset(data.class_names, data.images.assign(group_id=names), data.boxes), tmp_path / "large")
    assert "one group holds 11 of 40 images" in said
    assert "split.duplicate_distance" in said
    assert "split.group_by" in said
    names[10] = "another"
    assert run_stage(Dataset(data.class_names, data.images.assign(group_id=names), data.boxes), tmp_path / "small") == []


def test_a_large_group_is_told_with_the_settings_that_could_part_it(tmp_path: Path) -> None:
    data = many(40, group_size=20)
    (said,) = run_stage(data, tmp_path, duplicate_distance=0, fractions={"train": 0.5, "val": 0.5, "test": 0})[1:]
    assert "one group holds 20 of 40 images" in said
    assert "duplicate_distance" not in said, "it is 0 already"
    assert "name fewer criteria in `split.group_by`." in said


def test_small_sets_fill_every_side() -> None:
    assert set(divide(many(3))) == {"train", "val", "test"}
    assert set(divide(many(2), fractions={"train": 0.5, "val": 0.5, "test": 0})) == {"train", "val"}


def sides_with_boxes(data: Dataset, sides: list[str]) -> set[str]:
    return {sides[image] for image in data.boxes["image"]}


@pytest.mark.parametrize("seed", range(5))
def test_labelled_photos_come_to_every_side_when_there_are_enough_of_them(seed: int) -> None:
    rows: list[dict[str, object]] = [{"path": f"{i}.jpg"} for i in range(24)]
    data = dataset(rows, [(i, 0) for i in range(3)])
    assert sides_with_boxes(data, divide(data, seed=seed)) == {"train", "val", "test"}
    two = dataset(rows, [(0, 0), (1, 1)])
    sides = divide(two, seed=seed)
    assert sides_with_boxes(two, sides) == {"train", "val"}, "without these there is nothing to test"
    assert "test" in sides
    uneven = divide(two, seed=seed, fractions={"train": 0.5, "val": 0.1, "test": 0.4})
    assert sides_with_boxes(two, uneven) == {"train", "val"}


def test_a_side_gets_labelled_photos_without_another_losing_its_last(tmp_path: Path) -> None:
    before = ["train", "train", "train", "val", "val", "test"]
    data = dataset([{"path": f"{i}.jpg"} for i in range(7)], [(0, 0), (1, 0), (3, 0)])
    kept = data.select(np.arange(7) < 6)
    Dataset(kept.class_names, kept.images.assign(split=before), kept.boxes).save(tmp_path)
    sides = divide(data, previous=tmp_path)
    assert sides_with_boxes(data, sides) == {"train", "val", "test"}
    assert sum(now != then for now, then in zip(sides, before, strict=False)) == 1, "no more than the one that was needed"


def test_labelled_photos_of_a_given_split_stay_where_they_are() -> None:
    given_sides = ["train"] * 5 + [""] * 6
    data = dataset([{"path": f"{i}.jpg", "split": side} for i, side in enumerate(given_sides)], [(i, 0) for i in range(5)])
    assert divide(data)[:5] == ["train"] * 5


def test_leaks_are_told_by_the_side_that_they_spoil(tmp_path: Path) -> None:
    def warnings(name: str, *sides: str) -> list[str]:
        rows = [{"path": f"{i}.jpg", "split": side, "group_id": "ab"[i >= 2]} for i, side in enumerate(sides)]
        return run_stage(dataset(rows, [(i, 0) for i in range(len(rows))]), tmp_path / name)

    assert warnings("clean", "train", "train", "val", "val")[1:] == []
    (said,) = warnings("val", "train", "val", "test", "test")
    assert "val images with others of their group in train: 1 of 1; the best epoch will be chosen too optimistically" in said
    assert "test is not touched" in said
    assert "too good" not in said
    (said,) = warnings("test", "train", "test", "val", "test")
    assert "test images with others of their group in train or val: 2 of 2; the test figures will be too good" in said
    assert "optimistically" not in said


def test_no_share_for_val_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="training picks its best epoch by val"):
        Fractions.model_validate({"train": 0.8, "val": 0, "test": 0.2})
    assert Fractions.model_validate({"train": 0.7, "val": 0.3, "test": 0}).test == 0


@pytest.mark.parametrize(
    ("images", "groups", "told"),
    [
        ({"train": {"images": 1}}, 1, "1 train image in 1 group"),
        ({"train": {"images": 1_200}, "val": {"images": 1}}, 7, "1,200 train, 1 val images in 7 groups"),
    ],
)
def test_the_headline_counts_in_words(images: dict[str, dict[str, int]], groups: int, told: str) -> None:
    assert split.headline({"splits": images, "groups": groups}) == told


@pytest.mark.parametrize(
    "values", [{"train": 0.5, "val": 0.2, "test": 0.2}, {"train": 1.0}, {"train": 0, "val": 0.5, "test": 0.5}]
)
def test_fractions_must_sum_to_one(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be 1|greater than 0"):
        Fractions.model_validate(values)


def is_near(one: str, other: str, distance: int) -> bool:
    (strong, weak), (strong_too, weak_too) = ((int(text[:64], 16), int(text[64:], 16)) for text in (one, other))
    contradictions = (strong & ~weak_too).bit_count() + (strong_too & ~weak).bit_count()
    edges = (strong.bit_count(), strong_too.bit_count())
    return min(edges) >= MIN_EDGES and contradictions * 64 <= distance * sum(edges)


HASHES = st.tuples(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1), st.lists(st.integers(0, 511), max_size=24))


@given(st.lists(HASHES, max_size=12), st.booleans(), st.integers(0, 16))
def test_near_groups_are_exactly_the_chains_of_near_images(
    values: list[tuple[int, int, list[int]]], sparse: bool, distance: int
) -> None:
    hashes = []
    for strong, weak, flips in values:
        strong = strong & 0xFFFF if sparse else strong
        bits = (strong << 256) | weak
        # Neighbours by construction, else random hashes would never be near each other.
        for flip in [None, *flips]:
            bits ^= 0 if flip is None else 1 << flip
            hashes.append(f"{bits | bits >> 256:0128x}")  # what is strong is also at least weak
    near = [(i, j) for i, j in combinations(range(len(hashes)), 2) if is_near(hashes[i], hashes[j], distance)]
    expected = components(len(hashes), np.array(near, dtype=np.int64).reshape(-1, 2))
    assert near_groups(parse(hashes), distance).tolist() == expected.tolist()


def test_a_text_that_is_no_hash_is_refused() -> None:
    for text in ("", "0" * 16, "x" * 128):
        with pytest.raises(ValueError, match="hex"):
            parse([text])


def test_many_images_that_look_alike_take_no_more_time_and_memory_than_many_that_do_not() -> None:
    rng = np.random.default_rng(0)
    strong = np.repeat(rng.integers(0, 2**64, (1, 4), dtype=np.uint64), 20_000, axis=0)
    strong ^= np.uint64(1) << rng.integers(0, 64, (20_000, 4), dtype=np.uint64)
    tracemalloc.start()
    started = time.perf_counter()
    groups = near_groups(np.hstack([strong, strong]), 6)
    seconds, peak_bytes = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (groups == 0).all()
    assert peak_bytes < 50e6  # all pairs would be 3 GB
    assert seconds < 20  # half a second on an idle machine


def test_blank_pictures_are_near_to_none() -> None:
    data = dataset([{"path": f"{i}.jpg", "dhash": "0" * 128} for i in range(4)])
    assert group(data, group_by=["duplicates"]) == [0, 1, 2, 3]


def drawn(rng: np.random.Generator, background: int, objects: int, noise: int) -> str:
    page = np.full((120, 160, 3), background, np.uint8)
    for _ in range(objects):
        x, y, width, height = rng.integers((0, 0, 10, 10), (130, 90, 30, 30))
        page[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    noisy = np.clip(page + rng.normal(0, noise, page.shape), 0, 255).astype(np.uint8)
    return images.dhash(noisy)


@pytest.mark.parametrize("noise", [0, 3])
@pytest.mark.parametrize("background", [255, 128, 15])
def test_objects_at_random_on_an_even_background_do_not_join_all_images(background: int, noise: int) -> None:
    rng = np.random.default_rng(background)
    data = dataset([{"path": f"{i}.jpg", "dhash": drawn(rng, background, int(rng.integers(2, 6)), noise)} for i in range(600)])
    assert np.bincount(group(data)).max() <= 6


def test_real_photos_stay_apart_and_frames_of_a_still_camera_together(shared_data: Path) -> None:
    def largest(folder: str, count: int) -> int:
        photos = sorted((shared_data / folder).rglob("*.jpg"))[:count]
        data = dataset([{"path": f"{i}.jpg", "dhash": images.dhash(images.decode(path))} for i, path in enumerate(photos)])
        return int(np.bincount(group(data)).max())

    assert largest("bccd-voc", 400) <= 3
    assert largest("traffic-coco", 24) >= 20


def test_components_are_named_by_their_smallest_member() -> None:
    assert components(6, np.array([[4, 2], [2, 5], [0, 1]])).tolist() == [0, 0, 2, 3, 2, 2]
