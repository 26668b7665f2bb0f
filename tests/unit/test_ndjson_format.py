"""What is peculiar to Ultralytics NDJSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import ndjson
from tests.labelling import Collected, Result

HEADER = {"type": "dataset", "task": "detect", "name": "x", "class_names": {"0": "cat", "1": "dog", "2": "unused"}}


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def image(file: Any = "a.jpg", split: Any = "train", **annotations: Any) -> dict[str, Any]:
    return {"type": "image", "file": file, "width": 100, "height": 50, "split": split, "annotations": annotations}


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(collected: Collected, header: Any = HEADER, **annotations: Any) -> Result:
    """One image with these annotations, and one sound box on another."""
    records = [header, image(**annotations), image("z.jpg", boxes=[[1, 0.5, 0.5, 1, 1]])]
    return collected.image("a.jpg").image("z.jpg").text("d.ndjson", lines(*(record for record in records if record))).run()


def of_a(result: Result) -> list[Any]:
    return [box[1:] for box in result.boxes() if box[0] == "a.jpg"]


def test_as_ultralytics_platform_exports_it(collected: Collected) -> None:
    text = (
        '{"type": "dataset", "task": "detect", "name": "my-dataset", "description": "...", "url": "https://platform.ultralytics.com/x",'
        ' "class_names": {"0": "person", "1": "car"}, "version": 1, "created_at": "2026-01-15T10:00:00Z"}\n'
        '{"type": "image", "file": "img001.jpg", "url": "https://x/y?z=1", "width": 640, "height": 480, "split": "train",'
        ' "annotations": {"boxes": [[0, 0.5, 0.5, 0.2, 0.3]]}}\r\n'
        "\n"
        '{"type": "image", "file": "img002.jpg", "url": "https://x/z", "width": 1280, "height": 720, "split": "val"}'
    )
    collected.image("img001.jpg", 640, 480).image("img002.jpg", 1280, 720)
    result = collected.text("export.ndjson", text).run()
    assert result.summary["format"] == "ndjson"
    assert result.dataset.class_names == ("person", "car")
    assert result.boxes() == [("img001.jpg", "person", 256, 168, 384, 312)]
    assert result.splits() == {"img001.jpg": "train", "img002.jpg": "val"}
    assert (result.entries, result.summary["background"]) == ([], 1)


def test_annotations_of_the_other_tasks(collected: Collected) -> None:
    result = read(
        collected,
        boxes=[[0, 0.5, 0.5, 0.2, 0.4]],
        segments=[[1, 0.1, 0.2, 0.3, 0.2, 0.2, 0.6]],
        obb=[[0, 0.5, 0.1, 0.6, 0.3, 0.5, 0.5, 0.4, 0.3]],
        pose=[[1, 0.5, 0.5, 0.1, 0.1, 0.45, 0.5, 2, 0.55, 0.5, 1]],
        classification=[1],
    )
    assert of_a(result) == [
        ("cat", 40, 15, 60, 35),
        ("dog", 10, 10, 30, 30),
        ("cat", 40, 5, 60, 25),
        ("dog", 45, 22.5, 55, 27.5),
    ]
    assert result.dataset.class_names == ("cat", "dog", "unused")
    assert result.reasons() == {"box converted: polygon": 1, "box converted: rotated_box": 1, "box dropped: tag": 1}


def test_class_names_in_other_shapes(collected: Collected) -> None:
    assert read(collected, {**HEADER, "class_names": ["x", "y"]}).dataset.class_names == ("x", "y")
    assert read(collected, {**HEADER, "class_names": {"10": "x", "9": "w", "1": "y"}}).dataset.class_names == ("y", "w", "x")
    assert read(collected, {"class_names": {"1": "y"}}).dataset.class_names == ("y",), "without a type"
    assert read(collected, {"type": "dataset"}, boxes=[[3, 0.5, 0.5, 1, 1]]).dataset.class_names == tuple(
        f"class_{n}" for n in range(4)
    )
    assert read(collected, None).dataset.class_names == ("class_0", "class_1"), "no first line at all"
    with pytest.raises(DataError, match=r"d\.ndjson:1: 'class_names' must map numbers to names"):
        read(collected, {**HEADER, "class_names": {"cat": 0}})
    with pytest.raises(DataError, match=r"d\.ndjson:1: 'class_names' must map numbers to names"):
        read(collected, {**HEADER, "class_names": "cat"})


def test_two_exports_in_one_file(collected: Collected) -> None:
    other = {**HEADER, "class_names": {"0": "dog"}}
    records = [HEADER, image(boxes=[[0, 0.5, 0.5, 1, 1]]), other, image("b.jpg", boxes=[[0, 0.5, 0.5, 1, 1]])]
    result = collected.image("a.jpg").image("b.jpg").text("d.ndjson", lines(*records)).run()
    assert [box[:2] for box in result.boxes()] == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_where_an_image_lies(collected: Collected) -> None:
    for path in ("images/train/1.jpg", "images/val/1.jpg", "images/2.jpg", "other/2.jpg", "0a1b.png"):
        collected.image(f"d/{path}")
    signed = {"type": "image", "file": "beach", "url": "https://cdn.example.com/u/0a1b.png?X-Signature=a/b.jpg", "split": "test"}
    records = [image("1.jpg", "train", boxes=[[0, 0.5, 0.5, 1, 1]]), image("1.jpg", "val", boxes=[[1, 0.5, 0.5, 1, 1]])]
    records += [image("images/2.jpg", "val", boxes=[[2, 0.5, 0.5, 1, 1]]), signed]
    for header in (HEADER, {**HEADER, "path": "."}, {**HEADER, "path": "../d"}):
        result = collected.text("d/labels.ndjson", lines(header, *records)).run(include_unlabelled=False)
        assert [box[:2] for box in result.boxes()] == [
            ("d/images/2.jpg", "unused"),
            ("d/images/train/1.jpg", "cat"),
            ("d/images/val/1.jpg", "dog"),
        ]
        assert result.splits()["d/0a1b.png"] == "test"
        assert result.reasons() == {"image dropped: no_label_file": 1}, "other/2.jpg"


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"boxes": [[0, 0.5, 0.5, 1]]}, "malformed_box"),
        ({"boxes": [[0, 0.5, 0.5, 1, 1, 0.9]]}, "malformed_box"),
        ({"boxes": [[0, 0.5, "x", 1, 1]]}, "malformed_box"),
        ({"boxes": [[0, 0.5, None, 1, 1]]}, "malformed_box"),
        ({"boxes": [[0, 0.5, math.nan, 1, 1]]}, "not_finite"),
        ({"boxes": [[0, 0.5, 0.5, 10**400, 1]]}, "not_finite"),
        ({"boxes": [[3, 0.5, 0.5, 1, 1]]}, "unknown_class"),
        ({"boxes": [[-1, 0.5, 0.5, 1, 1]]}, "unknown_class"),
        ({"boxes": [[0.5, 0.5, 0.5, 1, 1]]}, "malformed_box"),
        ({"boxes": [[None, 0.5, 0.5, 1, 1]]}, "malformed_box"),
        ({"boxes": [[True, 0.5, 0.5, 1, 1]]}, "malformed_box"),
        ({"boxes": [[]]}, "malformed_box"),
        ({"boxes": ["text"]}, "malformed_box"),
        ({"boxes": {"0": 1}}, "malformed_box"),
        ({"segments": [[0, 0.5, 0.5, 1, 1]]}, "malformed_box"),
        ({"segments": [[0, 0.5, 0.5, 1, 1, 0.2]]}, "malformed_box"),
        ({"obb": [[0, 0.5, 0.5, 1, 1]]}, "malformed_box"),
        ({"pose": [[0, 0.5, 0.5]]}, "malformed_box"),
        ({"circles": [[0, 0.5, 0.5, 1]]}, "malformed_box"),
    ],
)
def test_annotations_that_cannot_be_used(collected: Collected, annotations: dict[str, Any], reason: str) -> None:
    result = read(collected, **annotations)
    assert of_a(result) == []
    (entry,) = result.entries
    assert (entry.action, entry.reason, entry.path, entry.where()) == ("dropped", reason, "a.jpg", "d.ndjson:2")


def test_deep_nesting_is_no_crash(collected: Collected) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    assert read(collected, boxes=deep, segments=[[0, deep, 1, 2, 3, 4, 5]]).reasons() == {"box dropped: malformed_box": 2}


def test_lines_of_other_types_and_odd_values(collected: Collected) -> None:
    odd = {"type": "image", "file": "b.jpg", "width": "wide", "height": -5, "split": 7, "url": 5, "annotations": [1]}
    unnamed = {"type": "image", "file": None, "annotations": {"boxes": [[0, 0.5, 0.5, 1, 1]]}}
    records = [HEADER, {"type": "stats", "images": 2}, odd, unnamed, image(boxes=[[0, 0.5, 0.5, 1, 1]])]
    result = collected.image("a.jpg").image("b.jpg").text("d.ndjson", lines(*records)).run()
    assert result.splits() == {"a.jpg": "train", "b.jpg": ""}
    assert [(entry.item, entry.reason, entry.line) for entry in result.entries] == [
        ("file", "unknown_record", 2),
        ("box", "malformed_box", 3),
        ("image", "image_missing", 4),
        ("box", "image_missing", 4),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(collected: Collected, encoding: str) -> None:
    text = json.dumps(HEADER) + "\r\n" + json.dumps(image("ü.jpg", boxes=[[0, 0.5, 0.5, 1, 1]]), ensure_ascii=False)
    collected.image("ü.jpg").data("d.jsonl", text.encode(encoding))
    assert collected.run().boxes() == [("ü.jpg", "cat", 0, 0, 100, 50)]


def test_every_broken_line_is_named(collected: Collected) -> None:
    sound = json.dumps(image(boxes=[[0, 0.5, 0.5, 1, 1]]))
    collected.image("a.jpg").text("d.ndjson", "\n".join([json.dumps(HEADER), sound[:-3], sound, "[1]", "\x00", sound]))
    collected.text("e.ndjson", sound[:20])
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop", format="ndjson")
    assert [problem.split(": ", 1)[0] for problem in error.value.problems] == [
        "d.ndjson:2",
        "d.ndjson:4",
        "d.ndjson:5",
        "e.ndjson:1",
    ]


@pytest.mark.parametrize(
    ("paths", "path", "files"),
    [
        (["train/a b.jpg", "val/ü.jpg"], ".", ["a b.jpg", "ü.jpg"]),
        (["train/a.jpg", "a.jpg"], None, ["images/train/a.jpg", "images/a.jpg"]),
        (["train/a.jpg", "val/x/a.jpg"], None, ["images/train/a.jpg", "images/val/x/a.jpg"]),
    ],
)
def test_ultralytics_is_told_where_images_lie_if_it_can_know(
    tmp_path: Path, paths: list[str], path: str | None, files: list[str]
) -> None:
    rows = [
        {"path": name, "width": 10, "height": 10, "split": split} for name, split in zip(paths, ("train", "val"), strict=True)
    ]
    ndjson.write(Dataset.from_rows(["x"], rows, [(0, 0, 1, 2, 3, 4)]), None, tmp_path)
    header, *images = [json.loads(line) for line in (tmp_path / "dataset.ndjson").read_text(encoding="utf-8").splitlines()]
    assert header.get("path") == path
    assert [row["file"] for row in images] == files
    assert images[0]["annotations"]["boxes"] == [[0, 0.2, 0.3, 0.2, 0.2]]
