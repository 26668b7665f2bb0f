"""The whole evaluation of one model on one data set: every figure, table and picture of the evaluate stage.

All of them rest on the same matches, so they agree: the true positives of a class in `per_class.csv` are the diagonal of the
confusion matrix, and the columns of `per_image.csv` add up to the counts in `metrics.json`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import files, machine
from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.metrics import bootstrap, coco, curves, pictures, prediction
from pipeline.metrics.curves import Counts
from pipeline.metrics.matching import Ints, Matches

JSON = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        coco: AP and AR.
        matches: who found whom.
        by_confidence: counts per class and threshold of `curves.CONFIDENCES`.
        confidence: the threshold that everything below is counted at.
        chosen: how it was chosen, in words.
        per_class: counts at it.
        confusion: see `curves.confusion_matrix`.
        groups: how many groups of images there are, as many as images where none belong together.
        box_sizes: how many labelled boxes are small, medium and large by COCO's limits.
        intervals: None without bootstrap, or where there is nothing to draw from.
    """

    coco: coco.CocoResult
    matches: Matches
    by_confidence: Counts
    confidence: float
    chosen: str
    per_class: Counts
    confusion: Ints
    groups: int
    box_sizes: dict[str, int]
    intervals: bootstrap.Intervals | None


def evaluate(
    dataset: Dataset,
    detections: Sequence[Detections],
    class_map: Ints,
    confidence: float | None = None,
    resamples: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Measure one model.

    Args:
        detections, class_map: as in `coco.evaluate`.
        confidence: the threshold to count at; None for the one with the best mean F1. That one is chosen on the very images it
            is then judged by, so F1 is a little too good; AP does not depend on it.
        resamples: of the bootstrap; 0 for no intervals.
    """
    result = coco.evaluate(dataset, detections, class_map)
    matches = Matches.of(dataset, detections, class_map)
    by_confidence = curves.counts_by_confidence(matches)
    best = curves.best_confidence(by_confidence.f1[curves.present(matches)].mean(axis=0))
    threshold = best if confidence is None else confidence
    return Evaluation(
        coco=result,
        matches=matches,
        by_confidence=by_confidence,
        confidence=threshold,
        chosen="threshold of the best mean F1" if confidence is None else "threshold from evaluate.confidence",
        per_class=curves.counts_per_class(matches, threshold),
        confusion=curves.confusion_matrix(matches, threshold),
        groups=dataset.images["group_id"].nunique(),
        box_sizes=coco.box_sizes(matches.labels),
        intervals=bootstrap.intervals(matches, dataset.images["group_id"], resamples, seed) if resamples else None,
    )


def summary(found: Evaluation) -> JSON:
    """The headline figures; precision, recall and F1 are means over the classes that have boxes."""
    result, intervals = found.coco, found.intervals
    classes = curves.present(found.matches)
    return {
        **{
            name: getattr(result, name)
            for name in ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "ar100")
        },
        **{name: float(getattr(found.per_class, name)[classes].mean()) for name in ("precision", "recall", "f1")},
        "confidence": found.confidence,
        "ci95": {"map50_95": list(intervals.map50_95), "map50": list(intervals.map50)} if intervals else None,
        "images": found.matches.images,
        "groups": found.groups,
        "boxes": len(found.matches.labels),
        "box_sizes": found.box_sizes,
    }


def write(found: Evaluation, dataset: Dataset, detections: list[Detections], class_map: Ints, out: Path, more: JSON) -> None:
    """Write metrics.json, the tables and the pictures into `out`.

    Args:
        more: further entries of metrics.json.
    """
    names = dataset.class_names
    per_class = class_table(found)
    metrics = {
        **summary(found),
        "evaluator": f"COCO bbox, hotcoco {machine.version_of('hotcoco')}",
        "confidence_from": found.chosen,
        "pooled": _pooled(found.per_class),
        "bootstrap": asdict(found.intervals) if found.intervals else None,
        "errors": coco.error_types(dataset, detections, class_map),
        "per_class": json.loads(per_class.to_json(orient="records", double_precision=15)),
        "confusion_matrix": {"labelled": [*names, "nothing"], "detected": [*names, "missed"], "counts": found.confusion.tolist()},
        **more,
    }
    files.write_text(out / "metrics.json", json.dumps(metrics, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    _write_csv(per_class, out / "per_class.csv")
    _write_csv(image_table(found, dataset), out / "per_image.csv")
    with files.atomic_path(out / "detections.parquet") as temporary:
        prediction.as_table(dataset, detections, class_map).to_parquet(temporary, index=False, compression="zstd")
    present = {int(k): names[k] for k in np.flatnonzero(curves.present(found.matches))}
    f1 = found.by_confidence.f1[list(present)]
    pictures.pr_curve(out / "pr_curve.png", found.coco)
    pictures.f1_curve(out / "f1_curve.png", present, f1, found.confidence, found.chosen)
    pictures.confusion_matrix(out / "confusion_matrix.png", names, found.confusion, found.confidence)


def class_table(found: Evaluation) -> pd.DataFrame:
    """A row a class: its AP and AR, counts, precision, recall and F1 at the threshold, and the threshold that is best for it
    alone.

    What does not exist for a class without boxes is empty.
    """
    table = pd.DataFrame([asdict(row) for row in found.coco.per_class])
    present = curves.present(found.matches)
    for name in ("tp", "fp", "fn", "precision", "recall", "f1"):
        table[name] = getattr(found.per_class, name)
    table["best_confidence"] = [curves.best_confidence(f1) for f1 in found.by_confidence.f1]
    table.loc[~present, ["recall", "f1", "best_confidence"]] = np.nan
    return table


def image_table(found: Evaluation, dataset: Dataset) -> pd.DataFrame:
    """A row an image, the worst first: path, boxes, tp, fp, fn, and `badness` = fn + the summed confidence of the false
    detections.

    Badness ranks what is worth looking at: a missed box counts 1, a false detection the more the surer the model was.
    """
    counts = curves.counts_per_image(found.matches, found.confidence)
    table = pd.DataFrame(
        {
            "path": dataset.images["path"],
            "boxes": counts.tp + counts.fn,
            "tp": counts.tp,
            "fp": counts.fp,
            "fn": counts.fn,
            "badness": (counts.fn + curves.false_confidence_per_image(found.matches, found.confidence)).round(4),
        }
    )
    return table.sort_values("badness", ascending=False, kind="stable", ignore_index=True)


def _pooled(per_class: Counts) -> JSON:
    """All classes in one pot: what a user of the model meets, where frequent classes count more."""
    total = Counts(per_class.tp.sum(), per_class.fp.sum(), per_class.fn.sum())
    counts = {name: int(getattr(total, name)) for name in ("tp", "fp", "fn")}
    return counts | {name: float(getattr(total, name)) for name in ("precision", "recall", "f1")}


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    text = io.StringIO(newline="")
    table.to_csv(text, index=False, lineterminator="\n", float_format="%.6g")
    files.write_text(path, text.getvalue())
