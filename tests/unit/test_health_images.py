from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import images as pixels
from pipeline.dataset import Dataset
from pipeline.health import images
from pipeline.health.findings import Finding
from pipeline.stage import Context


def photo(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """Blobs of colour, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def dataset(folder: Path, paths: Iterable[str], boxes: Iterable[tuple[float, ...]] = (), **columns: object) -> Dataset:
    """A data set of files that exist, with the sizes that they have; those that cannot be read count as 64x48."""
    rows = []
    for path in paths:
        try:
            header = pixels.read_header(folder / path)
            size = {"width": header.width, "height": header.height}
        except pixels.UnreadableImage:
            size = {"width": 64, "height": 48}
        rows.append({"path": path, **size, **columns})
    return Dataset.from_rows(["thing"], rows, boxes)


def check(folder: Path, data: Dataset, stored: Iterable[str] = (), unlabelled: Iterable[str] = ()) -> dict[str, Finding]:
    looks = images.look_at_all(data, folder, Context(workers=2))
    return {found.code: found for found in images.check(data, looks, frozenset(stored), frozenset(unlabelled))}


def paths_of(found: Finding) -> list[str]:
    return [item.path for item in found.items]


def test_damaged_files_are_told_with_the_reason(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image at all", encoding="utf-8")
    Image.new("1", (20_000, 11_000)).save(tmp_path / "bomb.png")
    found = check(
        tmp_path, dataset(tmp_path, ["bomb.png", "cut.jpg", "empty.jpg", "text.jpg", "whole.jpg"], [(4, 0, 1, 1, 9, 9)])
    )
    assert [(item.path, item.detail) for item in found["image_unreadable"].items] == [
        ("cut.jpg", "truncated"),
        ("empty.jpg", "empty file"),
        ("text.jpg", "not an image"),
    ]
    assert paths_of(found["image_bomb"]) == ["bomb.png"]


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    data = Dataset.from_rows(["thing"], [{"path": "gone.jpg", "width": 9, "height": 9}], [])
    assert check(tmp_path, data)["image_unreadable"].items[0].detail == "missing"


def test_a_suffix_that_lies_is_told_and_spellings_of_the_same_are_not(tmp_path: Path) -> None:
    for name, kind in (
        ("a.jpg", "PNG"),
        ("b.JPEG", "JPEG"),
        ("c.tiff", "TIFF"),
        ("d.dib", "BMP"),
        ("e.png", "GIF"),
        ("f.ppm", "PPM"),
    ):
        photo(1).save(tmp_path / name, kind)
    found = check(tmp_path, dataset(tmp_path, ["a.jpg", "b.JPEG", "c.tiff", "d.dib", "e.png", "f.ppm"]))
    assert [(item.path, item.detail) for item in found["image_wrong_suffix"].items] == [("a.jpg", "is PNG"), ("e.png", "is GIF")]


def test_odd_pixel_formats_are_told_each_by_its_code(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20).save(tmp_path / "deep.png")
    cv2.imwrite(str(tmp_path / "deep_colour.png"), np.asarray(photo(1)).astype(np.uint16) * 257)
    photo(2).convert("CMYK").save(tmp_path / "print.jpg")
    photo(3).quantize(16).save(tmp_path / "palette.png")
    photo(4).convert("RGBA").save(tmp_path / "alpha.png")
    photo(5).convert("L").save(tmp_path / "grey.jpg")
    found = check(tmp_path, dataset(tmp_path, sorted(path.name for path in tmp_path.iterdir())))
    codes = ("image_wide_samples", "image_cmyk", "image_palette", "image_alpha")
    assert [paths_of(found[code]) for code in codes] == [
        ["deep.png", "deep_colour.png"],
        ["print.jpg"],
        ["palette.png"],
        ["alpha.png"],
    ]
    assert found.keys() == {*codes, "image_background"}  # grey photos are fine


def test_extreme_sizes_shapes_and_even_pictures_are_told(tmp_path: Path) -> None:
    photo(0, 31, 200).save(tmp_path / "small.png")
    photo(1, 700, 100).save(tmp_path / "long.png")
    photo(2, 600, 100).save(tmp_path / "less long.png")
    noise = np.random.default_rng(0).integers(126, 130, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "even.jpg")
    page = np.full((480, 640, 3), 255, np.uint8)
    page[200:220, 300:330] = 0  # something small on white paper is something
    Image.fromarray(page).save(tmp_path / "page.png")
    found = check(tmp_path, dataset(tmp_path, ["even.jpg", "less long.png", "long.png", "page.png", "small.png"]))
    assert paths_of(found["image_small"]) == ["small.png"]
    assert paths_of(found["image_aspect"]) == ["long.png", "small.png"]
    assert [(item.path, item.detail) for item in found["image_blank"].items] == [("even.jpg", "grey level 128 of 255 all over")]


def test_a_size_that_is_not_that_of_the_file_is_an_error(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.png")
    data = Dataset.from_rows(["thing"], [{"path": "a.png", "width": 48, "height": 64}], [])
    assert check(tmp_path, data)["size_mismatch"].items[0].detail == "listed as 48x64, the file is 64x48"


def turned(path: Path, seed: int) -> None:
    exif = Image.Exif()
    exif[pixels.ORIENTATION_TAG] = 6
    photo(seed).save(path, exif=exif)


def test_turned_photos_labelled_in_both_frames_are_told_the_fewer_of_them(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(4)]
    for number, name in enumerate(names):
        turned(tmp_path / name, number)
    boxes = [(i, 0, 1, 1, 20, 20) for i in range(3)]  # the last one is not labelled, and says nothing
    data = dataset(tmp_path, names, boxes)
    assert "exif_mixed" not in check(tmp_path, data)
    assert "exif_mixed" not in check(tmp_path, data, stored=names)
    found = check(tmp_path, data, stored=["1.jpg"])["exif_mixed"]
    assert (found.count, found.items[0].path, found.detail) == (1, "1.jpg", "2 upright, 1 as stored")


def test_background_is_what_labels_call_empty_and_not_what_they_forgot(tmp_path: Path) -> None:
    for number in range(3):
        photo(number).save(tmp_path / f"{number}.png")
    data = dataset(tmp_path, ["0.png", "1.png", "2.png"], [(0, 0, 1, 1, 9, 9)])
    found = check(tmp_path, data, unlabelled=["1.png"])["image_background"]
    assert (paths_of(found), found.detail) == (["2.png"], "33% of all images")


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        (["a/x.jpg", "a/X.jpg"], "name_case"),
        (["a/x.jpg", "a/x.png"], "name_stem"),
        (["a/x.jpg", "b/X.jpg"], "name_twice"),
        (["a/\u00fc.jpg", "a/u\u0308.jpg"], "name_case"),
    ],
)
def test_names_that_clash_elsewhere_are_told(paths: list[str], code: str) -> None:
    assert [found.code for found in images.names([*paths, "c/other.jpg"]) if found.count] == [code]


def test_pixels_are_decoded_where_their_looks_are_unknown_and_of_others_only_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "SAMPLE", 2)
    names = [f"{i}.png" for i in range(6)]
    for number, name in enumerate(names):
        photo(number).save(tmp_path / name)
    known = dataset(tmp_path, names, dhash="1" * 128, split="train")
    decoded = [look.brightness == look.brightness for look in images.look_at_all(known, tmp_path, Context())]
    assert sum(decoded) == 2
    unknown = dataset(tmp_path, names)
    looks = images.look_at_all(unknown, tmp_path, Context())
    assert [look.dhash for look in looks] == [pixels.dhash(pixels.decode_small(tmp_path / name)) for name in names]
    assert looks[0].brightness == pytest.approx(np.asarray(photo(0).convert("L")).mean(), abs=2)
