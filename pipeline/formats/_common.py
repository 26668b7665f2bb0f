"""What several formats need to read or write."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import files
from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
"""A number that is a thousand as likely as one: 1,024."""
SAMPLE = 20
"""Label files that `detect` looks into."""


def spread(paths: Sequence[str], count: int = SAMPLE) -> list[str]:
    """At most `count` of the paths, evenly spread, so that one odd file or folder does not decide what all are taken for."""
    step = max(1, len(paths) / count)
    return [paths[int(number * step)] for number in range(min(count, len(paths)))]


def brief(value: object) -> str:
    """A value for a message: short, however long or deeply nested it is."""
    return _brief.repr(value)


def with_point(text: str | None) -> str | None:
    """The text of a number, its decimal comma a point, where the comma can be nothing else: 12,5 and 0,025, but not 1,024."""
    if text and text.count(",") == 1 and "." not in text and not THOUSANDS.fullmatch(text):
        return text.replace(",", ".")
    return text


def decimal(text: str | None) -> float:
    """A number whose decimal point may be a comma (`with_point`).

    Raises:
        ValueError: it is none, or may be a thousand times as much.
    """
    try:
        return float(text or "")
    except ValueError:
        return float(with_point(text) or "")


def as_size(value: object) -> int:
    """A width or height as a label file declares it, in whole pixels; 0 for what cannot be one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0
    return round(number) if 0 < number < 1e6 else 0


def line_numbers(data: bytes, pattern: re.Pattern[bytes]) -> list[int]:
    """The line, from 1, of every place where `pattern` is found; `data` is gone through once."""
    lines, line, last = [], 1, 0
    for found in pattern.finditer(data):
        line += data.count(b"\n", last, found.start())
        last = found.start()
        lines.append(line)
    return lines


def is_own_name(stem: str, written: str) -> bool:
    """Whether the image name `written` in a label file, with folders or without, is that of the label file itself."""
    base = written.replace("\\", "/").rpartition("/")[2]
    return stem in (base, base.rpartition(".")[0])


def plain_number(value: float) -> str:
    """A coordinate with 15 significant digits and no exponent, without trailing zeros: 12, 0.25, 639.5."""
    text = f"{value:.15g}"
    if "e" in text:
        text = f"{value:.18f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def label_file_names(dataset: Dataset, suffix: str) -> list[str]:
    """`<path without its suffix><suffix>` for every image, in their order.

    Raises:
        DataError: two images would share a label file.
    """
    owners: dict[str, str] = {}
    for path in dataset.paths:
        name = path.rpartition(".")[0] + suffix
        if name in owners:
            raise DataError(f"{owners[name]} and {path} would share the label file {name}", "Rename one of them.")
        owners[name] = path
    return list(owners)


def image_stems(dataset: Dataset) -> list[str]:
    """`<path without its suffix>` for every image, in their order, as lists and tables name images that leave the suffix out.

    Raises:
        DataError: one has the name of another image (`a.jpg` for `a.jpg.jpg` beside `a.jpg`): readers would take it for that one.
    """
    by_name = {path.rpartition("/")[2].casefold(): path for path in dataset.paths}
    stems = [path.rpartition(".")[0] for path in dataset.paths]
    for path, stem in zip(dataset.paths, stems, strict=True):
        other = by_name.get(stem.rpartition("/")[2].casefold())
        if other:
            raise DataError(f"{path} without its suffix could not be told from {other}", "Rename one of them.")
    return stems


def listed_name(text: str, present: frozenset[str]) -> str:
    """The name in a line of a list or a cell of a table; the spaces around it belong to it only where an image is so called.

    Args:
        present: names of the images that are there; see `present_names`.
    """
    return text if text.rpartition("/")[2] in present else text.strip()


def present_names(files: FileSet) -> frozenset[str]:
    """The names of all images without their folders, both with their suffix and without."""
    names = [path.rpartition("/")[2] for path in files.photos]
    return frozenset([*names, *(name.rpartition(".")[0] for name in names)])


def link_images(dataset: Dataset, images_folder: Path | None, target: Path) -> None:
    """Hard-link every image of the data set to `target/<path>`; nothing where there are no images."""
    if images_folder is None:
        return
    for path in dataset.paths:
        files.link(f"{images_folder}/{path}", f"{target}/{path}")
