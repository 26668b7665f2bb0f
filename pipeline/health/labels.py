"""What the boxes of a data set show: doubles, boxes in boxes, odd sizes, rare classes, and the statistics of them.

Vector operations on the two tables of `Dataset`; a million boxes take seconds. No pixels are read.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, area
from pipeline.dataset import EDGES, Dataset
from pipeline.health.findings import MOST_ITEMS, Finding, Item, Mark, finding
from pipeline.wording import plural

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEAR_IDENTICAL_IOU = 0.9
"""Two objects of one class do not overlap so much in a picture: whoever labels would see only one of them."""
CONTAINED_SHARE = 0.95
"""Share of a box that lies in another; the rest is the tolerance of a hand that draws."""
TINY_PX = 3.0
"""Nobody can tell what is in a box of two pixels."""
GIANT_SHARE = 0.95
GIANT_IS_USUAL = 0.1
"""Where more than this share of all boxes is giant, close-ups are what the data set is about."""
UNLIKE_DEVIATIONS = 6.0
"""Robust standard deviations of the logarithm of size from the class's median, and at least by a factor of `UNLIKE_FACTOR`."""
UNLIKE_FACTOR = 2.0
UNLIKE_SHARE = 0.01
"""Where more boxes than this of a class lie out there, the class has two sizes (near and far), and they are no slips."""
UNLIKE_BOXES = 100
"""Of fewer boxes nobody knows what is usual."""
CROWD = 300
"""What detectors answer at most, unless told (`max_det` of ultralytics, and of evaluate)."""
FEW_IMAGES = 20
"""Of 20 images, a test side of 15 % gets three: a recall that is measured on three says nothing."""
MOST_NEIGHBOURS = 300
"""Boxes to the right, in the order of left edges, that each box is compared with; no picture that is labelled by hand has more
that overlap."""


def check(dataset: Dataset, invented: Collection[str] = ()) -> list[Finding]:
    """Everything that boxes and class names show; `invented` are names that stand for numbers which may mean nothing."""
    return [*boxes(dataset), *classes(dataset, invented), *statistics(dataset)]


@dataclass(frozen=True)
class Pairs:
    """Pairs of overlapping boxes of one image and class: rows of `dataset.boxes`, their IoU, and the share of the smaller box
    that lies in the larger; all (P,)."""

    first: Ints
    second: Ints
    iou: Floats
    share: Floats


def overlapping(dataset: Dataset) -> Pairs:
    """All pairs that overlap by `CONTAINED_SHARE` or `NEAR_IDENTICAL_IOU`.

    A sweep over the boxes in the order of their left edges: each is compared with the next one, the one after that, and so on as
    long as that begins before the box ends.
    """
    edges = dataset.boxes[EDGES].to_numpy()
    group = dataset.boxes["image"].to_numpy() * len(dataset.class_names) + dataset.boxes["class_id"].to_numpy()
    order = np.lexsort((edges[:, 0], group))
    edges, group, areas = edges[order], group[order], area(edges[order])
    parts: list[tuple[Ints, Ints, Floats, Floats]] = []
    waiting = np.arange(len(edges))
    for step in range(1, MOST_NEIGHBOURS + 1):
        waiting = waiting[waiting + step < len(edges)]
        after = waiting + step
        meets = (group[waiting] == group[after]) & (edges[after, 0] < edges[waiting, 2])
        waiting, after = waiting[meets], after[meets]
        if not len(waiting):
            break
        common = _intersection(edges[waiting], edges[after])
        smaller = np.minimum(areas[waiting], areas[after])
        share = np.divide(common, smaller, out=np.zeros_like(common), where=smaller > 0)
        union = areas[waiting] + areas[after] - common
        iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
        near = (share >= CONTAINED_SHARE) | (iou > NEAR_IDENTICAL_IOU)
        parts.append((order[waiting[near]], order[after[near]], iou[near], share[near]))
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    first, second, ious, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(first, second, ious, shares)


def _intersection(a: Boxes, b: Boxes) -> Floats:
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0))


def boxes(dataset: Dataset) -> list[Finding]:
    """Doubles, boxes in boxes, and boxes of an odd size."""
    edges = dataset.boxes[EDGES].to_numpy()
    pairs = overlapping(dataset)
    is_same = (edges[pairs.first] == edges[pairs.second]).all(axis=1)
    is_near = ~is_same & (pairs.iou > NEAR_IDENTICAL_IOU)
    is_inside = ~is_same & ~is_near
    found = [
        finding(code, _pair_items(dataset, pairs, chosen), count=int(chosen.sum()))
        for code, chosen in (("box_duplicate", is_same), ("box_near_identical", is_near), ("box_contained", is_inside))
    ]
    sizes = _image_sizes(dataset)
    width, height = edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1]
    is_empty = (width <= 0) | (height <= 0)
    is_tiny = ~is_empty & ((width < TINY_PX) | (height < TINY_PX))
    share = width * height / np.maximum(sizes.prod(axis=1), 1)
    is_giant = share >= GIANT_SHARE
    if is_giant.sum() > GIANT_IS_USUAL * len(edges):
        is_giant[:] = False
    slack = np.maximum(1.0, 1e-3 * sizes)
    beyond = (edges[:, :2] < -slack).any(axis=1) | (edges[:, 2:] > sizes + slack).any(axis=1)
    odd = {
        "box_zero_area": is_empty,
        "box_out_of_bounds": beyond,
        "box_tiny": is_tiny,
        "box_giant": is_giant,
        "box_unlike_class": unlike_class(dataset) & ~is_tiny & ~is_giant,
    }
    found += [finding(code, _box_items(dataset, np.flatnonzero(rows)), count=int(rows.sum())) for code, rows in odd.items()]
    found.append(_crowds(dataset))
    return [one for one in found if one.count]


def unlike_class(dataset: Dataset) -> NDArray[np.bool_]:
    """Boxes, (N,), of a size that sets them apart from their class: hardly any other of it is so large, or so small.

    The spread is the median absolute deviation, times 1.4826 to be a standard deviation (P. Rousseeuw, C. Croux, "Alternatives to
    the Median Absolute Deviation", 1993); single slips do not change it, however large they are.
    """
    size = np.log2(np.maximum(relative_side(dataset), 1e-9))
    class_id = dataset.boxes["class_id"].to_numpy()
    apart = np.zeros(len(size), dtype=bool)
    for number in np.flatnonzero(np.bincount(class_id) >= UNLIKE_BOXES).tolist():
        rows = np.flatnonzero(class_id == number)
        offset = size[rows] - np.median(size[rows])
        limit = max(UNLIKE_DEVIATIONS * 1.4826 * float(np.median(np.abs(offset))), float(np.log2(UNLIKE_FACTOR)))
        for beyond in (offset > limit, offset < -limit):
            if beyond.sum() <= UNLIKE_SHARE * len(rows):
                apart[rows[beyond]] = True
    return apart


def _image_sizes(dataset: Dataset) -> Floats:
    """(width, height) of the image of each box, (N, 2)."""
    sizes = dataset.images[["width", "height"]].to_numpy().astype(np.float64)
    return np.asarray(sizes[dataset.boxes["image"].to_numpy()])


def _box_items(dataset: Dataset, rows: Ints) -> list[Item]:
    shown = rows[:MOST_ITEMS]
    return [
        Item(path, detail=f"{mark.text} {_size_of(mark)}", marks=(mark,))
        for path, mark in zip(_paths(dataset, shown), _marks(dataset, shown), strict=True)
    ]


def _pair_items(dataset: Dataset, pairs: Pairs, chosen: NDArray[np.bool_]) -> list[Item]:
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(pairs.first[rows], kind="stable")][:MOST_ITEMS]
    first, second = pairs.first[rows], pairs.second[rows]
    columns = (_paths(dataset, first), _marks(dataset, first), _marks(dataset, second), pairs.iou[rows])
    return [
        Item(path, detail=f"{one.text} {_size_of(one)} and {_size_of(other)}, IoU {iou:.2f}", marks=(one, other))
        for path, one, other, iou in zip(*columns, strict=True)
    ]


def _paths(dataset: Dataset, rows: Ints) -> list[str]:
    return [str(path) for path in dataset.images["path"].to_numpy()[dataset.boxes["image"].to_numpy()[rows]]]


def _marks(dataset: Dataset, rows: Ints) -> list[Mark]:
    edges = dataset.boxes[EDGES].to_numpy()[rows].tolist()
    class_ids = dataset.boxes["class_id"].to_numpy()[rows].tolist()
    return [Mark((e[0], e[1], e[2], e[3]), dataset.class_names[k]) for e, k in zip(edges, class_ids, strict=True)]


def _size_of(mark: Mark) -> str:
    return f"{mark.box[2] - mark.box[0]:.1f} x {mark.box[3] - mark.box[1]:.1f} px"


def _crowds(dataset: Dataset) -> Finding:
    per_image = np.bincount(dataset.boxes["image"].to_numpy(), minlength=len(dataset.images))
    crowded = np.flatnonzero(per_image > CROWD)
    crowded = crowded[np.argsort(-per_image[crowded], kind="stable")]
    paths = dataset.images["path"].to_numpy()
    return finding("image_crowded", [Item(paths[row], detail=f"{per_image[row]} boxes") for row in crowded.tolist()])


def classes(dataset: Dataset, invented: Collection[str] = ()) -> list[Finding]:
    """Classes without boxes, rare ones, and names that are spelled nearly alike."""
    names = dataset.class_names
    pairs = np.unique(dataset.boxes[["class_id", "image"]].to_numpy(), axis=0)
    images_of = np.bincount(pairs[:, 0], minlength=len(names)).tolist()
    boxes_of = list(dataset.boxes_per_class().values())
    columns = list(zip(names, images_of, boxes_of, strict=True))
    empty = [Item(detail=name) for name, _, boxes in columns if not boxes and name not in invented]
    rare = [
        Item(detail=f"{name}: {plural(boxes, 'box', 'boxes')} in {plural(images, 'image')}")
        for name, images, boxes in columns
        if 0 < images < FEW_IMAGES
    ]
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())].append(name)
    alike = [Item(detail=" = ".join(f"'{name}'" for name in same)) for same in spellings.values() if len(same) > 1]
    found = [finding("class_empty", empty), finding("class_rare", rare), finding("class_names_alike", alike)]
    return [one for one in found if one.count]


# ---------------------------------------------------------------- statistics


def statistics(dataset: Dataset) -> list[Finding]:
    """How the boxes are spread over classes, images, sizes, shapes and places; nothing where there is no box."""
    if not len(dataset.boxes):
        return []
    return [finding(code, [], detail, count=len(dataset.boxes)) for code, detail in _statistics(dataset)]


def _statistics(dataset: Dataset) -> Iterator[tuple[str, str]]:
    total = len(dataset.boxes)
    counts = np.bincount(dataset.boxes["class_id"].to_numpy(), minlength=len(dataset.class_names))
    order = np.argsort(-counts, kind="stable")
    listed = [f"{dataset.class_names[k]} {counts[k]:,} ({counts[k] / total:.0%})" for k in order[:10].tolist()]
    yield "class_balance", ", ".join(listed) + (f" and {len(counts) - 10} more classes" if len(counts) > 10 else "")
    per_image = np.bincount(dataset.boxes["image"].to_numpy(), minlength=len(dataset.images))
    yield "boxes_per_image", f"{_spread(per_image)}; {int((per_image == 0).sum())} of {len(per_image)} images have none"
    side = relative_side(dataset)
    small = float((side * 640 < 16).mean())
    yield "box_sizes", f"side as a share of the image's: {_spread(side)}; {small:.0%} would be under 16 px at 640 px"
    edges = dataset.boxes[EDGES].to_numpy()
    ratio = np.maximum(edges[:, 2] - edges[:, 0], 1e-9) / np.maximum(edges[:, 3] - edges[:, 1], 1e-9)
    yield "box_shapes", f"width over height: {_spread(ratio)}"
    centers = (edges[:, :2] + edges[:, 2:]) / 2 / np.maximum(_image_sizes(dataset), 1)
    cells = np.minimum((centers * 3).astype(int), 2)
    middle = float((cells == 1).all(axis=1).mean())
    yield "box_positions", f"{middle:.0%} of the centres lie in the middle ninth of the image"


def relative_side(dataset: Dataset) -> Floats:
    """Square root of box area over image area, (N,): how large a box is, whatever the size of the image."""
    areas = area(dataset.boxes[EDGES].to_numpy())
    return np.asarray(np.sqrt(areas / np.maximum(_image_sizes(dataset).prod(axis=1), 1)))


def _spread(values: NDArray[np.generic] | Sequence[float]) -> str:
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [5, 50, 95])
    return f"median {middle:.3g}, nine of ten between {low:.3g} and {high:.3g}"
