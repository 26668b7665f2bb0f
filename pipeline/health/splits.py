"""Whether the sides of a split are apart, and alike: leakage, missing classes, and drift.

Leakage makes figures too good. Drift (val or test hold other things than train) makes them say little. A drift is told when it
is both large and no accident: the total variation distance of the two distributions, which is the share of boxes or images that
would have to be exchanged to make them equal, must reach `DRIFT`, and it must exceed that of every one of `PERMUTATIONS` random
splits. The random splits exchange whole groups, because boxes of one image and frames of one video are not independent: a test
that takes them for independent calls nearly every split of a video data set a drift.

Source: permutation tests, P. Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 2005, chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset
from pipeline.health.duplicates import DISTANCE, MOST_COMPARED, copies
from pipeline.health.findings import MOST_ITEMS, Finding, Item, finding
from pipeline.health.labels import relative_side
from pipeline.neighbours import parse, twins

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DRIFT = 0.15
"""Total variation distance: less than one box in seven is where splits of real data sets lie that nobody would call different."""
PERMUTATIONS = 199
"""With none of them as far apart, p is at most 0.005: 3 distributions on 2 sides then raise a false alarm in 3 % of data sets."""

SIZE_LIMITS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
SIZE_NAMES = ("under 1/64", "1/64 to 1/32", "1/32 to 1/16", "1/16 to 1/8", "1/8 to 1/4", "1/4 to 1/2", "over 1/2")
GREY_LIMITS = tuple(range(32, 256, 32))
GREY_NAMES = tuple(f"{low} to {low + 31}" for low in range(0, 256, 32))


def check(
    dataset: Dataset, hashes: Sequence[str], brightness: Sequence[float], alike: Ints | None, distance: int = DISTANCE
) -> list[Finding]:
    """Everything about the sides; nothing when there are fewer than two.

    Args:
        hashes: `images.dhash` of each image, "" where it is not known.
        alike: what `duplicates.look_alikes` makes of them, by the same `distance`.
        brightness: mean grey level of each image, NaN where it is not known.
    """
    sides = dataset.images["split"].to_numpy()
    if len(set(sides) - {""}) < 2:
        return []
    near = _near_leaks(dataset, hashes, alike, distance)
    found = [*_leaks(dataset), near, _missing_classes(dataset), *_drifts(dataset, brightness)]
    return [one for one in found if one.count]


# ---------------------------------------------------------------- leakage


def _leaks(dataset: Dataset) -> Iterator[Finding]:
    images = dataset.images
    paths, sides = images["path"].to_numpy(), images["split"].to_numpy()
    told: set[int] = set()
    items = []
    for rows in copies(dataset):
        items += _across(rows, paths, sides)
        told.update(rows)
    yield finding("leak_duplicate", items)
    items = []
    placed = images[images["split"] != ""].drop(index=list(told), errors="ignore")
    for column in ("source_id", "group_id"):
        counts = placed.groupby(column)["split"].nunique()
        straddling = placed[placed[column].isin(counts[counts > 1].index) & ~placed.index.isin(told)]
        for name, members in straddling.groupby(column, sort=False):
            items += [
                Item(item.path, other=item.other, detail=f"{item.detail}, of '{name}'")
                for item in _across(members.index.tolist(), paths, sides)
            ]
            told.update(members.index.tolist())
    yield finding("leak_group", items)


def _across(rows: Sequence[int], paths: NDArray[np.object_], sides: NDArray[np.object_]) -> list[Item]:
    """An item for each of the rows that is not on the side of the earliest of train, val and test among them."""
    placed = sorted((SPLITS.index(sides[row]), row) for row in rows if sides[row])
    if not placed:
        return []
    first = placed[0][1]
    others = (row for _, row in placed if sides[row] != sides[first])
    return [Item(paths[row], other=paths[first], detail=f"{sides[row]} and {sides[first]}") for row in others]


def _near_leaks(dataset: Dataset, hashes: Sequence[str], alike: Ints | None, distance: int) -> Finding:
    """Images of val and test that look like one on an earlier side; not those that `_leaks` tells of."""
    images = dataset.images
    known = np.flatnonzero([bool(text) and bool(side) for text, side in zip(hashes, images["split"], strict=True)])
    if not 0 < len(known) <= MOST_COMPARED:
        return finding("leak_near_duplicate", [])
    side = np.array([SPLITS.index(name) for name in images["split"].iloc[known]])
    if alike is not None:  # near images are in one chain: only those that lie on two sides need be compared
        crosses = pd.Series(side).groupby(alike[known]).transform("nunique").to_numpy() > 1
        known, side = known[crosses], side[crosses]
    unhashed = images["path"].where(images["hash"] == "", images["hash"])
    kin = [pd.factorize(column.iloc[known])[0] for column in (unhashed, images["source_id"], images["group_id"])]
    twin = twins(parse([hashes[row] for row in known.tolist()]), side, kin, distance)
    found = np.flatnonzero(twin >= 0)
    pairs = np.stack([known[found], known[twin[found]]], axis=1).tolist()
    paths, names = images["path"].to_numpy(), images["split"].to_numpy()
    items = [Item(paths[a], other=paths[b], detail=f"{names[a]} and {names[b]}") for a, b in pairs[:MOST_ITEMS]]
    held_out = int((images["split"].isin(SPLITS[1:])).sum())
    return finding("leak_near_duplicate", items, f"{len(pairs)} of {held_out} images of val and test", len(pairs))


# ---------------------------------------------------------------- what each side holds


def _missing_classes(dataset: Dataset) -> Finding:
    side = dataset.images["split"].to_numpy()[dataset.boxes["image"].to_numpy()]
    class_id = dataset.boxes["class_id"].to_numpy()
    present = set(class_id.tolist())
    items = []
    for name in SPLITS:
        if (dataset.images["split"] == name).any():
            missing = sorted(present - set(class_id[side == name].tolist()))
            items += [Item(detail=f"{name} has no {dataset.class_names[k]}") for k in missing]
    return finding("split_class_missing", items)


@dataclass(frozen=True)
class Histogram:
    """What is compared: counts of each unit (the images of one group on one side), (units, bins), and the unit's side, (units,).

    Attributes:
        names: of the bins.
        what: what is counted, for a reader.
    """

    counts: Floats
    side: Ints
    names: Sequence[str]
    what: str


def histograms(dataset: Dataset, brightness: Sequence[float]) -> dict[str, Histogram]:
    """The three distributions that are compared, by the code of their drift."""
    images = dataset.images
    placed = images["split"].isin(SPLITS).to_numpy()
    unit = images.groupby(["group_id", "split"], sort=False).ngroup().to_numpy()
    units = int(unit.max()) + 1 if len(unit) else 0
    side = np.full(units, -1)
    side[unit[placed]] = [SPLITS.index(name) for name in images["split"][placed]]
    of_box = unit[dataset.boxes["image"].to_numpy()]
    grey = np.array(brightness, dtype=np.float64)
    seen = np.isfinite(grey)
    return {
        "drift_classes": Histogram(
            _count(of_box, dataset.boxes["class_id"].to_numpy(), units, len(dataset.class_names)),
            side,
            dataset.class_names,
            "boxes",
        ),
        "drift_box_sizes": Histogram(
            _count(of_box, np.digitize(relative_side(dataset), SIZE_LIMITS), units, len(SIZE_NAMES)), side, SIZE_NAMES, "boxes"
        ),
        "drift_brightness": Histogram(
            _count(unit[seen], np.digitize(grey[seen], GREY_LIMITS), units, len(GREY_NAMES)), side, GREY_NAMES, "images"
        ),
    }


def _count(row: Ints, column: Ints, rows: int, columns: int) -> Floats:
    table = np.zeros((rows, columns))
    np.add.at(table, (row, column), 1)
    return table


def _drifts(dataset: Dataset, brightness: Sequence[float]) -> Iterator[Finding]:
    for code, histogram in histograms(dataset, brightness).items():
        found = ((number, name, drift(histogram, number)) for number, name in enumerate(SPLITS) if number)
        items = [
            Item(detail=_tell(histogram, number, name, distance)) for number, name, distance in found if distance is not None
        ]
        yield finding(code, items)


def drift(histogram: Histogram, number: int, seed: int = 0) -> float | None:
    """The total variation distance of side `number` from train, where it is a drift (see the module); else None."""
    chosen = ((histogram.side == 0) | (histogram.side == number)) & (histogram.counts.sum(axis=1) > 0)
    counts, is_other = histogram.counts[chosen], histogram.side[chosen] == number
    if not is_other.any() or is_other.all():
        return None
    distance = _distance(counts, is_other)
    if distance < DRIFT:
        return None
    rng = np.random.default_rng(seed)
    chance = (_distance(counts, rng.permutation(is_other)) for _ in range(PERMUTATIONS))
    return None if any(other >= distance for other in chance) else distance


def _distance(counts: Floats, is_other: NDArray[np.bool_]) -> float:
    other, total = counts[is_other].sum(axis=0), counts.sum(axis=0)
    one = total - other
    return float(np.abs(other / other.sum() - one / one.sum()).sum() / 2)


def shares(histogram: Histogram) -> dict[str, Floats]:
    """The distribution of each side that has anything: side → (bins,), sums to 1."""
    sums = {name: histogram.counts[histogram.side == number].sum(axis=0) for number, name in enumerate(SPLITS)}
    return {name: total / total.sum() for name, total in sums.items() if total.sum()}


def _tell(histogram: Histogram, number: int, name: str, distance: float) -> str:
    share = shares(histogram)
    there, here = share[SPLITS[number]], share["train"]
    most = int(np.argmax(np.abs(there - here)))
    compared = f"{there[most]:.0%} of {histogram.what} of {name} are {histogram.names[most]}, {here[most]:.0%} of train's"
    return f"{compared}; distance {distance:.2f}"
