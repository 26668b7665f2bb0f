"""How fast the per-image stages are: preprocess against a bare OpenCV loop, and both stages over the number of workers.

    python benchmarks/pixels.py [--images 60] [--workers 1 2 4]

Photos of 1920x1080 are made in a temporary folder; ratios hold across machines better than times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import blake3
import cv2
import numpy as np

from pipeline import images, machine
from pipeline.dataset import Dataset
from pipeline.pixels.augmentation import albumentations
from pipeline.pixels.options import AugmentParams, PreprocessParams, Resize
from pipeline.stage import Context
from pipeline.stages import augment, preprocess

SIZE = 640


def make_photos(folder: Path, count: int) -> None:
    """An annotate artifact of noisy pictures, about as costly to decode as photos of a phone."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        coarse = rng.integers(0, 256, (27, 48, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, (1920, 1080), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        photo = np.clip(photo + rng.integers(-6, 7, photo.shape), 0, 255).astype(np.uint8)
        path = folder / "images" / f"{number:04}.jpg"
        images.save(path, photo)
        content = blake3.blake3(path.read_bytes()).hexdigest()
        rows.append({"path": path.name, "width": 1920, "height": 1080, "hash": content, "split": "train"})
    Dataset.from_rows(["thing"], rows, [(n, 0, 100, 100, 900, 700) for n in range(count)]).save(folder)


def bare_loop(source: Path, out: Path) -> None:
    """What one would write without a pipeline: read, shrink, write; one thread, no checks, no account."""
    out.mkdir()
    cv2.setNumThreads(1)
    for path in sorted((source / "images").iterdir()):
        photo = cv2.imread(str(path))
        small = cv2.resize(photo, (SIZE, SIZE * photo.shape[0] // photo.shape[1]), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(out / path.name), small, [cv2.IMWRITE_JPEG_QUALITY, 95])


def timed(label: str, count: int, work: Callable[[], object], reference_ms: float | None = None) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall_ms, cpu_ms = (1000 * (now - then) / count for now, then in ((time.perf_counter(), wall), (time.process_time(), cpu)))
    ratio = f"  {reference_ms / wall_ms:5.2f} x" if reference_ms else ""
    print(f"{label:<42}{1000 / wall_ms:8.1f} images/s{wall_ms:8.1f} ms{cpu_ms:8.1f} ms CPU{ratio}")
    return wall_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, machine.usable_cores()])
    arguments = parser.parse_args()
    count = arguments.images
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_photos(base / "annotate", count)
        bare = timed("bare cv2 loop, 1 thread", count, lambda: bare_loop(base / "annotate", base / "bare"))
        resize = PreprocessParams(resize=Resize(mode="long_side", size=SIZE))
        for workers in arguments.workers:
            out = base / f"preprocess{workers}"
            context = Context(workers=workers)
            timed(
                f"preprocess, workers={workers}",
                count,
                lambda out=out, context=context: preprocess.run({"annotate": base / "annotate"}, resize, out, context),
                bare,
            )
        previous = Context(previous=base / f"preprocess{arguments.workers[0]}")
        timed(
            "preprocess, everything known",
            count,
            lambda: preprocess.run({"annotate": base / "annotate"}, resize, base / "again", previous),
            bare,
        )
        names = ("brightness", "exposure", "blur", "crop", "flip", "rotate", "hue", "noise", "cutout")
        copies = AugmentParams.model_validate({"copies": 1, "contact_sheet_images": 0, "transforms": [{n: {}} for n in names]})
        albumentations()  # the import is paid once a run, and would count against the first line only
        first = None
        for workers in arguments.workers:
            out = base / f"augment{workers}"
            context = Context(workers=workers)
            taken = timed(
                f"augment (9 transforms at p=0.5), workers={workers}",
                count,
                lambda out=out, context=context: augment.run({"split": base / "again"}, copies, out, context),
                first,
            )
            first = first or taken


if __name__ == "__main__":
    main()
