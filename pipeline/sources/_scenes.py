"""The plan of every scene: which photo, which sheet lies where, and hence where every digit is.

Nothing is painted here. A scene is a photo behind sheets, each placed by a 3x3 matrix, and the boxes come from the very ink that
`_paint` draws. A video is one wide scene seen through a moving camera: the same sheets, other matrices.

Matrices map pixel centres. All choices come from the generator a caller passes, so one scene does not depend on another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sources import _handwriting, _sheets
from pipeline.sources._photos import Photo
from pipeline.sources._sheets import STROKE_HEIGHT, Generator, Matrix, Sheet, project, similarity

Size = tuple[int, int]
"""(width, height) in pixels."""

Digits = Iterator[tuple[int, int]]
"""(number of a bitmap, its digit)."""

DIGIT_HEIGHT = (0.09, 0.2)  # of a drawn digit, relative to the long side of the scene
DIGITS_PER_SCENE = (3, 9)
DIGITS_PER_FILM = 16
INK_EDGE = 0.25  # a pixel belongs to a digit when this share of it is covered
MIN_VISIBLE = 0.5  # of a digit's ink; what the frame cuts off further is not labelled
_MAX_OVERLAP = 0.06  # of a sheet's area, with the sheets below it
_TRIES = 60


@dataclass(frozen=True)
class Scene:
    """One image before it is painted. `backdrop`: photo pixels to scene pixels; `light`, `noise`: seeds for the camera."""

    photo: Photo
    width: int
    height: int
    backdrop: Matrix
    sheets: tuple[Sheet, ...]
    light: int
    noise: int


@dataclass(frozen=True)
class Label:
    """A digit in the finished image: its bitmap, pixel edges `x1, y1, x2, y2` of the upright frame, and the pixels it covers."""

    digit: int
    number: int
    box: tuple[int, int, int, int]
    ink_pixels: int


def pen(share: list[NDArray[np.int64]], rng: Generator) -> Digits:
    """Endless digits from a group's bitmaps: each digit once in every ten, each bitmap again when all of its digit are used."""
    for turn in count():
        for digit in rng.permutation(10):
            yield int(share[digit][turn % len(share[digit])]), int(digit)


def plan(photo: Photo, photo_size: Size, size: Size, wanted: int, digits: Digits, rng: Generator) -> Scene:
    """A still of `size` with `wanted` digits, or a few less where there is no room."""
    backdrop = _backdrop(photo, photo_size, size, rng)
    sheets = _place_all(size, wanted, max(size), digits, rng)
    return Scene(photo, *size, backdrop, sheets, _seed(rng), _seed(rng))


def film(photo: Photo, photo_size: Size, size: Size, frames: int, digits: Digits, rng: Generator) -> list[Scene]:
    """Frames of a camera that moves over one wide scene; sheets enter and leave."""
    width, height = size
    scale = 1.75 * max(width / photo_size[0], height / photo_size[1])
    wide = (round(photo_size[0] * scale), round(photo_size[1] * scale))
    sheets = _place_all(wide, DIGITS_PER_FILM, max(size), digits, rng)
    light = _seed(rng)
    scenes = []
    for time in np.linspace(0, 1, frames):
        centre = (0.55 * width + time * (wide[0] - 1.1 * width), wide[1] * (0.5 + 0.16 * np.sin(2.2 * np.pi * time)))
        camera = similarity(1 + 0.1 * np.sin(np.pi * time), 3 * np.sin(5 * time), centre, (width / 2, height / 2))
        moved = tuple(replace(sheet, matrix=camera @ sheet.matrix) for sheet in sheets)
        scenes.append(Scene(photo, width, height, camera @ np.diag([scale, scale, 1.0]), moved, light, _seed(rng)))
    return scenes


def labels(scene: Scene) -> list[Label]:
    """Every digit of which at least `MIN_VISIBLE` of the ink is inside the frame, with the tight box of the visible ink."""
    found = []
    for matrix, mark in ((sheet.matrix @ mark.matrix, mark) for sheet in scene.sheets for mark in sheet.marks):
        left, top, ink = project(_handwriting.stroke(mark.number), matrix)
        inked = ink >= INK_EDGE
        seen = inked[max(0, -top) : max(0, scene.height - top), max(0, -left) : max(0, scene.width - left)]
        pixels = int(seen.sum())
        if pixels == 0 or pixels < MIN_VISIBLE * inked.sum():
            continue
        rows, columns = np.flatnonzero(seen.any(axis=1)) + max(0, top), np.flatnonzero(seen.any(axis=0)) + max(0, left)
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        found.append(Label(mark.digit, mark.number, box, pixels))
    return found


def _backdrop(photo: Photo, photo_size: Size, size: Size, rng: Generator) -> Matrix:
    """Which part of the photo is seen: most of it, turned a little, or by any quarter turn if it has no up and down."""
    quarter_turns = int(rng.integers(4)) if photo.anyhow else 0
    seen = photo_size[::-1] if quarter_turns % 2 else photo_size
    scale = max(size[0] / seen[0], size[1] / seen[1]) * rng.uniform(1.08, 1.45)
    slack = np.maximum((np.array(seen) * scale - np.array(size)) / 2 - 0.03 * max(size), 0)
    x, y = np.array(size) / 2 + rng.uniform(-1, 1, 2) * slack
    return similarity(scale, 90 * quarter_turns + rng.uniform(-3, 3), (photo_size[0] / 2, photo_size[1] / 2), (x, y))


def _place_all(size: Size, wanted: int, unit: int, digits: Digits, rng: Generator) -> tuple[Sheet, ...]:
    """Sheets with `wanted` digits in all, less those that find no place; `DIGIT_HEIGHT` is relative to `unit` pixels."""
    ink_map = np.zeros((size[1], size[0]), dtype=bool)
    paper_map = np.zeros_like(ink_map)
    sheets: list[Sheet] = []
    missing = wanted
    while missing > 0:
        kind, number = _sheets.choose(rng)
        number = min(number, missing)
        missing -= number
        sheet = _sheets.write(kind, [next(digits) for _ in range(number)], rng)
        placed = _place(sheet, unit, ink_map, paper_map, rng)
        if placed is not None:
            sheets.append(placed)
    return tuple(sheets)


def _place(sheet: Sheet, unit: int, ink_map: NDArray[np.bool_], paper_map: NDArray[np.bool_], rng: Generator) -> Sheet | None:
    """The sheet where it covers no ink and little paper, turned and tilted, and entered in the maps; None if it fits nowhere."""
    height, width = ink_map.shape
    shape = _sheets.footprint(sheet)
    low, high = (share * unit / STROKE_HEIGHT for share in DIGIT_HEIGHT)
    for attempt in range(_TRIES):
        # Ever smaller: what does not fit into a full scene at first may still find a gap.
        scale = low * (high / low) ** (rng.random() * (1 - attempt / _TRIES))
        angle = float(np.clip(rng.normal(0, 9), -25, 25))
        centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        matrix = similarity(scale, angle, (sheet.width / 2, sheet.height / 2), centre) @ _sheets.tilt(sheet, rng)
        left, top, seen = project(shape, matrix)
        covered = seen > INK_EDGE
        bottom, right = top + covered.shape[0], left + covered.shape[1]
        if left < 2 or top < 2 or right > width - 2 or bottom > height - 2:
            continue
        window = np.s_[top:bottom, left:right]
        if (ink_map[window] & covered).any() or (paper_map[window] & covered).sum() > _MAX_OVERLAP * covered.sum():
            continue
        paper_map[window] |= covered
        placed = replace(sheet, matrix=matrix)
        _mark_ink(placed, ink_map)
        return placed
    return None


def _mark_ink(sheet: Sheet, ink_map: NDArray[np.bool_]) -> None:
    """Set every pixel within 3 of the sheet's ink."""
    for mark in sheet.marks:
        left, top, ink = project(_handwriting.stroke(mark.number), sheet.matrix @ mark.matrix)
        y, x = np.nonzero(cv2.dilate(ink, np.ones((7, 7), dtype=np.uint8)) > INK_EDGE)
        ink_map[np.clip(y + top, 0, ink_map.shape[0] - 1), np.clip(x + left, 0, ink_map.shape[1] - 1)] = True


def _seed(rng: Generator) -> int:
    return int(rng.integers(2**31))
