"""A data set that needs nothing but the installed packages: handwritten digits on notes, tags and slates in real photos.

For a first run without a download, a key or a question. 200 images with ten classes, all boxes known exactly; every photo is
a group of its own and no digit's bitmap occurs in two groups, so that a split by group is an honest one. Every tenth image is
stored turned, with an EXIF orientation, as phones do it, and one group is a short video. `images/<group>/<name>.jpg` comes with
one COCO file, `annotations/instances.json` (https://cocodataset.org/#format-data), whose boxes refer to the upright image.

The same options and seed give the same bytes for the same versions of numpy and OpenCV.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline import files
from pipeline.machine import version_of
from pipeline.sources import Fetched, Origin, _photos
from pipeline.stage import Context, StageParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.random import Generator

    from pipeline.sources._scenes import Label, Scene

GENERATOR = 1
"""Raise it whenever the same options and seed would give other files."""

LIBRARIES = ("scikit-learn", "scikit-image", "opencv-python", "opencv-python-headless", "numpy")
ORIENTATIONS = (6, 8, 3, 6, 8, 3, 2, 4, 5, 7)
"""Of every tenth image in turn: mostly what phones write, and the mirrored ones once each."""

JPEG_QUALITY = 90
VIDEO_FRAMES = 12
EMPTY_EVERY = 66
PORTRAITS = 0.3
_DEAL, _PEN, _SCENE = 1, 2, 3  # numpy takes [1, 2] and [1, 2, 0] for the same seed, so every use has a last number of its own


class Options(StageParams):
    """`collect.options` of the sample."""

    images: int = Field(default=200, ge=1, le=10_000, description="how many images; they are shared evenly among the groups")
    size: int = Field(default=480, ge=160, le=1920, description="long side in pixels; the short one is three quarters of it")


@dataclass(frozen=True)
class Item:
    """One image of the sample: where it goes, what is on it, and the EXIF orientation it is stored with."""

    path: str
    group: str
    scene: Scene
    labels: list[Label]
    orientation: int


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """Hash of all that decides on the bytes; reads package metadata only."""
    recipe = {"generator": GENERATOR, "seed": seed, **options.model_dump(), **{name: version_of(name) for name in LIBRARIES}}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    """Draw the images that are not in `out` yet, and write the labels.

    Raises:
        MissingDependency: scikit-learn or scikit-image is not installed.
    """
    from pipeline.sources import _paint

    photos = {}
    with context.progress("read photos and handwriting", len(_photos.PHOTOS) + 1) as advance:
        for photo in _photos.PHOTOS:
            photos[photo.name] = _photos.load(photo)
            advance()
        items = _plan(options, seed, {name: (pixels.shape[1], pixels.shape[0]) for name, pixels in photos.items()})
        advance()
    missing = [item for item in items if not (out / item.path).exists()]

    def draw(item: Item) -> None:
        _save(out / item.path, _paint.paint(item.scene, photos[item.scene.photo.name]), item.orientation)

    with context.progress("draw", len(items)) as advance, ThreadPoolExecutor(max(1, context.workers)) as pool:
        advance(len(items) - len(missing))
        for _ in pool.map(draw, missing):
            advance()
    texts = {"README.md": _readme(items), "annotations/instances.json": _coco(items)}
    for path, text in texts.items():
        files.write_text(out / path, text)
    origins = [Origin(item.path, f"made by yolo-pipeline, photo: {item.scene.photo.credit}", item.group) for item in items]
    origins += [Origin(path, "made by yolo-pipeline") for path in texts]
    return Fetched(
        files=sorted(origins, key=lambda origin: origin.path),
        license="handwriting CC BY 4.0; photos CC0, CC BY 2.0 or public domain (README.md names each)",
        homepage="https://doi.org/10.24432/C50P49",
        description=f"{len(items)} scenes with handwritten digits on real photos, made from seed {seed}",
    )


def _plan(options: Options, seed: int, photo_sizes: dict[str, tuple[int, int]]) -> list[Item]:
    """All images, in the order of their groups."""
    import numpy as np

    from pipeline.sources import _handwriting, _scenes

    shares = _handwriting.deal(len(_photos.PHOTOS), np.random.default_rng([seed, 0, 0, _DEAL]))
    items: list[Item] = []
    for group, (photo, number) in enumerate(_group_sizes(options.images)):
        digits = _scenes.pen(shares[group], np.random.default_rng([seed, group, 0, _PEN]))
        rngs = [np.random.default_rng([seed, group, index, _SCENE]) for index in range(number)]
        if photo is _photos.VIDEO_PHOTO:
            size = (options.size, options.size * 3 // 4)
            scenes = _scenes.film(photo, photo_sizes[photo.name], size, number, digits, rngs[0]) if number else []
        else:
            first = len(items)
            scenes = [_still(photo, photo_sizes, first + index, options.size, digits, rng) for index, rng in enumerate(rngs)]
        for index, scene in enumerate(scenes, start=1):
            path = f"images/{photo.name}/{photo.name}_{index:03}.jpg"
            turned, rest = divmod(len(items), 10)
            orientation = ORIENTATIONS[turned % 10] if rest == 4 and photo is not _photos.VIDEO_PHOTO else 1
            items.append(Item(path, photo.name, scene, _scenes.labels(scene), orientation))
    return items


def _still(
    photo: _photos.Photo,
    photo_sizes: dict[str, tuple[int, int]],
    position: int,
    long_side: int,
    digits: Iterator[tuple[int, int]],
    rng: Generator,
) -> Scene:
    """The scene at `position` of the whole sample: upright or across, with some digits or, rarely, none."""
    from pipeline.sources import _scenes

    short_side = long_side * 3 // 4
    size = (short_side, long_side) if rng.random() < PORTRAITS else (long_side, short_side)
    low, high = _scenes.DIGITS_PER_SCENE
    wanted = 0 if position % EMPTY_EVERY == EMPTY_EVERY // 2 else int(rng.integers(low, high + 1))
    return _scenes.plan(photo, photo_sizes[photo.name], size, wanted, digits, rng)


def _group_sizes(images: int) -> list[tuple[_photos.Photo, int]]:
    """How many images each photo gets; the video is short."""
    frames = min(VIDEO_FRAMES, images // 8)
    each, more = divmod(images - frames, len(_photos.STILL_PHOTOS))
    sizes = [(photo, each + (index < more)) for index, photo in enumerate(_photos.STILL_PHOTOS)]
    return [*sizes, (_photos.VIDEO_PHOTO, frames)]


def _save(path: Path, image: Any, orientation: int) -> None:
    """Write the upright `image` as a JPEG whose stored pixels are turned, with the tag that turns them back."""
    from pipeline import images

    # The stored frame is what the inverse orientation makes of the upright one; all but the quarter turns are their own inverse.
    stored = images.upright(image, {6: 8, 8: 6}.get(orientation, orientation))
    with files.atomic_path(path) as temporary:
        images.save(temporary, stored, JPEG_QUALITY)
        if orientation != 1:
            jpeg = temporary.read_bytes()
            temporary.write_bytes(jpeg[:2] + _exif_segment(orientation) + jpeg[2:])


def _exif_segment(orientation: int) -> bytes:
    """An APP1 segment that holds nothing but the orientation (Exif 2.32, 4.5.4: TIFF header, one directory with one SHORT)."""
    directory = b"\x00\x01" + b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0]) + b"\x00\x00\x00\x00"
    payload = b"Exif\x00\x00" + b"MM\x00\x2a\x00\x00\x00\x08" + directory
    return b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload


def _coco(items: list[Item]) -> str:
    """The labels as one COCO file: `x, y, width, height` in pixels of the upright image, file names relative to `images/`."""
    from pipeline.sources._handwriting import CLASS_NAMES

    licenses = list(_photos.LICENSES)
    pictures = [
        {
            "id": number,
            "file_name": item.path.removeprefix("images/"),
            "width": item.scene.width,
            "height": item.scene.height,
            "license": licenses.index(item.scene.photo.license) + 1,
        }
        for number, item in enumerate(items, start=1)
    ]
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, start=1):
        for label in item.labels:
            x1, y1, x2, y2 = label.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label.digit + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": label.ink_pixels,
                    "iscrowd": 0,
                }
            )
    document = {
        "info": {"description": "Handwritten digits on real photos", "version": str(GENERATOR), "contributor": "yolo-pipeline"},
        "licenses": [
            {"id": number, "name": name, "url": _photos.LICENSES[name]} for number, name in enumerate(licenses, start=1)
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "digit"} for number, name in enumerate(CLASS_NAMES, start=1)
        ],
        "images": pictures,
        "annotations": annotations,
    }
    return json.dumps(document, indent=1) + "\n"


def _readme(items: list[Item]) -> str:
    boxes = sum(len(item.labels) for item in items)
    rows = "".join(f"| {photo.name} | {photo.file} | {photo.credit} | {photo.license} |\n" for photo in _photos.PHOTOS)
    links = "".join(f"- {name}: {url}\n" for name, url in _photos.LICENSES.items())
    return README.format(images=len(items), boxes=boxes, rows=rows, links=links)


README = """# Handwritten digits on real photos

{images} images, {boxes} boxes, ten classes ("zero" to "nine"), composed by yolo-pipeline. Handwriting and photos are real, the
scenes are not: papers, shadows and light are drawn, hence every box is exact. `annotations/instances.json` is COCO; widths,
heights and boxes refer to the upright image, while some files are stored turned and carry an EXIF orientation. A folder below
`images/` is a group: one photo (or one video) whose digits occur in no other group. Keep a group on one side of a split.

## Licences

Handwriting: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, CC BY 4.0; as distributed with scikit-learn. The outlines were smoothed.

Photos, as distributed with scikit-image and scikit-learn; they were cropped, tinted, lit and written on:

| group | file | credit | licence |
|---|---|---|---|
{rows}
{links}"""
