"""What is peculiar to labelme's JSON files."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import labelme
from tests.labelling import Collected, Result

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "labelme"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def shape(label: Any, kind: Any, *points: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind, "group_id": None, "flags": {}, **more}


def document(shapes: Any, path: Any = "a.jpg", **more: Any) -> str:
    rest = {"version": "5.5.0", "flags": {}, "imageData": None, "imageHeight": 50, "imageWidth": 100, **more}
    return json.dumps({"shapes": shapes, "imagePath": path, **rest}, indent=2)


def read(collected: Collected, *shapes: Any, options: dict[str, Any] | None = None, **more: Any) -> Result:
    return collected.image("a.jpg").text("a.json", document(list(shapes), **more)).run(options=options or {})


def test_files_of_labelme_itself(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    assert result.summary["format"] == "labelme"
    assert result.dataset.class_names == ("dog", "cat", "bird"), "the order of labels.txt, with what nobody drew"
    assert result.boxes() == [
        ("photo.jpg", "cat", 12.25, 4, 30.5, 25),
        ("photo.jpg", "dog", 1, 1, 14, 9.5),  # two polygons of one group
        ("photo.jpg", "dog", 15, 15, 25, 25),  # a circle of radius 5
        ("photo.jpg", "cat", 32, 11, 35, 16),  # a mask of 3 x 5 px in a larger bitmap
        ("photo.jpg", "cat", 10, 15, 20, 25),  # a square on its corner
        ("sub/embedded.png", "dog", 1.5, 2, 9, 8.75),
        ("sub/old.png", "cat", 2, 1, 8, 7),
        ("sub/old.png", "cat", 11, 2, 19, 9),
        ("turned.jpg", "cat", 2, 3, 28, 38),
    ]
    assert result.reasons() == {
        "box converted: circle": 1,
        "box converted: joined_parts": 1,
        "box converted: mask": 1,
        "box converted: polygon": 3,
        "box converted: rotated_box": 1,
        "box dropped: ignored_region": 1,
        "box dropped: point": 1,
        "box dropped: polyline": 1,
        "box dropped: tag": 1,
    }
    assert result.summary["background"] == 1
    assert result.warnings == []
    assert [entry.line for entry in result.entries if entry.reason == "point"] == [138]


def test_corners_in_any_order_are_no_defect(collected: Collected) -> None:
    corners = [[30, 40], [10, 20]], [[10, 40], [30, 20]], [[30, 20], [10, 40]], [[10, 20], [30, 20], [30, 40], [10, 40]]
    for points in corners:
        result = read(collected, shape("cat", "rectangle", *points))
        assert result.boxes() == [("a.jpg", "cat", 10, 20, 30, 40)]
        assert result.entries == []


def test_shapes_of_other_tools(collected: Collected) -> None:
    square = [[10, 10], [20, 10], [20, 20], [10, 20]]
    result = read(
        collected,
        shape("a", "rotation", [15, 5], [25, 15], [15, 25], [5, 15]),
        shape("b", "quadrilateral", *square),
        {"label": "c", "points": [[1, 1], [5, 1], [5, 5]]},
        shape("d", None, [2, 2], [6, 2], [6, 6]),
        shape(7, "rectangle", [1, 1], [9, 9]),
        shape("e", "cuboid", *square, *square),
        shape("f", "line", [1, 1], [5, 5]),
        shape("g", "points", [1, 1], [5, 5]),
    )
    assert [box[1:] for box in result.boxes()] == [
        ("a", 5, 5, 25, 25),
        ("b", 10, 10, 20, 20),
        ("c", 1, 1, 5, 5),
        ("d", 2, 2, 6, 6),
        ("7", 1, 1, 9, 9),
    ]
    assert result.reasons() == {
        "box converted: polygon": 3,
        "box converted: rotated_box": 1,
        "box dropped: cuboid": 1,
        "box dropped: point": 1,
        "box dropped: polyline": 1,
    }
    assert result.summary["boxes_read"] == 8


def test_parts_of_one_object(collected: Collected) -> None:
    left, right = ([1, 1], [5, 1], [5, 5]), ([20, 10], [30, 10], [30, 40])
    shapes = [
        shape("sofa", "polygon", *left, group_id=3),
        shape("cat", "polygon", [6, 6], [9, 6], [9, 9], group_id=3),
        shape("sofa", "polygon", *right, group_id=3),
        shape("sofa", "polygon", [50, 10], [60, 10], [60, 20], group_id=4),
        shape("word", "rectangle", [1, 1], [2, 2], group_id=5),
        shape("word", "rectangle", [3, 1], [4, 2], group_id=5),
    ]
    result = read(collected, *shapes)
    assert [box[1:] for box in result.boxes()] == [
        ("sofa", 1, 1, 30, 40),
        ("cat", 6, 6, 9, 9),
        ("sofa", 50, 10, 60, 20),
        ("word", 1, 1, 2, 2),
        ("word", 3, 1, 4, 2),
    ]
    assert result.reasons() == {"box converted: joined_parts": 1, "box converted: polygon": 4}
    assert len(read(collected, *shapes, options={"join_groups": False}).boxes()) == 6


def png(width: int, height: int, *painted: tuple[int, int]) -> str:
    picture, buffer = Image.new("L", (width, height)), BytesIO()
    for place in painted:
        picture.putpixel(place, 1)
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_masks(collected: Collected) -> None:
    result = read(
        collected,
        shape("cat", "mask", [10, 20], [14, 24], mask=png(5, 5, (1, 0), (3, 4))),
        shape("cat", "mask", [14, 24], [10, 20], mask=png(5, 5, (0, 0))),
        shape("cat", "mask", [10, 20], [14, 24], mask=png(5, 5)),
        shape("cat", "mask", [10, 20], [14, 24], mask=None),
        shape("cat", "mask", [10, 20], [14, 24], mask="nonsense"),
        shape("cat", "mask", [10, 20], [14, 24], mask=[1]),
        shape("cat", "mask", mask=png(5, 5, (1, 0))),
    )
    assert [box[2:] for box in result.boxes()] == [(11, 20, 14, 25), (10, 20, 11, 21)]
    assert result.reasons() == {"box converted: mask": 2, "box dropped: malformed_box": 5}


def test_items_that_are_no_boxes(collected: Collected) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    odd = [
        "text",
        None,
        shape("", "rectangle", [1, 1], [2, 2]),
        shape(None, "rectangle", [1, 1], [2, 2]),
        shape(["cat"], "rectangle", [1, 1], [2, 2]),
        shape("cat", "rectangle", [1, 1]),
        shape("cat", "rectangle", "12", "34"),
        shape("cat", "rectangle", [1, 1], [2, None]),
        shape("cat", "rectangle") | {"points": {"x": 1}},
        shape("cat", "polygon", [1, 1], [2, 2]),
        shape("cat", "circle", [1, 1]),
        shape("cat", "hexagon", [1, 1], [9, 9], [3, 1]),
        shape("cat", deep, [1, 1], [9, 9]),
        shape("cat", "polygon", deep),
    ]
    result = read(collected, *odd, shape("cat", "rectangle", [1, 1], [9, 9]))
    assert [box[1:] for box in result.boxes()] == [("cat", 1, 1, 9, 9)]
    assert result.reasons() == {"box dropped: malformed_box": 9, "box dropped: no_class": 5}
    assert {entry.line for entry in result.entries} == {0}, "not every item has points, so lines would be guesses"
    result = read(collected, shape("cat", "rectangle", [1, 1], [9, 9]), shape("", "rectangle", [1, 1], [2, 2]))
    (entry,) = result.entries
    lines = (collected.files / "a.json").read_text(encoding="utf-8").splitlines()
    assert "points" in lines[entry.line - 1]
    assert entry.detail.startswith("shape 2 ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite(collected: Collected, number: str) -> None:
    for kind in ("rectangle", "circle", "polygon"):
        points = [["NUMBER", 1], [5, 5], [6, 1]][: 3 if kind == "polygon" else 2]
        text = document([shape("cat", kind, *points), shape("cat", "rectangle", [1, 1], [5, 5])]).replace('"NUMBER"', number)
        result = collected.image("a.jpg").text("a.json", text).run()
        assert len(result.boxes()) == 1
        assert result.reasons()["box dropped: not_finite"] == 1


def test_names_of_images(collected: Collected) -> None:
    for name in ("x/a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"):
        collected.image(name)
    box = [shape("cat", "rectangle", [1, 1], [9, 9])]
    collected.text("labels/a.json", document(box, "..\\x\\a.jpg"))
    collected.text("b.json", document(box, "a.jpg"))  # a copy of a.json, put beside another image
    collected.text("saved as.json", document(box, "c.jpg"))
    collected.text("d.json", document(box, None))
    collected.text("e.json", document(box, "C:\\Users\\me\\e.png"))
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["b.jpg", "c.jpg", "d.jpg", "e.jpg", "x/a.jpg"]
    assert result.reasons() == {"file converted: filename_mismatch": 2, "image converted: matched_by_stem": 1}


def test_classes_of_labels_txt(collected: Collected) -> None:
    shapes = [shape("dog", "rectangle", [1, 1], [9, 9]), shape("cat", "rectangle", [2, 2], [9, 9])]
    assert read(collected, *shapes).dataset.class_names == ("cat", "dog")
    for text, names in {
        "dog\ncat\nbird\n": ("dog", "cat", "bird"),
        "dog\nbird\n": ("cat", "dog"),  # may be a list of anything
        "__ignore__\n_background_\ndog\nbird\n": ("dog", "bird", "cat"),
        "_background_\r\ndog\r\n\r\nbird": ("dog", "bird", "cat"),
        "": ("cat", "dog"),
    }.items():
        result = collected.text("labels.txt", text).run()
        assert result.dataset.class_names == names
        assert [box[1] for box in result.boxes()] == ["dog", "cat"]
    collected.data("labels.txt", "Größe\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read") as error:
        collected.run()
    assert error.value.problems == ("labels.txt:1: the text is not UTF-8",)


def test_photos_turned_by_exif_are_decided_by_their_size(collected: Collected) -> None:
    box = [shape("cat", "rectangle", [0, 0], [10, 40])]
    collected.image("up.jpg", 100, 50, orientation=6).image("stored.jpg", 100, 50, orientation=6)
    collected.text("up.json", document(box, "up.jpg", imageWidth=50, imageHeight=100))
    collected.text("stored.json", document(box, "stored.jpg", imageWidth=100, imageHeight=50))
    assert collected.run().boxes() == [("stored.jpg", "cat", 10, 0, 50, 10), ("up.jpg", "cat", 0, 0, 10, 40)]


def test_files_that_cannot_be_read(collected: Collected) -> None:
    good = document([shape("cat", "rectangle", [1, 1], [9, 9])])
    for name in ("a", "cut", "empty", "list", "null"):
        collected.image(f"{name}.jpg")
    collected.text("a.json", good).text("cut.json", good[:80]).text("empty.json", "").text("settings.json", "{ // a comment\n}")
    collected.text("list.json", document({"label": "cat"}, "list.jpg")).text("null.json", document(None, "null.jpg"))
    collected.text("package.json", '{"shapes": 1}').text("lines.json", "[1, 2]")
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="fix")
    assert [problem.split(" (")[0] for problem in error.value.problems] == [
        "cut.json:7: malformed JSON",
        "empty.json:1: malformed JSON",
        "list.json: 'shapes' must be a list",
        "null.json: 'shapes' must be a list",
    ]
    result = collected.run(on_invalid="drop")
    assert [box[0] for box in result.boxes()] == ["a.jpg"]
    assert result.reasons() == {"image dropped: malformed_label_file": 4}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_encodings(collected: Collected, encoding: str) -> None:
    text = document([shape("Größe", "rectangle", [1, 1], [9, 9])], "ä.jpg").replace("\n", "\r\n")
    collected.image("ä.jpg").data("ä.json", text.encode(encoding))
    assert collected.run().boxes() == [("ä.jpg", "Größe", 1, 1, 9, 9)]


def dataset(*names: str, paths: tuple[str, ...] = ("a.jpg",)) -> Dataset:
    images = [{"path": path, "width": 100, "height": 50} for path in paths]
    return Dataset.from_rows(names, images, [(0, 0, 1.25, 2, 1 / 3 + 9, 40)])


def test_labels_alone_are_written_as_labelme_has_them(tmp_path: Path) -> None:
    labelme.write(dataset("dog", "cat", paths=("x/a b.jpg",)), None, tmp_path)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == ["images/x/a b.json", "labels.txt"]
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8") == "__ignore__\n_background_\ndog\ncat\n"
    content = json.loads((tmp_path / "images/x/a b.json").read_text(encoding="utf-8"))
    assert (content["imagePath"], content["imageData"]) == ("a b.jpg", None)
    assert (content["imageWidth"], content["imageHeight"]) == (100, 50)
    assert content["shapes"][0]["points"] == [[1.25, 2.0], [1 / 3 + 9, 40.0]]


@pytest.mark.parametrize("name", ["a\nb", " a", "__ignore__", "_background_"])
def test_class_names_that_a_list_cannot_hold_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot hold these class names"):
        labelme.write(dataset(name), None, tmp_path)
    with pytest.raises(DataError, match=r"a\.jpg and a\.png would share"):
        labelme.write(dataset("a", paths=("a.jpg", "a.png")), None, tmp_path)
