"""Pictures of what was found: sheets of the images concerned, with the boxes drawn, beside the plots of `plots.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline import drawing, files, images
from pipeline.detections import Image
from pipeline.drawing import Tile
from pipeline.errors import DataError
from pipeline.health import plots, splits
from pipeline.health.findings import Finding, Item
from pipeline.health.opening import Subject
from pipeline.health.page import page
from pipeline.stage import Context
from pipeline.wording import plural

TILES = 12
TILE_WIDTH, TILE_HEIGHT = 360, 270
MARGIN = 1.5
"""Surroundings shown of a marked box, in box sizes on each side: what is in a box is told by what is around it."""
LEAST_CUT = 96
"""Side of the smallest piece that is cut out, in pixels of the image: less is a blur when enlarged."""

WITHOUT_PICTURE = frozenset({"name_case", "name_stem", "name_twice", "image_unreadable", "image_bomb", "label_without_image"})
WITH_ALL_BOXES = ("exif_", "size_", "image_crowded", "image_duplicate_labels")
"""Beginnings of codes whose pictures show all boxes of an image, because those are what to look at."""


def draw(
    findings: Sequence[Finding], subject: Subject, brightness: Sequence[float], out: Path, context: Context
) -> list[Finding]:
    """Write `out/<code>.png` for each finding that a picture helps, and `out/index.html`; returns the findings with their
    pictures named."""
    histograms = splits.histograms(subject.dataset, brightness)
    done: list[Finding] = []
    with context.progress("draw", len(findings)) as advance:
        for found in findings:
            name = f"{found.code}.png"
            if found.code in plots.PLOTS:
                plots.PLOTS[found.code](subject.dataset, out / name)
            elif found.code in histograms:
                plots.drift(out / name, found.title, histograms[found.code])
            elif sheet := _sheet(found, subject):
                height = max(tile.image.shape[0] for tile in sheet)
                images.save(out / name, drawing.contact_sheet(sheet, 3, TILE_WIDTH, height))
            else:
                name = ""
            done.append(replace(found, picture=name or None))
            advance()
    dataset = subject.dataset
    images_and_boxes = plural(len(dataset.images), "image"), plural(len(dataset.boxes), "box", "boxes")
    summary = ", ".join([*images_and_boxes, plural(len(dataset.class_names), "class", "classes")])
    files.write_text(out / "index.html", page(done, f"Health of {subject.name}", summary))
    return done


def is_plot(code: str) -> bool:
    """Whether the picture of a finding is a plot, and no sheet of photos."""
    return code in plots.PLOTS or code.startswith("drift_")


# ---------------------------------------------------------------- sheets


def _sheet(found: Finding, subject: Subject) -> list[Tile]:
    if found.code in WITHOUT_PICTURE:
        return []
    row_of = {path: row for row, path in enumerate(subject.dataset.images["path"])}
    shown = [item for item in found.items if item.path in row_of][:TILES]
    tiles = (_tile(item, row_of, subject, found.code.startswith(WITH_ALL_BOXES)) for item in shown)
    return [tile for tile in tiles if tile]


def _tile(item: Item, row_of: dict[str, int], subject: Subject, all_boxes: bool) -> Tile | None:
    try:
        if item.other in row_of:
            one, other = (_whole(path, row_of, subject, all_boxes, TILE_WIDTH // 2 - 2) for path in (item.path, item.other))
            return Tile(_beside(one, other), f"{_name(item.path)} = {_name(item.other)}")
        if item.marks:
            return Tile(_cut(item, subject), _caption(item))
        return Tile(_whole(item.path, row_of, subject, all_boxes, TILE_WIDTH), _caption(item))
    except (DataError, OSError):
        return None  # what cannot be decoded has a finding of its own


def _caption(item: Item) -> str:
    return f"{_name(item.path)}  {item.detail}" if item.detail else _name(item.path)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _whole(path: str, row_of: dict[str, int], subject: Subject, all_boxes: bool, width: int) -> Image:
    pixels = images.decode(subject.folder / path)
    edges, class_ids = subject.dataset.edges_of(row_of[path])
    small, edges = drawing.shrink(pixels, edges, width, TILE_HEIGHT)
    if not all_boxes:
        return small
    return drawing.draw_boxes(small, edges, class_ids, subject.dataset.class_names, labels=len(edges) <= 12)


def _beside(one: Image, other: Image) -> Image:
    height = max(one.shape[0], other.shape[0])
    sheet = np.full((height, one.shape[1] + other.shape[1] + 4, 3), 255, dtype=np.uint8)
    sheet[height - one.shape[0] :, : one.shape[1]] = one
    sheet[height - other.shape[0] :, one.shape[1] + 4 :] = other
    return sheet


def _cut(item: Item, subject: Subject) -> Image:
    """The piece of an image around the marked boxes, enlarged to the tile."""
    pixels = images.decode(subject.folder / item.path)
    edges = np.array([mark.box for mark in item.marks], dtype=np.float64)
    low, high = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    reach = np.maximum((high - low) * (0.5 + MARGIN), LEAST_CUT / 2)
    reach = np.maximum(reach, 0.6 * reach.max())  # of a long thin box too, some of what lies above and below
    limits = np.array(pixels.shape[1::-1])
    start = np.clip(np.floor((low + high) / 2 - reach), 0, limits - 1).astype(int)
    end = np.maximum(np.clip(np.ceil((low + high) / 2 + reach), 1, limits).astype(int), start + 1)
    piece = np.ascontiguousarray(pixels[start[1] : end[1], start[0] : end[0]])
    small, edges = drawing.shrink(piece, edges - np.tile(start, 2), TILE_WIDTH, TILE_HEIGHT)
    return drawing.draw_boxes(small, edges, np.arange(len(edges)), [mark.text for mark in item.marks])
