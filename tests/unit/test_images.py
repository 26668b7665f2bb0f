"""The decoder, against files of every kind that data sets hold, whole and damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from pipeline import images
from pipeline.detections import Image
from pipeline.images import UnreadableImage
from pipeline.neighbours import near_groups, parse

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of cut-off TIFFs

WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def picture() -> PillowImage.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return PillowImage.fromarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


LAYOUTS = {
    "rgb.jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True}),
    "grey.jpg": ("L", {}),
    "cmyk.jpg": ("CMYK", {}),
    "rgb.png": ("RGB", {}),
    "rgba.png": ("RGBA", {}),
    "palette.png": ("P", {}),
    "grey_alpha.png": ("LA", {}),
    "one_bit.png": ("1", {}),
    "rgb.bmp": ("RGB", {}),
    "palette.bmp": ("P", {}),
    "rgb.webp": ("RGB", {}),
    "lossless.webp": ("RGB", {"lossless": True}),
    "rgb.tif": ("RGB", {}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}),
    "jpeg_inside.tif": ("RGB", {"compression": "jpeg"}),
    "cmyk.tif": ("CMYK", {}),
    "fax.tif": ("1", {"compression": "group4"}),
    "rgb.ppm": ("RGB", {}),
    "grey.pgm": ("L", {}),
}
PLAIN = {"rgb.jpg", "progressive.jpg", "grey.jpg", "rgb.png", "rgb.bmp", "rgb.webp", "lossless.webp"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_becomes_what_pillow_makes_of_it(name: str, picture: PillowImage.Image, tmp_path: Path) -> None:
    mode, options = LAYOUTS[name]
    path = tmp_path / name
    picture.convert(mode).save(path, **options)
    header = images.read_header(path)
    decoded = images.decode(path, header)
    with PillowImage.open(path) as reference:
        np.testing.assert_array_equal(decoded, np.asarray(reference.convert("RGB")))
    assert decoded.dtype == np.uint8
    assert (header.width, header.height, header.orientation) == (WIDTH, HEIGHT, 1)
    assert header.is_plain == (name in PLAIN)


def test_transparency_of_a_palette_is_dropped(picture: PillowImage.Image, tmp_path: Path) -> None:
    picture.quantize(16).save(tmp_path / "a.png", transparency=3)
    with PillowImage.open(tmp_path / "a.png") as reference:
        np.testing.assert_array_equal(images.decode(tmp_path / "a.png"), np.asarray(reference.convert("RGBA"))[:, :, :3])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_wide_grey_samples_are_scaled_by_the_depth_they_use(suffix: str, bits: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 2**bits - 1, WIDTH).astype(np.uint16)
    path = tmp_path / f"wide{suffix}"
    PillowImage.fromarray(np.tile(ramp, (HEIGHT, 1))).save(path)
    decoded = images.decode(path)
    np.testing.assert_allclose(decoded[0, :, 0], np.linspace(0, 255, WIDTH), atol=1.0)
    assert not images.read_header(path).is_plain


def test_a_16_bit_colour_png_is_not_taken_for_an_8_bit_one(picture: PillowImage.Image, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.asarray(picture)[:, :, ::-1].astype(np.uint16) * 257)
    header = images.read_header(path)
    assert header.mode == "RGB;16"
    assert not header.is_plain
    np.testing.assert_array_equal(images.decode(path, header), np.asarray(picture))


def test_float_samples_between_0_and_1_are_visible(tmp_path: Path) -> None:
    values = np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32), (HEIGHT, 1))
    PillowImage.fromarray(values).save(tmp_path / "f.tif")
    np.testing.assert_allclose(images.decode(tmp_path / "f.tif")[0, :, 0], np.linspace(0, 255, WIDTH), atol=1.0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_in_every_format(
    suffix: str, orientation: int, picture: PillowImage.Image, tmp_path: Path
) -> None:
    exif = PillowImage.Exif()
    exif[images.ORIENTATION_TAG] = orientation
    path = tmp_path / f"turned.{suffix}"
    picture.save(path, exif=exif)
    with PillowImage.open(path) as reference:
        expected = np.asarray(ImageOps.exif_transpose(reference))
    header = images.read_header(path)
    np.testing.assert_array_equal(images.decode(path, header), expected)
    assert (header.orientation, header.height, header.width) == (orientation, *expected.shape[:2])
    assert header.stored_size == (WIDTH, HEIGHT)


def test_exif_after_the_pixels_of_a_png_counts(picture: PillowImage.Image, tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[images.ORIENTATION_TAG] = 6
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    data = stream.getvalue()
    start = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[start : start + 4], "big")
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[start + length : end] + data[start : start + length] + data[end:]
    (tmp_path / "late.png").write_bytes(moved)
    assert images.read_header(tmp_path / "late.png").orientation == 6


def test_the_real_exif_photos_are_turned_as_two_libraries_turn_them(shared_data: Path) -> None:
    photos = sorted((shared_data / "exif").rglob("*.jpg"))
    assert len(photos) > 20
    for path in photos:
        decoded = images.decode(path)
        with PillowImage.open(path) as reference:
            np.testing.assert_array_equal(decoded, np.asarray(ImageOps.exif_transpose(reference)), err_msg=path.name)
        by_cv2 = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(decoded, by_cv2, err_msg=path.name)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("share", [0.98, 0.7, 0.3])
def test_a_file_that_is_cut_off_is_never_half_read(name: str, share: float, picture: PillowImage.Image, tmp_path: Path) -> None:
    mode, options = LAYOUTS[name]
    path = tmp_path / name
    picture.convert(mode).save(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImage, match=name) as caught:
        images.decode(path)
    assert caught.value.reason == "truncated"


def test_the_end_marker_of_a_thumbnail_does_not_make_a_cut_off_photo_whole(picture: PillowImage.Image, tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture.resize((40, 30)).save(stream, "JPEG")
    path = tmp_path / "photo.jpg"
    picture.save(path, exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + stream.getvalue())
    images.decode(path)
    data = path.read_bytes()
    assert data.count(b"\xff\xd9") == 2
    path.write_bytes(data[: len(data) // 2 + 500])
    with pytest.raises(UnreadableImage):
        images.decode(path)


def test_what_cameras_append_to_a_jpeg_does_not_matter(picture: PillowImage.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture.save(path)
    expected = images.decode(path)
    path.write_bytes(path.read_bytes() + b"\0" * 10_000)
    np.testing.assert_array_equal(images.decode(path), expected)
    picture.save(path, "MPO", save_all=True, append_images=[picture.rotate(180)])
    assert images.read_header(path).kind == "JPEG"
    np.testing.assert_array_equal(images.decode(path), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty_file"), (b"<html>Not found</html>", "not_an_image"), (b"\xff\xd8\xff\xe0", "truncated"), (b"BM", "truncated")],
)
def test_what_is_no_image_says_so(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        images.read_header(path)
    assert caught.value.reason == reason


def test_a_header_that_promises_too_much_is_refused(
    picture: PillowImage.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture.save(tmp_path / "bomb.png")
    monkeypatch.setattr(images, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(UnreadableImage) as caught:
        images.read_header(tmp_path / "bomb.png")
    assert caught.value.reason == "too_many_pixels"


def test_a_missing_file_is_not_called_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        images.decode(tmp_path / "none.jpg")


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg: cut off", "truncated")))
    assert (error.message, error.reason) == ("a.jpg: cut off", "truncated")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".jpeg", ".jfif", ".JPG"])
def test_saving_and_decoding_gives_the_picture_back(suffix: str, picture: PillowImage.Image, tmp_path: Path) -> None:
    pixels = np.asarray(picture)
    path = tmp_path / f"fotografía 写真{suffix}"
    images.save(path, pixels)
    error = np.abs(images.decode(path).astype(int) - pixels).mean()
    assert error == 0 if suffix in (".png", ".bmp") else error < 2
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpegs_keep_full_colour_resolution(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    images.save(tmp_path / "a.jpg", stripes)
    assert np.abs(images.decode(tmp_path / "a.jpg").astype(int) - stripes).mean() < 12  # with 4:2:0 they would be purple: 85


def near(one: Image, other: Image) -> bool:
    groups = near_groups(parse([images.dhash(one), images.dhash(other)]), 6)
    return bool(groups[0] == groups[1])


def page(x: int) -> Image:
    """A white page with two things on it, one of them at `x`."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    pixels[10:40, x : x + 30] = (200, 30, 30)
    pixels[70:110, 20:50] = (30, 30, 200)
    return pixels


def test_dhash_hardly_changes_with_size_encoding_and_brightness_but_with_content(picture: PillowImage.Image) -> None:
    for pixels in (np.asarray(picture), page(60)):
        assert len(images.dhash(pixels)) == 128
        assert near(pixels, cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_AREA))
        assert near(pixels, cv2.resize(pixels, (317, 241), interpolation=cv2.INTER_CUBIC))
        assert near(pixels, cv2.imdecode(np.frombuffer(images.encode(pixels, ".jpg", 40), np.uint8), cv2.IMREAD_COLOR_RGB))
        assert near(pixels, (pixels * 0.7).astype(np.uint8))
        assert near(pixels, np.ascontiguousarray(pixels[1:-1, 1:-1]))
        assert not near(pixels, pixels[::-1])
        assert not near(pixels, np.ascontiguousarray(pixels[:, ::-1]))


def test_things_elsewhere_on_an_even_background_are_another_picture() -> None:
    assert not near(page(60), page(110))
    assert not near(page(20), page(110))


def test_brightness_alone_hashes_as_the_picture_does(picture: PillowImage.Image) -> None:
    pixels = np.asarray(picture.convert("RGB"))
    grey = np.asarray(picture.convert("L"))
    for one in (grey, (16 + grey * (219 / 255)).astype(np.uint8)):  # also in the narrower range of videos
        assert near_groups(parse([images.dhash(one), images.dhash(pixels)]), 2).tolist() == [0, 0]


def test_even_pictures_have_no_strong_edges_whatever_the_noise() -> None:
    noise = np.random.default_rng(0).normal(128, 4, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for pixels in (noise, np.zeros_like(noise), np.full((1, 1, 3), 255, np.uint8)):
        assert images.dhash(pixels).startswith("0" * 64)
