"""Part of the COCO data set, or of any that has an instances file with a URL for each image.

    collect:
      source: coco
      options: {classes: [dog, cat], limit: 500}

Of 118,000 images only those are fetched that are asked for. Beside them lies an instances file of just these images and classes,
for annotate to read; it keeps the licence of every image. COCO's annotations are CC BY 4.0, its photos have the licences that
their authors gave them on Flickr, half of which forbid commercial use: https://cocodataset.org/#termsofuse
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pipeline import files, urls
from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import is_clean, is_image, portable
from pipeline.sources import Fetched, OptionPath, Origin, _coco_subset, _web, local_path
from pipeline.sources._coco_subset import Image
from pipeline.sources._names import settled
from pipeline.stage import Context, StageParams

VERSION = 1
OFFICIAL = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
OFFICIAL_SHA256 = "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"
OFFICIAL_BYTES = 252_907_541
INSTANCES = "annotations/instances.json"
"""Bears no split: all images are from one, and split is to divide them anew."""


class Options(StageParams):
    """Options of `coco`. `collect.seed` chooses the images."""

    annotations: OptionPath = Field(
        default=OFFICIAL,
        min_length=1,
        description="an instances file or a zip of such files, on this machine or a URL; the official ones of 2017 unless given",
    )
    split: str = Field(
        default="val2017",
        pattern="^[A-Za-z0-9_.-]+$",
        description="which file of the zip: `instances_<split>.json`. val2017 has 5,000 images, train2017 118,287.",
    )
    classes: list[str] = Field(
        default_factory=list, description="only images that show one of these, and only their boxes; [] for all"
    )
    limit: int = Field(default=0, ge=0, description="at most so many images; 0 for all")
    max_missing: _web.MaxMissing = 0.01
    per_host: _web.PerHost = 16
    requests_per_second: _web.RequestsPerSecond = 0.0


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query, and the content of a local annotation file; the network is not asked."""
    query = ["coco", VERSION, options.model_dump(), seed]
    if not _is_url(location, options):
        path = _local(options, context)
        query.append(fingerprints.FolderIndex(context.cache).file_digest(path, context.progress))
    return fingerprints.of_value(query)


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    online = _is_url(location, options)
    path = _downloaded(options.annotations, context) if online else _local(options, context)
    where = urls.shown(options.annotations) if online else options.annotations
    subset = _coco_subset.choose(_coco_subset.read(path, options.split), where, options.classes, options.limit, seed)
    if not subset.images:
        raise DataError(f"{where} has no images of {options.classes or 'any class'}.", "Check collect.options.")
    ledger = Ledger()
    images, wanted = _wanted(subset.images, ledger)
    origins = _web.bring(
        wanted,
        out,
        context,
        ledger,
        asked=_web.limits(options.per_host, options.requests_per_second),
        max_missing=options.max_missing,
        total=len(subset.images),
    )
    here = {origin.path for origin in origins}
    ids = {image.id for image, web in zip(images, wanted, strict=True) if web.path in here}
    files.write_bytes(out / INSTANCES, subset.document(ids))
    licenses = "; ".join(f"{name}: {count:,}" for name, count in subset.license_counts(ids).items())
    return Fetched(
        sorted([*origins, Origin(INSTANCES, where)], key=lambda origin: origin.path),
        license=f"annotations CC BY 4.0; images {licenses}" if options.annotations == OFFICIAL else f"images {licenses}",
        homepage="https://cocodataset.org" if options.annotations == OFFICIAL else "",
        description=_description(options, len(origins)),
        ledger=ledger,
    )


def _description(options: Options, count: int) -> str:
    classes = f" with {', '.join(options.classes)}" if options.classes else ""
    return f"COCO {options.split}: {count:,} images{classes}"


# ---- the annotations


def _is_url(location: str, options: Options) -> bool:
    """Whether the annotations are on the web. Refuses what would carry a secret into the manifest."""
    if location:
        raise ParamsError(f"collect.source: 'coco:{location}' is not known.", "`collect.source: coco`; the rest are its options.")
    if "://" not in options.annotations:
        return False
    shown = urls.shown(options.annotations)
    if wrong := urls.problem(options.annotations):
        raise ParamsError(f"collect.options.annotations: {shown} cannot be fetched: {wrong}.")
    if urls.has_secrets(options.annotations):
        raise ParamsError(
            f"collect.options.annotations: {shown} comes with a password or token, which would stand in every manifest.",
            "Download the file, and give its path.",
        )
    return True


def _local(options: Options, context: Context) -> Path:
    path = local_path(options.annotations, context)
    if not path.is_file():
        raise DataError(f"collect.options.annotations: there is no file {path}.", "Check the path.")
    return path


def _downloaded(url: str, context: Context) -> Path:
    """The annotations in the cache, where they stay for the next choice of classes."""
    suffix = ".zip" if urls.without_query(url).lower().endswith(".zip") else ".json"
    if url == OFFICIAL:
        return _web.cached(url, suffix, context, OFFICIAL_BYTES, OFFICIAL_SHA256)
    return _web.cached(url, suffix, context, check=_require_annotations)


def _require_annotations(path: Path) -> None:
    """Raise DataError for what can be no annotations: servers send pages of HTML in place of what is gone."""
    with path.open("rb") as stream:
        is_json = stream.read(100).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    if not is_json and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: neither JSON nor a zip archive")


# ---- the images


def _wanted(images: Sequence[Image], ledger: Ledger) -> tuple[list[Image], list[_web.WebImage]]:
    """The images that can be asked for, and under what name; file names come from the annotations and are not trusted."""
    named: dict[str, Image] = {}
    for image in images:
        url = image.coco_url or image.flickr_url
        reason = "" if url else "no_url"
        if not (is_clean(image.file_name) and is_image(portable(image.file_name))):
            reason = "unsafe_name"
        if reason:
            ledger.add("image", "dropped", reason, path=ascii(image.file_name)[1:-1], detail=f"image id {image.id}")
        else:
            named[f"{image.file_name}, image id {image.id}"] = image
    targets = settled({name: f"images/{image.file_name}" for name, image in named.items()}, ledger)
    kept = [named[name] for name in targets]
    wanted = [_web.WebImage(image.coco_url or image.flickr_url, path) for image, path in zip(kept, targets.values(), strict=True)]
    return kept, wanted
