"""Mend what needs no eye: boxes clipped to their image, empty ones and exact doubles gone, of equal image files only one kept.

What a person must judge (near-identical boxes, copies that were labelled differently, odd sizes) is left as it is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset import EDGES, SPLITS, Dataset
from pipeline.health.accounts import unlabelled_of
from pipeline.health.duplicates import copies, signatures
from pipeline.labelling.checks import check
from pipeline.ledger import Ledger


def repair(dataset: Dataset, ledger: Ledger) -> Dataset:
    """The data set without what is surely wrong; each change stands in the ledger, with the codes of an import.

    An image that is labelled as having no object contradicts a copy with boxes, and both stay; one that no label mentions, by
    the `no_label_file` of the import in the same ledger, does not.

    The images themselves are not touched: the result lists those that stay, under the paths that they have.
    """
    return _without_copies(_with_sound_boxes(dataset, ledger), ledger)


def _with_sound_boxes(dataset: Dataset, ledger: Ledger) -> Dataset:
    number = dataset.boxes["image"].to_numpy()
    sizes = dataset.images[["width", "height"]].to_numpy().astype(np.float64)[number]
    verdict = check(dataset.boxes[EDGES].to_numpy(), sizes[:, 0], sizes[:, 1], mend=True)
    boxes = pd.concat([dataset.boxes[["image", "class_id"]], pd.DataFrame(verdict.boxes, columns=EDGES)], axis=1)
    is_double = boxes.duplicated().to_numpy() & verdict.keep
    verdict.drop("duplicate_box", is_double)
    paths = dataset.images["path"].to_numpy()
    for reason, action, rows in verdict.findings:
        for row in rows.tolist():
            edges = ", ".join(f"{value:.6g}" for value in dataset.boxes[EDGES].iloc[row])
            detail = f"{dataset.class_names[dataset.boxes['class_id'].iloc[row]]} {edges}"
            ledger.add("box", action, reason, path=paths[number[row]], detail=detail)
    return Dataset(dataset.class_names, dataset.images, boxes[verdict.keep])


def _without_copies(dataset: Dataset, ledger: Ledger) -> Dataset:
    paths = dataset.images["path"].to_numpy()
    keep: NDArray[np.bool_] = np.ones(len(paths), dtype=bool)
    boxes = dataset.by_image()
    groups = copies(dataset)
    said = signatures(dataset, (row for rows in groups for row in rows), unlabelled_of(ledger.entries))
    for rows in groups:
        if len({said[row] for row in rows} - {None}) > 1:
            for row in rows:
                ledger.add("image", "kept", "copies_differ", path=paths[row], detail=f"labelled otherwise than {paths[rows[0]]}")
            continue
        best = min(rows, key=lambda row: (said[row] is None, _preference(dataset.images["split"].iloc[row]), row))
        for row in rows:
            if row != best:
                keep[row] = False
                ledger.add("image", "dropped", "duplicate_image", path=paths[row], detail=f"the same file as {paths[best]}")
                for _ in range(len(boxes[row][0])):
                    ledger.add("box", "dropped", "image_dropped", path=paths[row])
    return dataset if keep.all() else dataset.select(keep)


def _preference(split: str) -> int:
    """The copy on test stays rather than that on val, and that rather than the one on train: a test must stay comparable."""
    return len(SPLITS) - SPLITS.index(split) if split else len(SPLITS) + 1
