"""The folder tree that ultralytics gets to see, and may spoil.

    <folder>/images/train/0000001.jpg   a hard link to the image of the data set, or a copy of our own
    <folder>/labels/train/0000001.txt   a line a box: class, centre x, centre y, width, height, relative to the image

Numbers for names, because ultralytics finds a label by replacing `/images/` in the image's path, and because flat names survive
spaces, emoji, equal names in different folders and 250 characters on every system. An image is linked only when ultralytics will
neither rewrite it (a JPEG without its end marker is saved again in place) nor decode it otherwise than we do.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import files, images
from pipeline.boxes import to_cxcywhn
from pipeline.errors import DataError, TrainingError
from pipeline.wording import plural

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp"}
_JPEG_END = b"\xff\xd9"
_SMALLEST_PX = 10  # ultralytics drops smaller images


@dataclass(frozen=True)
class Split:
    """One side of the data as ultralytics gets it.

    Attributes:
        folder: holds the images; an absolute path.
        paths: the data set's path of each image, by the stem of its scratch file ("0000001").
        boxes: how many boxes each image has, by the same stem.
    """

    folder: Path
    paths: dict[str, str]
    boxes: dict[str, int]


def build(dataset: Dataset, source: Path, folder: Path) -> dict[str, Split]:
    """Write the tree of the train and val images of `dataset`, whose pixels lie in `source/images`.

    Raises:
        DataError: there is nothing to train or to validate on.
        TrainingError: boxes or images that ultralytics would silently leave out.
    """
    parts = {name: dataset.of_split(name) for name in ("train", "val")}
    for name, part in parts.items():
        if not len(part.images):
            raise DataError(
                f"No image is in the '{name}' split.", f"Give split.fractions.{name} a larger share, or collect more images."
            )
    if not len(parts["train"].boxes):
        raise DataError("No training image has a box: there is nothing to learn.", "Check annotate.format and the labels.")
    if not len(parts["val"].boxes):
        raise DataError("No image of val has a box: the best epoch could not be told from the others.", "Label some of them.")
    shutil.rmtree(folder, ignore_errors=True)
    return {name: write_split(part, source, folder.resolve(), name) for name, part in parts.items()}


def write_split(part: Dataset, source: Path, folder: Path, name: str) -> Split:
    """Write one side of the tree: every image of `part`, whose pixels lie in `source/images`, as `name` ("train", "val").

    Args:
        folder: an absolute path.

    Raises:
        TrainingError: boxes or images that ultralytics would silently leave out.
    """
    target, labels = folder / "images" / name, folder / "labels" / name
    target.mkdir(parents=True)
    labels.mkdir(parents=True)
    paths: dict[str, str] = {}
    counts: dict[str, int] = {}
    problems: list[str] = []
    columns = (part.images[name] for name in ("path", "width", "height"))
    for number, (path, width, height, (edges, class_ids)) in enumerate(zip(*columns, part.by_image(), strict=True)):
        stem = f"{number:07d}"
        rows = [
            f"{class_id} {x:.8f} {y:.8f} {w:.8f} {h:.8f}"
            for class_id, (x, y, w, h) in zip(class_ids, to_cxcywhn(edges, width, height), strict=True)
        ]
        problems += _unusable(path, width, height, rows)
        _put_image(source / "images" / path, target, stem)
        (labels / f"{stem}.txt").write_text("".join(row + "\n" for row in rows), encoding="utf-8", newline="\n")
        paths[stem], counts[stem] = path, len(rows)
    if problems:
        raise TrainingError(
            f"Ultralytics would silently leave out a part of the '{name}' split",
            "Let annotate repair them: annotate.on_invalid: fix (or drop).",
            problems,
        )
    return Split(target, paths, counts)


def _unusable(path: str, width: int, height: int, rows: list[str]) -> list[str]:
    problems = [f"{path}: {width}x{height} is under {_SMALLEST_PX} px"] if min(width, height) < _SMALLEST_PX else []
    for row in rows:
        _, x, y, w, h = (float(value) for value in row.split())
        if w <= 0 or h <= 0:
            problems.append(f"{path}: a box has no area ({row})")
        elif max(x, y, w, h) > 1.01 or min(x, y) < 0:
            problems.append(f"{path}: a box lies outside the image ({row})")
    if len(set(rows)) < len(rows):
        problems.append(f"{path}: {plural(len(rows) - len(set(rows)), 'repeated box', 'repeated boxes')}")
    return problems


def _put_image(source: Path, folder: Path, stem: str) -> None:
    header = images.read_header(source)
    if not header.is_plain:
        images.save(folder / f"{stem}.png", images.decode(source, header))
        return
    target = folder / f"{stem}{_SUFFIXES[header.kind]}"
    if header.kind != "JPEG" or _ends_as_jpeg(source):
        files.link(source, target)
        return
    # Whole, but followed by a camera's padding: with an end marker at the very end ultralytics leaves our copy alone.
    files.write_bytes(target, source.read_bytes() + _JPEG_END)


def _ends_as_jpeg(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-2, os.SEEK_END)
        return stream.read() == _JPEG_END
