"""Several sources of labels become one data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError, ParamsError
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    """`one`: VOC; `two`: YOLO, with a file of the same name, other classes and another order."""
    where = Collected(tmp_path)
    where.image("one/a.jpg").voc("one/a.xml", "a.jpg", [("dog", 1, 2, 30, 40), ("cat", 5, 5, 20, 20)])
    where.image("two/a.jpg").image("two/b.jpg").text("two/classes.txt", "cow\ndog\n")
    where.text("two/a.txt", "1 0.5 0.5 0.2 0.4\n").text("two/b.txt", "0 0.5 0.5 0.2 0.4\n")
    return where


BOTH = [{"folder": "one"}, {"folder": "two"}]


def test_same_names_other_classes_other_formats(collected: Collected) -> None:
    with pytest.raises(DataError, match="2 formats"):
        collected.run()
    result = collected.run(sources=BOTH)
    assert result.dataset.class_names == ("cat", "dog", "cow")
    assert result.boxes() == [
        ("one/a.jpg", "dog", 1, 2, 30, 40),
        ("one/a.jpg", "cat", 5, 5, 20, 20),
        ("two/a.jpg", "dog", 40, 15, 60, 35),
        ("two/b.jpg", "cow", 40, 15, 60, 35),
    ]
    assert (result.summary["format"], result.summary["boxes_read"], result.entries) == ("voc, yolo", 4, [])


def test_each_source_has_its_own_classes_and_the_whole_has_too(collected: Collected) -> None:
    sources = [{"folder": "one", "classes": {"rename": {"dog": "Hund"}}}, {"folder": "two", "classes": {"drop": ["cow"]}}]
    result = collected.run(sources=sources, classes={"merge": {"Tier": ["Hund", "dog"]}, "drop": ["cat"]})
    assert result.dataset.class_names == ("Tier",)
    assert [(path, name) for path, name, *_ in result.boxes()] == [("one/a.jpg", "Tier"), ("two/a.jpg", "Tier")]
    assert result.reasons() == {"box dropped: class_dropped": 2}
    assert result.summary["boxes_read"] == 4


def test_one_image_with_labels_in_two_formats(collected: Collected) -> None:
    collected.image("photos/a.jpg").image("photos/b.jpg")
    for number in (1, 2):
        collected.voc(f"voc{number}/a.xml", "a.jpg", [("dog", 1, 2, 30, 40), ("cat", number, 5, 20, 20)])
    result = collected.run(sources=[{"folder": f"voc{number}", "images": "photos"} for number in (1, 2)])
    assert [box[1:3] for box in result.boxes()] == [("dog", 1), ("cat", 1), ("cat", 2)]
    left_out = {entry.path for entry in result.entries if entry.reason == "in_no_source"}
    assert left_out == {"one/a.jpg", "two/a.jpg", "two/b.jpg"}
    assert result.reasons()["box dropped: in_two_sources"] == 1
    assert {entry.path for entry in result.entries if entry.reason == "no_label_file"} == {"photos/b.jpg"}
    assert any("Images without labels: 1" in warning for warning in result.warnings)


def test_every_source_that_cannot_be_read_is_named_at_once(collected: Collected) -> None:
    collected.text("one/a.xml", "<annotation><object>").text("two/a.txt", "nonsense")
    (collected.files / "two/b.txt").unlink()
    with pytest.raises(DataError, match=r"(?s)2 of 2 sources.*one: one/a\.xml:1.*two: "):
        collected.run(sources=BOTH)


def test_a_folder_that_is_not_there(collected: Collected) -> None:
    with pytest.raises(DataError, match=r"(?s)no folder 'twoo'.*Did you mean 'two'"):
        collected.run(sources=[{"folder": "twoo"}])


def test_images_apart_from_their_labels(collected: Collected) -> None:
    collected.image("photos/a.jpg", 200, 100)
    result = collected.run(sources=[{"folder": "one", "images": "photos"}])
    assert result.boxes()[0] == ("photos/a.jpg", "dog", 2, 4, 60, 80), "the labels of a smaller copy are scaled"


def test_what_each_source_must_say_itself(collected: Collected) -> None:
    with pytest.raises((ParamsError, ValueError), match="format must be given for each"):
        collected.run(sources=BOTH, format="voc")
