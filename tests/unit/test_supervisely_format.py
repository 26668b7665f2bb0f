"""What is peculiar to Supervisely's files."""

from __future__ import annotations

import base64
import json
import math
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import supervisely
from tests.labelling import Collected, Result

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "supervisely"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def item(title: Any = "cat", kind: Any = "rectangle", points: Any = ((1, 2), (30, 40)), **more: Any) -> dict[str, Any]:
    return {"classTitle": title, "geometryType": kind, "points": {"exterior": points, "interior": []}, "tags": [], **more}


def annotation(*objects: Any, tags: Any = (), **more: Any) -> dict[str, Any]:
    return {"description": "", "size": {"height": 50, "width": 100}, "tags": list(tags), "objects": list(objects), **more}


def read(collected: Collected, *objects: Any, options: dict[str, Any] | None = None, **more: Any) -> Result:
    """One image with these objects, and one sound box on another, without which nothing could be imported."""
    collected.image("p/ds/img/a.jpg").image("p/ds/img/z.jpg")
    collected.text("p/ds/ann/z.jpg.json", json.dumps(annotation(item("zebra"))))
    collected.text("p/ds/ann/a.jpg.json", json.dumps(annotation(*objects, **more)))
    return collected.run(options=options or {})


def of_a(result: Result) -> list[Any]:
    return [box[1:] for box in result.boxes() if box[0] == "p/ds/img/a.jpg"]


def bitmap(rows: list[str], origin: tuple[float, float], compress: bool) -> dict[str, Any]:
    picture = Image.new("RGBA", (len(rows[0]), len(rows)))
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            picture.putpixel((x, y), (255, 255, 255, 255 if letter == "#" else 0))
    stream = BytesIO()
    picture.save(stream, "PNG")
    data = zlib.compress(stream.getvalue()) if compress else stream.getvalue()
    return {"data": base64.b64encode(data).decode(), "origin": list(origin)}


def test_a_project_of_the_sdk(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    assert result.summary["format"] == "supervisely"
    assert result.dataset.class_names == ("cat", "dog", "blob", "thing", "unused"), "meta.json's, but wire, dot and pose"
    (rotated,) = [box for box in result.boxes() if box[1] == "thing" and 17 < box[2] < 18]
    width, height = 40 * math.cos(0.5) + 20 * math.sin(0.5), 40 * math.sin(0.5) + 20 * math.cos(0.5)
    assert rotated[2:] == pytest.approx((40 - width / 2, 20 - height / 2, 40 + width / 2, 20 + height / 2), abs=1e-5)
    assert [box for box in result.boxes() if box != rotated] == [
        ("ds1/img/a b.jpg", "cat", 10, 5, 39, 24),
        ("ds1/img/a b.jpg", "dog", 50, 5, 90, 45),
        ("ds1/img/a b.jpg", "blob", 30, 10, 45, 20),
        ("ds1/img/a b.jpg", "thing", 2, 1, 4, 3),
        ("ds1/img/a b.jpg", "thing", 30, 10, 45, 20),
        ("ds1/nested/img/n.jpg", "cat", 0, 0, 63, 47),
        ("ds2/img/a b.jpg", "cat", 2, 1, 4, 3),
    ]
    assert result.splits() == {
        "ds1/img/a b.jpg": "train",
        "ds1/img/empty.png": "",
        "ds1/nested/img/n.jpg": "",
        "ds2/img/a b.jpg": "val",
    }
    assert result.summary["background"] == 1
    assert result.reasons() == {
        "box converted: mask": 2,
        "box converted: polygon": 1,
        "box converted: rotated_box": 1,
        "box dropped: keypoints": 1,
        "box dropped: point": 1,
        "box dropped: polyline": 1,
        "box dropped: tag": 1,
        "file converted: class_without_boxes": 3,
    }
    assert collected.run(on_invalid="error").summary["boxes"] == 8, "none of this is a defect"


def test_the_pixels_of_the_sdk_are_inclusive(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run(options={"inclusive": True})
    boxes = result.boxes()
    assert ("ds1/img/a b.jpg", "cat", 10, 5, 40, 25) in boxes
    assert ("ds1/img/a b.jpg", "dog", 50, 5, 91, 46) in boxes, "a polygon"
    assert ("ds1/img/a b.jpg", "blob", 30, 10, 45, 20) in boxes, "the bits of a mask say where it ends"
    assert ("ds1/nested/img/n.jpg", "cat", 0, 0, 64, 48) in boxes, "the whole image"


@pytest.mark.parametrize("compress", [True, False])
def test_bitmaps(collected: Collected, compress: bool) -> None:
    mask = bitmap([".....", "..##.", "...#."], (10, 20), compress)
    result = read(
        collected, item(kind="bitmap", points=None, bitmap=mask), item(kind="bitmap", bitmap=bitmap(["."], (0, 0), compress))
    )
    assert of_a(result) == [("cat", 12, 21, 14, 23)]
    assert result.reasons() == {"box converted: mask": 1, "box dropped: malformed_box": 1}


def test_polygons_of_several_parts(collected: Collected) -> None:
    parts = [{"exterior": [[1, 1], [5, 1], [5, 5]]}, {"exterior": [[10, 20], [12, 20], [11, 30]], "interior": []}]
    assert of_a(read(collected, item(kind="multipolygon", points=None, parts=parts))) == [("cat", 1, 1, 12, 30)]


def test_shapes_and_classes_of_old_exports(collected: Collected) -> None:
    meta = {"classes": [{"id": 7, "title": "dog", "shape": "rectangle"}, {"id": 8, "title": "lane", "shape": "line"}], "tags": []}
    collected.text("p/meta.json", json.dumps(meta))
    plain = {"points": {"exterior": [[1, 2], [3, 4]], "interior": []}, "bitmap": None}
    result = read(
        collected, {**plain, "classTitle": "dog"}, {**plain, "classId": 7}, {**plain, "classId": 8}, {**plain, "classId": 9}
    )
    assert of_a(result) == [("dog", 1, 2, 3, 4)], "the second is the same box"
    assert result.dataset.class_names == ("dog", "zebra"), "zebra is not in meta.json, and kept"
    assert result.reasons() == {
        "box dropped: duplicate_box": 1,
        "box dropped: polyline": 1,
        "box dropped: unknown_class": 1,
        "file converted: class_without_boxes": 1,
    }


def test_names_of_old_exports_lack_the_suffix(collected: Collected) -> None:
    collected.image("ds/img/x.1.jpg").text("ds/ann/x.1.json", json.dumps(annotation(item())))
    assert [box[0] for box in collected.run().boxes()] == ["ds/img/x.1.jpg"]


def test_annotations_as_the_server_answers_and_without_folders(collected: Collected) -> None:
    answer = {"imageId": 5, "imageName": "a.jpg", "annotation": annotation(item())}
    collected.image("a.jpg").text("a.jpg.json", json.dumps(answer))
    assert collected.run().boxes() == [("a.jpg", "cat", 1, 2, 30, 40)]


def test_tags_of_an_image(collected: Collected) -> None:
    result = read(collected, item(), tags=[{"name": "val"}, {"name": "validation"}, {"name": "rain", "value": 5}, "sun", None])
    assert result.splits()["p/ds/img/a.jpg"] == "val"
    assert [entry.detail for entry in result.entries] == [f"the image's tag {tag}" for tag in ("validation", "rain", "sun")]
    result = read(collected, item(), tags=[{"name": "val"}, {"name": "train"}])
    assert result.splits()["p/ds/img/a.jpg"] == ""
    assert result.reasons() == {"file kept: overlapping_splits": 1}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (item(title=None), "no_class"),
        (item(title=" "), "no_class"),
        (item(points=[[1, 2]]), "malformed_box"),
        (item(points=[[1, 2], [3]]), "malformed_box"),
        (item(points=[[1, 2], ["x", 4]]), "malformed_box"),
        (item(points={"x": 1}), "malformed_box"),
        (item(kind="rectangle", points=None), "malformed_box"),
        (item(kind="polygon", points=[[1, 2], [3, 4]]), "malformed_box"),
        (item(kind="polygon", points=[[1, 2], [3, math.nan], [5, 6]]), "not_finite"),
        (item(kind="rectangle", points=[[1, 2], [1e999, 4]]), "not_finite"),
        (item(kind="oriented_bbox"), "malformed_box"),
        (item(kind="bitmap"), "malformed_box"),
        (item(kind="bitmap", bitmap={"origin": [1], "data": ""}), "malformed_box"),
        (item(kind="bitmap", bitmap={"origin": [1, 2], "data": "!!!"}), "malformed_box"),
        (item(kind="bitmap", bitmap={"origin": [1, 2], "data": base64.b64encode(zlib.compress(b"x")).decode()}), "malformed_box"),
        (item(kind="heptagon"), "malformed_box"),
        (item(kind=5), "malformed_box"),
        ("text", "malformed_box"),
        (None, "malformed_box"),
    ],
)
def test_objects_that_cannot_be_used(collected: Collected, broken: Any, reason: str) -> None:
    result = read(collected, item(), broken)
    assert of_a(result) == [("cat", 1, 2, 30, 40)]
    (entry,) = [entry for entry in result.entries if entry.action == "dropped"]
    assert (entry.action, entry.reason, entry.path, entry.file) == ("dropped", reason, "p/ds/img/a.jpg", "p/ds/ann/a.jpg.json")
    assert "object 2" in entry.detail


def test_deep_nesting_is_no_crash(collected: Collected) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert read(collected, item(points=deep), deep).reasons() == {"box dropped: malformed_box": 2}


def test_every_broken_file_is_named_at_once(collected: Collected) -> None:
    collected.image("ds/img/a.jpg").text("meta.json", '{"classes": 5}').text("other/meta.json", "{")
    collected.text("ds/ann/a.jpg.json", json.dumps(annotation(item()), indent=1)[:-3]).text("ds/ann/b.jpg.json", "[1]")
    collected.text("ds/ann/video.json", json.dumps(annotation(frames=[], framesCount=3))).text("ds/ann/empty.jpg.json", "")
    with pytest.raises(DataError) as error:
        collected.run(format="supervisely")
    assert [problem.split(": ", 1)[0] for problem in error.value.problems] == [
        "meta.json",
        "other/meta.json:1",
        "ds/ann/a.jpg.json:27",
        "ds/ann/b.jpg.json",
        "ds/ann/empty.jpg.json:1",
        "ds/ann/video.json",
    ]
    assert "frames as images" in error.value.problems[-1]


def test_what_is_written(tmp_path: Path) -> None:
    rows = [
        {"path": "a.jpg", "width": 100, "height": 50, "split": "val"},
        {"path": "s/a.jpg", "width": 10, "height": 10, "split": ""},
    ]
    dataset = Dataset.from_rows(["cat", "dog"], rows, [(0, 1, 1.5, 2, 3, 4)])
    supervisely.write(dataset, None, tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert [row["title"] for row in meta["classes"]] == ["cat", "dog"]
    assert [row["name"] for row in meta["tags"]] == ["val"]
    written = json.loads((tmp_path / "dataset/ann/a.jpg.json").read_text())
    assert (written["size"], written["tags"]) == ({"height": 50, "width": 100}, [{"name": "val", "value": None}])
    assert written["objects"][0]["points"] == {"exterior": [[1.5, 2], [3, 4]], "interior": []}
    assert json.loads((tmp_path / "dataset/ann/s/a.jpg.json").read_text())["objects"] == []
