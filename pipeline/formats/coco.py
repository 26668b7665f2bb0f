"""COCO: JSON files with `images`, `annotations` and `categories` (one file, or one a split).

Specification: https://cocodataset.org/#format-data (object detection).

Units: `bbox` is x, y, width, height in pixels, floats, origin at the top-left corner; `images` declare width and height.

Quirks: category ids are arbitrary, with gaps, and start at 0 or 1: classes are kept by name, in the order of their ids. An
annotation without a `bbox` gets the tight box of its polygons or its mask. `iscrowd` marks a region of many objects, which is
no box of one: it is dropped, and the ledger says so. Python writes NaN and Infinity, which are no JSON: such a file is read and
the box dropped. Roboflow puts a category of the project's name first, the supercategory of all others and never used: it is
left out. The split is taken from the file's name or folder (`instances_val2017.json`, `train/_annotations.coco.json`).
Beside `instances_*.json` the other tasks of the COCO data set (captions, keypoints, stuff, panoptic) repeat the same images
and are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, link_images, spread
from pipeline.formats._json import SNIFFED_FILES, has_keys, is_utf8, parse_bytes
from pipeline.formats._shapes import Box, of_coco_rle, of_flat
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_file
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
IMAGES = "images"
_OTHER_TASKS = re.compile(r"(person_keypoints|captions|stuff|panoptic|image_info)_")


class Options(StageParams):
    """COCO has none."""


def detect(files: FileSet) -> Evidence | None:
    candidates = spread(files.with_suffix(".json"), SNIFFED_FILES)
    found = next((path for path in candidates if has_keys(files, path, "images", "annotations", "categories")), None)
    return Evidence(f"{found} has the keys images, annotations and categories") if found else None


def _label_files(files: FileSet) -> list[str]:
    return [path for path in files.with_suffix(".json") if has_keys(files, path, "images", "annotations", "categories")]


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=lambda file, annotation: (0, f"annotation {annotation}"))
    paths = _label_files(files)
    instances = [path for path in paths if path.rpartition("/")[2].startswith("instances_")]
    for path in paths:
        if instances and _OTHER_TASKS.match(path.rpartition("/")[2]):
            ledger.add("file", "dropped", "other_task", file=path, detail=f"{instances[0]} holds the boxes")
            continue
        parts = _parse(files, path, labels)
        if parts is not None:
            _read_document(*parts, path, labels, ledger)
    return labels


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    width: Any = 0
    height: Any = 0
    video_id: Any = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    id: Any = None
    iscrowd: Any = 0


class _Document(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]


Row = msgspec.Raw | dict[str, Any]
Kind = TypeVar("Kind", _Image, _Annotation)


def _parse(files: FileSet, path: str, labels: Labels) -> tuple[list[Row], list[Row], list[dict[str, Any]]] | None:
    """Images, annotations and categories; None where that is not what the file holds.

    The rows stay JSON until they are looked at, one by one: a fifth of the memory of a tree of Python objects, and three times as
    fast. Only what is no strict JSON (NaN, a byte-order mark, UTF-16) comes as objects.
    """
    data = files.read_bytes(path)
    try:
        document = msgspec.json.decode(data, type=_Document)
        if is_utf8(data):  # which rows that were skipped over need not be
            return [*document.images], [*document.annotations], _objects(document.categories)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        value = parse_bytes(data, path)
    except DataError as error:
        labels.malformed.append(Malformed.of(error, path))
        return None
    if not isinstance(value, dict):
        labels.malformed.append(Malformed(path, 0, "expected an object with images, annotations and categories"))
        return None
    for key in ("images", "annotations", "categories"):
        if not isinstance(value.get(key), list):
            labels.malformed.append(Malformed(path, 0, f"'{key}' must be a list of objects"))
            return None
    return value["images"], value["annotations"], _objects(value["categories"])


def _objects(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [row for row in map(_object, rows) if row]


def _object(row: Any) -> dict[str, Any]:
    """A row whatever its values; empty for what is no object."""
    try:
        value = msgspec.json.decode(row) if isinstance(row, msgspec.Raw) else row
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _taker(rows: Sequence[Row], kind: type[Kind]) -> Callable[[Row], Kind]:
    """What turns a row into a `kind`; it raises for a row that lacks something or has other types."""
    if rows and isinstance(rows[0], msgspec.Raw):
        return cast("Callable[[Row], Kind]", msgspec.json.Decoder(kind).decode)
    return lambda row: msgspec.convert(row, kind)


def _read_document(
    images: list[Row], annotations: list[Row], categories: list[dict[str, Any]], path: str, labels: Labels, ledger: Ledger
) -> None:
    class_ids = _read_categories(categories, annotations, path, labels, ledger)
    image_ids = _read_images(images, path, labels, ledger)
    rows, take = labels.rows, _taker(annotations, _Annotation)
    for number, row in enumerate(annotations):
        try:
            one = take(row)
            if not one.iscrowd:
                x, y, width, height = one.bbox
                image, class_id = image_ids[one.image_id], class_ids[one.category_id]
                place = one.id if type(one.id) is int and abs(one.id) < 2**53 else number
                rows.extend((image, class_id, x, y, x + width, y + height, place))
                continue
        except (KeyError, ValueError, OverflowError, RecursionError):
            pass
        _read_odd_annotation(_object(row), number, path, image_ids, class_ids, labels, ledger)


def _read_images(rows: Sequence[Row], path: str, labels: Labels, ledger: Ledger) -> dict[object, int]:
    """Image id → number of the record."""
    numbers: dict[object, int] = {}
    split, take = split_of_file(path), _taker(rows, _Image)
    for row in rows:
        try:
            one = take(row)
        except (ValueError, RecursionError):
            one = _Image(-1, "")
        if not one.file_name:
            odd = _object(row)
            detail = f"image {brief(odd.get('id'))}: file_name {brief(odd.get('file_name'))}"
            ledger.add("image", "dropped", "no_file_name", file=path, detail=detail)
        elif one.id in numbers:
            ledger.add("image", "dropped", "duplicate_id", path=one.file_name, file=path, detail=f"image id {one.id} is taken")
        else:
            group = f"{path}: video {one.video_id}" if isinstance(one.video_id, (int, str)) else ""
            size = as_size(one.width), as_size(one.height)
            record = LabelledImage(path, (one.file_name,), width=size[0], height=size[1], split=split, group=group)
            numbers[one.id] = labels.add_image(record)
    return numbers


def _read_categories(
    categories: list[dict[str, Any]], annotations: Sequence[Row], path: str, labels: Labels, ledger: Ledger
) -> dict[object, int]:
    rows = [row for row in categories if isinstance(row.get("id"), (int, str))]
    rows.sort(key=lambda row: (isinstance(row["id"], str), row["id"]))
    if _is_roboflow_root(rows) and all(_object(row).get("category_id") != rows[0]["id"] for row in annotations):
        detail = f"category '{rows[0]['name']}' is the project's name, without boxes"
        ledger.add("file", "converted", "project_as_category", file=path, detail=detail)
        rows = rows[1:]
    names: dict[object, str] = {}
    for row in rows:
        number, name = row["id"], _class_name(row.get("name"))
        if number not in names:
            names[number] = name or f"class_{number}"
            if not name:
                detail = f"category {brief(number)} is called {brief(row.get('name'))}: taken for '{names[number]}'"
                ledger.add("file", "converted", "class_names_invented", file=path, detail=detail)
        elif name != names[number]:
            detail = f"category id {brief(number)} is '{names[number]}' and '{name}': the first is taken"
            ledger.add("file", "converted", "duplicate_id", file=path, detail=detail)
    return dict(zip(names, labels.class_ids([*names.values()], path, ledger), strict=True))


def _class_name(value: Any) -> str:
    return str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _is_roboflow_root(rows: list[dict[str, Any]]) -> bool:
    """Whether the first category is Roboflow's: supercategory "none", and the supercategory of every other."""
    if len(rows) < 2 or rows[0].get("supercategory") != "none":
        return False
    return all(row.get("supercategory") == rows[0].get("name") for row in rows[1:])


def _read_odd_annotation(
    annotation: dict[str, Any],
    number: int,
    path: str,
    images: dict[object, int],
    class_ids: dict[object, int],
    labels: Labels,
    ledger: Ledger,
) -> None:
    """What the fast path could not take: a crowd, unknown ids, numbers as text, or polygons without a box."""
    place = annotation.get("id")
    place = place if type(place) is int and abs(place) < 2**53 else number
    image, class_id = _look_up(images, annotation.get("image_id")), _look_up(class_ids, annotation.get("category_id"))
    box, reason, detail, shape = None, "", "", ""
    if annotation.get("iscrowd"):
        reason = "crowd"
    elif image is None:
        reason, detail = "unknown_image", f"image_id {brief(annotation.get('image_id'))}"
    elif class_id is None:
        reason, detail = "unknown_class", f"category_id {brief(annotation.get('category_id'))}"
    else:
        box = _box(annotation.get("bbox"))
        if box is None:
            box, shape = _box_of_segmentation(annotation.get("segmentation"))
        reason, detail = "malformed_box", f"bbox {brief(annotation.get('bbox'))}"
    name = labels.images[image].label if image is not None else ""
    if box is None or image is None or class_id is None:
        ledger.add("box", "dropped", reason, path=name, file=path, detail=f"annotation {place} {detail}".strip())
        return
    if shape:
        ledger.add("box", "converted", shape, path=name, file=path, detail=f"annotation {place}")
    labels.rows.extend((image, class_id, *box, place))


def _look_up(numbers: dict[object, int], key: object) -> int | None:
    if not isinstance(key, (int, str)):
        return None
    if key in numbers:
        return numbers[key]
    other = str(key) if isinstance(key, int) else int(key) if key.strip().isdecimal() and len(key) < 20 else None
    return numbers.get(other)


def _box(bbox: Any) -> Box | None:
    if not isinstance(bbox, (list, tuple)) or any(isinstance(value, bool) for value in bbox):
        return None
    try:
        x, y, width, height = map(float, bbox)
    except (TypeError, ValueError, OverflowError):
        return None
    return x, y, x + width, y + height


def _box_of_segmentation(segmentation: Any) -> tuple[Box | None, str]:
    """The tight box of all polygons of an object, or of its mask, and what it was."""
    if isinstance(segmentation, dict):
        return of_coco_rle(segmentation), "mask"
    try:
        return of_flat([value for polygon in segmentation for value in polygon]), "polygon"
    except TypeError:
        return None, "polygon"


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and `annotations/instances_<split>.json` a split; `instances_default.json` for images of none.

    Image, annotation and category ids start at 1 and go through all files.
    """
    link_images(dataset, images_folder, out / IMAGES)
    categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(dataset.class_names, 1)]
    paths, splits = dataset.paths, dataset.splits
    sizes = dataset.sizes.tolist()
    annotations: dict[str, list[dict[str, object]]] = {split: [] for split in splits}
    boxes = zip(dataset.image_of_box.tolist(), dataset.class_ids.tolist(), dataset.edges.tolist(), strict=True)
    for number, (image, class_id, (x1, y1, x2, y2)) in enumerate(boxes, 1):
        bbox = [x1, y1, x2 - x1, y2 - y1]
        row = {"id": number, "image_id": image + 1, "category_id": class_id + 1, "bbox": bbox}
        annotations[splits[image]].append({**row, "area": bbox[2] * bbox[3], "iscrowd": 0})
    for split in sorted(annotations):
        images = [
            {"id": number + 1, "file_name": path, "width": sizes[number][0], "height": sizes[number][1]}
            for number, path in enumerate(paths)
            if splits[number] == split
        ]
        document = {"images": images, "annotations": annotations[split], "categories": categories}
        write_bytes(out / "annotations" / f"instances_{split or 'default'}.json", orjson.dumps(document))
