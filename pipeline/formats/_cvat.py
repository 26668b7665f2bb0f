"""What both kinds of CVAT's XML share: which files are its own, their tasks and classes, and the shapes.

Sources: the format, https://docs.cvat.ai/docs/dataset_management/formats/xml_format/; what CVAT really writes and reads,
https://github.com/cvat-ai/cvat/blob/develop/cvat/apps/dataset_manager/formats/cvat.py and bindings.py beside it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import DataError
from pipeline.formats._common import as_size, decimal, spread, with_point
from pipeline.formats._shapes import Box, of_coco_rle, of_ellipse, of_points, of_rotated
from pipeline.formats._xml import locate_tag, parse, root_tag, text
from pipeline.labelling.labels import Labels, Malformed, split_of_file, split_of_folder
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

UNBOXED = {"polyline": "polyline", "points": "point", "cuboid": "cuboid", "skeleton": "keypoints", "tag": "tag"}
"""Elements that have no box, and the ledger's word for each."""

MAX_CLASSES = 10_000
MAX_FRAMES = 10**9
_CANDIDATES = 200
_TAGS = ("box", "polygon", "ellipse", "mask", *UNBOXED)
_STEP = re.compile(r"step\s*=\s*([1-9][0-9]{0,8})(?![0-9])")
_BOX, _ELLIPSE = ("xtl", "ytl", "xbr", "ybr"), ("cx", "cy", "rx", "ry")


class Shape(NamedTuple):
    """One shape as the file has it.

    Attributes:
        kind: "box", "ellipse", "polygon" or "mask".
        values: the edges x1, y1, x2, y2; those of the tight box of a polygon or mask; cx, cy, rx, ry of an ellipse.
        degrees: rotation about the centre, clockwise.
    """

    kind: str
    values: Box
    degrees: float = 0.0

    def box(self) -> Box:
        """The tight box, in pixel edges."""
        if self.kind == "ellipse":
            return of_ellipse(*self.values, self.degrees)
        return of_rotated(*self.values, self.degrees) if self.degrees % 360 else self.values

    @property
    def reason(self) -> str:
        """The ledger's word for what had to be converted to a box; "" for a box."""
        if self.kind == "box":
            return "rotated_box" if self.degrees % 360 else ""
        return self.kind


def read_shape(element: ET.Element) -> Shape | None:
    """The shape of an element; None where it is incomplete or no numbers."""
    try:
        degrees = float(with_point(element.get("rotation")) or 0)
        if element.tag in ("box", "ellipse"):
            a, b, c, d = (decimal(element.attrib[name]) for name in (_BOX if element.tag == "box" else _ELLIPSE))
            return Shape(element.tag, (a, b, c, d), degrees)
        box = _polygon(element) if element.tag == "polygon" else _mask(element)
    except (KeyError, ValueError, OverflowError):
        return None
    return Shape(element.tag, box) if box else None


def _polygon(element: ET.Element) -> Box | None:
    return of_points([_corner(pair) for pair in element.attrib["points"].split(";")])


def _corner(pair: str) -> tuple[str | None, str | None]:
    """`12.5,33.1`, or `12,5,33,1` with decimal commas; of `12,5,33` nobody can say which comma is which."""
    parts = pair.split(",")
    if len(parts) == 4:
        return with_point(",".join(parts[:2])), with_point(",".join(parts[2:]))
    x, y = parts
    return x, y


def _mask(element: ET.Element) -> Box | None:
    """Runs go along the rows of a window of `width` x `height` at `left`, `top`: COCO's, turned on the side."""
    left, top, width, height = (int(element.attrib[name]) for name in ("left", "top", "width", "height"))
    runs = [float(run) for run in element.attrib["rle"].split(",")]
    turned = of_coco_rle({"size": [width, height], "counts": runs})
    if turned is None:
        return None
    y1, x1, y2, x2 = turned
    return left + x1, top + y1, left + x2, top + y2


@dataclass(frozen=True)
class Task:
    """What `<meta>` says of one task, or of the job that is a part of it.

    Attributes:
        number: its id, as text.
        mode: "interpolation" for a video, "annotation" for a list of images, "" where the file does not say.
        split: "train", "val", "test" or "", from its subset.
        subset: as written, in lower case; CVAT saves the images of a project in a folder of that name.
        group: what keeps its images together in a split.
        frames: the numbers of its frames; of unknown end (`MAX_FRAMES`) where the file does not say.
        size: how many they are, 0 where the file does not say.
        width, height: of every frame, in pixels; 0 where the file does not say.
        titles: what it or its video may be called, in lower case.
    """

    number: str = ""
    mode: str = ""
    split: str = ""
    subset: str = ""
    group: str = ""
    frames: range = range(MAX_FRAMES)
    size: int = 0
    width: int = 0
    height: int = 0
    titles: tuple[str, ...] = ()


@dataclass
class Document:
    """One XML file while it is read: `drop` and `add` take care of the ledger.

    Attributes:
        tasks: by their id; at least one, several in the export of a project.
        class_ids: what its list of labels says, None where it has none.
    """

    path: str
    root: ET.Element
    tasks: dict[str, Task]
    class_ids: dict[str, int] | None
    labels: Labels
    ledger: Ledger
    _seen: Counter[str] = field(default_factory=Counter)

    def task(self, number: str | None) -> Task:
        return self.tasks.get(number or "") or next(iter(self.tasks.values()))

    def place(self, element: ET.Element) -> int:
        """Where a shape stands, for `locate`. To be asked once for each, in the order of the file."""
        if element.tag not in _TAGS:
            return -1
        number = self._seen[element.tag]
        self._seen[element.tag] += 1
        if element.tag == "skeleton":
            self._seen.update(inner.tag for inner in element)
        return number * len(_TAGS) + _TAGS.index(element.tag)

    def class_of(self, name: str) -> int | str:
        """The position of a class, or the reason why there is none."""
        if not name:
            return "no_class"
        if self.class_ids is None:
            return self.labels.class_id(name)
        return self.class_ids.get(name, "unknown_class")

    def add(self, image: int, class_id: int, shape: Shape, place: int) -> None:
        self.labels.rows.extend((image, class_id, *shape.box(), place))
        if shape.reason:
            line, _ = self.labels.locate(self.path, place)
            record = self.labels.images[image]
            self.ledger.add("box", "converted", shape.reason, path=record.label, file=self.path, line=line)

    def drop(self, reason: str, image: str, place: int, element: ET.Element) -> None:
        line, _ = self.labels.locate(self.path, place)
        detail = " ".join([f"<{element.tag}>", *(f'{key}="{value:.40}"' for key, value in element.attrib.items())])
        self.ledger.add("box", "dropped", reason, path=image, file=self.path, line=line, detail=detail[:200])


def find(files: FileSet, *marks: re.Pattern[bytes]) -> str:
    """The first file with the root element `<annotations>` that holds one of the marks; "" where there is none."""
    for path in spread(files.with_suffix(".xml"), _CANDIDATES):
        if root_tag(files, path) == "annotations":
            data = files.read_bytes(path)
            if b"\0" in data[:200]:  # UTF-16
                data = data.replace(b"\0", b"")
            if any(mark.search(data) for mark in marks):
                return path
    return ""


def documents(
    files: FileSet, labels: Labels, ledger: Ledger, wanted: str, *, other: str, other_format: str
) -> Iterator[Document]:
    """Every file with the root element `<annotations>`; unreadable ones go to `labels.malformed`.

    A class list counts as the format's own order; where no file has one, classes come in alphabetical order.

    Args:
        wanted, other: the element that the caller reads, and the one that `other_format` does: a file that has only the other
            one is passed over, and the ledger says so.
    """
    is_ordered = False
    for path in files.with_suffix(".xml"):
        if root_tag(files, path) not in ("annotations", ""):
            continue  # another tool's
        try:
            root = parse(files, path)
            names = _class_names(root, path) if root.tag == "annotations" else []
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        if root.tag != "annotations":
            continue
        others = len(root.findall(other))
        if others:
            detail = f"{others} elements <{other}>, which annotate.format {other_format} reads"
            ledger.add("file", "dropped", "other_task", file=path, detail=detail)
            if root.find(wanted) is None:
                continue
        class_ids = dict(zip(names, labels.class_ids(names, path, ledger), strict=True)) if names else None
        is_ordered = is_ordered or bool(names)
        tasks = {task.number: task for task in _tasks(root, path)}
        yield Document(path, root, tasks, class_ids, labels, ledger)
    if not is_ordered:
        labels.sort_classes()


def _class_names(root: ET.Element, path: str) -> list[str]:
    """The labels of the task, job or project; those with a parent are the points of a skeleton and no classes."""
    found = [label for label in root.iterfind("meta/*/labels/label") if text(label, "name") and not text(label, "parent")]
    if len(found) > MAX_CLASSES:
        raise DataError(f"{path}: a list of {len(found)} labels")
    return [text(label, "name") for label in found]


def _tasks(root: ET.Element, path: str) -> list[Task]:
    """The tasks of the file, at least one."""
    for element in (*root.iterfind("meta/task"), *root.iterfind("meta/job")):
        return [_task(element, root, path, path, 0)]
    tasks: list[Task] = []
    for element in root.iterfind("meta/project/tasks/task"):
        # A project numbers the frames of a subset through all of its tasks.
        goes_on = tasks and tasks[-1].subset == text(element, "subset").lower()
        offset = tasks[-1].frames.start + tasks[-1].size * tasks[-1].frames.step if goes_on else 0
        tasks.append(_task(element, root, path, f"{path}: task {text(element, 'id')}", min(offset, MAX_FRAMES)))
    return tasks or [Task(split=split_of_file(path), group=path)]


def _task(element: ET.Element, root: ET.Element, path: str, group: str, offset: int) -> Task:
    start, step = _count(text(element, "start_frame")) or 0, 1
    found = _STEP.search(text(element, "frame_filter"))
    if found:
        step = int(found[1])
    size, stop = _count(text(element, "size")), _count(text(element, "stop_frame"))
    if stop is not None:
        # Datumaro writes the number of frames for that of the last one.
        in_range = max(0, stop - start) // step + 1
        size = in_range if size is None else min(size, in_range)
    end = MAX_FRAMES if size is None else start + size * step
    shown = element.find("original_size")
    shown = root.find("meta/original_size") if shown is None else shown
    subset = text(element, "subset")
    source = text(element, "source") or text(root, "meta/source")
    titles = (path.rpartition("/")[2].rpartition(".")[0], text(element, "name"), source.rpartition(".")[0])
    return Task(
        number=text(element, "id"),
        mode=text(element, "mode"),
        split=split_of(subset) or split_of_file(path),
        subset=subset.lower(),
        group=group,
        frames=range(start + offset, min(end + offset, MAX_FRAMES), step),
        size=size or 0,
        width=as_size(shown.findtext("width")) if shown is not None else 0,
        height=as_size(shown.findtext("height")) if shown is not None else 0,
        titles=tuple(title.lower() for title in titles if title),
    )


def _count(number: str) -> int | None:
    return int(number) if re.fullmatch("[0-9]{1,9}", number) else None


def split_of(subset: str) -> str:
    """The split that a subset's name means (`Train`, `Validation`), or ""."""
    return split_of_folder(f"{subset}/")


def locate(files: FileSet) -> Callable[[str, int], tuple[int, str]]:
    """For `Labels.locate`: the line of a shape from its `Document.place`."""
    finders = [locate_tag(files, tag) for tag in _TAGS]

    def line_of(path: str, place: int) -> tuple[int, str]:
        return finders[place % len(_TAGS)](path, place // len(_TAGS)) if place >= 0 else (0, "")

    return line_of
