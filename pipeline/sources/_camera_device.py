"""Frames as a camera gives them: of a webcam or a stream the newest, of a video in a camera's place one after the other.

Drivers and networks can block a thread for as long as they like, so that a live camera is read in a thread of its own. One that
is silent for too long is left to itself, and the camera is opened anew.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import images
from pipeline.errors import DataError, NetworkError
from pipeline.sources._camera_address import PASSWORD, USER, Address
from pipeline.sources._video import refuse_text

TICK_S = 0.05
"""So often at least a live camera gives a sign, for keys to be looked at."""
SILENT_S = 4.0
"""A live camera that gives no picture for so long is opened anew; one that has given none at all is told to be off, within five
seconds as all that cannot be reached."""
LOST_S = 60.0
"""For so long it is tried again, with pauses that double from the first of the next two to the second."""
PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0


class Shot(NamedTuple):
    """A frame.

    Attributes:
        pixels: (H, W, 3) uint8, BGR.
        at_s: when it was taken, in seconds on a clock that never jumps.
        taken: the same, by the time of day.
    """

    pixels: Any
    at_s: float
    taken: datetime


Shots = Generator[Shot | None, None, None]


@dataclass(frozen=True)
class Wish:
    """The size of picture that a webcam is asked for, in pixels; 0 leaves it to the camera."""

    width: int = 0
    height: int = 0


def shots(address: Address, wish: Wish, gaps: list[float]) -> Shots:
    """The frames of a camera, for as long as they are taken from the iterator; None is a sign of life without one.

    Args:
        gaps: gets the length of each interruption, in seconds.

    Raises:
        NetworkError: a stream gives no picture.
        DataError: a webcam or a video does not.
    """
    if isinstance(address.target, Path):
        return _of_video(address.target)
    return _live(address, lambda: _open(address, wish), gaps)


def _of_video(path: Path) -> Shots:
    import cv2

    refuse_text(path)
    begin, capture = datetime.now(UTC), _open_video(path)
    last_s, pace_s = -1.0, 1 / (capture.get(cv2.CAP_PROP_FPS) or 25)
    try:
        while True:
            is_there, pixels = capture.read()
            if not is_there:
                break
            at_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            last_s = at_s if at_s > last_s else last_s + pace_s
            yield Shot(pixels, last_s, begin + timedelta(seconds=last_s))
    finally:
        capture.release()
    if last_s < 0:
        raise DataError(f"{path}: not a video that can be opened.", "Save it as MP4 (H.264).")


def _open_video(path: Path) -> Any:
    import cv2

    _be_quiet()
    return cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)


def _open(address: Address, wish: Wish) -> Any:
    """OpenCV's capture of a webcam or a stream, which may block for `SILENT_S`."""
    import cv2

    _be_quiet()
    if isinstance(address.target, int):
        capture = cv2.VideoCapture(address.target)
        for name, value in ((cv2.CAP_PROP_FRAME_WIDTH, wish.width), (cv2.CAP_PROP_FRAME_HEIGHT, wish.height)):
            if value:
                capture.set(name, value)
        return capture
    limit_ms = int(SILENT_S * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
    return cv2.VideoCapture(address.target, cv2.CAP_FFMPEG, limits)


def _be_quiet() -> None:
    """What OpenCV and FFmpeg say on stderr would show the address with its password."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    images.quiet_cv2()


# ---- live


class _Reader(threading.Thread):
    """Opens a camera and keeps its newest frame, until it breaks off or nobody wants it any more."""

    def __init__(self, open_camera: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._open = open_camera
        self._newest: Shot | None = None
        self._changed = threading.Condition()
        self._left = threading.Event()
        self.has_ended = False

    def run(self) -> None:
        import cv2

        capture = None
        try:
            capture = self._open()
            while not self._left.is_set():
                is_there, pixels = capture.read()
                if not is_there:
                    break
                with self._changed:
                    self._newest = Shot(pixels, time.monotonic(), datetime.now(UTC))
                    self._changed.notify()
        except cv2.error:
            pass  # as good as an end; its text may hold the address
        finally:
            with self._changed:
                self.has_ended = True
                self._changed.notify()
            if capture is not None:
                capture.release()

    def take(self) -> Shot | None:
        """The newest frame, unless it was taken before; waits for one no longer than `TICK_S`."""
        with self._changed:
            if self._newest is None and not self.has_ended:
                self._changed.wait(TICK_S)
            shot, self._newest = self._newest, None
            return shot

    def leave(self, wait_s: float = 1.0) -> None:
        self._left.set()
        self.join(wait_s)


def _live(address: Address, open_camera: Callable[[], Any], gaps: list[float]) -> Shots:
    reader, began_s = _start(open_camera)
    heard_s: float | None = None
    pause_s = PAUSE_S
    try:
        while True:
            shot, now_s = reader.take(), time.monotonic()
            if shot is not None:
                if heard_s is not None and began_s > heard_s:  # opened anew since
                    gaps.append(shot.at_s - heard_s)
                heard_s, pause_s = shot.at_s, PAUSE_S
                yield shot
                continue
            yield None
            if not reader.has_ended and now_s - max(began_s, heard_s or 0) < SILENT_S:
                continue
            if heard_s is None:
                raise _no_picture(address, reader.has_ended)
            if now_s - heard_s >= LOST_S:
                raise _lost(address)
            reader.leave(0)
            while time.monotonic() - now_s < pause_s:
                yield None
                time.sleep(TICK_S)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            reader, began_s = _start(open_camera)
    finally:
        reader.leave()


def _start(open_camera: Callable[[], Any]) -> tuple[_Reader, float]:
    reader = _Reader(open_camera)
    reader.start()
    return reader, time.monotonic()


def _no_picture(address: Address, has_ended: bool) -> DataError:
    why = "cannot be opened" if has_ended else f"gives no picture in {SILENT_S:g} s"
    if address.kind == "webcam":
        hint = "Is it plugged in, and used by no other program? Another camera has another number: camera:1"
        return DataError(f"collect.source: {address.shown} {why}.", hint)
    return NetworkError(
        f"collect.source: {address.shown} {why}.",
        f"Check that the camera is on and reachable, its address, and its login ({USER} and {PASSWORD}).",
    )


def _lost(address: Address) -> DataError:
    kind = DataError if address.kind == "webcam" else NetworkError
    return kind(
        f"collect.source: {address.shown} has given no picture for {LOST_S:g} s.",
        "The same command goes on with this session, and keeps what was taken.",
    )
