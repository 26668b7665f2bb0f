"""What is peculiar to CVAT's XML for images."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import cvat
from tests.label_writers.cvat import meta
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path / "collected")


def xml(body: str, head: str = "") -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{head}{body}\n</annotations>\n'


def image(shapes: str, name: str = "a.jpg", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="100" height="50" {more}>\n{shapes}\n</image>'


def box(label: str, more: str = "") -> str:
    return f'<box label="{label}" xtl="1" ytl="2" xbr="3" ybr="4" {more}></box>'


def test_a_real_export(shared_data: Path, collected: Collected) -> None:
    result = collected.copy(shared_data / "mixed-cvat").run(format="cvat")
    assert (result.summary["images"], result.summary["boxes_read"], result.summary["boxes"]) == (4, 25, 23)
    assert result.reasons() == {"box converted: ellipse": 2, "box converted: polygon": 3, "box dropped: polyline": 2}
    assert result.summary["boxes"] - 2 - 3 == 18, "what are boxes in the file"
    assert result.summary["classes"] == {
        **{"rectangle": 1, "triangle": 1, "circle": 0, "ellipse": 2, "line": 0, "crack": 0, "bird": 2, "strawberry": 17}
    }
    assert result.splits() == {f"images/{name}": "test" for name in ("birds.jpg", "crack.jpeg", "shapes.jpg", "strawberry.jpg")}
    assert [entry.where() for entry in result.entries if entry.reason == "polyline"] == [
        "annotations.xml:99",
        "annotations.xml:105",
    ]
    boxes = [box[1:] for box in result.boxes() if box[0] == "images/shapes.jpg"]
    assert boxes == [
        ("triangle", 322.25, 30.53, 548.29, 201.59),
        ("rectangle", 45.8, 45.8, 230.61, 186.32),
        ("ellipse", 365.8, 232.52, 529.98, 396.7),
        ("ellipse", 40.47, 262.7, 258.87, 413.9),
    ]
    assert collected.run(format="cvat", on_invalid="error").summary["boxes"] == 23


def test_what_cvat_exports_of_a_project(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "cvat").run(format="cvat")
    one = "images/Train/a b/one.png"
    assert result.boxes() == [
        (one, "cat", 1.25, 2.5, 20.75, 30),
        (one, "dog & co", 15, 5, 25, 25),
        (one, "cat", 30, 14, 50, 26),
        (one, "cat", 5, 5, 25.5, 33.25),
        (one, "dog & co", 21, 30, 24, 32),
        ("images/Validation/frame_000000.PNG", "dog & co", 0, 0, 64, 48),
    ]
    assert result.dataset.class_names == ("dog & co", "cat", "pose", "bird"), "the points of a skeleton are no classes"
    assert list(result.splits().values()) == ["train", "train", "val", "val"]
    groups = result.dataset.images["group_id"].tolist()
    assert groups == [one, "images/Train/two.jpg", "annotations.xml: task 5", "annotations.xml: task 5"]
    converted = [(entry.reason, entry.line) for entry in result.entries if entry.action == "converted"]
    assert converted == [("rotated_box", 114), ("ellipse", 117), ("polygon", 119), ("mask", 121)]
    dropped = [(entry.reason, entry.line) for entry in result.entries if entry.action == "dropped"]
    assert dropped == [("polyline", 123), ("point", 125), ("cuboid", 127), ("keypoints", 129), ("tag", 135)]
    assert {entry.path for entry in result.entries} == {one}


def test_what_datumaro_exports(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "cvat_datumaro").run(format="cvat")
    assert result.boxes() == [
        ("images/a b/one.png", "cat", 1.25, 2.5, 20.75, 30),
        ("images/a b/one.png", "dog & co", 15, 5, 25, 25),
        ("images/a b/one.png", "cat", 5, 5, 25.5, 33.25),
        ("images/a b/one.png", "dog & co", 20, 30, 25, 33),
        ("images/three.png", "dog & co", 0, 0, 64, 48),
    ]
    assert result.dataset.class_names == ("dog & co", "cat", "bird")
    assert result.splits() == {"images/a b/one.png": "train", "images/three.png": "val", "images/two.png": "train"}


@pytest.mark.parametrize(
    ("attributes", "task_subset", "file", "split"),
    [
        ('subset="Train"', "Test", "val.xml", "train"),
        ('subset="default"', "Test", "val.xml", "test"),
        ("", "Validation", "test.xml", "val"),
        ("", "default", "test.xml", "test"),
        ("", "golden", "annotations.xml", ""),
    ],
)
def test_splits(collected: Collected, attributes: str, task_subset: str, file: str, split: str) -> None:
    head = meta(["x"], f"<subset>{task_subset}</subset>")
    collected.image("images/a.jpg").text(file, xml(image(box("x"), more=attributes), head))
    assert list(collected.run(format="cvat").splits().values()) == [split]


def test_images_lie_where_cvat_saves_them(collected: Collected) -> None:
    for path in ("a.jpg", "images/a.jpg", "images/train/a.jpg", "images/images/a.jpg"):
        collected.image(f"one/{path}")
    body = image(box("top")) + image(box("train"), more='subset="train"') + image(box("deep"), "images/a.jpg")
    result = collected.text("one/annotations.xml", xml(body)).run(format="cvat")
    assert [found[:2] for found in result.boxes()] == [
        ("one/images/a.jpg", "top"),
        ("one/images/images/a.jpg", "deep"),
        ("one/images/train/a.jpg", "train"),
    ]


def test_classes_without_a_list_are_sorted(collected: Collected) -> None:
    collected.image("a.jpg").text("a.xml", xml(image(box("b") + box("a"))))
    assert collected.run(format="cvat").dataset.class_names == ("a", "b")


def test_what_cannot_be_a_box(collected: Collected) -> None:
    shapes = [
        box("x"),
        box(""),
        box("unheard-of"),
        '<box label="x" xtl="1" ytl="2" xbr="" ybr="4"/>',
        '<box label="x" xtl="1" ytl="2" xbr="3" ybr="4" rotation="left"/>',
        '<ellipse label="x" cx="1" cy="2" rx="3"/>',
        '<polygon label="x" points="1,2;3,4"/>',
        '<polygon label="x" points="1,2;3,4;5"/>',
        '<mask label="x" rle="" left="0" top="0" width="3" height="3"/>',
        '<mask label="x" rle="9" left="0" top="0" width="3" height="3"/>',
        '<mask label="x" rle="1, 99" left="0" top="0" width="3" height="3"/>',
        box("x", 'outside="1"'),
        '<skeleton label="x"><points label="1" points="1,1"/><box label="2" xtl="1" ytl="2" xbr="3" ybr="4"/></skeleton>',
        '<blob label="x"/>',
        '<box label="x" xtl="1e999" ytl="2" xbr="3" ybr="4"/>',
        '<polygon label="x" points="1,2;3,4;nan,3"/>',
        '<ellipse label="x" cx="1" cy="2" rx="3" ry="3" rotation="inf"/>',
        f'<mask label="x" rle="{"9" * 400}, 1" left="0" top="0" width="3" height="3"/>',
    ]
    collected.image("a.jpg").text("a.xml", xml(image("\n".join(shapes)), meta(["x"]).replace("\n", "") + "\n"))
    result = collected.run(format="cvat")
    assert result.boxes() == [("a.jpg", "x", 1, 2, 3, 4)]
    found = [(entry.reason, entry.line) for entry in result.entries if entry.action == "dropped"]
    malformed = [("malformed_box", line) for line in (8, 9, 10, 11, 12, 13, 14, 15, 22)]
    assert sorted(found) == sorted(
        [
            *(("no_class", 6), ("unknown_class", 7), *malformed, ("outside", 16), ("keypoints", 17), ("malformed_box", 0)),
            *(("not_finite", 19), ("not_finite", 20), ("not_finite", 21)),
        ]
    )
    assert result.summary["boxes_read"] == len(shapes)


def test_an_image_without_a_name(collected: Collected) -> None:
    nameless = f'<image id="3" width="9" height="9">{box("x")}</image>'
    collected.image("a.jpg").text("a.xml", xml(image(box("x")) + "\n" + nameless))
    result = collected.run(format="cvat")
    assert [(entry.item, entry.reason, entry.line) for entry in result.entries] == [
        ("image", "no_file_name", 6),
        ("box", "unknown_image", 6),
    ]


def test_unreadable_files(collected: Collected) -> None:
    collected.image("a.jpg").text("good.xml", xml(image(box("x"))))
    collected.text("cut.xml", xml(image(box("x")))[:90]).text("empty.xml", "")
    collected.text("bomb.xml", '<!DOCTYPE a [<!ENTITY b "c">]>' + xml(image(box("&b;"))).partition("\n")[2])
    collected.text("deep.xml", xml("<image>" * 500 + "</image>" * 500))
    collected.text("voc.xml", "<annotation><object/></annotation>").text("svg.xml", "<svg>")
    collected.text("many.xml", xml("", meta([f"class {number}" for number in range(10_001)])))
    for mode in ("fix", "drop", "error"):
        with pytest.raises(DataError) as error:
            collected.run(format="cvat", on_invalid=mode)
        problems = [problem.split(": ", 1)[0] for problem in error.value.problems]
        assert problems == ["bomb.xml", "cut.xml:3", "deep.xml", "empty.xml:1", "many.xml"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_encodings(collected: Collected, encoding: str) -> None:
    text = xml(image(box("Größe"), "ä.jpg"), meta(["Größe"])).replace("utf-8", encoding.removesuffix("-sig"))
    collected.image("ä.jpg").data("ä.xml", text.replace("\n", "\r\n").encode(encoding))
    assert collected.run(format="cvat").boxes() == [("ä.jpg", "Größe", 1, 2, 3, 4)]


def test_tracks_in_the_same_tree_are_accounted_for(collected: Collected) -> None:
    collected.image("a.jpg").text("images.xml", xml(image(box("x")), meta(["x"])))
    collected.text("tracks.xml", xml('<track id="0" label="y"/><track id="1" label="y"/>', meta(["y"])))
    result = collected.run(format="cvat")
    (entry,) = result.entries
    assert (entry.reason, entry.file, entry.detail[:10]) == ("other_task", "tracks.xml", "2 elements")
    assert result.dataset.class_names == ("x",)


def test_written_files(tmp_path: Path) -> None:
    rows = [
        {"path": f"{split or 'none'}.jpg", "width": 10, "height": 9, "split": split} for split in ("train", "val", "", "train")
    ]
    rows[3]["path"] = 'sub/"a" & <b>.jpg'
    dataset = Dataset.from_rows(["a & <b>"], rows, [(3, 0, 0.1, 2, 3, 4.000000123)])
    for out in ("one", "two"):
        cvat.write(dataset, None, tmp_path / out)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["annotations.xml", "train.xml", "val.xml"]
    text = (tmp_path / "one" / "train.xml").read_text(encoding="utf-8")
    assert '<box label="a &amp; &lt;b&gt;" source="manual" occluded="0" xtl="0.1" ytl="2" xbr="3" ybr="4.000000123"' in text
    assert "<subset>train</subset>" in text
    assert "<stop_frame>1</stop_frame>" in text
    assert text == (tmp_path / "two" / "train.xml").read_text(encoding="utf-8")


def test_a_name_that_no_xml_can_hold_is_not_written(tmp_path: Path) -> None:
    dataset = Dataset.from_rows(["a\x01"], [{"path": "a.jpg", "width": 10, "height": 9}], [])
    with pytest.raises(DataError, match=r"\\x01.*XML cannot hold"):
        cvat.write(dataset, None, tmp_path)


def test_decimal_commas(collected: Collected) -> None:
    shapes = (
        '<box label="b" xtl="1,5" ytl="2" xbr="3,25" ybr="4" rotation="0,0"></box>\n'
        '<polygon label="p" points="1,5,2,5;9,5,2,5;5,0,8,75"></polygon>\n'
        '<polygon label="whole" points="1,2;9,2;5,8"></polygon>\n'
        '<polygon label="unclear" points="1,5,2;9,5,2;5,0,8"></polygon>\n'
        '<box label="thousand" xtl="1,024" ytl="2" xbr="3" ybr="4"></box>'
    )
    result = collected.image("images/a.jpg", 100, 50).text("x.xml", xml(image(shapes))).run()
    assert [box[1:] for box in result.boxes()] == [("b", 1.5, 2, 3.25, 4), ("p", 1.5, 2.5, 9.5, 8.75), ("whole", 1, 2, 9, 8)]
    dropped = [(entry.reason, entry.line) for entry in result.entries if entry.action == "dropped"]
    assert dropped == [("malformed_box", 7), ("malformed_box", 8)]
