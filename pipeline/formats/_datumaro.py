"""The shapes of a Datumaro file, and the boxes around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.formats._shapes import Box, of_coco_rle, of_flat, of_rotated


def is_true(value: Any) -> bool:
    """As Datumaro reads it: VOC and other formats keep attributes as texts."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in ("true", "yes", "1", "t", "y"))


def box_of(shape: Any, annotation: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[Box | None, str]:
    """The box of a shape, and the ledger code where that is less than the shape was."""
    try:
        if shape == "bbox":
            x, y, width, height = map(float, annotation["bbox"])
            rotation = float(attributes.get("rotation") or 0)
            if rotation % 360:
                return of_rotated(x, y, x + width, y + height, rotation), "rotated_box"
            return (x, y, x + width, y + height), ""
        if shape == "polygon":
            return of_flat(annotation["points"]), "polygon"
        if shape == "mask":
            return of_coco_rle(annotation["rle"]), "mask"
        if shape == "ellipse":
            x1, y1, x2, y2 = map(float, annotation["points"])
            return (x1, y1, x2, y2), "ellipse"
        if shape == "rotated_bbox":
            cx, cy, width, height, degrees = map(float, annotation["points"])
            half_width, half_height = width / 2, height / 2
            return of_rotated(cx - half_width, cy - half_height, cx + half_width, cy + half_height, degrees), "rotated_box"
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    return None, ""
