"""How far the mAP would swing on another test set of the same kind: bootstrap confidence intervals.

Images are drawn with replacement and the mAP is computed anew, many times; the spread of the results tells how much the choice of
test images matters. Two things are easy to get wrong:

What is drawn are groups where the data set has them (the frames of a video, a burst, the tiles of a photo). Frames of one video
are near-copies of each other: drawn one by one they pass for independent evidence, and the interval comes out too narrow, often
by a factor. Drawing whole groups keeps together what is alike (C. Field and A. Welsh, "Bootstrapping clustered data", JRSS B
69, 2007). With a handful of groups there is nothing to draw from, and images are drawn after all: the result says so.

AP rises with fewer different images: its envelope takes the best of a noisy curve, and a resample holds only 63 % of the
images. Plain percentiles are therefore too high. The interval is bias-corrected (B. Efron and R. Tibshirani, "An Introduction
to the Bootstrap", 1993, chapter 14: BCa with no acceleration). Measured by `benchmarks/evaluate.py --coverage`, 3 classes and
72 images: it holds the true mAP50-95 in 94 % of the cases, plain percentiles in 86 %. Where the rarest classes have a handful
of boxes, neither holds it in more than 80 %.

Matching never looks beyond one image, so detections are matched once. A resample only gives each image a weight, the number of
times it was drawn; a weight of 2 counts each of its boxes and detections twice, which is exactly the data set with that image
in it twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.coco import RECALLS
from pipeline.metrics.matching import Ints, Matches

LEVEL = 0.95
FEWEST_GROUPS = 10
"""Two groups have three different resamples; from about ten on the spread begins to mean something."""

_VALUES_AT_ONCE = 4_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals, `(low, high)`.

    Attributes:
        unit: what was drawn, "image" or "group".
        groups: how many groups of images there are; as many as images where none belong together.
    """

    map50_95: tuple[float, float]
    map50: tuple[float, float]
    resamples: int
    unit: str
    groups: int


def intervals(matches: Matches, group_ids: pd.Series, resamples: int, seed: int) -> Intervals | None:
    """Bootstrap mAP50-95 and mAP50; None where there are fewer than two groups with boxes to draw from, or no resample holds a
    box: what lies in one place says nothing of how far the figures would swing.

    Args:
        group_ids: one per image; images of one group are drawn together.
        resamples: how many times to draw; 1,000 is usual, and settles the limits to about a tenth of the interval's width.
        seed: equal seeds give equal intervals.
    """
    group, names = pd.factorize(group_ids)
    if len(np.unique(group[matches.labels.image])) < 2:
        return None
    by_group = FEWEST_GROUPS <= len(names) < len(group)
    unit, units = (group, len(names)) if by_group else (np.arange(len(group)), len(group))
    draws = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)
    whole = average_precision(matches, np.ones((1, matches.images), dtype=np.int64))
    ap = average_precision(matches, draws[:, unit])
    # A resample can miss every box: no mAP then, and nothing to learn from it.
    ap = ap[~np.isnan(ap).all(axis=(1, 2))]
    if not len(ap):
        return None
    return Intervals(
        map50_95=corrected_percentiles(np.nanmean(ap, axis=(1, 2)), float(np.nanmean(whole))),
        map50=corrected_percentiles(np.nanmean(ap[:, :, 0], axis=1), float(np.nanmean(whole[:, :, 0]))),
        resamples=resamples,
        unit="group" if by_group else "image",
        groups=len(names),
    )


def corrected_percentiles(resampled: Floats, estimate: float) -> tuple[float, float]:
    """The bias-corrected percentile interval at `LEVEL`, widened where that is needed to hold the estimate itself.

    Args:
        resampled: (B,) the figure on each resample.
        estimate: the figure on the data.
    """
    normal = NormalDist()
    # How far the estimate lies from the median of the resamples, in standard deviations; ties count half, and a share of 0 or 1
    # (which has no finite distance) as half a resample.
    share = float((resampled < estimate).mean() + (resampled == estimate).mean() / 2)
    half = 0.5 / len(resampled)
    shift = 2 * normal.inv_cdf(min(max(share, half), 1 - half))
    reach = normal.inv_cdf((1 + LEVEL) / 2)
    low, high = np.quantile(resampled, [normal.cdf(shift - reach), normal.cdf(shift + reach)])
    return min(float(low), estimate), max(float(high), estimate)


def average_precision(matches: Matches, weights: Ints) -> Floats:
    """COCO's AP per class and IoU threshold, with each image counted as often as its weight says.

    Args:
        weights: (B, images) int, ≥ 0: one row a resample.

    Returns:
        (B, classes, 10) float64; NaN where a class has no boxes. With weights of 1 it is COCO's AP.
    """
    found, labels = matches.found, matches.labels
    out = np.full((len(weights), matches.classes, len(matches.label_of)), np.nan)
    for k in np.unique(labels.class_id):
        rows = np.flatnonzero(found.class_id == k)
        rows = rows[np.argsort(-found.score[rows], kind="stable")]
        is_true = matches.label_of[:, rows] >= 0
        boxes_in = np.bincount(labels.image[labels.class_id == k], minlength=matches.images)
        block = max(1, _VALUES_AT_ONCE // max(1, len(rows)))
        for start in range(0, len(weights), block):
            drawn = weights[start : start + block]
            out[start : start + block, k] = _class_ap(drawn[:, found.image[rows]], is_true, drawn @ boxes_in)
    return out


def _class_ap(drawn: Ints, is_true: NDArray[np.bool_], boxes: Ints) -> Floats:
    """AP of one class: (B, 10).

    Recall only grows at true detections, and COCO's precision at a recall is the best at or after the point where it is
    reached: what lies between true detections never shows, so only they are looked at.

    Args:
        drawn: (B, D) weight of each detection, best score first.
        is_true: (10, D).
        boxes: (B,) weighted number of labelled boxes.
    """
    seen = np.cumsum(drawn, axis=1)
    out = np.full((len(drawn), len(is_true)), np.nan)
    some = boxes > 0
    for t, true in enumerate(is_true):
        at = np.flatnonzero(true)
        hits = np.cumsum(drawn[:, at], axis=1)[some]
        precision = hits / (seen[:, at][some] + np.spacing(1))
        best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, hits / boxes[some, None], side="right")
        out[some, t] = (best_from_here * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return out
