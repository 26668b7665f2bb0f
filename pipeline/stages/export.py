"""export: the trained model as ONNX, TFLite, TensorRT …, each held against the checkpoint before it is published.

Every artifact is run over the test split in its own runtime. One whose mAP falls by more than `max_map_drop`, or whose boxes do
not find a partner, fails the stage: what leaves this stage behaves like what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from pipeline.errors import DataError, ParamsError, TrainingError, UsageError
from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.wording import listed


class Params(StageParams):
    formats: list[str] = Field(
        ["onnx", "litert"],
        description="What to make; a precision follows a colon: onnx, onnx:fp16, litert:int8, openvino, engine:fp16",
    )
    imgsz: int | list[int] | None = Field(
        None, description="Input in pixels, one number or [height, width], multiples of 32; empty: as trained"
    )
    batch: int = Field(1, ge=1, le=256, description="Images a forward pass; the largest number when dynamic")
    dynamic: bool = Field(
        False, description="Let batch and input size vary at run time, where the format can (onnx, openvino, engine)"
    )
    opset: int | None = Field(None, ge=11, le=25, description="ONNX operator set; empty: the newest that consumers read")
    simplify: bool = Field(True, description="Fold constants and fuse operators in ONNX")
    calibration_images: int = Field(128, ge=1, description="Training images that int8 takes its value ranges from")
    max_map_drop: float = Field(0.01, ge=0, le=1, description="mAP50-95 may fall by so much against PyTorch, not more")
    min_agreement: float = Field(
        0.9, ge=0, le=1, description="Share of the boxes that must be found by both, whatever the labels say"
    )

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: list[str]) -> list[str]:
        """`tflite` and `litert` are one format and must make one recipe."""
        from pipeline.runtimes import Wanted

        try:
            names = [str(Wanted.parse(text)) for text in formats]
        except UsageError as error:
            raise ParamsError(f"export.formats: {error.message}", error.hint) from error
        if len(set(names)) != len(names):
            raise ParamsError(f"export.formats: {', '.join(names)}: one of them is given twice")
        return names

    @field_validator("imgsz")
    @classmethod
    def _fits_the_stride(cls, imgsz: int | list[int] | None) -> int | list[int] | None:
        sides = [imgsz] if isinstance(imgsz, int) else imgsz or []
        if len(sides) > 2 or (isinstance(imgsz, list) and len(sides) != 2) or any(side < 32 or side % 32 for side in sides):
            raise ParamsError(f"export.imgsz: {imgsz}: expected one number or [height, width], multiples of 32")
        return imgsz


def preflight(params: Params, context: Context) -> None:
    """Say before anything is trained, rather than after, that a package is missing, or the device that was asked for."""
    from pipeline import devices, runtimes
    from pipeline.runtimes import Wanted

    devices.require(context.device)
    for name in dict.fromkeys(Wanted.parse(text).runtime for text in params.formats):
        try:
            if not runtimes.unavailable(name):
                runtimes.require(name, "load", "export")
                runtimes.require_device(name, devices.for_artifacts(context.device))
            elif hasattr(runtimes.module(name), "leave_instructions"):
                runtimes.require(name, "export")
        except UsageError as error:
            hint = f"{error.hint.rstrip('.')}, or take {name} out."
            raise type(error)(f"export.formats: {error.message}", hint) from error


def external(params: Params, context: Context) -> dict[str, str]:
    """What the artifacts depend on besides the recipe: a skipped engine is built once there is a GPU."""
    from pipeline import runtimes
    from pipeline.runtimes import Wanted

    modules = {wanted.runtime: runtimes.module(wanted.runtime) for wanted in map(Wanted.parse, params.formats)}
    return {name: module.machine_key() for name, module in modules.items() if hasattr(module, "machine_key")}


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    """Export, compare, and raise ExportMismatch for an artifact that does not behave; the summary is keyed by format."""
    import json

    from pipeline import exports, files
    from pipeline.dataset import Dataset
    from pipeline.runtimes import Wanted

    wanted = [Wanted.parse(text) for text in params.formats]
    weights = inputs["train"] / "weights" / "best.pt"
    dataset = Dataset.load(inputs["split"])
    judged, split = _judged(dataset, context)
    options = _options(params, inputs, dataset, context)
    records = []
    with context.progress("export", len(wanted)) as advance:
        for each in wanted:
            advance(0, format=str(each))
            record = exports.make(each, weights, out, _with_precision(options, each.precision))
            if record["status"] == "skipped":
                context.warn(f"{each}: skipped: {record['reason']}")
            records.append(record)
            advance()
    predictors = exports.load_all(wanted, records, weights, out, options, context)
    for name, predictor in predictors.items():
        if predictor.class_names != dataset.class_names:
            raise TrainingError(f"{name}: the model's classes {predictor.class_names} are not the data's {dataset.class_names}.")
    figures = exports.compare(judged, exports.predict_all(predictors, judged, inputs["split"], params.batch, context))
    results = {str(each): record | figures.get(str(each), {}) for each, record in zip(wanted, records, strict=True)}
    report = {"split": split, "images": len(judged.images), "boxes": len(judged.boxes), "models": figures}
    files.write_text(out / "parity.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    files.write_text(out / "exports.json", json.dumps(list(results.values()), indent=1, ensure_ascii=False) + "\n")
    exports.check(figures, exports.Limits(params.max_map_drop, params.min_agreement))
    return results


def _judged(dataset: Any, context: Context) -> tuple[Any, str]:
    """The split that artifacts are judged on: test, or val where test has no boxes."""
    parts = {split: part for split in ("test", "val") if len((part := dataset.of_split(split)).images)}
    if not parts:
        raise DataError("There is no image in test or val to compare the exported models on.", "Collect more images.")
    split = next((split for split, part in parts.items() if len(part.boxes)), next(iter(parts)))
    if not len(parts[split].boxes):
        context.warn(f"no image of {listed(list(parts))} has a box; only the agreement of the boxes is checked, not mAP.")
    elif split == "val":
        what = "boxes" if "test" in parts else "images"
        context.warn(f"test has no {what}; the exported models are compared on val.")
    return parts[split], split


def _options(params: Params, inputs: Mapping[str, Path], dataset: Any, context: Context) -> Any:
    import numpy as np
    import yaml

    from pipeline.runtimes import ExportOptions

    imgsz = params.imgsz
    if imgsz is None:
        imgsz = int(yaml.safe_load((inputs["train"] / "args.yaml").read_text(encoding="utf-8"))["imgsz"])
    paths = dataset.of_split("train").images["path"].tolist()
    # Spread over the whole split, so that no video or burst at its beginning speaks for all.
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(params.calibration_images, len(paths))).round().astype(int))
    return ExportOptions(
        imgsz=(imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1]),
        batch=params.batch,
        dynamic=params.dynamic,
        opset=params.opset,
        simplify=params.simplify,
        calibration=tuple(inputs["split"] / "images" / paths[number] for number in chosen),
        cache=context.cache,
    )


def _with_precision(options: Any, precision: str) -> Any:
    from dataclasses import replace

    return replace(options, precision=precision)


def headline(summary: JSON) -> str:
    def describe(name: str, record: JSON) -> str:
        if record["status"] != "ok":
            return f"{name} {record['status']}"
        drop = record.get("map_drop")
        return f"{name} {record['size_bytes'] / 1e6:.1f} MB" + ("" if drop is None else f", mAP {-drop + 0:+.4f}")

    return "; ".join(describe(name, record) for name, record in summary.items())


STAGE = Stage(
    inputs=("train", "split"),
    params=Params,
    run=run,
    version=3,
    root="runs",
    summary="Export to other runtimes and check that they agree with PyTorch.",
    libraries=(
        *("ultralytics", "torch", "onnx", "onnxslim", "onnxruntime", "openvino"),
        *("litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
        *("opencv-python", "opencv-python-headless", "hotcoco"),  # what int8 is calibrated on, and what the limits are held to
    ),
    external=external,
    preflight=preflight,
    headline=headline,
)
