"""How long does it take to find near-duplicates, beside imagehash and cleanvision where they are installed?

    python benchmarks/neighbours.py [--images 5000] [--photos FOLDER]

The whole of it for each: open files, decode, hash, and hold every hash against every other. Without a folder, photos of 640x480
are made, one in twenty of them a second time, smaller and compressed harder; how many of these pairs each tool finds, and how
many others, stands beside its time. All in one run, in turns, one thread each: ratios hold across machines better than times.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from pipeline import images
from pipeline.health.duplicates import DISTANCE
from pipeline.neighbours import near_groups, parse

Groups = list[set[str]]


def make_photos(folder: Path, count: int) -> None:
    """Noisy pictures, about as costly to decode as photos; every twentieth has a copy that was scaled and compressed again."""
    rng = np.random.default_rng(0)
    for number in range(count):
        if number % 20 == 19:
            original = cv2.imread(str(folder / f"{number - 1:06}.jpg"))
            photo, quality = cv2.resize(original, (576, 432), interpolation=cv2.INTER_AREA), 70
        else:
            coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            photo = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC).astype(np.int16)
            photo = np.clip(photo + rng.integers(-8, 9, photo.shape), 0, 255).astype(np.uint8)
            quality = 92
        cv2.imwrite(str(folder / f"{number:06}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, quality])


def groups_of(names: list[str], keys: list[int]) -> Groups:
    found: dict[int, set[str]] = {}
    for name, key in zip(names, keys, strict=True):
        found.setdefault(key, set()).add(name)
    return [group for group in found.values() if len(group) > 1]


def ours(paths: list[Path]) -> Groups:
    hashes = [images.dhash(images.decode_small(path)) for path in paths]
    return groups_of([path.name for path in paths], near_groups(parse(hashes), DISTANCE).tolist())


def with_imagehash(paths: list[Path]) -> Groups:
    """dHash of 64 bits, Hamming distance of at most 4, by its own `-`; all pairs by numpy, which is kinder than its users are."""
    import imagehash
    from PIL import Image

    bits = []
    for path in paths:
        with Image.open(path) as photo:
            bits.append(imagehash.dhash(photo).hash.ravel())
    words = np.packbits(np.array(bits), axis=1).view(np.uint64).ravel()
    key = np.arange(len(words))
    for i, word in enumerate(words):
        near = np.bitwise_count(words ^ word) <= 4
        key[near] = np.minimum(key[near], key[i])
    return groups_of([path.name for path in paths], key.tolist())


def with_cleanvision(paths: list[Path]) -> Groups:
    from cleanvision import Imagelab

    with contextlib.redirect_stderr(io.StringIO()):  # its bars
        lab = Imagelab(filepaths=[str(path) for path in paths], verbose=False)
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1, verbose=False)
    sets = [*lab.info["exact_duplicates"]["sets"], *lab.info["near_duplicates"]["sets"]]
    return [{Path(path).name for path in group} for group in sets]


TOOLS: dict[str, tuple[str, Callable[[list[Path]], Groups]]] = {
    "this pipeline": ("pipeline", ours),
    "imagehash": ("imagehash", with_imagehash),
    "cleanvision": ("cleanvision", with_cleanvision),
}


def truth(paths: list[Path]) -> set[tuple[str, str]]:
    names = [path.name for path in paths]
    return {(names[number - 1], names[number]) for number in range(19, len(names), 20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--photos", type=Path, help="a folder of photos, instead of made ones")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        if arguments.photos is None:
            make_photos(Path(name), arguments.images)
        folder = arguments.photos or Path(name)
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.JPEG_SUFFIXES)
        known = truth(paths) if arguments.photos is None else set()
        present = {tool: work for tool, (module, work) in TOOLS.items() if importlib.util.find_spec(module)}
        for missing in TOOLS.keys() - present.keys():
            print(f"{missing} is not installed")
        for work in present.values():
            work(paths[:8])  # imports are paid before the clock starts
        least: dict[str, float] = {}
        found: dict[str, Groups] = {}
        for _ in range(arguments.rounds):
            for tool, work in present.items():
                started = time.process_time()
                found[tool] = work(paths)
                taken = time.process_time() - started
                least[tool] = min(taken, least.get(tool, taken))
    print(f"{len(paths)} photos; CPU seconds, the least of {arguments.rounds} rounds")
    for tool, seconds in least.items():
        pairs = {pair for group in found[tool] for pair in combinations(sorted(group), 2)}
        told = f"{len(pairs & known)} of {len(known)} pairs, {len(pairs - known)} others" if known else f"{len(pairs)} pairs"
        ratio = seconds / least["this pipeline"]
        print(f"{tool:<16}{seconds:8.2f} s{1000 * seconds / len(paths):8.2f} ms a photo{ratio:8.2f} x   {told}")


if __name__ == "__main__":
    main()
