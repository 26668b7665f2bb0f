"""How a model runs; one module a runtime.

A runtime module has:

    REQUIRES = Requires(...)                                   what must be installed to run it, and to make its files
    SUFFIX = ".onnx"                                           by which its files are known
    PRECISIONS = ("fp32", ...)                                 what `export` can make; empty where there is nothing to export
    def export(weights, out, options) -> Path                  make the artifact in folder `out`, atomically
    def load(path, device, options) -> Detector                load it; the result is all that anybody sees of a runtime
    def open_network(path, device, options) -> Network         optional: the same, for tasks other than detection
    def unavailable() -> str                                   optional: why this machine cannot make it, "" when it can; for
                                                               hardware and systems, not for packages: those are `REQUIRES`
    def leave_instructions(weights, out, options) -> str       optional: put in `out` what a machine that can make it needs
    def machine_key() -> str                                   optional: what of this machine the artifact depends on
    def place(device) -> str                                   optional: the device that "auto", "cuda" … mean for it; raises
                                                               UsageError, before anything is trained, where it cannot run there

A runtime is judged by what its `Detector` returns. numpy, OpenCV and everything heavier are imported inside the functions: params
are checked against these modules on every command.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from pipeline import plugins
from pipeline.errors import MissingDependency, ParamsError, UsageError, did_you_mean, how_to_install

if TYPE_CHECKING:
    from pipeline.inference import Thresholds

ALIASES = {
    "pt": "pytorch",
    "torch": "pytorch",
    "ort": "onnx",
    "onnxruntime": "onnx",
    "tflite": "litert",
    "tensorrt": "engine",
    "trt": "engine",
    "ov": "openvino",
}
REFERENCE = "pytorch"
"""Runs the checkpoint itself; what the others run is made from it, and held against it."""
DEFAULT_CACHE = Path(".cache")
HOW_TO_GET_A_WHOLE_FILE = "It is damaged, or no model: copy it again from where it came, or export it anew."


@dataclass(frozen=True)
class Requires:
    """Importable modules, and the extra that brings them.

    Attributes:
        extra: its name in pyproject.toml.
        load: modules that running a file needs.
        export: modules that making a file needs.
    """

    extra: str
    load: tuple[str, ...]
    export: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadOptions:
    """How to run a model.

    Attributes:
        threads: CPU threads of one forward pass; 0 for every core this process may use.
        thresholds: what counts as a detection; None for what evaluation wants.
        imgsz: network input (height, width) for files that do not fix it; None for the size of the training.
        batch: images per forward pass, for files that do not fix it.
        rectangular: leave out padding, for files that allow it.
        cache: where ultralytics may keep its settings.
    """

    threads: int = 0
    thresholds: Thresholds | None = None
    imgsz: tuple[int, int] | None = None
    batch: int = 1
    rectangular: bool = False
    cache: Path = DEFAULT_CACHE


@dataclass(frozen=True)
class ExportOptions:
    """What to make. Raises ParamsError for int8 without calibration images.

    Attributes:
        imgsz: network input (height, width) in pixels, multiples of 32.
        precision: one of the module's `PRECISIONS`.
        batch: images per forward pass; the largest number when `dynamic`.
        dynamic: let batch and input size vary at run time, where the format can.
        opset: ONNX operator set; None for the newest one that every consumer reads.
        simplify: fold constants and fuse in the ONNX graph.
        calibration: images that int8 takes its value ranges from; they must come from the training split.
        task: what the checkpoint must be for: "detect", "segment", "classify" or "pose".
        cache: where ultralytics may keep its settings.
    """

    imgsz: tuple[int, int]
    precision: str = "fp32"
    batch: int = 1
    dynamic: bool = False
    opset: int | None = None
    simplify: bool = True
    calibration: tuple[Path, ...] = ()
    task: str = "detect"
    cache: Path = DEFAULT_CACHE

    def __post_init__(self) -> None:
        if self.precision == "int8" and not self.calibration:
            raise ParamsError(
                "int8 needs images to take its value ranges from, and there are none.", "Give the train split images."
            )


@dataclass(frozen=True)
class Wanted:
    """One artifact to make: a runtime's name and a precision."""

    runtime: str
    precision: str

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """`onnx`, `onnx:int8`, `tflite:int8` …

        Raises:
            UsageError: no such format.
            ParamsError: the format does not come in that precision.
        """
        name, _, precision = text.partition(":")
        wanted = cls(resolve_name(name.strip()), precision.strip() or "fp32")
        check_precision(wanted.runtime, wanted.precision)
        return wanted

    def __str__(self) -> str:
        return self.runtime if self.precision == "fp32" else f"{self.runtime}:{self.precision}"

    @property
    def folder(self) -> str:
        return str(self).replace(":", "-")


def names() -> list[str]:
    """Every runtime, sorted."""
    return plugins.names(__name__)


def resolve_name(name: str) -> str:
    """The runtime that a user's word means: `tflite` is `litert`, `tensorrt` is `engine`.

    Raises:
        UsageError: no runtime has that name; the nearest one is named.
    """
    resolved = ALIASES.get(name.lower(), name.lower())
    if resolved not in names():
        raise UsageError(f"Unknown format or runtime '{name}'.", did_you_mean(name, [*names(), *ALIASES]))
    return resolved


def module(name: str) -> ModuleType:
    """The module of a runtime, by its name or an alias."""
    return plugins.load(__name__, resolve_name(name))


def for_file(path: Path) -> ModuleType:
    """The runtime that runs a model file; of two suffixes that fit (`.onnx`, `.opencv.onnx`), the longer one counts.

    Raises:
        UsageError: the suffix belongs to no runtime.
    """
    by_suffix = {module(name).SUFFIX: name for name in names()}
    suffix = max((suffix for suffix in by_suffix if path.name.lower().endswith(suffix)), key=len, default=None)
    if suffix is None:
        raise UsageError(f"{path}: no runtime runs such a file.", f"Known: {', '.join(sorted(by_suffix))}.")
    return module(by_suffix[suffix])


def exportable() -> list[str]:
    """The runtimes that files can be made for."""
    return [name for name in names() if module(name).PRECISIONS]


def check_precision(name: str, precision: str) -> None:
    """Raise ParamsError unless a runtime can be exported in a precision."""
    supported = module(name).PRECISIONS
    if not supported:
        raise ParamsError(f"'{name}' is what an export starts from.", f"Formats: {', '.join(exportable())}.")
    if precision not in supported:
        raise ParamsError(f"{name} cannot be exported as {precision}.", f"{name} supports {', '.join(supported)}.")


def unavailable(name: str) -> str:
    """Why this machine cannot make a format, "" when it can."""
    ask = getattr(module(name), "unavailable", None)
    return str(ask()) if ask else ""


def require_device(name: str, device: str) -> None:
    """Raise UsageError when a runtime cannot run on the device that was asked for."""
    ask = getattr(module(name), "place", None)
    if ask:
        ask(device)


def require(name: str, *purposes: Literal["load", "export"]) -> None:
    """Raise MissingDependency, naming the extra, unless everything is installed. Imports nothing."""
    requires: Requires = module(name).REQUIRES
    needed = [part for purpose in purposes for part in (requires.load if purpose == "load" else requires.export)]
    missing = missing_modules(needed)
    if missing:
        verb = "export to" if "export" in purposes else "run"
        raise MissingDependency(
            f"To {verb} {name}, {' and '.join(missing)} must be installed.",
            how_to_install(requires.extra),
        )


def missing_modules(modules: Iterable[str]) -> list[str]:
    """Those of `modules` that are not installed, each once."""
    return [name for name in dict.fromkeys(modules) if util.find_spec(name) is None]
