from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import images
from pipeline.errors import DataError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _video_labels
from pipeline.stage import Context
from pipeline.stages import annotate
from tests.collecting import collected, origins

av = pytest.importorskip("av")

from tests.videos import HEIGHT, WIDTH, entries, make_video, picture, run  # noqa: E402

# What comes along


def test_folders_names_and_what_lies_beside(clips: Path, tmp_path: Path, context: Context) -> None:
    video = make_video(clips / "deep er/ü%03d.mp4", [picture(1)])
    for name in ("twin.mp4", "twin.MOV", "taken.mp4"):
        (clips / name).write_bytes(video.read_bytes())
    (clips / "taken").mkdir()
    images.save(clips / "taken/frame_000000.jpg", picture(9))
    (clips / "notes.docx").write_text("x")
    (clips / "classes.txt").write_text("car\n")
    run(tmp_path / "out", context)
    assert collected(tmp_path / "out") == [
        "classes.txt",
        "deep er/ü%03d/frame_000000.jpg",
        "taken.mp4/frame_000000.jpg",
        "taken/frame_000000.jpg",
        "twin.MOV/frame_000000.jpg",
        "twin.mp4/frame_000000.jpg",
    ]
    groups = {row["path"]: row["group"] for row in origins(tmp_path / "out")}
    assert groups["deep er/ü%03d/frame_000000.jpg"] == "deep er/ü%03d.mp4"
    assert groups["taken/frame_000000.jpg"] == groups["classes.txt"] == ""
    assert [entry.path for entry in entries(tmp_path / "out", "not_an_image_nor_labels")] == ["notes.docx"]


def test_a_single_video_brings_what_is_called_like_it(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "a.mp4", map(picture, range(3)))
    for name in ("a.xml", "a_2.txt", "ab.txt", "b.json", "a.jpg"):
        (clips / name).write_text("0 0.5 0.5 0.1 0.1\n")
    run(tmp_path / "out", context, "video:clips/a.mp4", every_s=0, first_number=0)
    assert collected(tmp_path / "out") == [
        *("a.xml", "a/frame_000000.jpg", "a/frame_000001.jpg", "a/frame_000002.jpg", "a/frame_000002.txt")
    ]


def test_yolo_labels_named_after_frames_find_them(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "day/clip.mp4", map(picture, range(30)))
    make_video(clips / "night.mp4", map(picture, range(30)))
    labels = clips / "day/labels"
    labels.mkdir()
    for number in (0, 10, 11, 25, 99):
        (labels / f"clip_{number:06d}.txt").write_text(f"1 0.5 0.5 0.{number + 1:02} 0.5\n")
    (clips / "night_1.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # by Ultralytics: 30 is the last of 30 frames
    (clips / "night_30.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (clips / "classes.txt").write_text("car\nbus\n")
    run(tmp_path / "out", context, every_s=0.2)
    dropped = {entry.path: entry.reason for entry in read_ledger(tmp_path / "out") if entry.action == "dropped"}
    assert dropped == {
        "day/labels/clip_000011.txt": "frame_not_kept",
        "day/labels/clip_000099.txt": "no_such_frame",
        "night_30.txt": "frame_not_kept",
    }
    assert {row["path"]: row["origin"] for row in origins(tmp_path / "out") if row["path"].endswith(".txt")} == {
        "classes.txt": "classes.txt",
        "day/clip/frame_000000.txt": "day/labels/clip_000000.txt",
        "day/clip/frame_000010.txt": "day/labels/clip_000010.txt",
        "day/clip/frame_000025.txt": "day/labels/clip_000025.txt",
        "night/frame_000000.txt": "night_1.txt",
    }
    found = annotated(tmp_path / "out", context)
    assert found == {
        "day/clip/frame_000000.jpg": [("bus", 79.2, 80.8)],
        "day/clip/frame_000010.jpg": [("bus", 71.2, 88.8)],
        "day/clip/frame_000025.jpg": [("bus", 59.2, 100.8)],
        "night/frame_000000.jpg": [("car", 72.0, 88.0)],
    }


def annotated(collection: Path, context: Context) -> dict[str, list[tuple[str, float, float]]]:
    """Class, left and right edge of all boxes, by the image's path, as `annotate` finds them; groups must be the videos."""
    from pipeline.dataset import Dataset

    out = collection.parent / "annotated"
    annotate.run({"collect": collection}, annotate.Params(), out, context)
    dataset = Dataset.load(out)
    paths, groups = dataset.images["path"].tolist(), dataset.images["group_id"].tolist()
    assert all(group.endswith((".mp4", ".mkv")) for group in groups)
    found: dict[str, list[tuple[str, float, float]]] = {}
    for box in dataset.boxes.itertuples():
        row = (dataset.class_names[box.class_id], round(box.x1, 3), round(box.x2, 3))
        found.setdefault(paths[box.image], []).append(row)
    return found


def test_labels_that_may_count_from_0_or_1_are_not_guessed(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "a.mp4", map(picture, range(30)))
    for number in (1, 20):
        (clips / f"a_{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"a\.mp4: its label files are numbered from 1 to 20 \(a_1\.txt") as caught:
        run(tmp_path / "out", context)
    assert "first_number: 1" in caught.value.hint
    run(tmp_path / "one", context, every_s=0, first_number=1)
    assert [path for path in collected(tmp_path / "one") if path.endswith("txt")] == ["a/frame_000000.txt", "a/frame_000019.txt"]
    run(tmp_path / "zero", context, every_s=0, first_number=0)
    assert [path for path in collected(tmp_path / "zero") if path.endswith("txt")] == ["a/frame_000001.txt", "a/frame_000020.txt"]


def test_two_label_files_of_one_frame_and_of_two_videos(clips: Path) -> None:
    found = _video_labels.of_videos(["a/x_0.txt", "a/x_00.txt", "x.txt", "y_1.xml", "x_3.txt"], ["a/x.mp4", "b/x.mp4"])
    assert found["a/x.mp4"].numbers == {0: ["a/x_0.txt", "a/x_00.txt"]}
    assert list(found) == ["a/x.mp4"]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id><name>one</name><size>{size}</size><mode>interpolation</mode>
<start_frame>0</start_frame><stop_frame>{last}</stop_frame><source>{source}</source>
<labels><label><name>car</name></label></labels></task>
<original_size><width>160</width><height>96</height></original_size></meta>
<track id="0" label="car">
<box frame="{first}" keyframe="1" outside="0" occluded="0" xtl="10" ytl="10" xbr="30" ybr="30"/>
<box frame="{end}" keyframe="1" outside="1" occluded="0" xtl="30" ytl="10" xbr="50" ybr="30"/>
</track></annotations>
"""


def test_cvat_tracks_find_the_frames_of_their_video(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "one.mp4", map(picture, range(30)))
    make_video(clips / "two.mkv", map(picture, range(30)))
    for name, first in (("one.mp4", 0), ("two.mkv", 10)):
        text = CVAT.format(size=30, last=29, source=name, first=first, end=first + 20)
        (clips / f"{name[:3]}.xml").write_text(text.replace("<name>one</name>", f"<name>{name[:3]}</name>", 1))
    run(tmp_path / "out", context, every_s=0.2)
    assert annotated(tmp_path / "out", context) == {
        "one/frame_000000.jpg": [("car", 10, 30)],
        "one/frame_000005.jpg": [("car", 15, 35)],
        "one/frame_000010.jpg": [("car", 20, 40)],
        "one/frame_000015.jpg": [("car", 25, 45)],
        "two/frame_000010.jpg": [("car", 10, 30)],
        "two/frame_000015.jpg": [("car", 15, 35)],
        "two/frame_000020.jpg": [("car", 20, 40)],
        "two/frame_000025.jpg": [("car", 25, 45)],
    }


def test_coco_labels_of_frames_find_them(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "one.mp4", map(picture, range(30)))
    document = {
        "images": [{"id": 1, "file_name": "frame_000005.PNG", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "car"}],
    }
    (clips / "instances.json").write_text(json.dumps(document))
    run(tmp_path / "out", context, every_s=0.2)
    assert annotated(tmp_path / "out", context) == {"one/frame_000005.jpg": [("car", 10, 30)]}
