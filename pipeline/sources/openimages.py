"""Part of Open Images: photos of the wanted classes, with their boxes.

    collect:
      source: openimages
      options: {classes: [Dog, Cat], limit: 500}

https://storage.googleapis.com/openimages/web/factsfigures_v7.html: 600 classes; train has 1,743,042 images with boxes, validation
41,620, test 125,436. Only the images that are asked for are fetched. The official tables of boxes and images are fetched whole
(3 GB for train, far below 1 GB for the others) and stay in the cache. Beside the images lie tables of the same kind of just these
images and classes, with all columns, for annotate to read; the list of images names licence and author of every photo. Of
several splits each keeps its own; images of a single one are divided anew.

The annotations are CC BY 4.0, the photos are listed as CC BY 2.0; that is not vouched for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import folded, portable
from pipeline.sources import Fetched, Origin, _web
from pipeline.sources import _openimages_tables as tables
from pipeline.stage import Context, StageParams

VERSION = 1
IMAGES = "https://s3.amazonaws.com/open-images-dataset"
CLASSES = "annotations/class-descriptions-boxable.csv"
HOMEPAGE = "https://storage.googleapis.com/openimages/web/index.html"
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")


class Options(StageParams):
    """Options of `openimages`. `collect.seed` chooses the images."""

    splits: list[Literal["train", "validation", "test"]] = Field(
        default=["validation"],
        min_length=1,
        description="train, validation, test. The tables of validation are by far the smallest.",
    )
    classes: list[str] = Field(
        default_factory=list, description="only images that show one of these, and only their boxes; [] for all"
    )
    include_subclasses: bool = Field(
        default=False,
        description="what is a kind of a class counts as wanted too, under its own name; boxes bear the narrowest class",
    )
    limit: int = Field(
        default=0, ge=0, description="at most so many images of each split; 0 for all, which is not possible for all classes"
    )
    skip_group_of: bool = Field(
        default=False, description="no images with one box around a group of wanted objects; annotate drops such boxes otherwise"
    )
    skip_depiction: bool = Field(default=False, description="no images with drawings, toys or statues of wanted objects")
    skip_occluded: bool = Field(default=False, description="no images with wanted objects that are partly hidden")
    max_missing: _web.MaxMissing = 0.01
    per_host: _web.PerHost = 16
    requests_per_second: _web.RequestsPerSecond = 0.0


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query; the network is not asked."""
    _require_possible(location, options)
    return fingerprints.of_value(["openimages", VERSION, options.model_dump(), seed])


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    _require_possible(location, options)
    names = tables.class_names(context)
    codes = tables.codes_of(options.classes, names)
    if options.include_subclasses and options.classes:
        codes = tables.with_subclasses(codes, context)
    splits: list[str] = sorted(set(options.splits))
    boxes = {split: tables.boxes(split, context) for split in splits}
    lists = {split: tables.images(split, context) for split in splits}
    skip = [column for column, is_skipped in _flags(options).items() if is_skipped]
    chosen = {split: tables.choose(boxes[split], codes, skip, options.limit, seed, context) for split in splits}
    if not any(chosen.values()):
        raise DataError(
            f"Open Images has no such images of {options.classes or 'any class'} in {', '.join(splits)}.",
            "Check collect.options: another split, include_subclasses, or fewer skip_….",
        )
    ledger = Ledger()
    wanted = _wanted(chosen, ledger)
    origins = _web.bring(
        list(wanted.values()),
        out,
        context,
        ledger,
        asked=_web.limits(options.per_host, options.requests_per_second),
        max_missing=options.max_missing,
        total=sum(map(len, chosen.values())),
    )
    here = {origin.path for origin in origins}
    described = [Origin(CLASSES, f"{tables.METADATA}/{tables.CLASSES}")]
    tables.write_class_names(names, codes, out / CLASSES)
    licenses: dict[str, str] = {}
    for split in splits:
        ids = {image_id for (of, image_id), image in wanted.items() if of == split and image.path in here}
        if not ids:
            continue
        # A name that bears no split has all images divided anew.
        prefix = f"annotations/{split}-" if len(splits) > 1 else "annotations/"
        tables.write_boxes(boxes[split], codes, ids, out / f"{prefix}annotations-bbox.csv", context)
        found = tables.write_images(lists[split], ids, out / f"{prefix}images-with-rotation.csv", context)
        licenses |= {wanted[split, image_id].path: license_ for image_id, license_ in found.items()}
        described.append(Origin(f"{prefix}annotations-bbox.csv", boxes[split].url))
        described.append(Origin(f"{prefix}images-with-rotation.csv", lists[split].url))
    origins = _licensed(origins, licenses, ledger)
    counts = Counter(origin.license or "unknown" for origin in origins).most_common()
    return Fetched(
        sorted([*origins, *described], key=lambda origin: origin.path),
        license="annotations CC BY 4.0; images " + "; ".join(f"{name}: {count:,}" for name, count in counts),
        homepage=HOMEPAGE,
        description=_description(options, splits, len(origins)),
        ledger=ledger,
    )


def _require_possible(location: str, options: Options) -> None:
    if location:
        raise ParamsError(
            f"collect.source: 'openimages:{location}' is not known.", "`collect.source: openimages`; the rest are its options."
        )
    if not options.classes and not options.limit:
        raise ParamsError(
            "collect.options: neither classes nor a limit is given, and all of Open Images is hundreds of GB.",
            "Name classes, as in {classes: [Dog, Cat]}, or give a limit.",
        )


def _description(options: Options, splits: Sequence[str], count: int) -> str:
    kinds = " and their kinds" if options.include_subclasses else ""
    classes = f" with {', '.join(options.classes)}{kinds}" if options.classes else ""
    return f"Open Images {', '.join(splits)}: {count:,} images{classes}"


def _wanted(chosen: Mapping[str, Sequence[str]], ledger: Ledger) -> dict[tuple[str, str], _web.WebImage]:
    """(split, id) → what to fetch; the ids come from a table and are not trusted."""
    wanted: dict[tuple[str, str], _web.WebImage] = {}
    taken: set[str] = set()
    for split, ids in chosen.items():
        for image_id in ids:
            reason = "" if _ID.fullmatch(image_id) and portable(image_id) == image_id else "unsafe_name"
            reason = reason or ("duplicate_name" if folded(image_id) in taken else "")
            if reason:
                ledger.add("image", "dropped", reason, path=ascii(image_id)[1:-1], detail=f"an image of {split}")
                continue
            taken.add(folded(image_id))
            wanted[split, image_id] = _web.WebImage(f"{IMAGES}/{split}/{image_id}.jpg", f"images/{image_id}.jpg")
    return wanted


def _flags(options: Options) -> dict[str, bool]:
    """Column of the table of boxes → whether an image is left out for it."""
    return {"IsGroupOf": options.skip_group_of, "IsDepiction": options.skip_depiction, "IsOccluded": options.skip_occluded}


def _licensed(origins: Sequence[Origin], licenses: Mapping[str, str], ledger: Ledger) -> list[Origin]:
    for origin in origins:
        if not licenses.get(origin.path):
            ledger.add("image", "kept", "no_license", path=origin.path, detail="the list of images does not tell its licence")
    return [replace(origin, license=licenses.get(origin.path, "")) for origin in origins]
