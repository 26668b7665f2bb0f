"""Boxes drawn on images, and sheets of small pictures, legible at any size: for contact sheets and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from pipeline import fonts
from pipeline.boxes import Boxes
from pipeline.detections import Image

Colour = tuple[int, int, int]
Area = tuple[float, float, float, float]
"""Pixel edges on a picture."""

PALETTE: tuple[Colour, ...] = (
    (230, 57, 70),
    (29, 132, 226),
    (250, 176, 5),
    (18, 159, 107),
    (156, 77, 214),
    (245, 124, 31),
    (14, 178, 190),
    (216, 46, 143),
    (132, 176, 28),
    (90, 98, 214),
    (166, 107, 52),
    (255, 135, 160),
)
"""Colours of the classes, in order, repeated after the last; neighbours differ in hue and in lightness."""

INK: Colour = (33, 37, 41)
PAPER: Colour = (248, 249, 250)
MUTED: Colour = (110, 117, 125)
CROWD = 12
GAP = 12
CAPTION_HEIGHT = 24
BASELINE = "ls"
"""Pillow's anchor at the left end of the base line, on which the letters of all fonts stand alike."""


@dataclass(frozen=True)
class Tile:
    """A picture on a sheet, and the line below it."""

    image: Image
    caption: str


def colour_of(class_id: int) -> Colour:
    return PALETTE[class_id % len(PALETTE)]


def draw_boxes(
    image: Image,
    boxes: Boxes,
    class_ids: NDArray[np.int64],
    class_names: Sequence[str],
    scores: NDArray[np.float32] | None = None,
    labels: bool = True,
) -> Image:
    """A copy of an image with boxes and labels; line width and text grow with the image.

    Args:
        image: RGB uint8 (H, W, 3).
        boxes: (N, 4) pixel edges; class_ids (N,); scores (N,), shown beside the name where given.
        labels: False leaves the names out. Otherwise each stands where it covers no other, if there is such a place; with more
            than `CROWD` boxes the names that find none are left out, those of weak detections first.
    """
    height, width = image.shape[:2]
    line = max(2, round(min(height, width) / 250))
    text_height = max(11, round(min(height, width) / 36))
    canvas = PillowImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    # Large boxes first, so that a small one inside stays visible; all labels after all boxes, so that no line crosses a label.
    order = np.argsort(-((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])), kind="stable").tolist()
    for i in order:
        x1, y1, x2, y2 = boxes[i].tolist()
        colour = colour_of(int(class_ids[i]))
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
    taken: list[Area] = []
    surest_first = order if scores is None else np.argsort(-scores, kind="stable").tolist()
    for i in surest_first if labels else ():
        class_id = int(class_ids[i])
        text = fonts.legible(class_names[class_id], f"class {class_id}")
        if scores is not None:
            text += f" {scores[i]:.2f}"
        font = _font(text, text_height)
        _label(draw, boxes[i].tolist(), text, colour_of(class_id), font, (width, height), taken, len(boxes) > CROWD)
    return np.asarray(canvas).copy()


def _label(
    draw: ImageDraw.ImageDraw,
    box: list[float],
    text: str,
    colour: Colour,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: list[Area],
    is_crowded: bool,
) -> None:
    """The name on the class's colour, in a place that no other name has; it is added to `taken`."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    places = _places(box, (right - left + 6, bottom - top + 5), size)
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    if is_crowded and not free:
        return
    area = (free or places)[0]
    taken.append(area)
    draw.rectangle(area, fill=colour)
    ink = INK if _luminance(colour) > 150 else (255, 255, 255)
    draw.text((area[0] + 3 - left, area[1] + 2 - top), text, fill=ink, font=font)


def _places(box: list[float], text_size: tuple[float, float], size: tuple[int, int]) -> list[Area]:
    """Where a name can stand whole, the best first: above its box, inside at the top, below it; at its left edge or its right."""
    width, height = text_size
    ys = [box[1] - height] if box[1] >= height else []
    ys += [max(0.0, box[1]), *([box[3]] if box[3] + height <= size[1] else [])]
    xs = [min(max(0.0, x), max(0.0, size[0] - width)) for x in (box[0], box[2] - width)]
    return [(x, y, x + width, y + height) for y in ys for x in xs]


def _overlap(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _luminance(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The first font that has all letters of a legible text, `size` px high."""
    return _load_font(fonts.file_for(text) or fonts.installed()[fonts.FIRST], size)


@lru_cache(maxsize=32)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, index=getattr(path, "face_index", 0))


def shrink(image: Image, boxes: Boxes, width: int, height: int) -> tuple[Image, Boxes]:
    """An image and its boxes scaled to fit into `width` x `height` px: scale first, draw then, or lines and text vanish."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    factors = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2)
    return small, boxes * factors


def contact_sheet(
    tiles: Sequence[Tile],
    columns: int,
    tile_width: int,
    tile_height: int,
    title: str = "",
    legend: Sequence[tuple[str, Colour]] = (),
) -> Image:
    """Pictures in a grid, each in a cell of `tile_width` x `tile_height` px, standing on its caption.

    Args:
        legend: names and colours that are shown beside the title, as many as there is room for.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    head = 48 if title or legend else GAP
    cell_width, cell_height = tile_width + GAP, tile_height + CAPTION_HEIGHT + GAP
    sheet = PillowImage.new("RGB", (GAP + columns * cell_width, head + rows * cell_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = _font(title, 20)
    draw.text((GAP, 33), title, fill=INK, font=font, anchor=BASELINE)
    _legend(draw, legend, x=GAP + draw.textlength(title, font=font) + 24, width=sheet.width)
    for number, tile in enumerate(tiles):
        x, y = GAP + number % columns * cell_width, head + number // columns * cell_height
        image_height, image_width = tile.image.shape[:2]
        sheet.paste(PillowImage.fromarray(tile.image), (x + (tile_width - image_width) // 2, y + tile_height - image_height))
        caption = fonts.legible(tile.caption)
        font = _font(caption, 13)
        shown = _shortened(draw, caption, font, tile_width)
        draw.text((x, y + tile_height + 17), shown, fill=MUTED, font=font, anchor=BASELINE)
    return np.asarray(sheet).copy()


def _legend(draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, Colour]], x: float, width: int) -> None:
    for number, (name, colour) in enumerate(entries):
        name = fonts.legible(name)
        rest = f"and {len(entries) - number} more"
        font, plain = _font(name, 15), _font(rest, 15)
        needed = 20 + draw.textlength(name, font=font) + 18
        is_last = number == len(entries) - 1
        if x + needed + (0 if is_last else draw.textlength(rest, font=plain)) > width - GAP:
            draw.text((x, 32), rest, fill=MUTED, font=plain, anchor=BASELINE)
            return
        draw.rectangle((x, 19, x + 13, 32), fill=colour)
        draw.text((x + 20, 32), name, fill=INK, font=font, anchor=BASELINE)
        x += needed


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, with its middle left out where it is wider than `width` px: the end of a file name tells most."""
    if draw.textlength(text, font=font) <= width:
        return text
    keep = len(text) - 1
    while keep > 4 and draw.textlength(f"{text[: keep // 3]}…{text[-(keep - keep // 3) :]}", font=font) > width:
        keep -= 1
    return f"{text[: keep // 3]}…{text[-(keep - keep // 3) :]}"
