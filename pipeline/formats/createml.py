"""Create ML: a JSON list of images with `annotations`, each a `label` and `coordinates` {x, y, width, height}; a file a folder.

Specification: https://developer.apple.com/documentation/createml/building-an-object-detector-data-source and
https://developer.apple.com/documentation/createml/mlobjectdetector/annotationtype/boundingbox(units:origin:anchor:).

Units: pixels; x and y are the CENTRE of the box, origin at the top-left corner. Apple's tools can be told otherwise, and nothing
in a file says whether they were: `options: {units: normalized}` reads fractions of the image, `options: {anchor: top_left}`
(or `bottom_left`) boxes that are placed by a corner. An origin at the bottom-left corner is not read: turning it takes the
image's height, which no file declares.

Quirks: one page of Apple's calls the keys `image` and `annotations`, the other `imagefilename` and `annotation`; both are read,
in any case. `image` is a bare file name, in the folder of the JSON file (Apple, Roboflow's `_annotations.createml.json`) or in
another one (LabelImg, https://github.com/HumanSignal/labelImg/blob/master/libs/create_ml_io.py). An `annotation` that is a
text is the class of the whole picture, which is no box. Classes have no numbers; they come in alphabetical order.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes
from pipeline.formats import Evidence, Holdable, _json
from pipeline.formats._common import link_images, spread
from pipeline.formats._tables import look_like_fractions
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, split_of_file
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

IMAGES = "images"
HOLDS: frozenset[Holdable] = frozenset({"splits", "background"})

_BOX = re.compile(rb'"coordinates"\s*:\s*\{', re.IGNORECASE)
_OPENING = re.compile(rb'[\xef\xbb\xbf\xff\xfe\s]*\[\s*\{\s*"(?:image|image_?file_?name)"', re.IGNORECASE)
_IMAGE_KEYS = ("image", "imagefilename")
_LIST_KEYS = ("annotations", "annotation")


class Options(StageParams):
    """`units`: pixel, or normalized (fractions of the image); `anchor`: the point of a box that x and y give."""

    units: Literal["pixel", "normalized"] = "pixel"
    anchor: Literal["center", "top_left", "bottom_left"] = "center"


def detect(files: FileSet) -> Evidence | None:
    paths = files.with_suffix(".json")
    if len(paths) > _json.SNIFFED_FILES:
        paths = spread(paths)
    for path in paths:
        if _json.opens_with(files, path, b"[") and _json.occurs(files, path, _BOX):
            return Evidence(f"{path} is a list of images whose annotations have coordinates")
    return None


def _plain(data: bytes) -> bytes:
    return data.replace(b"\0", b"") if b"\0" in data[:4] else data  # UTF-16, as far as it is ASCII


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=options.units == "normalized", locate=lambda file, place: (0, f"annotation {place}"))
    for path in files.with_suffix(".json"):
        data = _plain(files.read_bytes(path))
        if not (_OPENING.match(data) or _BOX.search(data) or path.lower().endswith(".createml.json")):
            continue  # another tool's JSON
        start = len(labels.rows)
        try:
            document = _json.parse(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        if not isinstance(document, list):
            labels.malformed.append(Malformed(path, 0, "a Create ML file is a list of images"))
            continue
        split = split_of_file(path)
        for number, entry in enumerate(document, 1):
            _read_image(entry, number, path, split, labels, ledger, options)
        if options.units == "pixel" and look_like_fractions(labels, start):
            detail = "no box reaches beyond 1 px; should these be fractions, set annotate.options.units to normalized"
            ledger.add("file", "kept", "looks_like_fractions", file=path, detail=detail)
    labels.sort_classes()
    return labels


def _read_image(entry: Any, number: int, path: str, split: str, labels: Labels, ledger: Ledger, options: Options) -> None:
    keys = {key.lower().replace("_", ""): value for key, value in entry.items()} if isinstance(entry, dict) else {}
    name = next((keys[key] for key in _IMAGE_KEYS if key in keys), None)
    if not isinstance(name, str) or not name.strip():
        ledger.add("image", "dropped", "no_file_name", file=path, detail=f"image {number}: {name!r:.80}")
        return
    annotations = next((keys[key] for key in _LIST_KEYS if key in keys), entry)
    if annotations is entry:
        ledger.add("image", "dropped", "no_annotations", path=name, file=path, detail=f"image {number}")
        return
    image = labels.add_image(LabelledImage(path, (name,), split=split))
    for place, annotation in enumerate(annotations if isinstance(annotations, list) else [annotations], 1):
        if annotation is not None:
            _read_annotation(annotation, place, image, labels, ledger, options)


def _read_annotation(annotation: Any, place: int, image: int, labels: Labels, ledger: Ledger, options: Options) -> None:
    record, reason = labels.images[image], "malformed_box"
    label = annotation.get("label") if isinstance(annotation, dict) else None
    name = str(label).strip() if isinstance(label, (str, int, float)) and not isinstance(label, bool) else ""
    if isinstance(annotation, str):
        reason = "tag"
    elif isinstance(annotation, dict) and not name:
        reason = "no_class"
    elif name:
        try:
            x, y, width, height = (float(annotation["coordinates"][key]) for key in ("x", "y", "width", "height"))
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
        else:
            labels.rows.extend((image, labels.class_id(name), *_edges(x, y, width, height, options.anchor), place))
            return
    ledger.add("box", "dropped", reason, path=record.label, file=record.file, detail=f"annotation {place} {annotation!r:.120}")


def _edges(x: float, y: float, width: float, height: float, anchor: str) -> tuple[float, float, float, float]:
    if anchor == "center":
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return (x, y - height, x + width, y) if anchor == "bottom_left" else (x, y, x + width, y + height)


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`, and in each of their folders `_annotations.createml.json`, or `<split>_annotations.createml.json` a split.

    Create ML wants the file beside its images; of several in one folder it takes the one that it is given.
    """
    link_images(dataset, images_folder, out / IMAGES)
    documents: dict[str, list[dict[str, object]]] = {}
    images = dataset.image_rows("path", "split")
    for (path, split), (edges, class_ids) in zip(images, dataset.by_image(), strict=True):
        folder, slash, name = path.rpartition("/")
        annotations = [
            {
                "label": dataset.class_names[class_id],
                "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1},
            }
            for class_id, (x1, y1, x2, y2) in zip(class_ids.tolist(), edges.tolist(), strict=True)
        ]
        document = documents.setdefault(f"{folder}{slash}{split}_annotations.createml.json", [])
        document.append({"image": name, "annotations": annotations})
    for file, document in documents.items():
        write_bytes(out / IMAGES / file, orjson.dumps(document))
