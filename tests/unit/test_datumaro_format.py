"""What is peculiar to Datumaro's JSON files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import datumaro
from tests.labelling import Collected, Result

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "datumaro"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def bbox(*edges: Any, label: Any = 0, group: Any = 0, **attributes: Any) -> dict[str, Any]:
    return {
        "id": 0,
        "type": "bbox",
        "attributes": attributes,
        "group": group,
        "label_id": label,
        "z_order": 0,
        "bbox": list(edges),
    }


def shape(kind: Any, points: Any, label: Any = 0, group: Any = 0, **more: Any) -> dict[str, Any]:
    return {"id": 0, "type": kind, "attributes": {}, "group": group, "label_id": label, "points": points, **more}


def document(*items: Any, names: tuple[str, ...] = ("cat", "dog")) -> dict[str, Any]:
    labels = [{"name": name, "parent": "", "attributes": []} for name in names]
    return {"infos": {}, "categories": {"label": {"labels": labels}}, "items": list(items)}


def item(*annotations: Any, key: Any = "a", path: Any = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": key, "annotations": list(annotations), "image": {"path": path, "size": [50, 100]}, **more}


def read(collected: Collected, *annotations: Any) -> Result:
    text = json.dumps(document(item(*annotations), item(bbox(1, 1, 1, 1), key="z", path="z.jpg")))
    return collected.image("images/a.jpg").image("images/z.jpg").text("annotations/default.json", text).run()


def of_a(result: Result) -> list[Any]:
    return [box[1:] for box in result.boxes() if box[0] == "images/a.jpg"]


def test_what_datumaro_exports(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    assert result.summary["format"] == "datumaro"
    assert result.dataset.class_names == ("cat", "dog", "unused")
    assert result.boxes() == [
        ("images/default/e.jpg", "dog", 0, 0, 64, 48),
        ("images/train/sub_a.jpg", "dog", 10, 5, 40.5, 25.25),
        ("images/train/sub_a.jpg", "cat", 60, 10, 80, 30),  # an ellipse
        ("images/train/sub_a.jpg", "cat", 50, 5, 90, 45),  # a polygon
        ("images/train/sub_a.jpg", "cat", 1, 1, 9, 9),  # two polygons of one group
        ("images/train/sub_a.jpg", "dog", 30, 10, 45, 30),  # a mask
        ("images/val/c.d.jpg", "cat", 1, 2, 4, 6),
    ]
    assert list(result.splits().values()) == ["", "train", "train", "val"]
    assert result.summary["background"] == 1
    assert result.reasons() == {
        "box converted: ellipse": 1,
        "box converted: joined_parts": 1,
        "box converted: mask": 1,
        "box converted: polygon": 3,
        "box dropped: crowd": 1,
        "box dropped: cuboid": 1,
        "box dropped: no_class": 1,
        "box dropped: point": 1,
        "box dropped: polyline": 1,
        "box dropped: tag": 2,
    }


def test_groups(collected: Collected) -> None:
    triangle = [10, 10, 20, 10, 15, 20]
    result = read(
        collected,
        bbox(1, 1, 30, 30, group=1),
        shape("polygon", triangle, group=1),  # the same object in other words
        shape("polygon", triangle, group=1, label=1),  # another object: CVAT groups what belongs together
        bbox(2, 2, 5, 5, group=2),
        bbox(60, 2, 5, 5, group=2),
        shape("polygon", triangle, group=-1),
        shape("polygon", [40, 40, 50, 40, 45, 45], group=-1),
        shape("polygon", [0, 0, 1, 0, 1, 1]),
    )
    assert of_a(result) == [
        ("cat", 1, 1, 31, 31),
        ("cat", 2, 2, 7, 7),
        ("cat", 60, 2, 65, 7),
        ("dog", 10, 10, 20, 20),
        ("cat", 10, 10, 50, 45),
        ("cat", 0, 0, 1, 1),
    ]
    assert [entry.detail for entry in result.entries if entry.reason == "joined_parts"] == [
        "annotation 2 1 shapes of one group are the object of its bbox",
        "annotation 6 2 shapes of one group are one object",
    ]


def test_what_cvat_adds(collected: Collected) -> None:
    result = read(
        collected,
        bbox(20, 10, 40, 10, rotation=90.0, occluded=False),
        bbox(1, 2, 3, 4, rotation=0.0),
        bbox(1, 2, 3, 5, outside=True, track_id=3),
        {"type": "skeleton", "label_id": 0, "elements": []},
        shape("rotated_bbox", [40, 15, 40, 10, 90]),
        bbox(1, 2, 3, 6, is_crowd="true"),
        bbox(1, 2, 3, 7, is_crowd="no"),
    )
    assert of_a(result) == [("cat", 35, 0, 45, 35), ("cat", 1, 2, 4, 6), ("cat", 1, 2, 4, 9)], (
        "the first is cut at the image's edge"
    )
    assert result.reasons() == {
        "box clipped: out_of_bounds": 2,
        "box converted: rotated_box": 2,
        "box dropped: crowd": 1,
        "box dropped: duplicate_box": 1,
        "box dropped: keypoints": 1,
        "box dropped: outside": 1,
    }


def test_where_an_image_lies(collected: Collected) -> None:
    for path in ("images/train/1.jpg", "images/1.jpg", "images/val/1.jpg", "images/2.jpg"):
        collected.image(f"d/{path}")
    for subset in ("train", "val"):
        items = [item(bbox(1, 1, 5, 5), key="1", path="1.jpg"), item(bbox(2, 2, 5, 5), key="2", path="2.jpg")]
        collected.text(f"d/annotations/{subset}.json", json.dumps(document(*items)))
    result = collected.run()
    assert [(box[0], box[2]) for box in result.boxes()] == [
        ("d/images/2.jpg", 2),
        ("d/images/train/1.jpg", 1),
        ("d/images/val/1.jpg", 1),
    ]
    assert result.splits()["d/images/2.jpg"] == "", "both subsets name it"
    assert result.reasons()["image converted: merged_records"] == 1


def test_images_of_other_kinds(collected: Collected) -> None:
    items = [
        {"id": "a", "annotations": [bbox(1, 1, 5, 5)], "image": {"path": ""}},
        {"id": "v1", "annotations": [bbox(1, 1, 5, 5)], "video_frame": {"video_path": "v.mp4", "frame_index": 1}},
        {"id": "v2", "annotations": [bbox(1, 1, 5, 5)], "video_frame": {"video_path": "v.mp4", "frame_index": 2}},
        {"id": "m", "annotations": None, "media": {"path": "/home/me/m.jpg"}},
    ]
    for name in ("a", "v1", "v2", "m"):
        collected.image(f"{name}.jpg")
    result = collected.text("annotations/default.json", json.dumps(document(*items))).run()
    assert [box[0] for box in result.boxes()] == ["a.jpg", "v1.jpg", "v2.jpg"]
    assert result.dataset.images["group_id"].nunique() == 3
    assert result.entries == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (bbox(1, 2, 3, 4, label=None), "no_class"),
        (bbox(1, 2, 3, 4, label=2), "unknown_class"),
        (bbox(1, 2, 3, 4, label=-1), "unknown_class"),
        (bbox(1, 2, 3, 4, label="0"), "unknown_class"),
        (bbox(1, 2, 3, 4, label=True), "unknown_class"),
        (bbox(1, 2, 3), "malformed_box"),
        (bbox(1, 2, None, 4), "malformed_box"),
        (bbox(1, 2, math.inf, 4), "not_finite"),
        (bbox(1, 2, 3, 4, rotation="upside down"), "malformed_box"),
        ({"type": "bbox", "label_id": 0, "bbox": 5, "attributes": 7}, "malformed_box"),
        (shape("polygon", [1, 2, 3, 4, 5]), "malformed_box"),
        (shape("polygon", [1, 2, 3, math.nan, 5, 6]), "not_finite"),
        (shape("ellipse", None), "malformed_box"),
        (shape("mask", None, rle={"size": [50], "counts": "x"}), "malformed_box"),
        (shape("mask", None, rle={"size": [50, 100], "counts": [5000, 1]}), "malformed_box"),
        (shape("hash_key", [1, 2]), "malformed_box"),
        (shape(["bbox"], [1, 2]), "malformed_box"),
        ("text", "malformed_box"),
        (None, "malformed_box"),
    ],
)
def test_annotations_that_cannot_be_used(collected: Collected, broken: Any, reason: str) -> None:
    result = read(collected, bbox(1, 2, 3, 4), broken)
    assert of_a(result) == [("cat", 1, 2, 4, 6)]
    (entry,) = [entry for entry in result.entries if entry.action == "dropped"]
    assert (entry.reason, entry.path, entry.file) == (reason, "images/a.jpg", "annotations/default.json")
    assert "annotation 2" in entry.detail


def test_deep_nesting_is_no_crash(collected: Collected) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert read(collected, bbox(deep, 2, 3, 4), deep).reasons() == {"box dropped: malformed_box": 2}


def test_annotations_that_are_no_list(collected: Collected) -> None:
    items = [{**item(), "annotations": {"bbox": 1}}, item(bbox(1, 1, 5, 5), path="b.jpg")]
    collected.image("a.jpg").image("b.jpg").text("annotations/default.json", json.dumps(document(*items)))
    assert collected.run().reasons() == {"box dropped: malformed_box": 1}


def test_every_broken_file_is_named_at_once(collected: Collected) -> None:
    sound = json.dumps(document(item(bbox(1, 2, 3, 4))), indent=1)
    collected.image("images/a.jpg").text("annotations/a.json", sound).text("annotations/b.json", sound[:-4])
    collected.text("annotations/c.json", sound[:40]).text("annotations/d.json", sound.replace('"labels"', '"lables"'))
    collected.text("annotations/e.json", sound.replace('"items": [', '"items": [7, ')).text("other/settings.json", "{ // no JSON")
    collected.text("annotations/f.json", "{}")
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop")
    assert [problem.split(": ", 1)[0] for problem in error.value.problems] == [
        "annotations/b.json:46",
        "annotations/c.json:4",
        "annotations/d.json",
        "annotations/e.json",
    ]
    assert "'labels'" in error.value.problems[2]


def test_images_that_datumaro_would_confuse_are_not_written(tmp_path: Path) -> None:
    rows = [{"path": path, "width": 10, "height": 10, "split": "train"} for path in ("a.jpg", "train/a.jpg")]
    with pytest.raises(DataError, match=r"train/a\.jpg for a\.jpg"):
        datumaro.write(Dataset.from_rows(["x"], rows, []), None, tmp_path)


def test_ids_are_unique(tmp_path: Path) -> None:
    rows = [{"path": path, "width": 10, "height": 10} for path in ("s/a.jpg", "s/a.png", "s/b.png")]
    datumaro.write(Dataset.from_rows(["x"], rows, []), None, tmp_path)
    written = json.loads((tmp_path / "annotations/default.json").read_text())
    assert [row["id"] for row in written["items"]] == ["s/a.jpg", "s/a.png", "s/b"]
