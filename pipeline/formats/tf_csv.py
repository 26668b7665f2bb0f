"""TensorFlow Object Detection CSV: a table with the header `filename,width,height,class,xmin,ymin,xmax,ymax`; a row a box.

Specification: none was ever written. The header comes from https://github.com/datitran/raccoon_dataset and was taken over by
Roboflow (`_annotations.csv`, https://roboflow.com/formats/tensorflow-object-detection-csv) and Detecto
(https://detecto.readthedocs.io, which adds `image_id`).

Units: pixels, edges, origin at the top-left corner; `width` and `height` are those of the image.

Quirks: columns come in any order and case, and there may be others. The image's column is also called `file_name`, `image` or
`image_id`. The split is taken from the file's name or folder (`train_labels.csv`, `test/_annotations.csv`). An image without
boxes is not mentioned, because training scripts stumble over rows without numbers; where a tool wrote such a row nonetheless, it
says that nothing is on the image. Numbers may have a decimal comma where something else separates the columns. A file whose
numbers are fractions is refused: `annotate.format: csv` reads it with `options: {units: fraction}`. Classes have no
numbers; they come in alphabetical order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import link_images, plain_number, spread
from pipeline.formats._csv import read_header, read_table
from pipeline.formats._tables import Columns, look_like_fractions, read_rows
from pipeline.labelling.labels import Labels, Malformed
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

IMAGES = "images"
HOLDS: frozenset[Holdable] = frozenset({"splits", "sizes"})
HEADER = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_IMAGE = ("filename", "file_name", "image", "image_id")


class Options(StageParams):
    """TensorFlow Object Detection CSV has none."""


def detect(files: FileSet) -> Evidence | None:
    found = next((path for path in spread(files.with_suffix(".csv"), 200) if columns_of(read_header(files, path))), None)
    return Evidence(f"{found} has the columns {', '.join(HEADER)}") if found else None


def columns_of(header: Sequence[str]) -> Columns | None:
    """Where the columns of this format stand; None for the header of another."""
    position = {name.lower(): number for number, name in reversed(list(enumerate(header)))}
    image = next((position[name] for name in _IMAGE if name in position), -1)
    if image < 0 or any(name not in position for name in HEADER[1:]):
        return None
    width, height, name, *box = (position[name] for name in HEADER[1:])
    return Columns(image, name, tuple(box), width, height)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels()
    for path in files.with_suffix(".csv"):
        header = read_header(files, path)
        columns = columns_of(header)
        if not columns:
            ledger.add("file", "kept", "other_table", file=path, detail=f"its columns: {', '.join(header)}"[:160])
            continue
        start = len(labels.rows)
        try:
            read_rows(read_table(files, path), path, columns, "xyxy", labels, ledger)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
        if look_like_fractions(labels, start):
            what = "no number is above 1: these are fractions; read them with annotate.format: csv, options: {units: fraction}"
            labels.malformed.append(Malformed(path, 0, what))
    labels.sort_classes()
    return labels


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`, and beside them `<split>_labels.csv`, `labels.csv` for images of none.

    Images without boxes are in no table. File names are relative to the table's folder, which is what Roboflow's tables do.
    """
    link_images(dataset, images_folder, out / IMAGES)
    tables: dict[str, io.StringIO] = {}
    images = dataset.image_rows("path", "width", "height", "split")
    for (path, width, height, split), (edges, class_ids) in zip(images, dataset.by_image(), strict=True):
        table = tables.setdefault(f"{split}_labels.csv" if split else "labels.csv", io.StringIO())
        writer = csv.writer(table, lineterminator="\n")
        if not table.tell():
            writer.writerow(HEADER)
        for class_id, box in zip(class_ids.tolist(), edges.tolist(), strict=True):
            writer.writerow((path, width, height, dataset.class_names[class_id], *map(plain_number, box)))
    for name, table in tables.items():
        write_text(out / IMAGES / name, table.getvalue())
