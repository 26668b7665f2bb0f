"""What VIA's JSON and CSV share: shapes, and which of a region's attributes is its class.

VIA knows no classes. A region has any number of attributes that its annotators invented, and one of them is meant:

1. the one that `options: {attribute: …}` names;
2. the only one that has a value anywhere in the file (or, where none has, the only one that the file declares);
3. the only one called class, label or category; then the only one called name, type or object;
4. otherwise the file is refused, and the message names the candidates: a guess would give every box a wrong class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from pipeline.errors import DataError
from pipeline.formats._common import as_size, brief
from pipeline.formats._shapes import Box, of_ellipse, of_points
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

CLASS = "class"
"""The attribute that holds the class in what we write."""
UNKNOWN_BYTES = -1
"""The size of a file, as VIA notes an unknown one."""

SAME_VERTEX_PX = 5
"""How near a click is one on a vertex, in VIA (`VIA_POLYGON_VERTEX_MATCH_TOL`)."""

Choices = Mapping[str, str]
"""The options of an attribute, id to name; empty for free text."""

_TELLING_NAMES = (
    re.compile(r"((object|region)[ _-]?)?(class(es)?|labels?|categor(y|ies))([ _-]?(name|id))?", re.IGNORECASE),
    re.compile(r"(object[ _-]?)?(name|type|object)", re.IGNORECASE),
)
_UNSET = ("", "not_defined")  # the second is the default value in the example of VIA's own documentation


class Options(StageParams):
    """`attribute`: the region attribute that holds the class; `default_class`: the class of regions that have none."""

    attribute: str | None = None
    default_class: str | None = None


class Region(NamedTuple):
    """`shape` and `attributes` as VIA 2 writes them, of any type; `place` is for `Labels.locate`."""

    shape: Any
    attributes: Any
    place: int


@dataclass
class Picture:
    """An image that a file mentions, and its regions; `line` where lines mean something."""

    names: tuple[str, ...]
    width: int = 0
    height: int = 0
    line: int = 0
    regions: list[Region] = field(default_factory=list)


def picture(filename: str, file_attributes: Any, line: int = 0, prefix: str = "") -> Picture:
    """The image called `filename`, a name, a path or a URL. VIA itself notes the size of imported images as file attributes."""
    without_query = re.sub(r"[?#].*", "", filename) if "://" in filename else filename
    names = (without_query, filename, prefix + filename)
    said = file_attributes if isinstance(file_attributes, dict) else {}
    width, height = as_size(said.get("width")), as_size(said.get("height"))
    return Picture(tuple(dict.fromkeys(name for name in names if name)), width, height, line)


def regions_of(value: Any) -> list[Region]:
    """The regions of an image: a list, or in VIA 1 an object; counted from 1, as VIA shows them."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value] if value else []
    rows = [item if isinstance(item, dict) else {} for item in items]
    return [Region(row.get("shape_attributes"), row.get("region_attributes"), number) for number, row in enumerate(rows, 1)]


def choices_of(options: Any) -> Choices:
    """The options of a menu, id to what is shown, or to the id again where nothing is shown."""
    if not isinstance(options, dict):
        return {}
    shown = {key: text.strip() if isinstance(text, str) else "" for key, text in options.items()}
    return {key: text or key for key, text in shown.items()}


def add_pictures(
    pictures: Sequence[Picture], declared: Mapping[str, Choices], path: str, labels: Labels, ledger: Ledger, options: Options
) -> bool:
    """Report what one file says; whether it puts the classes into an order.

    Args:
        declared: the region attributes that the file declares.
    """
    used = list(dict.fromkeys(name for one in pictures for region in one.regions for name in _valued(region.attributes)))
    attribute = options.attribute or _class_attribute(used or list(declared))
    if attribute is None and used:
        message = (
            f"its regions have the attributes {_some(used)}, and nothing says which is the class: "
            "set annotate.options.attribute to one of them"
        )
        labels.malformed.append(Malformed(path, 0, message))
        return False
    if attribute in used and len(used) > 1:
        others = _some([name for name in used if name != attribute])
        ledger.add("file", "kept", "other_attributes", file=path, detail=f"'{attribute}' is the class; not read: {others}")
    choices = declared.get(attribute or "", {})
    for name in choices.values():
        labels.class_id(name)
    for one in pictures:
        record = LabelledImage(path, one.names, line=one.line, width=one.width, height=one.height)
        image = labels.add_image(record)
        for region in one.regions:
            _add_region(region, image, attribute or "", choices, labels, ledger, options)
    return bool(choices)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")


def _valued(attributes: Any) -> list[str]:
    if not isinstance(attributes, dict):
        return []
    return [name for name, value in attributes.items() if name and next(_words(value), "")]


def _class_attribute(names: Sequence[str]) -> str | None:
    if len(names) == 1:
        return names[0]
    for pattern in _TELLING_NAMES:
        found = [name for name in names if pattern.fullmatch(name.strip())]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _words(value: Any) -> Iterator[str]:
    """What an attribute says: a text, or the ticked ones of checkboxes."""
    if isinstance(value, dict):
        value = [name for name, ticked in value.items() if ticked and ticked not in ("false", "0")]
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, (str, int, float)) and not isinstance(word, bool) and str(word).strip() not in _UNSET:
            yield str(word).strip()


def _add_region(
    region: Region, image: int, attribute: str, choices: Choices, labels: Labels, ledger: Ledger, options: Options
) -> None:
    def note(action: Action, reason: str, detail: str = "") -> None:
        record = labels.images[image]
        line, words = labels.locate(record.file, region.place)
        detail = f"{words} {detail}".strip()
        ledger.add("box", action, reason, path=record.label, file=record.file, line=line, detail=detail)

    box, kind = _box(region.shape)
    if box is None:
        note("dropped", kind, "" if kind in ("point", "polyline") else brief(region.shape))
        return
    said = region.attributes if isinstance(region.attributes, dict) else {}
    names = list(dict.fromkeys(_words(said.get(attribute))))
    unknown = [name for name in names if choices and name not in choices and name not in choices.values()]
    if unknown:
        note("dropped", "unknown_class", f"{attribute}: {', '.join(unknown)}")
        return
    names = names or ([options.default_class] if options.default_class else [])
    if not names:
        note("dropped", "no_class", f"no '{attribute}' among {_some(list(said)) or 'no attributes'}" if attribute else "")
        return
    if kind != "rect":
        note("converted", kind)
    if len(names) > 1:
        note("converted", "several_labels", ", ".join(names))
    for name in names:
        labels.rows.extend((image, labels.class_id(choices.get(name, name)), *box, region.place))


def _box(shape: Any) -> tuple[Box | None, str]:
    """The tight box of a shape, and its kind; without a box, the reason."""
    kind = shape.get("name") if isinstance(shape, dict) else None
    if kind == "point":
        return None, "point"
    try:
        if kind == "rect":
            x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
            return (x, y, x + width, y + height), kind
        if kind == "circle":
            x, y, radius = (float(shape[key]) for key in ("cx", "cy", "r"))
            return (x - radius, y - radius, x + radius, y + radius), kind
        if kind == "ellipse":
            x, y, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
            return of_ellipse(x, y, rx, ry, math.degrees(float(shape.get("theta") or 0))), kind
        if kind in ("polygon", "polyline"):
            points = [(float(x), float(y)) for x, y in zip(shape["all_points_x"], shape["all_points_y"], strict=True)]
            if kind == "polyline" and not _is_outline(points):
                return None, "polyline"
            box = of_points(points)
            return box, "polygon" if box else "malformed_box"
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    return None, "malformed_box"


def _is_outline(points: Sequence[tuple[float, float]]) -> bool:
    """Whether a polyline comes back to where it began: who ends it by a click on its first point draws an outline."""
    if len(points) < 4:
        return False
    (x1, y1), (x2, y2) = points[0], points[-1]
    return max(abs(x1 - x2), abs(y1 - y2)) <= SAME_VERTEX_PX


def entries_to_write(dataset: Dataset, folder: str) -> list[dict[str, Any]]:
    """Every image below `folder` as VIA 2 keeps it. The class is the attribute `class`; the image's size stands in the file
    attributes, as VIA itself does it on import from COCO.

    Raises:
        DataError: two images that VIA could not tell apart.
    """
    names = _names_to_write(dataset.paths)
    sizes = dataset.image_rows("width", "height")
    return [
        {
            "filename": f"{folder}/{name}",
            "size": UNKNOWN_BYTES,
            "regions": [
                {"shape_attributes": _rectangle(*box), "region_attributes": {CLASS: dataset.class_names[class_id]}}
                for box, class_id in zip(edges.tolist(), class_ids.tolist(), strict=True)
            ],
            "file_attributes": {"width": width, "height": height},
        }
        for name, (width, height), (edges, class_ids) in zip(names, sizes, dataset.by_image(), strict=True)
    ]


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> dict[str, object]:
    values = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    # JavaScript has no `2.0`.
    return {"name": "rect", **{key: int(value) if value.is_integer() else value for key, value in values.items()}}


def _names_to_write(paths: Sequence[str]) -> list[str]:
    """Percent-encoded where VIA needs it: it takes names for URLs, and does not quote them in CSV."""
    names, taken = [], frozenset(paths)
    for path in paths:
        name = re.sub('[%#?,"]', lambda found: quote(found[0]), path)
        if name != path and name in taken:
            raise DataError(f"VIA could not tell {path} from {name}", "Rename one of them.")
        names.append(name)
    return names
