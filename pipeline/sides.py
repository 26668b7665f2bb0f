"""What the sides of a split must hold, so that a model can be trained and measured, and what they share though they should not.

Checked when the split is made: training and evaluation would find out only after the work of hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset
from pipeline.errors import DataError
from pipeline.splitting import group_images
from pipeline.wording import listed, plural

TRAINED_WITH = ("train", "val")
"""Sides without which nothing can be trained: val picks the best epoch."""


class Rules(Protocol):
    """What is read of the split stage's params."""

    @property
    def fractions(self) -> Any: ...
    @property
    def group_by(self) -> Sequence[str]: ...
    @property
    def group_pattern(self) -> str: ...
    @property
    def duplicate_distance(self) -> int: ...


def require(dataset: Dataset, groups: NDArray[np.int64], sides: Sequence[str], rules: Rules, *, has_given: bool) -> None:
    """Refuse a split that no model can be trained on: no images, or of a labelled data set none with boxes, in train or val.

    A test side may have no boxes, and a given split may have none: evaluate and export then measure on val, and say so.

    Args:
        groups: group of each image, (N,).
        sides: side of each image.
        has_given: the labels brought a split, at least of some images, and it was kept.

    Raises:
        DataError: names what is missing and the settings that would help; each of them was tried on the data.
    """
    wanted = [side for side in SPLITS if getattr(rules.fractions, side) > 0]
    labelled = np.unique(dataset.boxes["image"].to_numpy())
    empty = [side for side in wanted if side not in sides and not (has_given and side == "test")]
    bare = [side for side in TRAINED_WITH if len(labelled) and side not in np.array(sides)[labelled]]
    if not empty and not bare:
        return
    if has_given:
        kind = "image" if empty else "image with boxes"
        message = f"The given split has no {kind} in {listed(empty or bare, 'or')}, and nothing can be trained without."
    else:
        groups_there = f"{plural(len(groups), 'image')} in {plural(len(np.unique(groups)), 'group')}"
        what = groups_there if empty else "Only 1 group of images has boxes"
        message = f"{what}: images of one group stay together, and {listed(wanted if empty else TRAINED_WITH)} need one each."
    more = f"{'Collect' if empty else 'Label'} more images"
    ways = list(_ways_out(dataset, groups, rules, wanted, has_given))
    raise DataError(message, f"{more}, or set {'; or '.join(ways)}." if ways else f"{more}.")


def _ways_out(dataset: Dataset, groups: NDArray[np.int64], rules: Rules, wanted: Sequence[str], has_given: bool) -> Iterator[str]:
    """Settings under which every side gets what it needs, the most honest first."""
    labelled = np.unique(dataset.boxes["image"].to_numpy())

    def suffices(names: NDArray[np.int64], sides: Sequence[str]) -> bool:
        has_boxes = not len(labelled) or len(np.unique(names[labelled])) >= len(TRAINED_WITH)
        return has_boxes and len(np.unique(names)) >= len(sides)

    if has_given and suffices(groups, wanted):
        yield "`split.given: ignore` (splits anew)"
        return
    anew = "`split.given: ignore` and " if has_given else ""
    if suffices(groups, TRAINED_WITH):
        yield f"{anew}`split.fractions: {{train: 0.7, val: 0.3, test: 0}}` (evaluate and export then measure on val)"
    flatters = "which flatters the figures"
    if "duplicates" in rules.group_by and suffices(group_images(dataset, rules.group_by, rules.group_pattern, 0), wanted):
        yield f"{anew}`split.duplicate_distance: 0` (images that look alike, but not wholly, are then parted, {flatters})"
    elif rules.group_by and suffices(group_images(dataset, [], rules.group_pattern, 0), wanted):
        yield f"{anew}`split.group_by: []` (nothing is then kept together, {flatters})"


def shared(groups: NDArray[np.int64], sides: Sequence[str]) -> dict[str, int]:
    """How many images of val have others of their group in train, and of test in train or val; only sides that have any.

    What test shares makes its figures too good; what val shares with train makes the choice of the best epoch too optimistic.

    Args:
        groups: group of each image, (N,).
        sides: side of each image, one of `SPLITS`.
    """
    rank = np.array([SPLITS.index(side) for side in sides], dtype=np.int64)
    _, group = np.unique(groups, return_inverse=True)
    first = np.full(len(rank), len(SPLITS))
    np.minimum.at(first, group, rank)
    counts = {side: int(((rank == number) & (first[group] < number)).sum()) for number, side in enumerate(SPLITS)}
    return {side: count for side, count in counts.items() if count}


def without_boxes(dataset: Dataset, sides: Sequence[str]) -> list[str]:
    """The sides that have images, but none with boxes."""
    labelled = set(np.array(sides)[np.unique(dataset.boxes["image"].to_numpy())])
    return [side for side in SPLITS if side in sides and side not in labelled]
