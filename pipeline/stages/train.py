"""train: fine-tune a YOLO detector on the train split and pick the best epoch by the val split.

Every argument that ultralytics knows can be set, the common ones as fields of their own and the rest in `extra`; the arguments
that took effect stand in `args.yaml`. A run that was killed goes on at its last finished epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import weights
from pipeline.stage import JSON, Context, Stage
from pipeline.wording import plural
from pipeline.yolo.options import TrainParams


def external(params: TrainParams, context: Context) -> dict[str, str]:
    """The content of a local weights file: when it changes, the model is trained again."""
    return weights.external(params.model, context.cache, context.base)


def run(inputs: Mapping[str, Path], params: TrainParams, out: Path, context: Context) -> JSON:
    from pipeline.yolo.run import fit

    return fit(inputs["augment"], params, out, context)


def preflight(params: TrainParams, context: Context) -> None:
    """Say before the data are prepared that a package is missing, or the device that was asked for by name."""
    from pipeline import devices, runtimes

    runtimes.require(runtimes.REFERENCE, "load")
    devices.require(context.device)


def headline(summary: JSON) -> str:
    epochs = plural(summary["epochs"], "epoch")
    best = "" if summary["epochs"] == 1 else f", the best is {summary['best_epoch']}"
    return f"{epochs}{best}: mAP50 {summary['val_ultralytics']['map50']:.3f} on val"


STAGE = Stage(
    inputs=("augment",),
    params=TrainParams,
    run=run,
    version=2,
    root="runs",
    summary="Fine-tune a YOLO detector.",
    libraries=("ultralytics", "torch", "opencv-python", "opencv-python-headless"),
    external=external,
    preflight=preflight,
    headline=headline,
)
