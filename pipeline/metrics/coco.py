"""Average precision, exactly as COCO defines it: the one evaluator behind every mAP of this project.

The computation is hotcoco's (https://github.com/derekallman/hotcoco), a port of pycocotools to Rust; the tests hold it against
pycocotools. COCO's AP is the mean of the precision at 101 recalls, over IoU 0.50, 0.55, …, 0.95, over classes that have boxes;
at most 100 detections of a class and image count. Small, medium and large are areas under 32², up to 96² and above, in pixels
of the image as it lies in the data set. Definition: https://cocodataset.org/#detection-eval

Another tool's mAP need not be this measure: ultralytics interpolates and matches differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.errors import DataError
from pipeline.metrics.matching import Found, Labels

RECALLS = np.linspace(0, 1, 101)

_ERRORS = {"class": "Cls", "place": "Loc", "class and place": "Both", "duplicate": "Dupe", "background": "Bkg", "missed": "Miss"}
SMALL_PX2, LARGE_PX2 = 32**2, 96**2
"""Areas between which a box is medium; COCO counts one that lies exactly at a limit on both sides of it."""

_IOU_50, _IOU_75 = 0, 5
_MOST = 2  # position of 100 in COCO's (1, 10, 100) detections


@dataclass(frozen=True)
class ClassResult:
    """AP of one class; None where the class has no boxes, which also leaves it out of every mean.

    Attributes:
        boxes: labelled boxes of the class.
        detections: those that count: at any confidence, at most 100 an image.
        ar100: the recall with 100 detections, mean over the IoU thresholds.
    """

    name: str
    boxes: int
    detections: int
    ap50_95: float | None
    ap50: float | None
    ap75: float | None
    ar100: float | None


@dataclass(frozen=True)
class CocoResult:
    """COCO's figures, in [0, 1].

    Attributes:
        map50_95, map50, map75: mean AP over the classes: over all IoU thresholds, at 0.5, at 0.75.
        map_small, map_medium, map_large: as map50_95 for boxes of that size; None where there are none.
        ar1, ar10, ar100: mean recall with that many detections an image and class.
        per_class: one row per class of the data set, in its order.
        precision50: (K, 101) float64, precision at `RECALLS` for IoU 0.5, non-increasing; NaN for a class without boxes. A
            row's mean is the class's ap50.
    """

    map50_95: float
    map50: float
    map75: float
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    ar1: float
    ar10: float
    ar100: float
    per_class: tuple[ClassResult, ...]
    precision50: NDArray[np.float64] = field(repr=False, compare=False)


def evaluate(dataset: Dataset, detections: Sequence[Detections], class_map: ArrayLike | None = None) -> CocoResult:
    """Measure detections against a data set.

    Args:
        detections: one per row of `dataset.images`, in that order, down to a confidence of about 0.001: AP is the whole curve,
            and a threshold would cut its tail off.
        class_map: what `match_classes` gives; None when the class ids are the data set's.

    Raises:
        DataError: the data set has no boxes, so that AP does not exist.
    """
    if len(detections) != len(dataset.images):
        raise ValueError(f"expected {len(dataset.images)} detections, one per image, got {len(detections)}")
    if not len(dataset.boxes):
        raise DataError(
            f"{len(dataset.images)} images without a single box: average precision does not exist",
            "Give the evaluated split labelled images.",
        )
    labels, found = Labels.of(dataset), Found.of(detections, class_map)
    run = _run(dataset, labels, found)
    run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]
    boxes = np.bincount(labels.class_id, minlength=len(dataset.class_names))
    counted = np.bincount(found.limited().class_id, minlength=len(dataset.class_names))
    per_class = tuple(
        ClassResult(
            name=name,
            boxes=int(boxes[k]),
            detections=int(counted[k]),
            ap50_95=_mean(precision[:, :, k, 0, _MOST]),
            ap50=_mean(precision[_IOU_50, :, k, 0, _MOST]),
            ap75=_mean(precision[_IOU_75, :, k, 0, _MOST]),
            ar100=_mean(recall[:, k, 0, _MOST]),
        )
        for k, name in enumerate(dataset.class_names)
    )
    curve = precision[_IOU_50, :, :, 0, _MOST].T
    return CocoResult(
        map50_95=_mean(precision[:, :, :, 0, _MOST]) or 0.0,
        map50=_mean(precision[_IOU_50, :, :, 0, _MOST]) or 0.0,
        map75=_mean(precision[_IOU_75, :, :, 0, _MOST]) or 0.0,
        map_small=_mean(precision[:, :, :, 1, _MOST]),
        map_medium=_mean(precision[:, :, :, 2, _MOST]),
        map_large=_mean(precision[:, :, :, 3, _MOST]),
        ar1=_mean(recall[:, :, 0, 0]) or 0.0,
        ar10=_mean(recall[:, :, 0, 1]) or 0.0,
        ar100=_mean(recall[:, :, 0, 2]) or 0.0,
        per_class=per_class,
        precision50=np.where(curve < 0, np.nan, curve),
    )


def box_sizes(labels: Labels) -> dict[str, int]:
    """How many labelled boxes the figures of small, medium and large boxes rest on."""
    area = labels.xywh[:, 2] * labels.xywh[:, 3]
    return {
        "small": int((area <= SMALL_PX2).sum()),
        "medium": int(((area >= SMALL_PX2) & (area <= LARGE_PX2)).sum()),
        "large": int((area >= LARGE_PX2).sum()),
    }


def error_types(dataset: Dataset, detections: Sequence[Detections], class_map: ArrayLike | None = None) -> dict[str, float]:
    """How much mAP50 would rise if the model made no more errors of one kind, everything else as it is.

    The kinds are those of TIDE (D. Bolya et al., ECCV 2020, https://arxiv.org/abs/2008.08115): right place and wrong class,
    right class and poor overlap (IoU 0.1 to 0.5), both, a second detection of the same box, background, and boxes that nothing
    found.
    """
    run = _run(dataset, Labels.of(dataset), Found.of(detections, class_map))
    gain = run.tide_errors(pos_thr=0.5, bg_thr=0.1)["delta_ap"]
    return {name: float(gain[key]) for name, key in _ERRORS.items()}


def _run(dataset: Dataset, labels: Labels, found: Found) -> Any:
    """hotcoco's evaluation, matched but not yet accumulated.

    Once accumulated, `eval` holds COCO's tables precision (IoU, recall, class, area, detections) and recall (IoU, class, area,
    detections), with −1 for "does not exist".
    """
    import hotcoco

    images = [
        {"id": number + 1, "width": int(width), "height": int(height)}
        for number, (width, height) in enumerate(dataset.images[["width", "height"]].to_numpy())
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)]
    truth = hotcoco.COCO.from_arrays(images, categories, labels.image + 1, labels.class_id + 1, labels.xywh)
    rows = np.column_stack([found.image + 1, found.xywh, found.score.astype(np.float64), found.class_id + 1])
    run = hotcoco.COCOeval(truth, truth.load_res(rows.reshape(-1, 7)), "bbox")
    run.evaluate()
    return run


def _mean(table: NDArray[np.float64]) -> float | None:
    present = table[table > -1]
    return float(present.mean()) if present.size else None


def match_classes(model_names: Sequence[str], dataset: Dataset, mapping: Mapping[str, str] | None = None) -> NDArray[np.int64]:
    """Which class of the data set each class of the model is, by name: (model classes,) int64, −1 for "left out".

    Without `mapping` both must have the same names, in any order: a class that only one of them knows would be measured as all
    missed or all wrong, and the mean would say nothing of the model.

    Args:
        mapping: model's class → data set's class, for a model that was made for other classes. Several may go to one; detections
            of a model's class that is not named are left out. Each class that has boxes must be the target of one.

    Raises:
        DataError: the names do not fit; the message lists those that don't.
    """
    names = dataset.class_names
    target = {name: name for name in model_names} if mapping is None else dict(mapping)
    has_boxes = set(dataset.boxes["class_id"].unique().tolist())
    unknown = [f"the model knows '{name}', the data set does not" for name in target.values() if name not in names]
    unknown += [f"mapping: the model has no class '{name}'" for name in target if name not in model_names]
    unknown += [
        f"the data set has '{name}' ({'with' if k in has_boxes else 'without'} boxes), the model does not"
        for k, name in enumerate(names)
        if name not in target.values() and (mapping is None or k in has_boxes)
    ]
    if unknown:
        raise DataError(
            "The classes of the model and of the data set differ",
            "Evaluate a model on the classes it was trained on, or train again on this data set.",
            unknown,
        )
    return np.array([names.index(target[name]) if name in target else -1 for name in model_names], dtype=np.int64)
