"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.health import accounts, duplicates, images, labels, model, splits
from pipeline.health.findings import Finding, arranged, require_known
from pipeline.health.images import Look
from pipeline.health.opening import Subject
from pipeline.ledger import Entry
from pipeline.stage import Context

Opinions = Callable[[Sequence[Look]], Sequence[Detections | None]]
"""What a model finds in each image, None where it was not asked; it is told which images can be read."""


def examine(
    subject: Subject,
    context: Context,
    ignore: Sequence[str] = (),
    distance: int = duplicates.DISTANCE,
    opinions: Opinions | None = None,
    pictures: Path | None = None,
) -> list[Finding]:
    """Everything that can be found in a data set, errors first.

    Args:
        ignore: codes that are left out.
        distance: of 64 strong edges of two pictures, how many may differ in near-duplicates.
        opinions: asked for what a model finds.
        pictures: a folder for pictures of what was found.

    Raises:
        ParamsError: `ignore` names a code that does not exist.
    """
    require_known(ignore)
    dataset = subject.dataset
    looks = images.look_at_all(dataset, subject.folder, context)
    hashes = [look.dhash for look in looks]
    alike = duplicates.look_alikes(hashes, distance)
    brightness = [look.brightness for look in looks]
    stored = frozenset(entry.path for entry in subject.entries if entry.reason == "stored_frame")
    unlabelled = subject.unlabelled
    invented = accounts.invented_names(dataset.class_names, subject.entries)
    found = [
        *subject.found,
        *accounts.findings_of(subject.entries, invented),
        *images.check(dataset, looks, stored, unlabelled),
        *labels.check(dataset, invented),
        *duplicates.check(dataset, hashes, alike, unlabelled),
        *splits.check(dataset, hashes, brightness, alike, distance),
        *(model.check(dataset, opinions(looks)) if opinions else ()),
    ]
    findings = arranged(found, ignore)
    if pictures is not None:
        from pipeline.health.pictures import draw

        return draw(findings, subject, brightness, pictures, context)
    return findings


def examine_tables(dataset: Dataset, entries: Sequence[Entry] = (), alike: duplicates.Ints | None = None) -> list[Finding]:
    """What is found without opening an image: for stages, which tell it in the data card of what they make.

    Args:
        alike: the near-duplicates, as `duplicates.look_alikes` has them, where they are known already.
    """
    hashes = dataset.images["dhash"].tolist()
    if alike is None:
        alike = duplicates.look_alikes(hashes)
    invented = accounts.invented_names(dataset.class_names, entries)
    found = [
        *accounts.findings_of(entries, invented),
        *images.names(dataset.images["path"].tolist()),
        *labels.check(dataset, invented),
        *duplicates.check(dataset, hashes, alike, accounts.unlabelled_of(entries)),
        *splits.check(dataset, hashes, [float("nan")] * len(hashes), alike),
    ]
    return arranged(one for one in found if one.count)
