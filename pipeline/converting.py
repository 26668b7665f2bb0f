"""Labels of any format to another, without a workspace: read, check, write; and say what the new format cannot hold."""

from __future__ import annotations

import posixpath
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import fingerprint, formats
from pipeline.dataset import Dataset
from pipeline.errors import UsageError
from pipeline.files import TEMPORARY_SUFFIX
from pipeline.formats import Holdable
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.merging import import_sources
from pipeline.ledger import Ledger
from pipeline.stage import Context
from pipeline.wording import plural

_WORDS: dict[Holdable, str] = {
    "splits": "which split an image belongs to",
    "background": "images without boxes",
    "class_order": "the classes' order",
    "sizes": "the sizes of the images",
}


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        format, reason: the format that was read, and why that one.
        lost: what the data set says and the new format cannot hold, in words.
    """

    dataset: Dataset
    format: str
    reason: str
    lost: tuple[str, ...]
    ledger: Ledger


def convert(
    source: Path, target: Path, to: str, policy: Policy, photo_root: Path | None, context: Context, mend: bool = False
) -> Conversion:
    """Read the labels in `source`, and the images there or below `photo_root`; write them, and the ledger, to a new folder.

    `target` appears when it is complete. Images are hard-linked where the file system allows, else copied; with
    `policy.has_images` False, only labels are written. A folder that all images share (`images/`) is not repeated in `target`.

    Args:
        mend: also leave out exact copies of images.

    Raises:
        UsageError: `target` holds something already, or lies within what is read.
        DataError, ParamsError: as `import_files`, and what the format refuses to hold.
    """
    module = formats.load_writable(to)
    _refuse_target(target, source, photo_root)
    ledger = Ledger()
    files = FileSet.scan(source, photo_root)
    (imported,) = import_sources(files, [policy], ledger, context, _hashes(files) if mend and policy.has_images else None)
    folder, dataset = _without_common_folder(_repaired(imported.dataset, ledger) if mend else imported.dataset)
    working = target.with_name(f".{target.name}{TEMPORARY_SUFFIX}")
    shutil.rmtree(working, ignore_errors=True)  # of a conversion that was killed
    with context.progress(f"write {to}", 1) as advance:
        try:
            module.write(dataset, (photo_root or source) / folder if policy.has_images else None, working)
            ledger.write(working)
            if target.exists():
                target.rmdir()
            working.rename(target)
        except OSError:
            shutil.rmtree(working, ignore_errors=True)  # a disk that is full must not stay so
            raise
        advance()
    lost = _lost(dataset, module.HOLDS, policy.has_images)
    if not formats.names_images(to):
        lost.append("the names of images (they become numbers of frames)")
    return Conversion(dataset, imported.format, imported.reason, tuple(lost), ledger)


def _repaired(dataset: Dataset, ledger: Ledger) -> Dataset:
    from pipeline.health.repair import repair  # loads half of the health checks

    return repair(dataset, ledger)


def _hashes(files: FileSet) -> dict[str, dict[str, object]]:
    """What tells copies of an image apart from images that look alike."""
    digests = fingerprint.of_files(files.photo(path) for path in files.photos)
    return {path: {"hash": digest} for path, digest in zip(files.photos, digests, strict=True)}


def _refuse_target(target: Path, source: Path, photo_root: Path | None) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists already.", "Choose a new folder; yours is left as it is.")
    for folder in (source, photo_root):
        if folder is not None and target.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{target} lies in {folder}, which is read.", "Choose a folder elsewhere.")


def _without_common_folder(dataset: Dataset) -> tuple[str, Dataset]:
    """The folder that all images share ("" for none), and the data set with paths from there."""
    folder = posixpath.commonpath({path.rpartition("/")[0] for path in dataset.paths})
    start = len(folder) + 1 if folder else 0
    images = {**dataset.image_columns, "path": [path[start:] for path in dataset.paths]}
    return folder, Dataset(dataset.class_names, images, dataset.box_columns)


def _lost(dataset: Dataset, holds: frozenset[Holdable], has_images: bool) -> list[str]:
    """What the data set has of each thing that the format cannot say; that images belong together, none can."""
    splits = Counter(dataset.splits)
    background = dataset.background()
    counts = dataset.boxes_per_class()
    unused = [name for name, count in counts.items() if not count]
    order = "" if list(counts) == sorted(counts) else ", ".join(counts)
    groups = Counter(dataset.image_columns["group_id"])
    found: Mapping[Holdable, str] = {
        "splits": ", ".join(f"{name} {splits[name]}" for name in ("train", "val", "test") if name in splits),
        "background": f"{plural(background, 'image')} without boxes" if background else "",
        "class_order": f"classes without boxes: {', '.join(unused)}" if unused else order,
        "sizes": "" if has_images else plural(len(dataset.paths), "image"),
    }
    lost = [f"{_WORDS[what]} ({text})" for what, text in found.items() if text and what not in holds]
    together = sum(count > 1 for count in groups.values())
    if together:
        lost.append(f"which images belong together ({plural(together, 'video, burst or scene', 'videos, bursts or scenes')})")
    return lost
