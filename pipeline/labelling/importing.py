"""From a folder of images and label files to a `Dataset`: what is the same for every format.

Choose the format by content, let its reader report, match records with image files, and take the steps of `import_steps`.
Whatever does not come through unchanged stands in the ledger: the boxes that were read are those of the data set plus those
that the ledger says were dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import formats
from pipeline.boxes import Boxes
from pipeline.dataset import BOX_COLUMNS, IMAGE_COLUMNS, Dataset
from pipeline.errors import ArtifactError, DataError
from pipeline.files import read_json_lines
from pipeline.images import Header
from pipeline.labelling.bursts import find_bursts
from pipeline.labelling.classes import map_classes
from pipeline.labelling.declared import name_images
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import (
    Import,
    Policy,
    Rows,
    check_boxes,
    drop_photos_without_labels,
    read_headers,
    read_rows,
    to_upright,
)
from pipeline.labelling.labels import Labels
from pipeline.labelling.resolve import resolve
from pipeline.ledger import Entry, Ledger
from pipeline.ledger import read as read_ledger
from pipeline.paths import CONTROL
from pipeline.sources import ORIGINS
from pipeline.stage import Context
from pipeline.wording import plural

CHOSEN_REASONS = frozenset(
    {
        *("class_dropped", "no_label_file", "other_task", "in_no_source", "in_two_sources", "link_not_followed"),
        *("crowd", "difficult", "deleted", "ignored_region", "outside"),  # the label file itself says: not an object to detect
        *("polyline", "point", "keypoints", "tag", "cuboid", "video"),  # what has no box on an image
    }
)
"""Dropped because the user or the format wants it so, not because something is wrong."""

NONE = "none"
"""The format of images that have no labels."""

_TOGETHER = "Bring the images together with their labels: `collect.source` must lead to both; for `convert` there is --images."


@dataclass(frozen=True)
class Imported:
    """A data set and how it came about.

    Attributes:
        format, reason: which reader, and why that one.
        undecided: photos of which nothing says in which frame they were labelled, and their boxes (N, 4) in the other one.
    """

    dataset: Dataset
    format: str
    reason: str
    undecided: Mapping[str, Boxes]


def import_files(
    files: FileSet, policy: Policy, ledger: Ledger, context: Context, origins: Mapping[str, Mapping[str, object]] | None = None
) -> Imported:
    """Read the labels of a tree, or of the part that the policy names.

    Args:
        origins: what is known of each image by path: its `hash`, its `group`. None leaves hashes "".

    Raises:
        DataError: no images, no labels, labels of two formats, label files that cannot be parsed, or any defect
            (`on_invalid: error`).
        ParamsError: an unknown format or option, or classes that the labels do not have.
        ArtifactError: `origins` does not know an image.
    """
    files = files.below(policy.folder, policy.images)
    before = len(ledger.entries)
    if policy.has_images and not files.photos:
        raise DataError(_without_images(files), _TOGETHER)
    if policy.format == NONE:
        name, reason, labels = NONE, "no label files", Labels()
    else:
        name, reason = (policy.format, "it was named") if policy.format != "auto" else formats.choose(files)
        labels = formats.load(name).read(files, ledger, formats.options(name, policy.options))
        _refuse_malformed(labels, policy)
        _refuse_empty(labels, name, files)
    names, positions = _map_classes(labels, policy, ledger)
    declared, refused = ({}, {}) if policy.has_images else name_images(labels, ledger)
    work = Import(
        files, labels, resolve(labels, list(declared) or files.photos, ledger, refused, files.renamed), policy, ledger, context
    )
    if labels.images and not work.labelled and not work.found.contested:
        missing = [f"{image.file}: {image.label}" for image in labels.images]
        raise DataError("Not one of the labelled images is there", _TOGETHER, missing)
    drop_photos_without_labels(work)
    rows = read_rows(work, positions)
    headers = read_headers(work) if policy.has_images else [declared[path] for path in work.found.photos]
    rows = to_upright(work, rows, headers)
    rows = check_boxes(work, rows, headers)
    _refuse_defects(work, rows, ledger.entries[before:])
    undecided = {work.found.photos[number]: boxes for number, boxes in work.undecided.items()}
    return Imported(_assemble(work, rows, names, headers, origins), name, reason, undecided)


def _map_classes(labels: Labels, policy: Policy, ledger: Ledger) -> tuple[tuple[str, ...], list[int]]:
    """As `map_classes`; names are freed of control characters first, which no list, XML or terminal survives."""
    if not labels.class_names:
        return (), []  # images alone
    cleaned = [" ".join(CONTROL.sub(" ", name).split()) or f"class_{number}" for number, name in enumerate(labels.class_names)]
    cleaned = [clean if CONTROL.search(name) else name for clean, name in zip(cleaned, labels.class_names, strict=True)]
    for before, after in zip(labels.class_names, cleaned, strict=True):
        if before != after:
            ledger.add("file", "converted", "class_name_cleaned", file=labels.images[0].file, detail=f"{before!a} → {after}")
    distinct = list(dict.fromkeys(cleaned))
    names, mapped = map_classes(distinct, policy.classes)
    return names, [mapped[distinct.index(name)] for name in cleaned]


def _without_images(files: FileSet) -> str:
    if not files.paths:
        return f"There are no files in {files.called}."
    return f"There is no image among the {plural(len(files.paths), 'file')} in {files.called} ({', '.join(files.paths[:3])} …)."


def _refuse_malformed(labels: Labels, policy: Policy) -> None:
    """A label file that cannot be parsed may hold any number of boxes: only an explicit `drop` passes over it.

    With `error`, those of single images are told together with all other defects.
    """
    fatal = [found for found in labels.malformed if found.image is None or policy.on_invalid == "fix"]
    if fatal:
        hint = "Mend or remove them."
        if all(found.image is not None for found in fatal):
            hint = "Mend them, or set annotate.on_invalid to drop to leave out their images."
        count = "One label file" if len(fatal) == 1 else f"{len(fatal)} label files"
        raise DataError(f"{count} cannot be read", hint, [str(found) for found in fatal])


def _refuse_empty(labels: Labels, name: str, files: FileSet) -> None:
    if not labels.images:
        hint = f"Set annotate.format to the format of your labels, or to auto. {formats.describe()}"
        raise DataError(f"There are no {name} labels beside the {plural(len(files.photos), 'image')} in {files.called}.", hint)
    if not labels.class_names:
        raise DataError(
            f"The {name} labels in {files.called} hold no box and name no class", "", [str(found) for found in labels.malformed]
        )


def _refuse_defects(work: Import, rows: Rows, entries: Sequence[Entry]) -> None:
    defects = [entry for entry in entries if is_defect(entry)]
    if defects and work.policy.on_invalid == "error":
        raise DataError(
            f"{len(defects)} defects in the labels",
            "Set annotate.on_invalid to fix (mend what can be mended, drop the rest) or drop.",
            [f"{entry.where()}: {entry.item} {entry.reason} {entry.detail}".rstrip() for entry in defects],
        )
    bad_boxes = [entry for entry in defects if entry.item == "box"]
    if not len(rows.record) and bad_boxes:
        counts = Counter(entry.reason for entry in bad_boxes)
        raise DataError(
            "Not one box could be used",
            f"The first: {bad_boxes[0].where()}: {bad_boxes[0].detail}",
            [f"{count} boxes: {reason}" for reason, count in counts.most_common()],
        )


def is_defect(entry: Entry) -> bool:
    """Whether a ledger entry tells of something wrong in the data, rather than of a choice or a harmless conversion."""
    return (entry.action in ("dropped", "fixed") or entry.reason == "out_of_bounds") and entry.reason not in CHOSEN_REASONS


def _assemble(
    work: Import,
    rows: Rows,
    names: tuple[str, ...],
    headers: Sequence[Header | None],
    origins: Mapping[str, Mapping[str, object]] | None,
) -> Dataset:
    photos, records = work.found.photos, zip(work.found.photo_of, work.labels.images, strict=True)
    groups = {number: photos[first] for number, first in find_bursts(headers, work.policy.burst_seconds).items()}
    groups |= {number: image.group for number, image in records if number >= 0 and image.group}
    images: list[tuple[object, ...]] = []
    new_number = np.full(len(photos), -1)
    for number, (path, header) in enumerate(zip(photos, headers, strict=True)):
        if header is None or number in work.dropped:
            continue
        new_number[number] = len(images)
        origin = {"hash": ""} if origins is None else origins.get(path, {})
        if origins is not None and not origin.get("hash"):  # without it, images would pass for the same content further down
            raise ArtifactError(f"{work.files.root / path} is not in {ORIGINS}.", "Run collect again (`run collect --force`).")
        group = str(origin.get("group") or groups.get(number) or path)
        images.append((path, header.width, header.height, origin["hash"], path, group, work.found.splits[number], ""))
    if not images:
        raise DataError("Not one image could be used", "", [f"{photos[number]}: {why}" for number, why in work.dropped.items()])
    table = dict(zip(IMAGE_COLUMNS, map(list, zip(*images, strict=True)), strict=True))
    boxes = dict(zip(BOX_COLUMNS, (new_number[rows.photo], rows.class_id, *rows.boxes.T), strict=True))
    return Dataset(names, table, boxes)


def read_origins(path: Path) -> dict[str, dict[str, object]]:
    """What `collect` noted of each file, by path; empty where it did not."""
    if not path.exists():
        return {}
    return {row["path"]: row for row in read_json_lines(path)}


def read_renamed(folder: Path) -> dict[str, str]:
    """The files of a version of `collect` that it gave another name: the path in the source by the path here."""
    return {entry.path: entry.file for entry in read_ledger(folder) if entry.reason == "renamed"}


_TOLD = ("class_names_invented", "overlapping_splits", "split_not_found")
"""What a person should hear of although nothing was lost."""


def warn_of_losses(ledger: Ledger, context: Context) -> None:
    """Tell how much was left out as defective, and what was supposed; the ledger has each single thing."""
    dropped = [entry for entry in ledger.entries if entry.action == "dropped" and is_defect(entry)]
    parts = []
    for item, word in (("image", "images"), ("box", "boxes"), ("file", "files")):
        counts = Counter(entry.reason for entry in dropped if entry.item == item)
        if counts:
            parts.append(f"{word}: {', '.join(f'{count:,} {reason}' for reason, count in counts.most_common())}")
    if parts:
        context.warn(f"Left out as defective: {'; '.join(parts)}. Each stands in ledger.jsonl with its file and line.")
    for entry in ledger.entries:
        if entry.reason in _TOLD:
            context.warn(f"{entry.where()}: {entry.detail}.")


def warn_of_unlabelled(dataset: Dataset, ledger: Ledger, context: Context) -> None:
    """Tell of images that no label mentions, and of folders in which not one image has any: labels may have been forgotten."""
    unlabelled = {entry.path for entry in ledger.entries if (entry.action, entry.reason) == ("kept", "no_label_file")}
    if not unlabelled:
        return
    folders = {path.rpartition("/")[0] for path in unlabelled}
    bare = sorted(folders - {path.rpartition("/")[0] for path in dataset.paths if path not in unlabelled})
    where = f" (in {', '.join(folder or '.' for folder in bare[:5])} not one image has labels)" if bare else ""
    context.warn(
        f"Images without labels: {len(unlabelled)}{where}. They are taken for background; "
        "annotate.include_unlabelled: false drops them."
    )
