"""The frames of one video, written as images under their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline import files
from pipeline.ledger import Ledger
from pipeline.sources import Origin, _video_decoder
from pipeline.sources._video_choice import Choice, choose

if TYPE_CHECKING:
    from pipeline.sources._video import Index, Picture
    from pipeline.stage import Advance

NEAR = 2
"""Of 64 strong edges so many may differ between two pictures that look alike; see `neighbours`. Few: a car that has driven on is
to be kept, before a still background."""


class Saving(Choice):
    """The options that say how frames are written."""

    drop_similar: bool = Field(
        default=False, description="leave out a frame that looks like the one kept before it (`images.dhash`)"
    )
    format: Literal["jpg", "png"] = Field(default="jpg", description="of the images")
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="1 to 100")


@dataclass
class Bar:
    """A part of a progress bar: `total` of its units for one video, however many frames that has."""

    advance: Advance
    total: int
    _done: int = 0

    def reach(self, share: float) -> None:
        done = min(self.total, int(share * self.total))
        if done > self._done:
            self.advance(done - self._done)
            self._done = done

    def end(self) -> None:
        self.reach(1)


@dataclass
class Frames:
    """What was kept of a video.

    Attributes:
        video: its path, relative.
        folder: where the images are, relative.
        suffix: of the images.
        count: frames of the whole video.
        kept: the numbers of those that were kept.
        origins: of their images, sorted.
    """

    video: str
    folder: str
    suffix: str
    count: int = 0
    kept: set[int] = field(default_factory=set)
    origins: list[Origin] = field(default_factory=list)

    def path_of(self, number: int) -> str:
        return f"{self.folder}/frame_{number:06d}.{self.suffix}"

    def save(self, path: Path, out: Path, options: Saving, ledger: Ledger, workers: int, bar: Bar) -> None:
        """Choose frames of the video at `path` and write those that are not in `out` yet.

        Raises:
            NoVideo: there is nothing to decode.
        """
        from pipeline.parallel import imap_images

        decoder = _video_decoder.decoder()
        index = decoder.index(path)
        self.count = len(index)
        is_there = {number for number in _numbers_in(out / self.folder, self.suffix) if number < len(index)}
        lost: list[range] = []
        read = partial(decoder.read, path, index, lost=lost)
        # What a killed run has written was chosen by the same options. Where pixels decide, they must be looked at again.
        by_time = not (options.scenes or options.sharp or options.drop_similar)
        chosen = choose(index, options, read, lambda number: not by_time or number not in is_there)
        if options.drop_similar:
            chosen = _dissimilar(chosen, self, ledger)

        def write(picture: Picture) -> tuple[int, str]:
            return picture.number, write_picture(out / self.path_of(picture.number), picture, options.jpeg_quality)

        hashes = dict.fromkeys(is_there, "") if by_time else {}
        for number, digest in imap_images(write, chosen, workers, ahead=workers + 2):
            hashes[number] = digest
            bar.reach((number + 1) / len(index))
        self.kept = set(hashes)
        self.origins = [self._origin(number, index, hashes[number]) for number in sorted(hashes)]
        _account(self, index, lost, ledger)

    def _origin(self, number: int, index: Index, digest: str) -> Origin:
        where = f"{self.video} @ {index.times_s[number]:.3f} s, frame {number}"
        return Origin(self.path_of(number), where, group=self.video, hash=digest)


def _numbers_in(folder: Path, suffix: str) -> Iterator[int]:
    """The numbers of the frames that a killed run has written: files appear whole."""
    for path in folder.glob(f"frame_*.{suffix}"):
        number = path.stem.removeprefix("frame_")
        if number.isascii() and number.isdecimal() and f"{int(number):06d}" == number:
            yield int(number)


def write_picture(path: Path, picture: Picture, jpeg_quality: int) -> str:
    """Write an image; its hash, or "" where it is there already."""
    from blake3 import blake3

    from pipeline import images

    if path.exists():
        return ""
    data = images.encode(picture.image, path.suffix, jpeg_quality)
    files.write_bytes(path, data)
    return blake3(data).hexdigest()


class Look:
    """How the last picture looks that was let through."""

    def __init__(self) -> None:
        self._last = ""

    def is_new(self, picture: Picture) -> bool:
        """Whether a picture does not look like the last one that was new, by its brightness: colours need not be made of a frame
        that is left out."""
        from pipeline import images
        from pipeline.neighbours import are_near

        look = images.dhash(picture.grey)
        if self._last and are_near(self._last, look, NEAR):
            return False
        self._last = look
        return True


def _dissimilar(pictures: Iterator[Picture], frames: Frames, ledger: Ledger) -> Iterator[Picture]:
    """Only pictures that do not look like the last one that was let through."""
    look, last = Look(), 0
    for picture in pictures:
        if look.is_new(picture):
            last = picture.number
            yield picture
        else:
            detail = f"looks like frame {last} of {frames.video}"
            ledger.add("image", "dropped", "similar_frame", path=frames.path_of(picture.number), detail=detail)


def _account(frames: Frames, index: Index, lost: list[range], ledger: Ledger) -> None:
    """Tell what became of the video: it does not come along, its frames do."""
    for gap in lost:
        detail = f"frames {gap.start} to {gap.stop - 1}, from {index.times_s[gap.start]:.3f} s on, cannot be decoded"
        ledger.add("image", "dropped", "damaged_frames", path=frames.video, detail=detail)
    if index.declared > len(index):
        detail = f"it declares {index.declared} frames and holds {len(index)}"
        ledger.add("image", "dropped", "missing_frames", path=frames.video, detail=detail)
    detail = f"{len(frames.kept)} of {len(index)} frames ({index.codec}, {index.times_s[-1]:.3f} s)"
    ledger.add("file", "converted", "video", path=frames.video, detail=detail)
