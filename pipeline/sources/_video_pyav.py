"""Videos decoded by PyAV, which is FFmpeg with its packets: https://pyav.basswood-io.com/docs/stable/.

The packets of a file are listed first, without decoding: their time stamps tell which frame is which and where decoding can
begin, so that frames that are not kept are jumped over. That a container's list is true to what comes out of the decoder is
checked with the first frames; where it is not (interlaced fields, frames that are never shown, no time stamps, as in AVI), all
frames are decoded and counted.

Damage is not concealed. The decoder stops at the first deviation; then the frames up to the next key frame are tried once more
with a decoder that goes on, and taken until the first that it marks as damaged. What follows up to that key frame is lost.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import images
from pipeline.sources._video import MAX_FRAMES, Index, NoVideo, Picture, refuse_text

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,mjpeg,asf,flv,ogg,m4v,3gp"
"""Containers that hold their pictures themselves. FFmpeg knows others that name further files and addresses."""

PLANAR = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray"})
"""Pixel formats whose first plane is the brightness in 8 bits."""

CHECKED_FRAMES = 16
SEEK_COST_FRAMES = 16
"""A jump empties the decoder's pipeline of a frame for each core: it must save more than these to be worth it."""

ORIENTATIONS = {0: 1, -90: 6, 90: 8, 180: 3, -180: 3}
"""EXIF orientation by FFmpeg's angle (degrees counter-clockwise by which the display matrix turns the frame)."""


def index(path: Path) -> Index:
    """List the frames of a video.

    Raises:
        NoVideo: no video, one without pictures, or none of whose pictures can be decoded.
    """
    refuse_text(path)
    with _open(path, is_patient=True) as (container, stream):
        codec, declared = stream.codec_context.name, stream.frames
        if stream.codec_context.width * stream.codec_context.height > images.MAX_PIXELS:
            raise NoVideo(f"{path}: frames of over {images.MAX_PIXELS:,} pixels", "too_many_pixels")
        found = _list(container, stream)
        seconds = float(stream.time_base or 0)
    if found:
        stamps, keys, first = found
        if not first:
            raise NoVideo(f"{path}: not one frame can be decoded")
        start = bisect_left(stamps, first[0]) if first[0] is not None else 0
        # Frames before the first that comes out belong to a part that was cut away.
        stamps = stamps[start:]
        if first == stamps[: len(first)].tolist():
            numbers = array("q", sorted({0, *(bisect_left(stamps, key) for key in keys if key > stamps[0])}))
            times = array("d", ((stamp - stamps[0]) * seconds for stamp in stamps))
            return Index(times, numbers, stamps, codec, max(0, declared - start))
    times = _count(path)
    if not times:
        raise NoVideo(f"{path}: not one frame can be decoded")
    return Index(times, codec=codec)


def _list(container: InputContainer, stream: VideoStream) -> tuple[array[int], list[int], list[int | None]] | None:
    """The time stamps of all frames, sorted, those of key frames, and those of the first frames that come out of the decoder;
    None where packets are no list of the frames."""
    import av

    stamps, keys = array("q"), []
    first: list[int | None] = []
    is_sound = True
    try:
        for packet in container.demux(stream):
            if is_sound and len(first) < CHECKED_FRAMES:
                try:
                    first += [frame.pts for frame in packet.decode()]
                except av.FFmpegError:
                    is_sound = False
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None or len(stamps) >= MAX_FRAMES:
                return None
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    except av.FFmpegError:
        pass  # a cut end: what was listed is there
    stamps = array("q", sorted(stamps))
    is_clear = len(stamps) > 0 and all(a < b for a, b in zip(stamps, islice(stamps, 1, None), strict=False))
    # vp8 hides frames late, too
    return (stamps, sorted(keys), first[:CHECKED_FRAMES]) if is_clear and stream.codec_context.name != "vp8" else None


def _count(path: Path) -> array[float]:
    """The times of all frames, by decoding them."""
    times = array("d")
    start, last, rate = None, -1.0, 25.0
    with _open(path) as (_, stream):
        rate = float(stream.average_rate or stream.guessed_rate or rate)
    for frame in islice(_decoded(path), MAX_FRAMES):
        time = frame.time
        start = time if start is None else start
        # Where a frame has no time, or one that does not rise, it follows the one before at the usual pace.
        since = time - start if time is not None and start is not None and time - start > last else last + 1 / rate
        last = max(0.0, since)
        times.append(last)
    return times


def _decoded(path: Path) -> Iterator[VideoFrame]:
    """All frames up to the first damage."""
    import av

    with _open(path) as (container, stream):
        try:
            yield from container.decode(stream)
        except av.FFmpegError:
            return


def read(path: Path, index: Index, numbers: Sequence[int], lost: list[range]) -> Iterator[Picture]:
    """The frames of the given numbers (sorted, each once), in their order.

    Args:
        lost: gets the stretches that hold frames which were asked for and cannot be decoded.
    """
    if not index.stamps:
        yield from _read_counted(path, numbers, lost, len(index))
        return
    with _open(path, is_strict=True) as (container, stream):
        for run in _runs(index, numbers):
            left: Sequence[int] = run
            while left:
                done = yield from _read_run(container, stream, index, left)
                left = left[done:]
                if left:
                    end = bisect_left(left, index.key_after(left[0]))
                    with _open(path, is_patient=True) as (patient, slow):
                        done = yield from _read_run(patient, slow, index, left[:end])
                    if done < end:
                        lost.append(range(left[done], index.key_after(left[0])))
                    left = left[end:]


def _runs(index: Index, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut the numbers where jumping to a key frame is cheaper than decoding on."""
    begin = 0
    for position in range(1, len(numbers)):
        if index.key_before(numbers[position]) - numbers[position - 1] > SEEK_COST_FRAMES:
            yield numbers[begin:position]
            begin = position
    if numbers:
        yield numbers[begin:]


def _read_run(container: InputContainer, stream: VideoStream, index: Index, run: Sequence[int]) -> Generator[Picture, None, int]:
    """Decode from the key frame before the first of the run; how many came before the first that did not."""
    import av

    key = index.key_before(run[0])
    while True:
        try:
            container.seek(index.stamps[key], stream=stream)
        except av.FFmpegError:
            return 0
        frames = _numbered(container, stream, index)
        first = next(frames, None)
        # A container that cannot seek exactly may land behind the frame.
        if first is None or first[0] <= run[0] or key == 0:
            break
        key = index.key_before(key - 1)
    done = 0
    while first is not None:
        number, frame = first
        if number > run[done] or (frame.is_corrupt and number >= key):
            return done
        if number == run[done]:
            yield _picture(number, frame)
            done += 1
            if done == len(run):
                return done
        first = next(frames, None)
    return done


def _numbered(container: InputContainer, stream: VideoStream, index: Index) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their numbers, up to the end or the first damage; frames of before the first are left out."""
    import av

    try:
        for frame in container.decode(stream):
            number = bisect_left(index.stamps, frame.pts) if frame.pts is not None else len(index)
            if number < len(index) and index.stamps[number] == frame.pts:
                yield number, frame
    except av.FFmpegError:
        return


def _read_counted(path: Path, numbers: Sequence[int], lost: list[range], count: int) -> Iterator[Picture]:
    wanted = iter(numbers)
    following = next(wanted, None)
    for number, frame in enumerate(_decoded(path)):
        if number == following:
            yield _picture(number, frame)
            following = next(wanted, None)
            if following is None:
                return
    if following is not None:
        lost.append(range(following, count))


def _picture(number: int, frame: VideoFrame) -> Picture:
    orientation = ORIENTATIONS.get(frame.rotation, 1)
    return Picture(
        number,
        lambda: images.upright(_converted(frame, "rgb24"), orientation),
        lambda: _brightness(frame),
    )


def _brightness(frame: VideoFrame) -> NDArray[Any]:
    """The first plane as it is, where that is the brightness in 8 bits: converting it would take as long as decoding it."""
    if frame.format.name not in PLANAR:
        return _converted(frame, "gray")
    plane: Any = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


_of_thread = threading.local()


def _converted(frame: VideoFrame, pixel_format: str) -> NDArray[Any]:
    """The pixels of a frame in another format.

    To set a converter up takes longer than to convert a frame, so each thread keeps one. It starts no threads of its own:
    frames are converted side by side.
    """
    from av.video.reformatter import VideoReformatter

    if not hasattr(_of_thread, "converter"):
        _of_thread.converter = VideoReformatter()
    return np.asarray(_of_thread.converter.reformat(frame, format=pixel_format, threads=1).to_ndarray(), dtype=np.uint8)


@contextmanager
def _open(path: Path, is_strict: bool = False, is_patient: bool = False) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its first stream of moving pictures (a cover is none).

    Args:
        is_strict: fail at every deviation from the codec's rules instead of guessing what is missing.
        is_patient: one thread, so that whatever comes before a damage comes out; for a few frames it is the quicker, too.
    """
    av = _av()
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        # As a URL of files, because a name such as "pipe:1.mp4" would be another protocol.
        container = av.open(f"file:{path.resolve()}", container_options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise NoVideo(f"{path}: not a video that can be opened ({getattr(error, 'strerror', None) or error})") from error
    with container:
        covers = av.stream.Disposition.attached_pic
        stream = next((stream for stream in container.streams.video if not stream.disposition & covers), None)
        if stream is None:
            raise NoVideo(f"{path}: no moving pictures in it, only sound or a cover", "no_pictures")
        if stream.codec_context is None:
            raise NoVideo(f"{path}: a codec that cannot be decoded here")
        stream.codec_context.thread_type = "SLICE" if is_patient else "AUTO"
        if is_patient:
            stream.codec_context.thread_count = 1
        if is_strict:
            stream.codec_context.options = {"err_detect": "explode"}
        yield container, stream


def _av() -> Any:
    """PyAV without its logging: what it says of damaged files on stderr, the ledger says with the file's name."""
    import av
    import av.stream

    av.logging.set_level(None)
    return av
