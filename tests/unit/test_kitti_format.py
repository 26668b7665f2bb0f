"""What is peculiar to KITTI label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import kitti
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats" / "kitti"
CAR = "Car 0.00 0 -1.58 10.5 11.25 50 40 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
EDGES = (10.5, 11.25, 50, 40)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_kitti_of_datumaro(collected: Collected) -> None:
    """16 columns, a folder a split, DontCare, and no file for an image without boxes."""
    result = collected.copy(GOLDEN / "datumaro").run()
    assert result.summary["format"] == "kitti"
    assert result.boxes() == [
        ("train/image_2/000000.png", "Car", 1.5, 2.25, 31.5, 22.25),
        ("train/image_2/000000.png", "Pedestrian", 10, 5, 22.5, 38),
        ("val/image_2/a b.png", "Car", 0, 0, 50, 30),
    ]
    assert list(result.splits().values()) == ["train", "val", "val"]
    assert result.reasons() == {"box dropped: ignored_region": 1, "image kept: no_label_file": 1}


def test_kitti_of_labelformat(collected: Collected) -> None:
    """15 columns, NVIDIA TAO's folders, a class of two words, and an empty file."""
    result = collected.copy(GOLDEN / "labelformat").run()
    assert result.boxes() == [
        ("images/000000.png", "car", 1.5, 2.25, 31.5, 22.25),
        ("images/000000.png", "traffic light", 10, 5, 22.5, 38),
        ("images/a b.png", "car", 0, 0, 50, 30),
    ]
    assert (result.summary["background"], result.entries) == (1, [])


def test_kitti_as_it_is_downloaded(collected: Collected) -> None:
    """Both cameras, equal names in training and testing, calibration beside the labels, lists of splits."""
    for half, camera, name in [("training", 2, 0), ("training", 3, 0), ("training", 2, 1), ("testing", 2, 0), ("testing", 2, 1)]:
        collected.image(f"kitti/{half}/image_{camera}/00000{name}.png")
    collected.text("kitti/training/label_2/000000.txt", CAR + "\r\n" + CAR.replace("Car", "DONTCARE"))
    collected.text("kitti/training/label_2/000001.txt", CAR.replace("Car", "Van"))
    collected.text("kitti/training/calib/000000.txt", "P0: " + "7.2e+02 " * 12 + "\nR0_rect: " + "1 " * 9)
    collected.text("kitti/ImageSets/train.txt", "000000\n").text("kitti/ImageSets/val.txt", "000001\n")
    collected.text("kitti/ImageSets/test.txt", "000000\n000001").text("kitti/ImageSets/trainval.txt", "000000\n000001\n")
    result = collected.run(on_invalid="error")
    assert result.boxes() == [
        ("kitti/training/image_2/000000.png", "Car", *EDGES),
        ("kitti/training/image_2/000001.png", "Van", *EDGES),
    ]
    assert result.splits() == {
        "kitti/testing/image_2/000000.png": "test",
        "kitti/testing/image_2/000001.png": "test",
        "kitti/training/image_2/000000.png": "train",
        "kitti/training/image_2/000001.png": "val",
        "kitti/training/image_3/000000.png": "train",  # its folder
    }
    assert result.reasons() == {"box dropped: ignored_region": 1, "image kept: no_label_file": 3}


def test_kitti_a_missing_image_is_not_taken_from_another_half(collected: Collected) -> None:
    for path in ("training/image_2/000000", "training/image_3/000001", "testing/image_2/000001"):
        collected.image(f"{path}.png")
    collected.text("training/label_2/000000.txt", CAR).text("training/label_2/000001.txt", CAR)
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["training/image_2/000000.png"]
    missing = [entry.where() for entry in result.entries if entry.reason == "image_missing"]
    assert missing == ["training/label_2/000001.txt", "training/label_2/000001.txt:1"]


def test_kitti_odd_rows(collected: Collected) -> None:
    rows = [
        CAR,
        CAR.replace("Car", "traffic light") + " 0.9",
        CAR.replace(" -1.59", ""),
        CAR.replace("10.5", "ten"),
        CAR.replace("10.5", "nan"),
        CAR.replace("10.5", "1e999"),
        "",
        "0 0.5 0.5 0.2 0.4",
    ]
    collected.image("images/a.png").text("labels/a.txt", "\ufeff" + "\n".join(rows))
    result = collected.run(format="kitti")  # the last row could be YOLO's
    assert result.boxes() == [("images/a.png", "Car", *EDGES), ("images/a.png", "traffic light", *EDGES)]
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("malformed_box", 3),
        ("malformed_box", 4),
        ("malformed_box", 8),
        ("not_finite", 5),
        ("not_finite", 6),
    ]


def test_kitti_texts_that_are_no_labels(collected: Collected) -> None:
    collected.image("images/a.png").image("images/b.png").text("labels/a.txt", CAR).data("labels/b.txt", b"Car \xff\n")
    collected.text("labels/classes.txt", "Car\n").data("notes.txt", "für".encode("latin-1")).text("readme.txt", "")
    with pytest.raises(DataError, match="cannot be read") as error:
        collected.run()
    assert error.value.problems == ("labels/b.txt:1: the text is not UTF-8",)
    result = collected.run(on_invalid="drop")
    assert result.boxes() == [("images/a.png", "Car", *EDGES)]
    assert result.reasons() == {"file kept: other_text": 1, "image dropped: malformed_label_file": 1}


@pytest.mark.parametrize(
    "row",
    [
        "0 2 " + CAR,  # KITTI's tracking labels
        "P0: " + "1 " * 12,
        "184 12 283 12 283 99 184 99 small-vehicle 0",  # DOTA
        "the image shows a cat that sits on a mat and looks at you",
    ],
)
def test_kitti_is_not_seen_in_the_texts_of_others(collected: Collected, row: str) -> None:
    with pytest.raises(DataError, match="known format"):
        collected.image("images/a.png").text("labels/a.txt", row).run()


def test_kitti_is_not_seen_in_a_yolo_polygon_of_as_many_numbers(collected: Collected) -> None:
    row = "0 " + " ".join(f"0.{number}" for number in range(1, 8) for _ in "xy")
    assert len(row.split()) == 15
    assert collected.image("images/a.png").text("labels/a.txt", row).run().summary["format"] == "yolo"


@pytest.mark.parametrize(("name", "instead"), [("traffic light", "traffic_light"), ("DontCare", "DontCare_")])
def test_kitti_refuses_to_write_a_class_that_it_cannot_hold(tmp_path: Path, name: str, instead: str) -> None:
    images = [{"path": "a.jpg", "width": 9, "height": 9}]
    with pytest.raises(DataError, match=name) as error:
        kitti.write(Dataset.from_rows([name], images, [(0, 0, 1, 2, 3, 4)]), None, tmp_path)
    assert error.value.hint == f"annotate.classes.rename: {{'{name}': '{instead}'}}"
    kitti.write(Dataset.from_rows([name, "cat"], images, [(0, 1, 1, 2, 3, 4)]), None, tmp_path)
    assert (tmp_path / "label_2/a.txt").read_text() == "cat -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n"


def test_kitti_keeps_names_with_spaces_around_them(collected: Collected, tmp_path: Path) -> None:
    paths, splits = (" lead.jpg", "lead.jpg", "trail .jpg"), ("train", "val", "test")
    rows = [{"path": path, "width": 100, "height": 50, "split": split} for path, split in zip(paths, splits, strict=True)]
    for path in paths:
        collected.image(f"../source/{path}")
    dataset = Dataset.from_rows(["x"], rows, [(number, 0, 10 + number, 10, 50, 40) for number in range(3)])
    kitti.write(dataset, tmp_path / "source", collected.files)
    result = collected.run(format="kitti")
    assert [(box[0].rpartition("/")[2], box[2]) for box in result.boxes()] == [(path, 10 + n) for n, path in enumerate(paths)]
    assert tuple(result.splits().values()) == splits
    assert result.entries == []


@pytest.mark.parametrize("paths", [("a.jpg", "a.jpg.jpg"), ("b.png.jpg", "b.png"), ("x/A.jpg.png", "y/a.jpg")])
def test_kitti_refuses_names_that_it_could_not_tell_apart(tmp_path: Path, paths: tuple[str, str]) -> None:
    rows = [{"path": path, "width": 10, "height": 10} for path in paths]
    with pytest.raises(DataError) as error:
        kitti.write(Dataset.from_rows(["x"], rows, []), None, tmp_path / "out")
    assert all(path in error.value.message for path in paths)
    assert not (tmp_path / "out").exists()


def test_kitti_list_of_a_split_that_is_not_utf8(collected: Collected) -> None:
    collected.image("image_2/ä.jpg").text("label_2/ä.txt", f"{CAR}\n")
    collected.data("ImageSets/train.txt", "b\nä\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        collected.run()
    assert list(error.value.problems) == ["ImageSets/train.txt:2: the text is not UTF-8"]


@pytest.mark.parametrize("name", ["3", "1e3", "nan"])
@pytest.mark.parametrize("left", [0.0, 10.5])
def test_kitti_types_that_are_numbers(collected: Collected, name: str, left: float) -> None:
    """What the development kit writes for a known angle, and what `write` writes: neither is taken for YOLO."""
    row = f"{name} 0.00 0 0.5 {left} 0 50 40 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
    collected.image("image_2/a.jpg").text("label_2/a.txt", row)
    result = collected.run()
    assert (result.summary["format"], result.boxes()) == ("kitti", [("image_2/a.jpg", name, left, 0, 50, 40)])
    (collected.files / "label_2/a.txt").unlink()
    rows = [{"path": "a.jpg", "width": 100, "height": 50}]
    kitti.write(Dataset.from_rows([name], rows, [(0, 0, left, 0, 50, 40)]), None, collected.files)
    assert collected.run().boxes() == [("image_2/a.jpg", name, left, 0, 50, 40)]


@pytest.mark.parametrize("corners", [4, 7])
def test_kitti_leaves_yolo_its_rows(collected: Collected, corners: int) -> None:
    """A polygon of seven corners has as many columns as a row of KITTI."""
    polygon = " ".join(f"0.{number} 0.{9 - number}" for number in range(1, corners + 1))
    collected.image("images/a.jpg").text("labels/a.txt", f"0 {polygon}\n1 0.5 0.5 0.2 0.4\n")
    assert collected.run().summary["format"] == "yolo"
