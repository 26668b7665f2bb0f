"""Hugging Face image folder: metadata.jsonl or metadata.csv with `file_name` and `objects` (`bbox`, `category`), or Parquet.

Specification: https://huggingface.co/docs/datasets/image_dataset#object-detection; classes are ClassLabel features of README.md,
https://huggingface.co/docs/datasets/about_dataset_features.

Units: `bbox` is x, y, width, height in pixels (as COCO), origin at the top-left corner. That is a custom and no rule: `options:
{box: xyxy}` (two corners) or `cxcywh` (centre and size) say otherwise, and `normalised: true` means fractions of the image.

Quirks: the columns have no fixed names: boxes are in `bbox`, `bboxes`, `boxes` or `box`, of `objects` or any other column, or of
the row itself; classes in `category`, `label`, `class_id` and the like. `objects` may be an object of lists or a list of objects.
Classes are names, or numbers of the names that `options: {names: [...]}`, the schema of the Parquet file, or README.md or
dataset_info.json near the file list; without any they are called `class_0` and so on. Boxes of an `iscrowd` region are dropped,
as in COCO. The split is taken from the file's name or folder (`train-00000-of-00001.parquet`, `test/metadata.jsonl`). A Parquet
file mostly holds the images themselves: they have to be unpacked beside it, under the names in `image.path`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.errors import DataError
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, spread
from pipeline.formats._csv import read_header, read_table
from pipeline.formats._huggingface_names import CLASS_KEYS, names_near
from pipeline.formats._huggingface_parquet import BOX_KEYS, NAME_KEYS, ParquetTable, has_boxes
from pipeline.formats._json import parse_bytes
from pipeline.formats._ndjson import NumberedClasses, as_number, head_of, records
from pipeline.formats._shapes import Box
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_file
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
_SUFFIXES = (".jsonl", ".csv", ".parquet")
_METADATA = tuple(f"metadata{suffix}" for suffix in _SUFFIXES)
_CROWD_KEYS = ("iscrowd", "is_crowd")


class Options(StageParams):
    """`box`: what the four numbers of a box are; `normalised`: whether they are fractions; `names`: class names by number."""

    box: Literal["xywh", "xyxy", "cxcywh"] = "xywh"
    normalised: bool = False
    names: list[str] = Field(default_factory=list)


@dataclass
class _Reading:
    """One file being read."""

    path: str
    photos: frozenset[str]
    labels: Labels
    ledger: Ledger
    options: Options
    classes: NumberedClasses

    def drop(self, image: int, place: int, reason: str, detail: str) -> None:
        record = self.labels.images[image]
        line, words = self.labels.locate(self.path, place)
        self.ledger.add(
            "box", "dropped", reason, path=record.label, file=self.path, line=line, detail=f"{words} {detail}".strip()
        )


@dataclass(frozen=True)
class _Source:
    """A file opened: rows with their places, the class names that it lists itself, and whether it may hold the images."""

    rows: Iterator[tuple[int, dict[str, Any]]]
    names: dict[int, str] | None = None
    has_pixels: bool = False


def detect(files: FileSet) -> Evidence | None:
    found = next((path for path in spread(files.with_suffix(*_SUFFIXES), 200) if _is_ours(files, path)), None)
    return Evidence(f"{found} has boxes of images by file name") if found else None


def _is_ours(files: FileSet, path: str) -> bool:
    if path.lower().endswith(".parquet"):
        return has_boxes(files, path)
    if path.lower().endswith(".csv"):
        return {"file_name", "objects"} <= set(read_header(files, path))
    head = head_of(files, path)
    return head.lstrip().startswith(b"{") and b'"file_name"' in head and any(f'"{key}"'.encode() in head for key in BOX_KEYS)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=options.normalised, locate=_locate)
    photos = frozenset(files.photos)
    near: dict[str, dict[int, str] | None] = {}
    has_order = False
    for path in files.with_suffix(*_SUFFIXES):
        if path.rpartition("/")[2] not in _METADATA and not _is_ours(files, path):
            continue
        try:
            source, folder = _open(files, path, labels), path.rpartition("/")[0]
            names = dict(enumerate(options.names)) or source.names
            if not names:
                if folder not in near:
                    near[folder] = names_near(files, path, labels.malformed)
                names = near[folder]
            if names:
                labels.class_ids(list(names.values()), path, ledger)
            reading = _Reading(path, photos, labels, ledger, options, NumberedClasses(labels, names))
            first = len(labels.images)
            for place, record in source.rows:
                _read_record(record, place, reading)
            if source.has_pixels:
                _refuse_images_inside(reading, labels.images[first:])
            has_order = has_order or bool(names or reading.classes.made)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
    if not has_order:
        labels.sort_classes()
    return labels


def _locate(path: str, place: int) -> tuple[int, str]:
    return (0, f"row {place}") if path.lower().endswith(".parquet") else (place, "")


def _open(files: FileSet, path: str, labels: Labels) -> _Source:
    if path.lower().endswith(".parquet"):
        table = ParquetTable(files, path)
        return _Source(enumerate(table.rows(), 1), table.names, table.has_pixels)
    return _Source(_csv_records(files, path) if path.lower().endswith(".csv") else records(files, path, labels))


def _csv_records(files: FileSet, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    table = read_table(files, path)
    for line, cells in table.rows:
        yield line, {key: _cell(cell, f"{path}:{line}") for key, cell in zip(table.header, cells, strict=False)}


def _cell(cell: str, where: str) -> Any:
    """JSON where a cell looks like it, also with the single quotes in which Python prints it; its text otherwise."""
    if not cell.lstrip().startswith(("{", "[")):
        return cell
    return parse_bytes((cell if '"' in cell else cell.replace("'", '"')).encode(), where)


def _refuse_images_inside(reading: _Reading, images: Sequence[LabelledImage]) -> None:
    """
    Raises:
        DataError: not one of the images lies in the tree, so that they are most likely in the Parquet file.
    """
    known = {photo.rpartition("/")[2].lower() for photo in reading.photos}
    if images and not any(name.rpartition("/")[2].lower() in known for image in images for name in image.names):
        example = next((image.names[0] for image in images if image.names), "")
        raise DataError(
            f"{reading.path}: the images lie inside the Parquet file; unpack them beside it, under the names in its column "
            f"for images{f' ({example})' if example else ', which has none'}"
        )


def _read_record(record: Mapping[str, Any], place: int, reading: _Reading) -> None:
    names = [name for key in NAME_KEYS if isinstance(name := record.get(key), str) and name]
    names += [part["path"] for part in record.values() if isinstance(part, dict) and isinstance(part.get("path"), str)]
    folders = (
        posixpath.dirname(reading.path),
        posixpath.splitext(reading.path)[0],
    )  # one may unpack a file beside it, or into a folder
    places = [posixpath.join(folder, names[0]) for folder in folders if names]
    image = reading.labels.add_image(
        LabelledImage(
            reading.path,
            tuple(names),
            path=next((place for place in places if place in reading.photos), ""),
            line=reading.labels.locate(reading.path, place)[0],
            width=as_size(record.get("width")),
            height=as_size(record.get("height")),
            split=split_of_file(reading.path),
        )
    )
    for item in _objects_of(record):
        _read_object(item, image, place, reading)


def _objects_of(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The boxes of a row, each with what else is said of it."""
    for value in (record.get("objects"), *record.values(), record):
        if isinstance(value, dict) and _first(value, BOX_KEYS):
            yield from _transposed(value)
            return
        if isinstance(value, list) and any(isinstance(item, dict) and _first(item, BOX_KEYS) for item in value):
            yield from (item if isinstance(item, dict) else {"bbox": item} for item in value)
            return


def _transposed(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Objects, of an object of lists; also of one box that is in no list."""
    boxes = columns[_first(columns, BOX_KEYS)]
    if not isinstance(boxes, list) or (boxes and not isinstance(boxes[0], (list, tuple, dict))):
        yield dict(columns)
        return
    lists = {key: column for key, column in columns.items() if isinstance(column, list)}
    for number in range(len(boxes)):
        yield {key: column[number] for key, column in lists.items() if number < len(column)}


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if item.get(key) is not None), "")


def _read_object(item: dict[str, Any], image: int, place: int, reading: _Reading) -> None:
    box = _box_of(item.get(_first(item, BOX_KEYS)), reading.options.box)
    key = _first(item, CLASS_KEYS)
    class_id, reason = _class_of(item[key], reading) if key else _only_class(reading)
    if any(item.get(crowd) for crowd in _CROWD_KEYS):
        reading.drop(image, place, "crowd", "")
    elif box is None:
        reading.drop(image, place, "malformed_box", brief(item))
    elif class_id is None:
        reading.drop(image, place, reason, brief(item))
    else:
        reading.labels.rows.extend((image, class_id, *box, place))


def _only_class(reading: _Reading) -> tuple[int | None, str]:
    """What a box without a class can only be: the one name that the user gave."""
    return (reading.classes.find(0) if len(reading.options.names) == 1 else None), "no_class"


def _class_of(value: Any, reading: _Reading) -> tuple[int | None, str]:
    if isinstance(value, str):
        name = value.strip()
        return (reading.labels.class_id(name) if name else None), "no_class"
    number = as_number(value)
    return (reading.classes.find(number) if number is not None else None), "unknown_class"


def _box_of(values: Any, kind: str) -> Box | None:
    try:
        a, b, c, d = map(float, values)
    except (TypeError, ValueError, OverflowError):
        return None
    if kind == "xywh":
        return a, b, a + c, b + d
    return (a, b, c, d) if kind == "xyxy" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
