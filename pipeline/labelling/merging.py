"""Several sources of labels become one data set: each read by its own rules, then put together by file and by class name.

Files keep their paths below the common root, so that equal names in two folders stay two images. An image that two sources label
has the boxes of both, once each. Classes are those of all sources, by name, in the order of their first mention.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.dataset import EDGES, Dataset
from pipeline.errors import DataError
from pipeline.formats import NoLabels
from pipeline.labelling.classes import Classes, map_classes
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.importing import NONE, Imported, import_files
from pipeline.ledger import Ledger
from pipeline.stage import Context

if TYPE_CHECKING:
    import pandas as pd


def import_sources(
    files: FileSet,
    policies: Sequence[Policy],
    ledger: Ledger,
    context: Context,
    origins: Mapping[str, Mapping[str, object]] | None = None,
) -> list[Imported]:
    """Read every source, one policy each; arguments as in `import_files`. One of several may be images alone.

    Raises:
        DataError: what `import_files` raises, of all sources at once.
    """
    note_links(files, ledger)
    imported: list[Imported] = []
    errors: dict[str, DataError] = {}
    bare: list[Policy] = []
    for policy in policies:
        try:
            with _no_garbage_collection():
                imported.append(import_files(files, policy, ledger, context, origins))
        except NoLabels as error:
            if len(policies) == 1:
                raise
            errors[policy.folder] = error
            bare.append(policy)
        except DataError as error:
            if len(policies) == 1:
                raise
            errors[policy.folder] = error
    if len(bare) == len(errors) < len(policies):  # photos to label later, or of nothing: beside labelled ones both make sense
        imported += [import_files(files, replace(policy, format=NONE), ledger, context, origins) for policy in bare]
    elif errors:
        problems = [f"{folder}: {problem}" for folder, error in errors.items() for problem in (error.message, *error.problems)]
        hints = dict.fromkeys(error.hint for error in errors.values() if error.hint)
        raise DataError(f"{len(errors)} of {len(policies)} sources cannot be read", "\n".join(hints), problems)
    return imported


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Records of images and boxes are many and refer to nothing: looking for cycles among them takes a tenth of an import."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def note_links(files: FileSet, ledger: Ledger) -> None:
    """The links of a tree that are not followed."""
    for path in files.unfollowed:
        ledger.add("file", "dropped", "link_not_followed", path=path)


def merge(parts: Sequence[Dataset], classes: Classes, ledger: Ledger) -> Dataset:
    """One data set of all parts; `classes` is the user's wish on the classes that result."""
    import pandas as pd

    names = list(dict.fromkeys(name for part in parts for name in part.class_names))
    images = pd.concat([part.images for part in parts]).drop_duplicates("path", ignore_index=True)
    images = images.assign(split=_splits(images["path"], parts, ledger))
    boxes = _boxes(images["path"], names, parts)
    boxes = _without(boxes, boxes.duplicated().to_numpy(), "in_two_sources", images, names, ledger)
    result, positions = map_classes(names, classes)
    position = np.array(positions, dtype=np.int64)
    boxes = _without(boxes, position[boxes["class_id"].to_numpy()] < 0, "class_dropped", images, names, ledger)
    _forget_what_others_label(set(images["path"].iloc[boxes["image"].unique()]), set(images["path"]), ledger)
    return Dataset(result, images, boxes.assign(class_id=position[boxes["class_id"].to_numpy()]))


def _splits(paths: pd.Series, parts: Sequence[Dataset], ledger: Ledger) -> list[str]:
    said: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        for path, split in part.image_rows("path", "split"):
            said[path] |= {split} - {""}
    for path, splits in said.items():
        if len(splits) > 1:
            detail = f"{' and '.join(sorted(splits))}: it counts as being in none"
            ledger.add("image", "kept", "overlapping_splits", path=path, detail=detail)
    return [next(iter(said[path])) if len(said[path]) == 1 else "" for path in paths]


def _boxes(paths: pd.Series, names: Sequence[str], parts: Sequence[Dataset]) -> pd.DataFrame:
    """The boxes of all parts, with image numbers and class ids of the whole."""
    import pandas as pd

    number_of = {path: number for number, path in enumerate(paths)}
    class_of = {name: number for number, name in enumerate(names)}
    tables = []
    for part in parts:
        images = np.array([number_of[path] for path in part.paths], dtype=np.int64)
        classes = np.array([class_of[name] for name in part.class_names], dtype=np.int64)
        columns = {"image": images[part.boxes["image"].to_numpy()], "class_id": classes[part.boxes["class_id"].to_numpy()]}
        tables.append(part.boxes.assign(**columns))
    return pd.concat(tables, ignore_index=True)


def _without(
    boxes: pd.DataFrame, bad: np.ndarray, reason: str, images: pd.DataFrame, names: Sequence[str], ledger: Ledger
) -> pd.DataFrame:
    for row in boxes[bad].to_dict("records"):
        detail = f"{names[row['class_id']]} {', '.join(f'{row[edge]:.6g}' for edge in EDGES)}"
        ledger.add("box", "dropped", reason, path=images["path"].iloc[row["image"]], detail=detail)
    return boxes[~bad]


def _forget_what_others_label(labelled: set[str], kept: set[str], ledger: Ledger) -> None:
    """An image is not without labels because one of several sources has none for it."""
    ledger.entries[:] = [
        entry
        for entry in ledger.entries
        if entry.reason != "no_label_file" or entry.path not in (labelled if entry.action == "kept" else kept)
    ]
