"""Handwritten digits as pen strokes: real handwriting, from the 8x8 bitmaps that come with scikit-learn.

The bitmaps are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49): 1,797 digits of 13 people, scanned as 32x32 black and white, in which the ink of
every 4x4 block was counted. Enlarged as they are they look blurred, so the outline of the stroke is recovered from the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingDependency, how_to_install

Mask = NDArray[np.float32]
"""Coverage by ink, float32 in [0, 1], (H, W)."""

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_ZOOM = 12  # pixels of a stroke per pixel of a bitmap: strokes are then larger than they are ever drawn
_MARGIN = 2
_ROUNDS = 8
_INK = 0.25
_BLOT = 17.0  # half the width in stroke pixels beyond which a stroke has run into a blot (every tenth bitmap, above all ones)


@dataclass(frozen=True)
class Handwriting:
    """All bitmaps: `counts` (N, 8, 8) float32 in [0, 1], `digits` (N,) int64 in [0, 10)."""

    counts: NDArray[np.float32]
    digits: NDArray[np.int64]


@lru_cache(maxsize=1)
def load() -> Handwriting:
    """Read the bitmaps; exact copies are left out, so that a bitmap's number stands for its content.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingDependency("The sample needs the handwritten digits of scikit-learn.", how_to_install("sample")) from error
    bundle = load_digits()
    _, first = np.unique(bundle.data, axis=0, return_index=True)
    keep = np.sort(first)
    return Handwriting((bundle.images[keep] / 16).astype(np.float32), bundle.target[keep].astype(np.int64))


def deal(groups: int, rng: np.random.Generator) -> list[list[NDArray[np.int64]]]:
    """Share the legible bitmaps out, so that no two groups have one in common: [group][digit] -> numbers, in random order."""
    digits = load().digits
    legible = np.array([_half_width(stroke(number)) < _BLOT for number in range(len(digits))])
    shuffled = [rng.permutation(np.flatnonzero(legible & (digits == digit))) for digit in range(10)]
    return [[numbers[group::groups] for numbers in shuffled] for group in range(groups)]


@lru_cache(maxsize=4096)
def stroke(number: int) -> Mask:
    """Bitmap `number` as a smooth stroke, cut to its ink; about 96 px high.

    The outline is found by iterative back-projection (Irani & Peleg, 1991): enlarge, sharpen towards ink or paper, count again as
    was done with the scan, and add the enlarged difference, until the counts agree.
    """
    counts = np.pad(load().counts[number], _MARGIN)
    small, large = counts.shape, (counts.shape[0] * _ZOOM, counts.shape[1] * _ZOOM)
    level = cv2.resize(counts, large, interpolation=cv2.INTER_CUBIC)
    for _ in range(_ROUNDS):
        error = counts - cv2.resize(_sharpen(level, 10), small, interpolation=cv2.INTER_AREA)
        level = level + 0.8 * cv2.resize(error, large, interpolation=cv2.INTER_CUBIC)
        level = cv2.GaussianBlur(level, (0, 0), 2.0)
    ink = _sharpen(level, 20)
    rows, columns = np.flatnonzero((ink > _INK).any(axis=1)), np.flatnonzero((ink > _INK).any(axis=0))
    return np.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _half_width(ink: Mask) -> float:
    """Radius in pixels of the largest disc inside a stroke."""
    inside = cv2.copyMakeBorder((ink > 0.5).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return float(cv2.distanceTransform(inside, cv2.DIST_L2, 3).max())


def _sharpen(level: Mask, steepness: float) -> Mask:
    return np.asarray(1 / (1 + np.exp(-steepness * (level - 0.5))), dtype=np.float32)
