"""VGG Image Annotator (VIA): JSON with `filename` and `regions` of `shape_attributes` an image; a project of VIA 2 or 3.

Specification: https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/CodeDoc.md (project of VIA 2),
https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md (project of VIA 3).

Units: pixels, origin at the top-left corner, floats; the `theta` of an ellipse is in radians, clockwise. Images have no size
(`size` is that of the file, in bytes), except in the file attributes `width` and `height`, where VIA 2 keeps that of images which
it imported from COCO. Which frame a photo turned by EXIF was drawn in depends on the browser: upright in those since 2020.

Quirks: VIA 1 numbers the regions of an image by the keys of an object, VIA 2 lists them; the images stand alone or, in a project,
below `_via_img_metadata`. There are no classes, only attributes of regions: `_via.py` says which is taken for the class, and
`options: {attribute: name}` decides it. The value of a menu is an id; the class is called as the menu shows it, as in VIA's own
export to COCO, or by the id where the menu shows nothing. A menu gives the classes their order; free text has none, and the
classes are in alphabetical order then. Of checkboxes each ticked one makes a box. Files of a single class often do not name it:
`options: {default_class: name}` does. A polyline that ends where it began is an outline, and gives its tight box. Attributes of
whole images are not read. In VIA 3 the shape is a number ([2, x, y, width, height] is a rectangle); regions of video frames are
dropped, because there is no image to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes
from pipeline.formats import Evidence, Holdable, _via3
from pipeline.formats._common import brief, link_images, spread
from pipeline.formats._json import SNIFFED_FILES, has_keys, parse
from pipeline.formats._via import (
    CLASS,
    Choices,
    Options,
    Picture,
    add_pictures,
    choices_of,
    entries_to_write,
    picture,
    regions_of,
)
from pipeline.labelling.labels import Labels, Malformed
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"class_order", "background", "sizes"})
IMAGES = "images"
PROJECT = "via_project.json"
MOST_BUTTONS = 5  # VIA's own import shows more options than these as a menu


def detect(files: FileSet) -> Evidence | None:
    candidates = spread(files.with_suffix(".json"), SNIFFED_FILES)
    found = next((path for path in candidates if _is_via(files, path)), None)
    return Evidence(f"{found} has images and regions as VIA writes them") if found else None


def _is_via(files: FileSet, path: str) -> bool:
    if has_keys(files, path, "filename", "regions"):
        return has_keys(files, path, "shape_attributes") or has_keys(files, path, "file_attributes")
    return has_keys(files, path, *_via3.KEYS)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=lambda file, region: (0, f"region {region}"))
    is_ordered = False
    for path in files.with_suffix(".json"):
        if not _is_via(files, path):
            continue
        try:
            document = parse(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        if not isinstance(document, dict):
            labels.malformed.append(Malformed(path, 0, "expected an object with an entry for every image"))
            continue
        read_images = _via3.read_project if document.keys() >= {"view", "metadata"} else _read_images
        pictures, declared = read_images(document, path, ledger)
        is_ordered |= add_pictures(pictures, declared, path, labels, ledger, options)
    if not is_ordered:
        labels.sort_classes()
    return labels


def _read_images(document: dict[str, Any], path: str, ledger: Ledger) -> tuple[list[Picture], dict[str, Choices]]:
    """The images of VIA 1 and 2, and the attributes of regions that a project declares."""
    is_project = "_via_img_metadata" in document
    prefix = _get(document, "_via_settings", "core", "default_filepath") if is_project else ""
    attributes = _get(document, "_via_attributes", "region") if is_project else {}
    entries = document["_via_img_metadata"] if is_project else document
    pictures = []
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            ledger.add("image", "dropped", "no_file_name", file=path, detail=f"{key[:80]}: filename {brief(name)}")
            continue
        found = picture(name, entry.get("file_attributes"), prefix=prefix if isinstance(prefix, str) else "")
        found.regions = regions_of(entry.get("regions"))
        pictures.append(found)
    names = attributes if isinstance(attributes, dict) else {}
    return pictures, {name: choices_of(_get(attribute, "options")) for name, attribute in names.items()}


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>` and `via_project.json`, a project of VIA 2; lay `via.html` beside it to have it find the images.

    Raises:
        DataError: two images that VIA could not tell apart.
    """
    images = {f"{entry['filename']}{entry['size']}": entry for entry in entries_to_write(dataset, IMAGES)}
    link_images(dataset, images_folder, out / IMAGES)
    options = {name: name for name in dataset.class_names}
    kind = "radio" if len(options) <= MOST_BUTTONS else "dropdown"
    size = {"type": "text", "description": "pixels", "default_value": ""}
    project = {
        "_via_settings": {
            "ui": {"image": {"region_label": CLASS}},
            "core": {"filepath": {}, "default_filepath": ""},
            "project": {"name": PROJECT.removesuffix(".json")},
        },
        "_via_img_metadata": images,
        "_via_attributes": {
            "region": {CLASS: {"type": kind, "description": "", "options": options, "default_options": {}}},
            "file": {"width": size, "height": size},
        },
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }
    write_bytes(out / PROJECT, orjson.dumps(project))
