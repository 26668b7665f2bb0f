"""Projects of VIA 3, in the terms of VIA 2: every image with its regions, and the attributes with their options.

A project has files (images, videos, sounds), views (which of the files are seen together), and metadata: a place in time `z`, a
place in the image `xy`, and values `av` of attributes. `xy` is a list of numbers, the first of which is the shape
(https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md; the others are documented in `_via_file_annotator.js` only).
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.formats._shapes import of_flat
from pipeline.formats._via import Choices, Picture, Region, choices_of, picture
from pipeline.ledger import Ledger

KEYS = ("vid_list", "metadata", "attribute", "view")

_SHAPES: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
}
_BY_POINTS = {5: "polyline", 6: "polyline", 7: "polygon"}
_EXTREME_RECTANGLE, _EXTREME_CIRCLE = 8, 9
_VIDEO, _AUDIO = 4, 8
_BY_ADDRESS = (2, 3)  # a file that `src` leads to, on a server or on a disk
_CHECKBOX = 2


def read_project(document: dict[str, Any], path: str, ledger: Ledger) -> tuple[list[Picture], dict[str, Choices]]:
    """The images, and the attributes of regions; regions without an image go into the ledger."""
    files, views = _objects(document.get("file")), _objects(document.get("view"))
    attributes = {key: row for key, row in _objects(document.get("attribute")).items() if isinstance(row.get("aname"), str)}
    prefixes = _objects(document.get("config")).get("file", {}).get("loc_prefix")
    others = {key for key, row in files.items() if row.get("type") in (_VIDEO, _AUDIO)}
    pictures = {key: _picture(row, prefixes) for key, row in files.items() if key not in others}
    for key in [key for key, found in pictures.items() if not found.names]:
        del pictures[key]
        ledger.add("image", "dropped", "no_file_name", file=path, detail=f"file {key[:80]}")
    for number, row in enumerate(_objects(document.get("metadata")).values(), 1):
        xy = row.get("xy")
        if not xy:
            continue  # a stretch of time, or attributes of the file
        shown = views.get(_text(row.get("vid")), {}).get("fid_list")
        key = _text(shown[0]) if isinstance(shown, list) and len(shown) == 1 else ""
        if key in pictures:
            said = _objects_or_values(row.get("av"), attributes)
            pictures[key].regions.append(Region(_shape(xy), said, number))
        else:
            name = _text(files.get(key, {}).get("fname"))
            reason = "video" if key in others else "unknown_image"
            ledger.add("box", "dropped", reason, path=name, file=path, detail=f"region {number}")
    spatial = [row for row in attributes.values() if _text(row.get("anchor_id")).endswith("XY1")]
    return list(pictures.values()), {row["aname"]: choices_of(row.get("options")) for row in spatial}


def _objects(value: Any) -> dict[str, dict[str, Any]]:
    return {key: row for key, row in value.items() if isinstance(row, dict)} if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """Ids are numbers in one place and texts in another."""
    return str(value) if isinstance(value, (str, int)) else ""


def _picture(row: dict[str, Any], prefixes: Any) -> Picture:
    name, address = _text(row.get("fname")), _text(row.get("src"))
    place = row.get("loc")
    if place not in _BY_ADDRESS or not address:
        return picture(name, None)
    return picture(address, None, prefix=_text(prefixes.get(_text(place))) if isinstance(prefixes, dict) else "")


def _objects_or_values(values: Any, attributes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Values by the name of their attribute; the ticked checkboxes are one text, separated by commas."""
    if not isinstance(values, dict):
        return {}
    said = {}
    for key, value in values.items():
        row = attributes.get(key)
        if row:
            is_list = row.get("type") == _CHECKBOX and isinstance(value, str)
            said[row["aname"]] = value.split(",") if is_list else value
    return said


def _shape(xy: Any) -> dict[str, Any] | None:
    if not isinstance(xy, list):
        return None
    kind, numbers = xy[0] if isinstance(xy[0], int) else 0, xy[1:]
    if kind in _BY_POINTS:
        return {"name": _BY_POINTS[kind], "all_points_x": numbers[0::2], "all_points_y": numbers[1::2]}
    try:
        if kind == _EXTREME_RECTANGLE:
            box = of_flat(numbers, at_least=2)
            return box and {"name": "rect", "x": box[0], "y": box[1], "width": box[2] - box[0], "height": box[3] - box[1]}
        if kind == _EXTREME_CIRCLE:
            return _circle_through(*(float(number) for number in numbers[:6]))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    name, keys = _SHAPES.get(kind, ("", ()))
    return {"name": name, **dict(zip(keys, numbers, strict=False))}


def _circle_through(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> dict[str, Any]:
    """The circumscribed circle of three points (https://en.wikipedia.org/wiki/Circumcircle#Cartesian_coordinates_2)."""
    bx, by, cx, cy = bx - ax, by - ay, cx - ax, cy - ay
    double_area = 2 * (bx * cy - by * cx)
    x = (cy * (bx**2 + by**2) - by * (cx**2 + cy**2)) / double_area
    y = (bx * (cx**2 + cy**2) - cx * (bx**2 + by**2)) / double_area
    return {"name": "circle", "cx": ax + x, "cy": ay + y, "r": math.hypot(x, y)}
