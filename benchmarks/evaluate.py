"""How fast and how right the evaluator is: against pycocotools, and how often its intervals hold the true value.

    python benchmarks/evaluate.py [--images 5000] [--no-pycocotools]
    python benchmarks/evaluate.py --coverage [--trials 200]

100 detections an image, 80 classes. pycocotools takes one to two minutes for 5,000 images. `--coverage` draws test sets from a
large population whose mAP is known, and counts how many of the 95 % intervals hold it; about two minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from pipeline.boxes import from_xywh
from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.metrics import bootstrap, coco, evaluation
from pipeline.metrics.matching import Matches
from tests.detecting import pycocotools_run

Scene = tuple[Dataset, list[Detections]]


def make_scene(images: int, classes: int, per_image: float, false_per_image: float, seed: int = 0) -> Scene:
    """Photos of 640x640 that differ in difficulty; classes get rarer by 0.6; 92 % of the boxes of an easy photo are found."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(images), rng.poisson(per_image, images))
    size = np.exp(rng.uniform(np.log(20), np.log(200), (len(labels), 2)))
    boxes = np.concatenate([rng.uniform(0, 1, size.shape) * (640 - size), size], axis=1)
    weights = 0.6 ** np.arange(classes) if classes < 20 else 1 / np.arange(1, classes + 1)
    class_ids = rng.choice(classes, len(labels), p=weights / weights.sum())
    easy = rng.beta(8, 2, images)[labels] ** 0.3
    hit = np.flatnonzero(rng.random(len(labels)) < 0.92 * easy)
    near = boxes[hit] + rng.normal(0, 0.05, (len(hit), 4)) * np.tile(boxes[hit, 2:], 2)
    false = rng.poisson(false_per_image, images)
    wrong = np.concatenate([rng.uniform(0, 500, (false.sum(), 2)), np.exp(rng.uniform(3, 5, (false.sum(), 2)))], axis=1)
    image = np.concatenate([labels[hit], np.repeat(np.arange(images), false)])
    found = from_xywh(np.maximum(np.concatenate([near, wrong]), [-1e9, -1e9, 1, 1]))
    score = np.concatenate([rng.beta(5, 2, len(hit)), rng.beta(1, 5, len(wrong))])
    which = np.concatenate([class_ids[hit], rng.choice(classes, len(wrong), p=weights / weights.sum())])
    order = np.argsort(image, kind="stable")
    ends = np.cumsum(np.bincount(image, minlength=images))[:-1]
    parts = (np.split(column[order], ends) for column in (found, score, which))
    rows = [{"path": f"{n}.jpg", "width": 640, "height": 640} for n in range(images)]
    truth = np.column_stack([labels, class_ids, from_xywh(boxes)])
    names = [f"class {k}" for k in range(classes)]
    return Dataset.from_rows(names, rows, truth), [Detections.make(*part) for part in zip(*parts, strict=True)]


def timed(label: str, work: Callable[[], Any], reference_s: float | None = None) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    print(f"{label:<58}{seconds:9.2f} s" + (f"{reference_s / seconds:9.0f} x" if reference_s else ""), flush=True)
    return result, seconds


def speed(images: int, with_pycocotools: bool) -> None:
    dataset, detections = make_scene(images, classes=80, per_image=10, false_per_image=92)
    print(f"{images} images, {len(dataset.boxes)} boxes, {sum(map(len, detections))} detections, 80 classes")
    oracle, reference = timed("pycocotools", lambda: pycocotools_run(dataset, detections)) if with_pycocotools else (None, None)
    ours, _ = timed("coco.evaluate (hotcoco)", lambda: coco.evaluate(dataset, detections), reference)
    matches, _ = timed("matching for all below", lambda: Matches.of(dataset, detections), reference)
    timed("bootstrap, 1,000 resamples", lambda: bootstrap.intervals(matches, dataset.images["group_id"], 1000, 0))
    class_map = np.arange(80)
    timed("everything but pictures, no bootstrap", lambda: evaluation.evaluate(dataset, detections, class_map))
    if oracle is not None:
        print(
            f"difference in mAP50-95 {abs(oracle.stats[0] - ours.map50_95):.1e}, in mAP50 {abs(oracle.stats[1] - ours.map50):.1e}"
        )


def coverage(trials: int, resamples: int = 400) -> None:
    print("share of 95 % intervals of mAP50-95 (mAP50) that hold the true value, and their width")
    for classes, size, per_image in ((1, 30, 5), (3, 30, 8), (3, 72, 13), (5, 200, 5), (10, 60, 5)):
        population, detections = make_scene(6000, classes, per_image, false_per_image=per_image)
        truth = coco.evaluate(population, detections)
        figures = np.array([truth.map50_95, truth.map50])
        held, held_plain, width = np.zeros(2), np.zeros(2), 0.0
        for trial in range(trials):
            rng = np.random.default_rng(trial)
            keep = np.zeros(6000, dtype=bool)
            keep[rng.choice(6000, size, replace=False)] = True
            sample = population.select(keep)
            matches = Matches.of(sample, [detections[n] for n in np.flatnonzero(keep)])
            found = bootstrap.intervals(matches, sample.images["group_id"], resamples, seed=trial)
            limits = np.array([found.map50_95, found.map50])
            plain = percentiles(matches, size, resamples, trial)
            held += (limits[:, 0] <= figures) & (figures <= limits[:, 1])
            held_plain += (plain[:, 0] <= figures) & (figures <= plain[:, 1])
            width += float(limits[0, 1] - limits[0, 0]) / trials
        ours, theirs = held / trials, held_plain / trials
        print(
            f"{classes:>3} classes, {size:>4} images of {per_image:>2} boxes: {ours[0]:.2f} ({ours[1]:.2f}), width {width:.3f};"
            f"  plain percentiles {theirs[0]:.2f} ({theirs[1]:.2f})",
            flush=True,
        )


def percentiles(matches: Matches, size: int, resamples: int, seed: int) -> np.ndarray:
    """The interval without the correction of its bias: rows mAP50-95, mAP50."""
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
    ap = bootstrap.average_precision(matches, draws)
    return np.quantile([np.nanmean(ap, axis=(1, 2)), np.nanmean(ap[:, :, 0], axis=1)], [0.025, 0.975], axis=1).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--no-pycocotools", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.coverage:
        coverage(arguments.trials)
    else:
        speed(arguments.images, not arguments.no_pycocotools)


if __name__ == "__main__":
    main()
