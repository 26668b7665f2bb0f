"""What is peculiar to Create ML label files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats" / "labelimg" / "createml"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def box(x: Any, y: Any, width: Any, height: Any, label: Any = "cat") -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}


def createml(collected: Collected, *images: Any, path: str = "labels.json") -> Collected:
    return collected.image("a.jpg").image("b.jpg").text(path, json.dumps(images))


def test_createml_of_labelimg(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    assert result.summary["format"] == "createml"
    assert result.boxes() == [
        ("kitchen 1.jpg", "person", 0, 0, 30.9, 40),
        ("kitchen 1.jpg", "cat", 12.6, 8.2, 47, 31),
        ("salt & pepper.png", "tv", 5, 3, 20, 23),
    ]
    assert (result.summary["background"], result.entries) == (1, [])


@pytest.mark.parametrize(
    ("image_key", "list_key"), [("image", "annotations"), ("imagefilename", "annotation"), ("imageFilename", "Annotations")]
)
def test_createml_keys_of_both_pages_of_apple(collected: Collected, image_key: str, list_key: str) -> None:
    result = createml(collected, {image_key: "a.jpg", list_key: [box(20, 30, 10, 20)]}, {image_key: "b.jpg", list_key: []}).run()
    assert result.boxes() == [("a.jpg", "cat", 15, 20, 25, 40)]
    assert (result.summary["background"], result.entries) == (1, [])


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, box(20, 30, 10, 20)),
        ({"anchor": "top_left"}, box(15, 20, 10, 20)),
        ({"anchor": "bottom_left"}, box(15, 40, 10, 20)),
        ({"units": "normalized"}, box(0.2, 0.6, 0.1, 0.4)),
        ({"units": "normalized", "anchor": "top_left"}, box(0.15, 0.4, 0.1, 0.4)),
    ],
)
def test_createml_units_and_anchors(collected: Collected, options: dict[str, str], written: dict[str, Any]) -> None:
    result = createml(collected, {"image": "a.jpg", "annotations": [written]}, {"image": "b.jpg", "annotations": []})
    assert result.run(options=options, format="createml").boxes() == [("a.jpg", "cat", 15, 20, 25, 40)]


def test_createml_of_fractions_is_remarked(collected: Collected) -> None:
    result = createml(collected, {"image": "a.jpg", "annotations": [box(0.5, 0.5, 0.2, 0.2)]}).run()
    (entry,) = [entry for entry in result.entries if entry.item == "file"]
    assert (entry.action, entry.reason, entry.file) == ("kept", "looks_like_fractions", "labels.json")
    assert "annotate.options.units" in entry.detail


def test_createml_a_file_a_split(collected: Collected) -> None:
    for split in ("train", "valid"):
        collected.image(f"{split}/x.jpg").text(
            f"{split}/_annotations.createml.json", json.dumps([{"image": "x.jpg", "annotations": [box(20, 30, 10, 20, split)]}])
        )
    result = collected.run()
    assert [found[:2] for found in result.boxes()] == [("train/x.jpg", "train"), ("valid/x.jpg", "valid")]
    assert result.splits() == {"train/x.jpg": "train", "valid/x.jpg": "val"}


def test_createml_odd_annotations(collected: Collected) -> None:
    createml(
        collected,
        {
            "image": "a.jpg",
            "annotations": [
                box(20, 30, 10, 20),
                box("21", "30", "10", "20"),
                box(22, 30, 10, 20, 7),
                box(20, 30, 10, 20, ""),
                box(20, 30, 10, 20, True),
                {"coordinates": {"x": 1, "y": 1, "width": 1, "height": 1}},
                {"label": "cat", "coordinates": {"x": 1, "y": 1}},
                {"label": "cat", "coordinates": [1, 2, 3, 4]},
                {"label": "cat"},
                box([1], None, {}, 4),
                "dog",
                None,
                [1, 2],
            ],
        },
        {"image": "b.jpg", "annotation": "dog"},
        {"image": "b.jpg"},
        {"image": ["b.jpg"], "annotations": []},
        {"annotations": []},
        "b.jpg",
        None,
    )
    result = collected.run()
    assert result.boxes() == [
        ("a.jpg", "cat", 15, 20, 25, 40),
        ("a.jpg", "cat", 16, 20, 26, 40),
        ("a.jpg", "7", 17, 20, 27, 40),
    ]
    assert result.reasons() == {
        "box dropped: malformed_box": 5,
        "box dropped: no_class": 3,
        "box dropped: tag": 2,
        "image dropped: no_annotations": 1,
        "image dropped: no_file_name": 4,
    }
    assert "annotation 4" in next(entry.detail for entry in result.entries if entry.reason == "no_class")


HUGE = ["1e999, 2", "-1e999, NaN", f"{10**400}, 2", "Infinity, 1", '"nan", 1', f"{'9' * 5000}, 1"]


@pytest.mark.parametrize("numbers", HUGE, ids=lambda text: text[:12])
def test_createml_numbers_beyond_all_bounds(collected: Collected, numbers: str) -> None:
    x, y = numbers.split(", ")
    odd = f'{{"label": "cat", "coordinates": {{"x": {x}, "y": {y}, "width": 3, "height": 4}}}}'
    sound = json.dumps(box(20, 30, 10, 20))
    collected.image("a.jpg").text("labels.json", f'[{{"image": "a.jpg", "annotations": [{odd}, {sound}]}}]')
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 15, 20, 25, 40)]
    assert result.reasons() == {"box dropped: not_finite": 1}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_createml_of_windows_tools(collected: Collected, encoding: str) -> None:
    text = json.dumps([{"image": r"C:\photos\Öl.jpg", "annotations": [box(20, 30, 10, 20, "Öl")]}], ensure_ascii=False, indent=1)
    collected.image("photos/Öl.jpg").data("labels.json", text.replace("\n", "\r\n").encode(encoding))
    assert collected.run().boxes() == [("photos/Öl.jpg", "Öl", 15, 20, 25, 40)]


def test_createml_every_unreadable_file_is_named(collected: Collected) -> None:
    good = (
        '[{"image": "a.jpg",\n"annotations": [{"label": "cat", "coordinates": {"x": 20, "y": 30, "width": 10, "height": 20}}]}]'
    )
    collected.image("a.jpg").text("good.json", good).text("cut.json", good[:-5])
    collected.text("empty.createml.json", "").text("other.createml.json", '{"images": []}').text("settings.json", '{"a": 1}')
    collected.text("deep.json", '[{"image": ' + "[" * 100_000)
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(" (")[0] for problem in error.value.problems] == [
        "cut.json:2: malformed JSON",
        "deep.json: malformed JSON",
        "empty.createml.json:1: malformed JSON",
        "other.createml.json: a Create ML file is a list of images",
    ]


def test_createml_is_not_seen_in_the_json_of_others(collected: Collected) -> None:
    label_studio = [{"id": 1, "data": {"image": "a.jpg", "note": "coordinates"}, "annotations": [{"result": [], "label": []}]}]
    geojson = {"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}
    collected.image("a.jpg").text("tasks.json", json.dumps(label_studio)).text("map.json", json.dumps(geojson))
    with pytest.raises(DataError, match="no createml labels"):
        collected.run(format="createml")
