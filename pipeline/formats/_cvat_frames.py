"""Which image is which frame of a CVAT task: its XML for video numbers the frames and names no file.

What decides, first to last:

1. A task made of images (mode "annotation") numbers them in the order of their names: its images are taken in that order, when
   there are as many as the task has and sorting by letters or by numbers comes to the same. Where some are missing, only names
   that are numbered like the frames will do.
2. The number at the end of an image's name, in any width: `frame_000012.PNG` as CVAT saves it, `frame_12.jpg`, `00012.jpg`. Of
   several series (by the text before the number) `frame_` is preferred; otherwise there must be only one.
3. Numbers count from 0, as CVAT's do. ffmpeg counts from 1: where the images are numbered from 1 (or begin one later than the
   task) up to one more than the last frame, they are taken so; where their end does not tell, nothing is taken for certain.

Without any images, as when only labels are converted, all frames that the task declares are supposed to exist.

Images are looked for below the label file's folder, or else below the nearest folder above it that has any; of those, in
folders (or after prefixes) named like the task's subset, the label file, the task or its video, where there are such.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.formats._cvat import Task

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

MAX_UNSEEN = 100_000
"""Frames of a task that are taken for granted where there are no images: an hour of video. A file may claim any number."""

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})")
_UNCLEAR_LIST = (
    "the task is a list of {frames} images, numbered in the order of their names, but there are {images}, or their order is not "
    "clear: bring just these, or export the task as 'CVAT for images', which names them"
)
_NO_NUMBERS = "no series of images ends in the numbers of the frames (frame_000012.PNG), or more than one does"
_UNCLEAR_START = (
    "the images are numbered from {image}, the frames from {frame}: set annotate.options to {{first_number: 0}} where images and "
    "frames have the same numbers, to {{first_number: 1}} where the images count from 1"
)
_TAIL = re.compile(r"([ _.-]*(frame|image|img))?[ _.-]*$")


@dataclass(frozen=True)
class Frames:
    """The images of a task.

    Attributes:
        numbers: the frames of the task, whether there is an image or not.
        photos: the images, mostly one, by their number, which is `shift` more than that of the frame.
        note: ledger code of what was supposed, with its `detail`; "" when nothing was.
        problem: why nothing can be told; "" otherwise.
        is_unseen: there are no images at all, only labels: every frame counts as present.
    """

    numbers: range = range(0)
    photos: dict[int, list[str]] = field(default_factory=dict)
    shift: int = 0
    is_unseen: bool = False
    note: str = ""
    detail: str = ""
    problem: str = ""

    def photos_of(self, frame: int) -> list[str]:
        """The images that a frame may be, which need not be one of the task's."""
        return self.photos.get(frame + self.shift, [])

    @cached_property
    def present(self) -> Sequence[int]:
        """The frames of the task of which there is an image, sorted."""
        if self.is_unseen:
            return self.numbers[:MAX_UNSEEN]
        if len(self.numbers) < len(self.photos):
            return [frame for frame in self.numbers if frame + self.shift in self.photos]
        return sorted(number - self.shift for number in self.photos if number - self.shift in self.numbers)

    def between(self, first: int, end: int) -> Sequence[int]:
        """Those of `present` after `first` and before `end`."""
        return self.present[bisect_left(self.present, first + 1) : bisect_left(self.present, end)]


@dataclass(frozen=True)
class _Series:
    """Images that may belong to one task, sorted."""

    photos: list[str]

    @cached_property
    def by_prefix(self) -> dict[str, dict[int, list[str]]]:
        """Images by the number at the end of their names, by the text before it."""
        found: dict[str, dict[int, list[str]]] = {}
        for photo in self.photos:
            match = _NUMBERED.fullmatch(_stem(photo))
            if match:
                found.setdefault(match[1].lower(), {}).setdefault(int(match[2]), []).append(photo)
        return found

    @cached_property
    def is_clearly_ordered(self) -> bool:
        return self.photos == sorted(self.photos, key=lambda path: [_natural(part) for part in re.split("([0-9]+)", path)])


def _natural(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isascii() and part.isdecimal() else (-1, part)


class FrameFinder:
    """Finds the images of each task in a tree; what tasks share is worked out once."""

    def __init__(self, files: FileSet) -> None:
        self._files = files
        self._words: dict[str, dict[str, list[str]]] = {}  # folder → word → photos
        self._series: dict[tuple[str, ...], _Series] = {}

    def find(self, path: str, task: Task, first_number: int | None) -> Frames:
        """The images of a task of the label file `path`.

        Args:
            first_number: the number in the name of frame 0; None where that is to be found out.
        """
        if not self._files.photos:
            return Frames(task.frames, is_unseen=True)
        series = self._series_of(path, task)
        is_list = task.mode == "annotation" and task.size > 0 and first_number is None
        if is_list and len(series.photos) == task.size and series.is_clearly_ordered:
            return Frames(task.frames, {frame: [photo] for frame, photo in zip(task.frames, series.photos, strict=False)})
        prefixes = series.by_prefix
        numbered = prefixes.get("frame_") or (next(iter(prefixes.values())) if len(prefixes) == 1 else {})
        if is_list and not _is_part_of(task.frames, numbered, len(series.photos)):
            return Frames(problem=_UNCLEAR_LIST.format(images=len(series.photos), frames=task.size))
        if not numbered:
            return Frames(problem=_NO_NUMBERS)
        return _numbered(numbered, task.frames, first_number)

    def _series_of(self, path: str, task: Task) -> _Series:
        folder = path.rpartition("/")[0]
        while folder and not self._files.photos_below(folder):
            folder = folder.rpartition("/")[0]
        if folder not in self._words:
            self._words[folder] = _by_word(self._files.photos_below(folder), folder)
        words = self._words[folder]
        hints = tuple(dict.fromkeys(hint for hint in (task.subset, *task.titles) if hint in words))
        if (folder, *hints) not in self._series:
            self._series[folder, *hints] = _Series(_narrowed(words, hints))
        return self._series[folder, *hints]


def _narrowed(words: dict[str, list[str]], hints: Iterable[str]) -> list[str]:
    """The photos with all the words, passing over a word that would leave none."""
    photos = words[""]
    for hint in hints:
        of_word = frozenset(words[hint])
        photos = [photo for photo in photos if photo in of_word] or photos
    return photos


def _by_word(photos: Iterable[str], folder: str) -> dict[str, list[str]]:
    """Photos by what their folders below `folder` and their prefix are called, in lower case; all of them under ""."""
    words: dict[str, list[str]] = {"": []}
    for photo in photos:
        parts = photo[len(folder) :].lower().split("/")[:-1]
        match = _NUMBERED.fullmatch(_stem(photo).lower())
        prefix = _TAIL.sub("", match[1]) if match else ""
        for word in {"", prefix, *parts}:
            words.setdefault(word, []).append(photo)
    return words


def _stem(photo: str) -> str:
    return photo.rpartition("/")[2].rpartition(".")[0]


def _is_part_of(frames: range, numbered: dict[int, list[str]], count: int) -> bool:
    """Whether the images of a list, some of which are missing, bear the numbers of their frames: all of them are numbered, from
    the first frame on, and none is beyond the last."""
    is_all = sum(map(len, numbered.values())) == count
    return is_all and frames.start in numbered and all(number in frames for number in numbered)


def _numbered(numbered: dict[int, list[str]], frames: range, first_number: int | None) -> Frames:
    low, high = min(numbered), max(numbered)
    if first_number is not None or not frames or low == frames.start or low not in (1, frames.start + 1):
        return Frames(frames, numbered, first_number or 0)
    if (low, high) == (frames.start + 1, frames[-1] + 1):
        detail = f"image {low} is taken for frame {low - 1}"
        return Frames(frames, numbered, 1, note="numbered_from_one", detail=detail)
    return Frames(problem=_UNCLEAR_START.format(image=low, frame=frames.start))
