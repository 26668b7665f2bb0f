"""From a cell of the grid to the callables that are timed: decode, preprocess, inference, postprocess.

Each phase takes what the one before gave, and nothing else is kept between calls: the phases of several subjects can be called in
any order. `inference` ends with numpy arrays on this machine: of a GPU, it includes both transfers and waits for the device.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import machine, runtimes
from pipeline.bench._models import TASKS, Model, file_for, find, task_of
from pipeline.bench.settings import STREAM, batches_in_turn
from pipeline.bench.timing import Phase
from pipeline.bench.worker import Loaded
from pipeline.errors import MissingDependency, PipelineError, TrainingError, UsageError
from pipeline.runtimes import DEFAULT_CACHE, REFERENCE, LoadOptions

if TYPE_CHECKING:
    from pipeline.bench._tasks import Inputs, Outputs
    from pipeline.detections import Image
    from pipeline.inference import Detector, Network

__all__ = ["TASKS", "Model", "Request", "Subject", "export", "find", "load", "prepare", "task_of", "why_not"]


@dataclass(frozen=True)
class Request:
    """What a cell asks for.

    Attributes:
        model: see `find`.
        runtime: its name.
        precision: one of the runtime's; "fp32" for a checkpoint.
        device: "auto", "cpu", "cuda:0", "mps", "gpu", "npu" …
        imgsz: network input (height, width) in pixels, multiples of 32.
        batch: images of one call of `inference`.
        threads: of the CPU; 0 for every core this process may use.
        calibration: images that int8 takes its value ranges from.
        cache: where exports are kept.
    """

    model: Model
    runtime: str
    precision: str = "fp32"
    device: str = "cpu"
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 1
    threads: int = 0
    calibration: tuple[Path, ...] = ()
    cache: Path = DEFAULT_CACHE


@dataclass(frozen=True)
class Subject:
    """A loaded model and its phases.

    Attributes:
        file: what the runtime runs.
        device: where it runs, as the runtime names it: "cpu", "cuda:0", "gpu" …
        decode: a file → RGB (H, W, 3) uint8, upright. Raises UnreadableImage; see `_decoder`.
        preprocess: `batch` images → the network's input.
        inference: the input → the raw outputs.
        postprocess: the outputs → one result an image: `Detections`, `Segmented`, `Posed` or `Classified`.
    """

    file: Path
    device: str
    decode: Callable[[Path], Image]
    preprocess: Callable[[Sequence[Image]], Inputs]
    inference: Callable[[Inputs], Outputs]
    postprocess: Callable[[Outputs], list[Any]]

    @property
    def size_bytes(self) -> int:
        """Of the file, and of the weights beside an OpenVINO graph."""
        return sum(part.stat().st_size for part in parts_of(self.file))


def prepare(request: Request, files: Sequence[Path], names: Sequence[str], scenario: str, file: Path | None = None) -> Loaded:
    """A `Loader` when its arguments are bound: the model of a cell, ready to be timed.

    Single images and batches are read from their files each time; a camera gives frames that are decoded already.

    Args:
        names: what the files are called in messages.
        file: see `load`.
    """
    _import_libraries(request)
    started = time.perf_counter_ns()
    subject = load(request, file)
    load_ms = (time.perf_counter_ns() - started) / 1e6
    rest: list[Phase] = [("inference", subject.inference), ("postprocess", subject.postprocess)]
    if scenario == STREAM:
        frames = [[subject.decode(path)] for path in files]
        return Loaded([("preprocess", subject.preprocess), *rest], frames, names, 1, subject.device, load_ms)
    count = batches_in_turn(len(files), request.batch)
    groups = [
        [(start + place) % len(files) for place in range(request.batch)]
        for start in range(0, count * request.batch, request.batch)
    ]
    decode = subject.decode
    phases: list[Phase] = [("decode", lambda paths: [decode(path) for path in paths]), ("preprocess", subject.preprocess), *rest]
    inputs = [[files[place] for place in group] for group in groups]
    called = [_batch_called([names[place] for place in group]) for group in groups]
    return Loaded(phases, inputs, called, request.batch, subject.device, load_ms)


_MOST_NAMED = 4


def _batch_called(names: Sequence[str]) -> str:
    """Each image once, and not many: what went wrong comes after them, and has to be read, too."""
    first, rest = list(dict.fromkeys(names))[:_MOST_NAMED], len(set(names)) - _MOST_NAMED
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")


_INNER = {"ai_edge_litert": "ai_edge_litert.interpreter"}
"""What of a library does the work, where importing it alone loads nothing."""


def _import_libraries(request: Request) -> None:
    """Their time belongs to the process, and not to the model; those of reading and scaling images among them."""
    from pipeline.bench import _tasks  # noqa: F401

    for name in runtimes.module(request.runtime).REQUIRES.load:
        if name == "ultralytics":
            from pipeline.yolo import ultralytics

            ultralytics(request.cache)
        else:
            importlib.import_module(_INNER.get(name, name))


def parts_of(file: Path) -> list[Path]:
    """A model's file, and the weights beside an OpenVINO graph."""
    return [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]


def why_not(request: Request) -> str:
    """Why a cell is impossible, in one sentence without a full stop; "" when nothing is known against it. Loads no model."""
    model, name, precision = request.model, request.runtime, request.precision
    module = runtimes.module(name)
    is_checkpoint = model.runtime == REFERENCE
    if model.task != "detect" and not hasattr(module, "open_network"):
        return f"{name} runs detectors only"
    if model.runtime != name:
        if not is_checkpoint:
            return f"{model.path.name} is a file for {model.runtime}"
        if reason := runtimes.unavailable(name):
            return reason
    if name == REFERENCE and precision != "fp32":
        return "pytorch runs the checkpoint as it was trained, in fp32"
    if name != REFERENCE and precision not in module.PRECISIONS:
        return f"{name} has no {precision} (it has {', '.join(module.PRECISIONS)})"
    if model.task != "detect" and precision not in ("fp32", "fp16"):
        return f"{precision} is made of detectors only"
    if precision == "int8" and model.runtime != name and not request.calibration:
        return "int8 needs images to take its value ranges from"
    try:
        if model.runtime == name:
            runtimes.require(name, "load")
        else:
            runtimes.require(name, "load", "export")
        if hasattr(module, "place"):
            module.place(request.device)
        elif request.device not in ("auto", "cpu"):
            return f"{name} runs on the CPU only"
    except MissingDependency as error:
        return f"{error.message} {error.hint}".rstrip(".")
    except PipelineError as error:
        return error.message.rstrip(".")
    return ""


def export(request: Request) -> Path:
    """The file that the runtime runs, made where it is not in the cache; takes seconds, with LiteRT half a minute.

    Raises:
        ExportError: the exporter failed.
        UsageError: this machine cannot make it.
    """
    r = request
    return file_for(r.model, r.runtime, r.precision, r.imgsz, r.batch, r.cache, r.calibration)


def load(request: Request, file: Path | None = None) -> Subject:
    """Load a model.

    Args:
        file: what `export` gave; it is exported when it is None.

    Raises:
        PipelineError: it cannot be exported or loaded, its task or size is another one, or the device is not there.
    """
    path = export(request) if file is None else file
    module = runtimes.module(request.runtime)
    threads = request.threads or machine.usable_cores()
    import cv2

    from pipeline.bench import _tasks

    # As in `predict`: threads of OpenCV get in the way of the runtime's, and scale a photo no faster (benchmarks/method.py).
    cv2.setNumThreads(1)
    options = LoadOptions(
        threads=threads, thresholds=_tasks.THRESHOLDS, imgsz=request.imgsz, batch=request.batch, cache=request.cache
    )
    if request.model.task == "detect":
        detector = module.load(path, request.device, options)
        _check_size(path, detector.imgsz, detector.batch, detector.fixed_batch, request)
        return _of_detector(path, detector, request)
    network = module.open_network(path, request.device, options)
    if network.task != request.model.task:
        raise TrainingError(f"{path} is a '{network.task}' model, and not one for '{request.model.task}'.")
    _check_size(path, network.imgsz, network.batch, network.fixed_batch, request)
    return _of_network(path, network, request)


def _check_size(path: Path, imgsz: tuple[int, int], batch: int, fixed: bool, request: Request) -> None:
    if imgsz != request.imgsz or (fixed and batch != request.batch):
        raise UsageError(
            f"{path} takes {batch} × {imgsz[1]}x{imgsz[0]} px, and the cell asks for {request.batch} × "
            f"{request.imgsz[1]}x{request.imgsz[0]} px.",
            "Give the checkpoint, which is exported as each cell wants it.",
        )


def _decoder() -> Callable[[Path], Image]:
    """Reads a photo, or on machines without OpenCV and Pillow the array of its pixels."""
    from pipeline.bench import _portable

    if _portable.is_installed():
        return _portable.read
    from pipeline import images

    return images.decode


def _of_detector(path: Path, detector: Detector, request: Request) -> Subject:
    """The phases of `Detector` itself: what is timed is what predicts."""
    from pipeline.bench._tasks import Inputs, Outputs

    def preprocess(group: Sequence[Image]) -> Inputs:
        batch, letterboxes = detector.preprocess(group)
        return Inputs(batch, tuple(letterboxes))

    return Subject(
        path,
        detector.device,
        _decoder(),
        preprocess,
        lambda inputs: Outputs([detector.forward(inputs.batch)], inputs.letterboxes),
        lambda outputs: list(detector.postprocess(outputs.raw[0], outputs.letterboxes)),
    )


def _of_network(path: Path, network: Network, request: Request) -> Subject:
    from pipeline.bench import _tasks

    classes, imgsz = len(network.class_names), request.imgsz
    before = _tasks.cropped if network.task == "classify" else _tasks.letterboxed

    def preprocess(group: Sequence[Image]) -> Inputs:
        return before(group, imgsz)

    def inference(inputs: Inputs) -> Outputs:
        return _tasks.Outputs(network.forward(inputs.batch), inputs.letterboxes)

    def postprocess(outputs: Outputs) -> list[Any]:
        _tasks.check(network, outputs.raw, str(path))
        if network.task == "segment":
            return list(_tasks.segmented(outputs, classes))
        if network.task == "pose":
            return list(_tasks.posed(outputs, classes, network.keypoints or (0, 0)))
        return list(_tasks.classified(outputs))

    return Subject(path, network.device, _decoder(), preprocess, inference, postprocess)
