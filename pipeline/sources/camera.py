"""Pictures from a webcam or a stream, every so many seconds or at the press of a key.

    collect.source: camera:0                              a webcam by its number
    collect.source: camera:rtsp://192.168.1.20/stream1    an IP camera; http://… for MJPEG
    collect.source: camera:my-camera.txt                  a text file with the address, user and password in it
    collect.source: camera:video.mp4                      a video in a camera's place, to try things out

A recording is a session. It ends after `frames` or `seconds`, by the key q or by Ctrl-C, and is complete then. What a camera
shows never comes again, so a session that has a version is used as it is: the fingerprint is its name, and nobody asks the
camera. Another `session` records anew. One that was killed goes on when the same command is run again; so does one that lost its
camera before it had its `frames` or `seconds`. A camera that is silent for four seconds is opened anew; after a minute it is
lost.

All pictures of a session are one group, which a split does not divide. They bear the time in UTC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Ledger
from pipeline.sources import Fetched, Origin, _camera_address, _camera_device, _camera_user
from pipeline.sources._camera_device import Shot, Wish
from pipeline.sources._camera_user import END, TAKE, Keys, Window
from pipeline.sources._video_choice import TOLERANCE_S
from pipeline.sources._video_frames import Look, write_picture
from pipeline.stage import Advance, Context, StageParams

if TYPE_CHECKING:
    from pipeline.sources._video import Picture

VERSION = 1
_NAME = re.compile(r"(\d{8}T\d{6})(\d{3})Z", re.ASCII)


class Options(StageParams):
    """Options of `camera:…`."""

    session: str = Field(
        default="session-1",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$",
        description="the name of the recording, and of the folder of its pictures; another name records anew",
    )
    every_s: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="a picture every so many seconds; 0 keeps every frame. The space bar takes one at any time.",
    )
    on_key: bool = Field(default=False, description="only the space bar takes pictures")
    frames: int | None = Field(default=None, ge=1, description="the session ends after so many pictures")
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="the session ends after so long")
    drop_similar: bool = Field(
        default=False, description="leave out a picture that looks like the one kept before it, unless a key took it"
    )
    preview: Literal["auto", "on", "off"] = Field(
        default="auto", description="a window with the camera's picture, where there is a display"
    )
    width: int = Field(default=0, ge=0, le=16384, description="what a webcam is asked for, in pixels; 0 is its default")
    height: int = Field(default=0, ge=0, le=16384, description="what a webcam is asked for, in pixels; 0 is its default")
    format: Literal["jpg", "png"] = Field(default="jpg", description="of the images")
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="1 to 100")


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The camera and the session by their names; the camera is not asked."""
    address = _camera_address.parse(location, context)
    return f"camera {VERSION}, {fingerprints.of_value([address.shown, options.session])}"


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    """Record until the session ends.

    Raises:
        NetworkError: the stream cannot be reached, or is lost for a minute, and the session not complete.
        DataError: the same of a webcam; or the session ended without a picture.
    """
    address = _camera_address.parse(location, context).with_login(context.base)
    session = Session(address.shown, options, out)
    gaps: list[float] = []
    if not session.is_complete:
        with _camera_user.preview(options.preview, context) as window, _camera_user.terminal() as keys:
            if options.on_key and window is None and keys is None:
                hint = "Run it in a terminal or with a display, or let `every_s` take the pictures."
                raise ParamsError(
                    "collect.options.on_key: there is neither a preview window nor a terminal to press keys in.", hint
                )
            label = "record (space takes a picture, q ends)" if window or keys else "record (Ctrl-C ends)"
            shots = _camera_device.shots(address, Wish(options.width, options.height), gaps)
            with closing(shots), context.progress(label, options.frames or 0) as advance:
                try:
                    session.record(shots, window, keys, advance)
                except DataError as error:
                    if not session.has_no_end or not session.origins:
                        raise
                    context.warn(f"{error.message} The session ends here.")
                    session.ledger.add("file", "kept", "camera_lost", path=options.session, detail=error.message)
    if not session.origins:
        raise DataError(f"The recording of {address.shown} ended before a picture was taken.", "Run it again.")
    if gaps:
        detail = f"the camera broke off {len(gaps)} times, {sum(gaps):.1f} s in all"
        session.ledger.add("file", "kept", "camera_interrupted", path=options.session, detail=detail)
    return Fetched(
        sorted(session.origins, key=lambda origin: origin.path),
        description=f"the session '{options.session}' of {address.shown}",
        ledger=session.ledger,
    )


@dataclass
class Session:
    """What has been recorded.

    Attributes:
        camera: its name or address, without secrets.
        origins: of the pictures, in the order of their taking.
    """

    camera: str
    options: Options
    out: Path
    origins: list[Origin] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    done_s: float = 0.0
    _look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        """Take up what a killed run has recorded: files appear whole."""
        times = sorted(filter(None, map(_time_in, (self.out / self.options.session).glob(f"*.{self.options.format}"))))
        self.origins += [self._origin(time) for time in times]
        if times:
            self.done_s = (times[-1] - times[0]).total_seconds()

    @property
    def has_no_end(self) -> bool:
        """Whether it goes on until somebody ends it; so the loss of the camera may end it too."""
        return self.options.frames is None and self.options.seconds is None

    @property
    def is_complete(self) -> bool:
        frames, seconds = self.options.frames, self.options.seconds
        return len(self.origins) >= (frames or math.inf) or self.done_s >= (seconds or math.inf)

    def record(self, shots: Iterable[Shot | None], window: Window | None, keys: Keys | None, advance: Advance) -> None:
        """Take pictures until one of the options, the user or the camera ends the session."""
        advance(len(self.origins))
        try:
            for taken, picture in self._until_the_end(shots, window, keys):
                self._save(taken, picture)
                advance()
                if len(self.origins) >= (self.options.frames or math.inf):
                    break
        except KeyboardInterrupt:
            if not self.origins:
                raise

    def _until_the_end(
        self, shots: Iterable[Shot | None], window: Window | None, keys: Keys | None
    ) -> Iterator[tuple[datetime, Picture]]:
        """The pictures to keep, and when each was taken."""
        from pipeline.sources._video_opencv import as_picture

        options, is_pressed = self.options, False
        start_s = due_s = math.nan
        for shot in shots:
            pressed = {keys() if keys else "", window.show(shot.pixels if shot else None) if window else ""}
            if END in pressed:
                return
            is_pressed = is_pressed or TAKE in pressed
            if shot is None:
                continue
            if math.isnan(start_s):
                start_s = due_s = shot.at_s
            if shot.at_s - start_s + self.done_s >= (options.seconds or math.inf) - TOLERANCE_S:
                return
            is_due = not options.on_key and shot.at_s >= due_s - TOLERANCE_S
            if is_due and options.every_s:
                due_s = start_s + options.every_s * (math.floor((shot.at_s - start_s + TOLERANCE_S) / options.every_s) + 1)
            picture = as_picture(0, shot.pixels)
            if is_pressed or (is_due and self._is_new(shot.taken, picture)):
                yield shot.taken, picture
                is_pressed = False

    def _is_new(self, taken: datetime, picture: Picture) -> bool:
        if not self.options.drop_similar or self._look.is_new(picture):
            return True
        detail = "looks like the picture before"
        self.ledger.add("image", "dropped", "similar_frame", path=self._path(taken), detail=detail)
        return False

    def _save(self, taken: datetime, picture: Picture) -> None:
        while (self.out / self._path(taken)).exists():
            taken += timedelta(milliseconds=1)
        digest = write_picture(self.out / self._path(taken), picture, self.options.jpeg_quality)
        self.origins.append(self._origin(taken, digest))

    def _path(self, time: datetime) -> str:
        return f"{self.options.session}/{time:%Y%m%dT%H%M%S}{time.microsecond // 1000:03d}Z.{self.options.format}"

    def _origin(self, time: datetime, digest: str = "") -> Origin:
        where = f"{self.camera} @ {time.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"
        return Origin(self._path(time), where, group=f"{self.camera} {self.options.session}", hash=digest)


def _time_in(path: Path) -> datetime | None:
    """When a picture was taken, by its name; None for a name that is not ours."""
    found = _NAME.fullmatch(path.stem)
    if not found:
        return None
    return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(microsecond=1000 * int(found[2]), tzinfo=UTC)
