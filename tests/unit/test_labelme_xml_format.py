"""What is peculiar to the XML files of MIT's LabelMe."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.labelling import Collected

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "labelme_xml"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def points(*corners: tuple[object, object]) -> str:
    return "<polygon><username>me</username>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners) + "</polygon>"


def item(name: str, shape: str, kind: str = "", deleted: str = "0") -> str:
    kind = f"<type>{kind}</type>" if kind else ""
    about = f"<name>{name}</name><deleted>{deleted}</deleted><occluded>yes</occluded><attributes>red</attributes>{kind}"
    return f"<object>{about}{shape}</object>\n"


def document(*items: str, filename: str = "a.jpg", folder: str = "", size: tuple[object, object] = (100, 50)) -> str:
    declared = f"<imagesize><nrows>{size[1]}</nrows><ncols>{size[0]}</ncols></imagesize>"
    return f"<annotation>\n<filename>{filename}</filename><folder>{folder}</folder>\n{''.join(items)}{declared}</annotation>"


BOX = points((1, 2), (9, 2), (9, 8), (1, 8))


def test_objects_of_every_kind(collected: Collected) -> None:
    segm = (
        "<segm><username>me</username><box><xmin>20</xmin><ymin>10</ymin><xmax>30</xmax><ymax>15</ymax></box>"
        "<mask>a_mask_1.png</mask><scribbles><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
        "<scribble_name>a_scribble_1.png</scribble_name></scribbles></segm>"
    )
    collected.image("a.jpg").text(
        "a.xml",
        document(
            item("\n window \n", BOX, "bounding_box"),
            item("tree", points(("\n3\n", 3.5), (8, 1), (5, 9))),
            item("plate", segm),
            item("gone", BOX, deleted="1"),
            item("", BOX),
            item("wire", points((1, 1), (5, 5))),
            item("nail", points((1, 1))),
            item("ghost", ""),
            item("bad", points((1, 1), (5, "x"), (3, 3))),
            item("bad", "<segm><box><xmin>20</xmin></box></segm>"),
        ),
    )
    result = collected.run()
    assert result.summary["format"] == "labelme_xml"
    assert result.boxes() == [
        ("a.jpg", "window", 1, 2, 9, 8),
        ("a.jpg", "tree", 3, 1, 8, 9),
        ("a.jpg", "plate", 20, 10, 30, 15),
    ]
    assert result.dataset.class_names == ("plate", "tree", "window"), "alphabetical: LabelMe has no order"
    assert [(entry.action, entry.reason, entry.line) for entry in result.entries] == [
        ("converted", "polygon", 0),
        ("converted", "mask", 0),
        ("dropped", "deleted", 10),
        ("dropped", "no_class", 11),
        ("dropped", "polyline", 12),
        ("dropped", "point", 13),
        ("dropped", "no_box", 14),
        ("dropped", "malformed_box", 15),
        ("dropped", "malformed_box", 16),
    ]
    assert result.summary["boxes_read"] == 10


def test_files_of_datumaro(collected: Collected) -> None:
    result = collected.copy(GOLDEN).run()
    photo = "Images/train/kitchen 1.jpg"
    assert result.boxes() == [
        (photo, "dog", 4, 5, 24.5, 15),
        (photo, "cat", 1, 1, 5.5, 8),
        (photo, "dog", 32, 11, 35, 16),
        (photo, "cat", 0, 0, 40, 30),
    ]
    assert result.reasons() == {"box converted: mask": 1, "box converted: polygon": 1}
    assert result.splits() == {"Images/train/empty.jpg": "train", photo: "train"}


def test_masks_and_scribbles_are_no_photos(collected: Collected) -> None:
    edges = "<box><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></box>"
    scribble = "<scribbles><scribble_name>a_scribble_0.png</scribble_name></scribbles>"
    same_name = item("cat", f"<segm>{edges}<mask>b.jpg</mask></segm>")
    collected.image("a.jpg").text("a.xml", document(item("cat", f"<segm>{edges}<mask>a_mask_0.png</mask>{scribble}</segm>")))
    collected.image("b.jpg").image("Masks/b.jpg").text("b.xml", document(same_name, filename="b.jpg"))
    collected.image("a_mask_0.png").image("Masks/x/a_mask_0.png").image("Scribbles/x/a_scribble_0.png")
    collected.image("Masks/of Venice.jpg").text(
        "Masks/of Venice.xml", document(item("x", BOX, "bounding_box"), filename="of Venice")
    )
    result = collected.run()
    assert result.dataset.images["path"].tolist() == ["Masks/of Venice.jpg", "a.jpg", "b.jpg"]
    assert result.reasons() == {"box converted: mask": 2}


def test_layout_of_the_tool(collected: Collected) -> None:
    for folder in ("x", "y"):
        collected.image(f"Images/{folder}/1.jpg")
        collected.text(
            f"Annotations/{folder}/1.xml", document(item(folder, BOX, "bounding_box"), filename="1.jpg", folder=folder)
        )
    collected.image("Images/y/2.jpg").text(
        "Annotations/y/2.xml", document(item("z", BOX, "bounding_box"), filename="z", folder="y")
    )
    collected.image("Images/y/3.jpg").text("Annotations/y/3.xml", document(filename="3.jpg", folder="y"))
    result = collected.run()
    assert [box[:2] for box in result.boxes()] == [("Images/x/1.jpg", "x"), ("Images/y/1.jpg", "y"), ("Images/y/2.jpg", "z")]
    assert result.reasons() == {"file converted: filename_mismatch": 1}
    assert result.summary["background"] == 1, "an image of which the tool says that nothing is on it"


def test_it_is_told_from_voc(collected: Collected) -> None:
    collected.image("a.jpg").text("a.xml", document(item("cat", BOX, "bounding_box")))
    assert collected.run().summary["format"] == "labelme_xml"
    collected.data("a.xml", document(item("cat", BOX, "bounding_box")).encode("utf-16"))
    assert collected.run().summary["format"] == "labelme_xml"
    polygon = "<polygon><x1>1</x1><y1>1</y1></polygon>"
    collected.voc("a.xml", "a.jpg", [("cat", 1, 1, 9, 9)])
    text = (collected.files / "a.xml").read_text(encoding="utf-8").replace("</bndbox>", f"</bndbox>{polygon}")
    assert collected.text("a.xml", text).run().summary["format"] == "voc"


def test_photos_turned_by_exif_are_decided_by_their_size(collected: Collected) -> None:
    collected.image("a.jpg", 100, 50, orientation=6).text("a.xml", document(item("cat", BOX, "bounding_box")))
    assert collected.run().boxes() == [("a.jpg", "cat", 42, 1, 48, 9)]
    collected.text("a.xml", document(item("cat", BOX, "bounding_box"), size=(50, 100)))
    assert collected.run().boxes() == [("a.jpg", "cat", 1, 2, 9, 8)]
    collected.text("a.xml", document(item("cat", BOX, "bounding_box"), size=("", "many")))
    assert collected.run().reasons() == {"image kept: frame_undecided": 1}


def test_files_that_cannot_be_read(collected: Collected) -> None:
    good = document(item("cat", BOX, "bounding_box"))
    for name in ("a", "bomb", "cut"):
        collected.image(f"{name}.jpg")
    collected.text("a.xml", good).text("cut.xml", good[:90]).text("other.xml", "<settings/>")
    collected.text("bomb.xml", '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>' + good)
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(" (")[0] for problem in error.value.problems] == [
        "bomb.xml: the XML declares entities, which label files have no use for",
        "cut.xml:3: malformed XML",
    ]
    assert [box[0] for box in collected.run(on_invalid="drop").boxes()] == ["a.jpg"]


def test_decimal_commas(collected: Collected) -> None:
    collected.image("a.jpg").text(
        "a.xml",
        document(
            item("tree", points(("1,5", "2,5"), ("8", "1"), ("5,25", "9"))),
            item("plate", "<segm><box><xmin>2,5</xmin><ymin>1</ymin><xmax>3,5</xmax><ymax>5</ymax></box></segm>"),
            item("unclear", points(("1,024", 2), (8, 1), (5, 9))),
        ),
    )
    result = collected.run()
    assert [box[1:] for box in result.boxes()] == [("tree", 1.5, 1, 8, 9), ("plate", 2.5, 1, 3.5, 5)]
    assert [(entry.reason, entry.line) for entry in result.entries if entry.action == "dropped"] == [("malformed_box", 5)]
