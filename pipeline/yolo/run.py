"""From a data set to a trained model: the body of the train stage."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import devices, files, weights
from pipeline.dataset import Dataset
from pipeline.stage import JSON, Context
from pipeline.yolo import checkpoints, cpu, curves, scratch, training, ultralytics

if TYPE_CHECKING:
    from pipeline.yolo.options import TrainParams

SCRATCH = ".scratch"
SUMMARY = "summary.json"
"""Written when all else of the artifact is there: with it in the folder, nothing is left to train."""


def fit(source: Path, params: TrainParams, out: Path, context: Context) -> JSON:
    """Train on the train and val images of the data set in `source` and leave the artifact in `out`; returns the summary.

    `train_s` of the summary is what the epochs took in all sessions, `earlier_s` what of it was before this call.

    Raises:
        DataError: a split is empty or has no boxes. TrainingError: see `training.train`.
    """
    if (out / SUMMARY).exists():
        summary = _finished(out)
        return summary | {"earlier_s": summary["train_s"]}
    dataset = Dataset.load(source)
    start = weights.resolve(params.model, context.cache, context.base)
    ultralytics(context.cache)
    device = devices.pick(context.device, training=True)
    folder = out / SCRATCH
    splits = scratch.build(dataset, source, folder / "data")
    job = training.Job(
        weights=start.path,
        arguments=_arguments(params),
        class_names=dataset.class_names,
        splits=splits,
        run=folder / "run",
        log=out / "train.log",
        device=device,
        precision=_precision(params.precision, device, context),
        workers=context.workers,
        aliases=_aliases(out, context),
    )
    batches = math.ceil(len(splits["train"].paths) / params.batch)
    with context.progress("train", params.epochs * batches) as advance:
        earlier_s = training.train(job, advance, context.warn)
    summary = _publish(job, out, start.name)
    summary |= {
        "earlier_s": round(earlier_s, 1),
        "imgsz": params.imgsz,
        "weights": {"name": start.name, "origin": start.origin, "sha256": start.sha256},
        "images": {name: len(split.paths) for name, split in splits.items()},
        "boxes": {name: sum(split.boxes.values()) for name, split in splits.items()},
        "device": device,
        "precision": job.precision,
        "threads": cpu.threads(),
    }
    files.write_text(out / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return _finished(out)


def _finished(out: Path) -> JSON:
    """Remove the state to resume from, which a killed run may have begun to do; the summary takes its place."""
    if (out / SCRATCH).exists():
        shutil.rmtree(out / SCRATCH)
    summary: JSON = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    return summary


def _aliases(out: Path, context: Context) -> dict[Path, str]:
    """What the published log calls the folders of this machine."""
    aliases = {context.base: "<base>", context.cache: "<cache>", out: "<work>"}
    with suppress(RuntimeError):  # a service's account may have no home
        aliases = {Path.home(): "~"} | aliases
    return {folder: alias for folder, alias in aliases.items() if folder.is_absolute() and folder != Path(folder.anchor)}


def _arguments(params: TrainParams) -> JSON:
    """The params in ultralytics' words."""
    arguments = params.model_dump(exclude={"model", "precision", "extra"})
    arguments["cache"] = {"ram": "ram", "disk": "disk", "off": False}[params.cache]
    arguments["freeze"] = params.freeze or None
    if params.lr0 is None:
        del arguments["lr0"]  # optimizer "auto" sets it, and notes it in its arguments
    return arguments | params.extra


def _precision(wanted: str, device: str, context: Context) -> str:
    on_cuda = device.startswith("cuda")
    if wanted == "fp16" and not on_cuda:
        context.warn(f"train.precision fp16 needs a CUDA GPU; on {device} fp32 is used.")
    if wanted in ("auto", "fp16"):
        return "fp16" if on_cuda else "fp32"
    return wanted


def _publish(job: training.Job, out: Path, weights_name: str) -> JSON:
    """Bring the finished run into the artifact's layout and say how it went."""
    import yaml

    last = checkpoints.load(job.run / "weights" / "last.pt")
    best = checkpoints.load(job.run / "weights" / "best.pt")
    best_epoch = int(best["epoch"]) + 1
    arguments = _effective(last, weights_name)
    checkpoints.strip(last, arguments, out / "weights" / "last.pt")
    checkpoints.strip(best, arguments, out / "weights" / "best.pt")
    rows = curves.read(job.run / "results.csv")
    curves.draw(rows, best_epoch, out / "curves.png")
    files.copy(job.run / "results.csv", out / "results.csv")
    files.write_text(out / "args.yaml", yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True))
    files.write_text(out / "classes.json", json.dumps(list(job.class_names), ensure_ascii=False, indent=1) + "\n")
    row = next(row for row in rows if int(row["epoch"]) == best_epoch)
    return {
        "epochs": len(rows),
        "best_epoch": best_epoch,
        "train_s": round(rows[-1]["time"], 1),
        "val_ultralytics": {"map50": row["metrics/mAP50(B)"], "map50_95": row["metrics/mAP50-95(B)"]},
    }


def _effective(checkpoint: JSON, weights_name: str) -> JSON:
    """The arguments that took effect, without paths of this machine; `momentum` as the optimizer has it after warm-up."""
    arguments = dict(checkpoint["train_args"])
    for key in ("data", "project", "name", "save_dir", "exist_ok", "resume", "mode"):
        arguments.pop(key, None)
    group = checkpoint["optimizer"]["param_groups"][0]
    if arguments["optimizer"] != "auto" and "betas" in group:
        arguments["momentum"] = group["betas"][0]
    return arguments | {"model": weights_name}
