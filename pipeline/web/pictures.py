"""Pictures inside the page: photos small enough to embed, and the boxes that lie over them.

Boxes are not painted into the pixels: the page draws them as SVG over the photo. So they stay sharp at any zoom and in print,
class names may be in any script, and the reader can switch kinds of boxes off.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import images
from pipeline.boxes import Boxes
from pipeline.detections import Image
from pipeline.drawing import colour_of, shrink

PHOTO_SIDES = (640, 480)
ALL_PHOTOS_BYTES = 2_000_000
LARGEST_PHOTO_BYTES = 90_000
LARGEST_CHART_BYTES = 300_000
SHEET_WIDTH = 1600
SHEET_BYTES = 400_000
"""Limits that keep the page below 5 MB, base64 included, whatever the pictures show."""

LONGEST_NAME = 20
MISTAKES = ("false", "missed")
MOST_NAMES = 12
"""With more boxes on a photo, only so many are named, and only where there is room: in a crowd, names cover what they name."""


@dataclass(frozen=True)
class Mark:
    """A box over a photo, in the photo's pixels.

    Attributes:
        kind: "label" (of the data set, in its class's colour), "right", "false" or "missed".
        text: the name at the box, "" for none; `title` says it in full.
        text_x, text_y: where the text starts, on its base line.
        colour: CSS, only for kind "label".
    """

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str
    text: str
    text_x: float
    text_y: float
    colour: str


@dataclass(frozen=True)
class Photo:
    """An embedded picture; `uri` is a data URI, `alt` what it shows in words, `caption` the line below (`badge` before it)."""

    uri: str
    width: int
    height: int
    alt: str
    caption: str = ""
    badge: str = ""
    note: str = ""
    marks: tuple[Mark, ...] = ()

    @property
    def font_size(self) -> float:
        # The page fits all photos into frames of one size, about 4:3, so this makes the text equally large on all of them.
        return round(max(9.0, self.width / 28, self.height / 21), 1)

    @property
    def shape(self) -> float:
        """Width by height."""
        return round(self.width / self.height, 3)


@dataclass(frozen=True)
class Box:
    """What is to be drawn: edges in pixels of the original photo, the kind (see `Mark`), the class, the score of a detection."""

    edges: tuple[float, float, float, float]
    kind: str
    class_id: int
    name: str
    score: float | None = None

    def text(self, longest: int = 10_000) -> str:
        """The class, shortened where need be, and the score."""
        name = self.name if len(self.name) <= longest else self.name[: longest - 1] + "…"
        return name if self.score is None else f"{name} {self.score:.2f}"


@dataclass(frozen=True)
class _Place:
    """The rectangle of a name on a photo; its width is estimated, since fonts are the reader's."""

    left: float
    bottom: float
    width: float
    height: float

    def overlaps(self, other: _Place) -> bool:
        beside = self.left >= other.left + other.width or other.left >= self.left + self.width
        return not beside and abs(self.bottom - other.bottom) < self.height


def limit_for(photos: int) -> int:
    """Bytes that each of so many photos may have."""
    return min(LARGEST_PHOTO_BYTES, ALL_PHOTOS_BYTES // max(1, photos))


def photo(
    path: Path, boxes: Sequence[Box], limit: int, alt: str, caption: str = "", badge: str = "", note: str = ""
) -> Photo | None:
    """A photo with its boxes; None when the file cannot be read.

    Args:
        limit: bytes it may have.
        alt, caption, badge, note: of the `Photo`.
    """
    try:
        pixels = images.decode(path)
    except (OSError, images.UnreadableImage):
        return None
    edges: Boxes = np.array([box.edges for box in boxes], dtype=np.float64).reshape(-1, 4)
    sides = (min(PHOTO_SIDES[0], pixels.shape[1]), min(PHOTO_SIDES[1], pixels.shape[0]))
    small, edges = shrink(pixels, edges, *sides)
    height, width = small.shape[:2]
    plain = Photo(jpeg_uri(small, limit), width, height, alt, caption, badge, note)
    return replace(plain, marks=tuple(_marks(boxes, edges, plain)))


def _marks(boxes: Sequence[Box], edges: Boxes, onto: Photo) -> list[Mark]:
    # Large boxes first, so that a small one inside another can be pointed at; mistakes last, so that nothing covers them.
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    order = sorted(range(len(boxes)), key=lambda i: (boxes[i].kind in MISTAKES, -area[i], i))
    is_crowd = len(boxes) > MOST_NAMES
    names: dict[int, _Place] = {}
    for i in _by_need_of_a_name(boxes, order):
        if len(names) < MOST_NAMES:
            is_needed = boxes[i].kind in MISTAKES and not is_crowd
            place = _place(boxes[i].text(LONGEST_NAME), edges[i].tolist(), onto, list(names.values()), is_needed)
            names |= {i: place} if place else {}
    return [_mark(boxes[i], edges[i].tolist(), names.get(i)) for i in order]


def _by_need_of_a_name(boxes: Sequence[Box], order: Sequence[int]) -> list[int]:
    """Mistakes first, then the classes in turn, so that each is named somewhere; small boxes before large ones."""
    seen: Counter[tuple[str, int]] = Counter()
    need: dict[int, tuple[bool, int]] = {}
    for i in reversed(order):
        key = (boxes[i].kind, boxes[i].class_id)
        need[i] = (boxes[i].kind not in MISTAKES, seen[key])
        seen[key] += 1
    return sorted(need, key=lambda i: need[i])


def _place(text: str, edges: list[float], onto: Photo, taken: list[_Place], needed: bool) -> _Place | None:
    """Where a name can stand: above its box, below it, or inside; None where it would cover other names, unless it is needed."""
    x1, y1, x2, y2 = edges
    height, width = 1.3 * onto.font_size, 0.7 * onto.font_size * len(text)
    fits: list[_Place] = []
    for bottom in (y1 - 1, y2 + height, y1 + height, y2 - 1):
        for left in (x1, x2 - width):
            place = _Place(max(1.0, min(left, onto.width - width - 1)), bottom, width, height)
            if height <= bottom <= onto.height:
                fits.append(place)
    free = next((place for place in fits if not any(place.overlaps(other) for other in taken)), None)
    return free or (fits[0] if needed and fits else None)


def _mark(box: Box, edges: list[float], name: _Place | None) -> Mark:
    x1, y1, x2, y2 = (round(value, 1) for value in edges)
    return Mark(
        kind=box.kind,
        x=x1,
        y=y1,
        width=max(1.0, round(x2 - x1, 1)),
        height=max(1.0, round(y2 - y1, 1)),
        title=box.text() if box.kind == "label" else f"{box.kind}: {box.text()}",
        text=box.text(LONGEST_NAME) if name else "",
        text_x=round(name.left, 1) if name else 0.0,
        text_y=round(name.bottom - 0.27 * name.height, 1) if name else 0.0,
        colour="rgb({}, {}, {})".format(*colour_of(box.class_id)) if box.kind == "label" else "",
    )


def jpeg_uri(image: Image, limit: int) -> str:
    """A JPEG data URI of at most `limit` bytes (before base64): first the quality falls, then the size."""
    while True:
        for quality in (82, 72, 60, 45):
            data = images.encode(image, ".jpg", quality)
            if len(data) <= limit or max(image.shape[:2]) < 64:
                return _uri(data, "jpeg")
        image, _ = shrink(image, np.zeros((0, 4)), image.shape[1] // 2, image.shape[0] // 2)


def sheet(path: Path, alt: str) -> Photo | None:
    """A large picture such as a contact sheet, scaled down to what fits the page; None when it cannot be read."""
    try:
        pixels = images.decode(path)
    except (OSError, images.UnreadableImage):
        return None
    if pixels.shape[1] > SHEET_WIDTH:
        pixels, _ = shrink(pixels, np.zeros((0, 4)), SHEET_WIDTH, pixels.shape[0])
    return Photo(jpeg_uri(pixels, SHEET_BYTES), pixels.shape[1], pixels.shape[0], alt)


def chart(path: Path, alt: str, limit: int = LARGEST_CHART_BYTES) -> Photo | None:
    """A PNG as it is, or as a JPEG where it has more than `limit` bytes; None when it cannot be read."""
    try:
        data = path.read_bytes()
        header = images.read_header(path)
        if len(data) <= limit and header.kind == "PNG":
            return Photo(_uri(data, "png"), header.width, header.height, alt)
        pixels: Any = images.decode(path, header)
    except (OSError, images.UnreadableImage):
        return None
    return Photo(jpeg_uri(pixels, limit), pixels.shape[1], pixels.shape[0], alt)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
