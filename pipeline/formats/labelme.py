"""labelme (labelme.io): one JSON file an image, an object with `shapes` and `imagePath`; classes in `labels.txt`, if anywhere.

Specification: none but the code, https://github.com/labelmeai/labelme/blob/main/labelme/_label_file.py; AnyLabeling and
X-AnyLabeling (https://github.com/CVHub520/X-AnyLabeling) write the same with more kinds of shapes.

Units: pixels, floats, origin at the top-left corner. labelme shows a photo as its EXIF orientation says, and declares the size of
what it shows (`imageWidth`, `imageHeight`): its labels lie in the upright frame. Other writers use the stored one; the declared
size tells, as in every format (`annotate.frame: auto`).

Quirks: the two points of a rectangle are opposite corners in any order, which is no defect; X-AnyLabeling writes all four. A
circle is its centre and a point on it. A mask is a PNG that lies with its top-left pixel at the upper left one of two corners.
Polygons, circles and masks of one label and one `group_id` are the visible parts of one object
(https://github.com/wkentaro/labelme/issues/714) and become one box; `options: {join_groups: false}` keeps them apart.
Without `shape_type`, which is younger than the format, a shape is a polygon. `__ignore__` is labelme's label for what is no
object. Image flags that are set are tags. `imageData` may hold the image itself; it is not looked at (`labelme_export_json`
unpacks it). A file that was renamed or copied still bears the old `imagePath`: an image of the file's own name is preferred.
labelme has no order of classes, so it is the alphabet's, unless there is a `labels.txt` as its option `--labels` takes it: one
that begins with `__ignore__` or `_background_`, or that names every class that occurs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import DataError
from pipeline.files import write_text, write_unseen
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, label_file_names, link_images, spread
from pipeline.formats._json import has_keys, parse
from pipeline.formats._labelme import locate_key, names_of_image
from pipeline.formats._shapes import Box, of_bitmap, of_ellipse, of_points
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"class_order", "background", "sizes"})
IMAGES = "images"
VERSION = "5.5.0"
"""Of labelme, whose files `write` makes; later versions read them too."""
NO_CLASSES = ("__ignore__", "_background_")
"""The first two lines of a `labels.txt`; labelme's converters insist on them."""
_KEYS = ("shapes", "imagePath")
_CONVERTED = {
    "polygon": "polygon",
    "quadrilateral": "polygon",
    "circle": "circle",
    "mask": "mask",
    "oriented_rectangle": "rotated_box",
    "rotation": "rotated_box",
}
_DROPPED = {"line": "polyline", "linestrip": "polyline", "point": "point", "points": "point", "cuboid": "cuboid"}


class Options(StageParams):
    """`join_groups`: one box around all polygons, circles and masks that share a label and a `group_id`."""

    join_groups: bool = True


@dataclass
class _Object:
    """What becomes one box: the number of its first shape, its class, and the boxes of its shapes."""

    number: int
    name: str
    boxes: list[Box] = field(default_factory=list)


@dataclass
class _Reading:
    """One call of `read`; `counts` has the number of shapes of each file."""

    labels: Labels
    ledger: Ledger
    options: Options
    counts: dict[str, int]

    def note(self, image: int, number: int, action: Action, reason: str, detail: str = "") -> None:
        record = self.labels.images[image]
        line, words = self.labels.locate(record.file, number) if action == "dropped" else (0, f"shape {number + 1}")
        detail = f"{words} {detail}".strip()
        self.ledger.add("box", action, reason, path=record.label, file=record.file, line=line, detail=detail)


def detect(files: FileSet) -> Evidence | None:
    found = [path for path in spread(files.with_suffix(".json")) if has_keys(files, path, *_KEYS)]
    return Evidence(f"{found[0]} has the keys shapes and imagePath") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    counts: dict[str, int] = {}
    labels = Labels(locate=locate_key(files, "points", counts, "shape"))
    reading = _Reading(labels, ledger, options, counts)
    photos = {path.rpartition("/")[2].rpartition(".")[0] for path in files.photos}
    for path in files.with_suffix(".json"):
        stem = path.rpartition("/")[2][: -len(".json")]
        try:
            document = parse(files, path)
        except DataError as error:
            # A tree may hold JSON that is none of labelme's: an editor's settings, with comments.
            if stem in photos or any(f'"{key}"'.encode() in files.read_bytes(path) for key in _KEYS):
                labels.malformed.append(Malformed.of(error, path, labels.add_image(LabelledImage(path, (stem,)))))
            continue
        held = sum(key in document for key in _KEYS) if isinstance(document, dict) else 0
        if held == len(_KEYS) or (held and stem in photos):
            _read_document(document, path, reading)
    _order_classes(files, labels)
    return labels


def _read_document(document: dict[str, Any], path: str, reading: _Reading) -> None:
    labels, ledger = reading.labels, reading.ledger
    written, shapes, flags = document.get("imagePath"), document.get("shapes"), document.get("flags")
    names = names_of_image(path, written if isinstance(written, str) else "", ledger)
    width, height = as_size(document.get("imageWidth")), as_size(document.get("imageHeight"))
    image = labels.add_image(LabelledImage(path, names, width=width, height=height))
    if not isinstance(shapes, list):
        labels.malformed.append(Malformed(path, 0, "'shapes' must be a list", image))
        return
    for name, value in flags.items() if isinstance(flags, dict) else ():
        if value is True:
            ledger.add("box", "dropped", "tag", path=names[0], file=path, detail=f"the image's flag {name}")
    reading.counts[path] = len(shapes)
    objects: dict[object, _Object] = {}
    for number, shape in enumerate(shapes):
        _read_shape(shape if isinstance(shape, dict) else {}, number, image, objects, reading)
    for found in objects.values():
        box = found.boxes[0]
        if len(found.boxes) > 1:
            box = of_points([corner for part in found.boxes for corner in (part[:2], part[2:])]) or box
            detail = f"{len(found.boxes)} shapes of one group_id are one {found.name}"
            reading.note(image, found.number, "converted", "joined_parts", detail)
        labels.rows.extend((image, labels.class_id(found.name), *box, found.number))


def _read_shape(shape: dict[str, Any], number: int, image: int, objects: dict[object, _Object], reading: _Reading) -> None:
    name, kind, group = _class_name(shape.get("label")), shape.get("shape_type") or "polygon", shape.get("group_id")
    kind = kind if isinstance(kind, str) else brief(kind)
    if kind in _DROPPED:
        reading.note(image, number, "dropped", _DROPPED[kind])
    elif name == "__ignore__":
        reading.note(image, number, "dropped", "ignored_region")
    elif not name:
        reading.note(image, number, "dropped", "no_class", f"label {brief(shape.get('label'))}")
    elif (box := _box(shape, kind)) is None:
        reading.note(image, number, "dropped", "malformed_box", f"{kind:.40} {brief(shape.get('points'))}")
    else:
        if kind in _CONVERTED:
            reading.note(image, number, "converted", _CONVERTED[kind])
        is_part = reading.options.join_groups and kind in _CONVERTED and type(group) in (int, str)
        objects.setdefault((name, group) if is_part else number, _Object(number, name)).boxes.append(box)


def _class_name(label: object) -> str:
    return str(label).strip() if type(label) in (str, int) else ""


def _box(shape: dict[str, Any], kind: str) -> Box | None:
    """Of a shape that has one; None for numbers that are none, and for kinds that nobody knows."""
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
        return None
    if kind == "rectangle":
        return of_points(points, at_least=2)
    if kind == "circle":
        return _box_of_circle(points)
    if kind == "mask":
        corners = of_points(points, at_least=2)
        return of_bitmap(shape.get("mask") or "", corners[:2]) if corners else None
    return of_points(points) if kind in _CONVERTED else None


def _box_of_circle(points: list[Any]) -> Box | None:
    if len(points) != 2 or of_points(points, at_least=2) is None:
        return None
    (x, y), (rim_x, rim_y) = ((float(point[0]), float(point[1])) for point in points)
    radius = math.hypot(rim_x - x, rim_y - y)
    return of_ellipse(x, y, radius, radius)


def _order_classes(files: FileSet, labels: Labels) -> None:
    """By the `labels.txt` nearest the top that is labelme's."""
    lists = [path for path in files.paths if path.rpartition("/")[2].lower() == "labels.txt"]
    for path in sorted(lists, key=lambda path: (path.count("/"), path)):
        try:
            lines = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        names = [name for name in dict.fromkeys(lines) if name not in NO_CLASSES]
        occurring = set(labels.class_names)
        if (lines and lines[0] in NO_CLASSES) or (occurring and occurring <= set(names)):
            labels.sort_classes(names)
            return
    labels.sort_classes()


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` with `images/<path>.json` beside it, where labelme looks for it, and `labels.txt` for its `--labels`.

    Raises:
        DataError: two images would share a label file, or `labels.txt` cannot hold the name of a class.
    """
    wrong = [name for name in dataset.class_names if name.strip().splitlines() != [name] or name in NO_CLASSES]
    if wrong:
        raise DataError("labelme's labels.txt cannot hold these class names", "Rename them (annotate.classes.rename).", wrong)
    names = label_file_names(dataset, ".json")
    link_images(dataset, images_folder, out / IMAGES)
    sizes = dataset.image_rows("path", "width", "height")
    for name, (path, width, height), (edges, class_ids) in zip(names, sizes, dataset.by_image(), strict=True):
        document = {
            "version": VERSION,
            "flags": {},
            "shapes": [
                {
                    "label": dataset.class_names[class_id],
                    "points": [[x1, y1], [x2, y2]],
                    "group_id": None,
                    "description": "",
                    "shape_type": "rectangle",
                    "flags": {},
                    "mask": None,
                }
                for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), edges.tolist(), strict=True)
            ],
            "imagePath": path.rpartition("/")[2],
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_unseen(f"{out}/{IMAGES}/{name}", orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in (*NO_CLASSES, *dataset.class_names)))
