"""One augmented copy of one image, by albumentations 2.0.8, the last release under the MIT licence.

Every transform of the list gets its own random generator, made from (seed, image content, copy, place in the list). Two reasons:
a copy then depends on nothing else, and `Compose.set_random_seed` hands the same seed to every transform, so that with equal `p`
either all of them fire or none. The transforms are therefore called one by one; boxes are passed as albumentations keeps them
(float64 shares of width and height, with a fifth column that says which box it was), and visibility is counted here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import blake3
import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area, clip
from pipeline.detections import Image
from pipeline.errors import MissingDependency
from pipeline.pixels.options import (
    NEUTRAL_GREY,
    Blur,
    Brightness,
    Cutout,
    Exposure,
    Flip,
    Hue,
    Noise,
    RandomCrop,
    Rotate,
    Transform,
)

MAX_DRAWS = 20
"""How often a copy is drawn again in which no transform fired."""


@dataclass(frozen=True)
class Copy:
    """An augmented image.

    Attributes:
        image: RGB uint8 (H, W, 3), of the original's size.
        boxes: (N, 4) pixel edges of all the original's boxes, cut to the image.
        visible: (N,) the share of each box that can still be seen: what geometry left of it, less what a cutout hides.
        applied: names of the transforms that fired.
    """

    image: Image
    boxes: Boxes
    visible: NDArray[np.float64]
    applied: tuple[str, ...]


def albumentations() -> ModuleType:
    """The library, without its request to PyPI for a newer version.

    Raises:
        MissingDependency: it cannot be imported, which must not pass for "no augmentation wanted".
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        import albumentations as library
    except ImportError as error:
        raise MissingDependency(
            f"albumentations cannot be imported: {error}", "Install the project's requirements again, or set augment.copies: 0."
        ) from error
    return cast(ModuleType, library)


def augment(image: Image, boxes: Boxes, transforms: tuple[Transform, ...], seed: int, content: str, copy: int) -> Copy:
    """Draw copy number `copy` (from 1) of an image.

    Args:
        image: RGB uint8 (H, W, 3).
        boxes: (N, 4) pixel edges.
        content: hash of the image file.
    """
    for draw in range(MAX_DRAWS):
        chosen = []
        for place, transform in enumerate(transforms):
            generator = _generator(seed, content, copy, draw, place)
            if generator.random() < transform.options.p:
                chosen.append((transform, generator))
        if chosen:
            break
    result = Copy(image, boxes, np.ones(len(boxes)), tuple(transform.name for transform, _ in chosen))
    for transform, generator in chosen:
        for step in _build(transform, image.shape[0], image.shape[1], generator):
            result = _apply(step, result, generator)
    return result


def _generator(*parts: object) -> np.random.Generator:
    digest = blake3.blake3("/".join(str(part) for part in parts).encode()).digest(16)
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _build(transform: Transform, height: int, width: int, generator: np.random.Generator) -> list[Any]:
    """The albumentations transforms of one list entry, for an image of this size, certain to fire."""
    build = cast(Callable[..., list[Any]], _BUILDERS[transform.name])
    return build(albumentations(), transform.options, height, width, generator)


def _apply(step: Any, before: Copy, generator: np.random.Generator) -> Copy:
    step.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311 - pictures, not secrets
    height, width = before.image.shape[:2]
    library = albumentations()
    if isinstance(step, library.CoarseDropout):
        image = step(image=before.image)["image"]
        return Copy(image, before.boxes, before.visible * (1 - _hidden(before.boxes, step.params["holes"])), before.applied)
    if not isinstance(step, library.DualTransform):
        return Copy(step(image=before.image)["image"], before.boxes, before.visible, before.applied)
    scale = np.array([width, height, width, height], dtype=np.float64)
    rows = np.column_stack([before.boxes / scale, np.arange(len(before.boxes))])
    after = step(image=before.image, bboxes=rows)
    moved, visible = np.zeros_like(before.boxes), np.zeros(len(before.boxes))
    kept = np.asarray(after["bboxes"], dtype=np.float64).reshape(-1, 5)
    index = kept[:, 4].astype(np.int64)  # a box that left the image altogether may be missing: it stays at visible = 0
    whole = kept[:, :4] * scale
    moved[index] = clip(whole, width, height)
    visible[index] = np.divide(area(moved[index]), area(whole), out=np.zeros(len(whole)), where=area(whole) > 0)
    return Copy(after["image"], moved, before.visible * visible, before.applied)


def _hidden(boxes: Boxes, holes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each box that the holes (M, 4), which may overlap, cover; (N,)."""
    covered = np.zeros(len(boxes))
    for i, box in enumerate(boxes):
        edges_x = np.unique(np.clip(np.append(holes[:, 0::2].ravel(), box[0::2]), box[0], box[2]))
        edges_y = np.unique(np.clip(np.append(holes[:, 1::2].ravel(), box[1::2]), box[1], box[3]))
        x, y = (edges_x[1:] + edges_x[:-1]) / 2, (edges_y[1:] + edges_y[:-1]) / 2
        in_x = (holes[:, 0:1] <= x) & (x < holes[:, 2:3])
        in_y = (holes[:, 1:2] <= y) & (y < holes[:, 3:4])
        cells = np.outer(np.diff(edges_y), np.diff(edges_x))
        total = cells.sum()
        covered[i] = (cells * (in_y[:, :, None] & in_x[:, None, :]).any(axis=0)).sum() / total if total > 0 else 0.0
    return covered


def _brightness(library: Any, options: Brightness, *_: object) -> list[Any]:
    return [library.RandomBrightnessContrast(brightness_limit=options.limit, contrast_limit=0, p=1)]


def _exposure(library: Any, options: Exposure, *_: object) -> list[Any]:
    return [library.RandomGamma(gamma_limit=(100 * (1 - options.limit), 100 * (1 + options.limit)), p=1)]


def _blur(library: Any, options: Blur, *_: object) -> list[Any]:
    return [library.GaussianBlur(blur_limit=0, sigma_limit=(0.1, options.sigma), p=1)]


def _crop(library: Any, options: RandomCrop, height: int, width: int, _: object) -> list[Any]:
    ratio = (width / height, width / height)
    return [library.RandomResizedCrop(size=(height, width), scale=(options.min_scale, 1.0), ratio=ratio, p=1)]


def _flip(library: Any, options: Flip, height: int, width: int, generator: np.random.Generator) -> list[Any]:
    steps = []
    if options.horizontal and (not options.vertical or generator.random() < 0.5):
        steps.append(library.HorizontalFlip(p=1))
    if options.vertical and (not steps or generator.random() < 0.5):
        steps.append(library.VerticalFlip(p=1))
    return steps


def _rotate(library: Any, options: Rotate, *_: object) -> list[Any]:
    method = {"ellipse": "ellipse", "corners": "largest_box"}[options.boxes]
    # A mirrored border would show objects that have no box.
    return [library.Rotate(limit=options.degrees, border_mode=0, fill=NEUTRAL_GREY, rotate_method=method, p=1)]


def _hue(library: Any, options: Hue, *_: object) -> list[Any]:
    # OpenCV counts 8-bit hue in steps of two degrees.
    limits = {"hue_shift_limit": options.degrees / 2, "sat_shift_limit": options.saturation * 255, "val_shift_limit": 0}
    return [library.HueSaturationValue(**limits, p=1)]


def _noise(library: Any, options: Noise, *_: object) -> list[Any]:
    return [library.GaussNoise(std_range=(0, options.std), p=1)]


def _cutout(library: Any, options: Cutout, *_: object) -> list[Any]:
    sides = (options.size / 2, options.size)
    return [
        library.CoarseDropout(
            num_holes_range=(1, options.holes), hole_height_range=sides, hole_width_range=sides, fill=NEUTRAL_GREY, p=1
        )
    ]


_BUILDERS = {
    "brightness": _brightness,
    "exposure": _exposure,
    "blur": _blur,
    "crop": _crop,
    "flip": _flip,
    "rotate": _rotate,
    "hue": _hue,
    "noise": _noise,
    "cutout": _cutout,
}
