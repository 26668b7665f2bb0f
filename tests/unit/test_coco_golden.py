"""COCO files that real tools wrote; tests/data/formats/README.md says which and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelling import Collected

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "coco"
LABELIMG = GOLDEN.parent / "labelimg" / "voc"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_datumaro(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "datumaro").run()
    assert result.summary["format"] == "coco"
    assert result.boxes() == [
        ("images/default/e.jpg", "dog", 0, 0, 64, 48),
        ("images/train/sub/a.jpg", "dog", 10, 5, 40.5, 25.25),
        ("images/train/sub/a.jpg", "cat", 50, 5, 90, 45),
        ("images/train/sub/a.jpg", "cat", 60, 10, 80, 30),  # an ellipse, written as a polygon of 720 corners
        ("images/train/sub/a.jpg", "cat", 0, 0, 50, 50),
        ("images/train/sub/a.jpg", "cat", 1, 1, 9, 9),
        ("images/val/c.d.jpg", "cat", 1, 2, 4, 6),
    ]
    assert result.dataset.class_names == ("cat", "dog", "unused")
    assert list(result.splits().values()) == ["", "train", "train", "val"]
    assert result.reasons() == {"box dropped: crowd": 1, "box dropped: unknown_class": 1}  # it writes one without a category
    assert result.summary["background"] == 1


def test_fiftyone(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "fiftyone").run()
    assert result.boxes() == [
        ("data/kitchen 1.jpg", "dog", 6, 8, 36, 18),
        ("data/kitchen 1.jpg", "cat", 30, 20, 45, 30),
        ("data/sub.png", "tv", 8, 6, 32, 24),
    ]
    assert result.dataset.class_names == ("cat", "dog", "tv")
    assert result.reasons() == {"box dropped: crowd": 1}
    assert result.summary["background"] == 1


def test_supervision(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "supervision").run()
    assert result.boxes() == [("images/kitchen 1.jpg", "dog", 6, 8, 36.5, 18), ("images/kitchen 1.jpg", "cat", 0, 0, 20, 20)]
    assert result.entries == []
    assert result.summary["background"] == 1


def test_labelformat_has_ids_from_0_and_annotations_without_one(collected: Collected) -> None:
    for path in LABELIMG.iterdir():
        if path.suffix != ".xml":
            collected.data(path.name, path.read_bytes())
    result = collected.copy(GOLDEN / "labelformat").run()
    assert result.boxes() == [
        ("kitchen 1.jpg", "person", 1, 1, 30, 40),
        ("kitchen 1.jpg", "cat", 12, 8, 47, 31),
        ("salt & pepper.png", "tv", 5, 3, 20, 23),
        ("turned.jpg", "dog", 2, 3, 38, 58),
    ]
    assert result.dataset.class_names == ("cat", "dog", "person", "tv")
    assert result.entries == []


def test_label_studio_has_an_image_for_each_annotator(collected: Collected) -> None:
    """Each under a web path, without a size where nothing was drawn; boxes on which two agree are one."""
    for name in ("39bfd98b-street_1.jpg", "3e15c929-sky_2.png", "60384608-nobody.jpg"):
        collected.image(f"images/{name}")
    result = collected.copy(GOLDEN / "label_studio").run()
    assert result.boxes() == [
        ("images/39bfd98b-street_1.jpg", "dog", 1, 1, 4, 3),
        ("images/39bfd98b-street_1.jpg", "car", 10, 10, 40, 30),
        ("images/39bfd98b-street_1.jpg", "dog", 30, 5, 50, 15),
        ("images/39bfd98b-street_1.jpg", "car", 3, 31, 17, 45),
        ("images/39bfd98b-street_1.jpg", "coach", 5, 30, 15, 40),
        ("images/3e15c929-sky_2.png", "dog", 1, 1, 4, 3),
    ]
    assert result.reasons() == {"box dropped: duplicate_box": 1, "image converted: merged_records": 2}
    assert result.summary["background"] == 1
