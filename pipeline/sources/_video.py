"""What both decoders of videos have in common: the frames of a video as they are numbered, timed and handed on.

Frames are numbered from 0 in the order of their showing, as CVAT and OpenCV do. Times count from the first frame.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.detections import Image

MAX_FRAMES = 20_000_000
"""Ninety hours at 60 frames a second; what claims more is no video but an attempt to fill the memory."""

_START_BYTES = 512


class NoVideo(DataError):
    """A file that has no pictures to offer. `reason` is a code for the ledger."""

    def __init__(self, message: str, reason: str = "unreadable_video") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[NoVideo], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.message, self.reason)


@dataclass(frozen=True)
class Index:
    """The frames of a video, known before any of them is decoded.

    Attributes:
        times_s: of each frame, in seconds after the first; they only rise.
        keys: numbers of the frames at which decoding can begin, sorted, the first being 0.
        stamps: of each frame, its time in the units of the container; empty where frames can only be counted.
        codec: its short name, for the ledger.
        declared: how many frames the container claims to hold, 0 where it claims nothing.
    """

    times_s: array[float]
    keys: array[int] = field(default_factory=lambda: array("q", [0]))
    stamps: array[int] = field(default_factory=lambda: array("q"))
    codec: str = ""
    declared: int = 0

    def __len__(self) -> int:
        return len(self.times_s)

    def key_before(self, number: int) -> int:
        """The nearest frame, not after `number`, at which decoding can begin."""
        return self.keys[bisect_right(self.keys, number) - 1]

    def key_after(self, number: int) -> int:
        """The next frame after `number` at which decoding can begin; the number of frames where there is none."""
        position = bisect_right(self.keys, number)
        return self.keys[position] if position < len(self.keys) else len(self)


@dataclass(frozen=True)
class Picture:
    """A decoded frame, whose pixels are converted when somebody asks for them, and once only.

    Attributes:
        number: which frame of the video it is.
        to_image: makes the upright RGB pixels (H, W, 3).
        to_grey: makes the brightness (H, W), uint8, not turned upright; of most videos 16 is black in it and 235 white.
    """

    number: int
    to_image: Callable[[], Image]
    to_grey: Callable[[], NDArray[Any]]

    @cached_property
    def image(self) -> Image:
        return self.to_image()

    @cached_property
    def grey(self) -> NDArray[Any]:
        return self.to_grey()


def refuse_text(path: Path) -> None:
    """Playlists and lists of files are text, and lead a decoder to whatever files and addresses they name.

    Raises:
        NoVideo: the file is empty or begins with text.
    """
    with path.open("rb") as stream:
        start = stream.read(_START_BYTES)
    if not start:
        raise NoVideo(f"{path}: the file is empty", "empty_file")
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        raise NoVideo(f"{path}: a text, no video", "not_a_video")
