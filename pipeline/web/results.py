"""The part of the page about the model: figures, curves, classes, single images, exports, and how to use it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections
from pipeline.metrics.matching import Matches
from pipeline.web import pictures
from pipeline.web.artifacts import Artifact, as_dict, dig, number
from pipeline.web.data import SAMPLES
from pipeline.web.pictures import Box, Photo
from pipeline.web.text import figure, plural

JSON = dict[str, Any]

MOST_CONFUSIONS = 5


def part(artifacts: Mapping[str, Artifact], images: int) -> JSON:
    """Everything the templates of this part show.

    Args:
        images: how many of the worst and of the best images are shown.
    """
    evaluate = artifacts["evaluate"]
    metrics = {**evaluate.summary, **as_dict(evaluate.json("metrics.json"))}
    confusions = _confusions(metrics)
    shown, note = _ranked(artifacts, metrics, images)
    return {
        "metrics": metrics,
        "split": str(metrics.get("split") or "test"),
        "confidence": number(metrics.get("confidence")),
        "measures": _measures(metrics, artifacts["train"]),
        "per_class": _per_class(evaluate, metrics),
        "errors": _errors(metrics),
        "confusions": confusions,
        "curves": _curves(evaluate, confusions),
        "images": shown,
        "images_note": note,
        "exports": exports(artifacts["export"]),
        "usage": usage(artifacts, metrics),
    }


def interval(metrics: JSON, name: str) -> tuple[float, float] | None:
    """The 95 % confidence interval of a figure, where there is one."""
    limits = dig(metrics, f"ci95.{name}")
    if not isinstance(limits, list) or len(limits) != 2:
        return None
    low, high = number(limits[0]), number(limits[1])
    return None if low is None or high is None else (low, high)


def _measures(metrics: JSON, train: Artifact) -> list[JSON]:
    """The same model by several rulers, each by its name: they are not comparable with each other."""
    split, names = metrics.get("split") or "test", ("map50_95", "map50", "map75", "precision", "recall")
    theirs, on_val = as_dict(metrics.get("ultralytics")), as_dict(train.summary.get("val_ultralytics"))
    ours: JSON = {"ruler": metrics.get("evaluator") or "COCO bbox", "how": f"this pipeline's measure, on {split}", "ours": True}
    rows = [ours | {name: metrics.get(name) for name in names}]
    if theirs.get("map50_95") is not None:
        row: JSON = {
            "ruler": theirs.get("measured_by") or "ultralytics val",
            "how": f"its own measure, on {split}",
            "ours": False,
        }
        rows.append(row | {name: theirs.get(name) for name in names})
    if on_val:
        row = {"ruler": "ultralytics train", "how": "its own measure, best epoch, on val", "ours": False}
        rows.append(row | {name: on_val.get(name) for name in names})
    return rows if number(metrics.get("map50_95")) is not None else []


def _per_class(evaluate: Artifact, metrics: JSON) -> list[JSON]:
    """A row a class, the weakest first; classes without boxes, which have no figures, last."""
    rows = metrics.get("per_class")
    given = rows if isinstance(rows, list) else evaluate.rows("per_class.csv")
    table = [{**as_dict(row), "known": number(as_dict(row).get("ap50_95")) is not None} for row in given]
    return sorted(table, key=lambda row: (not row["known"], number(row.get("ap50_95")) or 0.0))


def _errors(metrics: JSON) -> list[JSON]:
    """Kinds of errors by what they cost, and the length of a bar in percent."""
    kinds = {str(name): number(value) or 0.0 for name, value in as_dict(metrics.get("errors")).items()}
    longest = max(kinds.values(), default=0.0) or 1.0
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    return [{"name": name, "cost": cost, "bar": round(max(0.0, 100 * cost / longest), 1)} for name, cost in ordered]


def _confusions(metrics: JSON) -> list[JSON]:
    """The most frequent pairs of a labelled and a detected class."""
    names, counts = dig(metrics, "confusion_matrix.labelled"), dig(metrics, "confusion_matrix.counts")
    if not isinstance(names, list) or not isinstance(counts, list):
        return []
    classes = range(min(len(names) - 1, len(counts) - 1))
    pairs = [{"labelled": names[i], "detected": names[j], "count": counts[i][j]} for i in classes for j in classes if i != j]
    return sorted((pair for pair in pairs if pair["count"]), key=lambda pair: -pair["count"])[:MOST_CONFUSIONS]


def _curves(evaluate: Artifact, confusions: list[JSON]) -> JSON:
    """The pictures of the evaluation by name; None for one that is missing."""
    worst = "; ".join(f"{pair['labelled']} taken for {pair['detected']} {pair['count']} times" for pair in confusions)
    words = {
        "pr_curve": "Precision against recall at IoU 0.5, a line per class and their mean; the areas are in the table of classes",
        "f1_curve": "F1 against the confidence threshold, a line per class and their mean, with the recommended threshold marked",
        "confusion_matrix": f"Confusion matrix of labelled against detected classes. {worst or 'No class is taken for another'}.",
    }
    return {name: pictures.chart(evaluate.folder / f"{name}.png", alt) for name, alt in words.items()}


def _ranked(artifacts: Mapping[str, Artifact], metrics: JSON, most: int) -> tuple[JSON, str]:
    """The images with most errors, and those without any in which most boxes were found.

    Returns:
        Photos by "worst" and "best", and why there are none.
    """
    evaluate, split = artifacts["evaluate"], artifacts["split"]
    rows = [row for row in evaluate.rows("per_image.csv") if row.get("path")]
    confidence, detections = number(metrics.get("confidence")), _detections(evaluate)
    if not most:
        return {}, "report.images is 0"
    if not rows or confidence is None or detections is None or split.dataset is None:
        return {}, f"per_image.csv or detections.parquet of {evaluate.name} is missing, or the data set of {split.name}"
    table = pd.DataFrame(rows)
    for column in ("tp", "fp", "fn", "badness"):
        table[column] = pd.to_numeric(table[column], errors="coerce").fillna(0) if column in table else 0
    table["errors"] = table["fp"] + table["fn"]
    worst = table[table["errors"] > 0].sort_values(["errors", "badness", "path"], ascending=[False, False, True]).head(most)
    best = table[(table["errors"] == 0) & (table["tp"] > 0)].sort_values(["tp", "path"], ascending=[False, True]).head(most)
    paths = [*worst["path"], *best["path"]]
    detections = detections[(detections["score"] >= np.float32(confidence)) & detections["path"].isin(paths)]
    photos = _photos(split, split.dataset, paths, detections)
    return {
        "worst": [photos[p] for p in worst["path"] if p in photos],
        "best": [photos[p] for p in best["path"] if p in photos],
    }, ""


def _detections(evaluate: Artifact) -> pd.DataFrame | None:
    try:
        return pd.read_parquet(evaluate.folder / "detections.parquet")
    except (OSError, ValueError):
        return None


def _photos(split: Artifact, dataset: Dataset, paths: list[str], detections: pd.DataFrame) -> dict[str, Photo]:
    """Photos by path, with what was found rightly, found wrongly and missed; the matches are those of the evaluation."""
    shown = dataset.select(dataset.images["path"].isin(paths).to_numpy())
    found = []
    for path in shown.images["path"]:
        rows = detections[detections["path"] == path]
        found.append(Detections.make(rows[EDGES].to_numpy(), rows["score"].to_numpy(), rows["class_id"].to_numpy()))
    matches = Matches.of(shown, found)
    missed = np.ones(len(shown.boxes), dtype=bool)
    missed[matches.label_of[0][matches.is_true]] = False
    photos = {}
    for row, path in enumerate(shown.images["path"]):
        photo = _judged(split, shown, row, matches, missed)
        if photo:
            photos[path] = photo
    return photos


def _judged(split: Artifact, shown: Dataset, row: int, matches: Matches, missed: NDArray[np.bool_]) -> Photo | None:
    names, path = shown.class_names, shown.images["path"].iloc[row]
    boxes = []
    for i in np.flatnonzero(matches.found.image == row):
        x, y, width, height = matches.found.xywh[i].tolist()
        kind, class_id = ("right" if matches.is_true[i] else "false"), int(matches.found.class_id[i])
        boxes.append(Box((x, y, x + width, y + height), kind, class_id, names[class_id], float(matches.found.score[i])))
    edges, class_ids = shown.edges_of(row)
    lost = missed[shown.boxes["image"].to_numpy() == row]
    for edge, class_id in zip(edges[lost].tolist(), class_ids[lost].tolist(), strict=True):
        boxes.append(Box(tuple(edge), "missed", class_id, names[class_id]))
    counts = {kind: sum(box.kind == kind for box in boxes) for kind in ("right", "false", "missed")}
    said = [f"{counts['right']} of {plural(len(edges), 'box', 'boxes')} found"]
    said += [f"{counts['false']} false"] if counts["false"] else []
    alt = f"{path}: {', '.join(said)}. " + ", ".join(f"{box.kind}: {box.text()}" for box in boxes[:12])
    limit = pictures.limit_for(SAMPLES + len(shown.images))
    return pictures.photo(split.folder / "images" / path, boxes, limit, alt, caption=path, note=", ".join(said))


def exports(export: Artifact) -> list[JSON]:
    """A row an exported model, made of the list in exports.json, or of the summary where that is missing."""
    listed = export.json("exports.json")
    records = listed if isinstance(listed, list) else [record for record in export.summary.values() if isinstance(record, dict)]
    rows = []
    for record in map(as_dict, records):
        parity = as_dict(record.get("parity"))
        file = str(record.get("file") or "")
        rows.append({**record, "parity": parity, "path": export.place(file) if file else "", "ok": record.get("status") == "ok"})
    return rows


def usage(artifacts: Mapping[str, Artifact], metrics: JSON) -> JSON | None:
    """Lines to copy that run the model at the recommended threshold; None when no threshold is known."""
    confidence = number(metrics.get("confidence"))
    if confidence is None:
        return None
    weights = artifacts["train"].place("weights", "best.pt")
    iou = figure(dig(metrics, "predictor.iou") or 0.7, 2)
    model = next((row["path"] for row in exports(artifacts["export"]) if row["ok"] and row["path"]), weights)
    return {
        "confidence": confidence,
        "from": metrics.get("confidence_from"),
        "shell": f"python -m pipeline predict photo.jpg --model {shlex.quote(model)} --confidence {confidence:.3f}",
        "python": (
            "from pathlib import Path\n"
            "from pipeline import images, runtimes\n"
            "from pipeline.inference import Thresholds\n"
            "from pipeline.runtimes import LoadOptions\n\n"
            f"path = Path({model!r})\n"
            f"options = LoadOptions(thresholds=Thresholds(confidence={confidence:.3f}, iou={iou}, multi_label=False))\n"
            'model = runtimes.for_file(path).load(path, "auto", options)\n'
            '[found] = model.predict([images.decode(Path("photo.jpg"))])  # found.boxes, found.scores, found.class_ids\n'
        ),
    }
