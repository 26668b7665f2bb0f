"""A pack on the machine that it has travelled to: what lies in it, which of its cells are possible here, and what they run.

Needs Python, numpy and one runtime.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pipeline import machine, paths, runtimes
from pipeline.bench import _portable, grid, subjects
from pipeline.bench.inputs import hash_of
from pipeline.bench.measure import Planned
from pipeline.bench.settings import Method, Setting
from pipeline.bench.timing import WarmUpRule
from pipeline.bench.worker import Loaded
from pipeline.errors import DataError, UsageError, did_you_mean

JSON = dict[str, Any]

KIND = "yolo-pipeline benchmark pack"
SCHEMA_NUMBER = 1
PLAN = "plan.json"
RUNTIMES = ("onnx", "openvino", "engine")
"""What runs an ONNX file, or a file that is built from one where it runs."""
BUILT = "built"
_ACCURACY: JSON = {"map50_95": None, "map50": None, "measured_on": ""}
_UNPACK_AGAIN = "Unpack the whole zip once more, into an empty folder."


@dataclass(frozen=True)
class Pack:
    """An unpacked pack.

    Attributes:
        folder: with `plan.json`.
        plan: its content, see `packing.write`.
    """

    folder: Path
    plan: JSON

    @classmethod
    def open(cls, folder: Path) -> Pack:
        """Read the plan, and hold every file against its hash.

        Raises:
            DataError: something is missing, damaged, or of another release.
        """
        plan = _read(folder / PLAN)
        try:
            pack = cls(folder, plan)
            expected = {file["file"]: file["hash"] for model in plan["models"] for file in model["files"]}
            expected |= {entry["file"]: entry["hash"] for entry in plan["inputs"]}
            expected |= {entry["pixels"]: entry["pixels_hash"] for entry in plan["inputs"]}
            _ = pack.method, list(cells(pack, None, None, None)), pack.inputs
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{PLAN} is damaged ({type(error).__name__}: {error}).", _UNPACK_AGAIN) from error
        problems = [problem for name, value in expected.items() if (problem := _problem(folder, name, value))]
        if problems:
            raise DataError("The pack is not as it was made.", _UNPACK_AGAIN, problems)
        return pack

    @property
    def method(self) -> Method:
        known = self.plan["method"]
        return Method(**{**known, "warm_up": WarmUpRule(**known["warm_up"])})

    @property
    def inputs(self) -> list[JSON]:
        """As the record has them."""
        return [{key: entry[key] for key in ("name", "hash", "width", "height", "bytes")} for entry in self.plan["inputs"]]

    def input_files(self, library: str) -> list[Path]:
        """The photos, or without an image library the arrays of their pixels."""
        key = "file" if library == _portable.OPENCV else "pixels"
        return [self.folder / entry[key] for entry in self.plan["inputs"]]

    def model_of(self, setting: Setting) -> JSON:
        name = setting.model.split("/")[0]
        return next(model for model in self.plan["models"] if model["name"] == name)

    def source_of(self, setting: Setting) -> JSON | None:
        """The ONNX file that a cell runs, or that its file is built from; None where none travelled.

        OpenVINO's fp16 comes from fp32: it halves the weights itself.
        """
        precision = "fp32" if setting.runtime == "openvino" else setting.precision
        wanted = (precision, list(setting.imgsz), setting.batch)
        files = self.model_of(setting)["files"]
        return next((file for file in files if (file["precision"], file["imgsz"], file["batch"]) == wanted), None)


def _read(path: Path) -> JSON:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"There is no {path.name} beside run_benchmark.py ({error.strerror}).", _UNPACK_AGAIN) from error
    except ValueError as error:
        raise DataError(f"{path.name} is damaged: {error}.", _UNPACK_AGAIN) from error
    if not isinstance(plan, dict) or plan.get("kind") != KIND:
        raise DataError(f"{path.name} is no plan of a benchmark.", _UNPACK_AGAIN)
    if plan.get("schema") != SCHEMA_NUMBER:
        raise DataError(
            f"{path.name} is of schema {plan.get('schema')}, and this run_benchmark.py reads {SCHEMA_NUMBER}.",
            "Use the run_benchmark.py of the same zip.",
        )
    return plan


def _problem(folder: Path, name: str, expected: str) -> str:
    if not paths.is_safe_relative(name):
        return f"{name}: no name of a file in this folder"
    if not (folder / name).is_file():
        return f"{name}: missing"
    return "" if hash_of(folder / name) == expected else f"{name}: damaged, its hash differs"


# ---- which cells


def cells(
    pack: Pack, wanted: Sequence[str] | None, devices: Sequence[str] | None, threads: Sequence[int] | None
) -> list[Setting]:
    """Every cell of the plan, possible or not.

    Args:
        wanted, threads: instead of the plan's; 0 threads: all.
        devices: None for the CPU, and the first NVIDIA GPU where there is one.

    Raises:
        UsageError: a runtime that runs nothing of a pack.
    """
    axes = pack.plan["axes"]
    names = [_runtime(name) for name in wanted or axes["runtimes"]]
    cores = machine.usable_cores()
    found = grid.Axes(
        tuple(dict.fromkeys(names)),
        tuple(axes["precisions"]),
        tuple(devices or ["cpu", *(["cuda:0"] if machine.gpu_names() else [])]),
        tuple((height, width) for height, width in axes["imgsz"]),
        tuple(axes["batches"]),
        tuple(dict.fromkeys(number or cores for number in threads or axes["threads"])),
        tuple(axes["scenarios"]),
    )
    models = [(model["name"], model["task"], (model["imgsz"][0], model["imgsz"][1])) for model in pack.plan["models"]]
    return [setting for name, task, imgsz in models for setting in grid.cells(name, task, imgsz, found)]


def _runtime(name: str) -> str:
    found = runtimes.ALIASES.get(name.lower(), name.lower())
    if found not in RUNTIMES:
        raise UsageError(f"'{name}' runs nothing of this pack.", did_you_mean(name, RUNTIMES))
    return found


def why_not(pack: Pack, setting: Setting, out: Path) -> str:
    """Why a cell is impossible here, "" when nothing is known against it."""
    if pack.source_of(setting) is None:
        return f"no {setting.precision} of batch {setting.batch} is in this pack"
    if reason := _unavailable(setting.runtime):
        return reason
    if missing := runtimes.missing_modules(runtimes.module(setting.runtime).REQUIRES.load):
        return f"{' and '.join(missing)} must be installed: {how_to_get(setting.runtime)}"
    return subjects.why_not(_request(pack, setting, out))


@lru_cache
def _unavailable(runtime: str) -> str:
    """Asking the driver takes its time."""
    return runtimes.unavailable(runtime)


def sort_out(pack: Pack, settings: Sequence[Setting], out: Path) -> tuple[list[Setting], list[tuple[Setting, str]]]:
    """The possible cells, and the others with the reason."""
    reasons = [(setting, why_not(pack, setting, out)) for setting in settings]
    return [setting for setting, reason in reasons if not reason], [(setting, reason) for setting, reason in reasons if reason]


# ---- what is there


def what_is_there(library: str, wanted: Sequence[str]) -> Iterator[str]:
    """A line each: Python, the image library, the runtimes, and the command for what is missing."""
    yield f"Python {platform.python_version()}, numpy {machine.version_of('numpy')}, {machine.usable_cores()} cores"
    for gpu in machine.gpu_names():
        yield f"GPU: {gpu}"
    if library == _portable.OPENCV:
        yield "images: OpenCV and Pillow"
    else:
        yield (
            "images: numpy, as OpenCV (4.11 or newer) or Pillow is missing: photos are read as arrays, and the record says so. "
            f"To decode and scale as elsewhere: {_pip('opencv-python-headless pillow')}"
        )
    for name in wanted:
        missing = runtimes.missing_modules(runtimes.module(name).REQUIRES.load)
        if reason := _unavailable(name):
            yield f"{name}: {reason}"
        elif missing:
            yield f"{name}: missing. {how_to_get(name)}"
        else:
            yield f"{name}: there"
    if runtimes.missing_modules(["psutil"]):
        yield f"psutil: missing; without it less is told of what else runs here. {_pip('psutil')}"


def how_to_get(runtime: str) -> str:
    """The command that installs a runtime on this machine."""
    onnx = "onnxruntime-gpu" if machine.gpu_names() else "onnxruntime"
    return _pip({"onnx": onnx, "openvino": "openvino", "engine": "tensorrt-cu13 torch"}[runtime])


def _pip(packages: str) -> str:
    return f"{Path(sys.executable).name} -m pip install {packages}"


# ---- what they run


def file_of(pack: Pack, setting: Setting, out: Path) -> Path:
    """What the runtime runs: the ONNX file itself, or what `build` makes of it in `out`, for this machine and this release."""
    source = pack.source_of(setting)
    assert source is not None
    if setting.runtime == "onnx":
        return pack.folder / str(source["file"])
    bound_to = f"{source['hash']} {_builder(setting.runtime)} {setting.device}"
    key = hashlib.blake2b(bound_to.encode(), digest_size=6).hexdigest()
    return out / BUILT / f"{Path(source['file']).stem}-{setting.precision}-{key}{runtimes.module(setting.runtime).SUFFIX}"


@lru_cache
def _builder(runtime: str) -> str:
    module = runtimes.module(runtime)
    return str(module.machine_key()) if hasattr(module, "machine_key") else machine.version_of(runtime)


def build(pack: Pack, setting: Setting, out: Path) -> None:
    """Make what `file_of` names, unless it is there.

    Raises:
        ExportError: the runtime cannot.
    """
    target, source = file_of(pack, setting, out), pack.source_of(setting)
    if target.exists() or source is None:
        return
    from pipeline.runtimes import openvino
    from pipeline.runtimes._isolated import isolated

    file, metadata = pack.folder / str(source["file"]), source["metadata"]
    if setting.runtime == "openvino":
        openvino.build(file, target, setting.precision, metadata)
    else:
        isolated("engine", _build_engine, file, target, setting.device, metadata)


def _build_engine(source: Path, target: Path, device: str, metadata: JSON) -> None:
    from pipeline.runtimes import engine

    machine.number_gpus_as_nvml()
    engine.build(source, target, device, metadata)


def _request(pack: Pack, setting: Setting, out: Path) -> subjects.Request:
    about = pack.model_of(setting)
    file = file_of(pack, setting, out)
    model = subjects.Model(about["name"], setting.task, file, about["weights"], "pack", "")
    threads = setting.threads or 0
    return subjects.Request(
        model, setting.runtime, setting.precision, setting.device, setting.imgsz, setting.batch, threads, cache=out / ".cache"
    )


def planned(pack: Pack, setting: Setting, out: Path, library: str) -> Planned:
    """The cell as `session.run` takes it. Where memory does not do for a batch, the smaller ones that travelled are cells too."""
    request = _request(pack, setting, out)
    names = [entry["name"] for entry in pack.inputs]
    load = partial(_prepare, request, pack.input_files(library), names, setting.scenario)

    return Planned(setting, load)


def _prepare(request: subjects.Request, files: Sequence[Path], names: Sequence[str], scenario: str) -> Loaded:
    _portable.install()
    return subjects.prepare(request, files, names, scenario, request.model.path)


def models_of(pack: Pack, settings: Sequence[Setting], out: Path) -> JSON:
    """The record's `models`."""
    found: JSON = {}
    for setting in settings:
        about, file = pack.model_of(setting), file_of(pack, setting, out)
        if setting.model in found:
            continue
        known = {key: about[key] for key in ("weights_hash", "weights", "parameters", "gflops")}
        # Of that very file: what is built from it is another one.
        measured = pack.source_of(setting) if setting.runtime == "onnx" else None
        parts = subjects.parts_of(file)
        found[setting.model] = {
            **{"name": about["name"], "task": setting.task, "runtime": setting.runtime, "precision": setting.precision},
            **{"file_hash": hash_of(*parts), **known, "bytes": sum(part.stat().st_size for part in parts)},
            **{key: measured[key] if measured else nothing for key, nothing in _ACCURACY.items()},
        }
    return found
