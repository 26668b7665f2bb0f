"""Small videos made by PyAV, and what `collect` makes of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.ledger import Entry
from pipeline.ledger import read as read_ledger
from pipeline.stage import Context
from tests import collecting
from tests.collecting import collected

WIDTH, HEIGHT = 160, 96


def picture(number: int) -> np.ndarray:
    """A dark picture, red at the left, blue at the right, that says its number in bright squares, one a bit."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[:, : WIDTH // 4] = (200, 20, 20)
    image[:, -WIDTH // 4 :] = (20, 20, 200)
    for bit in range(8):
        if number >> bit & 1:
            image[8:24, 40 + bit * 10 : 48 + bit * 10] = 240
    return image


def number_in(image: np.ndarray) -> int:
    return sum(int(image[10:22, 42 + bit * 10 : 46 + bit * 10].mean() > 128) << bit for bit in range(8))


def make_video(
    path: Path, pictures: Iterable[np.ndarray], times_ms: Iterable[int] | None = None, codec: str = "libx264", gop: int = 10
) -> Path:
    """25 frames a second, unless `times_ms` says when each is shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        times = times_ms or (40 * number for number in range(10**6))
        for image, time in zip(pictures, times, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the display matrix in an MP4's track header, as phones do (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def run(out: Path, context: Context, source: str = "video:clips", **options: object) -> dict[str, Any]:
    return collecting.run(source, out, context, **options)


def entries(out: Path, reason: str) -> list[Entry]:
    return [entry for entry in read_ledger(out) if entry.reason == reason]


def content(out: Path) -> dict[str, bytes]:
    return {path: (out / "files" / path).read_bytes() for path in collected(out)}


def scene(seed: int, number: int) -> np.ndarray:
    """Blocks of grey that a seed decides on, with a small moving square."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 10), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    blocks[40:50, number % 100 : number % 100 + 10] = 255
    return np.repeat(blocks[:, :, None], 3, axis=2)
