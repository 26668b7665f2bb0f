"""Ultralytics NDJSON: a line `{"type": "dataset", "class_names": …}`, then a line `{"type": "image", "file": …}` for each image.

Specification: https://docs.ultralytics.com/datasets/detect/#ultralytics-ndjson-format; Ultralytics Platform exports it, and
`convert_ndjson_to_yolo` reads it (https://github.com/ultralytics/ultralytics/blob/main/ultralytics/data/converter.py).

Units: fractions of the image's width and height, origin at the top-left corner; `boxes` are rows `class cx cy w h`; class numbers
start at 0.

Quirks: `annotations` may also hold `segments` (`class x1 y1 x2 y2 …`) and `obb` (four corners), which get tight boxes, `pose` (a
box and keypoints, which are not kept), and `classification`. An image without `annotations` has nothing on it. A class number
that `class_names` lacks is a defect here; Ultralytics makes up a class. Images are downloaded from signed `url`s, mostly under
their `file` name. A `path` in the first line means that they lie in `<path>/images/<split>/<file>` already: `write` says so
where they do (each image directly in a folder named after its split), and only then can Ultralytics read the folder as it is. It
also wants a split for every image.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson

from pipeline.files import write_bytes
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, link_images, spread
from pipeline.formats._ndjson import NumberedClasses, as_number, head_of, records
from pipeline.formats._shapes import Box, of_flat
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_folder
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
IMAGES = "images"
_RECORD = re.compile(rb'"type"\s*:\s*"(dataset|image)"')
_OWN_KEY = re.compile(rb'"(class_names|file)"\s*:')


class Options(StageParams):
    """Ultralytics NDJSON has none."""


@dataclass
class _Reading:
    """One file being read.

    Attributes:
        ends: the last folder and the name of every photo.
        folder: where `path` in the first line leads to; None where that says nothing.
    """

    path: str
    photos: frozenset[str]
    ends: frozenset[str]
    labels: Labels
    ledger: Ledger
    classes: NumberedClasses
    folder: str | None = None

    def note(self, image: int, action: Action, reason: str, detail: str = "") -> None:
        record = self.labels.images[image]
        self.ledger.add("box", action, reason, path=record.label, file=record.file, line=record.line, detail=detail)


def detect(files: FileSet) -> Evidence | None:
    found = next((path for path in spread(files.with_suffix(".ndjson", ".jsonl"), 200) if _is_ours(files, path)), None)
    return Evidence(f"{found} has lines of the types dataset and image") if found else None


def _is_ours(files: FileSet, path: str) -> bool:
    head = head_of(files, path)
    return bool(head.lstrip().startswith(b"{") and _RECORD.search(head) and _OWN_KEY.search(head))


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=True)
    photos = frozenset(files.photos)
    ends = frozenset("/".join(photo.split("/")[-2:]) for photo in photos)
    for path in files.with_suffix(".ndjson", ".jsonl"):
        if path.lower().endswith(".ndjson") or _is_ours(files, path):
            _read_file(files, _Reading(path, photos, ends, labels, ledger, NumberedClasses(labels, None)))
    return labels


def _read_file(files: FileSet, reading: _Reading) -> None:
    for line, record in records(files, reading.path, reading.labels):
        kind = record.get("type")
        if kind == "dataset" or (kind is None and "class_names" in record):
            _read_header(record, line, reading)
        elif kind == "image" or (kind is None and "file" in record):
            _read_image(record, line, reading)
        else:
            reading.ledger.add("file", "dropped", "unknown_record", file=reading.path, line=line, detail=f"type {brief(kind)}")


def _read_header(record: Mapping[str, Any], line: int, reading: _Reading) -> None:
    labels, listed = reading.labels, record.get("class_names")
    if isinstance(listed, list):
        listed = dict(enumerate(listed))
    if isinstance(listed, dict):
        names = {as_number(key): name.strip() for key, name in listed.items() if isinstance(name, str) and name.strip()}
        numbers = sorted(number for number in names if number is not None)
        if len(numbers) < len(listed):
            labels.malformed.append(Malformed(reading.path, line, "'class_names' must map numbers to names"))
        labels.class_ids([names[number] for number in numbers], reading.path, reading.ledger)
        reading.classes = NumberedClasses(labels, {number: names[number] for number in numbers})
    elif listed is not None:
        labels.malformed.append(Malformed(reading.path, line, "'class_names' must map numbers to names"))
    local = record.get("path")
    reading.folder = posixpath.join(posixpath.dirname(reading.path), local) if isinstance(local, str) and local else None


def _read_image(record: Mapping[str, Any], line: int, reading: _Reading) -> None:
    image = reading.labels.add_image(_image_of(record, line, reading))
    annotations = record.get("annotations")
    if annotations is None:
        return
    if not isinstance(annotations, dict):
        reading.note(image, "dropped", "malformed_box", f"annotations {brief(annotations)}")
        return
    for kind, rows in annotations.items():
        if not isinstance(rows, list):
            reading.note(image, "dropped", "malformed_box", f"{brief(kind)} {brief(rows)}")
            continue
        for row in rows:
            _read_row(kind, row, image, reading)


def _image_of(record: Mapping[str, Any], line: int, reading: _Reading) -> LabelledImage:
    file = record["file"] if isinstance(record.get("file"), str) else ""
    written = record["split"] if isinstance(record.get("split"), str) else ""
    of_split = f"{written}/{file}"  # one file names the images of all splits, which may lie in folders and share names
    names = [of_split if of_split in reading.ends else "", file, _name_in_url(record.get("url"))]
    if reading.folder is None:
        place = posixpath.join(posixpath.dirname(reading.path), file)
    else:
        place = posixpath.normpath(posixpath.join(reading.folder, "images", written, file))
    return LabelledImage(
        reading.path,
        tuple(name for name in names if name),
        path=place if place in reading.photos else "",
        line=line,
        width=as_size(record.get("width")),
        height=as_size(record.get("height")),
        split=split_of_folder(f"{written}/"),
    )


def _name_in_url(url: Any) -> str:
    """The file name at the end of a URL, without the signature that follows it."""
    try:
        return unquote(urlsplit(url).path.rpartition("/")[2]) if isinstance(url, str) else ""
    except ValueError:
        return ""


def _read_row(kind: str, row: Any, image: int, reading: _Reading) -> None:
    if kind == "classification":
        reading.note(image, "dropped", "tag", f"class {brief(row)}")
        return
    number = as_number(row[0]) if isinstance(row, list) and row else None
    class_id = reading.classes.find(number) if number is not None else None
    box = _box_of(kind, row[1:]) if number is not None else None
    if box is None:
        reading.note(image, "dropped", "malformed_box", f"{brief(kind)} {brief(row)}")
        return
    if class_id is None:
        reading.note(image, "dropped", "unknown_class", f"class {number}")
        return
    if kind in ("segments", "obb"):
        reading.note(image, "converted", "polygon" if kind == "segments" else "rotated_box")
    reading.labels.rows.extend((image, class_id, *box, reading.labels.images[image].line))


def _box_of(kind: str, values: list[Any]) -> Box | None:
    if kind == "segments" or (kind == "obb" and len(values) == 8):
        return of_flat(values)
    if (kind == "boxes" and len(values) == 4) or (kind == "pose" and len(values) >= 4):
        try:
            cx, cy, width, height = map(float, values[:4])
        except (TypeError, ValueError, OverflowError):
            return None
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    return None


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and dataset.ndjson."""
    link_images(dataset, images_folder, out / IMAGES)
    records = list(dataset.image_rows("path", "width", "height", "split"))
    is_local = all(split and path.rpartition("/")[0] == split for path, _, _, split in records)
    header = {"type": "dataset", "task": "detect", "name": "dataset", "description": ""}
    names = {str(number): name for number, name in enumerate(dataset.class_names)}
    lines: list[dict[str, object]] = [{**header, **({"path": "."} if is_local else {}), "class_names": names}]
    for (path, width, height, split), (edges, class_ids) in zip(records, dataset.by_image(), strict=True):
        rows = [
            [class_id, (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
            for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), edges.tolist(), strict=True)
        ]
        file = path.rpartition("/")[2] if is_local else f"{IMAGES}/{path}"
        lines.append(
            {
                "type": "image",
                "file": file,
                "width": width,
                "height": height,
                **({"split": split} if split else {}),
                "annotations": {"boxes": rows},
            }
        )
    write_bytes(out / "dataset.ndjson", b"".join(orjson.dumps(line) + b"\n" for line in lines))
