"""What is to be examined: a version's folder, or any folder of images and labels, which is imported in memory for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import fingerprint, formats, images, ledger
from pipeline.dataset import EDGES, Dataset
from pipeline.errors import DataError
from pipeline.health.accounts import unlabelled_of
from pipeline.health.findings import Finding, Item, finding
from pipeline.images import UnreadableImage
from pipeline.labelling.classes import Classes
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.importing import read_origins, read_renamed
from pipeline.labelling.merging import import_sources, merge, note_links
from pipeline.ledger import Entry, Ledger
from pipeline.sources import ORIGINS
from pipeline.stage import Context

TABLE = "images.parquet"
FARTHEST_PX = 1e7

MENDING = Policy(on_invalid="fix")
"""Whatever can be mended is, so that one defect does not hide the next; each stands in the ledger, and becomes a finding."""

Origins = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Subject:
    """A data set under examination.

    Attributes:
        name: what to call it.
        folder: holds the image files by their `path`.
        entries: the ledger of its import.
        found: what opening it brought up.
        has_labels: False where they could not be read, so that nobody knows which images hold an object.
    """

    name: str
    dataset: Dataset
    folder: Path
    entries: Sequence[Entry] = ()
    found: Sequence[Finding] = field(default_factory=tuple)
    has_labels: bool = True

    @property
    def unlabelled(self) -> frozenset[str]:
        """Paths, as they were imported, of the images of which no label says anything."""
        return unlabelled_of(self.entries) if self.has_labels else frozenset(self.dataset.images["source_id"])


def open_folder(
    folder: Path,
    context: Context,
    name: str = "",
    policies: Sequence[Policy] = (MENDING,),
    classes: Classes | None = None,
) -> Subject:
    """A version of annotate, preprocess, split, augment or collect, or a folder of images and labels as it came.

    Args:
        name: what to call it; the folder unless told.
        policies: how to import a folder that is no data set yet; one a source, as `annotate.policies` makes them.
        classes: where they are `annotate.sources`: which classes there are when these have become one data set.

    Raises:
        DataError: there is no such folder, or no image in it.
        ParamsError: options or classes that do not fit the labels.
    """
    name = name or str(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.", "Give a folder of images and labels, or a version such as split@v1.")
    if (folder / TABLE).exists():
        return Subject(name, _within_reason(Dataset.load(folder)), folder / "images", ledger.read(_import_of(folder)))
    if (folder / ORIGINS).exists() and (folder / "files").is_dir():
        way = _Way(policies, classes, read_origins(folder / ORIGINS))
        return _open_raw(FileSet.scan(folder / "files", name=name, renamed=read_renamed(folder)), way, context, name)
    return _open_raw(FileSet.scan(folder), _Way(policies, classes), context, name)


def _within_reason(dataset: Dataset) -> Dataset:
    """Edges no farther out than `FARTHEST_PX`: they are as wrong as before, and what is computed from them is finite."""
    boxes = dataset.boxes.copy()
    boxes[EDGES] = boxes[EDGES].clip(-FARTHEST_PX, FARTHEST_PX)
    return Dataset(dataset.class_names, dataset.images, boxes)


def _import_of(folder: Path) -> Path:
    """The version of annotate that a version descends from: what was wrong with the labels stands in its ledger."""
    while True:
        try:
            recipe = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["recipe"]
            inputs = {stage: f"v{entry['version']}" for stage, entry in recipe["inputs"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            return folder
        before = [folder.parent.parent / stage / version for stage, version in inputs.items()]
        before = [path for path in before if (path / TABLE).exists()]
        if recipe.get("stage") == "annotate" or not before:
            return folder
        folder = before[0]


@dataclass(frozen=True)
class _Way:
    """How to import: see `open_folder`; `origins` as in `import_files`."""

    policies: Sequence[Policy]
    classes: Classes | None
    origins: Origins | None = None


def _open_raw(files: FileSet, way: _Way, context: Context, name: str) -> Subject:
    quiet = replace(context, warn=lambda text: None)  # the findings say the same
    if not files.photos:
        raise DataError(f"There is no image in {files.root}.", "Give the folder that holds both images and labels.")
    try:
        dataset, read, account = _import_leniently(files, way, quiet)
    except DataError as error:
        return _without_labels(files, error, name)
    others = [
        Item(detail=f"{other}: {evidence.reason}")
        for other in formats.names()
        if other not in read and (evidence := formats.load(other).detect(files))
    ]
    found = [finding("labels_other_format", others)] if others else []
    return Subject(f"{name} ({', '.join(read)})", _with_hashes(dataset, files.root), files.root, account.entries, found)


def _import_leniently(files: FileSet, way: _Way, context: Context) -> tuple[Dataset, list[str], Ledger]:
    """The data set, the formats read, and the ledger; where single label files cannot be parsed, without their images."""
    try:
        return _import(files, way, context)
    except DataError:
        return _import(files, replace(way, policies=[replace(policy, on_invalid="drop") for policy in way.policies]), context)


def _import(files: FileSet, way: _Way, context: Context) -> tuple[Dataset, list[str], Ledger]:
    account = Ledger()
    imported = import_sources(files, way.policies, account, context, way.origins)
    parts = [part.dataset for part in imported]
    dataset = parts[0] if way.classes is None else merge(parts, way.classes, account)
    return dataset, list(dict.fromkeys(part.format for part in imported)), account


def _without_labels(files: FileSet, error: DataError, name: str) -> Subject:
    """The images, of which nothing is known as the labels cannot be read; and the links, which may be the reason."""
    account = Ledger()
    note_links(files, account)
    items = [Item(detail=problem) for problem in error.problems]
    told = f"{error.message.removesuffix('.')}. {' '.join(error.hint.split())}".rstrip()
    found = finding("labels_unusable", items, told, max(1, len(items)))
    dataset = _with_hashes(_images_only(files, account), files.root)
    return Subject(name, dataset, files.root, account.entries, [found], has_labels=False)


def _images_only(files: FileSet, account: Ledger) -> Dataset:
    """The images without any label; those that are none go to the ledger."""
    rows = []
    for path in files.photos:
        try:
            header = images.read_header(files.root / path)
        except UnreadableImage as error:
            account.add("image", "dropped", error.reason, path=path)
        else:
            rows.append({"path": path, "width": header.width, "height": header.height})
    return Dataset.from_rows((), rows, np.zeros((0, 6)))


def _with_hashes(dataset: Dataset, root: Path) -> Dataset:
    """The data set with the hash of each file that has none."""
    table = dataset.images
    unknown = table["hash"] == ""
    hashes = fingerprint.of_files(root / path for path in table["path"][unknown])
    filled: pd.DataFrame = table.assign(
        hash=table["hash"].mask(unknown, pd.Series(hashes, index=table.index[unknown], dtype=str))
    )
    return Dataset(dataset.class_names, filled, dataset.boxes)
