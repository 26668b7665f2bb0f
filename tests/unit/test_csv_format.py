"""What is peculiar to tables whose columns are named by the user, or guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError, ParamsError
from pipeline.formats import csv
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_csv_of_excel(collected: Collected) -> None:
    collected.image("a.jpg").text("x.csv", "sep=;\r\nimage;class;x1;y1;x2;y2\r\na.jpg;cat;1,5;2;30;40\r\na.jpg;cat;x;2;30;40\r\n")
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 1.5, 2, 30, 40)]
    assert [entry.line for entry in result.entries] == [4]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,class,x1,y1,x2,y2", "a.jpg,cat,1,2,30,40"),
        ("Image_Path,X-Min,Y-Min,X-Max,Y-Max,Label", "a.jpg,1,2,30,40,cat"),
        ("FILENAME;LEFT;TOP;RIGHT;BOTTOM;CATEGORY", "a.jpg;1,0;2,00;30;40;cat"),
        ('"image"\t"xmin"\t"ymin"\t"xmax"\t"ymax"\t"label"', '"a.jpg"\t1\t2\t30\t40\t"cat"'),
        ("id,path,bbox_x1,bbox_y1,bbox_x2,bbox_y2,class name,score", r"7,\\nas\data\a.jpg,1,2,30,40,cat,0.5"),
        ("img,label,label_id,xmin,xmax,ymin,ymax,width,height", "a,cat,3,1,30,2,40,100,50"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_clear_names(collected: Collected, header: str, row: str, end: str) -> None:
    collected.image("a.jpg").text("boxes.csv", f"\ufeff{end}{header}{end}{row}{end}{end}")
    result = collected.run()
    assert result.boxes() == [("a.jpg", "cat", 1, 2, 30, 40)]
    assert result.summary["format"] == "csv"


@pytest.mark.parametrize(
    ("options", "header", "row"),
    [
        (
            {"columns": {"image": "Datei", "class": "Art", "x1": "l", "y1": "o", "x2": "r", "y2": "u"}},
            *("Datei;Art;l;o;r;u", "a.jpg;cat;1;2;30;40"),
        ),
        ({"columns": {"class": "species"}}, "file,species,label,x1,y1,x2,y2", "a.jpg,cat,7,1,2,30,40"),
        ({"columns": {"x2": 5, "y2": 6}}, "file,label,x1,y1,x1,y1", "a.jpg,cat,1,2,30,40"),
        ({"box": "xywh"}, "file,label,x,y,w,h", "a.jpg,cat,1,2,29,38"),
        ({"box": "xywh"}, "file,label,x,y,width,height", "a.jpg,cat,1,2,29,38"),
        ({"box": "xywh"}, "file,label,x,y,w,h,width,height", "a.jpg,cat,1,2,29,38,100,50"),
        ({"box": "xywh", "columns": {"bbox": "bbox"}}, "image_id,width,height,bbox,class", 'a,100,50,"[1.0, 2, 29, 38]",cat'),
        ({"columns": {"bbox": "box"}}, "file,box,class", "a.jpg,1 2 30 40,cat"),
        ({"box": "cxcywh"}, "file,label,cx,cy,w,h", "a.jpg,cat,15.5,21,29,38"),
        ({"box": "cxcywh", "units": "fraction"}, "file,label,x_center,y_center,width,height", "a.jpg,cat,.155,.42,.29,.76"),
        ({"units": "fraction"}, "file,label,x1,y1,x2,y2", "a.jpg,cat,0.01,0.04,0.3,0.8"),
        ({"header": False}, "a.jpg,1,2,30,40,cat", ""),
        ({"header": False, "box": "xywh"}, "a.jpg,1,2,29,38,cat", ""),
        ({"header": False, "columns": {"class": 1, "image": 2, "x1": 4, "y1": 5, "x2": 6, "y2": 7}}, "cat,a.jpg,,1,2,30,40", ""),
    ],
)
def test_csv_as_the_user_says(collected: Collected, options: dict[str, Any], header: str, row: str) -> None:
    collected.image("a.jpg").text("boxes.tsv", f"{header}\n{row}")
    assert collected.run(format="csv", options=options).boxes() == [("a.jpg", "cat", 1, 2, 30, 40)]


@pytest.mark.parametrize(
    ("options", "header", "words"),
    [
        ({}, "file,label,x1,y1", "its columns are file, label, x1, y1; no column is clearly x2, y2; name them in annotate"),
        ({}, "name,box", "no column is clearly image, x1, y1, x2, y2, class"),
        ({}, "path,image,label,x1,y1,x2,y2", "image and path could both be the image"),
        ({}, "file,label,category,x1,y1,x2,y2", "label and category could both be the class"),
        ({}, "file,label,x,y,w,h", "no column is clearly x1"),
        ({}, "file,label,x0,y0,x1,y1", "no column is clearly x2, y2"),
        ({"columns": {"x1": "left", "image": "foto"}}, "file,label,x1,y1,x2,y2", "there is no column 'left' for x1"),
        ({"columns": {"class": 9}}, "file,label,x1,y1,x2,y2", "there is no column 9 for class"),
        ({"header": False}, "a.jpg,1,2,30", "its first row has 4 columns; there is no column 5 for y2"),
        ({"header": False, "columns": {"image": 1}}, "a.jpg,1,2,30,40,cat", "no column is clearly x1, y1, x2, y2, class"),
        ({}, "", "it is empty"),
    ],
)
def test_csv_says_which_columns_it_misses(collected: Collected, options: dict[str, Any], header: str, words: str) -> None:
    collected.image("a.jpg").text("boxes.csv", header)
    with pytest.raises(DataError, match="cannot be read") as error:
        collected.run(format="csv", options=options)
    assert error.value.problems[0].startswith("boxes.csv:1: ")
    assert words in error.value.problems[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"picture": "file"}}, "annotate.options.columns.picture"),
        ({"columns": {"x": "left"}}, "box: xyxy has the columns x1, y1, x2, y2, not x"),
        ({"columns": {"image": 0}}, "columns.image: columns are counted from 1"),
        ({"columns": {"image": "file"}, "header": False}, "columns.image: without a header"),
        ({"box": "corners"}, "annotate.options.box"),
    ],
)
def test_csv_refuses_options_that_do_not_fit(collected: Collected, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError) as error:
        collected.image("a.jpg").text("boxes.csv", "x").run(format="csv", options=options)
    assert any(words in problem for problem in error.value.problems)


def test_csv_of_keras_retinanet(collected: Collected) -> None:
    collected.image("img/a.jpg").image("img/b.jpg").image("img/c.jpg")
    collected.text("train.csv", "/data/img/a.jpg,1,2,30,40,cat\n/data/img/a.jpg,5,6,7,8,dog\n/data/img/b.jpg,,,,,\n")
    collected.text("test.csv", "img/c.jpg,1,2,30,40,dog\n")
    collected.text("classes.csv", "cat,0\ndog,1\n")
    result = collected.run(format="csv", options={"header": False}, on_invalid="error")
    assert result.boxes() == [
        ("img/a.jpg", "cat", 1, 2, 30, 40),
        ("img/a.jpg", "dog", 5, 6, 7, 8),
        ("img/c.jpg", "dog", 1, 2, 30, 40),
    ]
    assert result.splits() == {"img/a.jpg": "train", "img/b.jpg": "train", "img/c.jpg": "test"}
    assert result.summary["background"] == 1
    assert [(entry.reason, entry.file) for entry in result.entries] == [("other_table", "classes.csv")]


def test_csv_a_column_for_the_split(collected: Collected) -> None:
    for name in "abc":
        collected.image(f"{name}.jpg")
    header = "image,class,x1,y1,x2,y2,Split\n"
    rows = ("a.jpg,cat,1,2,30,40,Training\n", "b.jpg,cat,1,2,30,40,valid\n", "c.jpg,cat,1,2,30,40,\n")
    collected.text("test.csv", header + "".join(rows))
    assert collected.run().splits() == {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}


def test_csv_odd_rows(collected: Collected) -> None:
    rows = [
        "a.jpg,cat,1,2,30,40",
        "a.jpg,cat,1,2,x,40",
        "a.jpg,,1,2,30,40",
        "a.jpg,No finding,,,,",
        "a.jpg",
        "a.jpg,cat,1,5,2,30,40",
        'a.jpg,cat,"1,024",2,30,40',
        'a.jpg,cat,"1,5",2,30,40',
        "a.jpg,cat,1e999,2,30,40",
        ",cat,1,2,30,40",
        "b.jpg,,,,,",
        "a.jpg,cat,1,2,30,41,",
    ]
    collected.image("a.jpg").image("b.jpg").text("boxes.csv", "image,class,x1,y1,x2,y2\n" + "\n".join(rows))
    result = collected.run()
    assert [box[2:] for box in result.boxes()] == [(1, 2, 30, 40), (1.5, 2, 30, 40), (1, 2, 30, 41)]
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("malformed_box", 3),
        ("no_class", 4),
        ("no_box", 5),
        ("malformed_box", 6),
        ("malformed_box", 7),
        ("malformed_box", 8),
        ("no_file_name", 11),
        ("not_finite", 10),
    ]
    assert result.summary["background"] == 1


def test_csv_every_unreadable_file_is_named(collected: Collected) -> None:
    collected.image("a.jpg").text("good.csv", "image,class,x1,y1,x2,y2\na.jpg,cat,1,2,30,40\n")
    collected.text("fractions.csv", "image,class,x1,y1,x2,y2\na.jpg,cat,0.1,0.2,0.5,1\n")
    collected.text("half.csv", "image,class,x1,y1\na.jpg,cat,1,2\n").data("latin.csv", b"image,class\n\xe4,cat\n")
    collected.text("quote.csv", 'image,class,x1,y1,x2,y2\na.jpg,"cat,1,2,30,40\na.jpg,cat,1,2,30,40\n').text("ages.csv", "a,b\n")
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(";")[0] for problem in error.value.problems] == [
        "fractions.csv: no number is above 1, which for pixels cannot be",
        "half.csv:1: its columns are image, class, x1, y1",
        "latin.csv:2: the text is not UTF-8",
        "quote.csv:2: a quoted cell runs over several lines: a quote is missing",
    ]


def test_csv_small_numbers_on_small_images_are_pixels(collected: Collected) -> None:
    table = "image,class,x1,y1,x2,y2,width,height\na.jpg,cat,0.1,0.2,0.5,1,7,5\n"
    result = collected.image("a.jpg", 7, 5).text("boxes.csv", table).run()
    assert result.boxes() == [("a.jpg", "cat", 0.1, 0.2, 0.5, 1)]
    result = collected.run(format="csv", options={"units": "fraction"})
    assert result.boxes() == [("a.jpg", "cat", 0.7, 1, 3.5, 5)]


def test_csv_is_written_with_rows_for_images_without_boxes(tmp_path: Path) -> None:
    images = [
        {"path": "x/a, b.jpg", "width": 9, "height": 8, "split": "train"},
        {"path": "b.jpg", "width": 9, "height": 8, "split": "val"},
    ]
    csv.write(Dataset.from_rows(["cat"], images, [(0, 0, 1, 2, 3.5, 4)]), None, tmp_path)
    assert (tmp_path / "annotations.csv").read_bytes() == (
        b'image,class,x1,y1,x2,y2,width,height,split\n"images/x/a, b.jpg",cat,1,2,3.5,4,9,8,train\nimages/b.jpg,,,,,,9,8,val\n'
    )
