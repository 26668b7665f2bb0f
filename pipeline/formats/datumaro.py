"""Datumaro: JSON files with `categories` and `items`, `annotations/<subset>.json` for each subset, images in `images/<subset>/`.

Specification: https://open-edge-platform.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html, and the code:
https://github.com/open-edge-platform/datumaro/tree/develop/src/datumaro/plugins/data_formats/datumaro. CVAT's "Datumaro 1.0" is
the same with attributes of its own.

Units: `bbox` is x, y, width, height in pixels, floats, origin at the top-left corner; `size` is height, width. Datumaro itself
rounds every coordinate to 1/100 px when it reads one.

Quirks: the subset, which is the file's name, is the split; the subset `default` is none. An image lies in `images/<subset>/`,
or, as the first versions had it, in `images/`; `write` does the latter, to keep its path. Polygons, masks and ellipses get tight
boxes; so does a box with CVAT's attribute `rotation`. Polygons and masks of one label and one `group` (not 0) are parts of one
object, as Datumaro's COCO exporter has it (`find_instances`): they get one box, and none where a bbox of that label and group
is there already. Boxes are never joined, for CVAT also groups several objects. The attribute `is_crowd` marks a region of many
objects, which Datumaro's YOLO exporter leaves out, and so does this reader; CVAT's `outside` marks what is not to be seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, link_images, spread
from pipeline.formats._datumaro import box_of, is_true
from pipeline.formats._json import SNIFFED_FILES, has_keys, occurs, parse
from pipeline.formats._shapes import Box, of_points
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_file
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
IMAGES = "images"
_ITEMS = re.compile(rb'"items"\s*:\s*\[')
_DROPPED = {
    "label": "tag",
    "caption": "tag",
    "points": "point",
    "skeleton": "keypoints",
    "polyline": "polyline",
    "cuboid_2d": "cuboid",
    "cuboid_3d": "cuboid",
}


class Options(StageParams):
    """Datumaro has none."""


@dataclass
class _Object:
    """Polygons and masks that are parts of one object: the number of the first, and the boxes of all."""

    number: int
    boxes: list[Box] = field(default_factory=list)


@dataclass
class _Reading:
    """One call of `read`; `class_ids` are those of the file at hand, in its order."""

    files: FileSet
    photos: frozenset[str]
    labels: Labels
    ledger: Ledger
    class_ids: list[int] = field(default_factory=list)

    def note(self, image: int, number: int, action: Action, reason: str, detail: str = "") -> None:
        record = self.labels.images[image]
        detail = f"annotation {number + 1} {detail}".strip()
        self.ledger.add("box", action, reason, path=record.label, file=record.file, detail=detail)

    def add(self, image: int, number: int, class_id: int, box: Box) -> None:
        self.labels.rows.extend((image, class_id, *box, number))


def detect(files: FileSet) -> Evidence | None:
    candidates = spread(files.with_suffix(".json"), SNIFFED_FILES)
    found = next((path for path in candidates if _is_datumaro(files, path)), None)
    return Evidence(f"{found} has the keys categories and items") if found else None


def _is_datumaro(files: FileSet, path: str) -> bool:
    if not has_keys(files, path, "categories", "items", "annotations"):
        return False
    # "items" is also what somebody may call a class or an attribute.
    return occurs(files, path, _ITEMS)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=lambda file, number: (0, f"annotation {number + 1}"))
    reading = _Reading(files, frozenset(files.photos), labels, ledger)
    paths = files.with_suffix(".json")
    sure = {path for path in paths if _is_datumaro(files, path)}
    folders = {path.rpartition("/")[0] for path in sure}
    for path in paths:
        if path.rpartition("/")[0] in folders:  # also what is damaged beyond recognition
            _read_file(path, path in sure, reading)
    return labels


def _read_file(path: str, is_sure: bool, reading: _Reading) -> None:
    malformed = reading.labels.malformed
    try:
        document = parse(reading.files, path)
    except DataError as error:
        malformed.append(Malformed.of(error, path))
        return
    if not isinstance(document, dict) or not is_sure:
        if is_sure:
            malformed.append(Malformed(path, 0, "expected an object with categories and items"))
        return
    names = _class_names(document.get("categories"))
    if names is None:
        malformed.append(Malformed(path, 0, "'categories' must have 'label' with a list 'labels' of objects with a 'name'"))
        return
    items = document.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        malformed.append(Malformed(path, 0, "'items' must be a list of objects"))
        return
    reading.class_ids = reading.labels.class_ids(names, path, reading.ledger)
    for item in items:
        _read_item(item, path, reading)


def _class_names(categories: Any) -> list[str] | None:
    """The names of the classes by number; empty where the file has no labels at all, None where they cannot be read."""
    if not isinstance(categories, dict):
        return None
    of_label = categories.get("label")
    if of_label is None:
        return []
    rows = of_label.get("labels") if isinstance(of_label, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
        return None
    return [row["name"].strip() or f"class_{number}" for number, row in enumerate(rows)]


def _read_item(item: dict[str, Any], path: str, reading: _Reading) -> None:
    image = reading.labels.add_image(_image_of(item, path, reading.photos))
    annotations = item.get("annotations")
    if annotations is None:
        return
    if not isinstance(annotations, list):
        reading.note(image, 0, "dropped", "malformed_box", f"annotations {brief(annotations)}")
        return
    boxed, objects = set(), dict[tuple[int, int, int], _Object]()
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            reading.note(image, number, "dropped", "malformed_box", f"{brief(annotation)}")
            continue
        found = _read_annotation(annotation, number, image, reading)
        if found is None:
            continue
        class_id, box = found
        shape, group = annotation["type"], annotation.get("group")
        group = group if type(group) is int else 0
        if shape in ("polygon", "mask"):
            objects.setdefault((group, class_id, -1 if group else number), _Object(number)).boxes.append(box)
            continue
        if group:
            boxed.add((group, class_id))
        reading.add(image, number, class_id, box)
    for (group, class_id, _), parts in objects.items():
        _add_object(parts, (group, class_id) in boxed, class_id, image, reading)


def _add_object(parts: _Object, is_boxed: bool, class_id: int, image: int, reading: _Reading) -> None:
    """One box around all parts, unless a bbox says already where the object is."""
    if is_boxed or len(parts.boxes) > 1:
        detail = f"{len(parts.boxes)} shapes of one group are {'the object of its bbox' if is_boxed else 'one object'}"
        reading.note(image, parts.number, "converted", "joined_parts", detail)
    if not is_boxed:
        corners = [corner for part in parts.boxes for corner in (part[:2], part[2:])]
        reading.add(image, parts.number, class_id, of_points(corners, at_least=2) or parts.boxes[0])


def _read_annotation(annotation: dict[str, Any], number: int, image: int, reading: _Reading) -> tuple[int, Box] | None:
    """Class and box; None, and an entry in the ledger, for what is no box."""
    shape, label = annotation.get("type"), annotation.get("label_id")
    attributes = annotation["attributes"] if isinstance(annotation.get("attributes"), dict) else {}
    box: Box | None = None
    class_id, reason, detail = -1, "", ""
    if isinstance(shape, str) and shape in _DROPPED:
        reason, detail = _DROPPED[shape], shape
    elif is_true(attributes.get("is_crowd")):
        reason = "crowd"
    elif is_true(attributes.get("outside")):
        reason = "outside"
    elif label is None:
        reason = "no_class"
    elif type(label) is not int or not 0 <= label < len(reading.class_ids):
        reason, detail = "unknown_class", f"label_id {brief(label)}"
    else:
        class_id = reading.class_ids[label]
        box, converted = box_of(shape, annotation, attributes)
        reason, detail = "malformed_box", f"{brief(shape)} {brief(annotation.get('bbox', annotation.get('points')))}"
        if box and converted:
            reading.note(image, number, "converted", converted)
    if box is None:
        reading.note(image, number, "dropped", reason, detail)
        return None
    return class_id, box


def _image_of(item: Mapping[str, Any], path: str, photos: frozenset[str]) -> LabelledImage:
    """The image of an item. Where Datumaro itself would find it, that is it for certain."""
    name, group, size = "", "", (0, 0)
    for key in ("image", "media"):
        media = item.get(key)
        if isinstance(media, dict):
            name = name or (media["path"] if isinstance(media.get("path"), str) else "")
            if isinstance(media.get("size"), list) and len(media["size"]) == 2:
                size = as_size(media["size"][1]), as_size(media["size"][0])
    frame = item.get("video_frame")
    if isinstance(frame, dict) and isinstance(frame.get("video_path"), str):
        group = frame["video_path"]
    key = item["id"] if isinstance(item.get("id"), str) else ""
    *folders, file = path.split("/")
    root = "".join(f"{folder}/" for folder in folders[:-1])
    places = (f"{root}images/{file[: -len('.json')]}/{name}", f"{root}images/{name}")
    return LabelledImage(
        path,
        tuple(dict.fromkeys(spelling for spelling in (name, key) if spelling)),
        path=next((place for place in places if place in photos), ""),
        width=size[0],
        height=size[1],
        split=split_of_file(path),
        group=group,
    )


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and `annotations/<split>.json`; `default.json` for images of no split.

    Raises:
        DataError: Datumaro would take one image for another, because a folder bears the name of a split.
    """
    paths, splits = dataset.paths, [split or "default" for split in dataset.splits]
    taken = set(paths)
    for path, split in zip(paths, splits, strict=True):
        if f"{split}/{path}" in taken:
            raise DataError(f"Datumaro would take {split}/{path} for {path} of the split {split}", f"Rename the folder {split}.")
    link_images(dataset, images_folder, out / IMAGES)
    stems = [path.rpartition(".")[0] for path in paths]
    times = Counter(zip(splits, stems, strict=True))
    items: dict[str, list[dict[str, object]]] = {split: [] for split in splits}
    sizes = dataset.sizes[:, ::-1].tolist()
    for path, stem, split, size, (edges, class_ids) in zip(paths, stems, splits, sizes, dataset.by_image(), strict=True):
        annotations = [
            {
                "id": number,
                "type": "bbox",
                "attributes": {},
                "group": 0,
                "label_id": class_id,
                "z_order": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for number, (class_id, (x1, y1, x2, y2)) in enumerate(zip(class_ids.tolist(), edges.tolist(), strict=True), 1)
        ]
        # An id is the path without its suffix, unless two images of a subset would then be one.
        key = stem if times[split, stem] == 1 else path
        items[split].append({"id": key, "annotations": annotations, "image": {"path": path, "size": size}})
    labels = [{"name": name, "parent": "", "attributes": []} for name in dataset.class_names]
    for split in sorted(items):
        document = {
            "dm_format_version": "1.0",
            "media_type": 2,  # images
            "infos": {},
            "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
            "items": items[split],
        }
        write_bytes(out / "annotations" / f"{split}.json", orjson.dumps(document))
