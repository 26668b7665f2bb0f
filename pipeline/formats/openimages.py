"""Open Images: CSV files with the columns ImageID, LabelName, XMin, XMax, YMin, YMax (`train-annotations-bbox.csv`); a row a box.

Specification: https://storage.googleapis.com/openimages/web/download_v7.html (data formats; the same since V4).

Units: fractions of the image's width and height, edges, origin at the top-left corner.

Quirks: `ImageID` is the file's name without suffix (Globox writes it with one). `LabelName` is a code such as /m/01g317, which
a table of two columns, code and name, translates (`class-descriptions-boxable.csv`, with a header from V6 on); without it the
code is the name. That table lists hundreds of classes: only those that occur are kept, in its order. `IsGroupOf` marks a region
of many objects, which is no box of one: it is dropped, and the ledger says so, unless `options: {group_of: keep}`. The split
is taken from the file's name, and from the lists `*-images-with-rotation.csv` for images that have no box. Their column
`Rotation` tells how to turn a picture, boxes and all, so that up is up
(https://storage.googleapis.com/openimages/web/2018-05-17-rotation-information.html). It is ignored: the boxes lie on the pixels
as they are published. Originals fetched from Flickr may still bear an EXIF orientation, and want `annotate.frame: stored`.
Image-level labels, masks and relationships are other tasks and not read.
The boxes of the whole data set are 15 million: beside a part of its images use `options: {missing_images: ignore}`, which
leaves out the boxes of all others instead of reporting each.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import DataError
from pipeline.files import write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import image_stems, label_file_names, link_images, listed_name, plain_number, present_names, spread
from pipeline.formats._csv import delimiter_of, number, read_header
from pipeline.formats._tables import Columns
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, SplitList, split_of_file
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

IMAGES = "images"
HOLDS: frozenset[Holdable] = frozenset({"splits"})

_SUBSETS = {"train": "train", "val": "validation", "test": "test", "": "default"}
_BOXES = [
    "ImageID",
    "Source",
    "LabelName",
    "Confidence",
    "XMin",
    "XMax",
    "YMin",
    "YMax",
    "IsOccluded",
    "IsTruncated",
    "IsGroupOf",
    "IsDepiction",
    "IsInside",
]
_LIST = [
    *("ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title"),
    *("OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"),
]
_DESCRIPTIONS = "class-descriptions"


class Options(StageParams):
    """`group_of`: what to do with boxes around a group of objects; `missing_images`: report every box of an image that is not
    there, or ignore them."""

    group_of: Literal["drop", "keep"] = "drop"
    missing_images: Literal["report", "ignore"] = "report"


def columns_of(header: Sequence[str]) -> Columns | None:
    """Where the columns of a table of boxes stand; None for the header of another."""
    position = {name.lower(): place for place, name in enumerate(header)}
    wanted = ("imageid", "labelname", "xmin", "ymin", "xmax", "ymax")
    if any(name not in position for name in wanted):
        return None
    image, name, *box = (position[name] for name in wanted)
    return Columns(image, name, tuple(box))


def detect(files: FileSet) -> Evidence | None:
    found = next((path for path in spread(files.with_suffix(".csv"), 200) if columns_of(read_header(files, path))), None)
    return Evidence(f"{found} has the columns ImageID, LabelName, XMin, XMax, YMin, YMax") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=True)
    present = present_names(files)
    headers = {path: read_header(files, path) for path in files.with_suffix(".csv")}
    descriptions = [path for path, header in headers.items() if _describes_classes(path, header)]
    names: dict[str, str] = {}
    for path in sorted(headers, key=lambda path: (path not in descriptions, "boxable" not in path.lower())):
        header, lower = headers[path], [name.lower() for name in headers[path]]
        columns = columns_of(header)
        try:
            if path in descriptions:
                names = _read_descriptions(files, path) | names
            elif columns:
                group = lower.index("isgroupof") if "isgroupof" in lower else -1
                _read_boxes(files, path, _Boxes(path, columns, group, names, present, labels, ledger, options))
            elif "imageid" in lower and "rotation" in lower:
                _read_image_list(files, path, lower.index("imageid"), present, labels)
            else:
                reason = "other_task" if "imageid" in lower else "other_table"
                ledger.add("file", "kept", reason, file=path, detail=f"its columns: {', '.join(header)}"[:160])
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
    occurring = set(labels.class_names)
    labels.sort_classes([name for name in names.values() if name in occurring])
    return labels


def _rows(files: FileSet, path: str, one_line: bool = True) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row, one by one: as a whole the largest of these tables would fill the memory.

    Args:
        one_line: a row that goes on in the next line is an error, for a quote that is never closed hides all rows after it.

    Raises:
        DataError: not UTF-8 (or UTF-16), or not a table.
    """
    with (files.root / path).open("rb") as raw:
        encoding = "utf-16" if raw.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    line = 0
    try:
        with (files.root / path).open(encoding=encoding, newline="") as stream:
            delimiter = delimiter_of(stream.readline())
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter)
            for cells in reader:
                if one_line and reader.line_num > line + 1:
                    raise DataError(f"{path}:{line + 1}: a quoted cell runs over several lines: a quote is missing")
                line = reader.line_num
                if cells:
                    yield line, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line + 1}: the text is not UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}:{line + 1}: malformed CSV ({error})") from error


def _describes_classes(path: str, header: Sequence[str]) -> bool:
    if [name.lower() for name in header] == ["labelname", "displayname"]:
        return True
    return len(header) == 2 and (_DESCRIPTIONS in path.rpartition("/")[2].lower() or header[0].startswith(("/m/", "/g/", "/t/")))


def _read_descriptions(files: FileSet, path: str) -> dict[str, str]:
    """The name of each code, in the table's order."""
    names: dict[str, str] = {}
    for line, cells in _rows(files, path):
        if len(cells) != 2:
            raise DataError(f"{path}:{line}: expected a code and a name, got {len(cells)} cells")
        code, name = cells[0].strip(), cells[1].strip()
        if (code.lower(), name.lower()) != ("labelname", "displayname"):
            names[code] = name or code
    return names


def _read_image_list(files: FileSet, path: str, column: int, present: frozenset[str], labels: Labels) -> None:
    """The split of the images that are there; the lists name millions of others."""
    split = split_of_file(path)
    rows = _rows(files, path, one_line=False)
    ids = (listed_name(cells[column], present) for _, cells in rows if len(cells) > column)
    names = [f"{IMAGES}/{image_id}" for image_id in ids if image_id.rpartition("/")[2] in present]
    if split and names:
        labels.splits.append(SplitList(split, path, names))


@dataclass(frozen=True)
class _Boxes:
    """Where the rows of one table go; `group` is the column IsGroupOf, -1 without one."""

    path: str
    columns: Columns
    group: int
    names: Mapping[str, str]
    present: frozenset[str]
    labels: Labels
    ledger: Ledger
    options: Options

    def drop(self, reason: str, image_id: str, line: int, detail: str) -> None:
        self.ledger.add("box", "dropped", reason, path=image_id, file=self.path, line=line, detail=detail[:120])


def _read_boxes(files: FileSet, path: str, to: _Boxes) -> None:
    columns, labels, split = to.columns, to.labels, split_of_file(path)
    subset = path.rpartition("/")[2].removeprefix("oidv6-").partition("-")[0]
    last, ignored = max(columns.last, to.group), 0
    images: dict[str, int] = {}
    rows = _rows(files, path)
    next(rows, None)  # the header
    for line, cells in rows:
        if len(cells) <= last:
            to.drop("malformed_box", "", line, ",".join(cells))
            continue
        image_id = listed_name(cells[columns.image], to.present)
        if to.options.missing_images == "ignore" and image_id.rpartition("/")[2] not in to.present:
            ignored += 1
        elif not image_id:
            to.drop("no_file_name", "", line, ",".join(cells))
        else:
            image = images.get(image_id)
            if image is None:
                # The bare name fits wherever an image lies; where several bear it, its folder decides.
                places = image_id, f"{IMAGES}/{image_id}", f"{subset}/{image_id}"
                record = LabelledImage(path, places, line=line, split=split)
                image = images[image_id] = labels.add_image(record)
            _read_box(cells, line, image, to)
    if ignored:
        to.ledger.add("file", "kept", "ignored_rows", file=path, detail=f"{ignored} boxes of images that are not there")


def _read_box(cells: Sequence[str], line: int, image: int, to: _Boxes) -> None:
    columns, code = to.columns, cells[to.columns.name].strip()
    name = to.names.get(code, "" if to.names else code)
    if to.group >= 0 and cells[to.group].strip() == "1" and to.options.group_of == "drop":
        to.drop("crowd", to.labels.images[image].label, line, name)
    elif not name:
        to.drop("unknown_class" if code else "no_class", to.labels.images[image].label, line, code)
    else:
        try:
            box = [number(cells[place]) for place in columns.box]
        except ValueError:
            to.drop("malformed_box", to.labels.images[image].label, line, ",".join(cells))
        else:
            to.labels.rows.extend((image, to.labels.class_id(name), *box, line))


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`; in `annotations/` the names of the classes, and for each subset its boxes and the list of its images.

    The subsets are train, validation and test, and default for images of no split. The code of a class is its name.

    Raises:
        DataError: two images of one folder differ only in their suffix and would share an ImageID, or an ImageID could also be
            read as the path of another image.
    """
    label_file_names(dataset, "")
    ids = image_stems(dataset)
    unclear = sorted(set(ids) & {f"{IMAGES}/{image_id}" for image_id in ids})
    if unclear:
        raise DataError(f"ImageIDs that could also be the path of another image: {', '.join(unclear)}", "Rename the folder.")
    link_images(dataset, images_folder, out / IMAGES)
    tables: dict[str, list[Sequence[object]]] = {f"{_DESCRIPTIONS}-boxable": [(name, name) for name in dataset.class_names]}
    images = dataset.image_rows("width", "height", "split")
    for image_id, (width, height, split), (edges, class_ids) in zip(ids, images, dataset.by_image(), strict=True):
        subset = _SUBSETS[split]
        listed = tables.setdefault(f"{subset}-images-with-rotation", [_LIST])
        listed.append((image_id, subset, *[""] * (len(_LIST) - 2)))
        boxes = tables.setdefault(f"{subset}-annotations-bbox", [_BOXES])
        for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), edges.tolist(), strict=True):
            fractions = map(plain_number, (x1 / width, x2 / width, y1 / height, y2 / height))
            boxes.append((image_id, "", dataset.class_names[class_id], 1, *fractions, -1, -1, 0, -1, -1))  # -1 is "unknown"
    for name, rows in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(out / "annotations" / f"{name}.csv", text.getvalue())
