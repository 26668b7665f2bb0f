"""CVAT for images 1.1: XML with the root `<annotations>` and an `<image name=…>` with its shapes for every image.

Specification: https://docs.cvat.ai/docs/dataset_management/formats/xml_format/; what CVAT writes and reads:
https://github.com/cvat-ai/cvat/blob/develop/cvat/apps/dataset_manager/formats/cvat.py.

Units: pixels, floats, origin at the top-left corner; rotation in degrees, clockwise about the shape's centre. Every image
declares its width and height. A mask is a window of whole pixels with run lengths along its rows, beginning with background.

Quirks: rotated boxes, ellipses, polygons and masks become their tight boxes. Polylines, points, cuboids (drawn in the image as
two faces), skeletons and tags have none and are dropped. What says nothing about a box is left aside: `occluded`, `z_order`,
`source`, `group_id`, and the attributes of shapes. Classes come in the order of the labels of the task, job or project; a
label with a `<parent>` is a point of a skeleton and no class; in a file without labels classes come in alphabetical order.
The split is the `subset` of the image, or else that of its task, or else the file's name, for Datumaro writes a file a
split (`train.xml`). CVAT saves images in `images/`, those of a project in `images/<subset>/`, and that is where a name is looked
for first. Frames of a video have names without a suffix (`frame_000012`), and all of them are one group. A shape that
Datumaro took from a video may bear `outside="1"`: its object is out of sight, and its box is dropped.
A number may have a decimal comma (`xtl="12,5"`, `points="12,5,33,1;…"`), which other programs write in some languages; a
shape in which it is unclear (`1,024`, `12,5,33`) is dropped and stands in the ledger.
Both kinds of file have the same root: one with `<track>` is of the format `cvat_video`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, link_images
from pipeline.formats._cvat import UNBOXED, Document, Task, documents, find, locate, read_shape, split_of
from pipeline.formats._cvat_writing import attributes, document, edges
from pipeline.formats._xml import locate_tag
from pipeline.labelling.labels import LabelledImage, Labels
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background", "sizes"})
IMAGES = "images"
_IMAGE = re.compile(rb"<image\s[^<]*\bname\s*=")


class Options(StageParams):
    """CVAT for images has none."""


def detect(files: FileSet) -> Evidence | None:
    found = find(files, _IMAGE)
    return Evidence(f"{found} has the root element <annotations> with <image name=…>") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=locate(files))
    line_of_image = locate_tag(files, "image")
    for found in documents(files, labels, ledger, "image", other="track", other_format="cvat_video"):
        for number, element in enumerate(found.root.iterfind("image")):
            line, _ = line_of_image(found.path, number)
            _read_image(files, element, line, found)
    return labels


def _read_image(files: FileSet, element: ET.Element, line: int, found: Document) -> None:
    name, image = element.get("name") or "", None
    if name.strip():
        record = _record(files, element, name, line, found)
        name, image = record.label, found.labels.add_image(record)
    else:
        detail = f"image id {element.get('id')!r:.40}"
        found.ledger.add("image", "dropped", "no_file_name", file=found.path, line=line, detail=detail)
    for item in element:
        if item.tag != "attribute":
            _read_shape(item, image, name, found)


def _record(files: FileSet, element: ET.Element, name: str, line: int, found: Document) -> LabelledImage:
    task, subset = found.task(element.get("task_id")), (element.get("subset") or "").strip()
    return LabelledImage(
        found.path,
        (f"{subset}/{name}", name) if subset else (name,),
        path=_place_of(files, found.path, subset, name),
        line=line,
        width=as_size(element.get("width")),
        height=as_size(element.get("height")),
        split=split_of(subset) or task.split,
        group=_group(task),
    )


def _place_of(files: FileSet, path: str, subset: str, name: str) -> str:
    """The image at the very place where CVAT saves it, "" where there is none."""
    here = path.rpartition("/")[0]
    for folder in (f"{IMAGES}/{subset}", IMAGES) if subset else (IMAGES,):
        place = f"{here}/{folder}/{name}" if here else f"{folder}/{name}"
        if place in files.members:
            return place
    return ""


def _group(task: Task) -> str:
    return task.group if task.mode == "interpolation" else ""


def _read_shape(item: ET.Element, image: int | None, name: str, found: Document) -> None:
    place = found.place(item)
    if item.tag in UNBOXED:
        return found.drop(UNBOXED[item.tag], name, place, item)
    class_id = found.class_of((item.get("label") or "").strip())
    shape = read_shape(item)
    if image is None:
        found.drop("unknown_image", name, place, item)
    elif isinstance(class_id, str):
        found.drop(class_id, name, place, item)
    elif shape is None:
        found.drop("malformed_box", name, place, item)
    elif item.get("outside") == "1":
        found.drop("outside", name, place, item)
    else:
        found.add(image, class_id, shape, place)
    return None


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`, and `<split>.xml` for each split; `annotations.xml` for images of none.

    CVAT reads any number of XML files at once, and Datumaro takes a file for a split.

    Raises:
        DataError: a name with a character that XML cannot hold.
    """
    link_images(dataset, images_folder, out / IMAGES)
    bodies: dict[str, list[str]] = {split: [] for split in sorted(set(dataset.splits))}
    sizes: dict[str, int] = dict.fromkeys(bodies, 0)
    labels = [attributes({"label": name}) for name in dataset.class_names]
    images = dataset.image_rows("path", "width", "height", "split")
    for number, ((path, width, height, split), (boxes, class_ids)) in enumerate(zip(images, dataset.by_image(), strict=True)):
        head = attributes({"id": str(number), "name": path, "width": str(width), "height": str(height)})
        shapes = [
            f'    <box{labels[class_id]} source="manual" occluded="0"{edges(box)} z_order="0">\n    </box>'
            for class_id, box in zip(class_ids.tolist(), boxes.tolist(), strict=True)
        ]
        bodies[split] += [f"  <image{head}>", *shapes, "  </image>"]
        sizes[split] += 1
    for split, body in bodies.items():
        name = split or "annotations"
        details = {"mode": "annotation", "subset": split} if split else {"mode": "annotation"}
        write_text(out / f"{name}.xml", document(name, sizes[split], details, dataset.class_names, body))
