"""Images that are there twice, byte for byte or to the eye, and copies that were labelled differently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import neighbours
from pipeline.dataset import Dataset
from pipeline.health.findings import MOST_ITEMS, Finding, Item, finding
from pipeline.wording import plural

Ints = NDArray[np.int64]

MOST_COMPARED = 200_000
"""Images of which every pair is compared: it takes a minute or two, and four times as long for twice as many."""
DISTANCE = 6
"""Of 64 strong edges, how many may differ in near-duplicates: as `split.duplicate_distance` has it unless told."""


def look_alikes(hashes: Sequence[str], distance: int = DISTANCE) -> Ints | None:
    """The near-duplicates among all images, found once for all checks: a number for each image, (N,), equal for those of one
    chain; -1 where the hash is not known. None where there are too many to compare.

    Args:
        hashes: `images.dhash` of each image, "" where it is not known.
    """
    return None if sum(map(bool, hashes)) > MOST_COMPARED else neighbours.look_alikes(hashes, distance)


def check(dataset: Dataset, hashes: Sequence[str], alike: Ints | None, unlabelled: frozenset[str] = frozenset()) -> list[Finding]:
    """Duplicates on one side of the split, or where there is no split yet; `splits.check` tells of those across.

    Args:
        hashes: `images.dhash` of each image, "" where it is not known.
        alike: what `look_alikes` makes of them.
        unlabelled: paths, as they were imported, of images that no label mentions: they contradict no copy.
    """
    found = [*_exact(dataset, unlabelled), _near(dataset, hashes, alike)]
    return [one for one in found if one.count]


def copies(dataset: Dataset) -> list[list[int]]:
    """Rows of images with the same bytes, two or more; one for each original, of which tiles and augmented copies were made."""
    images = dataset.images
    known = images[images["hash"] != ""]
    twice = known[known["hash"].duplicated(keep=False)]
    groups = (rows.drop_duplicates("source_id").index.tolist() for _, rows in twice.groupby("hash", sort=False))
    return [rows for rows in groups if len(rows) > 1]


Signature = frozenset[tuple[float, ...]]


def signatures(dataset: Dataset, rows: Iterable[int], unlabelled: frozenset[str]) -> dict[int, Signature | None]:
    """What is labelled on each of the images, to a hundredth of a pixel: copies agree when it is the same.

    None where nobody has said anything: an image without boxes that no label mentions. One that is labelled as having no object
    has the empty set, and contradicts a copy with boxes.
    """
    boxes, sources = dataset.by_image(), dataset.images["source_id"].to_numpy()
    said: dict[int, Signature | None] = {}
    for row in rows:
        edges, class_ids = boxes[row]
        table = np.column_stack([class_ids, edges]).round(2) + 0.0
        is_silent = not len(table) and sources[row] in unlabelled
        said[row] = None if is_silent else frozenset(tuple(values) for values in table.tolist())
    return said


def _exact(dataset: Dataset, unlabelled: frozenset[str]) -> Iterator[Finding]:
    paths, sides = dataset.images["path"].to_numpy(), dataset.images["split"].to_numpy()
    groups = copies(dataset)
    said = signatures(dataset, (row for rows in groups for row in rows), unlabelled)
    same: list[Item] = []
    differing: list[Item] = []
    for rows in groups:
        first = next((row for row in rows if said[row] is not None), rows[0])
        labels = said[first] or frozenset()
        for row in rows:
            if row == first:
                continue
            its = said[row]
            if its is not None and its != labels:
                detail = f"{len(its)} and {plural(len(labels), 'box', 'boxes')}"
                differing.append(Item(paths[row], other=paths[first], detail=detail))
            elif sides[row] == sides[first]:
                same.append(Item(paths[row], other=paths[first]))
    yield finding("image_duplicate", same)
    yield finding("image_duplicate_labels", differing)


def _near(dataset: Dataset, hashes: Sequence[str], alike: Ints | None) -> Finding:
    """Images that look like another one of the same side; chains of them are one group, named by its first."""
    images = dataset.images
    if alike is None:
        return finding("near_unchecked", [], count=sum(bool(text) for text in hashes))
    known = np.flatnonzero(alike >= 0)
    if not len(known):
        return finding("image_near_duplicate", [])
    table = pd.DataFrame({"row": known, "group": alike[known], "side": images["split"].to_numpy()[known]})
    table["source"] = images["source_id"].to_numpy()[known]
    table["content"] = images["hash"].where(images["hash"] != "", images["path"]).to_numpy()[known]
    table = table.drop_duplicates(["group", "side", "source"]).drop_duplicates(["group", "side", "content"])
    chains = table.groupby(["group", "side"])
    table = table.assign(first=chains["row"].transform("first"), rank=chains.cumcount())
    later = table[table["row"] != table["first"]].sort_values(["rank", "row"])  # a pair of each group before the second of any
    pairs = later[["row", "first"]].to_numpy()
    paths = images["path"].to_numpy()
    groups = int(later.groupby(["group", "side"]).ngroups)
    detail = f"in {plural(groups, 'group')}" if len(pairs) else ""
    return finding("image_near_duplicate", [Item(paths[a], other=paths[b]) for a, b in pairs[:MOST_ITEMS]], detail, len(pairs))
