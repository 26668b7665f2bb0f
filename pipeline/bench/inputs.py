"""The images that are timed: real photos of several sizes, because decoding and scaling cost what the photo costs.

The default ones come from the two photos in ultralytics' package: as they are where a size is theirs, and else a cut of one of
them, scaled. The seed is fixed, so every machine with the same OpenCV has the same bytes; their hashes are in the record.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from pipeline import files, paths
from pipeline.errors import DataError, MissingDependency, UsageError, how_to_install

JSON = dict[str, Any]

FOLDER = "benchmark/inputs"
BUS, ZIDANE = "bus.jpg", "zidane.jpg"
SIZES = {"bus-640x480.jpg": BUS, "bus-810x1080.jpg": BUS, "zidane-1280x720.jpg": ZIDANE, "zidane-1920x1080.jpg": ZIDANE}
"""The photo that each is made of."""
SEED = 0
LEAST_CUT = 0.7
"""Of the largest cut of the wanted shape: smaller ones would be blurred when they are scaled up."""
MOST = 16
_VERSION = 1
"""Raised when the same photos would give other files."""


@dataclass(frozen=True)
class Inputs:
    """Images in the order in which they take turns.

    Attributes:
        files: on this machine.
        entries: the record's `inputs`: name, hash, width, height and bytes of each. A user's file names are not in it unless
            asked for, because they may tell of people.
        told: what the user should know of the choice; "" for nothing.
    """

    files: tuple[Path, ...]
    entries: tuple[JSON, ...]
    told: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(entry["name"]) for entry in self.entries)


def hash_of(*paths: Path) -> str:
    """BLAKE2b-128 of a file, or of the files of a model one after the other, 32 hex digits: what records know files by."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def default(cache: Path) -> Inputs:
    """The bundled set, made once and kept in the cache.

    Raises:
        MissingDependency: ultralytics, whose photos they are, is not installed.
    """
    folder = cache / FOLDER
    kept = folder / "inputs.json"
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        entries = tuple(known["entries"])
        found = tuple(folder / entry["name"] for entry in entries)
        if known["version"] == _VERSION and [hash_of(path) for path in found] == [entry["hash"] for entry in entries]:
            return Inputs(found, entries)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, or not as it was written: made again
    assets = _assets()
    rng = random.Random(SEED)  # noqa: S311 (no secret)
    made = tuple(_make(folder / name, assets / source, rng) for name, source in SIZES.items())
    entries = tuple(_entry(path, path.name) for path in made)
    files.write_text(kept, json.dumps({"version": _VERSION, "entries": entries}, indent=1) + "\n")
    return Inputs(made, entries)


def own(sources: Sequence[Path], seed: int = 0, keep_names: bool = False) -> Inputs:
    """The user's images: files, and the images in folders and below. At most `MOST`, chosen by chance where there are more.

    Every one of them is decoded. What cannot be read is left out and told where it comes from a folder; a file that was named
    must be readable.

    Raises:
        UnreadableImage: a named file is no image, or damaged.
        UsageError: nothing is there.
        DataError: nothing of what is there can be read.
    """
    from pipeline import images

    named = {path for path in sources if path.is_file()}
    for source in sources:
        if not source.exists():
            raise UsageError(f"There is no {source}.", "Give images, or folders of images.")
    candidates = list(dict.fromkeys(path for source in sources for path in _images_of(source)))
    if not candidates:
        raise DataError(f"No images in {', '.join(map(str, sources))}.", "Give images, or folders of images.")
    order = list(candidates)
    random.Random(seed).shuffle(order)  # noqa: S311 (no secret)
    chosen: set[Path] = set()
    unreadable = []
    for path in [*(path for path in order if path in named), *(path for path in order if path not in named)]:
        if len(chosen) == MOST:
            break
        try:
            images.decode(path)
        except images.UnreadableImage as error:
            if path in named:
                raise
            unreadable.append(error.message)
        else:
            chosen.add(path)
    if not chosen:
        raise DataError(f"None of {len(unreadable)} images can be read.", problems=unreadable)
    kept = tuple(path for path in candidates if path in chosen)
    entries = tuple(
        _entry(path, path.name if keep_names else f"image-{number}{path.suffix.lower()}") for number, path in enumerate(kept, 1)
    )
    left = len(candidates) - len(unreadable) > len(kept)
    told = [f"{len(kept)} of {len(candidates)} images, chosen by chance (seed {seed})"] if left else []
    told += [f"{len(unreadable)} could not be read and were left out, the first: {unreadable[0]}"] if unreadable else []
    return Inputs(kept, entries, "; ".join(told))


def _images_of(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    yield from sorted(Path(entry.path) for entry in files.walk(source) if paths.is_image(entry.name))


def _entry(path: Path, name: str) -> JSON:
    from pipeline import images

    header = images.read_header(path)
    size_bytes = path.stat().st_size
    return {"name": name, "hash": hash_of(path), "width": header.width, "height": header.height, "bytes": size_bytes}


def _assets() -> Path:
    """Found without importing ultralytics, which takes seconds."""
    found = util.find_spec("ultralytics")
    if found is None or found.origin is None:
        raise MissingDependency(
            "The benchmark's photos come with ultralytics, which is not installed.",
            f"{how_to_install('train')}; or give images of your own.",
        )
    folder = Path(os.path.dirname(found.origin)) / "assets"  # noqa: PTH120
    missing = [name for name in (BUS, ZIDANE) if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"ultralytics is installed without {' and '.join(missing)}.", "Install it again, or give images of your own."
        )
    return folder


def _make(target: Path, source: Path, rng: random.Random) -> Path:
    """The photo itself where it has the size that `target` is named after, or else a cut of that shape, scaled."""
    import cv2

    from pipeline import images

    width, height = (int(side) for side in target.stem.rpartition("-")[2].split("x"))
    header = images.read_header(source)
    if (header.width, header.height) == (width, height):
        files.copy(source, target)
        return target
    pixels = images.decode(source, header)
    scale = min(header.width / width, header.height / height) * rng.uniform(LEAST_CUT, 1.0)
    wide, tall = int(width * scale), int(height * scale)
    left, top = rng.randint(0, header.width - wide), rng.randint(0, header.height - tall)
    way = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    cut = cv2.resize(pixels[top : top + tall, left : left + wide], (width, height), interpolation=way)
    images.save(target, cut, jpeg_quality=90)
    return target
