"""The stage, whatever the format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import ArtifactError, DataError, ParamsError
from pipeline.labelling.importing import read_origins
from pipeline.stage import Context
from pipeline.stages import annotate
from tests.labelling import Collected

ROW = "0 0.5 0.5 0.2 0.4\n"  # on 100x50: 40, 15, 60, 35
EDGES = (40, 15, 60, 35)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_planning_does_not_load_heavy_libraries() -> None:
    code = "import sys, pipeline.stages.annotate as a; a.preflight(a.Params(format='yolo'), a.Context()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "cv2", "PIL"} & set(loaded)


def test_preflight_refuses_what_cannot_work() -> None:
    with pytest.raises(ValueError, match=r"(?s)no label format 'yollo'.*Did you mean 'yolo'\?"):
        annotate.Params(format="yollo")
    with pytest.raises(ParamsError, match=r"(?s)annotate\.options\.name: .*Its options: names"):
        annotate.preflight(annotate.Params(format="yolo", options={"name": ["a"]}), Context())
    annotate.preflight(annotate.Params(format="voc", options={"one_based": True}), Context())


def test_groups_and_hashes_come_from_collect(collected: Collected) -> None:
    collected.groups = {"a.jpg": "video 1"}
    collected.image("a.jpg").image("b.jpg").text("a.txt", ROW).text("b.txt", ROW)
    images = collected.run().dataset.images
    assert images["group_id"].tolist() == ["video 1", "b.jpg"]
    assert images["source_id"].tolist() == ["a.jpg", "b.jpg"]
    assert images["hash"].str.len().tolist() == [64, 64]


def test_what_is_missing_is_told_of_the_folder_that_the_user_knows(collected: Collected) -> None:
    folder = collected.image("a.jpg").close()
    (folder / "source.json").write_text(json.dumps({"description": "the folder 'photos'"}), encoding="utf-8")
    with pytest.raises(DataError, match=r"^There are no labels in a known format beside the 1 image in the folder 'photos'\.\n"):
        annotate.run({"collect": folder}, annotate.Params(), folder / "out", Context())


@pytest.mark.parametrize("lines", [slice(0, 1), slice(0, 0)])
def test_an_image_that_collect_does_not_know_is_named(collected: Collected, lines: slice) -> None:
    folder = collected.image("a.jpg").image("b.jpg").text("a.txt", ROW).text("b.txt", ROW).close()
    origins = folder / "origins.jsonl"
    rows = origins.read_text(encoding="utf-8").splitlines(keepends=True)
    origins.write_text("".join(rows[lines]), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"[ab]\.jpg is not in origins\.jsonl"):
        annotate.run({"collect": folder}, annotate.Params(), folder / "out", Context())


def test_origins_may_hold_any_text(tmp_path: Path) -> None:
    row = {"path": "a\u2028.jpg", "origin": "x\x85y", "hash": "0"}
    (tmp_path / "origins.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_origins(tmp_path / "origins.jsonl") == {"a\u2028.jpg": row}


def test_equal_input_gives_equal_bytes(collected: Collected, tmp_path: Path) -> None:
    collected.image("a.jpg").image("b.jpg").text("a.txt", ROW)
    first = {path.name: path.read_bytes() for path in collected.run().folder.iterdir() if path.is_file()}
    assert set(first) == {"images.parquet", "boxes.parquet", "classes.json", "ledger.jsonl", "CARD.md", "origin.json"}
    assert first == {path.name: path.read_bytes() for path in collected.run().folder.iterdir() if path.is_file()}


def test_classes_by_the_users_wish(collected: Collected) -> None:
    collected.image("a.jpg").text("classes.txt", "Car\nBus\nTram\n")
    collected.text("a.txt", "0 .5 .5 .2 .4\n1 .5 .5 .4 .4\n2 .5 .5 .6 .4\n1 .5 .5 .2 .4\n")
    result = collected.run(classes={"merge": {"vehicle": ["Car", "Bus"]}, "drop": ["Tram"]}, on_invalid="drop")
    assert result.dataset.class_names == ("vehicle",)
    assert result.reasons() == {"box dropped: class_dropped": 1, "box dropped: duplicate_box": 1}
    with pytest.raises(ParamsError, match="Did you mean 'Tram'"):
        collected.run(classes={"drop": ["Tran"]})


def test_at_most_twenty_defects_are_shown(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", "".join(f"0 .5 .5 0 .{number}\n" for number in range(1, 31)))
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="error")
    assert len(error.value.problems) == 30
    assert str(error.value).count("a.txt:") == 20
    assert "and 10 more" in str(error.value)
    with pytest.raises(DataError, match=r"(?s)Not one box could be used.*30 boxes: zero_area"):
        collected.run()


def test_one_image_with_two_sources_of_labels(collected: Collected) -> None:
    collected.image("images/a.jpg")
    image = {"id": 1, "file_name": "a.jpg"}
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    collected.coco("people.json", [image], [box], [{"id": 1, "name": "person"}])
    collected.coco("cars.json", [image], [box], [{"id": 1, "name": "car"}])
    result = collected.run()
    assert [box[1] for box in result.boxes()] == ["car", "person"]
    assert result.reasons() == {"image converted: merged_records": 1}


def test_a_label_that_surely_belongs_wins_over_one_of_the_same_name(collected: Collected) -> None:
    collected.image("set/images/1.jpg").text("set/labels/1.txt", ROW).text("old/1.txt", "0 .5 .5 .9 .9\n")
    collected.text("classes.txt", "cat\n")
    result = collected.run()
    assert result.boxes() == [("set/images/1.jpg", "cat", *EDGES)]
    assert result.reasons() == {"box dropped: claimed_by_other": 1, "image dropped: claimed_by_other": 1}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the file system does not take such names")
@pytest.mark.parametrize("name", [b"a\\b.jpg", b"gr\xfcn.jpg", b"a\nb.jpg"])
def test_names_that_do_not_exist_everywhere(collected: Collected, name: bytes) -> None:
    collected.image("a.jpg").text("a.txt", ROW).close()
    (collected.files / "a.jpg").rename(collected.files / os.fsdecode(name))
    with pytest.raises(DataError, match="File names that do not exist on every system"):
        annotate.run({"collect": collected.root}, annotate.Params(), collected.root / "out", Context())


def test_a_declared_size_tells_the_frame(collected: Collected) -> None:
    # Stored 100x50, orientation 6: shown turned clockwise, 50x100. A box at the stored top-left is shown at the top-right.
    for name, size in (("stored", (100, 50)), ("upright", (50, 100))):
        collected.image(f"{name}.jpg", orientation=6).voc(f"{name}.xml", f"{name}.jpg", [("x", 0, 0, 10, 20)], size)
    result = collected.run()
    assert result.dataset.images[["width", "height"]].to_numpy().tolist() == [[50, 100], [50, 100]]
    assert result.boxes() == [("stored.jpg", "x", 30, 0, 50, 10), ("upright.jpg", "x", 0, 0, 10, 20)]
    assert result.reasons() == {"image converted: stored_frame": 1}
    assert [box[2:] for box in collected.run(frame="upright").boxes()] == [(0, 0, 10, 20)] * 2
    assert [box[2:] for box in collected.run(frame="stored").boxes()] == [(30, 0, 50, 10)] * 2


@pytest.mark.parametrize(
    ("orientation", "edges"),
    [
        (1, (10, 5, 30, 25)),
        (2, (70, 5, 90, 25)),
        (3, (70, 25, 90, 45)),
        (4, (10, 25, 30, 45)),
        (5, (5, 10, 25, 30)),
        (6, (25, 10, 45, 30)),
        (7, (25, 70, 45, 90)),
        (8, (5, 70, 25, 90)),
    ],
)
def test_stored_boxes_of_every_orientation(collected: Collected, orientation: int, edges: tuple[float, ...]) -> None:
    collected.image("a.jpg", orientation=orientation).text("a.txt", "0 0.2 0.3 0.2 0.4\n")  # 10, 5, 30, 25
    assert collected.run(frame="stored").boxes()[0][2:] == edges


def test_what_a_size_cannot_tell_follows_the_other_photos(collected: Collected) -> None:
    collected.image("a.jpg", orientation=6).voc("a.xml", "a.jpg", [("x", 0, 0, 10, 20)], (100, 50))
    collected.image("b.jpg", orientation=3).voc("b.xml", "b.jpg", [("x", 0, 0, 10, 20)], (100, 50))
    result = collected.run()
    assert result.boxes()[1] == ("b.jpg", "x", 90, 30, 100, 50)
    assert result.warnings == []


def test_labels_of_a_smaller_copy_are_scaled(collected: Collected) -> None:
    collected.image("a.jpg", 200, 100).voc("a.xml", "a.jpg", [("x", 10, 10, 20, 20)], (100, 50))
    result = collected.run(on_invalid="error")
    assert result.boxes() == [("a.jpg", "x", 20, 20, 40, 40)]
    assert result.reasons() == {"image converted: resized": 1}


def test_a_declared_size_that_contradicts_the_image(collected: Collected) -> None:
    collected.image("a.jpg").voc("a.xml", "a.jpg", [("x", 1, 1, 9, 9)], (640, 480))
    collected.image("b.jpg").voc("b.xml", "b.jpg", [("x", 1, 1, 9, 9)], (50, 100))
    collected.image("c.jpg").voc("c.xml", "c.jpg", [("x", 1, 1, 9, 9)], (0, 0))
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["b.jpg", "c.jpg"]
    assert result.reasons() == {
        "box dropped: size_mismatch": 1,
        "image dropped: size_mismatch": 1,
        "image fixed: size_swapped": 1,
    }
    assert "declared 640x480, the image is 100x50" in result.entries[0].detail
    assert [box[0] for box in collected.run(on_invalid="drop").boxes()] == ["c.jpg"]
    with pytest.raises(DataError, match="size_swapped"):
        collected.run(on_invalid="error")


def shot(collected: Collected, path: str, taken: str, part: str = "", model: str = "D7000", serial: str = "") -> None:
    """A labelled photo with a camera and a time."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "NIKON", model
    details = exif.get_ifd(0x8769)
    details[0x9003], details[0x9291], details[0xA431] = taken, part, serial
    target = collected.files / path
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(target, exif=exif)
    collected.text(path.replace(".jpg", ".txt"), "0 0.5 0.5 0.1 0.1\n")


def groups(collected: Collected, **params: Any) -> dict[str, str]:
    images = collected.run(**params).dataset.images
    return dict(zip(images["path"], images["group_id"], strict=True))


def test_photos_of_a_burst_are_one_group(collected: Collected) -> None:
    shot(collected, "b.jpg", "2024:05:01 10:00:00", "90")
    shot(collected, "far/a.jpg", "2024:05:01 10:00:02", "80")  # 1.9 s after b, in another folder
    shot(collected, "c.jpg", "2024:05:01 10:00:04")  # a chain: 1.2 s after a
    shot(collected, "later.jpg", "2024:05:01 10:00:07")
    shot(collected, "other.jpg", "2024:05:01 10:00:01", model="D850")
    shot(collected, "twin.jpg", "2024:05:01 10:00:01", serial="77")
    shot(collected, "unset.jpg", "0000:00:00 00:00:00")
    shot(collected, "odd.jpg", "yesterday")
    found = groups(collected)
    assert found["b.jpg"] == found["far/a.jpg"] == found["c.jpg"] == "b.jpg"
    alone = ["later.jpg", "other.jpg", "twin.jpg", "unset.jpg", "odd.jpg"]
    assert {path: found[path] for path in alone} == {path: path for path in alone}
    assert groups(collected, burst_seconds=0) == {path: path for path in found}
    assert groups(collected, burst_seconds=3)["later.jpg"] == "b.jpg"


def test_what_the_source_knows_goes_before_the_clock(collected: Collected) -> None:
    shot(collected, "a.jpg", "2024:05:01 10:00:00")
    shot(collected, "b.jpg", "2024:05:01 10:00:01")
    collected.groups["b.jpg"] = "scene 7"
    assert groups(collected) == {"a.jpg": "a.jpg", "b.jpg": "scene 7"}


def test_a_missing_image_is_not_the_one_of_the_same_name_in_another_folder(collected: Collected) -> None:
    for name in ("1", "2"):
        collected.image(f"cam2/{name}.jpg")
    images = [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(["cam1/1.jpg", "cam2/2.jpg"])]
    boxes = [{"id": n, "image_id": n, "category_id": 0, "bbox": [1, 2, 3, 4]} for n in range(2)]
    collected.coco("c.json", images, boxes, [{"id": 0, "name": "cat"}])
    result = collected.run()
    assert [path for path, *_ in result.boxes()] == ["cam2/2.jpg"]
    assert result.reasons()["image dropped: image_missing"] == 1
    collected.coco("c.json", images[:1], boxes[:1], [{"id": 0, "name": "cat"}])
    result = collected.run()
    assert [entry.detail for entry in result.entries if entry.reason == "matched_by_name"] == ["the label says cam1/1.jpg"]


def test_control_characters_in_class_names(collected: Collected) -> None:
    image = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}]
    boxes = [{"id": n, "image_id": 1, "category_id": n, "bbox": [n, 2, 30, 40]} for n in range(3)]
    names = ["c\x1b[2Jat", "two\nlines", "two lines"]
    collected.image("a.jpg").coco("c.json", image, boxes, [{"id": n, "name": name} for n, name in enumerate(names)])
    result = collected.run()
    assert result.dataset.class_names == ("c [2Jat", "two lines")
    assert [box[1] for box in result.boxes()] == ["c [2Jat", "two lines", "two lines"]
    assert result.reasons() == {"file converted: class_name_cleaned": 2}


def test_an_undecided_frame_is_told_of_smaller_copies_too(collected: Collected) -> None:
    collected.image("a.jpg", 100, 50, orientation=3).voc("a.xml", "a.jpg", [("cat", 1, 2, 10, 12)], size=(50, 25))
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 2, 4, 20, 24)]
    assert result.reasons() == {"image kept: frame_undecided": 1}


def test_unreadable_files_and_bad_boxes_are_told_at_once(collected: Collected) -> None:
    collected.image("a.jpg").voc("a.xml", "a.jpg", [("cat", 1, 2, "nan", 12)]).image("b.jpg").text(
        "b.xml", "<annotation><object>"
    )
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="error")
    assert [problem.split(":")[0] for problem in error.value.problems] == ["b.xml", "a.xml"]


def test_label_files_that_cannot_be_parsed_are_named_with_their_lines(collected: Collected) -> None:
    collected.image("a.jpg").text("labels.json", '{"images": [\n}').text("old/a.xml", "<boxes>\n<object>\n").text(
        "notes.txt", "x"
    )
    with pytest.raises(DataError, match="There are no labels that can be read beside the 1 image") as error:
        collected.run()
    assert [problem.partition(": malformed")[0] for problem in error.value.problems] == ["labels.json:2", "old/a.xml:3"]
