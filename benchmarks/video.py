"""What the frames of a video cost, beside a bare decode of the same frames.

    python benchmarks/video.py [VIDEO] [--seconds 30] [--rounds 3] [--workers 0]

Without VIDEO one is made: 1920x1080, 25 frames a second, H.264 with a key frame every 250, a drifting texture with some noise.
For each way of choosing frames three CPU and wall times, the least of some rounds in which all take their turn (what else
the machine does only adds):

    decode   PyAV decodes the file from its start to the last of the frames that must be looked at, whether they are kept or not
             (all of them for `sharp` and `scenes`), and turns those that are kept into RGB; nothing is written
    floor    the same, and each frame that is kept is written as a JPEG by the same encoder: what no tool that decodes in order
             can be below. It is told which frames to keep, so that it lists no frames, measures nothing, hashes nothing
    ours     `collect` with source `video:`: list, choose, jump, decode, write, and account for

The goal is ours ≤ 1.2 floor by CPU time; a jump over frames that are not kept puts it below 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np

from pipeline import images
from pipeline.machine import usable_cores
from pipeline.stage import Context
from pipeline.stages import collect

WAYS: dict[str, dict[str, object]] = {
    "every frame": {"every_s": 0},
    "a frame a second": {"every_s": 1},
    "a frame every 30 s": {"every_s": 30},
    "20 frames": {"frames": 20},
    "the sharpest of each second": {"sharp": True, "every_s": 1},
    "scenes": {"scenes": True},
    "a frame a second, similar ones dropped": {"every_s": 1, "drop_similar": True},
}


def make(path: Path, seconds: int) -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 232, (140, 250, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    noise = rng.integers(0, 24, (1080 + 64, 1920, 3), dtype=np.uint8)  # without it there would be next to nothing to decode
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.gop_size = 250
        for number in range(25 * seconds):
            left, top = number % 1000 * 2, number % 500
            shift = number * 37 % 64
            view = texture[top : top + 1080, left : left + 1920] + noise[shift : shift + 1080]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode())


def bare(video: Path, numbers: list[int], last: int | None, out: Path | None) -> None:
    wanted = set(numbers)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                pixels = frame.to_ndarray(format="rgb24")
                if out is not None:
                    (out / f"{number}.jpg").write_bytes(images.encode(pixels, ".jpg", 95))
            if number == last:
                return


def ours(video: Path, options: dict[str, object], work: Path, workers: int) -> list[int]:
    context = Context(base=work, cache=work / "cache", workers=workers)
    collect.run({}, collect.Params(source=f"video:{video}", options=options), work / "out", context)
    return sorted(int(path.stem[-6:]) for path in (work / "out/files").rglob("*.jpg"))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    workers = arguments.workers or usable_cores()
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video and arguments.video.resolve()
        if video is None:
            video = Path(folder) / "made.mp4"
            make(video, arguments.seconds)
        print(f"{video.name}, {workers} workers; seconds of CPU (wall)")
        for way, options in WAYS.items():
            compare(video, way, options, arguments.rounds, workers)


def compare(video: Path, way: str, options: dict[str, object], rounds: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = ours(video, options, Path(folder), workers)
    last = None
    if not {"sharp", "scenes"} & options.keys():
        with tempfile.TemporaryDirectory() as folder:
            last = max(ours(video, {**options, "drop_similar": False}, Path(folder), workers))
    taken: dict[str, list[tuple[float, float]]] = {"decode": [], "floor": [], "ours": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            taken["decode"].append(timed(lambda: bare(video, numbers, last, None)))
            taken["floor"].append(timed(lambda work=work: bare(video, numbers, last, work)))
            taken["ours"].append(timed(lambda work=work: ours(video, options, work / "ours", workers)))
    cpu = {name: min(cpu for cpu, _ in times) for name, times in taken.items()}
    wall = {name: min(wall for _, wall in times) for name, times in taken.items()}
    figures = "  ".join(f"{name} {cpu[name]:7.2f} ({wall[name]:6.2f})" for name in taken)
    ratio = f"{cpu['ours'] / cpu['floor']:.2f} ({wall['ours'] / wall['floor']:.2f})"
    print(f"{way:<40}{len(numbers):>6} frames  {figures}  ours/floor {ratio}", flush=True)


if __name__ == "__main__":
    main()
