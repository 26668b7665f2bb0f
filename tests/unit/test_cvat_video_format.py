"""What is peculiar to CVAT's XML for video."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import cvat_video
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.merging import import_sources
from pipeline.ledger import Ledger
from pipeline.stage import Context
from tests.label_writers.cvat import meta
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats"
FRAME = "images/frame_{:06d}.PNG"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path / "collected")


def xml(tracks: str, size: int = 10, more: str = "<mode>interpolation</mode>", names: tuple[str, ...] = ("x",)) -> str:
    return f"<annotations>\n{meta(names, f'<size>{size}</size>{more}')}{tracks}\n</annotations>\n"


def track(*shapes: str, label: str = "x", more: str = "") -> str:
    return f'<track id="0" label="{label}" {more}>\n' + "\n".join(shapes) + "\n</track>\n"


def box(frame: object, x: float = 1, more: str = 'keyframe="1" outside="0"') -> str:
    return f'<box frame="{frame}" {more} xtl="{x}" ytl="2" xbr="{x + 9}" ybr="30"/>'


def outside(frame: int, x: float = 1) -> str:
    return box(frame, x, 'keyframe="1" outside="1"')


def frames(collected: Collected, numbers: range, name: str = FRAME) -> Collected:
    for number in numbers:
        collected.image(name.format(number))
    return collected


def lefts(collected: Collected, **params: object) -> dict[int, float]:
    """The left edge of the box in each frame that has one."""
    boxes = collected.run(format="cvat_video", **params).boxes()
    found = {int(re.findall("[0-9]+", path)[-1]): x1 for path, _, x1, *_ in boxes}
    assert len(found) == len(boxes)
    return found


def test_what_cvat_exports(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "cvat_video").run()
    assert result.summary["format"] == "cvat_video"
    assert (result.summary["images"], result.summary["boxes"], result.summary["background"]) == (8, 24, 0)
    assert result.summary["classes"] == {"person": 11, "car": 13, "lane": 0}
    assert result.reasons() == {
        **{"box converted: ellipse": 7, "box converted: polygon": 3, "box converted: rotated_box": 6, "box dropped: polyline": 3}
    }
    boxes = {(path, name): box for path, name, *box in result.boxes()}
    assert boxes[FRAME.format(22), "car"] == pytest.approx([22.8397, 13.6699, 45.1603, 32.3301], abs=1e-3), (
        "20 x 10, turned by 30°"
    )
    assert boxes[FRAME.format(10), "car"] == [4, 4, 14, 12]
    assert boxes[FRAME.format(18), "person"] == [40, 16, 52, 32], "an ellipse turned by 90°"
    assert (FRAME.format(20), "person") not in boxes
    assert set(result.dataset.images["group_id"]) == {"annotations.xml"}
    assert [entry.line for entry in result.entries if entry.reason == "polyline"] == [118, 120, 122]


def test_frames_between_keyframes_are_filled_as_cvat_does(collected: Collected) -> None:
    """CVAT lists every frame; from its keyframes alone the same boxes must result."""
    listed = collected.copy(GOLDEN / "cvat_video").run().boxes()
    document = collected.files / "annotations.xml"
    text = document.read_text(encoding="utf-8")
    keyframes = re.sub(r'<(\w+) frame="\d+" keyframe="0".*?</\1>', "", text, flags=re.DOTALL)
    assert keyframes.count("<box ") < text.count("<box ")
    document.write_text(keyframes, encoding="utf-8")
    result = collected.run()
    assert [row[:2] for row in result.boxes()] == [row[:2] for row in listed]
    for found, wanted in zip(result.boxes(), listed, strict=True):
        assert found[2:] == pytest.approx(wanted[2:], abs=0.01)
    (entry,) = [entry for entry in result.entries if entry.reason == "interpolated_polygon"]
    assert (entry.action, entry.detail[:18]) == ("converted", "track '2': 1 boxes")


def test_what_datumaro_exports(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "cvat_video_datumaro").run()
    assert [(path, x1) for path, _, x1, *_ in result.boxes()] == [(f"images/frame_00000{n}.png", 2 * n) for n in (0, 1, 3)]
    assert result.entries == []
    assert set(result.splits().values()) == {"train"}


def test_movement(collected: Collected) -> None:
    frames(collected, range(10)).text("a.xml", xml(track(box(2, 10), box(4, 20), outside(6, 40))))
    assert lefts(collected) == {2: 10, 3: 15, 4: 20, 5: 30}, "also towards a shape that is outside"
    collected.text("a.xml", xml(track(outside(0), box(3, 10), outside(5, 10), box(8, 50))))
    assert lefts(collected) == {3: 10, 4: 10, 8: 50, 9: 50}, "the last keyframe stays until the end"
    collected.text("a.xml", xml(track(box(8, 10), box(2, 70)), size=7))
    assert lefts(collected) == {2: 70, 3: 60, 4: 50, 5: 40, 6: 30, 8: 10}, "listed in no order, and beyond the end"


def test_what_is_listed_is_not_moved(collected: Collected) -> None:
    at_rest = 'keyframe="0" outside="0"'
    frames(collected, range(10)).text("a.xml", xml(track(box(0, 10), box(1, 77, at_rest), box(2, 30), outside(3))))
    assert lefts(collected) == {0: 10, 1: 77, 2: 30}
    for plain in (at_rest, ""):
        collected.text("a.xml", xml(track(box(0, 10, plain), box(4, 50, plain))))
        assert lefts(collected) == {0: 10, 4: 50}, "no keyframe: a plain list"
    collected.text(
        "a.xml",
        xml(track(*(f'<mask frame="{n}" keyframe="1" rle="4,1" left="{n}" top="0" width="5" height="1"/>' for n in (0, 3)))),
    )
    assert lefts(collected) == {0: 4, 3: 7}, "CVAT has no tracks of masks"


def test_only_frames_of_which_there_is_an_image_are_filled(collected: Collected) -> None:
    frames(collected, range(0, 10, 3)).text("a.xml", xml(track(box(0, 10), box(9, 73))))
    assert lefts(collected, on_invalid="error") == {0: 10, 3: 31, 6: 52, 9: 73}


def test_a_listed_frame_without_an_image(collected: Collected) -> None:
    frames(collected, range(3)).text("a.xml", xml(track(box(0), outside(1)) + track(box(7), outside(8))))
    result = collected.run(format="cvat_video")
    assert result.reasons() == {"box dropped: image_missing": 1, "image dropped: image_missing": 1}
    assert [entry.path for entry in result.entries] == ["frame 7 of the video"] * 2


def test_a_frame_without_an_image_is_not_looked_for_elsewhere(collected: Collected) -> None:
    for video, numbers in (("one", range(3)), ("two", range(5))):
        frames(collected, numbers, f"images/{video}/frame_{{:06d}}.jpg")
        collected.text(f"annotations/{video}.xml", xml(track(box(4, 7 if video == "one" else 1)), size=5))
    result = collected.run()
    assert [(path, x1) for path, _, x1, *_ in result.boxes()] == [("images/two/frame_000004.jpg", 1)]
    assert result.reasons() == {"box dropped: image_missing": 1, "image dropped: image_missing": 1}


def test_frames_with_nothing_on_them_are_background_of_their_video(collected: Collected) -> None:
    frames(collected, range(5)).text("a.xml", xml(track(box(1), outside(2)), size=4))
    result = collected.run(format="cvat_video")
    assert (result.summary["images"], result.summary["background"]) == (5, 4)
    assert result.dataset.images["group_id"].tolist() == [*["a.xml"] * 4, FRAME.format(4)]
    assert result.reasons() == {"image kept: no_label_file": 1}, "the task has four frames"
    collected.text("a.xml", xml("", size=5))
    empty = collected.run()
    assert (empty.summary["format"], empty.summary["background"], empty.entries) == ("cvat_video", 5, [])


def test_start_and_step(collected: Collected) -> None:
    more = "<start_frame>4</start_frame><stop_frame>9</stop_frame><frame_filter>step = 2</frame_filter>"
    frames(collected, range(4, 9, 2)).text("a.xml", xml(track(box(4, 10), box(8, 30)), size=3, more=more))
    assert lefts(collected) == {4: 10, 6: 20, 8: 30}


NAMES = {
    "images/frame_{:06d}.PNG": 0,
    "images/frame_{:06d}.jpg": 0,
    "frames/Frame_{:03d}.jpg": 0,
    "{:d}.png": 0,
    "street_{:05d}.png": 0,
    "images/frame_{:06d}.png": 1,
    "{:06d}.jpg": 1,
}


@pytest.mark.parametrize(("name", "first"), NAMES.items())
def test_names_of_frames(collected: Collected, name: str, first: int) -> None:
    frames(collected, range(first, first + 10), name).text("a.xml", xml(track(box(4), outside(5))))
    assert lefts(collected) == {4 + first: 1}
    reasons = collected.run(format="cvat_video").reasons()
    assert reasons == ({"file converted: numbered_from_one": 1} if first else {})


def test_numbers_that_may_mean_two_frames_are_refused(collected: Collected) -> None:
    frames(collected, range(1, 10)).text("a.xml", xml(track(box(4), outside(5))))
    with pytest.raises(DataError) as error:
        collected.run(format="cvat_video", on_invalid="drop")
    assert "numbered from 1, the frames from 0: set annotate.options to {first_number: 0}" in error.value.problems[0]
    assert lefts(collected, options={"first_number": 0}) == {4: 1}
    assert lefts(collected, options={"first_number": 1}) == {5: 1}


def test_images_without_numbers_are_refused(collected: Collected) -> None:
    collected.image("a.jpg").image("b.jpg").text("a.xml", xml(track(box(4), outside(5))))
    with pytest.raises(DataError) as error:
        collected.run(format="cvat_video")
    assert "no series of images ends in the numbers" in error.value.problems[0]


def test_a_task_made_of_images_takes_them_in_their_order(collected: Collected) -> None:
    text = xml(track(box(1), outside(2)), size=3, more="<mode>annotation</mode>")
    for name in ("a.jpg", "c.jpg", "b.jpg"):
        collected.image(name)
    assert [row[0] for row in collected.text("a.xml", text).run().boxes()] == ["b.jpg"]
    frames(collected, range(2), "{}.jpg")
    with pytest.raises(DataError) as error:
        collected.run()
    assert "a list of 3 images, numbered in the order of their names, but there are 5" in error.value.problems[0]


def test_a_task_made_of_images_some_of_which_are_missing(collected: Collected) -> None:
    frames(collected, range(4), "{:06d}.jpg")
    text = xml(track(box(3), outside(4)), size=10, more="<mode>annotation</mode>")
    assert [row[0] for row in collected.text("a.xml", text).run().boxes()] == ["000003.jpg"]
    collected.text("a.xml", text.replace("<size>10", "<size>3"))
    with pytest.raises(DataError, match="cannot be read"):
        collected.run()
    (collected.files / "000000.jpg").unlink()
    collected.text("a.xml", text)
    with pytest.raises(DataError, match="cannot be read"):
        collected.run()
    assert lefts(collected, options={"first_number": 0}) == {3: 1}


def test_an_order_that_is_not_clear_is_refused(collected: Collected) -> None:
    for name in ("9.jpg", "10.jpg", "11.jpg"):
        collected.image(name)
    collected.text("a.xml", xml(track(box(1), outside(2)), size=3, more="<mode>annotation</mode>"))
    with pytest.raises(DataError, match="cannot be read") as error:
        collected.run()
    assert "their order is not clear" in error.value.problems[0]


def test_several_videos(collected: Collected) -> None:
    for video in ("one", "two"):
        frames(collected, range(3), f"images/{video}/frame_{{:06d}}.jpg")
        collected.text(f"annotations/{video}.xml", xml(track(box(1), outside(2), label=video), size=3, names=(video,)))
    frames(collected, range(3), "other/images/{:06d}.jpg").text("other/annotations.xml", xml(track(box(0)), size=1))
    result = collected.run(include_unlabelled=False)
    assert [row[:2] for row in result.boxes()] == [
        ("images/one/frame_000001.jpg", "one"),
        ("images/two/frame_000001.jpg", "two"),
        ("other/images/000000.jpg", "x"),
    ]
    assert len(set(result.dataset.images["group_id"])) == 3


def test_frames_that_may_belong_to_two_videos_are_never_decided_in_silence(collected: Collected) -> None:
    for folder in ("p", "q"):
        frames(collected, range(2), folder + "/frame_{:06d}.jpg")
    frames(collected, range(2, 3), "p/frame_{:06d}.jpg").text("a.xml", xml(track(box(0)), size=3))
    result = collected.run()
    assert [row[0] for row in result.boxes()] == ["p/frame_000002.jpg"]
    assert result.reasons()["image dropped: ambiguous_image"] == 2
    assert result.reasons()["box dropped: ambiguous_image"] == 2


def test_a_project_numbers_the_frames_of_a_subset_through_its_tasks(collected: Collected) -> None:
    def task(number: int, subset: str) -> str:
        return f"<task><id>{number}</id><size>2</size><mode>interpolation</mode><subset>{subset}</subset></task>"

    for name in ("train/frame_000000", "train/frame_000001", "train/frame_000002", "train/frame_000003", "val/frame_000000"):
        collected.image(f"images/{name}.PNG")
    tasks = task(3, "train") + task(5, "train") + task(4, "val")
    head = f"<meta><project><tasks>{tasks}</tasks><labels><label><name>x</name></label></labels></project></meta>"
    tracks = track(box(0), more='task_id="3"') + track(box(2, 5), more='task_id="5"') + track(box(0, 7), more='task_id="4"')
    result = collected.text("annotations.xml", f"<annotations>{head}{tracks}</annotations>").run()
    assert [(path[7:-4], x1) for path, _, x1, *_ in result.boxes()] == [
        *(("train/frame_000000", 1), ("train/frame_000001", 1)),  # the first task ends here
        *(("train/frame_000002", 5), ("train/frame_000003", 5), ("val/frame_000000", 7)),
    ]
    groups = [f"annotations.xml: task {number}" for number in (3, 3, 5, 5, 4)]
    assert result.dataset.images["group_id"].tolist() == groups
    assert set(result.splits().values()) == {"train", "val"}


def test_a_job_begins_within_its_video(collected: Collected) -> None:
    document = xml(track(box(4)), size=2, more="<start_frame>4</start_frame><stop_frame>5</stop_frame>").replace("task>", "job>")
    frames(collected, range(4, 6)).text("a.xml", document)
    assert lefts(collected) == {4: 1, 5: 1}


def test_without_meta_the_last_keyframe_stays_as_long_as_there_are_images(collected: Collected) -> None:
    frames(collected, range(3)).text("a.xml", f"<annotations>{track(box(0))}</annotations>")
    assert lefts(collected) == {0: 1, 1: 1, 2: 1}


def test_labels_without_images(tmp_path: Path) -> None:
    size = "<mode>interpolation</mode><original_size><width>100</width><height>50</height></original_size>"
    for name in ("one.xml", "two.xml"):
        (tmp_path / name).write_text(xml(track(box(1, 10), box(3, 30)), size=4, more=size), encoding="utf-8")
    policy = Policy(format="cvat_video", has_images=False)
    (found,) = import_sources(FileSet.scan(tmp_path), [policy], Ledger(), Context())
    assert found.dataset.images["path"].tolist() == [f"{name}/frame_00000{n}.PNG" for name in ("one", "two") for n in range(4)]
    assert found.dataset.boxes["x1"].tolist() == [10, 20, 30] * 2


def test_what_cannot_be_a_box(collected: Collected) -> None:
    shapes = [
        box(0, more='keyframe="1"'),
        *(box(frame) for frame in ("", "-1", "1.5", "9" * 30, "x")),
        '<box frame="1" keyframe="1" xtl="1" ytl="2"/>',
        '<points frame="1" keyframe="1" points="1,1"/>',
        '<skeleton frame="1" keyframe="1"><points label="1" points="1,1"/></skeleton>',
        '<box frame="2" keyframe="1" outside="1"/>',
        '<polyline frame="3" keyframe="1" outside="1" points="1,1"/>',
    ]
    tracks = track(*shapes) + track(box(5), label="") + track(box(6), label="y") + "<track/>"
    result = frames(collected, range(10)).text("a.xml", xml(tracks)).run(format="cvat_video")
    assert [(path, x1) for path, _, x1, *_ in result.boxes()] == [(FRAME.format(frame), 1) for frame in (0, 1)]
    first = 8  # the line of the first shape
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        *(("malformed_box", first + number) for number in range(1, 7)),
        *(("point", first + 7), ("keypoints", first + 8), ("no_class", first + 13), ("unknown_class", first + 16)),
    ]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_numbers_that_are_none(collected: Collected, number: str) -> None:
    shapes = box(0) + box(4).replace('xtl="1"', f'xtl="{number}" rotation="{number}"') + outside(6)
    result = frames(collected, range(10)).text("a.xml", xml(track(shapes))).run(format="cvat_video")
    assert [row[0] for row in result.boxes()] == [FRAME.format(0)]
    assert result.reasons()["box dropped: not_finite"] == 5


def test_a_task_without_end_takes_no_time_and_no_memory(collected: Collected) -> None:
    more = "<stop_frame>999999999</stop_frame><frame_filter>step=1</frame_filter>"
    tracks = track(box(0, 10), box(999_999_998, 10)) * 3
    result = frames(collected, range(3)).text("a.xml", xml(tracks, size=999_999_999, more=more)).run(format="cvat_video")
    assert len(result.boxes()) == 3
    assert result.reasons()["box dropped: duplicate_box"] == 6


def test_more_filled_boxes_than_any_video_has_are_refused(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat_video, "MAX_FILLED", 10)
    frames(collected, range(10)).text("a.xml", xml(track(box(0)) * 2))
    with pytest.raises(DataError) as error:
        collected.run(format="cvat_video")
    assert error.value.problems == ("a.xml: more than 10 boxes between keyframes",)


def test_images_in_the_same_tree_are_accounted_for(collected: Collected) -> None:
    frames(collected, range(2)).text("tracks.xml", xml(track(box(0), outside(1)), size=2))
    collected.text("images.xml", '<annotations><image id="0" name="a.jpg"/></annotations>')
    assert collected.run(format="cvat_video").reasons() == {"file dropped: other_task": 1}


def test_written_files(tmp_path: Path, collected: Collected) -> None:
    rows = [
        {"path": f"{name}.jpg", "width": 100, "height": 50, "split": split}
        for name, split in zip("abcd", ("train", "val") * 2, strict=True)
    ]
    for row in rows:
        collected.image(str(row["path"]))
    boxes = [(0, 1, 1, 2, 3, 4), (0, 0, 0.5, 2, 3, 4.125), (2, 1, 5, 6, 7, 8)]
    dataset = Dataset.from_rows(["dog", "cat & co"], rows, boxes)
    back = Collected(tmp_path / "back")
    cvat_video.write(dataset, collected.files, back.files)
    paths = ["train/frame_000000.jpg", "val/frame_000000.jpg", "train/frame_000001.jpg", "val/frame_000001.jpg"]
    assert cvat_video.image_paths(dataset) == paths
    result = back.run()
    assert result.boxes() == [(f"images/{paths[row[0]]}", dataset.class_names[int(row[1])], *row[2:]) for row in boxes]
    assert result.dataset.class_names == dataset.class_names
    assert result.splits() == {f"images/{path}": path.partition("/")[0] for path in paths}
    assert result.entries == []
    assert set(result.dataset.images["group_id"]) == {"train.xml", "val.xml"}
    text = (back.files / "train.xml").read_text(encoding="utf-8")
    assert text.count('outside="1"') == 2, "the last frame needs no end"
    assert '<track id="2" label="cat &amp; co"' in text
    assert "<width>100</width>" in text, "Datumaro cannot do without"
