"""Preprocess: pixels and boxes go the same way, untouched files stay the same file, known content is not worked on twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import blake3
import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydantic import ValidationError

from pipeline import boxes as box_geometry
from pipeline import images, ledger
from pipeline.dataset import Dataset
from pipeline.errors import DataError, ParamsError
from pipeline.pixels import worklog
from pipeline.pixels.options import Crop, PreprocessParams, Resize
from pipeline.pixels.preprocessing import follow, output_path, plan, render
from pipeline.stage import Context
from pipeline.stages.preprocess import STAGE, run

GREY, RED = (120, 120, 120), (255, 0, 0)


def scene(width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    image = np.full((height, width, 3), GREY, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = RED
    return image


def red_extent(image: np.ndarray) -> np.ndarray:
    """Edges of the red rectangle: the pixels that it covers by at least a half."""
    redness = np.clip((image[:, :, 0].astype(float) - image[:, :, 1]) / 255, 0, 1)
    along_x, along_y = redness.max(axis=0), redness.max(axis=1)
    columns, rows = np.nonzero(along_x > 0.5)[0], np.nonzero(along_y > 0.5)[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)


@st.composite
def resizes(draw: st.DrawFn) -> Resize:
    mode = draw(st.sampled_from(["none", "stretch", "fit", "letterbox", "long_side"]))
    side = st.integers(24, 300)
    if mode == "none":
        return Resize()
    upscale = mode == "stretch" or draw(st.booleans())
    if mode == "long_side":
        return Resize(mode=mode, size=draw(side), upscale=upscale)
    return Resize(mode=mode, width=draw(side), height=draw(side), upscale=upscale)


@st.composite
def crops(draw: st.DrawFn) -> Crop:
    share = st.floats(0, 0.3)
    return Crop(left=draw(share), top=draw(share), right=draw(share), bottom=draw(share))


@settings(max_examples=150, deadline=None)
@given(st.integers(40, 300), st.integers(40, 300), st.integers(1, 8), crops(), resizes(), st.data())
def test_a_drawn_rectangle_follows_its_box(
    width: int, height: int, orientation: int, crop: Crop, resize: Resize, data: st.DataObject
) -> None:
    x1, y1 = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    x2, y2 = data.draw(st.integers(x1 + 10, width)), data.draw(st.integers(y1 + 10, height))
    stored = scene(width, height, (x1, y1, x2, y2))
    upright = images.upright(stored, orientation)
    box = box_geometry.transform(
        np.array([[x1, y1, x2, y2]], dtype=float), box_geometry.orientation_matrix(orientation, width, height)
    )

    geometry = plan(upright.shape[1], upright.shape[0], crop, resize)
    out = render(upright, geometry, PreprocessParams(crop=crop, resize=resize))
    moved, share = follow(box, geometry)

    assert out.shape[1::-1] == geometry.size
    assume(share[0] > 0 and (moved[0, 2:] - moved[0, :2] >= 3).all())
    assert np.abs(red_extent(out) - moved[0]).max() <= 1.0


@given(st.integers(1, 5000), st.integers(1, 5000), resizes())
def test_sizes_are_what_the_mode_promises(width: int, height: int, resize: Resize) -> None:
    geometry = plan(width, height, Crop(), resize)
    wanted = (resize.width, resize.height)
    if resize.mode == "none":
        assert geometry.is_identity
    elif resize.mode in ("stretch", "letterbox"):
        assert geometry.size == wanted
    elif resize.upscale:
        reached = [a == b for a, b in zip(geometry.size, (resize.size, resize.size) if resize.size else wanted, strict=True)]
        assert any(reached)
    if not resize.upscale:
        assert geometry.scaled[0] <= width
        assert geometry.scaled[1] <= height
    # The box of the whole image is the whole picture, exactly: no half-pixel offsets.
    whole, _ = follow(np.array([[0, 0, width, height]], dtype=float), geometry)
    corner = np.array(geometry.offset)
    np.testing.assert_allclose(whole[0], [*corner, *(corner + geometry.scaled)], atol=1e-9)


def test_boxes_are_cut_by_the_crop_and_say_how_much_is_left() -> None:
    geometry = plan(100, 50, Crop(left=0.5), Resize())
    moved, share = follow(np.array([[40, 10, 60, 20], [0, 0, 50, 50], [60, 0, 70, 50.0]]), geometry)
    assert geometry.size == (50, 50)
    np.testing.assert_allclose(share, [0.5, 0, 1])
    np.testing.assert_allclose(moved[[0, 2]], [[0, 10, 10, 20], [10, 0, 20, 50]])


def test_letterbox_pads_with_its_colour_after_the_contrast() -> None:
    params = PreprocessParams(resize=Resize(mode="letterbox", width=64, height=64, pad=(10, 20, 30)), contrast="equalize")
    out = render(scene(100, 50, (20, 20, 60, 40)), plan(100, 50, params.crop, params.resize), params)
    assert (out[:16] == (10, 20, 30)).all()
    assert (out[48:] == (10, 20, 30)).all()


def test_grayscale_and_contrast_do_what_they_say() -> None:
    ramp = np.repeat(np.linspace(100, 140, 200).astype(np.uint8)[None, :, None], 3, axis=2).repeat(60, axis=0)
    ramp[:, :, 0] += 10
    geometry = plan(200, 60, Crop(), Resize())
    grey = render(ramp, geometry, PreprocessParams(grayscale=True))
    assert (grey[:, :, 0] == grey[:, :, 1]).all()
    assert (grey[:, :, 1] == grey[:, :, 2]).all()
    for method in ("stretch", "equalize", "clahe"):
        out = render(ramp, geometry, PreprocessParams(contrast=method))  # type: ignore[arg-type]
        assert np.ptp(out[:, :, 1].astype(int)) > 1.3 * np.ptp(ramp[:, :, 1].astype(int)), method
        assert (out[:, :, 0].astype(int) >= out[:, :, 1].astype(int) - 1).all(), "reddish stays reddish"


def test_output_names_tell_the_format_and_stay_unique() -> None:
    taken = frozenset({"a.tif", "a.png", "a.tif.png"})
    assert output_path("Dir/IMG.JPEG", "JPEG", frozenset()) == "Dir/IMG.JPEG"
    assert output_path("x.tif", "PNG", taken) == "x.tif.png"
    assert output_path("a.tif", "PNG", taken) == "a.tif.2.png"
    assert output_path("scraped.jpg", "WEBP", taken) == "scraped.jpg.webp"
    assert output_path("a.jfif", "JPEG", taken) == "a.jfif.jpg"


# The stage


def annotated(folder: Path, files: dict[str, bytes], boxes: dict[str, list[tuple[float, ...]]] | None = None) -> Path:
    """An annotate artifact with these image files; boxes `(class, x1, y1, x2, y2)`."""
    rows, box_rows = [], []
    for number, (name, data) in enumerate(files.items()):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        try:
            header = images.read_header(path)
            size = (header.width, header.height)
        except images.UnreadableImage:
            size = (64, 48)
        rows.append({"path": name, "width": size[0], "height": size[1], "hash": blake3.blake3(data).hexdigest()})
        box_rows += [(number, *box) for box in (boxes or {}).get(name, [(0, 4, 4, 30, 20)])]
    Dataset.from_rows(["thing"], rows, box_rows).save(folder)
    return folder


def encoded(seed: int, suffix: str = ".jpg", size: tuple[int, int] = (64, 48)) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return images.encode(cv2.resize(coarse, size), suffix)


def with_orientation(data: bytes, orientation: int, path: Path) -> bytes:
    exif = PillowImage.Exif()
    exif[images.ORIENTATION_TAG] = orientation
    path.write_bytes(data)
    with PillowImage.open(path) as image:
        image.save(path, "JPEG", quality="keep", exif=exif)
    return path.read_bytes()


def preprocess(source: Path, out: Path, params: PreprocessParams | None = None, **context: Any) -> dict[str, Any]:
    return run({"annotate": source}, params or PreprocessParams(), out, Context(**context))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SMALLER = PreprocessParams(resize=Resize(mode="long_side", size=32))


def test_untouched_images_are_the_same_file(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"a/x.jpg": encoded(1), "b/x.png": encoded(2, ".png"), "c.bmp": encoded(3, ".bmp")})
    summary = preprocess(source, tmp_path / "out")
    before, after = Dataset.load(source), Dataset.load(tmp_path / "out")
    for name in before.images["path"]:
        assert (tmp_path / "out/images" / name).samefile(source / "images" / name)
    assert after.images["hash"].tolist() == before.images["hash"].tolist()
    assert (after.images["dhash"].str.len() == 128).all()
    assert after.boxes.equals(before.boxes)
    assert (summary["images_unchanged"], summary["images_processed"], summary["ledger"]) == (3, 3, {})
    assert images.decode(source / "images/a/x.jpg") is not None


def test_changed_images_keep_name_source_and_group_and_get_a_new_hash(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"a/x.jpg": encoded(1)}, {"a/x.jpg": [(0, 8, 12, 40, 36)]})
    preprocess(source, tmp_path / "out", SMALLER)
    out = Dataset.load(tmp_path / "out")
    row = out.images.iloc[0]
    data = (tmp_path / "out/images/a/x.jpg").read_bytes()
    assert (row["path"], row["source_id"], row["width"], row["height"]) == ("a/x.jpg", "a/x.jpg", 32, 24)
    assert row["hash"] == blake3.blake3(data).hexdigest()
    np.testing.assert_allclose(out.edges_of(0)[0], [[4, 6, 20, 18]])


def test_a_rotated_photo_is_turned_for_good_or_kept_with_its_tag(tmp_path: Path) -> None:
    photo = with_orientation(encoded(1), 6, tmp_path / "photo.jpg")
    source = annotated(tmp_path / "in", {"photo.jpg": photo})
    preprocess(source, tmp_path / "turned")
    header = images.read_header(tmp_path / "turned/images/photo.jpg")
    assert (header.width, header.height, header.orientation) == (48, 64, 1)
    difference = images.decode(tmp_path / "turned/images/photo.jpg").astype(int) - images.decode(source / "images/photo.jpg")
    assert np.abs(difference).mean() < 2
    assert [entry.reason for entry in ledger.read(tmp_path / "turned")] == ["exif_orientation"]

    preprocess(source, tmp_path / "kept", PreprocessParams(auto_orient=False))
    assert (tmp_path / "kept/images/photo.jpg").read_bytes() == photo
    assert Dataset.load(tmp_path / "kept").boxes.equals(Dataset.load(tmp_path / "turned").boxes)


def test_odd_formats_become_png_without_a_clash_of_names(tmp_path: Path) -> None:
    PillowImage.fromarray(np.full((48, 64), 30_000, np.uint16)).save(tmp_path / "wide.tif")
    cmyk = tmp_path / "cmyk.jpg"
    PillowImage.new("CMYK", (64, 48), (0, 200, 200, 0)).save(cmyk)
    source = annotated(
        tmp_path / "in",
        {"a.tif": (tmp_path / "wide.tif").read_bytes(), "a.png": encoded(1, ".png"), "c.jpg": cmyk.read_bytes()},
    )
    summary = preprocess(source, tmp_path / "out")
    out = Dataset.load(tmp_path / "out")
    assert out.images["path"].tolist() == ["a.tif.png", "a.png", "c.jpg"]
    assert out.images["source_id"].tolist() == ["a.tif", "a.png", "c.jpg"]
    assert all(images.read_header(tmp_path / "out/images" / name).is_plain for name in out.images["path"])
    assert summary["ledger"] == {"image converted: pixel_format": 2}


BAD = {"cut.jpg": encoded(9)[:500], "empty.png": b"", "text.jpg": b"<html>"}


def test_unreadable_images_are_left_out_and_accounted_for(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"good.jpg": encoded(1), **BAD})
    warnings: list[str] = []
    summary = preprocess(source, tmp_path / "out", warn=warnings.append)
    assert Dataset.load(tmp_path / "out").images["path"].tolist() == ["good.jpg"]
    entries = ledger.read(tmp_path / "out")
    dropped = {entry.path: entry.reason for entry in entries if entry.item == "image"}
    assert dropped == {"cut.jpg": "truncated", "empty.png": "empty_file", "text.jpg": "not_an_image"}
    assert summary["ledger"]["box dropped: image_dropped"] == 3
    assert "3 of 4 images" in warnings[0]
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["good.jpg"]


def test_unreadable_images_stop_the_run_when_asked_all_named_at_once(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"good.jpg": encoded(1), **BAD})
    with pytest.raises(DataError, match="3 of 4") as caught:
        preprocess(source, tmp_path / "out", PreprocessParams(on_invalid="error"))
    assert caught.value.problems == ("cut.jpg: truncated", "empty.png: empty_file", "text.jpg: not_an_image")


def test_a_data_set_of_nothing_but_bad_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="None of the images"):
        preprocess(annotated(tmp_path / "in", BAD), tmp_path / "out")


def test_every_box_goes_out_or_stands_in_the_ledger(tmp_path: Path) -> None:
    boxes = [(0, 0, 0, 10, 48), (0, 20, 0, 40, 40), (0, 40, 10, 60, 30), (0, 50, 10, 52, 12)]
    source = annotated(tmp_path / "in", {"a.jpg": encoded(1)}, {"a.jpg": boxes})
    params = PreprocessParams.model_validate({"crop": {"unit": "pixels", "left": 32}, "min_area": {"pixels": 16}})
    summary = preprocess(source, tmp_path / "out", params)
    assert Dataset.load(tmp_path / "out").edges_of(0)[0].tolist() == [[0, 0, 8, 40], [8, 10, 28, 30]]
    expected = {"box clipped: outside_crop": 1, "box dropped: below_min_area": 1, "box dropped: outside_crop": 1}
    assert summary["ledger"] == expected


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {f"{i}.jpg": encoded(i) for i in range(12)})
    for workers in (1, 4):
        preprocess(source, tmp_path / f"out{workers}", SMALLER, workers=workers)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out4")


def test_one_new_image_means_one_image_of_work(tmp_path: Path) -> None:
    files = {f"{i}.jpg": encoded(i) for i in range(6)}
    preprocess(annotated(tmp_path / "in1", files), tmp_path / "v1", SMALLER)
    # Other order, one file renamed, one removed, one added.
    later = {"renamed/5.jpg": files["5.jpg"], **{name: files[name] for name in ("3.jpg", "1.jpg", "0.jpg", "2.jpg")}}
    source = annotated(tmp_path / "in2", {**later, "new.jpg": encoded(99)})
    summary = preprocess(source, tmp_path / "v2", SMALLER, previous=tmp_path / "v1")
    assert (summary["images_processed"], summary["images_reused"]) == (1, 5)
    assert (tmp_path / "v2/images/renamed/5.jpg").samefile(tmp_path / "v1/images/5.jpg")

    preprocess(source, tmp_path / "fresh", SMALLER)
    assert contents(tmp_path / "v2") == contents(tmp_path / "fresh")


def test_equal_content_is_worked_on_once(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"a.jpg": encoded(1), "b/a.jpg": encoded(1)})
    summary = preprocess(source, tmp_path / "out", SMALLER)
    assert (summary["images"], summary["images_processed"]) == (2, 1)


def test_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {f"{i}.jpg": encoded(i) for i in range(6)})
    preprocess(source, tmp_path / "whole", SMALLER)

    class Killed(BaseException):
        pass

    done = []

    def advance(n: int = 1, **info: object) -> None:
        done.append(n)
        if len(done) == 3:
            raise Killed

    class Bar:
        def __enter__(self) -> Any:
            return advance

        def __exit__(self, *error: object) -> None:
            return None

    with pytest.raises(Killed):
        preprocess(source, tmp_path / "out", SMALLER, progress=lambda label, total: Bar())
    with (tmp_path / "out" / worklog.NAME).open("a", encoding="utf-8") as stream:
        stream.write('{"key": "half a li')
    summary = preprocess(source, tmp_path / "out", SMALLER)
    assert (summary["images_processed"], summary["images_reused"]) == (3, 3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_log_torn_within_a_character_and_odd_line_ends(tmp_path: Path) -> None:
    rows = [{"key": "1", "file": "ä\u2028.jpg"}, {"key": "2", "file": "b\x85.jpg"}]
    for row in rows:
        images.save(tmp_path / "images" / row["file"], scene(8, 8, (1, 1, 2, 2)), 90)
        worklog.WorkLog(tmp_path, None).add(row)
    with (tmp_path / worklog.NAME).open("ab") as stream:
        stream.write('{"key": "3", "file": "ä'.encode()[:-1])
    log = worklog.WorkLog(tmp_path, None)
    assert [log.find(key) for key in "123"] == [
        (tmp_path / "images" / rows[0]["file"], rows[0]),
        (tmp_path / "images" / rows[1]["file"], rows[1]),
        None,
    ]


def test_inputs_are_never_written_through(tmp_path: Path) -> None:
    source = annotated(tmp_path / "in", {"a.jpg": encoded(1), "b.png": encoded(2, ".png")})
    before = contents(source)
    preprocess(source, tmp_path / "v1")
    preprocess(source, tmp_path / "v1", SMALLER)  # the same folder, now with other pixels under the same names
    assert contents(source) == before


# Params


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resize": {"mode": "letterbox"}}, "needs height and width"),
        ({"resize": {"mode": "fit", "width": 64, "height": 64, "size": 64}}, "does not use size"),
        ({"resize": {"mode": "squash"}}, "'none', 'stretch', 'fit'"),
        ({"resize": {"mode": "long_side", "size": 0}}, "greater than or equal to 1"),
        ({"resize": {"width": "640"}}, "valid integer"),
        ({"crop": {"left": 0.5, "right": 0.5}}, "less than 1"),
        ({"crop": {"unit": "pixels", "left": 0.5}}, "whole numbers"),
        ({"contrast": "more"}, "'none', 'stretch', 'equalize' or 'clahe'"),
        ({"min_visibility": 1.5}, "less than or equal to 1"),
        ({"greyscale": True}, "Extra inputs"),
    ],
)
def test_params_that_cannot_be_meant_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PreprocessParams.model_validate(values)


def test_params_as_they_come_from_yaml() -> None:
    text = '{"resize": {"mode": "letterbox", "width": 640, "height": 640, "pad": [0, 0, 0]}, "crop": {"top": 0}}'
    assert PreprocessParams.model_validate(json.loads(text)).resize.pad == (0, 0, 0)


def test_a_crop_in_pixels_that_leaves_nothing_names_the_key_and_the_image_size() -> None:
    with pytest.raises(ParamsError, match=r"preprocess\.crop leaves nothing of an image of 64x48"):
        plan(64, 48, Crop(unit="pixels", left=40, right=24), Resize())


def test_the_record_names_its_input_and_libraries() -> None:
    assert STAGE.inputs == ("annotate",)
    assert "pillow" in STAGE.libraries
