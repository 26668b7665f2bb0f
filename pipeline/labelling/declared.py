"""Labels without their images: paths and sizes as the label files declare them.

Converting labels, or looking at their health, need not have the images at hand. What the files say is all there is then: a name
that would lead out of the data set (`../../x.jpg`) is refused, the folders of another machine (`C:\\photos\\`, `/home/ann/`) that
all absolute names share are cut off, and an image without a declared size cannot be placed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pipeline.errors import DataError
from pipeline.images import Header
from pipeline.labelling.labels import LabelledImage, Labels
from pipeline.ledger import Ledger
from pipeline.paths import is_image, is_plain, is_safe_relative

_ROOTED = re.compile(r"^([A-Za-z]:)?/+")
ASSUMED_SUFFIX = ".jpg"


def name_images(labels: Labels, ledger: Ledger) -> tuple[dict[str, Header], dict[int, str]]:
    """Give every record of `labels` the path that its label file declares; two records of one path are one image.

    Returns:
        The header of each path, and the ledger code of every record (by number) that can have none.

    Raises:
        DataError: no image has a size.
    """
    paths = _paths([_best_name(image) for image in labels.images])
    headers: dict[str, Header] = {}
    refused: dict[int, str] = {}
    for number, (image, path) in enumerate(zip(labels.images, paths, strict=True)):
        size = image.width, image.height
        reason = "unsafe_name" if path is None else "no_size" if not all(size) else ""
        if reason or path is None:
            refused[number] = reason
            ledger.add("image", "dropped", reason, path=image.label, file=image.file, line=image.line)
            continue
        if not is_image(path):
            path += ASSUMED_SUFFIX
            ledger.add("image", "converted", "suffix_assumed", path=path, file=image.file, line=image.line)
        labels.images[number] = LabelledImage(image.file, (), path, image.line, *size, image.split, image.group)
        if path not in headers:
            headers[path] = Header(*size, 1, "", "")
    if labels.images and not headers:
        raise DataError(
            "The labels declare no image sizes, so their boxes have no place without the images", "Give the images as well."
        )
    return headers, refused


def _best_name(image: LabelledImage) -> str:
    """The most trustworthy name that is that of an image, else the first."""
    names = [name for name in (image.path, *image.names) if name]
    return next((name for name in names if is_image(name)), names[0] if names else "")


def _paths(names: Sequence[str]) -> list[str | None]:
    """Relative paths, None for what cannot be one."""
    spelled = [_spelled(name) for name in names]
    rooted = [posixpath.dirname(name) for name in spelled if _ROOTED.match(name)]
    shared = _shared([folder.split("/") for folder in rooted])
    paths: list[str | None] = []
    for name in spelled:
        if _ROOTED.match(name):
            name = _ROOTED.sub("", "/".join(name.split("/")[shared:]), count=1)
        path = posixpath.normpath(name)
        paths.append(path if path != "." and is_safe_relative(path) and is_plain(path) else None)
    return paths


def _shared(folders: Sequence[Sequence[str]]) -> int:
    """How many leading parts all have in common."""
    count = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        count += 1
    return count


def _spelled(name: str) -> str:
    """With forward slashes; of a URL the path."""
    name = name.strip()
    if re.match(r"[a-z][a-z0-9+.-]+://", name):
        try:
            return unquote(urlsplit(name).path).lstrip("/")
        except ValueError:
            return name
    return name.replace("\\", "/")
