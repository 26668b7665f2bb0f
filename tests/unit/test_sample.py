"""The built-in sample: its bytes, boxes, groups and orientations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline import boxes, images
from pipeline.sources import Fetched, _handwriting, _paint, _photos, _scenes, _sheets, sample
from pipeline.stage import Context

OPTIONS = sample.Options(images=40, size=240)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fetched]:
    out = tmp_path_factory.mktemp("sample")
    return out, sample.fetch("", OPTIONS, 7, out, Context())


@pytest.fixture(scope="module")
def items() -> list[sample.Item]:
    sizes = {photo.name: (_photos.load(photo).shape[1], _photos.load(photo).shape[0]) for photo in _photos.PHOTOS}
    return sample._plan(OPTIONS, 7, sizes)


def coco(folder: Path) -> dict:
    return json.loads((folder / "annotations/instances.json").read_text(encoding="utf-8"))


def test_files_are_what_fetched_says(made: tuple[Path, Fetched]) -> None:
    out, fetched = made
    paths = [origin.path for origin in fetched.files]
    assert paths == sorted(tree(out))
    assert sum(path.endswith(".jpg") for path in paths) == 40
    assert all(origin.group == origin.path.split("/")[1] for origin in fetched.files if origin.path.endswith(".jpg"))
    assert "CC BY 4.0" in fetched.license


def test_same_bytes_for_any_number_of_workers_and_for_an_interrupted_run(made: tuple[Path, Fetched], tmp_path: Path) -> None:
    out, _ = made
    sample.fetch("", OPTIONS, 7, tmp_path, Context(workers=4))
    assert tree(tmp_path) == tree(out)
    lost = sorted(tmp_path.rglob("*.jpg"))[5]
    kept = sorted(tmp_path.rglob("*.jpg"))[6]
    lost.unlink()
    before = kept.stat().st_mtime_ns
    sample.fetch("", OPTIONS, 7, tmp_path, Context())
    assert tree(tmp_path) == tree(out)
    assert kept.stat().st_mtime_ns == before, "a whole file must be kept, not drawn again"


def test_another_seed_gives_other_scenes(made: tuple[Path, Fetched], tmp_path: Path) -> None:
    out, _ = made
    sample.fetch("", OPTIONS, 8, tmp_path, Context())
    ours, theirs = tree(out), tree(tmp_path)
    assert ours.keys() == theirs.keys()
    assert not any(ours[path] == theirs[path] for path in ours if path != "README.md")


def test_labels_are_valid_coco_of_the_upright_images(made: tuple[Path, Fetched]) -> None:
    out, _ = made
    document = coco(out)
    assert [category["name"] for category in document["categories"]][:3] == ["zero", "one", "two"]
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    for image in document["images"]:
        header = images.read_header(out / "images" / image["file_name"])
        assert (header.width, header.height) == (image["width"], image["height"])
        assert 1 <= image["license"] <= len(document["licenses"])
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + width <= sizes[annotation["image_id"]][0]
        assert y + height <= sizes[annotation["image_id"]][1]
        assert min(width, height) >= 3
        assert 0 < annotation["area"] <= width * height
    seen = Counter(annotation["category_id"] for annotation in document["annotations"])
    assert set(seen) == set(range(1, 11))


def test_one_image_in_ten_is_stored_turned(made: tuple[Path, Fetched]) -> None:
    out, _ = made
    turned = Counter(images.read_header(path).orientation for path in out.rglob("*.jpg"))
    assert turned == {1: 36, 6: 2, 8: 1, 3: 1}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pixels_and_tag_give_back_the_upright_image(tmp_path: Path, orientation: int) -> None:
    scene = np.zeros((48, 64, 3), dtype=np.uint8)
    scene[:24, :32], scene[:24, 32:], scene[24:, :32] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    path = tmp_path / "turned.jpg"
    sample._save(path, scene, orientation)
    with PillowImage.open(path) as stored:
        assert stored.getexif().get(0x0112, 1) == orientation
        assert stored.size == ((48, 64) if orientation >= 5 else (64, 48))
    assert np.abs(images.decode(path).astype(int) - scene).mean() < 4


def test_no_bitmap_in_two_groups(items: list[sample.Item]) -> None:
    groups = defaultdict(set)
    for item in items:
        for sheet in item.scene.sheets:
            for mark in sheet.marks:
                assert _handwriting.load().digits[mark.number] == mark.digit
                groups[mark.number].add(item.group)
    assert max(len(names) for names in groups.values()) == 1
    counts = _handwriting.load().counts
    assert len(np.unique(counts.reshape(len(counts), -1), axis=0)) == len(counts), "a bitmap's number must stand for its content"


def test_stills_hold_several_separate_digits_and_some_hold_none(items: list[sample.Item]) -> None:
    stills = [item for item in items if item.scene.photo is not _photos.VIDEO_PHOTO]
    numbers = [len(item.labels) for item in stills]
    assert numbers.count(0) == 1
    assert max(numbers) <= _scenes.DIGITS_PER_SCENE[1]
    assert np.mean(numbers) > 3
    for item in stills:
        found = np.array([label.box for label in item.labels], dtype=float).reshape(-1, 4)
        assert (boxes.iou(found, found) - np.eye(len(found))).max(initial=0) < 0.2


def test_boxes_are_tight_around_the_painted_ink(items: list[sample.Item]) -> None:
    """Paint each scene with and without its digits: what differs strongly lies inside the boxes and touches their edges."""
    for item in items[:6]:
        photo = _photos.load(item.scene.photo)
        blank = replace(item.scene, sheets=tuple(replace(sheet, marks=()) for sheet in item.scene.sheets if sheet.kind != "bare"))
        written = replace(item.scene, sheets=tuple(sheet for sheet in item.scene.sheets if sheet.kind != "bare"))
        # Noise and blur are the camera's, so both pictures have the same.
        difference = np.abs(_paint.paint(written, photo).astype(int) - _paint.paint(blank, photo)).max(axis=2)
        ink = np.zeros(difference.shape, dtype=bool)
        for label in _scenes.labels(written):
            x1, y1, x2, y2 = label.box
            ink[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = True
            inside = difference[y1:y2, x1:x2]
            for edge in (inside[:2], inside[-2:], inside[:, :2], inside[:, -2:]):
                assert edge.max() > 12
        assert (difference[~ink] > 12).sum() == 0


def test_the_video_moves_the_same_digits_through_the_frame(items: list[sample.Item]) -> None:
    frames = [item for item in items if item.scene.photo is _photos.VIDEO_PHOTO]
    assert len(frames) == 5
    assert len({sheet.grain for item in frames for sheet in item.scene.sheets}) == len(frames[0].scene.sheets)
    whole = [
        {label.number: label.box for label in item.labels if label.box[0] > 1 and label.box[2] < item.scene.width - 1}
        for item in frames
    ]
    common = [(whole[0][number], whole[1][number]) for number in whole[0].keys() & whole[1].keys()]
    assert common, "neighbouring frames must share digits"
    assert all(later[0] < earlier[0] for earlier, later in common), "the camera moves to the right"


def test_a_digit_mostly_outside_the_frame_has_no_label(items: list[sample.Item]) -> None:
    scene = next(item.scene for item in items if item.labels)
    label = _scenes.labels(scene)[0]
    x1, _, x2, _ = label.box

    def moved(by: float) -> list[_scenes.Label]:
        shift = np.array([[1, 0, by], [0, 1, 0], [0, 0, 1.0]])
        sheets = tuple(replace(sheet, matrix=shift @ sheet.matrix) for sheet in scene.sheets)
        return [found for found in _scenes.labels(replace(scene, sheets=sheets)) if found.number == label.number]

    assert moved(-x1 - 0.9 * (x2 - x1)) == []
    (cut,) = moved(-x1 - 0.1 * (x2 - x1))
    assert cut.box[0] == 0
    assert cut.box[2] < x2 - x1


def test_stroke_counts_agree_with_the_bitmap() -> None:
    """Read the recovered stroke as the scanner did: the ink in every cell is what the bitmap says."""
    for number in (0, 100, 1000):
        counts = _handwriting.load().counts[number]
        ink = _handwriting.stroke(number)
        assert ink.dtype == np.float32
        assert 60 <= ink.shape[0] <= 120
        assert ink.sum() / 144 == pytest.approx(counts.sum(), rel=0.12)


def test_project_keeps_the_place_and_the_amount_of_ink() -> None:
    mask = np.zeros((40, 60), dtype=np.float32)
    mask[10:30, 20:40] = 1
    left, top, seen = _sheets.project(mask, np.diag([0.5, 0.5, 1.0]))
    rows, columns = np.flatnonzero((seen > 0.25).any(axis=1)) + top, np.flatnonzero((seen > 0.25).any(axis=0)) + left
    assert (columns[0], rows[0], columns[-1], rows[-1]) == pytest.approx((10, 5, 19, 14), abs=1)
    assert seen.sum() == pytest.approx(100, rel=0.05)


def test_every_photo_has_a_known_licence_and_stands_in_the_readme(made: tuple[Path, Fetched]) -> None:
    readme = (made[0] / "README.md").read_text(encoding="utf-8")
    for photo in _photos.PHOTOS:
        assert photo.license in _photos.LICENSES
        assert _photos.location(photo).is_file()
        assert photo.credit in readme
    assert "{" not in readme


def test_fingerprint_follows_options_and_seed_and_stays_light(tmp_path: Path) -> None:
    context = Context()
    first = sample.fingerprint("", OPTIONS, 7, context)
    assert first == sample.fingerprint("", sample.Options(images=40, size=240), 7, context)
    others = [
        sample.fingerprint("", OPTIONS, 8, context),
        sample.fingerprint("", sample.Options(images=41, size=240), 7, context),
    ]
    assert len({first, *others}) == 3
    program = (
        "import sys; from pipeline.sources import sample; from pipeline.stage import Context;"
        "sample.fingerprint('', sample.Options(), 0, Context());"
        "sys.exit(bool({'numpy', 'cv2', 'PIL', 'sklearn', 'skimage', 'pandas'} & set(sys.modules)))"
    )
    root = Path(sample.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root).returncode == 0


@pytest.mark.parametrize("number", [1, 5, 13])
def test_tiny_samples_are_whole(tmp_path: Path, number: int) -> None:
    fetched = sample.fetch("", sample.Options(images=number, size=160), 0, tmp_path, Context())
    assert sum(origin.path.endswith(".jpg") for origin in fetched.files) == number
    assert len(coco(tmp_path)["images"]) == number
