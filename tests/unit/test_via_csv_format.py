"""What is peculiar to VIA's CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import formats
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from tests.label_writers.via_csv import HEADER, cell
from tests.labelling import Collected

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "via"
RECT = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path).image("street 1.jpg").image("sky.png")


def row(name: str, shape: Any = RECT, attributes: Any = None, file_attributes: Any = None, count: int = 1) -> str:
    attributes = {"a": "cat"} if attributes is None else attributes
    return f"{name},815,{cell(file_attributes or {})},{count},0,{cell(shape)},{cell(attributes)}"


def table(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows])


@pytest.mark.parametrize("file", ["via1.csv", "via2.csv"])
def test_an_export_of_via(collected: Collected, file: str) -> None:
    result = collected.data("x.csv", (GOLDEN / file).read_bytes()).run()
    assert result.boxes() == [
        ("street 1.jpg", "1", 10, 5, 40, 25),
        ("street 1.jpg", "2", 42.226896, 12.829676, 77.773104, 37.170324),
        ("street 1.jpg", "fox", 72.929, 12.929, 87.071, 27.071),
        ("street 1.jpg", "1", 3, 31, 17, 45),
    ]
    assert result.dataset.class_names == ("1", "2", "fox"), "the table does not tell what the menu shows"
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("ellipse", 3),
        ("circle", 4),
        ("polygon", 5),
        ("polyline", 6),
        ("point", 7),
    ]


def test_names_with_commas_and_quotes(collected: Collected) -> None:
    for name in ("a, b.jpg", ", .jpg", 'say "x".jpg', "c,d.jpg"):
        collected.image(name)
    rows = [row("a, b.jpg"), row(", .jpg"), row('say "x".jpg'), row('"c,d.jpg"')]
    result = collected.text("x.csv", table(*rows)).run(include_unlabelled=False)
    assert [box[0] for box in result.boxes()] == [", .jpg", "a, b.jpg", "c,d.jpg", 'say "x".jpg']


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_spreadsheets_make_of_it(collected: Collected, delimiter: str, encoding: str) -> None:
    header = HEADER.replace(",", delimiter)
    cells = ["sky.png", "815", cell({}), "1", "0", cell(RECT), cell({"a": "Kätzchen"})]
    collected.data("x.csv", f"{header}\r\n{delimiter.join(cells)}\r\n\r\n".encode(encoding))
    assert collected.run().boxes() == [("sky.png", "Kätzchen", 1, 2, 4, 6)]


def test_options_are_those_of_via(collected: Collected) -> None:
    collected.text("x.csv", table(row("sky.png", attributes={"colour": "red", "size": "big"}), row("sky.png", attributes={})))
    with pytest.raises(DataError) as error:
        collected.run()
    assert "the attributes colour, size, and" in error.value.problems[0]
    result = collected.run(options={"attribute": "size", "default_class": "small"})
    assert [box[1] for box in result.boxes()] == ["big", "small"]


def test_sizes(collected: Collected) -> None:
    collected.text("x.csv", table(row("sky.png", file_attributes={"width": 200, "height": 100})))
    assert collected.run().boxes() == [("sky.png", "cat", 0.5, 1, 2, 3)]


def test_broken_rows(collected: Collected) -> None:
    rows = [
        row("sky.png"),
        "sky.png,815,{}",
        row(""),
        row("sky.png").replace('{""name""', '{""name'),
        row("sky.png", shape={}),
        row("sky.png", shape=[1]),
        row("sky.png", attributes=[1]),
        "",
        row("street 1.jpg", shape={}, attributes={}, count=0),
    ]
    result = collected.text("x.csv", table(*rows)).run()
    assert result.boxes() == [("sky.png", "cat", 1, 2, 4, 6)]
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("malformed_box", 3),
        ("malformed_box", 4),
        ("malformed_box", 5),
        ("malformed_box", 6),
        ("malformed_box", 7),
        ("no_class", 8),
    ]


def test_a_file_in_another_encoding(collected: Collected) -> None:
    collected.data("x.csv", table(row("sky.png", attributes={"a": "é"})).encode("latin-1"))
    for mode in ("fix", "drop"):
        with pytest.raises(DataError) as error:
            collected.run(on_invalid=mode)
        assert error.value.problems == ("x.csv:2: the text is not UTF-8",)


def test_it_writes_what_via_writes(tmp_path: Path) -> None:
    """When VIA 2.0.10 opens the project that `via` writes of this data set, and exports it, it writes the same bytes."""
    images = [{"path": path, "width": 100, "height": 50} for path in ("a b, c.jpg", "sub/ü.png")]
    dataset = Dataset.from_rows(["dog", 'c"at'], images, [(0, 1, 1.5, 2, 4, 8)])
    formats.load_writable("via_csv").write(dataset, None, tmp_path)
    size = '"{""width"":100,""height"":50}"'
    shape = '"{""name"":""rect"",""x"":1.5,""y"":2,""width"":2.5,""height"":6}"'
    assert (tmp_path / "via_region_data.csv").read_text(encoding="utf-8").split("\n") == [
        HEADER,
        f'images/a b%2C c.jpg,-1,{size},1,0,{shape},"{{""class"":""c\\""at""}}"',
        f'images/sub/ü.png,-1,{size},0,0,"{{}}","{{}}"',
    ]
