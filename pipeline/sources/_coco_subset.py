"""A part of a COCO instances file: only some classes, only some images; written as a smaller file of the same kind.

Rows stay the JSON that they were until they are looked at: `instances_train2017.json` has 860,000 annotations in 450 MB, which as
Python objects would take ten times that.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import DataError, ParamsError, did_you_mean
from pipeline.sources._web import drawn

MAX_JSON_BYTES = 4 << 30


class Image(msgspec.Struct, gc=False):
    """A row of `images`, as far as it is needed."""

    id: int
    file_name: str
    coco_url: str = ""
    flickr_url: str = ""
    license: int | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int


class _Category(msgspec.Struct):
    id: int
    name: str


class _License(msgspec.Struct):
    id: int
    name: str = ""


class _Document(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[msgspec.Raw]
    licenses: list[msgspec.Raw] = msgspec.field(default_factory=list)
    info: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


@dataclass(frozen=True)
class Subset:
    """What was chosen. `rows` has the row of each of `images` as it stood in the file."""

    images: list[Image]
    rows: dict[int, msgspec.Raw]
    annotations: dict[int, list[msgspec.Raw]]
    categories: list[msgspec.Raw]
    licenses: list[msgspec.Raw]
    info: msgspec.Raw

    def license_counts(self, image_ids: Collection[int]) -> dict[str, int]:
        """How many of the images have which licence, by its name as the file gives it, most frequent first."""
        names = {row.id: row.name for row in (msgspec.json.decode(raw, type=_License) for raw in self.licenses)}
        chosen = [image for image in self.images if image.id in image_ids]
        return dict(Counter(names.get(image.license or -1, "") or "unknown" for image in chosen).most_common())

    def document(self, image_ids: Collection[int]) -> bytes:
        """The instances file of those of `images` whose ids are given, in the same order."""
        kept = [image.id for image in self.images if image.id in image_ids]
        parts: dict[str, Any] = {
            "info": self.info,
            "licenses": self.licenses,
            "images": [self.rows[number] for number in kept],
            "annotations": [row for number in kept for row in self.annotations.get(number, ())],
            "categories": self.categories,
        }
        return msgspec.json.encode(parts)


def read(path: Path, split: str) -> bytes:
    """The JSON itself: of a `.json` file, or the `instances_<split>.json` in a zip.

    Raises:
        DataError: no such file in the archive, or a damaged one.
    """
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            name = f"instances_{split}.json"
            entry = next((entry for entry in archive.infolist() if entry.filename.rpartition("/")[2] == name), None)
            if entry is None:
                found = sorted(entry.filename for entry in archive.infolist() if entry.filename.endswith(".json"))
                raise DataError(
                    f"{path.name} holds no {name}.",
                    f"collect.options.split is one of those it has: {', '.join(found) or 'no JSON file at all'}.",
                )
            if entry.file_size > MAX_JSON_BYTES:
                raise DataError(f"{path.name}: {name} unpacks to {entry.file_size:,} bytes; taken for a bomb.")
            return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path.name}: the archive is damaged ({error}).", "Delete it, and fetch it again.") from error


def choose(data: bytes, where: str, classes: Sequence[str], limit: int, seed: int) -> Subset:
    """The images that show any of `classes` (all images when none is named), `drawn` by `limit` and `seed`.

    Raises:
        DataError: `data` is no instances file.
        ParamsError: an unknown class.
    """
    try:
        document = msgspec.json.decode(data, type=_Document)
        images = msgspec.json.Decoder(Image)
        rows = {image.id: (image, raw) for raw in document.images for image in (images.decode(raw),)}
        wanted, categories = _categories(document.categories, classes)
        annotations = _annotations(document.annotations, wanted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"{where} is not a COCO instances file ({error}).",
            "It is a JSON object with images, annotations and categories: https://cocodataset.org/#format-data",
        ) from error
    chosen = drawn((number for number in rows if not classes or number in annotations), limit, seed)
    return Subset(
        [rows[number][0] for number in chosen],
        {number: rows[number][1] for number in chosen},
        {number: annotations[number] for number in chosen if number in annotations},
        categories,
        document.licenses,
        document.info,
    )


def _categories(rows: list[msgspec.Raw], classes: Sequence[str]) -> tuple[set[int], list[msgspec.Raw]]:
    """The ids of the wanted categories, and their rows."""
    known = {row.name: (row.id, raw) for raw in rows for row in (msgspec.json.decode(raw, type=_Category),)}
    unknown = [name for name in classes if name not in known]
    if unknown:
        problems = [f"'{name}': {did_you_mean(name, known)}" for name in unknown]
        raise ParamsError("collect.options.classes: the annotations know no such class:", problems=problems)
    kept = {name: pair for name, pair in known.items() if not classes or name in classes}
    return {number for number, _ in kept.values()}, [raw for _, raw in kept.values()]


def _annotations(rows: list[msgspec.Raw], categories: set[int]) -> dict[int, list[msgspec.Raw]]:
    """Image id → its annotations of these categories."""
    found: dict[int, list[msgspec.Raw]] = {}
    decode = msgspec.json.Decoder(_Annotation).decode
    for raw in rows:
        row = decode(raw)
        if row.category_id in categories:
            found.setdefault(row.image_id, []).append(raw)
    return found
