"""`convert`: any format to another, without a workspace."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.ledger import Ledger
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    """Two images of 100 x 50 px, one without boxes; three classes, one of them unused."""
    where = Collected(tmp_path / "in")
    for name in ("a", "b"):
        where.image(f"images/{name}.jpg")
    images = [{"id": n, "file_name": f"{name}.jpg", "width": 100, "height": 50} for n, name in enumerate("ab", 1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(["dog", "cat", "cow"])]
    where.coco("labels/train.json", images, [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 2, 30, 40]}], categories)
    return where


def convert(*words: object) -> int:
    return cli.main(["convert", *map(str, words)])


def test_boxes_images_and_the_account_arrive(collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(collected.files, tmp_path / "out", "--to", "yolo") == 0
    out = tmp_path / "out"
    assert (out / "labels/a.txt").read_text() == "0 0.16 0.44 0.3 0.8\n"
    assert (out / "images/b.jpg").samefile(collected.files / "images/b.jpg")
    assert (out / "ledger.jsonl").read_text() == ""
    said = capsys.readouterr().out
    assert "read coco: labels/train.json has the keys" in said
    assert "cannot hold" not in said


def test_what_the_target_cannot_hold_is_said(collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(collected.files, tmp_path / "out", "--to", "voc", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["lost"] == ["the classes' order (classes without boxes: cat, cow)"]
    assert (document["from"], document["images"], document["boxes"]) == ("coco", 2, 1)
    assert document["classes"] == {"dog": 1, "cat": 0, "cow": 0}


def test_one_is_not_told_as_many(collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(collected.files, tmp_path / "out", "--to", "voc", "--from", "coco") == 0
    said = capsys.readouterr().out
    assert "read coco: it was named\n" in said
    assert "2 images, 1 box → " in said


def test_an_order_that_is_lost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = (
        Collected(tmp_path / "in")
        .image("a.jpg")
        .text("classes.txt", "zebra\nant\n")
        .text("a.txt", "0 .5 .5 .2 .2\n1 .5 .5 .3 .3\n")
    )
    assert convert(where.files, tmp_path / "out", "--to", "voc", "--json") == 0
    assert json.loads(capsys.readouterr().out)["lost"] == ["the classes' order (zebra, ant)"]
    assert convert(where.files, tmp_path / "sorted", "--to", "voc", "annotate.classes={order: [ant]}", "--json") == 0
    assert json.loads(capsys.readouterr().out)["lost"] == []


def test_labels_alone(collected: Collected, tmp_path: Path) -> None:
    labels = collected.files / "labels"
    assert convert(labels, tmp_path / "out", "--to", "yolo", "--no-images") == 0
    assert (tmp_path / "out/labels/a.txt").read_text() == "0 0.16 0.44 0.3 0.8\n"
    assert not (tmp_path / "out/images").exists()
    assert convert(tmp_path / "out", tmp_path / "back", "--to", "coco", "--no-images") == 3, "YOLO declares no sizes"


def test_images_in_another_folder(collected: Collected, tmp_path: Path) -> None:
    labels, images = collected.files / "labels", collected.files / "images"
    assert convert(labels, tmp_path / "none", "--to", "yolo") == 3
    assert convert(labels, tmp_path / "out", "--to", "yolo", "--images", images) == 0
    assert (tmp_path / "out/images/a.jpg").samefile(images / "a.jpg")
    assert convert(labels, tmp_path / "both", "--to", "yolo", "--images", images, "--no-images") == 2


def test_classes_by_name(collected: Collected, tmp_path: Path) -> None:
    setting = "annotate.classes={rename: {dog: Hund}, drop: [cow]}"
    assert convert(collected.files, tmp_path / "out", "--to", "yolo", setting) == 0
    assert "names:\n  0: Hund\n  1: cat\n" in (tmp_path / "out/data.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "yollo"], "Did you mean 'yolo'"),
        (["--to", "vott"], "can be read, but not written"),
        (["--to", "yolo", "--from", "vocc"], "Did you mean 'voc'"),
        (["--to", "yolo", "annotate.frame=sideways"], "annotate.frame"),
    ],
)
def test_mistakes_are_named(
    collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert convert(collected.files, tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_gets_full_is_left_as_it_was(
    collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "full", str(folder))

    monkeypatch.setattr(Ledger, "write", lambda ledger, folder: full(folder))
    (tmp_path / "new").mkdir()
    assert convert(collected.files, tmp_path / "new" / "out", "--to", "yolo") == 3
    assert "the disk is full" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_nothing_is_overwritten(collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert convert(collected.files, tmp_path / "out", "--to", "yolo") == 2
    assert "exists already" in capsys.readouterr().err
    assert convert(collected.files, collected.files / "out", "--to", "yolo") == 2
    assert "which is read" in capsys.readouterr().err


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    where = Collected(tmp_path / "in")
    names = [
        "../../x.jpg",
        "C:\\photos\\day1\\a.jpg",
        "C:\\photos\\b.jpg",
        "https://host.org/s/c%20d.jpg?x=1",
        "no_suffix",
        "e.jpg",
    ]
    images = [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(names)]
    images.append({"id": 99, "file_name": "sizeless.jpg"})
    boxes = [{"id": n, "image_id": image["id"], "category_id": 0, "bbox": [1, 2, 3, 4]} for n, image in enumerate(images)]
    where.coco("x.json", images, boxes, [{"id": 0, "name": "cat"}])
    assert convert(where.files, tmp_path / "out", "--to", "coco", "--no-images") == 0
    written = json.loads((tmp_path / "out/annotations/instances_default.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["b.jpg", "day1/a.jpg", "e.jpg", "no_suffix.jpg", "s/c d.jpg"]
    entries = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    dropped = {(entry["item"], entry["reason"], entry["path"]) for entry in entries if entry["action"] == "dropped"}
    wrong = {("unsafe_name", "../../x.jpg"), ("no_size", "sizeless.jpg")}
    assert dropped == {(item, *rest) for item in ("image", "box") for rest in wrong}


def test_copies_are_left_out_when_wanted(collected: Collected, tmp_path: Path) -> None:
    (collected.files / "images/c.jpg").write_bytes((collected.files / "images/b.jpg").read_bytes() + b"another")
    (collected.files / "images/d.jpg").write_bytes((collected.files / "images/a.jpg").read_bytes())
    (collected.files / "images/b.jpg").write_bytes((collected.files / "images/c.jpg").read_bytes())
    assert convert(collected.files, tmp_path / "out", "--to", "yolo", "annotate.repair=true") == 0
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["a.jpg", "b.jpg"]


def test_links_that_leave_the_folder_are_named_and_not_followed(collected: Collected, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes((collected.files / "images/a.jpg").read_bytes())
    (collected.files / "images/link.jpg").symlink_to(secret)
    (collected.files / "images/elsewhere").symlink_to(tmp_path)
    (collected.files / "images/inside.jpg").symlink_to(collected.files / "images/a.jpg")
    assert convert(collected.files, tmp_path / "out", "--to", "yolo") == 0
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["a.jpg", "b.jpg", "inside.jpg"]
    entries = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    refused = [entry["path"] for entry in entries if entry["reason"] == "link_not_followed"]
    assert refused == ["images/elsewhere", "images/link.jpg"]


def test_several_sources_are_refused_in_a_line(collected: Collected, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish = "annotate.sources=[{folder: a}, {folder: b}]"
    assert convert(collected.files, tmp_path / "out", "--to", "yolo", "--set", wish) == 2
    assert "annotate.sources names several" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
