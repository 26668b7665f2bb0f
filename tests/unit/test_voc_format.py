"""What is peculiar to VOC label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError
from pipeline.formats import voc
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_voc_image_names(collected: Collected) -> None:
    for name in ("1", "2", "3", "4"):
        collected.image(f"JPEGImages/{name}.jpg")
    collected.voc("Annotations/1.xml", "1", [("x", 1, 1, 9, 9)])
    collected.voc("Annotations/2.xml", "1.jpg", [("x", 2, 1, 9, 9)])
    collected.voc("Annotations/three.xml", "3.jpg", [("x", 3, 1, 9, 9)])
    collected.voc("Annotations/4.xml", "", [("x", 4, 1, 9, 9)])
    result = collected.run()
    assert [(box[0], box[2]) for box in result.boxes()] == [(f"JPEGImages/{number}.jpg", number) for number in (1, 2, 3, 4)]
    assert result.reasons() == {"file converted: filename_mismatch": 2}


def test_voc_objects_of_every_kind(collected: Collected) -> None:
    xml = """<annotation><filename>a.jpg</filename>
      <object><name>b</name><bndbox><ymax>9</ymax><xmin>1.5</xmin><ymin>2</ymin><xmax> 8 </xmax></bndbox>
        <part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></part></object>
      <object><name>a</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
      <object><name></name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
      <object><name>c</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax></xmax><ymax>5</ymax></bndbox></object>
      <object><name>c</name><polygon><x1>1</x1></polygon></object>
    </annotation>"""
    collected.image("a.jpg").text("a.xml", xml)
    result = collected.run()
    assert result.boxes() == [("a.jpg", "b", 1.5, 2, 8, 9), ("a.jpg", "a", 1, 1, 5, 5)]
    assert result.dataset.class_names == ("a", "b"), "alphabetical: VOC has no order"
    assert [(entry.reason, entry.line) for entry in result.entries] == [("no_class", 6), ("malformed_box", 7), ("no_box", 8)]
    assert collected.run(options={"one_based": True}).boxes()[1][2:] == (0, 0, 5, 5)
    assert collected.run(options={"difficult": "drop"}).reasons()["box dropped: difficult"] == 1


def test_voc_splits_and_masks(collected: Collected) -> None:
    for name in ("1", "2", "3"):
        collected.image(f"VOC2012/JPEGImages/{name}.jpg").voc(
            f"VOC2012/Annotations/{name}.xml", f"{name}.jpg", [("x", 1, 1, 9, 9)]
        )
        collected.image(f"VOC2012/SegmentationClass/{name}.png")
    folder = "VOC2012/ImageSets/Main"
    collected.text(f"{folder}/train.txt", "1\n").text(f"{folder}/val.txt", "2\n").text(f"{folder}/trainval.txt", "1\n2\n")
    collected.text(f"{folder}/cat_train.txt", "3 1\n").text("VOC2012/ImageSets/Segmentation/test.txt", "1\n")
    result = collected.run()
    assert list(result.splits().values()) == ["train", "val", ""]
    assert result.entries == []


def test_voc_unreadable_files(collected: Collected) -> None:
    for name in ("good", "cut", "bomb", "latin"):
        collected.image(f"{name}.jpg").voc(f"{name}.xml", f"{name}.jpg", [("x", 1, 1, 9, 9)])
    text = (collected.files / "good.xml").read_text(encoding="utf-8")
    collected.text("cut.xml", text[: len(text) // 2])
    collected.text("bomb.xml", '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>' + text)
    collected.data("latin.xml", text.replace("x</name>", "é</name>").encode("latin-1"))
    for mode in ("fix", "error"):
        with pytest.raises(DataError) as error:
            collected.run(on_invalid=mode)
        assert [problem.split(": ", 1)[0] for problem in error.value.problems] == ["bomb.xml", "cut.xml:4", "latin.xml:4"]
        assert "drop" in error.value.hint
    result = collected.run(on_invalid="drop")
    assert [box[0] for box in result.boxes()] == ["good.jpg"]
    assert result.reasons() == {"image dropped: malformed_label_file": 3}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_voc_encodings(collected: Collected, encoding: str) -> None:
    collected.image("ä.jpg").voc("ä.xml", "ä.jpg", [("Größe", 1, 1, 9, 9)])
    text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n' + (collected.files / "ä.xml").read_text(
        encoding="utf-8"
    )
    collected.data("ä.xml", text.encode(encoding))
    assert collected.run().boxes() == [("ä.jpg", "Größe", 1, 1, 9, 9)]


def test_voc_keeps_names_with_spaces_around_them(collected: Collected, tmp_path: Path) -> None:
    paths, splits = (" lead.jpg", "lead.jpg", "trail .jpg"), ("train", "val", "test")
    rows = [{"path": path, "width": 100, "height": 50, "split": split} for path, split in zip(paths, splits, strict=True)]
    for path in paths:
        collected.image(f"../source/{path}")
    dataset = Dataset.from_rows(["x"], rows, [(number, 0, 10 + number, 10, 50, 40) for number in range(3)])
    voc.write(dataset, tmp_path / "source", collected.files)
    result = collected.run(format="voc")
    assert [(box[0].rpartition("/")[2], box[2]) for box in result.boxes()] == [(path, 10 + n) for n, path in enumerate(paths)]
    assert tuple(result.splits().values()) == splits
    assert result.entries == []


@pytest.mark.parametrize("paths", [("a.jpg", "a.jpg.jpg"), ("b.png.jpg", "b.png"), ("x/A.jpg.png", "y/a.jpg")])
def test_voc_refuses_names_that_it_could_not_tell_apart(tmp_path: Path, paths: tuple[str, str]) -> None:
    rows = [{"path": path, "width": 10, "height": 10} for path in paths]
    with pytest.raises(DataError) as error:
        voc.write(Dataset.from_rows(["x"], rows, []), None, tmp_path / "out")
    assert all(path in error.value.message for path in paths)
    assert not (tmp_path / "out").exists()


def test_voc_list_of_a_split_that_is_not_utf8(collected: Collected) -> None:
    """Told together with every other file that cannot be read."""
    collected.image("JPEGImages/ä.jpg").voc("Annotations/ä.xml", "ä.jpg", [("x", 1, 1, 9, 9)])
    collected.image("JPEGImages/b.jpg").text("Annotations/b.xml", "<annotation>")
    collected.data("ImageSets/Main/train.txt", "b\nä\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        collected.run()
    places = [problem.split(": ", 1)[0] for problem in error.value.problems]
    assert places == ["Annotations/b.xml:1", "ImageSets/Main/train.txt:2"]


def test_decimal_commas(collected: Collected) -> None:
    """Of programs that ran in a language with one; 1,024 may as well be a thousand."""

    def item(name: str, *edges: str) -> str:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
        return (
            f"<object><name>{name}</name><bndbox>{''.join(f'<{tag}>{value}</{tag}>' for tag, value in tags)}</bndbox></object>\n"
        )

    rows = [("1,5", "2", "8,25", "9.5"), ("0,125", "1", " 8,0 ", "9"), ("1,024", "1", "8", "9"), ("1,5,2", "1", "8", "9")]
    body = "\n".join(item("x", *edges) for edges in rows)
    collected.image("a.jpg").text("a.xml", f"<annotation>\n{body}</annotation>")
    result = collected.run()
    assert result.boxes() == [("a.jpg", "x", 1.5, 2, 8.25, 9.5), ("a.jpg", "x", 0.125, 1, 8, 9)]
    assert [(entry.reason, entry.where(), entry.detail) for entry in result.entries] == [
        ("malformed_box", "a.xml:6", "xmin=1,024, ymin=1, xmax=8, ymax=9"),
        ("malformed_box", "a.xml:8", "xmin=1,5,2, ymin=1, xmax=8, ymax=9"),
    ]
