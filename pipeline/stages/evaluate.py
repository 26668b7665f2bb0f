"""evaluate: measure the trained model on images it has never seen.

COCO's AP with confidence intervals, precision, recall and F1 at the best threshold, the curves and the confusion matrix as
pictures, a row per class and per image, and all detections. Ultralytics' own figures stand beside ours, under its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.errors import DataError, MissingDependency, TrainingError, how_to_install
from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.wording import plural

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.detections import Predictor
    from pipeline.metrics.evaluation import Evaluation


class Params(StageParams):
    split: Literal["test", "val"] = Field(
        "test",
        description="Images to measure on; val chose the best epoch, so its figures are too good. It is taken, with a warning, "
        "where test has no boxes",
    )
    confidence: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        "auto", description="Threshold for precision, recall, F1 and the confusion matrix; auto: that of the best mean F1"
    )
    imgsz: int | None = Field(None, ge=32, le=4096, multiple_of=32, description="Longer side of the input; empty: as trained")
    iou: float = Field(0.7, gt=0, le=1, description="Non-maximum suppression: overlap at which the weaker box is dropped")
    max_det: int = Field(300, ge=1, le=30_000, description="Boxes an image, at most")
    batch: int = Field(16, ge=1, le=1024, description="Images a forward pass")
    bootstrap: int = Field(1000, ge=0, le=100_000, description="Resamples for the 95 % intervals of mAP; 0: none")
    ultralytics: bool = Field(True, description="Also record what `yolo val` says; costs a second pass over the images")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the bootstrap")


def preflight(params: Params, context: Context) -> None:
    """Say before anything is trained, rather than after, that a package is missing, or the device that was asked for."""
    from pipeline import devices, runtimes

    runtimes.require(runtimes.REFERENCE, "load")
    missing = runtimes.missing_modules(("hotcoco", "matplotlib"))
    if missing:
        raise MissingDependency(f"evaluate needs {' and '.join(missing)}.", how_to_install("train"))
    devices.require(context.device)


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    """Measure `weights/best.pt` of the train stage on one split.

    Raises:
        DataError: there are no boxes to measure by, or the classes are not those of the model.
    """
    import yaml

    from pipeline.dataset import Dataset
    from pipeline.inference import Thresholds
    from pipeline.runtimes import LoadOptions, pytorch

    dataset, split = _measurable(Dataset.load(inputs["split"]), params.split, context)
    params = params.model_copy(update={"split": split})
    weights = inputs["train"] / "weights" / "best.pt"
    imgsz = params.imgsz or int(yaml.safe_load((inputs["train"] / "args.yaml").read_text(encoding="utf-8"))["imgsz"])
    options = LoadOptions(
        thresholds=Thresholds(iou=params.iou, max_det=params.max_det),
        imgsz=(imgsz, imgsz),
        batch=params.batch,
        cache=context.cache,
    )
    predictor = pytorch.load(weights, context.device, options)
    here = replace(context, device=predictor.device)  # both measure on the same device
    theirs = _ultralytics(weights, dataset, inputs["split"], imgsz, params, here) if params.ultralytics else None
    return measure(predictor, dataset, inputs["split"], params, out, context, theirs)


def measure(
    predictor: Predictor, dataset: Dataset, folder: Path, params: Params, out: Path, context: Context, theirs: JSON | None
) -> JSON:
    """Measure any predictor on a data set whose pixels lie in `folder/images`, and write the artifact.

    Args:
        dataset: the images of `params.split`.
        theirs: ultralytics' figures, None for none.
    """
    from pipeline.metrics import coco, evaluation, prediction

    class_map = coco.match_classes(predictor.class_names, dataset)
    with context.progress("evaluate", len(dataset.images)) as advance:
        detections = prediction.predict(predictor, dataset, folder, batch=params.batch, workers=context.workers, advance=advance)
    confidence = None if params.confidence == "auto" else params.confidence
    found = evaluation.evaluate(dataset, detections, class_map, confidence, params.bootstrap, params.seed)
    for warning in _few_groups(found, params.split):
        context.warn(warning)
    extra = {
        "split": params.split,
        "ultralytics": theirs,
        "predictor": {
            "runtime": predictor.runtime,
            "imgsz": list(predictor.imgsz),
            "iou": params.iou,
            "max_det": params.max_det,
        },
    }
    evaluation.write(found, dataset, detections, class_map, out, extra)
    return {**evaluation.summary(found), **extra}


def _measurable(whole: Dataset, split: Literal["test", "val"], context: Context) -> tuple[Dataset, Literal["test", "val"]]:
    """The images of a split and its name; those of val in place of a test side that has no boxes."""
    part = whole.of_split(split)
    why = ""
    if split == "test" and not len(part.boxes):
        why = f"test has no {'boxes' if len(part.images) else 'images'}, so val is measured on: "
        part, split = whole.of_split("val"), "val"
    if not len(part.boxes):
        sides = "test or val" if why else split
        raise DataError(f"evaluate.split: no image of {sides} has a box to measure by.", "Label more images.")
    if split == "val":
        context.warn(f"{why}val chose the best epoch, hence these figures are too good.")
    return part, split


def _few_groups(found: Evaluation, split: str) -> Iterator[str]:
    from pipeline.metrics import bootstrap

    measured = f"{plural(found.matches.images, f'{split} image')} from {plural(found.groups, 'source')}"
    if found.groups < bootstrap.FEWEST_GROUPS and found.intervals:
        yield f"measured on {measured} only: the intervals hold for more images of these, not for others."
    elif found.groups < bootstrap.FEWEST_GROUPS:
        yield f"measured on {measured} only: too little to tell how far the figures would swing."


def _ultralytics(weights: Path, dataset: Dataset, source: Path, imgsz: int, params: Params, context: Context) -> JSON:
    """Its figures, or why there are none: ours do not depend on them."""
    from pipeline.yolo import validating

    options = validating.Options(imgsz, params.batch, params.iou, params.max_det, context.device)
    with context.progress("yolo val", len(dataset.images)) as advance:
        try:
            return validating.validate(weights, dataset, source, options, context.cache, advance)
        except TrainingError as error:
            context.warn(f"no figures of ultralytics' own: {error}")
            return {"skipped": error.message}


def headline(summary: JSON) -> str:
    interval = "–" if summary["ci95"] is None else "{:.3f}, {:.3f}".format(*summary["ci95"]["map50_95"])
    figures = f"mAP50 {summary['map50']:.3f}, mAP50-95 {summary['map50_95']:.3f} [{interval}]"
    return f"{figures} on {plural(summary['images'], summary['split'] + ' image')}"


STAGE = Stage(
    inputs=("train", "split"),
    params=Params,
    run=run,
    version=3,
    root="runs",
    summary="Measure the trained model on unseen images.",
    libraries=("ultralytics", "torch", "opencv-python", "opencv-python-headless", "hotcoco", "matplotlib"),
    preflight=preflight,
    headline=headline,
)
