"""The official tables of Open Images, read row by row: boxes, images, classes and what is a kind of what.

https://storage.googleapis.com/openimages/web/download_v7.html (boxes have been the same since V6). The boxes of train are 2.3 GB,
so nothing here holds more than the ids of the images that show what is wanted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError, ParamsError, did_you_mean
from pipeline.sources import _web
from pipeline.stage import Advance, Context

METADATA = "https://storage.googleapis.com/openimages"
CLASSES = "v7/oidv7-class-descriptions-boxable.csv"
HIERARCHY = "2018_04/bbox_labels_600_hierarchy.json"
BOXES = {
    "train": "v6/oidv6-train-annotations-bbox.csv",
    "validation": "v5/validation-annotations-bbox.csv",
    "test": "v5/test-annotations-bbox.csv",
}
IMAGES = {
    "train": "2018_04/train/train-images-boxable-with-rotation.csv",  # of the nine million those with boxes
    "validation": "2018_04/validation/validation-images-with-rotation.csv",
    "test": "2018_04/test/test-images-with-rotation.csv",
}
_BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsGroupOf", "IsDepiction")
_IMAGE_COLUMNS = ("ImageID", "License")


@dataclass(frozen=True)
class Table:
    """A table in the cache.

    Attributes:
        url: where it came from.
        columns: position of each column by its name.
    """

    url: str
    path: Path
    header: bytes
    columns: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def damaged(self, why: str) -> DataError:
        return DataError(f"{self.name}: {why}.", f"Delete {self.path}, and run again: it is fetched anew.")


def boxes(split: str, context: Context) -> Table:
    """The table of the boxes of a split. Raises DataError as `images` does."""
    return _table(BOXES[split], _BOX_COLUMNS, context)


def images(split: str, context: Context) -> Table:
    """The list of the images of a split: licence, author, address of each.

    Raises:
        NetworkError: it cannot be had.
        DataError: what came is another table.
    """
    return _table(IMAGES[split], _IMAGE_COLUMNS, context)


def _table(place: str, required: Sequence[str], context: Context) -> Table:
    url = f"{METADATA}/{place}"

    def opened(path: Path) -> Table:
        with path.open("rb") as stream:
            header = stream.readline(1 << 16)
        names = header.decode("utf-8-sig", errors="replace").strip().split(",")
        table = Table(url, path, header, {name: position for position, name in enumerate(names)})
        if missing := [name for name in required if name not in names]:
            raise table.damaged(f"not a table of Open Images: it has no column {', '.join(missing)}")
        return table

    return opened(_web.cached(url, ".csv", context, check=opened))


# ---- classes


def class_names(context: Context) -> dict[str, str]:
    """The name of each code (/m/0bt9lr: Dog), in the order of the official table."""
    return _read_class_names(_web.cached(f"{METADATA}/{CLASSES}", ".csv", context, check=_read_class_names))


def _read_class_names(path: Path) -> dict[str, str]:
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        rows = []
    names = {row[0]: row[1] for row in rows if len(row) == 2 and row[0].startswith("/")}
    if not names:
        hint = f"Delete {path}, and run again: it is fetched anew."
        raise DataError(f"{CLASSES.rpartition('/')[2]}: not the list of Open Images' classes.", hint)
    return names


def codes_of(classes: Sequence[str], names: Mapping[str, str]) -> set[str]:
    """The codes of classes by name; all of them when none is named.

    Raises:
        ParamsError: an unknown class.
    """
    known = set(names.values())
    if unknown := [name for name in classes if name not in known]:
        problems = [f"'{name}': {did_you_mean(name, known)}" for name in unknown[:20]]
        raise ParamsError("collect.options.classes: Open Images has no boxes of such a class:", problems=problems)
    return {code for code, name in names.items() if not classes or name in classes}


def with_subclasses(codes: Collection[str], context: Context) -> set[str]:
    """The codes, and those of everything that is a kind of one of them. Parts (the wheel of a car) are not kinds."""
    path = _web.cached(f"{METADATA}/{HIERARCHY}", ".json", context, check=_read_hierarchy)
    return {code for code, kinds in _read_hierarchy(path) if not kinds.isdisjoint(codes)} | set(codes)


def write_class_names(names: Mapping[str, str], codes: Container[str], out: Path) -> None:
    """The rows of these classes."""
    text = io.StringIO()
    rows = [("LabelName", "DisplayName"), *(row for row in names.items() if row[0] in codes)]
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(out, text.getvalue())


def _read_hierarchy(path: Path) -> list[tuple[str, frozenset[str]]]:
    """(code, itself and all that it is a kind of) for each place of a code in the tree."""
    found = []
    try:
        waiting = [(json.loads(path.read_bytes()), frozenset[str]())]
        while waiting:
            node, above = waiting.pop()
            kinds = above | {str(node["LabelName"])}
            found.append((str(node["LabelName"]), kinds))
            waiting += [(child, kinds) for child in node.get("Subcategory", ())]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = f"Delete {path}, and run again: it is fetched anew."
        raise DataError(f"{HIERARCHY.rpartition('/')[2]}: not the hierarchy of Open Images' classes.", hint) from error
    return found


# ---- boxes and images


def choose(table: Table, codes: Collection[str], skip: Sequence[str], limit: int, seed: int, context: Context) -> list[str]:
    """The ids of images with a box of one of `codes`, `_web.drawn` by `limit` and `seed`.

    Args:
        skip: columns of the table; an image in which one of them is 1 for a box of `codes` is not chosen.
    """
    image, label = table.columns["ImageID"], table.columns["LabelName"]
    flags = [table.columns[name] for name in skip]
    labels = _encoded(codes)
    shown: set[bytes] = set()
    refused: set[bytes] = set()
    with _rows(table, context) as rows:
        for _, cells in rows:
            if cells[label] in labels:
                shown.add(cells[image])
                if flags and any(cells[flag] == b"1" for flag in flags):
                    refused.add(cells[image])
    return [image_id.decode("utf-8", errors="replace") for image_id in _web.drawn(shown - refused, limit, seed)]


def write_boxes(table: Table, codes: Collection[str], ids: Iterable[str], out: Path, context: Context) -> None:
    """The rows of these images and classes, with all columns as they stand, and below the same header."""
    image, label = table.columns["ImageID"], table.columns["LabelName"]
    wanted, labels = _encoded(ids), _encoded(codes)
    with files.atomic_path(out) as temporary, temporary.open("wb") as stream, _rows(table, context) as rows:
        stream.write(table.header.strip() + b"\n")
        for line, cells in rows:
            if cells[image] in wanted and cells[label] in labels:
                stream.write(line.strip() + b"\n")


def write_images(table: Table, ids: Collection[str], out: Path, context: Context) -> dict[str, str]:
    """The rows of these images, with all columns as they stand.

    Returns:
        The licence of each image that the table has.
    """
    image, license_ = table.columns["ImageID"], table.columns["License"]
    licenses = {}
    with files.atomic_path(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        with _progress(table, context) as advance:
            rows = csv.reader(line.decode("utf-8-sig") for line in _lines(table.path, advance))
            try:
                writer.writerow(next(rows))
                for row in rows:
                    if row and row[image] in ids:
                        licenses[row[image]] = row[license_].strip()
                        writer.writerow(row)
            except (UnicodeDecodeError, csv.Error, IndexError) as error:
                raise table.damaged(f"line {rows.line_num + 1} is damaged ({error})") from error
    return licenses


def _encoded(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(text.encode() for text in texts)


@contextmanager
def _progress(table: Table, context: Context) -> Iterator[Callable[[int], None]]:
    """A bar of the table's size; called with the bytes that were read."""
    with context.progress(f"read {table.name} (MB)", max(1, table.path.stat().st_size >> 20)) as advance:
        yield _Megabytes(advance)


class _Megabytes:
    def __init__(self, advance: Advance) -> None:
        self._advance, self._rest = advance, 0

    def __call__(self, count: int) -> None:
        whole, self._rest = divmod(self._rest + count, 1 << 20)
        if whole:
            self._advance(whole)


def _lines(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while some := stream.readlines(1 << 20):
            yield from some
            advance(sum(map(len, some)))


@contextmanager
def _rows(table: Table, context: Context) -> Iterator[Iterator[tuple[bytes, list[bytes]]]]:
    """(line, cells) of each row of a table of boxes, which quotes nothing: twice as fast as the module `csv`.

    Raises:
        DataError: a row has more or fewer cells than the header.
    """

    def read(advance: Callable[[int], None]) -> Iterator[tuple[bytes, list[bytes]]]:
        lines, width = _lines(table.path, advance), table.header.count(b",") + 1
        next(lines, None)
        for number, line in enumerate(lines, 2):
            cells = line.split(b",")
            if len(cells) == width:
                yield line, cells
            elif line.strip():
                raise table.damaged(f"line {number} has {len(cells)} cells, the header {width}")

    with _progress(table, context) as advance:
        yield read(advance)
