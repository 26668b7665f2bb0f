"""ONNX, run by ONNX Runtime (https://onnx.ai, https://onnxruntime.ai).

fp16 halves the file and helps GPUs; input and output stay float32. int8 quantizes the convolutions but for the last ones of the
head, which cost most of the accuracy for little of the time; on CPUs without VNNI it is slower than fp32.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import files, machine
from pipeline.errors import MissingDependency, TrainingError, UsageError
from pipeline.runtimes import HOW_TO_GET_A_WHOLE_FILE, ExportOptions, LoadOptions, Requires

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector, Network

REQUIRES = Requires("onnx", load=("onnxruntime",), export=("ultralytics", "onnx", "onnxslim"))
SUFFIX = ".onnx"
PRECISIONS = ("fp32", "fp16", "int8")
CUDA = "CUDAExecutionProvider"


def export(weights: Path, out: Path, options: ExportOptions, symmetric: bool = False) -> Path:
    """Write `<weights' name>.onnx` to `out`.

    Args:
        symmetric: int8 without zero points and with biases in float, a little less accurate; TensorRT builds from nothing else.

    Raises:
        ExportError: the exporter failed.
    """
    from pipeline.runtimes._isolated import isolated

    target = out / f"{weights.stem}{SUFFIX}"
    isolated("onnx", _build, weights, target, options, symmetric)
    return target


def _build(weights: Path, target: Path, options: ExportOptions, symmetric: bool) -> None:
    from pipeline.yolo import exporting

    if options.precision == "fp32":
        exporting.to_onnx(weights, target, options)
        return
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-") as scratch:
        plain = Path(scratch) / "fp32.onnx"
        exporting.to_onnx(weights, plain, options)
        if options.precision == "fp16":
            _to_fp16(plain, target)
        else:
            _to_int8(plain, target, options, symmetric)


def _to_fp16(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers import float16

    half = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True)
    with files.atomic_path(target) as temporary:
        onnx.save(half, temporary)


def _to_int8(source: Path, target: Path, options: ExportOptions, symmetric: bool) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    batches = calibration_batches(options)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Batch] | None:
            batch = next(batches, None)
            return None if batch is None else {"images": batch}

    with files.atomic_path(target) as temporary:
        quantize_static(
            source,
            temporary,
            Reader(),
            nodes_to_exclude=_kept_in_float(onnx.load(source).graph),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            # Quantized biases are int32, which TensorRT does not take: https://github.com/microsoft/onnxruntime/issues/14229
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": not symmetric},
        )


def _kept_in_float(graph: Any) -> list[str]:
    """Nodes without weights, and the head's last convolutions.

    One int8 scale over a tensor of pixels (0 to 640) and scores (0 to 1) would round every score to 0; and measured on 24 street
    scenes with yolo11n, leaving the last convolutions out halves the shift of the boxes (median 3.4 → 1.8 px at 1920x1080).
    """
    last = re.compile(r"/cv[23]\.\d/cv[23]\.\d\.2/Conv$|/dfl/")
    return [node.name for node in graph.node if node.op_type not in ("Conv", "Gemm", "MatMul") or last.search(node.name)]


def calibration_batches(options: ExportOptions) -> Iterator[Batch]:
    """The calibration images as network inputs, in batches of exactly `options.batch` (the last image repeated)."""
    from pipeline import images
    from pipeline.inference import Letterbox, to_batch

    for start in range(0, len(options.calibration), options.batch):
        paths = list(options.calibration[start : start + options.batch])
        paths += paths[-1:] * (options.batch - len(paths))
        pixels = [images.decode(path) for path in paths]
        yield to_batch([Letterbox.fit(image.shape[:2], options.imgsz).apply(image) for image in pixels])


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from an ONNX file that ultralytics' exporter (or ours) wrote.

    Args:
        device: "auto" takes an NVIDIA GPU where this onnxruntime has one; "cuda" insists on it.

    Raises:
        TrainingError: not an ONNX file, or one without class names or with another input than YOLO's.
        MissingDependency: "cuda", but this onnxruntime cannot use it.
    """
    from pipeline.inference import Detector

    options = options or LoadOptions()
    return Detector.of(open_network(path, device, options), "onnx", options.thresholds, options.rectangular)


def open_network(path: Path, device: str, options: LoadOptions) -> Network:
    """The network of any task in such a file; raises as `load`."""
    from pipeline.inference import Network

    session = _session(path, device, options.threads or machine.usable_cores())
    metadata = session.get_modelmeta().custom_metadata_map
    class_names, trained = read_metadata(metadata, path)
    task, keypoints = read_task(metadata, path)
    source = session.get_inputs()[0]
    if source.type != "tensor(float)" or len(source.shape) != 4:
        raise TrainingError(
            f"{path}: its input is {source.type} {source.shape}; only float32 images (batch, 3, height, width) are supported.",
            "Export it with this pipeline: onnx:fp16 keeps input and output in float32.",
        )
    batch, _, height, width = source.shape
    name = source.name
    fixed_size = isinstance(height, int) and isinstance(width, int)

    def forward(inputs: Batch) -> list[NDArray[np.float32]]:
        return list(session.run(None, {name: inputs}))

    return Network(
        forward,
        class_names,
        (height, width) if fixed_size else options.imgsz or trained,
        _where(session),
        batch if isinstance(batch, int) else options.batch,
        fixed_batch=isinstance(batch, int),
        fixed_size=fixed_size,
        task=task,
        keypoints=keypoints,
    )


def _session(path: Path, device: str, threads: int) -> Any:
    import onnxruntime

    providers = _providers(device, onnxruntime.get_available_providers())
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads  # it does not look at the CPU affinity itself
    settings.log_severity_level = 3
    # On stdout it tells which libraries of CUDA it misses, and that it takes the CPU instead.
    with contextlib.redirect_stdout(io.StringIO()):
        if len(providers) > 1:
            onnxruntime.preload_dlls()  # CUDA and cuDNN as they come with PyTorch, which need not be imported here
        try:
            session = onnxruntime.InferenceSession(os.fspath(path), settings, providers=providers)
        except Exception as error:  # its exceptions share no base class
            raise TrainingError(f"{path} cannot be loaded by ONNX Runtime: {error}", HOW_TO_GET_A_WHOLE_FILE) from error
    if device.startswith("cuda") and _where(session) == "cpu":
        raise MissingDependency(
            f"device '{device}' was asked for, but this onnxruntime cannot use it.",
            "The libraries must be those of its CUDA version (https://onnxruntime.ai/docs/install); or set `device: cpu`.",
        )
    return session


def _where(session: Any) -> str:
    """The device that a session runs on: "cpu" or "cuda:<n>"."""
    if session.get_providers()[0] != CUDA:
        return "cpu"
    return f"cuda:{session.get_provider_options()[CUDA]['device_id']}"


def place(device: str) -> str:
    """The device that a word means for this onnxruntime: "cpu" or "cuda:<n>".

    Raises:
        UsageError: it is neither.
        MissingDependency: "cuda", but this onnxruntime runs on the CPU only.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise UsageError(f"ONNX Runtime runs on the CPU or on an NVIDIA GPU, and the device is '{device}'.", "Set cpu or cuda.")
    import onnxruntime

    first = _providers(device, onnxruntime.get_available_providers())[0]
    return "cpu" if isinstance(first, str) else f"cuda:{first[1]['device_id']}"


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    if device.startswith("cuda") and CUDA not in available:
        raise MissingDependency(
            f"device '{device}' was asked for, but this onnxruntime runs on the CPU only.",
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu; or set `device: cpu`.",
        )
    if device in ("cpu", "mps") or CUDA not in available:
        return ["CPUExecutionProvider"]
    number = int(device.partition(":")[2] or 0)
    # TF32 is on by default, and rounds fp32 to 10 bits.
    return [(CUDA, {"device_id": number, "use_tf32": 0}), "CPUExecutionProvider"]


def metadata_of(path: Path) -> dict[str, str]:
    """What an exporter wrote into an ONNX file; needs the package onnx."""
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def read_metadata(metadata: Mapping[str, str], path: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    """Class names and (height, width) of the network's input, as ultralytics' exporter stores them."""
    try:
        names = ast.literal_eval(metadata["names"])
        height, width = ast.literal_eval(metadata["imgsz"])
        return tuple(str(names[number]) for number in sorted(names)), (int(height), int(width))
    except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise TrainingError(
            f"{path} has no class names in its metadata, so its answers cannot be read.",
            "Export it with this pipeline or with `yolo export`.",
        ) from error


def read_task(metadata: Mapping[str, str], path: Path) -> tuple[str, tuple[int, int] | None]:
    """The task, "detect" where nothing is said, and (number, values of each) of a pose model's keypoints."""
    task = metadata.get("task", "detect")
    if task != "pose":
        return task, None
    try:
        number, values = ast.literal_eval(metadata["kpt_shape"])
        return task, (int(number), int(values))
    except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise TrainingError(f"{path} does not say how many keypoints it finds.", "Export it with this pipeline.") from error
