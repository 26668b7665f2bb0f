"""Boxes in the rows of a table, once it is known which column means what: for `tf_csv` and `csv`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.formats._common import THOUSANDS, as_size
from pipeline.formats._csv import Table, number
from pipeline.labelling.labels import ROW, LabelledImage, Labels, Malformed, split_of_file, split_of_folder
from pipeline.ledger import Ledger

BoxShape = Literal["xyxy", "xywh", "cxcywh"]
"""What the four numbers of a box are: its edges, its top-left corner and size, or its centre and size."""

SMALLEST_IMAGE_PX = 20
_BLANK = frozenset({"", "na", "nan", "none", "null"})


@dataclass(frozen=True)
class Columns:
    """Positions, from 0, of the columns that mean something; -1 where there is none.

    Attributes:
        image, name: the image's file and the class.
        box: four positions in the order of the `BoxShape`, or one of a cell with four numbers (`[10, 20, 30, 40]`).
        width, height: size of the image in pixels.
        split: of the image; where it is blank or missing the file's name tells.
    """

    image: int
    name: int
    box: tuple[int, ...]
    width: int = -1
    height: int = -1
    split: int = -1

    @property
    def last(self) -> int:
        return max(self.image, self.name, self.width, self.height, self.split, *self.box)


def read_rows(table: Table, path: str, columns: Columns, shape: BoxShape, labels: Labels, ledger: Ledger) -> None:
    """Every row of a table: a box, or an image without one where class and numbers are blank.

    A row in which something is missing or too much goes into the ledger; a quote that is never closed makes the rest of the file
    one cell, and the file malformed.
    """
    rows = _Rows(path, columns, shape, table.delimiter, labels, ledger)
    count = len(table.header) or len(table.rows[0][1]) if table.rows else 0
    last, before = columns.last, 0
    for line, cells in table.rows:
        fits = last < len(cells) and not any(cell.strip() for cell in cells[count:])
        skipped, before = line - before > 1, line
        if skipped and any("\n" in cell for cell in (rows.needed(cells) if fits else cells)):
            first = line - sum(cell.count("\n") for cell in cells) + cells[-1].endswith("\n")
            labels.malformed.append(Malformed(path, first, "a quoted cell runs over several lines: a quote is missing"))
            return
        if fits:
            rows.read(line, cells)
        else:
            detail = f"{len(cells)} cells where {count} are expected: {table.delimiter.join(cells)}"
            ledger.add("box", "dropped", "malformed_box", file=path, line=line, detail=detail[:160])


class _Rows:
    """What the rows of one file have in common."""

    def __init__(self, path: str, columns: Columns, shape: BoxShape, delimiter: str, labels: Labels, ledger: Ledger) -> None:
        self.path, self.columns, self.shape, self.delimiter = path, columns, shape, delimiter
        self.labels, self.ledger = labels, ledger
        self.split = split_of_file(path)
        self.images: dict[tuple[str, ...], int] = {}

    def needed(self, cells: Sequence[str]) -> list[str]:
        columns = self.columns
        return [cells[column] for column in (columns.image, columns.name, *columns.box)]

    def read(self, line: int, cells: Sequence[str]) -> None:
        columns, labels = self.columns, self.labels
        if not cells[columns.image].strip():
            self.ledger.add("box", "dropped", "no_file_name", file=self.path, line=line, detail=self.delimiter.join(cells)[:120])
            return
        image, name = self._image(line, cells), cells[columns.name].strip()
        numbers = [cells[column] for column in columns.box]
        edges = self._edges(numbers) if name else None
        if edges and not all(map(math.isnan, edges)):
            labels.rows.extend((image, labels.class_id(name), *edges, line))
            return
        without_box = all(cell.strip().lower() in _BLANK for cell in numbers)
        if without_box and name.lower() in _BLANK:
            return  # an image on which nothing is
        reason = "no_box" if without_box else "malformed_box" if name else "no_class"
        detail = self.delimiter.join(self.needed(cells))[:120]
        self.ledger.add("box", "dropped", reason, path=labels.images[image].label, file=self.path, line=line, detail=detail)

    def _image(self, line: int, cells: Sequence[str]) -> int:
        """The record of a row's image: one for each size and split that is declared, so that a contradiction is seen."""
        columns = self.columns
        width, height, split = (cells[place] if place >= 0 else "" for place in (columns.width, columns.height, columns.split))
        key = cells[columns.image], width, height, split
        image = self.images.get(key)
        if image is None:
            split = split_of_folder(f"{split.strip()}/") or self.split
            record = LabelledImage(self.path, key[:1], "", line, as_size(width), as_size(height), split)
            image = self.images[key] = self.labels.add_image(record)
        return image

    def _edges(self, cells: list[str]) -> tuple[float, float, float, float] | None:
        """None for what are not four numbers."""
        if len(cells) == 1:
            cells = re.split(r"[\s,;]+", cells[0].strip(" \t[](){}"))
        elif self.delimiter == "," and any("," in cell and THOUSANDS.fullmatch(cell) for cell in cells):
            return None  # in a file of commas, 1,024 is a thousand as likely as one
        try:
            a, b, c, d = map(number, cells)
        except ValueError:
            return None
        if self.shape == "xyxy":
            return a, b, c, d
        return (a, b, a + c, b + d) if self.shape == "xywh" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)


def look_like_fractions(labels: Labels, start: int) -> bool:
    """Whether the boxes from `start` in `labels.rows` on, taken for pixels, cannot be: all end within the first pixel.

    On images that are declared small they may.
    """
    rows = labels.rows[start:]
    sizes = {(labels.images[int(number)].width, labels.images[int(number)].height) for number in rows[0::ROW]}
    if not rows or any(0 < side < SMALLEST_IMAGE_PX for size in sizes for side in size):
        return False
    return all(0 <= value <= 1 for column in range(2, 6) for value in rows[column::ROW])
