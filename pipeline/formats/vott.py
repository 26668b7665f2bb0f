"""VoTT: JSON files with `asset` and `regions`, `<id>-asset.json` for each image or one `<project>-export.json`; read only.

Specification: none but the code of Microsoft's Visual Object Tagging Tool, version 2,
https://github.com/microsoft/VoTT/blob/master/src/models/applicationState.ts (IProject, IAssetMetadata, IRegion).

Units: `boundingBox` is left, top, width, height in pixels, floats, origin at the top-left corner; `size` declares width and
height. VoTT ignores the EXIF orientation of a photo (https://github.com/microsoft/VoTT/issues/840), newer browsers do not: the
declared size tells.

Quirks: a region with several tags is one box for each. A polygon's `boundingBox` is the tight one. Classes are the project's tags
in their order, from the export or the `.vott` file; a tag that neither lists comes after them. `path` is that of the machine
where the labels were drawn (`file:C:/…`, percent-encoded, or a URL with an access key), `name` the file's name there. A frame of
a video is called `car.mp4#t=4.2` and was exported as `car.mp4#t=4.2.jpg`; the video is its group. An image that nobody visited
(`state` 0, in an export of all assets) is not labelled. One that was visited and left empty stands in the export or the
`.vott` file only. Where a tree holds both, asset files are believed and not the export, which is a copy of some earlier moment.
The JSON of VoTT 1 (`frames`, `inputTags`) is another format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pipeline.errors import DataError
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import as_size, brief, spread
from pipeline.formats._json import SNIFFED_FILES, has_keys, parse
from pipeline.formats._labelme import locate_key
from pipeline.formats._shapes import Box, of_points
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_file
from pipeline.ledger import Action, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"class_order", "background", "sizes"})
VISITED, TAGGED = 1, 2
"""`state` of an asset that somebody opened and left empty, and of one with regions; 0 is one that nobody opened."""
VIDEO = 2
"""`type` of a video, whose frames are assets of their own."""
_DROPPED = {"POLYLINE": "polyline", "POINT": "point"}


class Options(StageParams):
    """VoTT has none."""


@dataclass
class _Reading:
    """One call of `read`.

    Attributes:
        counts: regions of each file.
        own_files: ids of the assets that have a file of their own.
        known: ids of all assets whose regions were read.
        tags: the projects' tags, in their order.
    """

    labels: Labels
    ledger: Ledger
    counts: dict[str, int]
    own_files: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    tags: dict[str, None] = field(default_factory=dict)


def detect(files: FileSet) -> Evidence | None:
    found = [path for path in spread(files.with_suffix(".json"), SNIFFED_FILES) if has_keys(files, path, "asset", "regions")]
    return Evidence(f"{found[0]} has the keys asset and regions") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    counts: dict[str, int] = {}
    reading = _Reading(Labels(locate=locate_key(files, "points", counts, "region")), ledger, counts)
    projects: list[tuple[str, dict[str, Any]]] = []
    for path in files.with_suffix(".json", ".vott"):
        try:
            document = parse(files, path)
        except DataError as error:
            # A tree may hold JSON that is none of VoTT's: an editor's settings, with comments.
            if path.lower().endswith(("-asset.json", "-export.json", ".vott")) or b'"regions"' in files.read_bytes(path):
                reading.labels.malformed.append(Malformed.of(error, path))
            continue
        keys = _object(document).keys()
        if {"assets", "tags"} <= keys:
            projects.append((path, document))
        elif {"asset", "regions"} <= keys:
            counts[path] = len(_regions(document))
            reading.own_files |= _read_asset(document, 0, path, reading)
    # Project files last: they list the assets again, without their regions.
    for path, document in sorted(projects, key=lambda project: (project[0].lower().endswith(".vott"), project[0])):
        _read_project(document, path, reading)
    reading.labels.sort_classes(list(reading.tags))
    return reading.labels


def _regions(document: object) -> list[Any]:
    regions = _object(document).get("regions")
    return regions if isinstance(regions, list) else []


def _read_project(document: dict[str, Any], path: str, reading: _Reading) -> None:
    """An export, or a project file, in which assets have no regions."""
    assets, tags = document["assets"], document["tags"]
    if not isinstance(assets, dict):
        reading.labels.malformed.append(Malformed(path, 0, "'assets' must be an object"))
        return
    names = [_object(tag).get("name") for tag in tags] if isinstance(tags, list) else []
    reading.tags |= dict.fromkeys(name.strip() for name in names if isinstance(name, str) and name.strip())
    reading.counts[path] = sum(len(_regions(asset)) for asset in assets.values())
    first, repeated = 0, 0
    for key, asset in assets.items():
        if not isinstance(asset, dict):
            reading.ledger.add("image", "dropped", "no_file_name", file=path, detail=f"asset {key:.80} is no object")
        elif "asset" not in asset:
            _read_bare_asset(asset, key, path, reading)
        elif key in reading.own_files:
            repeated += 1
        else:
            _read_asset(asset, first, path, reading)
        first += len(_regions(asset))
    if repeated:
        detail = f"{repeated} of its assets have a file of their own, which was read instead"
        reading.ledger.add("file", "kept", "repeated_assets", file=path, detail=detail)


def _read_bare_asset(asset: dict[str, Any], key: str, path: str, reading: _Reading) -> None:
    """An entry of a project file: it tells which images were looked at."""
    if key in reading.known or asset.get("type") == VIDEO or asset.get("state") not in (VISITED, TAGGED):
        return
    image = reading.labels.add_image(_record(asset, path))
    if asset["state"] == TAGGED:
        message = f"{reading.labels.images[image].label} has regions, but {key:.80}-asset.json is not there"
        reading.labels.malformed.append(Malformed(path, 0, message, image))


def _read_asset(document: dict[str, Any], first: int, path: str, reading: _Reading) -> set[str]:
    """An asset with its regions, the first of which is number `first` of the file. Returns the asset's id, if it has one."""
    asset, regions = document["asset"], document.get("regions")
    if not isinstance(asset, dict) or not _names(asset):
        reading.ledger.add("image", "dropped", "no_file_name", file=path, detail=f"asset {brief(asset)}")
        for number in range(len(_regions(document))):
            reading.ledger.add("box", "dropped", "unknown_image", file=path, detail=f"region {first + number + 1}")
        return set()
    ids = {asset["id"]} if isinstance(asset.get("id"), str) else set()
    reading.known |= ids
    if not regions and regions is not None and (asset.get("state") == 0 or asset.get("type") == VIDEO):
        return ids
    image = reading.labels.add_image(_record(asset, path))
    if not isinstance(regions, list):
        reading.labels.malformed.append(Malformed(path, 0, "'regions' must be a list", image))
        return ids
    for number, region in enumerate(regions, first):
        _read_region(_object(region), number, image, reading)
    return ids


def _record(asset: dict[str, Any], path: str) -> LabelledImage:
    size, parent = _object(asset.get("size")), _object(asset.get("parent"))
    width, height = as_size(size.get("width")), as_size(size.get("height"))
    video = next(iter(_names(parent)), "")
    return LabelledImage(path, _names(asset), width=width, height=height, split=split_of_file(path), group=video)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(asset: dict[str, Any]) -> tuple[str, ...]:
    """The path without what is none of it, and the name."""
    location, name = asset.get("path"), asset.get("name")
    names = [name] if isinstance(name, str) and name else []
    if isinstance(location, str) and location:
        if location.lower().startswith(("http://", "https://")):
            location = location.partition("?")[0]
        names.insert(0, unquote(location.removeprefix("file:")))
    return tuple(dict.fromkeys(names))


def _read_region(region: dict[str, Any], number: int, image: int, reading: _Reading) -> None:
    labels, record, tags, kind = reading.labels, reading.labels.images[image], region.get("tags"), region.get("type")

    def note(action: Action, reason: str, detail: str = "") -> None:
        line, words = labels.locate(record.file, number) if action == "dropped" else (0, f"region {number + 1}")
        detail = f"{words} {detail}".strip()
        reading.ledger.add("box", action, reason, path=record.label, file=record.file, line=line, detail=detail)

    names = [tag.strip() for tag in tags if isinstance(tag, str) and tag.strip()] if isinstance(tags, list) else []
    if isinstance(kind, str) and kind in _DROPPED:
        note("dropped", _DROPPED[kind])
    elif not names:
        note("dropped", "no_class")
    elif (box := _box(region)) is None:
        note("dropped", "malformed_box", f"{brief(kind)} {brief(region.get('boundingBox'))}")
    else:
        if kind == "POLYGON":
            note("converted", "polygon")
        if len(set(names)) > 1:
            note("converted", "several_tags", f"one box for each of {', '.join(names)}")
        for name in dict.fromkeys(names):
            labels.rows.extend((image, labels.class_id(name), *box, number))


def _box(region: dict[str, Any]) -> Box | None:
    """The bounding box as it is written, or that of the points where there is none."""
    try:
        left, top, width, height = (float(region["boundingBox"][key]) for key in ("left", "top", "width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError):
        points = region.get("points")
        corners = [(_object(point).get("x"), _object(point).get("y")) for point in points] if isinstance(points, list) else []
        return of_points(corners, at_least=2)
    return left, top, left + width, top + height
