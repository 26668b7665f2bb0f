"""CSV: any table (comma, semicolon, tab) with columns for the image, its class and the four numbers of a box; a row a box.

Specification: https://www.rfc-editor.org/rfc/rfc4180 for the table; which column means what, the header says or the user:
`options: {columns: {image: file, class: species, x1: left, y1: top, x2: right, y2: bottom}}`. Without a header
(`header: false`) columns are counted from 1, and the default is the order of keras-retinanet
(https://github.com/fizyr/keras-retinanet#csv-datasets): path, x1, y1, x2, y2, class.

Units: pixel edges, origin at the top-left corner. `box: xywh` reads the top-left corner and the size, `box: cxcywh` the centre
and the size, `units: fraction` numbers between 0 and 1. Numbers of which none is above 1 are refused unless `units` is set: taken
for pixels they would make boxes of next to no size.

Quirks: of a header only clear names are understood (`filename`, `label`, `xmin`, `left` …), in any case, with or without
underscores; what is missing or could be two columns has to be named. Tables without a column of a box are passed over. Four
numbers may stand in one cell (`columns: {bbox: bbox}` for `"[834, 222, 56, 36]"`). A row with neither class nor numbers says
that nothing is on the image. The split is that of a column `split`, or taken from the file's name or folder (`train.csv`).
Classes have no numbers; they come in alphabetical order.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.formats import Evidence, Holdable, openimages, tf_csv
from pipeline.formats._common import link_images, plain_number, spread
from pipeline.formats._csv import Table, read_header, read_table
from pipeline.formats._tables import BoxShape, Columns, look_like_fractions, read_rows
from pipeline.labelling.labels import Labels, Malformed
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

IMAGES = "images"
HOLDS: frozenset[Holdable] = frozenset({"splits", "background", "sizes"})

Role = Literal["image", "class", "x1", "y1", "x2", "y2", "x", "y", "w", "h", "bbox", "width", "height", "split"]

_BOX: dict[BoxShape, tuple[Role, ...]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("x", "y", "w", "h"),
}
# Names in lower case, without underscores. Of several columns that bear a name of one role the first of these counts, but not for
# image and class: there nothing tells which is meant.
_NAMES: dict[Role, tuple[str, ...]] = {
    "image": (
        *("image", "imagename", "imagepath", "imagefile", "imagefilename", "imageid", "img", "imgname", "imgpath"),
        *("filename", "file", "filepath", "path"),
    ),
    "class": ("class", "classname", "label", "labelname", "category", "categoryname"),
    "x1": ("x1", "xmin", "left", "xleft", "bboxx1", "bboxxmin"),
    "y1": ("y1", "ymin", "top", "ytop", "bboxy1", "bboxymin"),
    "x2": ("x2", "xmax", "right", "xright", "bboxx2", "bboxxmax"),
    "y2": ("y2", "ymax", "bottom", "ybottom", "bboxy2", "bboxymax"),
    "x": ("x", "bboxx", "xmin", "left"),
    "y": ("y", "bboxy", "ymin", "top"),
    "w": ("w", "bboxw", "bboxwidth", "boxwidth", "width"),
    "h": ("h", "bboxh", "bboxheight", "boxheight", "height"),
    "width": ("imagewidth", "imgwidth", "imgw", "width"),
    "height": ("imageheight", "imgheight", "imgh", "height"),
    "split": ("split", "subset"),
}
_CENTRE_NAMES: dict[Role, tuple[str, ...]] = {
    "x": ("cx", "xc", "xcenter", "centerx", "xcentre", "centrex", "x"),
    "y": ("cy", "yc", "ycenter", "centery", "ycentre", "centrey", "y"),
}


class Options(StageParams):
    """`columns`: which column (its name, or its number from 1) is image, class, x1, y1, x2, y2 (or x, y, w, h; or bbox for a cell
    with all four), width, height (of the image), split; `box`: xyxy, xywh or cxcywh; `units`: pixels, fraction, or auto (pixels,
    unless they cannot be); `header`: whether the first row has names."""

    columns: dict[Role, str | int] = Field(default_factory=dict)
    box: BoxShape = "xyxy"
    units: Literal["auto", "pixels", "fraction"] = "auto"
    header: bool = True

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        foreign = [role for role in self.columns if role in {*_BOX["xyxy"], *_BOX["xywh"]} - {*_BOX[self.box]}]
        if foreign:
            raise ValueError(f"box: {self.box} has the columns {', '.join(_BOX[self.box])}, not {', '.join(foreign)}")
        for role, column in self.columns.items():
            if isinstance(column, int) and column < 1:
                raise ValueError(f"columns.{role}: columns are counted from 1")
            if isinstance(column, str) and not self.header:
                raise ValueError(f"columns.{role}: without a header a column has a number (from 1), not a name")
        return self


@dataclass(frozen=True)
class _Misfit:
    """Why a header will not do, and whether it names part of a box: otherwise the table may be about something else."""

    message: str
    has_boxes: bool


def detect(files: FileSet) -> Evidence | None:
    for path in spread(files.with_suffix(".csv", ".tsv"), 200):
        header = read_header(files, path)
        known = tf_csv.columns_of(header) or openimages.columns_of(header)
        if not known and isinstance(_find_columns(header, Options()), Columns):
            return Evidence(f"{path} has columns for an image, a class and a box")
    return None


def _find_columns(header: Sequence[str], options: Options) -> Columns | _Misfit:
    """Where everything stands; `header` is the first row, also of a table without names."""
    found: dict[Role, int] = {}
    problems = []
    roles: tuple[Role, ...] = ("image", *(("bbox",) if "bbox" in options.columns else _BOX[options.box]), "class")
    named: Mapping[Role, str | int] = options.columns
    if not named and not options.header:
        named = dict(zip(roles, range(1, 7), strict=True))
    for role, column in named.items():
        position = column - 1 if isinstance(column, int) else _position(header, column)
        if 0 <= position < len(header):
            found[role] = position
        else:
            problems.append(f"there is no column {column!r} for {role}")
    if options.header:
        wanted = [role for role in (*roles, "width", "height", "split") if role not in named]
        problems += _guess_columns(header, wanted, found, options.box == "cxcywh")
    missing = [role for role in roles if role not in found and role not in named]
    if missing:
        problems.append(f"no column is clearly {', '.join(missing)}")
    if problems:
        first = f"its columns are {', '.join(header)}" if options.header else f"its first row has {len(header)} columns"
        has_boxes = options.header and any(role in found for role in roles if role not in ("image", "class"))
        return _Misfit(f"{first}; {'; '.join(problems)}; name them in annotate.options.columns", has_boxes)
    width, height, split = (found.get(role, -1) for role in ("width", "height", "split"))
    return Columns(found["image"], found["class"], tuple(found[role] for role in roles[1:-1]), width, height, split)


def _position(header: Sequence[str], name: str) -> int:
    if name in header:
        return header.index(name)
    lower = [other.lower() for other in header]
    return lower.index(name.strip().lower()) if name.strip().lower() in lower else -1


def _guess_columns(header: Sequence[str], wanted: Sequence[Role], found: dict[Role, int], centre: bool) -> list[str]:
    """Add to `found` the columns whose names say what they are; returned is where two could mean the same."""
    problems = []
    keys = [re.sub(r"[\W_]", "", name.lower()) for name in header]
    for role in wanted:
        names = _CENTRE_NAMES.get(role, _NAMES[role]) if centre else _NAMES[role]
        taken = found.values()
        fitting = [number for name in names for number, key in enumerate(keys) if key == name and number not in taken]
        if len(fitting) > 1 and role in ("image", "class"):
            problems.append(f"{' and '.join(header[number] for number in fitting)} could both be the {role}")
        elif fitting:
            found[role] = fitting[0]
    return problems


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=options.units == "fraction")
    others: dict[str, str] = {}
    for path in files.with_suffix(".csv", ".tsv"):
        try:
            table = read_table(files, path, options.header)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        header = table.header if options.header or not table.rows else table.rows[0][1]
        columns = _find_columns(header, options)
        if isinstance(columns, Columns):
            _read_table(table, path, columns, labels, ledger, options)
        elif columns.has_boxes:
            labels.malformed.append(Malformed(path, 1, columns.message))
        else:
            others[path] = columns.message if header else "it is empty"
    for path, message in others.items():
        if labels.images or labels.malformed:
            ledger.add("file", "kept", "other_table", file=path, detail=message[:160])
        else:
            labels.malformed.append(Malformed(path, 1, message))
    labels.sort_classes()
    return labels


def _read_table(table: Table, path: str, columns: Columns, labels: Labels, ledger: Ledger, options: Options) -> None:
    start = len(labels.rows)
    read_rows(table, path, columns, options.box, labels, ledger)
    if options.units == "auto" and look_like_fractions(labels, start):
        message = "no number is above 1, which for pixels cannot be; set annotate.options.units to fraction (or pixels)"
        labels.malformed.append(Malformed(path, 0, message))


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and `annotations.csv`; a row with a blank class and blank numbers for an image without boxes."""
    link_images(dataset, images_folder, out / IMAGES)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("image", "class", *_BOX["xyxy"], "width", "height", "split"))
    images = dataset.image_rows("path", "width", "height", "split")
    for (path, *others), (edges, class_ids) in zip(images, dataset.by_image(), strict=True):
        for class_id, box in zip(class_ids.tolist(), edges.tolist(), strict=True):
            writer.writerow((f"{IMAGES}/{path}", dataset.class_names[class_id], *map(plain_number, box), *others))
        if not len(edges):
            writer.writerow((f"{IMAGES}/{path}", "", "", "", "", "", *others))
    write_text(out / "annotations.csv", table.getvalue())
