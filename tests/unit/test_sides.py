"""What a split must hold before hours are spent on it, and the ways out that are offered: each must work."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from pipeline import sides, splitting
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.ledger import Ledger
from pipeline.stages.split import Params

LOOK = "0f" * 64
NEARLY = "0f" * 63 + "0e"


def dataset(count: int, labelled: int | None = None, **columns: Any) -> Dataset:
    """Images 0.jpg, 1.jpg …, the first `labelled` (all) with a box; `columns` are those of the table, a value or one an image."""
    rows = [
        {"path": f"{i}.jpg", "width": 9, "height": 9, **{k: v[i] if isinstance(v, list) else v for k, v in columns.items()}}
        for i in range(count)
    ]
    return Dataset.from_rows(["a"], rows, [(i, 0, 1, 1, 5, 5) for i in range(count if labelled is None else labelled)])


def split(data: Dataset, values: dict[str, Any]) -> list[str]:
    """As the stage does it: the sides, or the error."""
    rules = Params.model_validate(values)
    groups = splitting.group_images(data, rules.group_by, rules.group_pattern, rules.duplicate_distance)
    found = splitting.divide(data, groups, rules, None, Ledger())
    has_given = rules.given == "keep" and bool((data.images["split"] != "").any())
    sides.require(data, groups, found, rules, has_given=has_given)
    return found


def ways_out(error: DataError) -> list[dict[str, Any]]:
    """The settings of the hint, each as the section `split` of params.yaml."""
    ways: list[dict[str, Any]] = []
    for way in error.hint.split("; or "):
        settings = re.findall(r"`split\.([^`]*)`", way)
        ways += [{key: value for text in settings for key, value in yaml.safe_load(text).items()}] if settings else []
    return ways


SETS = {
    "one scene": dataset(8, dhash=[LOOK, NEARLY] * 4),
    "one video": dataset(8, group_id="video"),
    "two videos": dataset(8, group_id=["a"] * 4 + ["b"] * 4),
    "two looks of one video": dataset(8, group_id="video", dhash=[LOOK, NEARLY] * 4),
    "labels in one video": dataset(8, labelled=4, group_id=["a"] * 4 + [str(i) for i in range(4)]),
    "given without val": dataset(8, group_id=["a"] * 6 + ["b", "c"], split=["train"] * 6 + ["test"] * 2),
    "given without boxes in val": dataset(8, labelled=6, split=["train"] * 6 + ["val"] * 2),
    "given, one video": dataset(8, group_id="video", split=["train"] * 6 + ["test"] * 2),
    "two photos": dataset(2),
}


@pytest.mark.parametrize("name", SETS)
def test_every_way_out_that_is_offered_leads_to_a_split_that_can_be_trained(name: str) -> None:
    with pytest.raises(DataError) as caught:
        split(SETS[name], {})
    ways = ways_out(caught.value)
    assert ways
    for values in ways:
        found = split(SETS[name], values)
        labelled = {found[image] for image in SETS[name].boxes["image"]}
        assert {"train", "val"} <= labelled, values


def test_the_message_says_what_is_together_and_what_is_needed() -> None:
    with pytest.raises(DataError) as caught:
        split(SETS["one scene"], {})
    assert caught.value.message == (
        "8 images in 1 group: images of one group stay together, and train, val and test need one each."
    )
    with pytest.raises(DataError, match=r"^Only 1 group of images has boxes: .* train and val need one each"):
        split(SETS["labels in one video"], {})
    with pytest.raises(DataError, match=r"^The given split has no image in val, and nothing can be trained without\."):
        split(SETS["given without val"], {})
    with pytest.raises(DataError, match="has no image with boxes in val"):
        split(SETS["given without boxes in val"], {})


def test_where_nothing_helps_only_more_images_are_asked_for() -> None:
    with pytest.raises(DataError, match="1 image in 1 group: ") as caught:
        split(dataset(1), {})
    assert caught.value.hint == "Collect more images."


def test_a_set_without_any_label_can_be_split_and_a_given_one_may_have_no_test() -> None:
    assert set(split(dataset(9, labelled=0), {})) == {"train", "val", "test"}
    assert split(dataset(4, split=["train"] * 3 + ["val"]), {}) == ["train"] * 3 + ["val"]


def test_what_is_shared_is_counted_on_the_later_side() -> None:
    data = dataset(6, group_id=["a", "a", "a", "b", "c", "c"])
    groups = splitting.group_images(data, ["source"], "", 0)
    assert sides.shared(groups, ["train", "train", "val", "test", "val", "test"]) == {"val": 1, "test": 1}
    assert sides.shared(groups, ["train", "train", "train", "test", "val", "val"]) == {}
    assert sides.without_boxes(dataset(3, labelled=1), ["train", "val", "test"]) == ["val", "test"]
