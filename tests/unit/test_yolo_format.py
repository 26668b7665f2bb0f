"""What is peculiar to YOLO label files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from tests.labelling import Collected

ROW = "0 0.5 0.5 0.2 0.4\n"  # on 100x50: 40, 15, 60, 35
EDGES = (40, 15, 60, 35)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ("names: [cat, dog]", ("cat", "dog")),
        ("names: {1: dog, 0: cat}", ("cat", "dog")),
        ("names:\n  0: cat\n  2: dog", ("cat", "class_1", "dog")),
        ("names: [no, 1e3, 007, yes]", ("no", "1e3", "007", "yes")),
        ("nc: 2\ntrain: x", ("class_0", "class_1")),
        ("nc: 3\nnames: ['cat', 'dog']", ("cat", "dog")),
    ],
)
def test_yolo_names(collected: Collected, config: str, names: tuple[str, ...]) -> None:
    collected.image("a.jpg").text("a.txt", ROW).text("data.yaml", config)
    assert collected.run().dataset.class_names == names


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("../train/images", "../valid/images"),
        ("train/images", "valid/images/"),
        ("/Users/tony/tmp/train/images", "/Users/tony/tmp/valid/images"),
        (r"C:\data\set\train\images", r"C:\data\set\valid\images"),
        ("./train", "[valid]"),
        ("lists/train.txt", "/elsewhere/lists/valid.txt"),
    ],
)
@pytest.mark.parametrize("base", ["", "path: ../datasets/set\n", "path: /root/set\n"])
def test_yolo_paths_of_other_machines(collected: Collected, base: str, train: str, val: str) -> None:
    for name in ("train/images/1.jpg", "train/images/2.jpg", "valid/images/3.jpg"):
        collected.image(f"set/{name}").text(f"set/{name}".replace("images", "labels").replace(".jpg", ".txt"), ROW)
    collected.text("set/lists/train.txt", "/root/set/train/images/1.jpg\n./train/images/2.jpg\n")
    collected.text("set/lists/valid.txt", "../valid/images/3.jpg")
    collected.text("set/data.yaml", f"{base}train: {train}\nval: {val}\nnames: [x]\n")
    result = collected.run()
    assert list(result.splits().values()) == ["train", "train", "val"]
    assert result.entries == []


def test_yolo_split_folder_that_is_not_there(collected: Collected) -> None:
    collected.image("images/a.jpg").text("labels/a.txt", ROW).text("data.yaml", "train: images\ntest: missing\nnames: [x]")
    result = collected.run()
    assert result.splits() == {"images/a.jpg": "train"}
    detail = "test: no folder or list here is surely 'missing'"
    assert [(entry.reason, entry.detail) for entry in result.entries] == [("split_not_found", detail)]
    assert result.warnings == [f"data.yaml: {detail}."]


def test_yolo_rows_of_every_kind(collected: Collected) -> None:
    rows = [
        "0 0.5 0.5 0.2 0.4",
        "1 0.5 0.5 0.2 0.2 0.98",
        "0 0.1 0.2 0.5 0.2 0.3 0.6",
        "1.0\t0.5 0.5   0.4 0.4",
        "",
        "2 0.5 0.5 0.2 0.4",
        "-1 0.5 0.5 0.2 0.4",
        "cat 0.5 0.5 0.2 0.4",
        "0 0,5 0,5 0,2 0,4",
        "0 0.5 0.5",
        "1.5 0.5 0.5 0.2 0.4",
    ]
    collected.image("a.jpg").data("a.txt", b"\xef\xbb\xbf" + "\r\n".join(rows).encode()).text("obj.names", "cat\ndog\n\n")
    result = collected.run()
    assert [box[1:] for box in result.boxes()] == [
        ("cat", *EDGES),
        ("dog", 40, 20, 60, 30),
        ("cat", 10, 10, 50, 30),
        ("dog", 30, 15, 70, 35),
    ]
    assert [(entry.reason, entry.line) for entry in result.entries] == [
        ("polygon", 3),
        ("unknown_class", 6),
        ("unknown_class", 7),
        ("malformed_row", 8),
        ("malformed_row", 9),
        ("malformed_row", 10),
        ("malformed_row", 11),
    ]
    assert result.entries[1].detail == "class 2, but obj.names lists 2"
    assert result.summary["boxes_read"] == 10


def test_yolo_keypoints(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.6 0.6 1\n").text(
        "data.yaml", "names: [x]\nkpt_shape: [2, 3]"
    )
    result = collected.run()
    assert result.boxes() == [("a.jpg", "x", *EDGES)]
    assert result.reasons() == {"box converted: keypoints": 1}


def test_yolo_an_empty_label_file_is_background_without_a_word(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", ROW).image("b.jpg").text("b.txt", "").text("classes.txt", "cat\n")
    result = collected.run()
    assert (result.summary["background"], result.summary["unlabelled"], result.entries) == (1, 0, [])


def test_yolo_label_files_anywhere(collected: Collected) -> None:
    collected.image("pictures/x/1.jpg").image("pictures/y/1.jpg").image("IMG_2.JPG").image("images/t/3.jpg")
    collected.text("txt/x/1.txt", ROW).text("txt/y/1.txt", "0 .5 .5 .4 .4").text("img_2.TXT", ROW).text("labels/t/3.txt", ROW)
    collected.text("README.txt", "5 images of my cat").text("notes.txt", "")
    result = collected.run()
    assert [(box[0], box[2]) for box in result.boxes()] == [
        ("IMG_2.JPG", 40),
        ("images/t/3.jpg", 40),
        ("pictures/x/1.jpg", 40),
        ("pictures/y/1.jpg", 30),
    ]
    assert result.reasons() == {"file converted: class_names_invented": 1}
    assert "no file lists class names: they are called class_0" in result.warnings[0]


def test_yolo_one_label_file_for_two_images(collected: Collected) -> None:
    collected.image("images/a.jpg").image("images/a.png").text("labels/a.txt", ROW).image("images/b.jpg").text(
        "labels/b.txt", ROW
    )
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["images/b.jpg"]
    details = {entry.detail for entry in result.entries if (entry.item, entry.reason) == ("image", "ambiguous_image")}
    assert details == {"may be images/a.jpg or images/a.png"}
    assert result.summary["images"] == 1


def test_yolo_names_from_the_params(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", ROW)
    assert collected.run().dataset.class_names == ("class_0",)
    assert collected.run(options={"names": ["cat", "dog"]}).dataset.class_names == ("cat", "dog")


def test_yolo_class_lists_that_disagree(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", ROW).text("data.yaml", "names: [cat, dog]").text("classes.txt", "dog\ncat\n")
    result = collected.run()
    assert result.dataset.class_names == ("cat", "dog")
    assert result.reasons() == {"file kept: other_class_names": 1}
    collected.text("copy/data.yaml", "names: [dog, cat]")
    with pytest.raises(DataError, match=r"copy/data\.yaml: its class names differ from those in data\.yaml"):
        collected.run()


def test_yolo_a_name_that_is_listed_twice_is_one_class(collected: Collected) -> None:
    collected.image("a.jpg").text("a.txt", ROW + "2 .5 .5 .4 .4\n").text("classes.txt", "cat\ndog\ncat\n")
    result = collected.run()
    assert [box[1] for box in result.boxes()] == ["cat", "cat"]
    assert result.reasons() == {"file converted: duplicate_class_name": 1}


def test_darknet_without_a_data_file(collected: Collected) -> None:
    for number in (1, 2, 3):
        collected.image(f"obj/{number}.jpg").text(f"obj/{number}.txt", ROW)
    collected.text("obj.names", "x\n").text("train.txt", "data/obj/1.jpg\ndata/obj/2.jpg\n").text("test.txt", "data/obj/3.jpg\n")
    assert list(collected.run().splits().values()) == ["train", "train", "test"]


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("data.yaml", b"names: [a\ntrain: x", r"data\.yaml:\d: malformed YAML"),
        ("data.yaml", b"names: 5", r"data\.yaml: `names` must be a list"),
        ("data.yaml", b"names: {a: b}", r"data\.yaml: the keys of `names` must be class numbers"),
        ("obj.names", "Grün".encode("latin-1"), r"obj\.names:1: the text is not UTF-8"),
    ],
)
def test_yolo_unreadable_configurations(collected: Collected, path: str, content: bytes, message: str) -> None:
    collected.image("a.jpg").text("a.txt", ROW).data(path, content)
    for mode in ("fix", "drop"):
        with pytest.raises(DataError, match=message):
            collected.run(on_invalid=mode)


@pytest.mark.parametrize("number", ["nan", "inf", "-1e999"])
@pytest.mark.parametrize("place", range(6))
def test_yolo_polygon_with_a_number_that_is_none(collected: Collected, number: str, place: int) -> None:
    """Whichever corner it stands in: `min` and `max` pass over a NaN or not, by its place."""
    corners = [".1", ".1", ".2", ".4", ".3", ".3"]
    corners[place] = number
    collected.image("a.jpg").text("a.txt", f"0 {' '.join(corners)}\n{ROW}")
    result = collected.run(on_invalid="drop")
    assert result.boxes() == [("a.jpg", "class_0", *EDGES)]
    assert result.reasons()["box dropped: not_finite"] == 1


@pytest.mark.parametrize("config", ["nc: {}", "names: [x]\nkpt_shape: [{}, 3]", "names:\n  ? {}\n  : x"])
def test_yolo_config_with_a_number_of_thousands_of_digits(collected: Collected, config: str) -> None:
    """It matters to this format alone: `detect` of every other tree sees the file, too."""
    collected.image("a.jpg").text("data.yaml", config.format("9" * 5000)).voc("a.xml", "a.jpg", [("x", 1, 1, 9, 9)])
    assert collected.run().summary["format"] == "voc"
    (collected.files / "a.xml").unlink()
    collected.text("a.txt", ROW)
    with pytest.raises(DataError) as error:
        collected.run(format="yolo")
    (problem,) = error.value.problems
    assert problem.startswith("data.yaml: ")
    assert len(problem) < 200


def test_yolo_list_that_is_not_utf8(collected: Collected) -> None:
    collected.image("ä.jpg").data("train.txt", "ä.jpg\n".encode("latin-1")).voc("ä.xml", "ä.jpg", [("x", 1, 1, 9, 9)])
    assert collected.run().summary["format"] == "voc", "another format's tree is not held up by it"
    collected.text("ä.txt", ROW)
    (collected.files / "ä.xml").unlink()
    with pytest.raises(DataError) as error:
        collected.run()
    assert list(error.value.problems) == ["train.txt:1: the text is not UTF-8"]


def test_yolo_list_of_names_with_spaces(collected: Collected) -> None:
    for name in (" lead", "lead", "trail "):
        collected.image(f"{name}.jpg").text(f"{name}.txt", ROW)
    collected.text("train.txt", " lead.jpg\ntrail .jpg\n").text("val.txt", "lead.jpg  \n")
    assert collected.run().splits() == {" lead.jpg": "train", "lead.jpg": "val", "trail .jpg": "train"}
