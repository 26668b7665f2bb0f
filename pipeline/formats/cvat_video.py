"""CVAT for video 1.1: XML with the root `<annotations>` and a `<track>` for every object, with its shape in frame after frame.

Specification: https://docs.cvat.ai/docs/dataset_management/formats/xml_format/; what CVAT writes and reads:
https://github.com/cvat-ai/cvat/blob/develop/cvat/apps/dataset_manager/formats/cvat.py and, for the interpolation, annotation.py
beside its folder.

Units: pixels, floats, origin at the top-left corner; rotation in degrees, clockwise about the shape's centre. Frames are
numbered as in the video: `start_frame`, `stop_frame` (included) and the step of `frame_filter` say which the task has. One
size, that of the video, stands in `original_size`.

Quirks: frames are numbers, no file names; `_cvat_frames` says which image is which frame. A shape with `outside="1"` marks
where an object goes out of sight; it is no box. An export lists every frame of a track, and what is listed is taken as it is.
Frames that are left out between two listed ones, and those after the last, are filled as CVAT does when such a file is
imported: boxes and ellipses move linearly and turn by the smaller angle, also towards a shape that is `outside`; the last one
stays until the task ends. CVAT moves the corners of polygons by a matching of its own: here their tight boxes move linearly,
and the ledger says so once a track. Masks are never interpolated. A track without a single keyframe is a plain list of boxes
(Datumaro's) and is not filled. Only frames of which there is an image are filled, and every image of the task is one of its
group, with or without objects. A single shape in the frame before the last is exported by CVAT without its end, and so goes
on to the last. Polylines, points, cuboids and skeletons have no box and are dropped; `occluded`, `z_order`, `source`,
`group_id` and attributes say nothing about one. Classes, splits and decimal commas are as in the format `cvat`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import DataError
from pipeline.files import link, write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._cvat import UNBOXED, Document, Shape, Task, documents, find, locate, read_shape
from pipeline.formats._cvat_frames import FrameFinder, Frames
from pipeline.formats._cvat_writing import attributes, document, edges
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background"})
IMAGES = "images"
MAX_FILLED = 20_000_000
"""Boxes between keyframes in one task: more are no labels, but an attempt to fill the memory."""

_TRACK = re.compile(rb"<track[\s>/]")
_META = re.compile(rb"<meta[\s>](?!.*<(image|track)[\s>/])", re.DOTALL)


class Options(StageParams):
    """`first_number`: the number in the name of the image that is frame 0 of the video, where the names alone do not tell: 0 as
    CVAT saves frames, 1 as ffmpeg does."""

    first_number: int | None = None


def detect(files: FileSet) -> Evidence | None:
    found = find(files, _TRACK, _META)  # a video in which nothing was found has no track
    return Evidence(f"{found} has the root element <annotations>, and tracks instead of images") if found else None


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=locate(files))
    finder = FrameFinder(files)
    for found in documents(files, labels, ledger, "track", other="image", other_format="cvat"):
        try:
            _read_document(found, finder, options)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, found.path))
    return labels


def _read_document(found: Document, finder: FrameFinder, options: Options) -> None:
    videos = {}
    for number, task in found.tasks.items():
        frames = finder.find(found.path, task, options.first_number)
        if frames.problem:
            raise DataError(f"{found.path}: {frames.problem}")
        if frames.note:
            found.ledger.add("file", "converted", frames.note, file=found.path, detail=frames.detail)
        videos[number] = _Video(found, task, frames)
    for element in found.root.iterfind("track"):
        _read_track(element, videos[found.task(element.get("task_id")).number])
    for video in videos.values():
        for frame in video.frames.present:
            video.image(frame)


@dataclass
class _Video:
    """One task while its tracks are read."""

    found: Document
    task: Task
    frames: Frames
    filled: int = 0
    _images: dict[int, int] = field(default_factory=dict)

    def image(self, frame: int) -> int:
        """The record of a frame, which is made when first asked for."""
        if frame not in self._images:
            self._images[frame] = self.found.labels.add_image(self._record(frame))
        return self._images[frame]

    def _record(self, frame: int) -> LabelledImage:
        photos = self.frames.photos_of(frame)
        name = PurePosixPath(photos[0]).stem if photos else _words(frame)
        if self.frames.is_unseen:  # the label file's own name keeps the frames of several videos apart
            name = str(PurePosixPath(self.found.path).with_suffix("") / self.task.subset / f"frame_{frame:06d}.PNG")
        return LabelledImage(
            self.found.path,
            (name,),
            path=photos[0] if len(photos) == 1 else "",
            width=self.task.width,
            height=self.task.height,
            split=self.task.split,
            group=self.task.group,
        )


class _Listed(NamedTuple):
    """A shape of a track; `shape` is None only where it is outside and has no numbers."""

    frame: int
    is_outside: bool
    shape: Shape | None
    place: int


def _read_track(element: ET.Element, video: _Video) -> None:
    found, name = video.found, (element.get("label") or "").strip()
    class_id = found.class_of(name)
    shapes = [item for item in element if item.tag != "attribute"]
    listed = [shape for item in shapes if (shape := _read_listed(item, class_id, video))]
    if isinstance(class_id, str):
        return
    listed.sort(key=lambda shape: shape.frame)
    can_fill = any(item.get("keyframe") == "1" for item in shapes)
    guessed = 0
    for here, following in pairwise([*listed, None]):
        if here is None or here.is_outside or here.shape is None:
            continue
        found.add(video.image(here.frame), class_id, here.shape, here.place)
        if can_fill and here.shape.kind != "mask":
            count = _fill(here, here.shape, following, class_id, video)
            guessed += count if here.shape.kind == "polygon" and following else 0
    if guessed:
        detail = f"track {element.get('id')!r:.40}: {guessed} boxes between its polygons, their tight boxes moved linearly"
        found.ledger.add("box", "converted", "interpolated_polygon", file=found.path, detail=detail)


def _read_listed(item: ET.Element, class_id: int | str, video: _Video) -> _Listed | None:
    """A shape, or None for what is no box, which goes into the ledger."""
    found = video.found
    place, is_outside = found.place(item), item.get("outside") == "1"
    number = item.get("frame") or ""
    frame = int(number) if re.fullmatch("[0-9]{1,9}", number) else -1
    shape = read_shape(item) if item.tag not in UNBOXED else None
    if is_outside:
        return _Listed(frame, True, shape, place) if frame >= 0 and item.tag not in UNBOXED else None
    if item.tag in UNBOXED:
        reason = UNBOXED[item.tag]
    elif isinstance(class_id, str):
        reason = class_id
    elif shape is None or frame < 0:
        reason = "malformed_box"
    else:
        return _Listed(frame, False, shape, place)
    found.drop(reason, _words(frame) if frame >= 0 else "", place, item)
    return None


def _fill(here: _Listed, shape: Shape, following: _Listed | None, class_id: int, video: _Video) -> int:
    """Add the boxes of the frames until the next listed one, or the end of the task; return how many."""
    frames = video.frames.between(here.frame, following.frame if following else video.task.frames.stop)
    video.filled += len(frames)
    if video.filled > MAX_FILLED:
        raise DataError(f"{video.found.path}: more than {MAX_FILLED:,} boxes between keyframes")
    for frame in frames:
        moved = shape
        if following and following.shape:
            moved = _between(shape, following.shape, (frame - here.frame) / (following.frame - here.frame))
        video.found.add(video.image(frame), class_id, moved, here.place)
    return len(frames)


def _between(a: Shape, b: Shape, part: float) -> Shape:
    """The shape at `part` of the way from a to b; of their tight boxes where they are of two kinds."""
    if a.kind != b.kind:
        a, b = Shape(a.kind if a.kind != "ellipse" else "box", a.box()), Shape(b.kind, b.box())
    x1, y1, x2, y2 = (start + (end - start) * part for start, end in zip(a.values, b.values, strict=True))
    turn = (b.degrees - a.degrees + 180) % 360 - 180
    return Shape(a.kind, (x1, y1, x2, y2), a.degrees + turn * part)


def _words(frame: int) -> str:
    """What to call a frame without an image. Not CVAT's name for it: that may be the image of another video's frame."""
    return f"frame {frame} of the video"


def image_paths(dataset: Dataset) -> list[str]:
    """Where `write` puts each image, below `images/`: frames are numbered in the order of the data set, anew in each split."""
    counts: dict[str, int] = {}
    paths = []
    for path, split in dataset.image_rows("path", "split"):
        frame = counts.get(split, 0)
        counts[split] = frame + 1
        paths.append(f"{split}/frame_{frame:06d}{PurePosixPath(path).suffix}".lstrip("/"))
    return paths


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """A task for each split: `<split>.xml`, its images being `images/<split>/frame_000000.jpg` and so on; `annotations.xml` and
    `images/frame_000000.jpg` for images of none.

    The format numbers frames and has no place for names, so the images' own are lost, and all images of a split are one video.
    Every box is a track of one frame. CVAT takes each file into a task made of its images. `original_size`, which Datumaro asks
    for, is written where all images of a split are of one size.

    Raises:
        DataError: a class name with a character that XML cannot hold.
    """
    paths = image_paths(dataset)
    if images_folder is not None:
        for path, target in zip(dataset.paths, paths, strict=True):
            link(images_folder / path, out / IMAGES / target)
    boxes, splits = dataset.by_image(), dataset.splits
    labels = [attributes({"label": name}) for name in dataset.class_names]
    for split in sorted(set(splits)):
        numbers = [number for number in range(len(paths)) if splits[number] == split]
        tracks: list[str] = []
        for frame, number in enumerate(numbers):
            for box, class_id in zip(*(column.tolist() for column in boxes[number]), strict=True):
                tracks.append(_track(len(tracks), labels[class_id], edges(box), range(frame, min(frame + 2, len(numbers)))))
        name = split or "annotations"
        details = {"mode": "interpolation", **({"subset": split} if split else {})}
        size = _common_size(dataset, numbers)
        write_text(out / f"{name}.xml", document(name, len(numbers), details, dataset.class_names, tracks, size))


def _common_size(dataset: Dataset, numbers: list[int]) -> tuple[int, int] | None:
    """Width and height of the images, where it is the same for all."""
    sizes = set(map(tuple, dataset.sizes[numbers].tolist()))
    return sizes.pop() if len(sizes) == 1 else None


def _track(number: int, label: str, box: str, frames: Iterable[int]) -> str:
    """A track that is seen in the first of the frames and outside in the second, if there is one."""
    shapes = "".join(
        f'    <box frame="{frame}" keyframe="1" outside="{outside}" occluded="0"{box} z_order="0">\n    </box>\n'
        for outside, frame in enumerate(frames)
    )
    return f'  <track id="{number}"{label} source="manual">\n{shapes}  </track>'
