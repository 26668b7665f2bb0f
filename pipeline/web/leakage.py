"""The part of the page about leakage: whether val and test are new to the sides before them, by the finished artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import SPLITS, Dataset
from pipeline.health.duplicates import DISTANCE
from pipeline.neighbours import parse, twins
from pipeline.web.artifacts import Artifact, as_dict

JSON = dict[str, Any]

EXAMPLES = 3
MOST_COMPARED = 20_000
"""Images among which every pair is compared for near-duplicates; beyond it the check would take longer than it is worth."""

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def part(artifacts: Mapping[str, Artifact]) -> JSON | None:
    """Everything the template shows; None where the split cannot be read. See `_held_out` for the rows of that name."""
    split, augment = artifacts["split"], artifacts["augment"].dataset
    if split.dataset is None:
        return None
    images = split.dataset.images
    sizes = images["group_id"].value_counts()
    distance = int(split.params.get("duplicate_distance") or 0)
    held_out = _held_out(images, augment, distance)
    return {
        "groups": len(sizes),
        "joined_groups": int((sizes > 1).sum()),
        "joined_images": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max()) if len(sizes) else 0,
        "group_by": split.params.get("group_by") or [],
        "given": as_dict(artifacts["annotate"].summary.get("splits")) if split.params.get("given") == "keep" else {},
        "distance": distance,
        "held_out": held_out,
        "into": [row["side"] for row in held_out if row["leaking"] or row["augmented"]],
        "augment_known": augment is not None,
        "continues": split.summary.get("continues") or "",
    }


def _held_out(images: pd.DataFrame, augment: Dataset | None, distance: int) -> list[JSON]:
    """A row for val and for test, with how many of its images are not new to a side `before` it.

    `shared`: others of their group lie there; `near`: a near-duplicate does, by the split's own `distance`; `leaking`: either.
    `alike`: not leaking, but near by the default distance, where the split's is lower. `near` and `alike` are None where there
    are too many images to compare. `augmented`: training images that were made from images of the side.
    """
    order = {side: rank for rank, side in enumerate(SPLITS)}
    rank: Ints = np.array([order.get(side, len(SPLITS)) for side in images["split"]], dtype=np.int64)
    first = pd.Series(rank).groupby(images["group_id"].to_numpy()).transform("min").to_numpy()
    near = _resembles_one_before(images, rank, distance)
    alike = _resembles_one_before(images, rank, DISTANCE) if distance < DISTANCE else near
    training = augment.images["source_id"][augment.images["split"] == "train"] if augment is not None else images["source_id"][:0]
    rows: list[JSON] = []
    for side in SPLITS[1:]:
        here = rank == order[side]
        shared = here & (first < order[side])
        leaking = shared if near is None else shared | (here & near)
        row: JSON = {
            "side": side,
            "before": " or ".join(SPLITS[: order[side]]),
            "images": int(here.sum()),
            "shared": int(shared.sum()),
            "near": None if near is None else int((here & near).sum()),
            "leaking": int(leaking.sum()),
            "alike": None if alike is None else int((here & alike & ~leaking).sum()),
            "augmented": int(training.isin(set(images["source_id"][here])).sum()),
            "examples": images["path"][leaking].head(EXAMPLES).tolist(),
        }
        rows += [row] if row["images"] else []
    return rows


def _resembles_one_before(images: pd.DataFrame, rank: Ints, distance: int) -> Flags | None:
    """Whether each image has a near-duplicate of a lower rank, (N,); None where there are too many to compare."""
    known = np.flatnonzero((images["dhash"] != "").to_numpy() & (rank < len(SPLITS)))
    if len(known) > MOST_COMPARED:
        return None
    try:
        hashes = parse(images["dhash"].iloc[known].tolist())
    except ValueError:  # not hashes of this release
        return None
    found = np.zeros(len(images), dtype=np.bool_)
    found[known] = twins(hashes, rank[known], [], distance) >= 0
    return found
