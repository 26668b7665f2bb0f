"""What is peculiar to Open Images label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import openimages
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats" / "openimages"
HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
ROW = "a,xclick,/m/01g317,1,0.1,0.5,0.2,0.8,0,0,0,0,0\n"
EDGES = (10, 10, 50, 40)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_openimages_of_datumaro(collected: Collected) -> None:
    """Classes in the order of their list, a group, image-level labels, a list with an image that has no box."""
    result = collected.copy(GOLDEN / "datumaro").run()
    assert result.summary["format"] == "openimages"
    assert result.dataset.class_names == ("Street light", "Car")
    assert result.boxes() == [
        ("images/train/000000.png", "Car", 1.5, 2.25, 31.5, 22.25),
        ("images/train/000000.png", "Street light", 10, 5, 22.5, 38),
        ("images/validation/a b.png", "Street light", 0, 0, 50, 30),
    ]
    assert list(result.splits().values()) == ["train", "val", "val"]
    assert result.reasons() == {"box dropped: crowd": 1, "file kept: other_task": 1, "image kept: no_label_file": 1}
    kept = collected.run(options={"group_of": "keep"}, format="openimages")
    assert ("images/train/000000.png", "Car", 40, 0, 60, 10) in kept.boxes()


def test_openimages_of_globox(collected: Collected) -> None:
    """ImageIDs with a suffix, no flags, no list of classes."""
    result = collected.copy(GOLDEN / "globox").run()
    assert result.boxes() == [
        ("images/000000.png", "car", 1.5, 2.25, 31.5, 22.25),
        ("images/000000.png", "traffic light", 10, 5, 22.5, 38),
        ("images/a b.png", "car", 0, 0, 50, 30),
    ]


@pytest.mark.parametrize(
    ("path", "classes"),
    [
        ("class-descriptions-boxable.csv", '/m/0k4j,Car\n/m/01g317,"Person, standing"\n'),
        ("oidv6-class-descriptions.csv", 'LabelName,DisplayName\n/m/0k4j,Car\n/m/01g317,"Person, standing"\n'),
        ("names.csv", '/m/0k4j,Car\n/m/01g317,"Person, standing"\n'),
        ("", ""),
    ],
)
def test_openimages_class_names(collected: Collected, path: str, classes: str) -> None:
    collected.image("train/a.jpg").text("train-annotations-bbox.csv", HEADER + ROW)
    if path:
        collected.text(path, classes)
    result = collected.run()
    assert result.boxes() == [("train/a.jpg", "Person, standing" if path else "/m/01g317", *EDGES)]
    assert len(result.dataset.class_names) == 1, "of hundreds only those that occur"
    assert result.entries == []


def test_openimages_the_shorter_list_of_classes_wins(collected: Collected) -> None:
    collected.image("a.jpg").text("boxes.csv", HEADER + ROW + ROW.replace("01g317", "0k4j"))
    collected.text("class-descriptions.csv", "/m/0k4j,Automobile\n/m/01g317,Human\n")
    collected.text("class-descriptions-boxable.csv", "/m/01g317,Person\n")
    assert [box[1] for box in collected.run().boxes()] == ["Person", "Automobile"]


@pytest.mark.parametrize("name", ["oidv6-train-annotations-bbox.csv", "train-annotations-bbox.csv"])
def test_openimages_splits_of_files_and_lists(collected: Collected, name: str) -> None:
    for path in ("train/a.jpg", "validation/a.jpg", "validation/b.jpg"):
        collected.image(f"images/{path}")
    collected.text(name, HEADER + ROW).text(name.replace("train", "validation"), HEADER + ROW)
    collected.text(
        "test-images-with-rotation.csv",
        'ImageID,Subset,Author,Title,Rotation\n,test,,,\nb,test,me,"two\nlines",90.0\nnot-here,test,,,0\n',
    )
    result = collected.run()
    assert result.splits() == {"images/train/a.jpg": "train", "images/validation/a.jpg": "val", "images/validation/b.jpg": "test"}
    assert [box[0] for box in result.boxes()] == ["images/train/a.jpg", "images/validation/a.jpg"], "one name in two folders"
    assert result.reasons() == {"image kept: no_label_file": 1}


def test_openimages_odd_rows(collected: Collected) -> None:
    rows = [
        ROW,
        ROW.replace("/m/01g317", "/m/unknown"),
        ROW.replace("/m/01g317", ""),
        ROW.replace("a,xclick", ",xclick"),
        ROW.replace("0.1", "left"),
        ROW.replace("0.1", "nan"),
        ROW.replace("0.1", "1e999"),
        "a,xclick,/m/01g317,1,0.1\n",
        "\n",
    ]
    collected.image("a.jpg").text("boxes.csv", HEADER + "".join(rows)).text("class-descriptions.csv", "/m/01g317,Person\n")
    result = collected.run()
    assert result.boxes() == [("a.jpg", "Person", *EDGES)]
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("unknown_class", 3),
        ("no_class", 4),
        ("no_file_name", 5),
        ("malformed_box", 6),
        ("malformed_box", 9),
        ("not_finite", 7),
        ("not_finite", 8),
    ]


def test_openimages_beside_a_part_of_the_images(collected: Collected) -> None:
    others = "".join(ROW.replace("a,", f"{number:016x},") for number in range(500))
    collected.image("a.jpg").text("train-annotations-bbox.csv", HEADER + others + ROW)
    assert collected.run().reasons() == {"box dropped: image_missing": 500, "image dropped: image_missing": 500}
    result = collected.run(options={"missing_images": "ignore"}, format="openimages", on_invalid="error")
    assert result.boxes() == [("a.jpg", "/m/01g317", *EDGES)]
    (entry,) = result.entries
    assert (entry.reason, entry.detail) == ("ignored_rows", "500 boxes of images that are not there")


@pytest.mark.parametrize(("old", "new", "encoding"), [("\n", "\r\n", "utf-8-sig"), (",", ";", "utf-16"), (",", "\t", "utf-8")])
def test_openimages_saved_anew_by_a_spreadsheet(collected: Collected, old: str, new: str, encoding: str) -> None:
    collected.image("a.jpg").data("boxes.csv", (HEADER.upper() + ROW).replace(old, new).encode(encoding))
    assert collected.run().boxes() == [("a.jpg", "/m/01g317", *EDGES)]


def test_openimages_every_unreadable_file_is_named(collected: Collected) -> None:
    collected.image("a.jpg").text("good.csv", HEADER + ROW).text("quote.csv", HEADER + '"' + ROW + ROW)
    collected.data("latin.csv", (HEADER + ROW).encode() + b"\xe4,\n")
    collected.text("class-descriptions.csv", "/m/01g317,Person\n/m/0k4j,Car,red\n")
    collected.text("masks.csv", "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n")
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(" (")[0] for problem in error.value.problems] == [
        "class-descriptions.csv:2: expected a code and a name, got 3 cells",
        "latin.csv:1: the text is not UTF-8",
        "quote.csv:2: a quoted cell runs over several lines: a quote is missing",
    ]


def test_openimages_tables_of_other_tasks(collected: Collected) -> None:
    collected.image("a.jpg").text("train-annotations-bbox.csv", HEADER + ROW).text("people.csv", "name,age\n")
    collected.text("train-annotations-human-imagelabels.csv", "ImageID,Source,LabelName,Confidence\na,verification,/m/0k4j,1\n")
    collected.text("train-annotations-vrd.csv", "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,RelationshipLabel\n")
    result = collected.run()
    assert len(result.boxes()) == 1
    assert result.reasons() == {"file kept: other_table": 1, "file kept: other_task": 2}


def test_openimages_keeps_names_with_spaces_around_them(collected: Collected, tmp_path: Path) -> None:
    paths, splits = (" lead.jpg", "lead.jpg", "trail .jpg"), ("train", "val", "test")
    rows = [{"path": path, "width": 100, "height": 50, "split": split} for path, split in zip(paths, splits, strict=True)]
    for path in paths:
        collected.image(f"../source/{path}")
    dataset = Dataset.from_rows(["x"], rows, [(number, 0, 10 + number, 10, 50, 40) for number in range(3)])
    openimages.write(dataset, tmp_path / "source", collected.files)
    result = collected.run(format="openimages")
    assert [(box[0].rpartition("/")[2], box[2]) for box in result.boxes()] == [(path, 10 + n) for n, path in enumerate(paths)]
    assert tuple(result.splits().values()) == splits
    assert result.entries == []


@pytest.mark.parametrize("paths", [("a.jpg", "a.jpg.jpg"), ("b.png.jpg", "b.png"), ("x/A.jpg.png", "y/a.jpg")])
def test_openimages_refuses_names_that_it_could_not_tell_apart(tmp_path: Path, paths: tuple[str, str]) -> None:
    rows = [{"path": path, "width": 10, "height": 10} for path in paths]
    with pytest.raises(DataError) as error:
        openimages.write(Dataset.from_rows(["x"], rows, []), None, tmp_path / "out")
    assert all(path in error.value.message for path in paths)
    assert not (tmp_path / "out").exists()
