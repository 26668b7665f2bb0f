"""Which images must stay together, and which side of the split each such group goes to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from blake3 import blake3
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset
from pipeline.errors import DataError
from pipeline.ledger import Ledger
from pipeline.neighbours import as_integers, components, near_pairs


class Rules(Protocol):
    """What `divide` reads of the split stage's params."""

    @property
    def fractions(self) -> Any: ...
    @property
    def given(self) -> str: ...
    @property
    def seed(self) -> int: ...


def group_images(dataset: Dataset, by: Sequence[str], pattern: str, distance: int) -> NDArray[np.int64]:
    """The group of each image, (N,): the smallest image number in it.

    Two images are in one group when any criterion in `by` joins them: "source" (same `group_id`: a video, burst or scene that
    the source knows of), "folder" (same folder), "duplicates" (same bytes, or perceptual hashes within `distance` bits).
    `pattern` is a regular expression searched in the path; images with the same first group (or whole match) belong together.
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
    pairs = [_chain(key) for key in keys]
    if "duplicates" in by:
        known = np.flatnonzero((images["dhash"] != "").to_numpy())
        pairs.append(known[near_pairs(as_integers(images["dhash"].iloc[known].tolist()), distance)])
    return components(len(images), np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64))


def _matches(paths: pd.Series, pattern: str) -> pd.Series:
    expression = re.compile(pattern)

    def key(path: str) -> str:
        match = expression.search(path)
        return path if match is None else "\0" + (match[1] if expression.groups else match[0])

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
) -> dict[int, str]:
    """A side for every group, so that each side gets its fraction of the images and of every class's boxes.

    Iterative stratification: the class with the fewest boxes left is served first; its groups go, largest first, to the side that
    still wants most of that class. Ties are settled by a hash of the seed and the group, never by file order.

    Args:
        groups: group of each image, (N,).
        fixed: sides that are settled already (a given split, or the version before).
        fractions: side → fraction; sides with 0 get nothing.

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
    _fill_empty_sides(result, sides, set(fixed), {name: float(contents[row, -1]) for name, row in row_of.items()})
    return result


def _contents(dataset: Dataset, groups: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.float64]:
    """(groups, classes + 1): boxes of each class in each group, and in the last column its images."""
    table = np.zeros((len(names), len(dataset.class_names) + 1))
    row = np.searchsorted(names, groups)
    np.add.at(table[:, -1], row, 1)
    np.add.at(table, (row[dataset.boxes["image"].to_numpy()], dataset.boxes["class_id"].to_numpy()), 1)
    return table


def _fill_empty_sides(result: dict[int, str], sides: Sequence[str], fixed: set[int], image_counts: Mapping[int, float]) -> None:
    """A side that got nothing takes the smallest free group of the side that has most groups.

    A split that was given for all images is left as it is, also when it has no val or no test.
    """
    if len(fixed) == len(result):
        return
    for side in sides:
        if side in result.values():
            continue
        by_side = {other: [name for name, s in result.items() if s == other and name not in fixed] for other in sides}
        giver = max(by_side.values(), key=len)
        if len(giver) < 2:
            raise DataError(
                f"{len(result)} groups of images cannot be split into {', '.join(sides)}: '{side}' would be empty.",
                "Collect more images, set a fraction in split.fractions to 0, or group less strictly (split.group_by).",
            )
        result[min(giver, key=lambda name: (image_counts[name], name))] = side


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
    given = images["split"].to_numpy() if rules.given == "keep" else np.full(len(images), "")
    members = _members(groups)
    fixed = {name: _majority(given[rows]) for name, rows in members.items() if given[rows].astype(bool).any()}
    if previous is not None:
        before = _sides_before(previous)
        for name, rows in members.items():
            known = [before[path] for path in images["source_id"].iloc[rows] if path in before]
            if known and name not in fixed:
                fixed[name] = _majority(np.array(known))
    fractions = {side: getattr(rules.fractions, side) for side in SPLITS}
    sides = assign(dataset, groups, fixed, fractions, rules.seed)
    result = [given[row] or sides[int(group)] for row, group in enumerate(groups)]
    _account(dataset, groups, result, previous, ledger)
    return result


def group_sizes(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images in each group, in order of group name."""
    return np.unique(groups, return_counts=True)[1]


def _members(groups: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    return {int(name): rows for name, rows in zip(names, np.split(order, starts[1:]), strict=True)}


def _majority(sides: NDArray[Any]) -> str:
    """The most frequent side that is not ""; of equals the earlier of train, val, test."""
    counts = [int((sides == side).sum()) for side in SPLITS]
    return SPLITS[int(np.argmax(counts))]


def _sides_before(previous: Path) -> dict[str, str]:
    images = Dataset.load(previous).images
    return dict(zip(images["source_id"], images["split"], strict=True))


def _account(dataset: Dataset, groups: NDArray[np.int64], sides: Sequence[str], previous: Path | None, ledger: Ledger) -> None:
    paths, sources = dataset.images["path"].tolist(), dataset.images["source_id"].tolist()
    before = _sides_before(previous) if previous is not None else {}
    for name, rows in _members(groups).items():
        present = {sides[row] for row in rows}
        for row in rows:
            if len(present) > 1:
                detail = f"group of '{paths[name]}' lies in {' and '.join(sorted(present))}"
                ledger.add("image", "kept", "straddles_given_split", path=paths[row], detail=detail)
            if sources[row] in before and before[sources[row]] != sides[row]:
                detail = f"{before[sources[row]]} → {sides[row]}, because its group grew"
                ledger.add("image", "kept", "changed_side", path=paths[row], detail=detail)
