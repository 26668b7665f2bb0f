"""What the sources of single images on the web share: bring them, take over what the version before has, account for the rest."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from pipeline import files, urls
from pipeline.downloads import Check, Download, Limits, Outcome, download, download_all
from pipeline.errors import NetworkError
from pipeline.ledger import Ledger
from pipeline.sources import ORIGINS, Origin
from pipeline.stage import Context

MAX_IMAGE_BYTES = 1 << 30
Item = TypeVar("Item", int, bytes)

# What the options of several sources mean.
MaxMissing = Annotated[float, Field(ge=0, le=1, description="the share of the images that may fail")]
PerHost = Annotated[int, Field(ge=1, le=64, description="downloads at once from one host")]
RequestsPerSecond = Annotated[float, Field(ge=0, description="to one host; 0 for no limit")]


@dataclass(frozen=True)
class WebImage:
    """An image to be had.

    Attributes:
        path: where it goes below `out`.
        file, line: the list that names it, for the ledger.
        size, sha256: see `Download`.
    """

    url: str
    path: str
    file: str = ""
    line: int = 0
    size: int | None = None
    sha256: str = ""


def limits(per_host: int, requests_per_second: float) -> Limits:
    return Limits(
        parallel=max(16, per_host), per_host=per_host, requests_per_second=requests_per_second, max_bytes=MAX_IMAGE_BYTES
    )


def drawn(candidates: Iterable[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` of them (0: all), sorted. The first of the shuffled are taken: a larger limit brings the same and more."""
    shuffled = sorted(candidates)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - not for secrets
    return sorted(shuffled[: limit or None])


def cached(
    url: str, suffix: str, context: Context, size: int | None = None, sha256: str = "", check: Check | None = None
) -> Path:
    """A file of annotations in the cache, fetched unless it is there, where it stays for the next choice of classes.

    Args:
        suffix: of the file in the cache.
        size, sha256: see `Download`.

    Raises:
        NetworkError: it cannot be had.
    """
    key = hashlib.blake2s(url.encode(), digest_size=10).hexdigest()
    path = context.cache / "downloads" / f"{key}{suffix}"
    download(Download(url, path, size, sha256), context.progress, check)
    return path


def bring(
    images: Sequence[WebImage],
    out: Path,
    context: Context,
    ledger: Ledger,
    *,
    asked: Limits,
    max_missing: float,
    total: int = 0,
) -> list[Origin]:
    """Fetch all images to `out`; the origins of those that are there afterwards, in the order of `images`.

    Args:
        ledger: gets an entry for each that could not be had.
        max_missing: the share of `total` that may be missing, those that stand in the ledger already included.
        total: how many were asked for; `len(images)` unless told.

    Raises:
        NetworkError: no host can be reached, or too many images are missing.
    """
    known = _take_over(images, out, context.previous)
    wanted = [Download(image.url, out / image.path, image.size, image.sha256) for image in images]
    outcomes = download_all(wanted, context.progress, _require_image, asked)
    origins = []
    for image, outcome in zip(images, outcomes, strict=True):
        if outcome.reason:
            ledger.add(
                "image", "dropped", outcome.reason, path=image.path, file=image.file, line=image.line, detail=outcome.detail
            )
        else:
            digest = outcome.hash or known.get(image.path, "")
            origins.append(Origin(image.path, urls.shown(image.url), hash=digest))
    _require_enough(len(origins), total or len(images), max_missing, outcomes)
    return origins


def _require_image(path: Path) -> None:
    """Raise UnreadableImage (with a reason) unless a file is an image: servers send pages of HTML in place of what is gone."""
    from pipeline import images

    images.read_header(path)


def _require_enough(here: int, total: int, max_missing: float, outcomes: Sequence[Outcome]) -> None:
    missing = total - here
    if missing > max_missing * total:
        raise NetworkError(
            f"{missing:,} of {total:,} images could not be had, more than collect.options.max_missing={max_missing:g} allows.",
            "The same command tries these again and keeps what is here. Or correct the list, or allow more missing images.",
            [outcome.detail for outcome in outcomes if outcome.reason],
        )


def _take_over(images: Sequence[WebImage], out: Path, previous: Path | None) -> dict[str, str]:
    """Link what the version before fetched from the same URL; the hash of each by path."""
    if previous is None:
        return {}
    try:
        held = {row["origin"]: row for row in files.read_json_lines(previous / ORIGINS)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # damaged, and nobody has verified it yet
    linked = {}
    for image in images:
        row, target = held.get(image.url), out / image.path  # a URL with secrets is shown otherwise: it is fetched again
        if row is not None and not image.sha256 and not target.exists():
            old = previous / "files" / row["path"]
            if old.is_file():
                files.link(old, target)
                linked[image.path] = row["hash"]
    return linked
