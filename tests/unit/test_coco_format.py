"""What is peculiar to COCO label files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def coco(collected: Collected, *annotations: dict[str, Any], **more: Any) -> Collected:
    """Two images, ids 30 and "5"; categories 17 dog, 3 cat."""
    images = more.get("images") or [{"id": 30, "file_name": "a.jpg"}, {"id": "5", "file_name": "b.jpg"}]
    categories = more.get("categories") or [{"id": 17, "name": "dog"}, {"id": 3, "name": "cat"}]
    rows = [{"id": 100 + number, "image_id": 30, "category_id": 3, **row} for number, row in enumerate(annotations)]
    return collected.image("a.jpg").image("b.jpg").coco("labels.json", images, rows, categories)


def test_coco_odd_annotations(collected: Collected) -> None:
    coco(
        collected,
        {"bbox": [10, 20, 30, 5], "category_id": 17},
        {"bbox": ["10", "20", "30", "6"]},
        {"bbox": [1, 1, 5, 5], "image_id": 5},
        {"bbox": [1, 1, 5, 5], "iscrowd": 1},
        {"bbox": [1, 1, 5, 5], "image_id": 31},
        {"bbox": [1, 1, 5, 5], "category_id": 4},
        {"segmentation": [[10, 10, 40, 10, 20, 30], [50, 5, 51, 5, 50, 6]]},
        {"segmentation": {"counts": "abc", "size": [50, 100]}},
        {"bbox": [1, 2, 3]},
        {"bbox": None, "category_id": None},
    )
    result = collected.run()
    assert result.dataset.class_names == ("cat", "dog"), "by id"
    assert result.boxes() == [
        ("a.jpg", "dog", 10, 20, 40, 25),
        ("a.jpg", "cat", 10, 20, 40, 26),
        ("a.jpg", "cat", 10, 5, 51, 30),
        ("b.jpg", "cat", 1, 1, 6, 6),
    ]
    assert [(entry.reason, entry.detail.split()[1]) for entry in result.entries] == [
        ("crowd", "103"),
        ("unknown_image", "104"),
        ("unknown_class", "105"),
        ("polygon", "106"),
        ("malformed_box", "107"),
        ("malformed_box", "108"),
        ("unknown_class", "109"),
    ]
    assert result.summary["boxes_read"] == 10


def test_coco_categories_of_one_name_and_images_listed_twice(collected: Collected) -> None:
    coco(
        collected,
        {"bbox": [1, 1, 5, 5], "category_id": 1},
        {"bbox": [2, 2, 5, 5], "category_id": 9, "image_id": 31},
        categories=[{"id": 1, "name": "cat"}, {"id": 9, "name": "cat"}],
        images=[
            {"id": 30, "file_name": "a.jpg"},
            {"id": 31, "file_name": "./a.jpg"},
            {"id": 31, "file_name": "b.jpg"},
            {"id": 32},
        ],
    )
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 1, 1, 6, 6), ("a.jpg", "cat", 2, 2, 7, 7)]
    assert result.reasons() == {
        "file converted: duplicate_class_name": 1,
        "image converted: merged_records": 1,
        "image dropped: duplicate_id": 1,
        "image dropped: no_file_name": 1,
        "image kept: no_label_file": 1,
    }


def test_coco_a_file_a_split(collected: Collected) -> None:
    for split, folder in (("train", "train2017"), ("val", "val2017")):
        collected.image(f"{folder}/1.jpg")
        box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
        for task in ("instances", "person_keypoints"):
            path = f"annotations/{task}_{split}2017.json"
            collected.coco(path, [{"id": 1, "file_name": "1.jpg"}], [box], [{"id": 1, "name": split}])
    result = collected.run()
    assert [box[:2] for box in result.boxes()] == [("train2017/1.jpg", "train"), ("val2017/1.jpg", "val")]
    assert result.splits() == {"train2017/1.jpg": "train", "val2017/1.jpg": "val"}
    assert result.reasons() == {"file dropped: other_task": 2}


def test_coco_of_roboflow(collected: Collected) -> None:
    categories = [
        {"id": 0, "name": "sharks", "supercategory": "none"},
        {"id": 1, "name": "fish", "supercategory": "sharks"},
        {"id": 2, "name": "shark", "supercategory": "sharks"},
    ]
    for split in ("train", "valid"):
        box = {"image_id": 0, "category_id": 2, "bbox": [1, 1, 5, 5]}
        collected.image(f"{split}/x.rf.1.jpg")
        collected.coco(f"{split}/_annotations.coco.json", [{"id": 0, "file_name": "x.rf.1.jpg"}], [box], categories)
    result = collected.run()
    assert result.dataset.class_names == ("fish", "shark")
    assert list(result.splits().values()) == ["train", "val"]
    assert result.reasons() == {"file converted: project_as_category": 2}


def test_coco_names_of_other_machines(collected: Collected) -> None:
    names = [r"C:\data\images\a b.jpg", "/home/me/images/c.jpg", "images/d%20e.jpg", "f.JPEG", "g.png"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    boxes = [{"image_id": number, "category_id": 1, "bbox": [number, 1, 5, 5]} for number in range(5)]
    for path in ("a b.jpg", "c.jpg", "d e.jpg", "F.jpeg", "g.jpg"):
        collected.image(f"images/{path}")
    result = collected.coco("coco.json", images, boxes, [{"id": 1, "name": "x"}]).run()
    assert {box[0][7:]: box[2] for box in result.boxes()} == {"a b.jpg": 0, "c.jpg": 1, "d e.jpg": 2, "F.jpeg": 3, "g.jpg": 4}
    assert result.reasons() == {"image converted: matched_by_stem": 1}


def test_coco_videos_are_groups(collected: Collected) -> None:
    images = [{"id": 1, "file_name": "a.jpg", "video_id": 7}, {"id": 2, "file_name": "b.jpg", "video_id": 7}]
    coco(collected, {"image_id": 1, "bbox": [1, 1, 5, 5]}, images=images)
    assert collected.run().dataset.images["group_id"].nunique() == 1


def test_coco_every_broken_file_is_named_at_once(collected: Collected) -> None:
    whole = json.dumps({"images": [], "annotations": [], "categories": []}, indent=1)
    collected.image("a.jpg").text("a.json", whole[:-2]).text("b.json", whole.replace("[]", "5", 1))
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop")
    assert [problem.split(": ", 1)[0] for problem in error.value.problems] == ["a.json:4", "b.json"]
    assert "malformed JSON" in error.value.problems[0]
    assert "'images' must be a list" in error.value.problems[1]


def test_coco_category_ids_and_names_that_say_too_little(collected: Collected) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 2, "name": None}, {"id": 3, "name": " "}]
    categories += [{"id": 4, "name": "emu"}, {"id": 4, "name": "emu"}]
    boxes = [{"bbox": [number, 1, 5, 5], "category_id": number} for number in (1, 2, 3, 4)]
    result = coco(collected, *boxes, categories=categories).run()
    assert [box[1] for box in result.boxes()] == ["cat", "class_2", "class_3", "emu"]
    assert result.dataset.class_names == ("cat", "class_2", "class_3", "emu")
    told = [(entry.reason, entry.detail) for entry in result.entries if entry.detail.startswith("category ")]
    assert told == [
        ("duplicate_id", "category id 1 is 'cat' and 'dog': the first is taken"),
        ("class_names_invented", "category 2 is called None: taken for 'class_2'"),
        ("class_names_invented", "category 3 is called ' ': taken for 'class_3'"),
    ]


@pytest.mark.parametrize("bbox", [[1, 2, True, 4], "1234", {"1": 0, "2": 0, "3": 0, "4": 0}])
def test_coco_bbox_of_no_numbers(collected: Collected, bbox: object) -> None:
    result = coco(collected, {"bbox": bbox}, {"bbox": [1, 2, 3, 4]}).run()
    assert len(result.boxes()) == 1
    assert result.reasons()["box dropped: malformed_box"] == 1


def test_coco_nested_too_deeply(collected: Collected) -> None:
    nested = '{"images": [], "categories": [], "annotations": ' + "[" * 200_000 + "]" * 200_000 + "}"
    collected.image("a.jpg").text("labels.json", nested)
    with pytest.raises(DataError) as error:
        collected.run()
    assert list(error.value.problems) == ["labels.json: malformed JSON (nested too deeply)"]
