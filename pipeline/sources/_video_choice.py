"""Which frames of a video are kept: by time, evenly, at changes of scene, and of each stretch the sharpest."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from pipeline.stage import StageParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.sources._video import Index, Picture

DEFAULT_EVERY_S = 1.0
TOLERANCE_S = 0.001
"""Containers round times, many to the millisecond: a frame is taken that is due by that much later."""

THUMBNAIL = (64, 36)
HALVED_FROM = 240
"""Pixels of the shorter side from which sharpness is measured at half the size."""


class Choice(StageParams):
    """The options that say which frames are kept; of `every_s`, `frames` and `scenes` one."""

    every_s: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="a frame every so many seconds; 0 keeps every frame. 1 where none of the three is given.",
    )
    frames: int | None = Field(default=None, ge=1, description="so many of each video, evenly spread")
    scenes: bool = Field(default=False, description="the first frame of each scene")
    scene_change: float = Field(
        default=0.3,
        gt=0,
        lt=1,
        description="how much of the brightness must change for a new scene, 0 to 1, as in FFmpeg's `select=gt(scene,0.3)`",
    )
    sharp: bool = Field(
        default=False,
        description="instead of a fixed frame, the sharpest of each stretch or scene (variance of the Laplacian)",
    )
    start_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="what lies before is left out; seconds from the first frame"
    )
    end_s: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="what lies after is left out; seconds from the first frame",
    )
    max_frames: int | None = Field(
        default=None, ge=1, description="at most so many of each video, evenly spread; of scenes the first ones"
    )

    @field_validator("frames", "scenes")
    @classmethod
    def _is_one_way(cls, value: object, info: ValidationInfo) -> object:
        others = [name for name in ("every_s", "frames") if name != info.field_name and info.data.get(name) is not None]
        if value and others:
            raise ValueError(f"give either this or {others[0]}")
        return value

    @field_validator("end_s")
    @classmethod
    def _is_after_start(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and value <= info.data.get("start_s", 0.0):
            raise ValueError("must be after start_s")
        return value


class Part(NamedTuple):
    """A stretch of frames, `first` to before `stop`, of which one is kept: `middle` unless the sharpest is wanted."""

    first: int
    stop: int
    middle: int


def within(times_s: Sequence[float], choice: Choice) -> range:
    """The numbers of the frames between `start_s` and `end_s`."""
    end = math.inf if choice.end_s is None else choice.end_s
    return range(bisect_left(times_s, choice.start_s - TOLERANCE_S), bisect_left(times_s, end - TOLERANCE_S))


def parts(times_s: Sequence[float], choice: Choice) -> Iterator[Part]:
    """The stretches of which a frame each is kept, in order; all of `within` is in one of them."""
    chosen = within(times_s, choice)
    number = choice.frames
    if choice.max_frames is not None:
        ways = number or sum(1 for _ in islice(_by_time(times_s, chosen, choice), choice.max_frames + 1))
        number = min(ways, choice.max_frames) if number or ways > choice.max_frames else None
    return _evenly(chosen, number) if number else _by_time(times_s, chosen, choice)


def _evenly(chosen: range, number: int) -> Iterator[Part]:
    """By number and not by time, so that there are just so many also where a recording paused."""
    number = min(number, len(chosen))
    for part in range(number):
        first = chosen.start + part * len(chosen) // number
        stop = chosen.start + (part + 1) * len(chosen) // number
        yield Part(first, stop, (first + stop - 1) // 2)


def _by_time(times_s: Sequence[float], chosen: range, choice: Choice) -> Iterator[Part]:
    every = DEFAULT_EVERY_S if choice.every_s is None else choice.every_s
    first = chosen.start
    while first < chosen.stop:
        stop = first + 1
        if every > 0:
            steps = math.floor((times_s[first] - choice.start_s + TOLERANCE_S) / every) + 1
            due = choice.start_s + steps * every
            stop = max(stop, bisect_left(times_s, due - TOLERANCE_S, first, chosen.stop))
        yield Part(first, stop, first)
        first = stop


Reader = Callable[[Sequence[int]], "Iterator[Picture]"]


def choose(index: Index, choice: Choice, read: Reader, is_wanted: Callable[[int], bool]) -> Iterator[Picture]:
    """The frames to keep, in their order, one after the other in memory.

    Args:
        read: decodes the frames of the given numbers.
        is_wanted: by number; False for a frame that need not be decoded for its own sake.
    """
    if choice.scenes:
        found = _first_of_each(read(within(index.times_s, choice)), _Scenes(choice.scene_change).begins, choice.sharp)
        return islice(found, choice.max_frames)
    if choice.sharp:
        begins = _Beginnings(part.first for part in parts(index.times_s, choice)).begins
        return _first_of_each(read(within(index.times_s, choice)), begins, is_sharpest=True)
    numbers: Sequence[int] = within(index.times_s, choice)
    if choice.every_s != 0 or choice.max_frames is not None:
        numbers = [part.middle for part in parts(index.times_s, choice)]
    return read([number for number in numbers if is_wanted(number)])


def _first_of_each(pictures: Iterator[Picture], begins: Callable[[Picture], bool], is_sharpest: bool) -> Iterator[Picture]:
    """Of each stretch the first picture, or the sharpest, which is the earliest of equals."""
    best: Picture | None = None
    most, sharpness = 0.0, Sharpness()
    for picture in pictures:
        is_first = begins(picture)
        if not is_sharpest:
            if is_first:
                yield picture
            continue
        if is_first and best is not None:
            yield best
        amount = sharpness.of(picture.grey)
        if is_first or best is None or amount > most:
            best, most = picture, amount
    if best is not None:
        yield best


class _Beginnings:
    """Whether a picture is the first of its stretch, though the very first frame of it may have been lost."""

    def __init__(self, firsts: Iterator[int]) -> None:
        self._firsts = firsts
        self._next: int | None = next(firsts, None)

    def begins(self, picture: Picture) -> bool:
        is_first = False
        while self._next is not None and picture.number >= self._next:
            is_first = True
            self._next = next(self._firsts, None)
        return is_first


class _Scenes:
    """Whether a picture is the first of a scene, by the measure of FFmpeg's `scene`, on thumbnails.

    The mean change of brightness must be large, and larger than that from the pictures before: a fast pan changes much in each
    frame and is no new scene. Source: `get_scene_score` in https://github.com/FFmpeg/FFmpeg/blob/master/libavfilter/f_select.c
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._last: NDArray[Any] | None = None
        self._change = 0.0

    def begins(self, picture: Picture) -> bool:
        import cv2

        rows = picture.grey[:: max(1, len(picture.grey) // (2 * THUMBNAIL[1]))]  # two of a cell tell its mean well enough
        small = cv2.resize(rows, THUMBNAIL, interpolation=cv2.INTER_AREA)
        last, self._last = self._last, small
        if last is None:
            return True
        change = cv2.norm(small, last, cv2.NORM_L1) / small.size
        score: float = min(change, abs(change - self._change)) / 100
        self._change = change
        return score >= self._least


class Sharpness:
    """Variance of the Laplacian; of a larger picture each 2 by 2 pixels are averaged before.

    Blur of motion and focus that spoils a picture reaches further than two pixels; what reaches no further is noise, and what the
    codec makes of it. So the order of the frames stays, and the work is a third.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000,
    https://doi.org/10.1109/ICPR.2000.903548.
    """

    def __init__(self) -> None:
        # Kept from frame to frame: fetching so much new memory each time would take longer than the arithmetic.
        self._half: NDArray[Any] | None = None
        self._edges: NDArray[Any] | None = None

    def of(self, grey: NDArray[Any]) -> float:
        """Of brightness (H, W) uint8: 0 where it is even, thousands where every pixel differs from its neighbours."""
        import cv2

        if min(grey.shape) >= HALVED_FROM:
            size = (grey.shape[1] // 2, grey.shape[0] // 2)
            grey = self._half = cv2.resize(grey, size, dst=self._half, interpolation=cv2.INTER_AREA)
        edges = self._edges = cv2.Laplacian(grey, cv2.CV_16S, dst=self._edges)
        return float(cv2.norm(edges, cv2.NORM_L2SQR) / edges.size - cv2.mean(edges)[0] ** 2)  # a tenth of the time of meanStdDev
