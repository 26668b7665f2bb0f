"""Geometry of axis-aligned boxes: float64 arrays (N, 4) of pixel edges `x1, y1, x2, y2`, origin at the top-left corner.

Edges, not pixel indices: a box that covers the whole of a 640 px wide image has x1 = 0 and x2 = 640.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]
Matrix = NDArray[np.float64]


def as_boxes(values: ArrayLike) -> Boxes:
    """An (N, 4) float64 array; an empty input becomes (0, 4). Raises ValueError for any other shape."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes: expected shape (N, 4), got {array.shape}")
    return array


def area(boxes: Boxes) -> NDArray[np.float64]:
    """Area in square pixels, (N,); 0 for inverted boxes."""
    width = np.maximum(boxes[:, 2] - boxes[:, 0], 0)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return np.asarray(width * height)


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every box in `a` (N, 4) with every box in `b` (M, 4): (N, M), 0 where both are empty."""
    left_top = np.maximum(a[:, None, :2], b[None, :, :2])
    right_bottom = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.maximum(right_bottom - left_top, 0), axis=2)
    union = area(a)[:, None] + area(b)[None, :] - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0))


def clip(boxes: Boxes, width: ArrayLike, height: ArrayLike) -> Boxes:
    """Boxes cut to the image; `width` and `height` in pixels, one for all or (N,)."""
    out = boxes.copy()
    out[:, 0::2] = np.clip(boxes[:, 0::2], 0, np.reshape(np.asarray(width, dtype=np.float64), (-1, 1)))
    out[:, 1::2] = np.clip(boxes[:, 1::2], 0, np.reshape(np.asarray(height, dtype=np.float64), (-1, 1)))
    return out


def from_xywh(xywh: ArrayLike) -> Boxes:
    """COCO's `x, y, width, height` (top-left corner, pixels) to edges."""
    boxes = as_boxes(xywh).copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def to_xywh(boxes: Boxes) -> Boxes:
    """Edges to COCO's `x, y, width, height`."""
    out = boxes.copy()
    out[:, 2:] -= out[:, :2]
    return out


def from_cxcywhn(cxcywhn: ArrayLike, width: ArrayLike, height: ArrayLike) -> Boxes:
    """YOLO's normalised centre form to pixel edges; `width`, `height` of the image in pixels, one for all or (N,)."""
    rows = as_boxes(cxcywhn)
    half = rows[:, 2:] / 2
    size = np.stack(np.broadcast_arrays(np.asarray(width, float), np.asarray(height, float)), axis=-1).reshape(-1, 2)
    return np.concatenate([(rows[:, :2] - half) * size, (rows[:, :2] + half) * size], axis=1)


def to_cxcywhn(boxes: Boxes, width: ArrayLike, height: ArrayLike) -> Boxes:
    """Pixel edges to YOLO's normalised centre form; inverse of `from_cxcywhn`."""
    size = np.stack(np.broadcast_arrays(np.asarray(width, float), np.asarray(height, float)), axis=-1).reshape(-1, 2)
    low, high = boxes[:, :2] / size, boxes[:, 2:] / size
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def transform(boxes: Boxes, matrix: Matrix) -> Boxes:
    """The tight upright boxes around `boxes` after the affine map `matrix` (2, 3), which acts on pixel-edge coordinates."""
    if len(boxes) == 0:
        return boxes.copy()
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def orientation_matrix(orientation: int, width: int, height: int) -> Matrix:
    """The affine map (2, 3) from the stored frame of a photo to its upright frame.

    Args:
        orientation: EXIF orientation, 1 to 8 (JEITA CP-3451, tag 0x0112).
        width, height: size of the stored frame in pixels.
    """
    w, h = float(width), float(height)
    rows = {
        1: [[1, 0, 0], [0, 1, 0]],
        2: [[-1, 0, w], [0, 1, 0]],
        3: [[-1, 0, w], [0, -1, h]],
        4: [[1, 0, 0], [0, -1, h]],
        5: [[0, 1, 0], [1, 0, 0]],
        6: [[0, -1, h], [1, 0, 0]],
        7: [[0, -1, h], [-1, 0, w]],
        8: [[0, 1, 0], [-1, 0, w]],
    }
    return np.array(rows[orientation], dtype=np.float64)
