"""What several formats need to read or write."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import files
from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80
SAMPLE = 20
"""Label files that `detect` looks into."""


def spread(paths: Sequence[str], count: int = SAMPLE) -> list[str]:
    """At most `count` of the paths, evenly spread, so that one odd file or folder does not decide what all are taken for."""
    step = max(1, len(paths) / count)
    return [paths[int(number * step)] for number in range(min(count, len(paths)))]


def brief(value: object) -> str:
    """A value for a message: short, however long or deeply nested it is."""
    return _brief.repr(value)


def as_size(value: object) -> int:
    """A width or height as a label file declares it, in whole pixels; 0 for what cannot be one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0
    return round(number) if 0 < number < 1e6 else 0


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
    for path in dataset.images["path"]:
        name = path.rpartition(".")[0] + suffix
        if name in owners:
            raise DataError(f"{owners[name]} and {path} would share the label file {name}", "Rename one of them.")
        owners[name] = path
    return list(owners)


def link_images(dataset: Dataset, images_folder: Path | None, target: Path) -> None:
    """Hard-link every image of the data set to `target/<path>`; nothing where there are no images."""
    if images_folder is None:
        return
    for path in dataset.images["path"]:
        files.link(images_folder / path, target / path)
