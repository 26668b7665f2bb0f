"""What is peculiar to TensorFlow Object Detection CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import tf_csv
from tests.labelling import Collected

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "formats" / "tf_csv" / "detecto"
HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_tf_csv_of_detecto(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    assert result.summary["format"] == "tf_csv"
    assert result.boxes() == [
        ("a b.jpg", "cat", 1, 2, 30, 25),
        ("a b.jpg", "dog, big", 0, 0, 60, 40),
        ("c.jpg", "cat", 5, 6, 50, 30),
    ]
    assert list(result.splits().values()) == ["train", "train", ""]
    assert result.reasons() == {"image kept: no_label_file": 1}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,100,50,cat,1,2,30,40"),
        ("xmax,ymax,xmin,ymin,class,height,width,filename", "30,40,1,2,cat,50,100,a.jpg"),
        ("FileName,WIDTH,Height,Class,XMin,yMin,XMAX,ymax", "a.jpg,100,50,cat,1,2,30,40"),
        ("image_id,width,height,class,xmin,ymin,xmax,ymax", "a,100,50,cat,1,2,30,40"),
        (",filename,width,height,class,xmin,ymin,xmax,ymax,score", "0,a.jpg,100,50,cat,1,2,30,40,0.9"),
        ('"filename","width","height","class","xmin","ymin","xmax","ymax"', '"a.jpg",100,50,"cat",1,2,30,40'),
        ("filename;width;height;class;xmin;ymin;xmax;ymax", "a.jpg;100;50;cat;1,0;2,0;30,0;40"),
        ("filename\twidth\theight\tclass\txmin\tymin\txmax\tymax", "a.jpg\t100.0\t50\t cat \t1\t2e0\t3.0e1\t40"),
        ("filename , width , height , class , xmin , ymin , xmax , ymax", r"C:\data\img\a.jpg,100,50,cat, 1, 2, 30, 40"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tf_csv_of_every_kind(collected: Collected, header: str, row: str, end: str) -> None:
    collected.image("img/a.jpg").text("boxes.csv", f"\ufeff{header}{end}{end}{row}{end}{end}")
    assert collected.run().boxes() == [("img/a.jpg", "cat", 1, 2, 30, 40)]


@pytest.mark.parametrize("folder", ["valid/_annotations.csv", "val_labels.csv", "data/validation.csv"])
def test_tf_csv_splits(collected: Collected, folder: str) -> None:
    collected.image("valid/a.jpg" if "/_" in folder else "images/a.jpg").text(folder, f"{HEADER}a.jpg,100,50,cat,1,2,30,40\n")
    assert list(collected.run().splits().values()) == ["val"]


def test_tf_csv_odd_rows(collected: Collected) -> None:
    rows = [
        "a.jpg,100,50,cat,1,2,30,40",
        "a.jpg,100,50,,1,2,30,40",
        "a.jpg,100,50,cat,one,2,30,40",
        "a.jpg,100,50,cat,,,,",
        "a.jpg,100,50,cat,1,2,30",
        "a,b.jpg,100,50,cat,1,2,30,40",
        ",100,50,cat,1,2,30,40",
        'a.jpg,100,50,cat,"1,024",2,30,40',
        "b.jpg,100,50,,,,,",
        "b.jpg,100,50,nan,NaN,nan,nan,nan",
        "a.jpg,100,50,cat,1e999,2,30,40",
        "a.jpg,200,100,cat,2,4,60,82",
    ]
    collected.image("a.jpg").image("b.jpg").text("labels.csv", HEADER + "\n".join(rows))
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 1, 2, 30, 40), ("a.jpg", "cat", 1, 2, 30, 41)]
    assert [(entry.reason, entry.line) for entry in result.entries if entry.item == "box"] == [
        ("no_class", 3),
        ("malformed_box", 4),
        ("no_box", 5),
        ("malformed_box", 6),
        ("malformed_box", 7),
        ("no_file_name", 8),
        ("malformed_box", 9),
        ("not_finite", 12),
    ]
    # The second size is told apart, and its box scaled.
    assert [entry.reason for entry in result.entries if entry.item == "image"] == ["merged_records", "resized"]
    assert (result.summary["images"], result.summary["background"]) == (2, 1)


def test_tf_csv_every_unreadable_file_is_named(collected: Collected) -> None:
    row = "a.jpg,100,50,cat,1,2,30,40\n"
    collected.image("a.jpg").text("good.csv", HEADER + row).data("latin.csv", (HEADER + row).encode() + b"\xe4.jpg\n")
    collected.text("quote.csv", HEADER + '"a.jpg,100,50,cat,1,2,30,40\n' + row * 3)
    collected.text("long.csv", HEADER + row + '"' + row * 10_000)
    collected.text("fractions.csv", f"{HEADER}a.jpg,100,50,cat,0.1,0.2,0.5,1\n")
    collected.text("notes.csv", "name,age\nTom,3\n")
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(";")[0] for problem in error.value.problems] == [
        "fractions.csv: no number is above 1: these are fractions",
        "latin.csv:3: the text is not UTF-8",
        "long.csv:3: a quoted cell runs over several lines: a quote is missing",
        "quote.csv:2: a quoted cell runs over several lines: a quote is missing",
    ]
    for name in ("fractions", "latin", "long", "quote"):
        (collected.files / f"{name}.csv").unlink()
    assert collected.run().reasons() == {"file kept: other_table": 1}


def test_tf_csv_is_written_without_images_that_have_no_boxes(tmp_path: Path) -> None:
    images = [
        {"path": "x/a.jpg", "width": 9, "height": 8, "split": "train"},
        {"path": "b.jpg", "width": 9, "height": 8, "split": "val"},
    ]
    tf_csv.write(Dataset.from_rows(['"a", b'], images, [(0, 0, 1, 2, 3.5, 4)]), None, tmp_path)
    assert (tmp_path / "images/train_labels.csv").read_bytes() == f'{HEADER}x/a.jpg,9,8,"""a"", b",1,2,3.5,4\n'.encode()
    assert (tmp_path / "images/val_labels.csv").read_bytes() == HEADER.encode()
