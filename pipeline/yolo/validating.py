"""Ultralytics' own validation figures, to stand beside ours under its name.

They are not the same measure: its AP is an integral over another interpolation, its matching is not COCO's, and its precision
and recall are read where a smoothed F1 is best. Users know these figures from `yolo val`, and a large distance from ours would
point to an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import files, machine
from pipeline.errors import TrainingError
from pipeline.yolo import cpu, logs, scratch, ultralytics

if TYPE_CHECKING:
    from pipeline.dataset import Dataset

JSON = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Arguments of `yolo val`.

    Attributes:
        imgsz: longer side of the input in pixels; ultralytics pads to whole strides of the batch's shape.
        batch: images a forward pass.
        iou: threshold of non-maximum suppression.
        max_det: boxes an image.
        device: "cpu", "mps" or "cuda:<n>".
    """

    imgsz: int
    batch: int
    iou: float
    max_det: int
    device: str


def validate(weights: Path, dataset: Dataset, source: Path, options: Options, cache: Path, advance: Callable[..., None]) -> JSON:
    """Run ultralytics' validator over all images of `dataset`, in a folder of links and copies that is then removed.

    Args:
        weights: a checkpoint that `pipeline.weights` trusts.
        source: holds the pixels in `images/<path>`.
        advance: called with the number of images done.

    Raises:
        TrainingError: the model numbers its classes otherwise than the data set, it leaves out images or boxes, or it fails.
    """
    library = ultralytics(cache)
    import torch

    with TemporaryDirectory(prefix="validate-", dir=_folder(cache), ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary).resolve()
        split = scratch.write_split(dataset, source, folder, "val")
        model = library.YOLO(str(weights))
        if tuple(model.names.values()) != dataset.class_names:
            raise TrainingError("ultralytics' val goes by class numbers, and those of the model are not the data set's")
        # Selecting the CPU leaves one core idle; this is the first moment after it.
        model.add_callback("on_val_start", lambda _: torch.set_num_threads(cpu.threads()))
        model.add_callback("on_val_batch_end", lambda validator: advance(_images_in_batch(validator)))
        with logs.logged(folder / "val.log", {}):
            try:
                metrics = model.val(
                    data=str(_data_yaml(folder, split.folder, len(dataset.class_names))),
                    save_dir=str(folder / "run"),
                    imgsz=options.imgsz,
                    batch=options.batch,
                    conf=0.001,
                    iou=options.iou,
                    max_det=options.max_det,
                    device=options.device,
                    workers=0,
                    plots=False,
                    verbose=False,
                )
            except Exception as error:
                raise TrainingError(f"ultralytics' val failed: {type(error).__name__}: {error}") from error
        torch.set_num_threads(machine.usable_cores())
    seen, there = int(metrics.nt_per_class.sum()), len(dataset.boxes)
    if seen != there:
        raise TrainingError(f"ultralytics' val saw {seen} of {there} boxes")
    figures = {"map50_95": "map", "map50": "map50", "map75": "map75", "precision": "mp", "recall": "mr"}
    return {
        "measured_by": f"ultralytics {machine.version_of('ultralytics')} val",
        **{name: float(getattr(metrics.box, theirs)) for name, theirs in figures.items()},
    }


def _folder(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _data_yaml(folder: Path, images: Path, classes: int) -> Path:
    """Absolute paths, or it would look in its own datasets folder; made-up names, or it would download a font for non-ASCII
    ones."""
    import yaml

    path = folder / "data.yaml"
    names = {number: f"class{number}" for number in range(classes)}
    files.write_text(path, yaml.safe_dump({"path": str(folder), "train": str(images), "val": str(images), "names": names}))
    return path


def _images_in_batch(validator: Any) -> int:
    size, total = int(validator.dataloader.batch_size), len(validator.dataloader.dataset)
    return min(size, total - int(validator.batch_i) * size)
