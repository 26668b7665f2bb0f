"""What is peculiar to VIA's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import formats
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from tests.labelling import Collected

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "via"
ROW = [
    ("street 1.jpg", "cat", 10, 5, 40, 25),
    ("street 1.jpg", "dog", 42.226896, 12.829676, 77.773104, 37.170324),  # as VIA's own get_region_bounding_box has it
    ("street 1.jpg", "fox", 72.929, 12.929, 87.071, 27.071),
    ("street 1.jpg", "cat", 3, 31, 17, 45),
]
REASONS = {
    "box converted: circle": 1,
    "box converted: ellipse": 1,
    "box converted: polygon": 1,
    "box dropped: point": 1,
    "box dropped: polyline": 1,
}


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path).image("street 1.jpg").image("sky.png")


def region(attributes: Any, shape: Any = None) -> dict[str, Any]:
    rect = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
    return {"shape_attributes": rect if shape is None else shape, "region_attributes": attributes}


def via2(*regions: Any, name: str = "sky.png", declared: Any = None, **more: Any) -> str:
    """One image, alone or, with declared region attributes, in a project."""
    images = {f"{name}815": {"filename": name, "size": 815, "regions": list(regions), "file_attributes": {}, **more}}
    if declared is None:
        return json.dumps(images)
    settings = {"core": {"default_filepath": "", "filepath": {}}, "project": {"name": "x"}, "ui": {}}
    return json.dumps(
        {"_via_settings": settings, "_via_img_metadata": images, "_via_attributes": {"region": declared, "file": {}}}
    )


def menu(**options: str) -> dict[str, Any]:
    return {"type": "dropdown", "description": "", "options": options, "default_options": {}}


# --- What VIA itself wrote --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["via1.json", "via2.json"])
def test_an_export_has_ids_for_classes(collected: Collected, file: str) -> None:
    collected.data("x.json", (GOLDEN / file).read_bytes())
    result = collected.run()
    ids = {"cat": "1", "dog": "2", "fox": "fox"}
    assert result.boxes() == [(path, ids[name], *box) for path, name, *box in ROW]
    assert result.reasons() == REASONS, "and sky.png is background, by its mention"


def test_a_project_of_via_2(collected: Collected) -> None:
    result = collected.data("x.json", (GOLDEN / "via2_project.json").read_bytes()).run()
    assert result.boxes() == ROW
    assert result.dataset.class_names == ("cat", "dog", "fox"), "as the menu shows them, in its order"
    assert result.reasons() == REASONS


def test_a_project_of_via_3(collected: Collected) -> None:
    result = collected.data("x.json", (GOLDEN / "via3.json").read_bytes()).run()
    assert (
        result.boxes()
        == [
            ROW[0],
            ("street 1.jpg", "dog", 40, 17, 80, 33),  # VIA 3 has no turned ellipses
            *ROW[2:],
            ("street 1.jpg", "cat", 20, 5, 45, 22),  # a rectangle through its extreme points
            ("street 1.jpg", "dog", 60, 10, 80, 30),  # a circle through three points
        ]
    )
    assert result.dataset.class_names == ("cat", "dog", "fox")
    assert result.reasons() == {**REASONS, "box converted: circle": 2}


# --- Which attribute is the class -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"Tierart": "cat"}, "cat"),
        ({"Tierart": "cat", "colour": ""}, "cat"),
        ({"colour": "red", "class": "cat"}, "cat"),
        ({"colour": "red", "Class Name": "cat"}, "cat"),
        ({"colour": "red", "label": "cat", "name": "Tom"}, "cat"),
        ({"colour": "red", "name": "cat"}, "cat"),
        ({"colour": "red", "object_name": "cat"}, "cat"),
        ({"number": 7}, "7"),
        ({"species": {"cat": True, "dog": False}}, "cat"),
        ({"species": " cat "}, "cat"),
    ],
)
def test_the_class_among_the_attributes(collected: Collected, attributes: dict[str, Any], name: str) -> None:
    result = collected.text("x.json", via2(region(attributes))).run()
    assert [box[1] for box in result.boxes()] == [name]


def test_other_attributes_are_named_in_the_ledger(collected: Collected) -> None:
    result = collected.text("x.json", via2(region({"class": "cat", "colour": "red"}))).run()
    (entry,) = [entry for entry in result.entries if entry.item == "file"]
    assert (entry.action, entry.reason, entry.file) == ("kept", "other_attributes", "x.json")
    assert entry.detail == "'class' is the class; not read: colour"


@pytest.mark.parametrize("attributes", [{"colour": "red", "size": "big"}, {"type": "bird", "name": "swan"}])
def test_a_class_that_may_be_two_attributes_is_not_guessed(collected: Collected, attributes: dict[str, str]) -> None:
    first, second = attributes
    collected.text("x.json", via2(region(attributes)))
    for mode in ("fix", "drop", "error"):
        with pytest.raises(DataError) as error:
            collected.run(on_invalid=mode)
        assert f"the attributes {first}, {second}, and" in error.value.problems[0]
        assert "annotate.options.attribute" in error.value.problems[0]
    assert collected.run(options={"attribute": second}).boxes()[0][1] == attributes[second]


def test_regions_without_a_class(collected: Collected) -> None:
    regions = [region({}), region({"species": "not_defined"}), region({"species": "cat"}), region(None), region([])]
    collected.text("x.json", via2(*regions))
    result = collected.run()
    assert [box[1] for box in result.boxes()] == ["cat"]
    assert result.reasons()["box dropped: no_class"] == 4
    assert result.entries[0].detail == "region 1 no 'species' among no attributes"
    collected.text("x.json", via2(region({}), region({}, {"name": "rect", "x": 9, "y": 9, "width": 9, "height": 9})))
    with pytest.raises(DataError, match="no box"):
        collected.run()
    result = collected.run(options={"default_class": "balloon"})
    assert [box[1] for box in result.boxes()] == ["balloon", "balloon"]


def test_several_ticked_boxes(collected: Collected) -> None:
    declared = {"what": {**menu(c="cat", d="dog", f="fox"), "type": "checkbox"}}
    result = collected.text("x.json", via2(region({"what": {"d": True, "c": True}}), declared=declared)).run()
    assert result.boxes() == [("sky.png", "dog", 1, 2, 4, 6), ("sky.png", "cat", 1, 2, 4, 6)]
    assert result.dataset.class_names == ("cat", "dog", "fox"), "fox too: the menu says so"
    assert result.reasons() == {"box converted: several_labels": 1, "image kept: no_label_file": 1}


def test_a_value_that_the_menu_does_not_have(collected: Collected) -> None:
    regions = [
        region({"what": "c"}),
        region({"what": "ox"}),
        region({"what": "cat"}, {"name": "circle", "cx": 9, "cy": 9, "r": 2}),
    ]
    result = collected.text("x.json", via2(*regions, declared={"what": menu(c="cat")})).run()
    assert [box[1:4] for box in result.boxes()] == [("cat", 1, 2), ("cat", 7, 7)], "by the id, and by the text"
    (entry,) = [entry for entry in result.entries if entry.reason == "unknown_class"]
    assert entry.detail == "region 2 what: ox"


def test_free_text_has_no_order(collected: Collected) -> None:
    collected.text("x.json", via2(region({"what": "fox"}), region({"what": "cat"})))
    assert collected.run().dataset.class_names == ("cat", "fox")


def test_polylines(collected: Collected) -> None:
    closed = {"name": "polyline", "all_points_x": [1, 29, 15, 2], "all_points_y": [2, 3, 18, 3]}
    there_and_back = {"name": "polyline", "all_points_x": [1, 9, 1], "all_points_y": [2, 3, 2]}
    result = collected.text("x.json", via2(region({"a": "cat"}, closed), region({"a": "cat"}, there_and_back))).run()
    assert result.boxes() == [("sky.png", "cat", 1, 2, 29, 18)]
    assert [(entry.action, entry.reason) for entry in result.entries[:2]] == [("converted", "polygon"), ("dropped", "polyline")]


# --- Images -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["sky.png", "https://example.com/a/sky.png?width=300&x=/1", "/home/me/pictures/sky.png", r"C:\me\sky.png", "sky%2Epng"],
)
def test_names_of_images(collected: Collected, name: str) -> None:
    assert collected.text("x.json", via2(region({"a": "cat"}), name=name)).run().boxes()[0][0] == "sky.png"


def test_the_folder_of_a_project_tells_equal_names_apart(collected: Collected) -> None:
    project = json.loads(via2(region({"a": "cat"}), name="1.jpg", declared={}))
    project["_via_settings"]["core"]["default_filepath"] = "/data/two/"
    collected.image("one/1.jpg").image("two/1.jpg").text("x.json", json.dumps(project))
    assert collected.run().boxes()[0][0] == "two/1.jpg"


def test_sizes(collected: Collected) -> None:
    collected.text("x.json", via2(region({"a": "cat"}), file_attributes={"width": "200", "height": 100}))
    assert collected.run().boxes() == [("sky.png", "cat", 0.5, 1, 2, 3)], "drawn on a copy of twice the size"


def test_images_without_a_name(collected: Collected) -> None:
    document = json.loads(via2(region({"a": "cat"})))
    document |= {"x": {"size": 1, "regions": []}, "y": None, "z": {"filename": ["a"], "regions": []}}
    result = collected.text("x.json", json.dumps(document)).run()
    assert result.reasons()["image dropped: no_file_name"] == 3


def test_regions_of_videos(collected: Collected) -> None:
    project = json.loads((GOLDEN / "via3.json").read_bytes())
    project["file"]["9"] = {"fid": 9, "fname": "a.mp4", "type": 4, "loc": 1, "src": ""}
    project["file"]["11"] = {"fid": 11, "fname": None, "type": 2, "loc": 1}
    project["view"] |= {"9": {"fid_list": [9]}, "10": {"fid_list": [1, 2]}}
    project["metadata"] |= {
        "a": {"vid": "9", "z": [1.5], "xy": [2, 1, 1, 5, 5], "av": {"1": "1"}},
        "b": {"vid": "10", "z": [], "xy": [2, 1, 1, 5, 5], "av": {"1": "1"}},
        "c": {"vid": "9", "z": [1, 2], "xy": [], "av": {"1": "1"}},
        "d": {"vid": "1", "z": [], "xy": [9, 1, 1, 2, 2, 3, 3], "av": {"1": "1"}},
    }
    result = collected.text("x.json", json.dumps(project)).run()
    found = {entry.reason: (entry.path, entry.detail.partition(" {")[0]) for entry in result.entries}
    assert found["video"] == ("a.mp4", "region 11")
    assert found["unknown_image"] == ("", "region 12")
    assert found["no_file_name"] == ("", "file 11")
    assert found["malformed_box"] == ("street 1.jpg", "region 14 None"), "no circle goes through three points of a line"


@pytest.mark.parametrize("place", range(8))
def test_an_extreme_rectangle_with_a_number_that_is_none(collected: Collected, place: int) -> None:
    """Whichever point it stands in: `min` and `max` pass over a NaN or not, by its place."""
    project = json.loads((GOLDEN / "via3.json").read_bytes())
    boxes = collected.text("x.json", json.dumps(project)).run().boxes()
    points: list[float] = [20, 8, 30, 5, 45, 9, 30, 22]
    points[place] = float("nan")
    project["metadata"]["a"] = {"vid": "1", "z": [], "xy": [8, *points], "av": {"1": "1"}}
    result = collected.text("x.json", json.dumps(project)).run(on_invalid="drop")
    assert result.boxes() == boxes
    assert result.reasons()["box dropped: not_finite"] == 1


# --- Broken files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        None,
        [],
        "rect",
        {},
        {"name": "rect", "x": 1, "y": 2, "width": 3},
        {"name": "rect", "x": None, "y": 2, "width": 3, "height": 4},
        {"name": "circle", "cx": 1, "cy": {}, "r": 3},
        {"name": "ellipse", "cx": 1, "cy": 1, "rx": 3, "ry": 3, "theta": "steep"},
        {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2, 3]},
        {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]},
        {"name": "polygon", "all_points_x": 5, "all_points_y": None},
        {"name": "cuboid"},
        {"name": ["rect"]},
    ],
)
def test_malformed_shapes(collected: Collected, shape: Any) -> None:
    good = region({"a": "cat"})
    bad = {"shape_attributes": shape, "region_attributes": {"a": "cat"}}
    result = collected.text("x.json", via2(good, bad)).run()
    assert result.boxes() == [("sky.png", "cat", 1, 2, 4, 6)]
    (entry,) = [entry for entry in result.entries if entry.item == "box"]
    assert (entry.action, entry.reason, entry.path, entry.file) == ("dropped", "malformed_box", "sky.png", "x.json")
    assert entry.detail.startswith("region 2")


def test_regions_that_are_none(collected: Collected) -> None:
    document = json.loads(via2(region({"a": "cat"}), 5, None, "x"))
    document |= {"b": {"filename": "street 1.jpg", "regions": "many", "file_attributes": None}}
    assert collected.text("x.json", json.dumps(document)).run().reasons() == {"box dropped: malformed_box": 4}


def test_deep_nesting(collected: Collected) -> None:
    deep = "[" * 900 + "]" * 900
    text = via2(region({"a": "cat"}), region({"a": "DEEP"}, "DEEP"), region("DEEP"), name="sky.png").replace('"DEEP"', deep)
    assert collected.text("x.json", text).run().reasons()["box dropped: malformed_box"] == 1


def test_unreadable_files_are_named_in_one_go(collected: Collected) -> None:
    text = via2(region({"a": "cat"}))
    collected.text("a.json", text).text("b.json", text[:-5].replace(",", ",\n")).text(
        "c.json", '{"filename": 1, "regions": "shape_attributes"'
    )
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop")
    assert [problem.partition(": ")[0] for problem in error.value.problems] == ["b.json:9", "c.json:1"]
    assert "malformed JSON" in error.value.problems[0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_encodings(collected: Collected, encoding: str) -> None:
    collected.data("x.json", via2(region({"a": "Kätzchen"})).replace("\\u00e4", "ä").encode(encoding))
    assert collected.run().boxes()[0][1] == "Kätzchen"


# --- Writing ----------------------------------------------------------------------------------------------------------------


def test_what_is_written(tmp_path: Path) -> None:
    images = [{"path": "a#1, 100%.jpg", "width": 100, "height": 50}, {"path": "b.jpg", "width": 100, "height": 50}]
    dataset = Dataset.from_rows(["dog", "cat"], images, [(0, 1, 1.5, 2, 4, 8)])
    for folder in ("one", "two"):
        formats.load_writable("via").write(dataset, None, tmp_path / folder)
    written = (tmp_path / "one/via_project.json").read_bytes()
    assert written == (tmp_path / "two/via_project.json").read_bytes()
    project = json.loads(written)
    (name, entry), other = project["_via_img_metadata"].items()
    assert name == "images/a%231%2C 100%25.jpg-1"
    assert entry["filename"] == "images/a%231%2C 100%25.jpg", "VIA takes names for URLs"
    assert entry["regions"][0] == {
        "shape_attributes": {"name": "rect", "x": 1.5, "y": 2, "width": 2.5, "height": 6},
        "region_attributes": {"class": "cat"},
    }
    assert other[1]["regions"] == []
    assert list(project["_via_attributes"]["region"]["class"]["options"]) == ["dog", "cat"]
    assert project["_via_image_id_list"] == list(project["_via_img_metadata"])


@pytest.mark.parametrize("name", ["via", "via_csv"])
def test_names_that_via_cannot_tell_apart(tmp_path: Path, name: str) -> None:
    images = [{"path": path, "width": 10, "height": 10} for path in ("a%.jpg", "a%25.jpg")]
    with pytest.raises(DataError, match=r"a%\.jpg from a%25\.jpg"):
        formats.load_writable(name).write(Dataset.from_rows(["x"], images, []), None, tmp_path)
