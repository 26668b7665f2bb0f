"""TensorRT engines for NVIDIA GPUs (https://docs.nvidia.com/deeplearning/tensorrt), TensorRT 10 and newer.

An engine is compiled for one GPU model by one TensorRT version and is of no use elsewhere: TensorRT refuses it, or runs it slower
than it should. Both are written beside the engine and checked before it is loaded. On a machine without an NVIDIA GPU the export
leaves the ONNX to build from and the command that builds it.

Precision is in the ONNX ("strongly typed" networks), which is the only way since TensorRT 11; fp32 is not TF32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import devices, files, machine
from pipeline.errors import ExportError, TrainingError, UsageError
from pipeline.runtimes import ExportOptions, LoadOptions, Requires, onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector, Network

REQUIRES = Requires("tensorrt", load=("tensorrt", "torch"), export=("ultralytics", "onnx", "onnxslim", "onnxruntime"))
SUFFIX = ".engine"
PRECISIONS = ("fp32", "fp16", "int8")
INSTRUCTIONS = "build-engine.txt"


def unavailable() -> str:
    """Why this machine cannot build or run an engine; "" when it can."""
    return "" if machine.gpu_names() else "this machine has no NVIDIA GPU"


def machine_key() -> str:
    """An engine is of use to one GPU model and one TensorRT version only."""
    return unavailable() or f"{machine.gpu_names()[0]}, TensorRT {_installed_version()}"


def _installed_version() -> str:
    """TensorRT's, without importing it where it can be: its distribution is named after the CUDA version that it is built for."""
    names = ("tensorrt-cu13", "tensorrt-cu12", "tensorrt")
    if version := next((version for version in map(machine.version_of, names) if version), ""):
        return version
    try:  # boards and NVIDIA's containers have it without a distribution
        import tensorrt
    except ImportError:
        return ""
    return str(tensorrt.__version__)


def place(device: str) -> str:
    """The GPU that a device means here: "cuda:<n>".

    Raises:
        UsageError: it is no NVIDIA GPU, there is none, or PyTorch cannot use it.
    """
    if device in ("cpu", "mps"):
        raise UsageError(f"A TensorRT engine needs an NVIDIA GPU, and the device is '{device}'.", "Set `device: auto`.")
    return devices.pick("cuda" if device == "auto" else device)


def export(weights: Path, out: Path, options: ExportOptions) -> Path:
    """Write `<weights' name>.engine`, the `.json` that binds it to this machine, and the ONNX it was built from.

    Raises:
        ExportError: TensorRT cannot parse the network or build the engine.
    """
    return build(onnx.export(weights, out, options, symmetric=True), out / f"{weights.stem}{SUFFIX}")


def leave_instructions(weights: Path, out: Path, options: ExportOptions) -> str:
    """Write the ONNX and `build-engine.txt` to `out`; returns a sentence that says so."""
    source = onnx.export(weights, out, options, symmetric=True)
    command = f"""python -c "from pipeline.runtimes.engine import build; build('{source.name}', '{weights.stem}{SUFFIX}')\""""
    files.write_text(
        out / INSTRUCTIONS,
        "A TensorRT engine runs only on the GPU model and the TensorRT version that built it.\n"
        f"So copy {source.name} ({options.precision}) to the machine that will run it. There, in the pipeline's repository:\n\n"
        '    pip install -c scripts/constraints.txt -e ".[train,onnx,tensorrt]"\n\n'
        f"and then in the folder of {source.name}:\n\n"
        f"    {command}\n\n"
        f"This writes {weights.stem}{SUFFIX} and, beside it, a .json with the GPU and the version it is bound to.\n",
    )
    return f"{INSTRUCTIONS} has the command that builds it from {source.name} on the GPU machine"


def build(
    onnx_file: Path | str, engine_file: Path | str, device: str = "auto", metadata: Mapping[str, str] | None = None
) -> Path:
    """Compile an ONNX file that `onnx.export` wrote; takes minutes.

    Args:
        device: the GPU to build for, "auto" for the first.
        metadata: see `onnx.metadata_of`; for machines without the package onnx.

    Raises:
        UsageError: there is no such GPU.
        ExportError: TensorRT cannot parse the network or build the engine.
    """
    gpu = place(device)
    import tensorrt as trt
    import torch

    source, target = Path(onnx_file), Path(engine_file)
    binding = {"gpu": torch.cuda.get_device_name(gpu), "tensorrt": trt.__version__, **_describe(source, metadata)}
    with torch.cuda.device(gpu):
        builder = trt.Builder(_logger())
        # Needed up to TensorRT 10; since 11 all networks are strongly typed.
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if flag is None else 1 << int(flag))
        parser = trt.OnnxParser(network, _logger())
        if not parser.parse_from_file(str(source)):
            problems = [str(parser.get_error(number)) for number in range(parser.num_errors)]
            raise ExportError(f"TensorRT {trt.__version__} cannot parse {source}.", problems=problems)
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and rounds fp32 to 10 bits
        profile = _profile(builder, network.get_input(0), binding)
        if profile is not None:
            config.add_optimization_profile(profile)
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise ExportError(f"TensorRT {trt.__version__} could not build an engine from {source}.", problems=_problems())
    # The sidecar first: an engine without it is never taken for a whole one.
    files.write_text(_sidecar(target), json.dumps(binding, indent=1, ensure_ascii=False) + "\n")
    files.write_bytes(target, bytes(serialized))
    return target


@lru_cache(maxsize=1)
def _logger() -> Any:
    """One for the life of the process: builders, runtimes and engines keep using it, and do not keep it alive.

    `problems` holds what went wrong since they were last taken: calls that fail return None, and only the log says why.
    """
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.problems: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.problems.append(" ".join(message.split()))

    return Logger()


def _problems() -> list[str]:
    """What TensorRT said of the last failure."""
    problems = list(_logger().problems)
    _logger().problems.clear()
    return problems


def _profile(builder: Any, source: Any, description: dict[str, Any]) -> Any:
    """The range of input shapes of a network with a dynamic batch or size; None for a fixed one."""
    shape = tuple(source.shape)
    if -1 not in shape:
        return None
    largest = (description["batch"], 3, *description["imgsz"])
    smallest = tuple(low if side == -1 else side for side, low in zip(shape, (1, 3, 32, 32), strict=True))
    profile = builder.create_optimization_profile()
    profile.set_shape(source.name, smallest, largest, largest)
    return profile


def _describe(onnx_file: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    metadata = onnx.metadata_of(onnx_file) if metadata is None else metadata
    class_names, imgsz = onnx.read_metadata(metadata, onnx_file)
    task, keypoints = onnx.read_task(metadata, onnx_file)
    batch = int(metadata.get("batch", 1))
    return {"class_names": list(class_names), "imgsz": list(imgsz), "batch": batch, "task": task, "keypoints": keypoints}


def _sidecar(engine_file: Path) -> Path:
    return engine_file.with_name(f"{engine_file.name}.json")


def check_binding(engine_file: Path, gpu: str, tensorrt: str) -> dict[str, Any]:
    """What is known of an engine, if it may run here.

    Raises:
        TrainingError: it was built for another GPU or by another TensorRT, or nothing says for which.
    """
    rebuild = (
        f"Build it again here: {INSTRUCTIONS} beside the exported ONNX has the command, and a benchmark's pack builds what is "
        f"missing: delete {engine_file.name}."
    )
    try:
        binding: dict[str, Any] = json.loads(_sidecar(engine_file).read_text(encoding="utf-8"))
        built_for, built_by, *_ = (binding[key] for key in ("gpu", "tensorrt", "class_names", "imgsz", "batch"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{engine_file} has no readable {_sidecar(engine_file).name} beside it, so nothing says which GPU it is for.", rebuild
        ) from error
    if (built_for, built_by) != (gpu, tensorrt):
        raise TrainingError(
            f"{engine_file} was built for {built_for} by TensorRT {built_by}; this machine has {gpu} and TensorRT {tensorrt}.",
            rebuild,
        )
    return binding


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from an engine that `build` wrote on a machine like this one.

    Args:
        device: see `place`.

    Raises:
        UsageError: no NVIDIA GPU, or a device that is none.
        TrainingError: built for another GPU or TensorRT version.
    """
    from pipeline.inference import Detector

    options = options or LoadOptions()
    return Detector.of(open_network(path, device, options), "engine", options.thresholds, options.rectangular)


def open_network(path: Path, device: str, options: LoadOptions) -> Network:
    """The network of any task in an engine; raises as `load`."""
    if reason := unavailable():
        raise UsageError(f"{path} needs an NVIDIA GPU: {reason}.", "Use the ONNX model instead.")
    gpu = place(device)
    import tensorrt as trt
    import torch

    from pipeline.inference import Network

    binding = check_binding(path, torch.cuda.get_device_name(gpu), trt.__version__)
    with torch.cuda.device(gpu):  # an engine and its context belong to the GPU that is current when they are made
        engine = trt.Runtime(_logger()).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            why = "; ".join(_problems()) or "the file is damaged"
            raise TrainingError(f"TensorRT {trt.__version__} cannot load {path}: {why}")
        forward = _forward(engine, torch.device(gpu))
    height, width = binding["imgsz"]
    fixed = -1 not in tuple(engine.get_tensor_shape(engine.get_tensor_name(0)))
    keypoints = binding.get("keypoints")
    return Network(
        forward,
        tuple(binding["class_names"]),
        (height, width),
        gpu,
        binding["batch"],
        fixed_batch=fixed,
        fixed_size=fixed,
        task=binding.get("task", "detect"),
        keypoints=(keypoints[0], keypoints[1]) if keypoints else None,
    )


def _forward(engine: Any, gpu: Any) -> Callable[[Batch], list[NDArray[np.float32]]]:
    """Inference through torch's CUDA memory: torch is here anyway, and no second allocator is needed."""
    import torch

    context = engine.create_execution_context()
    source, *results = (engine.get_tensor_name(number) for number in range(engine.num_io_tensors))
    stream = torch.cuda.Stream(gpu)

    def forward(batch: Batch) -> list[NDArray[np.float32]]:
        with torch.cuda.device(gpu), torch.cuda.stream(stream):
            inputs = torch.from_numpy(batch).to(gpu)
            context.set_input_shape(source, tuple(inputs.shape))
            context.set_tensor_address(source, inputs.data_ptr())
            outputs = [torch.empty(tuple(context.get_tensor_shape(name)), dtype=torch.float32, device=gpu) for name in results]
            for name, output in zip(results, outputs, strict=True):
                context.set_tensor_address(name, output.data_ptr())
            if not context.execute_async_v3(stream.cuda_stream):
                raise RuntimeError(f"TensorRT did not run the network: {'; '.join(_problems())}")
            return [output.cpu().numpy() for output in outputs]

    return forward
