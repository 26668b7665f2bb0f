"""VGG Image Annotator (VIA): CSV with `region_shape_attributes` and `region_attributes`, JSON in the cells of a row a region.

Specification: https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/src/via.js (`pack_via_metadata` writes the
file). The columns are filename, file_size, file_attributes, region_count, region_id, region_shape_attributes, region_attributes.
An image without regions has one row, with the region count 0.

Units: pixels, origin at the top-left corner, floats; the `theta` of an ellipse is in radians, clockwise. `file_size` is in bytes;
the image's size is not there, unless in the file attributes `width` and `height`, where VIA keeps that of imported images.

Quirks: VIA 1 begins the header with a `#`. VIA does not quote file names: where a name has commas, the row has too many cells,
and the first of them are the name. Spreadsheets save the file with semicolons. Which attribute of a region is its class is
settled as in `via`: `options: {attribute: name}`, and `default_class` for regions that have none. The classes have no order of
their own and come in alphabetical order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import link_images, spread
from pipeline.formats._csv import Table, read_header, read_table
from pipeline.formats._json import SNIFFED_FILES, parse_bytes
from pipeline.formats._via import Options, Picture, Region, add_pictures, entries_to_write, picture
from pipeline.labelling.labels import Labels, Malformed
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"background", "sizes"})
IMAGES = "images"
FILE = "via_region_data.csv"
COLUMNS = (
    *("filename", "file_size", "file_attributes", "region_count"),
    *("region_id", "region_shape_attributes", "region_attributes"),
)


def detect(files: FileSet) -> Evidence | None:
    found = next((path for path in spread(files.with_suffix(".csv"), SNIFFED_FILES) if _is_via(files, path)), None)
    return Evidence(f"{found} has VIA's header") if found else None


def _is_via(files: FileSet, path: str) -> bool:
    return [cell.lstrip("#").strip().lower() for cell in read_header(files, path)] == list(COLUMNS)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels()
    for path in files.with_suffix(".csv"):
        if not _is_via(files, path):
            continue
        try:
            table = read_table(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        add_pictures(_pictures(table, path, ledger), {}, path, labels, ledger, options)
    labels.sort_classes()
    return labels


def _pictures(table: Table, path: str, ledger: Ledger) -> list[Picture]:
    pictures: dict[tuple[str, str], Picture] = {}
    for line, cells in table.rows:
        surplus = len(cells) - len(COLUMNS)
        name = table.delimiter.join(cells[: surplus + 1]) if surplus >= 0 else ""
        if not name.strip():
            detail = f"{len(cells)} cells, expected {len(COLUMNS)}" if surplus < 0 else "no file name"
            ledger.add("box", "dropped", "malformed_box", file=path, line=line, detail=detail)
            continue
        size, file_attributes, count, _, shape, attributes = cells[surplus + 1 :]
        if (name, size) not in pictures:
            pictures[name, size] = picture(name, _value(file_attributes), line)
        shape_value = _value(shape)
        if shape_value != {} or count.strip() != "0":
            pictures[name, size].regions.append(Region(shape_value, _value(attributes), line))
    return list(pictures.values())


def _value(cell: str) -> Any:
    """The JSON in a cell; None where it is none, which no region can do with."""
    try:
        return parse_bytes(cell.encode(), "") if cell.strip() else {}
    except DataError:
        return None


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and `via_region_data.csv`, as VIA 2 exports it; the class is the attribute `class`.

    Raises:
        DataError: two images that VIA could not tell apart.
    """
    entries = entries_to_write(dataset, IMAGES)
    link_images(dataset, images_folder, out / IMAGES)
    lines = [",".join(COLUMNS)]
    for entry in entries:
        regions = entry["regions"]
        start = f"{entry['filename']},{entry['size']},{_cell(entry['file_attributes'])},{len(regions)}"
        for number, region in enumerate(regions):
            lines.append(f"{start},{number},{_cell(region['shape_attributes'])},{_cell(region['region_attributes'])}")
        if not regions:
            lines.append(f"{start},0,{_cell({})},{_cell({})}")
    write_text(out / FILE, "\n".join(lines))


def _cell(value: dict[str, object]) -> str:
    return '"' + json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace('"', '""') + '"'
