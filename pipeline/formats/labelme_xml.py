"""LabelMe, MIT's old web tool: one XML file an image, `<annotation>` with `<object><polygon><pt>`; read only.

Specification: B. Russell, A. Torralba, K. Murphy, W. Freeman, "LabelMe: a database and web-based tool for image annotation",
2008, and the tool, https://github.com/CSAILVision/LabelMeAnnotationTool (Annotations/example_folder/img1.xml). CVAT and Datumaro
write it too. Not to be taken for labelme, which writes JSON.

Units: whole pixels, origin at the top-left corner; `<imagesize>` declares rows and columns. The browser decided how a photo with
an EXIF orientation was shown; the declared size tells.

Quirks: the root element is Pascal VOC's, but nothing has a `<bndbox>`. A bounding box is a polygon of four corners with
`<type>bounding_box</type>`. Deleted objects stay in the file (`<deleted>1</deleted>`). Of an object painted as a mask (`<segm>`)
the `<box>` in the file is taken, which LabelMe itself rounds to a pixel; the masks and scribbles that a file names (in the
folders `Masks` and `Scribbles`) are no photos. A part (`<ispartof>`) is an object of its own. A polygon of two points is a line,
of one a point. Text may have line ends around it. `<filename>` may be that of another image: one of the XML file's own name is
preferred. Numbers may have a decimal comma (`12,5`), as programs write in some languages; an object in which it may be that of a
thousand (`1,024`) is dropped and stands in the ledger. Classes are whatever people typed, in alphabetical order.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, decimal, spread, with_point
from pipeline.formats._labelme import names_of_image
from pipeline.formats._shapes import Box, of_points
from pipeline.formats._xml import locate_tag, parse, root_tag, text
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"background", "sizes"})
_MASK_FOLDER = re.compile("(^|/)(Masks|Scribbles)/")
_MARK = re.compile(rb"<(pt|segm|imagesize|deleted)[\s>/]")


class Options(StageParams):
    """LabelMe has none."""


def detect(files: FileSet) -> Evidence | None:
    found = [path for path in spread(files.with_suffix(".xml")) if _is_labelme(files, path)]
    if not found:
        return None
    return Evidence(f"{found[0]} has the root element <annotation> and LabelMe's polygons or <imagesize>")


def _is_labelme(files: FileSet, path: str) -> bool:
    if root_tag(files, path) != "annotation":
        return False
    data = files.read_bytes(path).replace(b"\0", b"")  # UTF-16
    return b"<bndbox" not in data and bool(_MARK.search(data))


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=locate_tag(files, "object"))
    masks: set[str] = set()
    photos: set[str] = set()
    for path in files.with_suffix(".xml"):
        try:
            root = parse(files, path)
        except DataError as error:
            image = labels.add_image(LabelledImage(path, (path.rpartition("/")[2][: -len(".xml")],)))
            labels.malformed.append(Malformed.of(error, path, image))
            continue
        if root.tag == "annotation":
            _read_annotation(root, path, labels, ledger)
            masks |= {(name.text or "").strip() for tag in ("mask", "scribble_name") for name in root.iter(tag)}
            photos.add(text(root, "filename"))
    labels.sort_classes()
    named = [path for path in files.photos if path.rpartition("/")[2] in masks]
    labels.not_photos = frozenset(path for path in named if path.rpartition("/")[2] not in photos or _MASK_FOLDER.search(path))
    return labels


def _read_annotation(root: ET.Element, path: str, labels: Labels, ledger: Ledger) -> None:
    names = names_of_image(path, text(root, "filename"), ledger)
    folder = text(root, "folder").strip("/\\")
    if folder:
        names = (f"{folder}/{names[0]}", *names)
    width, height = as_size(root.findtext("imagesize/ncols")), as_size(root.findtext("imagesize/nrows"))
    image = labels.add_image(LabelledImage(path, names, width=width, height=height))
    for number, item in enumerate(root.iter("object")):
        _read_object(item, number, image, labels, ledger)


def _read_object(item: ET.Element, number: int, image: int, labels: Labels, ledger: Ledger) -> None:
    record, name = labels.images[image], text(item, "name")

    def note(action: Action, reason: str, detail: str = "") -> None:
        line = labels.locate(record.file, number)[0] if action == "dropped" else 0
        ledger.add("box", action, reason, path=record.label, file=record.file, line=line, detail=f"{name} {detail}".strip())

    polygon, painted = item.find("polygon"), item.find("segm/box")
    points = polygon.iter("pt") if polygon is not None else ()
    corners = [(with_point(point.findtext("x")), with_point(point.findtext("y"))) for point in points]
    box, shape = (of_points(corners), "polygon") if corners else (_box_of(painted), "mask")
    if text(item, "deleted") == "1":
        note("dropped", "deleted")
    elif not name:
        note("dropped", "no_class")
    elif 0 < len(corners) < 3:
        note("dropped", "point" if len(corners) == 1 else "polyline")
    elif not corners and painted is None:
        note("dropped", "no_box")
    elif box is None:
        note("dropped", "malformed_box", brief(corners) if corners else "segm")
    else:
        if shape == "mask" or text(item, "type") != "bounding_box":
            note("converted", shape)
        labels.rows.extend((image, labels.class_id(name), *box, number))


def _box_of(painted: ET.Element | None) -> Box | None:
    if painted is None:
        return None
    try:
        x1, y1, x2, y2 = (decimal(text(painted, tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        return None
    return x1, y1, x2, y2
