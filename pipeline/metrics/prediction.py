"""The detections of a model in every image of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import images
from pipeline.boxes import as_boxes
from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections, Image, Predictor
from pipeline.metrics.matching import Ints
from pipeline.parallel import imap_images


def predict(
    predictor: Predictor, dataset: Dataset, folder: Path, *, batch: int, workers: int, advance: Callable[..., None]
) -> list[Detections]:
    """One `Detections` per row of `dataset.images`; while the network works on a batch, the next images are decoded.

    Args:
        folder: holds the pixels in `images/<path>`.
        batch: images handed to the predictor at once.
        workers: threads that decode.
        advance: called with the number of images done.
    """
    paths = [folder / "images" / path for path in dataset.images["path"]]
    # Whole images wait here, a hundred megabytes each from some cameras: one a worker, and two so that none has to pause.
    decoded = imap_images(images.decode, paths, workers, ahead=workers + 2)
    found: list[Detections] = []
    for group in _batches(decoded, batch):
        found += predictor.predict(group)
        advance(len(group))
    return found


def _batches(items: Iterable[Image], size: int) -> Iterator[list[Image]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def as_table(dataset: Dataset, detections: list[Detections], class_map: Ints) -> pd.DataFrame:
    """All detections as rows: path, class_id (the data set's), score, x1, y1, x2, y2; by image, best first.

    Detections of a class that `class_map` leaves out (−1) are left out here too.
    """
    image = np.repeat(np.arange(len(detections)), [len(found) for found in detections])
    class_id = class_map[np.concatenate([found.class_ids for found in detections])]
    edges = as_boxes(np.concatenate([found.boxes for found in detections]))
    table = pd.DataFrame(
        {
            "path": dataset.images["path"].to_numpy()[image],
            "class_id": class_id,
            "score": np.concatenate([found.scores for found in detections]),
            **dict(zip(EDGES, edges.T, strict=True)),
        }
    )
    return table[table["class_id"] >= 0].reset_index(drop=True)
