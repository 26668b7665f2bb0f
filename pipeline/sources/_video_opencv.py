"""Videos decoded by OpenCV, where PyAV is not installed.

Its limits: it cannot seek to a frame for certain (https://github.com/opencv/opencv/issues/9053), so that a video is decoded from
its start, once to list the times of the frames and once for their pixels; and it says no more of a damaged file than that
it ends there. FFmpeg, which does the work below it, conceals damage within a frame.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import images
from pipeline.sources._video import MAX_FRAMES, Index, NoVideo, Picture, refuse_text


def index(path: Path) -> Index:
    """List the frames of a video, by decoding it.

    Raises:
        NoVideo: no video, or one without pictures.
    """
    import cv2

    refuse_text(path)
    times = array("d")
    with _open(path) as capture:
        declared = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        pace = 1 / rate if (rate := capture.get(cv2.CAP_PROP_FPS)) > 0 else 0.04
        start = None
        while len(times) < MAX_FRAMES and capture.grab():
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = time if start is None else start
            last = times[-1] if times else -pace
            times.append(time - start if time - start > last else last + pace)
    if not times:
        raise NoVideo(f"{path}: not one frame can be decoded")
    return Index(times, declared=declared)


def read(path: Path, index: Index, numbers: Sequence[int], lost: list[range]) -> Iterator[Picture]:
    """The frames of the given numbers (sorted, each once), in their order.

    Args:
        lost: gets the stretches that hold frames which were asked for and cannot be decoded.
    """
    wanted = iter(numbers)
    following = next(wanted, None)
    with _open(path) as capture:
        for number in range(len(index)):
            if following is None:
                return
            if not capture.grab():
                break
            if number == following:
                is_there, pixels = capture.retrieve()
                if not is_there:
                    break
                yield as_picture(number, pixels)
                following = next(wanted, None)
    if following is not None:
        lost.append(range(following, len(index)))


def as_picture(number: int, pixels: Any) -> Picture:
    """A frame as OpenCV has it, (H, W, 3) BGR."""
    import cv2

    return Picture(
        number,
        lambda: np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)),
        lambda: np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)),
    )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """OpenCV turns the frames upright by itself, and owns one buffer of pixels a `retrieve`."""
    import cv2

    images.quiet_cv2()
    # FFmpeg by name: another backend takes a "%" in the name for the number of an image.
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise NoVideo(f"{path}: not a video that can be opened")
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > images.MAX_PIXELS:
            raise NoVideo(f"{path}: frames of over {images.MAX_PIXELS:,} pixels", "too_many_pixels")
        yield capture
    finally:
        capture.release()
