"""LiteRT, formerly TensorFlow Lite: `.tflite` files for phones and small boards (https://ai.google.dev/edge/litert).

There is no fp16 file: phones' GPU delegates run the fp32 file in half precision. `int8` is static (weights and activations, float
input and output), `w8a32` quantizes the weights only and needs no calibration. The converter (litert-torch) is heavy and exists
for Linux on x86-64 and for macOS on Apple's processors; running a file needs ai-edge-litert alone.

Input (B, 3, H, W), or (B, H, W, 3) from older converters; boxes come out relative to the input's size.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import machine
from pipeline.errors import TrainingError, UsageError
from pipeline.runtimes import HOW_TO_GET_A_WHOLE_FILE, ExportOptions, LoadOptions, Requires

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector, Network

REQUIRES = Requires("litert", load=("ai_edge_litert",), export=("ultralytics", "litert_torch", "ai_edge_quantizer"))
SUFFIX = ".tflite"
IDENTIFIER = b"TFL3"
"""At byte 4 of every such file: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs"""
PRECISIONS = ("fp32", "int8", "w8a32")

# Scopes that stay in float under `int8`: what turns distances into boxes, and the head's last convolutions. Measured on 24 street
# scenes with yolo11n at 1920x1080, the boxes' median shift falls from 9.7 to 1.1 px by it, and the network gets no slower.
_DECODING = r"Detect_\d+;|DFL_dfl|_NormalizeCoords;|serving_default_output"
_LAST_CONVOLUTIONS = r"Detect_\d+/[\w.]*Sequential_\d+/[\w.]*Conv2d_2;"


def unavailable() -> str:
    """Why this machine cannot convert; "" when it can."""
    if (sys.platform, platform.machine()) in (("linux", "x86_64"), ("darwin", "arm64")):
        return ""
    here = f"{platform.system()} on {platform.machine()}"
    return f"the LiteRT converter exists for Linux on x86-64 and for macOS on Apple's processors, not for {here}"


def machine_key() -> str:
    """On a machine that cannot convert, there is no artifact."""
    return unavailable()


def place(device: str) -> str:
    """Always "cpu". Raises UsageError for anything but that and "auto"."""
    if device not in ("auto", "cpu"):
        raise UsageError(f"LiteRT runs on the CPU here, and the device is '{device}'.", "Set cpu.")
    return "cpu"


def export(weights: Path, out: Path, options: ExportOptions) -> Path:
    """Write `<weights' name>.tflite` to `out`; takes half a minute or more.

    Raises:
        ExportError: the converter failed.
    """
    from pipeline.runtimes._isolated import isolated

    target = out / f"{weights.stem}{SUFFIX}"
    isolated("litert", _build, weights, target, options)
    return target


def _build(weights: Path, target: Path, options: ExportOptions) -> None:
    from pipeline.yolo import exporting

    flatbuffer, metadata = exporting.to_litert(weights, options)
    if options.precision != "fp32":
        flatbuffer = _quantize(flatbuffer, options)
    exporting.write_litert(target, flatbuffer, metadata)


def _quantize(flatbuffer: bytes, options: ExportOptions) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer, recipe  # type: ignore[import-untyped]

    from pipeline.runtimes.onnx import calibration_batches

    tool = quantizer.Quantizer(flatbuffer)
    if options.precision == "w8a32":
        tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        return bytes(tool.quantize().quantized_model)
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    operations = qtyping.TFLOperationName
    in_float = [(".*", operations.INPUT), (".*", operations.OUTPUT)]
    in_float += [(_DECODING, operations.ALL_SUPPORTED), (_LAST_CONVOLUTIONS, operations.ALL_SUPPORTED)]
    for scope, operation in in_float:
        tool.update_quantization_recipe(regex=scope, operation_name=operation, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE)
    ranges = tool.calibrate({"serving_default": [{"args_0": batch} for batch in calibration_batches(options)]})
    return bytes(tool.quantize(calibration_result=ranges).quantized_model)


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from a `.tflite` file that ultralytics' exporter (or ours) wrote; always on the CPU.

    Raises:
        TrainingError: not such a file.
    """
    from pipeline.inference import Detector

    options = options or LoadOptions()
    return Detector.of(open_network(path, device, options), "litert", options.thresholds, options.rectangular)


def open_network(path: Path, device: str, options: LoadOptions) -> Network:
    """The network of any task in such a file; raises as `load`."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    from pipeline.inference import Network

    _require_identifier(path)
    class_names, task, keypoints = _metadata(path)
    try:
        with _quiet():
            interpreter = Interpreter(os.fspath(path), num_threads=options.threads or machine.usable_cores())
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} cannot be loaded by LiteRT: {error}", HOW_TO_GET_A_WHOLE_FILE) from error
    source = interpreter.get_input_details()[0]
    # Boxes before prototypes: in which order the converter leaves them is its own affair.
    results = sorted(interpreter.get_output_details(), key=lambda result: len(result["shape"]))
    if source["dtype"] != np.float32 or any(result["dtype"] != np.float32 for result in results):
        raise TrainingError(f"{path}: its input is {source['dtype'].__name__}; only float input and output are supported.")
    channels_last = source["shape"][3] == 3
    batch, height, width = (int(source["shape"][axis]) for axis in ((0, 1, 2) if channels_last else (0, 2, 3)))
    first_keypoint = 4 + len(class_names)

    def forward(inputs: Batch) -> list[NDArray[np.float32]]:
        interpreter.set_tensor(source["index"], inputs.transpose(0, 2, 3, 1) if channels_last else inputs)
        interpreter.invoke()
        raw: list[NDArray[np.float32]] = [interpreter.get_tensor(result["index"]) for result in results]  # copies
        if raw[0].ndim == 3:
            raw[0][:, 0:4:2] *= width
            raw[0][:, 1:4:2] *= height
            if keypoints:
                raw[0][:, first_keypoint :: keypoints[1]] *= width
                raw[0][:, first_keypoint + 1 :: keypoints[1]] *= height
        return raw

    return Network(forward, class_names, (height, width), batch=batch, task=task, keypoints=keypoints)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what native code writes to stderr ("Created TensorFlow Lite XNNPACK delegate") out of the progress bars."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _require_identifier(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(8)[4:] != IDENTIFIER:
            raise TrainingError(f"{path} is no TFLite file.", HOW_TO_GET_A_WHOLE_FILE)


def _metadata(path: Path) -> tuple[tuple[str, ...], str, tuple[int, int] | None]:
    """Class names, task and shape of keypoints, from what the exporter appended to the file as a zip entry."""
    from pipeline.runtimes.onnx import read_task

    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
        names = metadata["names"]
        task, keypoints = read_task({key: str(metadata[key]) for key in ("task", "kpt_shape") if key in metadata}, path)
        return tuple(str(names[key]) for key in sorted(names, key=int)), task, keypoints
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{path} has no class names in it, so its answers cannot be read.",
            "Export it with this pipeline or with `yolo export format=litert`.",
        ) from error
