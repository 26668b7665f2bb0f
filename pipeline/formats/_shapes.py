"""The tight box of a shape that is none: `(x1, y1, x2, y2)` in the shape's own units, or None where it has no extent to speak of.

Numbers are passed on as they are, NaN and infinity included: what is wrong with a box is for `labelling/checks` to say.
"""

from __future__ import annotations

import base64
import binascii
import math
import warnings
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]

MAX_BITMAP_PIXELS = 200_000_000
MAX_BITMAP_BYTES = 2 * MAX_BITMAP_PIXELS


def of_points(points: Iterable[Sequence[Any]], at_least: int = 3) -> Box | None:
    """Of the corners (x, y) of a polygon; None for fewer than `at_least`, or for what are no numbers."""
    try:
        corners = [(float(point[0]), float(point[1])) for point in points]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        return None
    if len(corners) < at_least:
        return None
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    if not all(map(math.isfinite, (*xs, *ys))):
        return math.nan, math.nan, math.nan, math.nan  # min and max would drop a NaN or not, by its place
    return min(xs), min(ys), max(xs), max(ys)


def of_flat(values: Sequence[Any], at_least: int = 3) -> Box | None:
    """Of a polygon as one list x1, y1, x2, y2, …"""
    try:
        return of_points(list(zip(values[0::2], values[1::2], strict=True)), at_least)
    except (TypeError, ValueError):
        return None


def of_rotated(x1: float, y1: float, x2: float, y2: float, degrees: float, pivot: tuple[float, float] | None = None) -> Box:
    """Of a box turned clockwise (y points down) about `pivot`, its centre by default."""
    px, py = pivot or ((x1 + x2) / 2, (y1 + y2) / 2)
    if not all(map(math.isfinite, (x1, y1, x2, y2, degrees, px, py))):
        return math.nan, math.nan, math.nan, math.nan
    cos, sin = math.cos(math.radians(degrees % 360)), math.sin(math.radians(degrees % 360))
    corners = [(x1 - px, y1 - py), (x2 - px, y1 - py), (x2 - px, y2 - py), (x1 - px, y2 - py)]
    xs = [px + x * cos - y * sin for x, y in corners]
    ys = [py + x * sin + y * cos for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def of_ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> Box:
    """Of an ellipse with half axes `rx` and `ry`, turned clockwise about its centre."""
    if not math.isfinite(degrees):
        return math.nan, math.nan, math.nan, math.nan
    cos, sin = math.cos(math.radians(degrees % 360)), math.sin(math.radians(degrees % 360))
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return cx - half_width, cy - half_height, cx + half_width, cy + half_height


def of_coco_rle(segmentation: Any) -> Box | None:
    """Of COCO's run-length mask `{"size": [height, width], "counts": [...] | "compressed"}`: runs go down the columns and
    start with background. Only the runs are looked at: no mask is unfolded.

    Source: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c (rleFrString, rleToBbox).
    """
    import numpy as np

    try:
        height, width = (int(value) for value in segmentation["size"])
        counts = segmentation["counts"]
        runs = _uncompressed(counts) if isinstance(counts, (str, bytes)) else np.array(counts, dtype=np.float64)
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    if height <= 0 or width <= 0 or runs.ndim != 1 or not len(runs) or not np.isfinite(runs).all() or (runs < 0).any():
        return None
    if runs.sum() > height * width:
        return None
    ends = np.cumsum(runs.astype(np.int64))
    first, last = ends[0::2], ends[1::2]  # foreground runs are [first, last)
    first = first[: len(last)]
    held = last > first
    return _of_runs(first[held], last[held], height) if held.any() else None


def _of_runs(first: NDArray[np.int64], last: NDArray[np.int64], height: int) -> Box:
    """Of foreground runs [first, last) in columns of `height` pixels."""
    import numpy as np

    left, right = first // height, (last - 1) // height
    spans_columns = right > left  # such a run touches the top and the bottom
    top = np.where(spans_columns, 0, first % height).min()
    bottom = np.where(spans_columns, height - 1, (last - 1) % height).max()
    return float(left.min()), float(top), float(right.max() + 1), float(bottom + 1)


def _uncompressed(counts: str | bytes) -> NDArray[np.float64]:
    import numpy as np

    data = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        chunk = byte - 48
        if not 0 <= chunk < 64 or shift > 60:
            raise ValueError("not a run-length string")
        value |= (chunk & 0x1F) << shift
        shift += 5
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return np.array(runs, dtype=np.float64)


def of_bitmap(text: str, origin: tuple[float, float] = (0.0, 0.0), is_compressed: bool = False) -> Box | None:
    """Of the pixels that are not zero in a PNG given as base64 (inside zlib's compression if `is_compressed`), whose
    top-left corner lies at `origin`; an alpha channel decides where there is one."""
    from io import BytesIO

    from PIL import Image as PillowImage

    try:
        data = base64.b64decode(text, validate=False)
        if is_compressed:
            data = _inflate(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # its limit is lower than ours
            picture = PillowImage.open(BytesIO(data), formats=["PNG"])
        with picture:
            if picture.width * picture.height > MAX_BITMAP_PIXELS:
                return None
            bounds = (picture.getchannel("A") if "A" in picture.getbands() else picture).getbbox()
    except (binascii.Error, zlib.error, ValueError, TypeError, AttributeError, OSError, SyntaxError, EOFError):
        return None
    except PillowImage.DecompressionBombError:
        return None
    if bounds is None:
        return None
    left, top, right, bottom = bounds
    return left + origin[0], top + origin[1], right + origin[0], bottom + origin[1]


def _inflate(data: bytes) -> bytes:
    inflated = zlib.decompressobj()
    content = inflated.decompress(data, MAX_BITMAP_BYTES)
    if inflated.unconsumed_tail:
        raise ValueError("a bitmap of more bytes than it can have pixels")
    return content
