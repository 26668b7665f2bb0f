"""What the digits of the sample stand on: notes, ruled paper, tags, badges, slates, or nothing but the photo.

A sheet has pixels of its own, in which a digit is about 96 high, and a 3x3 matrix that maps their centres to those of the scene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sources import _handwriting
from pipeline.sources._handwriting import Mask

Matrix = NDArray[np.float64]
RGB = tuple[int, int, int]
Generator = np.random.Generator

STROKE_HEIGHT = 96
_HOLE = 26  # room for the hole of a tag, in sheet pixels


@dataclass(frozen=True)
class Kind:
    """A sort of sheet.

    Attributes:
        share: its weight among the sheets.
        digits: weights of one, two and three digits on it.
        margin: left and right, above and below, in sheet pixels.
        papers, inks: colours to choose from.
    """

    name: str
    share: float
    digits: tuple[float, float, float]
    margin: tuple[int, int]
    papers: tuple[RGB, ...]
    inks: tuple[RGB, ...]


_PASTELS: tuple[RGB, ...] = ((252, 226, 92), (250, 164, 178), (150, 212, 240), (176, 226, 130), (252, 188, 96))
_CARDBOARDS: tuple[RGB, ...] = ((222, 190, 142), (246, 240, 222), (204, 170, 122))
_PENS: tuple[RGB, ...] = ((24, 34, 92), (22, 22, 28), (150, 22, 34), (18, 74, 48), (70, 30, 96))
_CHALKS: tuple[RGB, ...] = ((240, 240, 232), (250, 222, 120), (246, 178, 190))
_PAINTS: tuple[RGB, ...] = ((250, 248, 240), (252, 214, 60), (180, 30, 40), (30, 50, 130))

KINDS = (
    Kind("sticky", 0.30, (0.55, 0.45, 0), (44, 46), _PASTELS, _PENS),
    Kind("ruled", 0.20, (0.2, 0.5, 0.3), (40, 44), ((248, 248, 244), (244, 240, 228)), _PENS),
    Kind("tag", 0.20, (0.3, 0.5, 0.2), (60, 30), _CARDBOARDS, _PENS[:3]),
    Kind("badge", 0.14, (1, 0, 0), (48, 48), ((250, 250, 250), (252, 240, 170)), _PENS),
    Kind("slate", 0.10, (0.2, 0.5, 0.3), (50, 46), ((38, 52, 46), (40, 42, 46)), _CHALKS),
    Kind("bare", 0.06, (1, 0, 0), (14, 14), ((0, 0, 0),), _PAINTS),
)
_SHARES = np.array([kind.share for kind in KINDS]) / sum(kind.share for kind in KINDS)


@dataclass(frozen=True)
class Mark:
    """One handwritten digit. `matrix`: stroke pixels to sheet pixels."""

    number: int
    digit: int
    matrix: Matrix


@dataclass(frozen=True)
class Sheet:
    """A piece of paper (or the like) with marks on it. `matrix`: sheet pixels to scene pixels; `grain`: seed of its texture."""

    kind: str
    width: int
    height: int
    paper: RGB
    ink: RGB
    marks: tuple[Mark, ...]
    matrix: Matrix
    grain: int


def choose(rng: Generator) -> tuple[Kind, int]:
    """A kind of sheet, and how many digits go on it."""
    kind = KINDS[rng.choice(len(KINDS), p=_SHARES)]
    return kind, 1 + int(rng.choice(3, p=kind.digits))


def write(kind: Kind, digits: list[tuple[int, int]], rng: Generator) -> Sheet:
    """A sheet of the right size with `digits` (bitmap number, digit) side by side, not yet placed."""
    margin_x, margin_y = kind.margin
    x = float(margin_x + (_HOLE if kind.name == "tag" else 0))
    marks = []
    for number, digit in digits:
        height, width = _handwriting.stroke(number).shape
        scale = STROKE_HEIGHT / height * rng.uniform(0.9, 1.08)
        angle = float(np.clip(rng.normal(0, 5), -12, 12))
        target = (x + width * scale / 2, margin_y + STROKE_HEIGHT / 2 + rng.uniform(-5, 5))
        marks.append(Mark(number, digit, similarity(scale, angle, (width / 2, height / 2), target)))
        gap = rng.uniform(14, 26)
        x += width * scale + gap
    width, height = round(x - gap + margin_x), STROKE_HEIGHT + 2 * margin_y
    if kind.name in ("sticky", "badge") and width < height:  # square, and what is written is in the middle
        shift = np.array([[1, 0, (height - width) / 2], [0, 1, 0], [0, 0, 1.0]])
        marks = [replace(mark, matrix=shift @ mark.matrix) for mark in marks]
        width = height
    paper, ink = (choices[rng.integers(len(choices))] for choices in (kind.papers, kind.inks))
    return Sheet(kind.name, width, height, paper, ink, tuple(marks), np.eye(3), int(rng.integers(2**31)))


def footprint(sheet: Sheet) -> Mask:
    """The outline of a sheet in its own pixels, 1 inside; the ink itself where there is no paper."""
    shape = np.zeros((sheet.height, sheet.width), dtype=np.float32)
    if sheet.kind == "badge":
        cv2.circle(shape, (sheet.width // 2, sheet.height // 2), min(sheet.width, sheet.height) // 2 - 2, 1.0, -1, cv2.LINE_AA)
    elif sheet.kind == "tag":
        cut, right, bottom = sheet.height // 4, sheet.width - 2, sheet.height - 2
        outline = [(cut, 1), (right, 1), (right, bottom), (cut, bottom), (1, bottom - cut), (1, cut)]
        cv2.fillPoly(shape, [np.array(outline, dtype=np.int32)], 1.0, cv2.LINE_AA)
        cv2.circle(shape, (cut, sheet.height // 2), 8, 0.0, -1, cv2.LINE_AA)
    elif sheet.kind == "bare":
        for mark in sheet.marks:
            ink = cv2.warpPerspective(_handwriting.stroke(mark.number), mark.matrix, (sheet.width, sheet.height))
            np.maximum(shape, ink, out=shape)
    else:
        shape[1:-1, 1:-1] = 1.0
    return shape


def tilt(sheet: Sheet, rng: Generator) -> Matrix:
    """A slight perspective: every corner moves by up to 5 % of the sheet."""
    corners = np.array([[0, 0], [sheet.width, 0], [sheet.width, sheet.height], [0, sheet.height]], dtype=np.float32)
    moved = corners + rng.uniform(-0.05, 0.05, (4, 2)) * min(sheet.width, sheet.height)
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)), dtype=np.float64)


def similarity(scale: float, degrees: float, origin: tuple[float, float], target: tuple[float, float]) -> Matrix:
    """Turn and scale about `origin`, which comes to lie on `target`."""
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    turn[:2, 2] = np.array(target) - turn[:2, :2] @ np.array(origin)
    return turn


def project(mask: Mask, matrix: Matrix) -> tuple[int, int, Mask]:
    """`mask`, (H, W) or (H, W, 3), seen through `matrix`, without its empty surroundings.

    Twice oversampled and averaged, because a stroke may shrink to a third of its size.

    Returns:
        left, top, mask: in whole scene pixels, possibly off the frame.
    """
    height, width = mask.shape[:2]
    corners = np.array([[[-1, -1], [width, -1], [width, height], [-1, height]]], dtype=np.float64)
    outline = cv2.perspectiveTransform(corners, matrix)[0]
    left, top = (int(value) for value in np.floor(outline.min(axis=0)))
    right, bottom = (int(value) + 1 for value in np.ceil(outline.max(axis=0)))
    doubled = np.array([[2, 0, 0.5 - 2 * left], [0, 2, 0.5 - 2 * top], [0, 0, 1]]) @ matrix
    size = (right - left, bottom - top)
    large = cv2.warpPerspective(mask, doubled, (2 * size[0], 2 * size[1]), flags=cv2.INTER_LINEAR)
    return left, top, np.asarray(cv2.resize(large, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
