"""The detections that labels are held against: those that an evaluation wrote down, or those of a model that is run now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import images
from pipeline.boxes import as_boxes
from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections, Predictor
from pipeline.errors import DataError
from pipeline.health.images import Look
from pipeline.metrics.coco import match_classes
from pipeline.parallel import imap_images
from pipeline.stage import Context

TABLE = "detections.parquet"
COLUMNS = ["path", "class_id", "score", *EDGES]


def of_table(path: Path, dataset: Dataset) -> list[Detections | None]:
    """Read `detections.parquet` of evaluate; an image of which it has no row counts as not shown to the model.

    Raises:
        DataError: no such table, or it is of other images or classes than the data set.
    """
    path = path / TABLE if path.is_dir() else path
    try:
        table = pd.read_parquet(path, columns=COLUMNS)
    except FileNotFoundError as error:
        raise DataError(f"There is no {path}.", f"Give evaluate@vN, or {TABLE} of an evaluation.") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no table of detections: {error}", f"Give {TABLE} of an evaluation.") from error
    _require_same_classes(path, table, dataset)
    number = {name: row for row, name in enumerate(dataset.images["path"])}
    table = table.assign(row=table["path"].map(number))
    strange = int(table["row"].isna().sum())
    if strange:
        raise DataError(
            f"{path}: {strange} of {len(table)} detections are in images that the data set does not have, "
            f"such as {table['path'][table['row'].isna()].iloc[0]}",
            "Check the split version that was evaluated.",
        )
    found: list[Detections | None] = [None] * len(dataset.images)
    for row, part in table.groupby("row"):
        found[int(str(row))] = Detections.make(part[EDGES].to_numpy(), part["score"], part["class_id"])
    return found


def _require_same_classes(path: Path, table: pd.DataFrame, dataset: Dataset) -> None:
    """Class ids are all that the table has; the names stand in metrics.json beside it."""
    try:
        names = json.loads((path.parent / "metrics.json").read_text(encoding="utf-8"))["confusion_matrix"]["labelled"][:-1]
    except (OSError, ValueError, KeyError, TypeError):
        names = list(dataset.class_names)
    if names != list(dataset.class_names) or not table["class_id"].between(0, len(names) - 1).all():
        raise DataError(
            f"{path} is about other classes than the data set ({', '.join(map(str, names))})",
            "Check the split version that was evaluated.",
        )


def of_model(
    predictor: Predictor, dataset: Dataset, folder: Path, looks: Sequence[Look], batch: int, context: Context
) -> list[Detections | None]:
    """Run a model over all images that can be read; `folder` holds them by their paths.

    Raises:
        DataError: the model knows other classes than the data set.
    """
    class_map = match_classes(predictor.class_names, dataset)
    rows = [row for row, look in enumerate(looks) if not look.reason]
    paths = [folder / dataset.images["path"].iloc[row] for row in rows]
    found: list[Detections | None] = [None] * len(looks)
    with context.progress("predict", len(rows)) as advance:
        decoded = zip(rows, imap_images(images.decode, paths, context.workers, ahead=context.workers + 2), strict=True)
        while part := list(islice(decoded, batch)):
            for (row, _), answer in zip(part, predictor.predict([image for _, image in part]), strict=True):
                classes = class_map[answer.class_ids]
                keep = np.asarray(classes >= 0)
                found[row] = Detections(as_boxes(answer.boxes[keep]), answer.scores[keep], classes[keep])
            advance(len(part))
    return found
