"""What the image files show: damage, wrong suffixes, odd pixel formats and sizes, names that clash, and their looks.

Headers are read of every image. Pixels are decoded where no hash of their looks is known yet; later stages have decoded them once
already, so there a sample is enough to compare the brightness of the sides.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import images
from pipeline.dataset import Dataset
from pipeline.health.accounts import CODE_OF_REASON
from pipeline.health.findings import MOST_ITEMS, Finding, Item, finding
from pipeline.images import Header, UnreadableImage
from pipeline.parallel import map_images
from pipeline.paths import folded
from pipeline.stage import Context

SMALLEST_PX = 32
"""A cell of the coarsest grid of a detector: of a smaller image nothing is left there."""
LONGEST_ASPECT = 6.0
"""Of such an image, letterboxed into a square, five sixths are padding."""
BLANK_LEVELS = 2.0
"""Standard deviation of grey levels, of 255, below which there is nothing to see: noise and compression stay under it."""
SAMPLE = 400
"""Images of a side that are decoded for its brightness alone."""
THUMBNAIL = 64

SUFFIXES: dict[str, frozenset[str]] = {
    "JPEG": images.JPEG_SUFFIXES,
    "PNG": frozenset({".png"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "DIB": frozenset({".bmp", ".dib"}),
    "WEBP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm"}),
}
PRINT_MODES = frozenset({"CMYK", "LAB", "YCbCr", "HSV"})


@dataclass(frozen=True)
class Look:
    """What was read of one image.

    Attributes:
        header: None where it could not be read.
        reason: why the image cannot be used; "" where it can.
        dhash: see `images.dhash`; "" where it is not known.
        brightness: mean grey level, 0 to 255; NaN where no pixels were decoded.
        contrast: standard deviation of the grey levels of a thumbnail; NaN likewise.
    """

    header: Header | None
    reason: str
    dhash: str
    brightness: float = float("nan")
    contrast: float = float("nan")


def look_at_all(dataset: Dataset, folder: Path, context: Context) -> list[Look]:
    """One `Look` for each row of `dataset.images`, whose files lie below `folder`."""
    paths, known = dataset.images["path"].tolist(), dataset.images["dhash"].tolist()
    wanted = _worth_decoding(dataset)
    jobs = list(zip((folder / path for path in paths), known, wanted.tolist(), strict=True))
    with context.progress("look at images", len(jobs)) as advance:
        return map_images(lambda job: _look(*job), jobs, context.workers, advance)


def _worth_decoding(dataset: Dataset) -> NDArray[np.bool_]:
    """Images whose looks are not known, and of each side a sample that is the same every time."""
    wanted = (dataset.images["dhash"] == "").to_numpy()
    rank = dataset.images.sort_values(["hash", "path"], kind="stable").groupby("split").cumcount()
    sampled = rank.sort_index().to_numpy() < SAMPLE
    return np.asarray(wanted | sampled)


def _look(path: Path, dhash: str, decode: bool) -> Look:
    import cv2

    try:
        header = images.read_header(path)
    except UnreadableImage as error:
        return Look(None, error.reason, dhash)
    except FileNotFoundError:
        return Look(None, "missing", dhash)
    if not decode:
        return Look(header, "", dhash)
    try:
        pixels = images.decode_small(path, header)
    except UnreadableImage as error:
        return Look(header, error.reason, dhash)
    grey = cv2.cvtColor(cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return Look(header, "", dhash or images.dhash(pixels), float(grey.mean()), float(grey.std()))


def check(
    dataset: Dataset, looks: Sequence[Look], stored: frozenset[str] = frozenset(), unlabelled: frozenset[str] = frozenset()
) -> list[Finding]:
    """Everything that files, headers and pixels show.

    Args:
        stored: paths of EXIF-turned photos whose labels were drawn on the stored pixels.
        unlabelled: paths, as they were imported, of images that no label mentions.
    """
    paths = dataset.images["path"].tolist()
    found = [
        *_damaged(paths, looks),
        *(_where(code, paths, looks, test) for code, test in _TESTS.items()),
        _other_size(dataset, looks),
        _wrong_suffix(paths, looks),
        _mixed_frames(dataset, looks, stored),
        *names(paths),
        _background(dataset, unlabelled),
    ]
    return [one for one in found if one.count]


def _damaged(paths: Sequence[str], looks: Sequence[Look]) -> list[Finding]:
    items: dict[str, list[Item]] = defaultdict(list)
    for path, look in zip(paths, looks, strict=True):
        if look.reason:
            code = CODE_OF_REASON.get(look.reason, "image_unreadable")
            items[code].append(Item(path, detail=look.reason.replace("_", " ")))
    return [finding(code, found) for code, found in items.items()]


def _where(code: str, paths: Sequence[str], looks: Sequence[Look], test: Callable[[Look, Header], str]) -> Finding:
    pairs = ((path, test(look, look.header)) for path, look in zip(paths, looks, strict=True) if look.header)
    return finding(code, [Item(path, detail=detail) for path, detail in pairs if detail])


def _is_wide(look: Look, header: Header) -> str:
    return header.mode if header.mode.endswith(";16") or header.mode.startswith("I;16") or header.mode in ("I", "F") else ""


def _is_small(look: Look, header: Header) -> str:
    return f"{header.width}x{header.height}" if min(header.width, header.height) < SMALLEST_PX else ""


def _is_long(look: Look, header: Header) -> str:
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    return f"{header.width}x{header.height}" if longer > LONGEST_ASPECT * shorter else ""


def _is_blank(look: Look, header: Header) -> str:
    return f"grey level {look.brightness:.0f} of 255 all over" if look.contrast < BLANK_LEVELS else ""


_TESTS: dict[str, Callable[[Look, Header], str]] = {
    "image_wide_samples": _is_wide,
    "image_cmyk": lambda look, header: header.mode if header.mode in PRINT_MODES else "",
    "image_palette": lambda look, header: header.mode if header.mode in ("P", "PA", "1") else "",
    "image_alpha": lambda look, header: header.mode if header.mode.split(";")[0] in ("RGBA", "LA", "PA", "RGBa", "La") else "",
    "image_small": _is_small,
    "image_aspect": _is_long,
    "image_blank": _is_blank,
}
"""Code → test of one image; what a test returns is the detail, "" where nothing was found."""


def _other_size(dataset: Dataset, looks: Sequence[Look]) -> Finding:
    sizes = dataset.images[["path", "width", "height"]].itertuples(index=False, name=None)
    return finding(
        "size_mismatch",
        [
            Item(path, detail=f"listed as {width}x{height}, the file is {look.header.width}x{look.header.height}")
            for (path, width, height), look in zip(sizes, looks, strict=True)
            if look.header and (look.header.width, look.header.height) != (width, height)
        ],
    )


def _wrong_suffix(paths: Sequence[str], looks: Sequence[Look]) -> Finding:
    kinds = ((path, look.header.kind) for path, look in zip(paths, looks, strict=True) if look.header)
    wrong = [(path, kind) for path, kind in kinds if os.path.splitext(path)[1].lower() not in SUFFIXES.get(kind, frozenset())]
    return finding("image_wrong_suffix", [Item(path, detail=f"is {kind}") for path, kind in wrong])


def _mixed_frames(dataset: Dataset, looks: Sequence[Look], stored: frozenset[str]) -> Finding:
    """Photos turned by 90° whose labels are in the other frame than most: only sizes in the labels tell, so both are sure."""
    labelled = set(dataset.boxes["image"].unique().tolist())
    turned = [
        path
        for row, (path, look) in enumerate(zip(dataset.images["path"], looks, strict=True))
        if look.header and look.header.orientation >= 5 and row in labelled
    ]
    upright = [path for path in turned if path not in stored]
    as_stored = [path for path in turned if path in stored]
    if not upright or not as_stored:
        return finding("exif_mixed", [])
    fewer, frame = min((upright, "upright"), (as_stored, "as stored"), key=lambda pair: len(pair[0]))
    detail = f"{len(upright)} upright, {len(as_stored)} as stored"
    return finding("exif_mixed", [Item(path, detail=f"labelled {frame}") for path in fewer], detail)


def _background(dataset: Dataset, unlabelled: frozenset[str]) -> Finding:
    rows = np.setdiff1d(np.arange(len(dataset.images)), dataset.boxes["image"].to_numpy())
    images = dataset.images.iloc[rows]
    empty = images["path"][~images["source_id"].isin(unlabelled)].tolist()
    share = f"{len(empty) / max(1, len(dataset.images)):.0%} of all images"
    return finding("image_background", [Item(path) for path in empty[:MOST_ITEMS]], share, len(empty))


def names(paths: Sequence[str]) -> list[Finding]:
    """Names that are told apart here, but not on every system or by every tool."""
    whole, stems, bare = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for path in paths:
        key = folded(path)
        whole[key].append(path)
        stems[os.path.splitext(path)[0]].append(path)
        bare[key.rpartition("/")[2]].append(path)
    twice = [same for same in bare.values() if len({path.rpartition("/")[0].casefold() for path in same}) > 1]
    groups = {
        "name_case": [same for same in whole.values() if len(same) > 1],
        "name_stem": [same for same in stems.values() if len(same) > 1],
        "name_twice": twice,
    }
    return [finding(code, [Item(same[0], other=", ".join(same[1:3])) for same in found]) for code, found in groups.items()]
