"""Which images must stay together, and which side of the split each such group goes to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from blake3 import blake3
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset
from pipeline.ledger import Ledger
from pipeline.neighbours import components, look_alikes


class Rules(Protocol):
    """What `divide` reads of the split stage's params."""

    @property
    def fractions(self) -> Any: ...
    @property
    def given(self) -> str: ...
    @property
    def seed(self) -> int: ...


def group_images(
    dataset: Dataset, by: Sequence[str], pattern: str, distance: int, alike: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The group of each image, (N,): the smallest image number in it.

    Two images are in one group when any criterion in `by` joins them: "source" (same `group_id`: a video, burst or scene that
    the source knows of), "folder" (same folder), "duplicates" (same bytes, or perceptual hashes within `distance`).
    `pattern` is a regular expression searched in the path; images with the same first group belong together (with the same whole
    match, where the expression has no group or the group matched nothing). `alike` is what `look_alikes` makes of the hashes, if
    that is known.
    """
    images = dataset.images
    keys: list[pd.Series] = []
    if "source" in by:
        keys.append(images["group_id"])
    if "folder" in by:
        keys.append(images["path"].str.rpartition("/")[0])
    if "duplicates" in by:
        keys.append(images["hash"].where(images["hash"] != "", images["path"]))
    if pattern:
        keys.append(_matches(images["path"], pattern))
    if "duplicates" in by:
        looks = look_alikes(images["dhash"].tolist(), distance) if alike is None else alike
        keys.append(pd.Series(np.where(looks < 0, np.arange(len(images)), looks)))
    pairs = [_chain(key) for key in keys]
    return components(len(images), np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64))


def _matches(paths: pd.Series, pattern: str) -> pd.Series:
    expression = re.compile(pattern)

    def key(path: str) -> str:
        match = expression.search(path)
        if match is None:
            return path
        return "\0" + (match[0] if not expression.groups or match[1] is None else match[1])

    return paths.map(key)


def _chain(key: pd.Series) -> NDArray[np.int64]:
    """Pairs that connect all rows with an equal key: each row with the next one of the same key."""
    frame = pd.DataFrame({"key": key.to_numpy(), "row": np.arange(len(key))}).sort_values(["key", "row"], kind="stable")
    rows, keys = frame["row"].to_numpy(), frame["key"].to_numpy()
    same = keys[1:] == keys[:-1]
    return np.stack([rows[:-1][same], rows[1:][same]], axis=1).astype(np.int64)


def assign(
    dataset: Dataset,
    groups: NDArray[np.int64],
    fixed: Mapping[int, str],
    fractions: Mapping[str, float],
    seed: int,
    given: Set[int] = frozenset(),
) -> dict[int, str]:
    """A side for every group, so that each side gets its fraction of the images and of every class's boxes.

    Iterative stratification: the class with the fewest boxes left is served first; its groups go, largest first, to the side that
    still wants most of that class. Ties are settled by a hash of the seed and the group, never by file order. With few groups a
    side may be left without any, or without any that has boxes; it then gets one from the side that has most, if one can be
    spared.

    Args:
        groups: group of each image, (N,).
        fixed: sides that are settled already (a given split, or the version before).
        fractions: side → fraction; sides with 0 get nothing.
        given: those of `fixed` that the labels settled; they stay where they are, the others may go to a side that lacks one.

    Source: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011, applied to groups.
    """
    sides = [side for side in SPLITS if fractions.get(side, 0) > 0]
    names = np.unique(groups)
    contents = _contents(dataset, groups, names)
    row_of = {int(name): row for row, name in enumerate(names)}
    wanted = {side: contents.sum(axis=0) * fractions[side] for side in sides}
    for name, side in fixed.items():
        if side in wanted:
            wanted[side] -= contents[row_of[name]]
    result = dict(fixed)
    sources = dataset.images["source_id"].to_numpy()
    ticket = {name: blake3(f"{seed} {sources[name]}".encode()).digest() for name in row_of}
    free = np.array([name not in fixed for name in row_of])
    while free.any():
        left = contents[free].sum(axis=0)
        classes = np.flatnonzero(left[:-1] > 0)
        # Groups without any box left are spread by their number of images, which is the last column.
        column = int(classes[np.argmin(left[classes])]) if len(classes) else len(left) - 1
        holders = [int(names[row]) for row in np.flatnonzero(free & (contents[:, column] > 0))]
        for name in sorted(holders, key=lambda name: (-contents[row_of[name], column], ticket[name])):
            side = max(sides, key=lambda side: (wanted[side][column], wanted[side][-1], fractions[side]))
            result[name] = side
            wanted[side] -= contents[row_of[name]]
            free[row_of[name]] = False
    if len(given) < len(result):  # a split that the labels gave for all images is left as it is
        labelled = {name for name, row in row_of.items() if contents[row, :-1].any()}
        smallest = {name: (contents[row, -1], ticket[name]) for name, row in row_of.items()}
        for among in (labelled, result.keys()):
            _fill_sides(result, sides, among, labelled, result.keys() - given, fixed.keys(), smallest)
    return result


def _contents(dataset: Dataset, groups: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.float64]:
    """(groups, classes + 1): boxes of each class in each group, and in the last column its images."""
    table = np.zeros((len(names), len(dataset.class_names) + 1))
    row = np.searchsorted(names, groups)
    np.add.at(table[:, -1], row, 1)
    np.add.at(table, (row[dataset.boxes["image"].to_numpy()], dataset.boxes["class_id"].to_numpy()), 1)
    return table


def _fill_sides(
    result: dict[int, str],
    sides: Sequence[str],
    among: Set[int],
    labelled: Set[int],
    movable: Set[int],
    known: Set[int],
    smallest: Mapping[int, tuple[float, bytes]],
) -> None:
    """Each side that has none of the groups `among` takes the smallest of those that are `movable` on the side that has most.

    New groups go before those that are `known` from the version before. No side loses its last group, or its last one with boxes,
    to a side after it: without train and val there would be no model to test.
    """
    for number, side in enumerate(sides):
        count = Counter(result[name] for name in among)
        if count[side]:
            continue
        with_boxes = Counter(result[name] for name in labelled)
        after = set(sides[number + 1 :])
        spare = after | {other for other in sides if count[other] > 1}
        spare_with_boxes = after | {other for other in spare if with_boxes[other] > 1}
        free = [name for name in among & movable if result[name] in (spare_with_boxes if name in labelled else spare)]
        free = [name for name in free if name not in known] or free
        if free:
            result[min(free, key=lambda name: (-count[result[name]], smallest[name]))] = side


def divide(dataset: Dataset, groups: NDArray[np.int64], rules: Rules, previous: Path | None, ledger: Ledger) -> list[str]:
    """The side of each image, in row order.

    Sides are settled in this order: a given split (image by image, as it was given), the version before (group by group), and
    stratified assignment for what is left.

    Args:
        rules: the params of the split stage.
        previous: a split version whose sides are kept, or None.
        ledger: gets an entry for every image of a given split that leaks, and for every image that changes its side.
    """
    images = dataset.images
    given = said = images["split"].to_numpy() if rules.given == "keep" else np.full(len(images), "")
    fractions = {side: getattr(rules.fractions, side) for side in SPLITS}
    if "val" not in given and (given != "").all():
        given, fractions = _free_for_val(groups, given, fractions)
    before = _sides_before(previous) if previous is not None else {}
    carried = np.array([before.get(source, "") for source in images["source_id"]], dtype=object)
    by_labels = _majorities(groups, given)
    fixed = {**_majorities(groups, carried), **by_labels}
    sides = assign(dataset, groups, fixed, fractions, rules.seed, by_labels.keys())
    moved = {name for name, side in fixed.items() if sides[name] != side}
    result = [given[row] or sides[group] for row, group in enumerate(groups.tolist())]
    for row in np.flatnonzero((said != given) & (np.array(result) == "val")):
        ledger.add("image", "converted", "val_from_train", path=images["path"].iloc[row], detail="the given split has no val")
    _account(dataset, groups, result, carried.tolist(), moved, ledger)
    return result


def _free_for_val(
    groups: NDArray[np.int64], given: NDArray[Any], fractions: Mapping[str, float]
) -> tuple[NDArray[Any], dict[str, float]]:
    """A given split of train and test alone, as many published data sets have it: val is to come out of train.

    Groups that also have images in test stay in train, where they do no more harm than before.

    Returns:
        The sides that stay given, "" for the others, and the fractions of all images that these are for.
    """
    free = ~np.isin(groups, groups[given != "train"])
    left = np.where(free, "", given)
    settled = [name for name, side in _majorities(groups, left).items() if side == "train"]
    scale = free.mean() / (fractions["train"] + fractions["val"])
    train = scale * fractions["train"] + np.isin(groups, settled).mean()
    return left, {"train": float(train), "val": float(scale * fractions["val"]), "test": 0.0}


def group_sizes(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images in each group, in order of group name."""
    return np.unique(groups, return_counts=True)[1]


def _members(groups: NDArray[np.int64]) -> dict[int, list[int]]:
    """Rows of each group, in order."""
    members: dict[int, list[int]] = {}
    for row, name in enumerate(groups.tolist()):
        members.setdefault(name, []).append(row)
    return members


def _majorities(groups: NDArray[np.int64], sides: NDArray[Any]) -> dict[int, str]:
    """The most frequent side of each group's images that is not ""; of equals the earlier of train, val, test."""
    names, row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(SPLITS)), dtype=np.int64)
    for column, side in enumerate(SPLITS):
        np.add.at(counts[:, column], row[sides == side], 1)
    found = counts.any(axis=1)
    return {int(name): SPLITS[best] for name, best in zip(names[found], counts[found].argmax(axis=1).tolist(), strict=True)}


def _sides_before(previous: Path) -> dict[str, str]:
    images = Dataset.load(previous).images
    return dict(zip(images["source_id"], images["split"], strict=True))


def _account(
    dataset: Dataset, groups: NDArray[np.int64], sides: Sequence[str], before: Sequence[str], moved: Set[int], ledger: Ledger
) -> None:
    """Fill the ledger. `before`: side of each image in the version before, or ""; `moved`: groups that filled an empty side."""
    paths = dataset.images["path"].tolist()
    for name, rows in _members(groups).items():
        present = {sides[row] for row in rows}
        for row in rows:
            if len(present) > 1:
                detail = f"group of '{paths[name]}' lies in {' and '.join(sorted(present))}"
                ledger.add("image", "kept", "straddles_given_split", path=paths[row], detail=detail)
            if before[row] and before[row] != sides[row]:
                reason, why = (
                    ("filled_empty_side", "which was empty") if name in moved else ("changed_side", "because its group grew")
                )
                ledger.add("image", "kept", reason, path=paths[row], detail=f"{before[row]} → {sides[row]}, {why}")
