"""Label Studio's regions: results that belong together, their labels, and the tight box of each shape.

https://labelstud.io/tags/ lists what a result of each kind holds. One region may be spread over several results with one id: the
`rectangle` and the `labels` of the tags Rectangle and Labels, and texts or choices about the region.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.formats._common import as_size
from pipeline.formats._shapes import Box, of_bitmap, of_ellipse, of_points, of_rotated

NO_BOX = ("keypoints", "polyline", "video", "tag")
"""Kinds of regions that are left out because they have no box; anything else without one is malformed."""

_short = reprlib.Repr()  # the built-in repr fails on deep nesting, and takes its time over a mask
_short.maxlist = _short.maxstring = 100
_short.maxlevel = 3
_GEOMETRY = (
    *("x", "y", "width", "height", "radiusX", "radiusY", "rotation"),
    *("points", "vertices", "rle", "imageDataURL", "sequence"),
)
_SHAPE_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "bitmasklabels")  # never without a shape


@dataclass
class Region:
    """One object on an image.

    Attributes:
        shape: the `value` of the result that has the geometry; empty when none has, None when no result can be read.
        names: its labels, without repetition.
        size: width and height of the image as it was shown, in pixels; 0 when the result does not say.
        target: name of the Image tag that it was drawn on.
        source: the data column of that tag, as old versions note it.
        page: number of the image, where one tag shows several.
        number: position of its first result.
    """

    shape: dict[str, Any] | None
    size: tuple[int, int]
    target: str
    source: str
    page: int
    number: int
    names: list[str] = field(default_factory=list)
    _tags: set[object] = field(default_factory=set)

    def take(self, result: dict[str, Any], value: dict[str, Any]) -> None:
        self._tags.add(_hashable(result.get("from_name")))
        if not self.shape and value:
            self.shape = value if any(key in value for key in (*_GEOMETRY, *_SHAPE_LABELS)) else {}
        for key, labels in value.items():
            if key.endswith("labels"):
                words = labels if isinstance(labels, list) else [labels]
                self.names += [name for word in words if isinstance(word, str) and (name := word.strip())]
        self.names = list(dict.fromkeys(self.names))

    def is_by(self, tag: object) -> bool:
        return _hashable(tag) in self._tags


def regions_of(results: Iterable[Any]) -> list[Region]:
    """What the results of one annotation say, in their order. Relations between regions are no regions."""
    regions: list[Region] = []
    open_regions: dict[object, Region] = {}
    for number, result in enumerate(results, 1):
        result = result if isinstance(result, dict) else {}
        if result.get("type") == "relation":
            continue
        value = result.get("value")
        value = value if isinstance(value, dict) else {}
        key = _key(result, value)
        region = open_regions.get(key)
        # Two results of one tag are two regions, also where a careless program gave all of them one id.
        if region is None or region.is_by(result.get("from_name")):
            region = _new_region(result, number)
            open_regions[key] = region
            regions.append(region)
        region.take(result, value)
    return regions


def _key(result: dict[str, Any], value: dict[str, Any]) -> object:
    """What the results of one region share: the id, or in JSON_MIN, which has none, the geometry."""
    if isinstance(result.get("id"), (str, int)):
        return result["id"], _hashable(result.get("to_name")), _hashable(result.get("item_index"))
    return tuple(_short.repr(value.get(key)) for key in _GEOMETRY)


def _hashable(value: object) -> object:
    return value if isinstance(value, (str, int)) else None


def _new_region(result: dict[str, Any], number: int) -> Region:
    target, source, page = (result.get(key) for key in ("to_name", "source", "item_index"))
    return Region(
        shape=None,
        size=(as_size(result.get("original_width")), as_size(result.get("original_height"))),
        target=target if isinstance(target, str) else "",
        source=source.lstrip("$") if isinstance(source, str) else "",
        page=page if type(page) is int else 0,
        number=number,
    )


def tight_box(shape: dict[str, Any] | None, size: tuple[int, int]) -> tuple[Box | None, str]:
    """The box in fractions of the image, and the kind of shape; without a box, the reason.

    Args:
        shape: see `Region`.
        size: width and height of the image in pixels, 0 if unknown; only masks and turned shapes need it.
    """
    if not shape:
        return None, "malformed_box" if shape is None else "tag"
    try:
        for key, kind in (("keypointlabels", "keypoints"), ("sequence", "video")):
            if key in shape:
                return None, kind
        if "rle" in shape or "imageDataURL" in shape:
            box = of_brush(shape["rle"], *size) if "rle" in shape else of_bitmap(shape["imageDataURL"].rpartition(",")[2])
            return _in_fractions(box, *size), "mask"
        if "vertices" in shape and not shape.get("closed"):
            return None, "polyline"
        if "points" in shape or "vertices" in shape:
            corners = shape["points"] if "points" in shape else [(point["x"], point["y"]) for point in shape["vertices"]]
            return _in_fractions(of_points(corners), 100, 100), "polygon"
        if "radiusX" in shape or "height" in shape:
            return _of_rectangle_or_ellipse(shape, *size)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None, "malformed_box"
    return None, "keypoints" if "width" in shape else "malformed_box"


def _of_rectangle_or_ellipse(shape: dict[str, Any], width: int, height: int) -> tuple[Box | None, str]:
    is_ellipse = "radiusX" in shape
    x, y, dx, dy = (float(shape[key]) for key in ("x", "y", *(("radiusX", "radiusY") if is_ellipse else ("width", "height"))))
    degrees = float(shape.get("rotation") or 0)
    box = (x - dx, y - dy, x + dx, y + dy) if is_ellipse else (x, y, x + dx, y + dy)
    kind = "ellipse" if is_ellipse else "rectangle"
    if degrees % 360 == 0:
        return _in_fractions(box, 100, 100), kind
    # A turned shape is one in pixels: per cent of width and of height are different lengths.
    sx, sy = width / 100, height / 100
    if is_ellipse:
        turned = of_ellipse(x * sx, y * sy, dx * sx, dy * sy, degrees)
    else:
        turned = of_rotated(box[0] * sx, box[1] * sy, box[2] * sx, box[3] * sy, degrees, (x * sx, y * sy))
        kind = "rotated_box"
    return _in_fractions(turned, width, height), kind


def _in_fractions(box: Box | None, width: int, height: int) -> Box | None:
    """None also for a shape in pixels of an image of unknown size."""
    if box is None or not width or not height:
        return None
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def of_brush(rle: list[int], width: int, height: int) -> Box | None:
    """The tight box in pixels of a brush's mask; None for an empty mask, and for one that does not fit the image.

    The bits hold an RGBA image, row by row, whose alpha channel is the mask: 32 bits with the number of values, 5 with the size
    of a value, four times 4 with the sizes of run lengths (each less 1), then runs: 1 bit that tells whether one value is
    repeated, 2 bits that choose the size of the length, the length less 1, and the value or the values. The image is never
    unfolded.

    Source: https://github.com/HumanSignal/label-studio-converter/blob/master/label_studio_converter/brush.py (decode_rle), after
    https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack.

    Raises:
        TypeError, ValueError: no list of bytes, or the runs end before the image does.
    """
    bits = _Bits(bytes(list(rle)))
    count, value_size = bits.take(32), bits.take(5) + 1
    length_sizes = [bits.take(4) + 1 for _ in range(4)]
    if count != width * height * 4:
        return None
    left, top, right, bottom = width, height, -1, -1
    start = 0
    while start < count:
        is_repeated, length_size = bits.take(1), length_sizes[bits.take(2)]
        end = min(start + bits.take(length_size) + 1, count)
        if is_repeated or end - start == 1:
            first, last = start // 4, end // 4 - 1  # the pixels whose alpha value, the fourth of four, lies in [start, end)
            found = bits.take(value_size) != 0 and last >= first
            is_across = last // width > first // width
            low, high = (0, width - 1) if is_across else (first % width, last % width)
        else:
            is_alpha = np.arange(start, end) % 4 == 3
            pixels = (start + np.flatnonzero(bits.are_set(end - start, value_size) & is_alpha)) // 4
            found = len(pixels) > 0
            if found:
                columns = pixels % width
                first, last, low, high = int(pixels[0]), int(pixels[-1]), int(columns.min()), int(columns.max())
        if found:
            left, right = min(left, low), max(right, high)
            top, bottom = min(top, first // width), max(bottom, last // width)
        start = end
    return (float(left), float(top), right + 1.0, bottom + 1.0) if right >= 0 else None


class _Bits:
    """Bits in their order, from the highest of each byte."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> int:
        start, self._position = self._position, self._position + size
        if self._position > 8 * len(self._data):
            raise ValueError("the run lengths end before the image does")
        chunk = int.from_bytes(self._data[start // 8 : (self._position + 7) // 8])
        return (chunk >> (-self._position % 8)) & ((1 << size) - 1)

    def are_set(self, count: int, size: int) -> NDArray[np.bool_]:
        """Which of the next `count` values of `size` bits are not 0."""
        start, self._position = self._position, self._position + count * size
        if self._position > 8 * len(self._data):
            raise ValueError("the run lengths end before the image does")
        chunk = np.frombuffer(self._data, dtype=np.uint8)[start // 8 : (self._position + 7) // 8]
        bits = np.unpackbits(chunk)[start % 8 : start % 8 + count * size]
        return np.asarray(bits.reshape(count, size).any(axis=1))
