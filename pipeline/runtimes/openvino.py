"""OpenVINO, for Intel's processors, graphics and NPUs; on any x86-64 and ARM CPU too (https://docs.openvino.ai).

A model is two files, `best.xml` (the graph) and `best.bin` (its weights), converted from our own ONNX; class names and input size
lie in the graph's `rt_info`, under `model_info`. fp16 halves the weights. int8 is the quantized ONNX converted: OpenVINO runs it
with int8 kernels, and no second calibration tool is needed.

Computation is pinned to float32. Left alone, OpenVINO takes bfloat16 on CPUs that have it and half precision on GPUs: of yolo11n
at 640 px on 31 photos, boxes moved by up to 7 px. An NPU has no float32 and computes in half precision whatever the file says.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import machine
from pipeline.errors import TrainingError, UsageError
from pipeline.runtimes import HOW_TO_GET_A_WHOLE_FILE, ExportOptions, LoadOptions, Requires, onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector, Network

REQUIRES = Requires(
    "openvino", load=("openvino",), export=("ultralytics", "onnx", "onnxslim", "onnxruntime", "openvino")
)  # onnxruntime quantizes
SUFFIX = ".xml"
PRECISIONS = ("fp32", "fp16", "int8")
_INFO = "model_info"
_DEVICE = re.compile(r"gpu(:\d+)?|npu")


def place(device: str) -> str:
    """The device that a word means: "cpu", which "auto" takes, "gpu", "gpu:<n>" or "npu".

    An integrated GPU is asked for by name: it is not always the faster one.

    Raises:
        UsageError: OpenVINO has no such device here.
    """
    if device in ("auto", "cpu"):
        return "cpu"
    import openvino

    there = ["CPU", *(name for name in openvino.Core().available_devices if name.startswith(("GPU", "NPU")))]
    if not _DEVICE.fullmatch(device) or not any(name == _own_name(device) or name == f"{_own_name(device)}.0" for name in there):
        words = ", ".join(name.lower().replace(".", ":") for name in there)
        raise UsageError(
            f"OpenVINO has no device '{device}' here.",
            f"Devices of OpenVINO on this machine: {words}. A GPU or NPU of Intel's needs its driver: https://docs.openvino.ai",
        )
    return device


def _own_name(device: str) -> str:
    """OpenVINO's name: "GPU.1" for "gpu:1"."""
    return device.upper().replace(":", ".")


def export(weights: Path, out: Path, options: ExportOptions) -> Path:
    """Write `<weights' name>.xml` and `.bin` to `out`; the first appears when the second is whole.

    Raises:
        ExportError: the exporter or the converter failed.
    """
    target = out / f"{weights.stem}{SUFFIX}"
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-") as scratch:
        plain = replace(options, precision="int8" if options.precision == "int8" else "fp32")
        source = onnx.export(weights, Path(scratch), plain)
        return build(source, target, options.precision, onnx.metadata_of(source))


def build(onnx_file: Path, target: Path, precision: str, metadata: Mapping[str, str]) -> Path:
    """Convert an ONNX file that `onnx.export` wrote, as `export` does; takes seconds, and needs OpenVINO only.

    Args:
        metadata: see `onnx.metadata_of`.

    Raises:
        ExportError: the converter failed.
    """
    from pipeline.runtimes._isolated import isolated

    isolated("openvino", _convert, onnx_file, target, precision, dict(metadata))
    return target


def _convert(source: Path, target: Path, precision: str, info: Mapping[str, str]) -> None:
    import openvino

    model = openvino.convert_model(source)
    for key in (key for key in ("names", "imgsz", "batch", "task", "kpt_shape") if key in info):
        model.set_rt_info(info[key], [_INFO, key])
    model.set_rt_info(precision, [_INFO, "precision"])
    # What was converted from where: a path of this machine, and another one at each call.
    model.set_rt_info("", "conversion_parameters")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=target.parent) as folder:
        made = Path(folder) / target.name
        openvino.save_model(model, made, compress_to_fp16=precision == "fp16")
        os.replace(made.with_suffix(".bin"), target.with_suffix(".bin"))
        os.replace(made, target)


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from files that `export` wrote.

    Args:
        device: see `place`.

    Raises:
        TrainingError: no such files, damaged ones, or ones without class names.
        UsageError: OpenVINO has no such device here.
    """
    from pipeline.inference import Detector

    options = options or LoadOptions()
    return Detector.of(open_network(path, device, options), "openvino", options.thresholds, options.rectangular)


def open_network(path: Path, device: str, options: LoadOptions) -> Network:
    """The network of any task in files that `export` wrote; raises as `load`."""
    from pipeline.inference import Network

    where = place(device)
    model = _read(path)
    info = _info(model)
    class_names, trained = onnx.read_metadata(info, path)
    task, keypoints = onnx.read_task(info, path)
    if len(model.inputs) != 1 or model.input().element_type.to_string() != "f32" or len(model.input().partial_shape) != 4:
        raise TrainingError(f"{path}: only one input of float32 images (batch, 3, height, width) is supported.")
    batch, _, height, width = (side.get_length() if side.is_static else None for side in model.input().partial_shape)
    request = _compile(model, path, where, info.get("precision", "fp32"), options.threads or machine.usable_cores())

    def forward(inputs: Batch) -> list[NDArray[np.float32]]:
        return list(request.infer([inputs], share_inputs=True).to_tuple())

    return Network(
        forward,
        class_names,
        (height, width) if height and width else options.imgsz or trained,
        where,
        batch or options.batch,
        fixed_batch=batch is not None,
        fixed_size=bool(height and width),
        task=task,
        keypoints=keypoints,
    )


def _read(path: Path) -> Any:
    import openvino

    with path.open("rb") as stream:
        start = stream.read(4096)
    if b"<net" not in start:  # given anything else, OpenVINO tries it on the readers of six other formats, which talk to stderr
        raise TrainingError(f"{path} is no OpenVINO model.", HOW_TO_GET_A_WHOLE_FILE)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise TrainingError(f"{path} has no {weights.name} beside it, which holds its weights.", "Copy both files together.")
    try:
        return openvino.Core().read_model(path, weights)
    except RuntimeError as error:
        raise TrainingError(f"{path} cannot be loaded by OpenVINO: {_reason(error)}", HOW_TO_GET_A_WHOLE_FILE) from error


def _info(model: Any) -> dict[str, str]:
    """What `export` wrote into the graph."""
    if not model.has_rt_info([_INFO]):
        return {}
    known = ("names", "imgsz", "batch", "task", "kpt_shape", "precision")
    return {key: model.get_rt_info([_INFO, key]).astype(str) for key in known if model.has_rt_info([_INFO, key])}


def _compile(model: Any, path: Path, where: str, precision: str, threads: int) -> Any:
    """An inference request; see the top of this file for what is computed in which precision."""
    import openvino

    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if where == "cpu":
        config |= {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    elif where.startswith("gpu"):
        config["INFERENCE_PRECISION_HINT"] = "f16" if precision == "fp16" else "f32"
    try:
        return openvino.Core().compile_model(model, _own_name(where), config).create_infer_request()
    except RuntimeError as error:
        raise TrainingError(
            f"{path} cannot be run by OpenVINO on '{where}': {_reason(error)}", HOW_TO_GET_A_WHOLE_FILE
        ) from error


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's account of where in its sources the error came up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"
