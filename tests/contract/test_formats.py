"""Every label format through the same cases: real data, awkward data, and bad data."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from pipeline import formats
from pipeline.errors import DataError, PipelineError
from pipeline.images import read_header
from pipeline.labelling.fileset import FileSet
from tests.label_writers import Box, LabelWriter
from tests.labelling import Collected

FORMATS = formats.names()


# Independent of the formats' own writers: numbers exactly as given, nothing checked.
LABEL: dict[str, LabelWriter] = {name: import_module(f"tests.label_writers.{name}").label for name in FORMATS}


def holds(name: str, what: formats.Holdable) -> bool:
    return what in formats.load(name).HOLDS


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_a_format_is_a_documented_module(name: str) -> None:
    module = formats.load(name)
    assert "http" in (module.__doc__ or ""), "the docstring names the specification"
    for word in ("Units", "Quirks", "origin"):
        assert word in (module.__doc__ or "")
    assert all(callable(getattr(module, function)) for function in ("detect", "read", "Options"))
    assert set(get_args(formats.Holdable)) >= module.HOLDS
    assert hasattr(module, "write") == hasattr(module, "IMAGES")


@pytest.mark.parametrize("marked", [True, False])
def test_it_is_found_by_content(name: str, collected: Collected, marked: bool) -> None:
    label(collected, name, {"a.jpg": [("cat", 10, 10, 20, 20)]})
    result = collected.run(format="auto" if marked else name)
    assert result.summary["format"] == name
    assert result.boxes() == [("images/a.jpg", "cat", 10, 10, 20, 20)]
    assert result.summary["format_reason"]


def label(collected: Collected, name: str, labels: Mapping[str, list[Box]], names: tuple[str, ...] = ("cat", "dog")) -> Collected:
    """Labels and their images, 100x50, below `images/`."""
    for path in labels:
        collected.image(f"images/{path}")
    LABEL[name](collected, "", labels, list(names))
    return collected


def test_boxes_classes_hashes_and_files_arrive(name: str, collected: Collected) -> None:
    boxes: dict[str, list[Box]] = {
        "a.jpg": [("dog", 0, 0, 100, 50), ("cat", 1.5, 2.25, 30, 40)],
        "b.jpg": [],
        "c.jpg": [("dog", 3, 4, 5, 6)],
    }
    result = label(collected, name, boxes).run()
    assert result.boxes() == [(f"images/{path}", *box) for path, rows in boxes.items() for box in rows]
    assert result.dataset.class_names == ("cat", "dog")
    assert result.reasons() == ({} if holds(name, "background") else {"image kept: no_label_file": 1})
    assert result.summary["background"] == 1
    assert result.summary["boxes_read"] == 3
    for path, digest in zip(result.dataset.images["path"], result.dataset.images["hash"], strict=True):
        assert len(digest) == 64
        assert (result.folder / "images" / path).samefile(collected.files / path)


DEFECTS: dict[str, tuple[Box, str, Box | None]] = {
    # name: (as written, reason, as mended)
    "out of bounds": (("cat", -20, 10, 30, 90), "out_of_bounds", ("cat", 0, 10, 30, 50)),
    "inverted": (("cat", 30, 40, 10, 20), "inverted", ("cat", 10, 20, 30, 40)),
    "zero area": (("cat", 30, 20, 30, 40), "zero_area", None),
    "outside": (("cat", 130, 20, 150, 40), "outside_image", None),
    "NaN": (("cat", float("nan"), 20, 30, 40), "not_finite", None),
    "infinite": (("cat", 20, 20, float("inf"), 40), "not_finite", None),
    "repeated": (("cat", 1, 2, 3, 4), "duplicate_box", None),
}


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("mode", ["fix", "drop", "error"])
def test_defective_boxes(name: str, collected: Collected, defect: str, mode: str) -> None:
    if defect in getattr(import_module(f"tests.label_writers.{name}"), "CANNOT_SAY", ()):
        pytest.skip(f"{name} cannot say it")
    written, reason, mended = DEFECTS[defect]
    sound: Box = ("cat", 1, 2, 3, 4)
    label(collected, name, {"a.jpg": [sound, written]})
    if mode == "error":
        with pytest.raises(DataError, match=reason) as error:
            collected.run(on_invalid="error")
        assert any(path in error.value.problems[0] for path in collected_files(collected)), "the message names the file"
        return
    result = collected.run(on_invalid=mode)
    wanted = [sound, mended] if mended and mode == "fix" else [sound]
    assert [box[1:] for box in result.boxes()] == wanted
    (entry,) = result.entries
    assert (entry.item, entry.reason, entry.path) == ("box", reason, "images/a.jpg")
    assert entry.file in collected_files(collected)
    assert result.summary["boxes_read"] == 2 if entry.action == "dropped" else len(result.boxes()) == 2


def collected_files(collected: Collected) -> set[str]:
    return {path.relative_to(collected.files).as_posix() for path in collected.files.rglob("*")}


@pytest.mark.parametrize("mode", ["fix", "drop", "error"])
def test_rounding_of_other_tools_is_clipped_in_every_mode(name: str, collected: Collected, mode: str) -> None:
    label(collected, name, {"a.jpg": [("cat", -0.5, 10, 100.9, 50.003)]})
    result = collected.run(on_invalid=mode)
    assert result.boxes() == [("images/a.jpg", "cat", 0, 10, 100, 50)]
    assert result.reasons() == {"box clipped: rounding": 1}


def test_a_label_without_its_image(name: str, collected: Collected) -> None:
    if not formats.names_images(name):
        pytest.skip(f"{name} names no images")
    label(collected, name, {"a.jpg": [("cat", 1, 2, 3, 4)], "b.jpg": [("cat", 1, 2, 3, 4), ("dog", 1, 2, 3, 4)]})
    (collected.files / "images/b.jpg").unlink()
    result = collected.run()
    assert len(result.boxes()) == 1
    assert result.reasons() == {"box dropped: image_missing": 2, "image dropped: image_missing": 1}
    with pytest.raises(DataError, match="image_missing"):
        collected.run(on_invalid="error")


def test_an_image_without_a_label(name: str, collected: Collected) -> None:
    if not formats.names_images(name):
        pytest.skip(f"{name} names no images")
    label(collected, name, {"a.jpg": [("cat", 1, 2, 3, 4)]}).image("images/b.jpg")
    result = collected.run()
    assert result.summary["images"] == 2
    assert result.reasons() == {"image kept: no_label_file": 1}
    assert "Images without labels: 1" in result.warnings[0]
    result = collected.run(include_unlabelled=False)
    assert result.summary["images"] == 1
    assert result.reasons() == {"image dropped: no_label_file": 1}
    assert collected.run(include_unlabelled=False, on_invalid="error").summary["images"] == 1


def test_files_that_are_no_images(name: str, collected: Collected) -> None:
    label(collected, name, {path: [("cat", 1, 2, 3, 4)] for path in ("good.jpg", "text.jpg", "empty.jpg")})
    collected.text("images/text.jpg", "this is a text").data("images/empty.jpg", b"")
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["images/good.jpg"]
    assert {entry.path: entry.reason for entry in result.entries if entry.item == "image"} == {
        "images/empty.jpg": "empty_file",
        "images/text.jpg": "not_an_image",
    }
    assert result.summary["boxes_read"] == 3
    with pytest.raises(DataError, match="not_an_image"):
        collected.run(on_invalid="error")


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "RGBA", "P", "L", "1"])
def test_images_of_every_pixel_layout(name: str, collected: Collected, mode: str) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    LABEL[name](collected.image(f"images/a.{suffix}", mode=mode), "", {f"a.{suffix}": [("cat", 1, 2, 3, 4)]}, ["cat"])
    assert collected.run().boxes() == [(f"images/a.{suffix}", "cat", 1, 2, 3, 4)]


def test_two_files_of_one_name_in_two_folders(name: str, collected: Collected) -> None:
    collected.image("images/x/1.jpg").image("images/y/1.jpg")
    LABEL[name](collected, "", {"x/1.jpg": [("cat", 1, 1, 9, 9)], "y/1.jpg": [("dog", 2, 2, 8, 8)]}, ["cat", "dog"])
    assert collected.run().boxes() == [("images/x/1.jpg", "cat", 1, 1, 9, 9), ("images/y/1.jpg", "dog", 2, 2, 8, 8)]


def test_a_name_that_may_mean_two_files_is_never_decided_in_silence(name: str, collected: Collected) -> None:
    if not formats.names_images(name):
        pytest.skip(f"{name} names no images")
    collected.image("one/1.jpg").image("two/1.jpg").image("images/2.jpg")
    LABEL[name](collected, "", {"1.jpg": [("cat", 1, 1, 9, 9)], "2.jpg": [("cat", 1, 1, 9, 9)]}, ["cat"])
    result = collected.run()
    assert [box[0] for box in result.boxes()] == ["images/2.jpg"]
    (entry,) = [entry for entry in result.entries if (entry.item, entry.reason) == ("image", "ambiguous_image")]
    assert "one/1.jpg" in entry.detail
    assert "two/1.jpg" in entry.detail
    assert result.reasons()["image dropped: ambiguous_label"] == 2, "neither may pass for background"
    with pytest.raises(DataError, match=r"one/1.jpg or two/1.jpg"):
        collected.run(on_invalid="error")


AWKWARD = [
    "a b.jpg",
    "v1.2.final.jpg",
    "Grüße/Öl.jpg",
    "車/写真.jpg",
    "🙂.jpg",
    "IMG.JPG",
    "x" * 200 + ".jpg",
    "100%25.jpg",
    "a&b'<c.jpg",
]


@pytest.mark.parametrize("path", AWKWARD)
def test_awkward_names(name: str, collected: Collected, path: str) -> None:
    label(collected, name, {path: [("cat", 1, 2, 3, 4)]})
    assert collected.run().boxes() == [(f"images/{path}", "cat", 1, 2, 3, 4)]


def test_no_labels_at_all(name: str, collected: Collected) -> None:
    with pytest.raises(DataError, match=r"(?s)no labels.*Known formats: .*yolo"):
        collected.image("a.jpg").run()
    with pytest.raises(DataError, match=f"no {name} labels"):
        collected.image("a.jpg").run(format=name)


def test_no_images_at_all(name: str, collected: Collected) -> None:
    if not formats.names_images(name):
        pytest.skip(f"{name} names no images")
    with pytest.raises(DataError, match="There are no files in"):
        collected.run()
    LABEL[name](collected, "", {"a.jpg": [("cat", 1, 2, 3, 4)]}, ["cat"])
    with pytest.raises(DataError, match="no image among"):
        collected.run()
    collected.image("other.jpg")
    with pytest.raises(DataError, match="Not one of the labelled images is there"):
        collected.run()


@pytest.mark.parametrize("other", FORMATS)
def test_two_formats_that_fit_are_refused(name: str, other: str, collected: Collected) -> None:
    if other <= name:
        pytest.skip("each pair once")
    label(collected, name, {"a.jpg": [("cat", 1, 2, 3, 4)]})
    assert found_in(collected) == [name], "no format takes another's files for its own"
    label(collected, other, {"b.jpg": [("dog", 5, 6, 7, 8)]})
    assert found_in(collected) == [name, other]
    with pytest.raises(DataError, match=rf"(?s){name}: .*{other}: .*annotate\.format to {name} or {other}"):
        collected.run()
    if formats.names_images(other):
        assert ("images/b.jpg", "dog", 5, 6, 7, 8) in collected.run(format=other).boxes()


def found_in(collected: Collected) -> list[str]:
    files = FileSet.scan(collected.files)
    return [name for name in FORMATS if formats.load(name).detect(files)]


def test_unknown_options_are_refused(name: str, collected: Collected) -> None:
    with pytest.raises(PipelineError, match=r"annotate\.options\.onebased"):
        label(collected, name, {"a.jpg": [("cat", 1, 2, 3, 4)]}).run(format=name, options={"onebased": True})


# --- Real data --------------------------------------------------------------------------------------------------------------


def test_bccd(shared_data: Path, collected: Collected) -> None:
    result = collected.copy(shared_data / "bccd-voc").run()
    assert result.summary["format"] == "voc"
    assert (result.summary["images"], result.summary["boxes_read"], result.summary["boxes"]) == (364, 4888, 4886)
    assert result.summary["classes"] == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert result.summary["splits"] == {"train": 205, "val": 87, "test": 72}
    assert [(entry.reason, entry.where()) for entry in result.entries] == [
        ("zero_area", "BCCD/Annotations/BloodImage_00338.xml:158"),
        ("zero_area", "BCCD/Annotations/BloodImage_00343.xml:50"),
    ]


def test_traffic(shared_data: Path, collected: Collected) -> None:
    result = collected.copy(shared_data / "traffic-coco").run()
    assert result.summary["format"] == "coco"
    assert (result.summary["images"], result.summary["boxes"], result.entries) == (24, 324, [])
    assert result.summary["classes"] == {"Car": 243, "Bus": 0, "Truck": 3, "Tram": 24, "Pedestrian": 54}
    assert result.boxes()[0] == ("images/000000.jpg", "Car", 452.1, 559.85, 696.8, 717.42)


def test_sharks(shared_data: Path, collected: Collected) -> None:
    result = collected.copy(shared_data / "sharks-yolo").run()
    assert result.dataset.class_names == ("fish", "primary", "shark")
    assert result.summary["boxes"] == 43 + 17
    assert result.reasons() == {"box converted: polygon": 17}
    assert result.summary["splits"] == {"train": 7, "val": 2, "test": 1}


def test_airbird(shared_data: Path, collected: Collected) -> None:
    result = collected.copy(shared_data / "airbird-darknet").run()
    assert (result.summary["images"], result.summary["boxes"]) == (10, 35)
    assert result.summary["classes"] == {"air": 28, "bird": 7}
    assert result.summary["splits"] == {}, "train and valid are one list"
    assert result.reasons() == {
        "box clipped: rounding": 1,
        "file kept: overlapping_splits": 1,
        "image dropped: image_missing": 1,  # train.txt lists air7.jpg, which its author did not publish
    }


def test_exif_in_the_upright_frame(shared_data: Path, collected: Collected) -> None:
    collected.copy(shared_data / "exif")
    with pytest.raises(DataError, match=r"(?s)2 formats.*coco: .*yolo: "):
        collected.run()
    result = collected.run(format="coco", include_unlabelled=False)
    assert (result.summary["format"], result.summary["images"], result.summary["boxes"]) == ("coco", 19, 19)
    boxes = {path: box for path, _, *box in result.boxes()}
    assert all(boxes[f"images/Landscape_{number}.jpg"] == boxes["images/Landscape_0.jpg"] for number in range(1, 9))
    assert result.warnings == [], "photos turned by 90° show that all were drawn upright"


def test_exif_in_the_stored_frame(shared_data: Path, collected: Collected) -> None:
    collected.copy(shared_data / "exif" / "keides-stored-frame")
    stored = {path: box for path, _, *box in collected.run(frame="stored").boxes()}
    plain = stored["cell0005-orient-6_PIL.jpg"]  # the same pixels as stored, without EXIF
    turned = stored["cell0005.jpg"]  # 600x800, to be turned clockwise
    assert turned == pytest.approx([800 - plain[3], plain[0], 800 - plain[1], plain[2]], abs=1e-5)
    undecided = collected.run()
    assert undecided.reasons() == {"file converted: class_names_invented": 1, "image kept: frame_undecided": 2}
    assert read_header(undecided.folder / "frames.jpg").width > 800, "both frames of both photos, side by side"
    assert any("annotate.frame" in warning for warning in undecided.warnings)
