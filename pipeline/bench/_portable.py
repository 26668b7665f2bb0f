"""What OpenCV and Pillow do before and after a network, in numpy: for machines that have neither.

A result differs from theirs by a level of 255 at most, because they round in between; it takes several times as long, so a record
says which of the two scaled its images (`image_library`). Without decoders there is no reading of photos: the pixels come from
`.npy` files.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bench import probe

OPENCV, NUMPY = "opencv", "numpy"
INTER_LINEAR = 1

Floats = NDArray[np.float32]
Pixels = NDArray[Any]


def install() -> str:
    """Let `import cv2` give this module where OpenCV and Pillow are not to be had; to be called in every process that measures,
    before anything imports `pipeline.inference`.

    Returns:
        What decodes and scales images here: "opencv" (with Pillow, for headers and classifiers) or "numpy". One of the two
        without the other counts as none: half of each would be a third kind of measurement.
    """
    if not is_installed() and not _are_there():
        sys.modules["cv2"] = sys.modules[__name__]
    return NUMPY if is_installed() else OPENCV


def is_installed() -> bool:
    """Whether this module stands in OpenCV's place."""
    return sys.modules.get("cv2") is sys.modules[__name__]


def _are_there() -> bool:
    """By importing them: a server without libGL has an OpenCV that cannot be loaded, and before 4.11 it reads no RGB."""
    cv2, pillow = probe.optional("cv2"), probe.optional("PIL.Image")
    return pillow is not None and hasattr(cv2, "IMREAD_COLOR_RGB")


def read(path: Path) -> Pixels:
    """The pixels (H, W, 3) uint8 of a `.npy` file."""
    pixels: Pixels = np.load(path, allow_pickle=False)
    return pixels


# ---- as OpenCV has them ----


def resize(image: Pixels, dsize: tuple[int, int], dst: Pixels | None = None, interpolation: int = INTER_LINEAR) -> Pixels:
    """Bilinear, as cv2.resize with INTER_LINEAR, which looks at the four nearest pixels also when it shrinks.

    Args:
        image: (H, W) or (H, W, C), uint8 or float32.
        dsize: (width, height) in pixels.
        dst: is written to where it is given.
    """
    if interpolation != INTER_LINEAR:
        raise NotImplementedError("only INTER_LINEAR")
    width, height = dsize
    tall = _blend(image.astype(np.float32, copy=False), height, 0)
    scaled = _rounded(_blend(tall, width, 1), image.dtype)
    if dst is None:
        return scaled
    dst[...] = scaled
    return dst


def split(image: Pixels) -> tuple[Pixels, ...]:
    """The channels of an image (H, W, C), each (H, W)."""
    return tuple(np.ascontiguousarray(image[..., channel]) for channel in range(image.shape[2]))


def setNumThreads(number: int) -> None:  # noqa: N802 - OpenCV's name
    """Nothing to set: numpy's element-wise functions have no threads."""


def _blend(image: Floats, length: int, axis: int) -> Floats:
    """One axis of an image scaled to `length`, each pixel mixed from its two neighbours; beyond the edge the last one counts."""
    side = image.shape[axis]
    if length == side:
        return image
    position = (np.arange(length) + 0.5) * (side / length) - 0.5
    first = np.floor(position).astype(np.intp)
    weight = (position - first).astype(np.float32)
    shape = [1] * image.ndim
    shape[axis] = length
    low, high = (image.take(np.clip(first + step, 0, side - 1), axis=axis) for step in (0, 1))
    high -= low
    high *= weight.reshape(shape)
    high += low
    return np.asarray(high)


# ---- as Pillow has it ----


def resize_antialiased(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear as Pillow's `Resampling.BILINEAR`: when it shrinks, the triangle is as wide as the pixels that become one.

    Args:
        image: (H, W, C) uint8.
        size: (height, width) in pixels.
    """
    # Rows first: whole rows lie together in memory, and there are fewer of them afterwards.
    tall = _filtered(image.astype(np.float32), size[0], 0)
    return _rounded(_filtered(tall, size[1], 1), image.dtype)


def _filtered(image: Floats, length: int, axis: int) -> Floats:
    if length == image.shape[axis]:
        return image
    first, weights = _triangles(image.shape[axis], length)
    shape = list(image.shape)
    shape[axis] = length
    out = np.zeros(shape, dtype=np.float32)
    broadcast = [1] * image.ndim
    broadcast[axis] = length
    for tap in range(weights.shape[1]):
        part = image.take(np.minimum(first + tap, image.shape[axis] - 1), axis=axis)
        part *= weights[:, tap].reshape(broadcast)
        out += part
    return out


@lru_cache(maxsize=64)
def _triangles(side: int, length: int) -> tuple[NDArray[np.intp], Floats]:
    """For every pixel of the result the first one that it is mixed from (length,), and their weights (length, taps).

    Source: `precompute_coeffs` in Pillow's Resample.c.
    """
    scale = side / length
    support = max(scale, 1.0)
    centre = (np.arange(length) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.intp), 0)
    last = np.minimum((centre + support + 0.5).astype(np.intp), side)
    taps = int((last - first).max())
    inside = first[:, None] + np.arange(taps)
    weights = np.maximum(0.0, 1.0 - np.abs((inside - centre[:, None] + 0.5) / support))
    weights[inside >= last[:, None]] = 0.0
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _rounded(values: Floats, kind: Any) -> Pixels:
    if kind == np.float32:
        return values
    return np.asarray(np.clip(np.rint(values), 0, 255).astype(kind))
