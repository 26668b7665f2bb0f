"""Supervisely: `<dataset>/ann/<image name>.json` with `size`, `tags` and `objects`, images in `<dataset>/img/`, and meta.json.

Specification: https://developer.supervisely.com/getting-started/supervisely-annotation-format, and the code that reads and writes
it, https://github.com/supervisely/supervisely/tree/master/supervisely/geometry.

Units: pixels, origin at the top-left corner. Supervisely's labelling tool stores the edges of a rectangle; its Python SDK, which
writes most exports, turns them into the whole numbers of the first and the last pixel (`_to_pixel_coordinate_system_json` in
rectangle.py), while the SDK's own converters from YOLO and COCO write edges again. Nothing in a file tells the two apart, so
numbers are kept as they are; `options: {inclusive: true}` adds 1 to right and bottom, as the SDK does when it measures.

Quirks: an annotation's name is the whole name of its image and ".json"; old exports leave the image's suffix out. `classTitle`
names the class; where it is missing, `classId` does, by way of meta.json. Objects of old exports have the shape that meta.json
gives their class. Classes come in the order of meta.json, without those of points, lines, graphs and cuboids; a class that is
not in it is kept. Polygons, bitmaps, alpha masks and oriented boxes (`angle` in radians, clockwise) get their tight boxes. An
image tag that is named exactly train, val or test is the split. The SDK takes images from `img/` itself and not from folders in
it, which is where `write` puts images that lie in folders; the platform's import finds them there by their names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes, write_unseen
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, link_images, spread
from pipeline.formats._json import SNIFFED_FILES, has_keys, parse
from pipeline.formats._shapes import Box, of_bitmap, of_points, of_rotated
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
IMAGES = "dataset/img"
_LABELS = "dataset/ann"
_KEYS = ("size", "height", "width", "tags", "objects")
_SPLITS = ("train", "val", "test")
_CONVERTED = {
    "polygon": "polygon",
    "multipolygon": "polygon",
    "oriented_bbox": "rotated_box",
    "bitmap": "mask",
    "alpha_mask": "mask",
}
_DROPPED = {
    "line": "polyline",
    "point": "point",
    "graph": "keypoints",
    "cuboid": "cuboid",
    "cuboid_2d": "cuboid",
    "cuboid_3d": "cuboid",
}


class Options(StageParams):
    """`inclusive`: right and bottom are the last pixel of an object, as the SDK has it, not its edge."""

    inclusive: bool = False


@dataclass(frozen=True)
class _Class:
    """What meta.json says of a class."""

    title: str
    shape: str


@dataclass
class _Reading:
    """One call of `read`; `classes` are those of meta.json by title (a text) and by id (a number)."""

    files: FileSet
    photos: frozenset[str]
    labels: Labels
    ledger: Ledger
    options: Options
    classes: Mapping[object, _Class]

    def note(self, image: int, number: int, action: Action, reason: str, detail: str) -> None:
        record = self.labels.images[image]
        detail = f"object {number + 1} {detail}".strip()
        self.ledger.add("box", action, reason, path=record.label, file=record.file, detail=detail)


def detect(files: FileSet) -> Evidence | None:
    candidates = spread(files.with_suffix(".json"), SNIFFED_FILES)
    found = next((path for path in candidates if has_keys(files, path, *_KEYS)), None)
    return Evidence(f"{found} has the keys size, tags and objects") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=lambda file, number: (0, f"object {number + 1}"))
    reading = _Reading(files, frozenset(files.photos), labels, ledger, options, _read_metas(files, labels, ledger))
    for path in files.with_suffix(".json"):
        if not _is_meta(path) and ("ann" in path.split("/")[:-1] or has_keys(files, path, *_KEYS)):
            _read_file(path, reading)
    return labels


def _is_meta(path: str) -> bool:
    return path.rpartition("/")[2] == "meta.json" and "ann" not in path.split("/")[:-1]


def _read_metas(files: FileSet, labels: Labels, ledger: Ledger) -> dict[object, _Class]:
    """The classes that every meta.json of the tree lists, in their order; a tree may hold several projects."""
    classes: dict[object, _Class] = {}
    for path in filter(_is_meta, files.with_suffix(".json")):
        try:
            document = parse(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        listed = document.get("classes") if isinstance(document, dict) else None
        if listed is None:
            continue  # another tool's meta.json
        if not isinstance(listed, list):
            labels.malformed.append(Malformed(path, 0, "'classes' must be a list of objects"))
            continue
        for row in listed:
            title = _text(row, "title")
            if not title:
                labels.malformed.append(Malformed(path, 0, f"a class without a 'title': {brief(row)}"))
                continue
            classes[title] = _Class(title, _text(row, "shape"))
            if classes[title].shape in _DROPPED:
                detail = f"{title} is a class of the shape {classes[title].shape}"
                ledger.add("file", "converted", "class_without_boxes", file=path, detail=detail)
            else:
                labels.class_id(title)
            if type(row.get("id")) is int:
                classes[row["id"]] = classes[title]
    return classes


def _read_file(path: str, reading: _Reading) -> None:
    labels = reading.labels
    try:
        document = parse(reading.files, path)
    except DataError as error:
        labels.malformed.append(Malformed.of(error, path, labels.add_image(_image_of(path, {}, reading))))
        return
    inner = document.get("annotation") if isinstance(document, dict) else None
    body = inner if isinstance(inner, dict) else document  # the server's answer wraps an annotation
    image = labels.add_image(_image_of(path, body if isinstance(body, dict) else {}, reading))
    objects = body.get("objects") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(objects, list):
        labels.malformed.append(Malformed(path, 0, "expected an object with a list 'objects'", image))
        return
    if "frames" in body:
        labels.malformed.append(Malformed(path, 0, "it labels a video; export its frames as images", image))
        return
    _note_tags(_tags_of(body), image, reading)
    for number, item in enumerate(objects):
        _read_object(item, number, image, reading)


def _image_of(path: str, body: Mapping[str, Any], reading: _Reading) -> LabelledImage:
    """The image that an annotation file speaks of: the one in the folder `img` that mirrors its folder `ann`."""
    *folders, name = path[: -len(".json")].split("/")
    if "ann" in folders:
        last = len(folders) - 1 - folders[::-1].index("ann")
        folders[last] = "img"
        name = "/".join([*folders[last:], name])
        folders = folders[:last]
    mirrored = "/".join([*folders, name])
    splits = [split for split in _SPLITS if split in _tags_of(body)]
    size = body["size"] if isinstance(body.get("size"), dict) else {}
    return LabelledImage(
        path,
        (name,),
        path=mirrored if mirrored in reading.photos else "",
        width=as_size(size.get("width")),
        height=as_size(size.get("height")),
        split=splits[0] if len(splits) == 1 else "",
    )


def _tags_of(body: Mapping[str, Any]) -> list[str]:
    tags = body.get("tags")
    names = [tag if isinstance(tag, str) else _text(tag, "name") for tag in (tags if isinstance(tags, list) else [])]
    return [name for name in names if name]


def _note_tags(tags: Sequence[str], image: int, reading: _Reading) -> None:
    record = reading.labels.images[image]
    splits = [split for split in _SPLITS if split in tags]
    if len(splits) > 1:
        detail = f"tagged {' and '.join(splits)}: it counts as being in none"
        reading.ledger.add("file", "kept", "overlapping_splits", file=record.file, detail=detail)
    for tag in tags:
        if tag not in _SPLITS:
            reading.ledger.add("box", "dropped", "tag", path=record.label, file=record.file, detail=f"the image's tag {tag}")


def _text(item: Any, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _read_object(item: Any, number: int, image: int, reading: _Reading) -> None:
    if not isinstance(item, dict):
        reading.note(image, number, "dropped", "malformed_box", f"{brief(item)}")
        return
    class_number = item.get("classId")
    listed = reading.classes.get(_text(item, "classTitle") or (class_number if isinstance(class_number, int) else None))
    title = _text(item, "classTitle") or (listed.title if listed else "")
    shape = _text(item, "geometryType") or _text(item, "shape") or (listed.shape if listed else "")
    if shape in _DROPPED:
        reading.note(image, number, "dropped", _DROPPED[shape], f"{title} {shape}")
        return
    if not title:
        unknown = isinstance(class_number, int)
        detail = f"classId {class_number}" if unknown else ""
        reading.note(image, number, "dropped", "unknown_class" if unknown else "no_class", detail)
        return
    box = _box_of(item, shape, 1.0 if reading.options.inclusive else 0.0)
    if box is None:
        reading.note(image, number, "dropped", "malformed_box", f"{title} {shape} {brief(item.get('points'))}")
        return
    if shape in _CONVERTED:
        reading.note(image, number, "converted", _CONVERTED[shape], title)
    reading.labels.rows.extend((image, reading.labels.class_id(title), *box, number))


def _box_of(item: dict[str, Any], shape: str, beyond: float) -> Box | None:
    """The tight box of an object; `beyond` is what right and bottom lie beyond the numbers in the file."""
    try:
        if shape in ("bitmap", "alpha_mask"):
            return _box_of_bitmap(item["bitmap"])
        if shape == "rectangle":
            (x1, y1), (x2, y2) = item["points"]["exterior"]
            return float(x1), float(y1), float(x2) + beyond, float(y2) + beyond
        if shape == "oriented_bbox":
            (x1, y1), (x2, y2) = item["points"]
            angle = math.degrees(float(item.get("angle") or 0))
            return of_rotated(float(x1), float(y1), float(x2) + beyond, float(y2) + beyond, angle)
        if shape == "polygon":
            box = of_points(item["points"]["exterior"])
        elif shape == "multipolygon":
            box = of_points([point for part in item["parts"] for point in part["exterior"]])
        else:
            return None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (box[0], box[1], box[2] + beyond, box[3] + beyond) if box else None


def _box_of_bitmap(bitmap: dict[str, Any]) -> Box | None:
    x, y = bitmap["origin"]
    origin = float(x), float(y)
    # The platform compresses the PNG, other writers do not; the SDK tries the one, then the other.
    return of_bitmap(bitmap["data"], origin, is_compressed=True) or of_bitmap(bitmap["data"], origin)


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`meta.json`, `dataset/img/<path>` and `dataset/ann/<path>.json`; splits are image tags."""
    link_images(dataset, images_folder, out / IMAGES)
    classes = [
        {"title": name, "shape": "rectangle", "color": _colour(number), "geometry_config": {}, "hotkey": ""}
        for number, name in enumerate(dataset.class_names)
    ]
    splits = [split for split in _SPLITS if split in dataset.splits]
    tags = [{"name": split, "value_type": "none", "color": _colour(number + 7)} for number, split in enumerate(splits)]
    write_bytes(out / "meta.json", orjson.dumps({"classes": classes, "tags": tags}))
    records = dataset.image_rows("path", "width", "height", "split")
    for (path, width, height, split), (edges, class_ids) in zip(records, dataset.by_image(), strict=True):
        document = {
            "description": "",
            "size": {"height": height, "width": width},
            "tags": [{"name": split, "value": None}] if split else [],
            "objects": [
                {
                    "classTitle": dataset.class_names[class_id],
                    "description": "",
                    "tags": [],
                    "points": {"exterior": [[x1, y1], [x2, y2]], "interior": []},
                    "geometryType": "rectangle",
                    "shape": "rectangle",
                }
                for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), edges.tolist(), strict=True)
            ],
        }
        write_unseen(f"{out}/{_LABELS}/{path}.json", orjson.dumps(document))


def _colour(number: int) -> str:
    """A colour as meta.json has it, far from those of the numbers nearby (multiples of the golden ratio)."""
    return f"#{(number + 1) * 10_368_889 % 2**24:06X}"
