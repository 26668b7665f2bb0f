"""From what was asked for to cells that can be measured: models are found, exported where a runtime wants a file of its own, and
impossible cells told apart with the reason."""

from __future__ import annotations

import json
import platform
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import machine, runtimes
from pipeline.bench import subjects
from pipeline.bench.grid import Axes, cells, model_key
from pipeline.bench.inputs import Inputs, hash_of
from pipeline.bench.measure import Planned, tried_instead
from pipeline.bench.settings import Setting
from pipeline.bench.subjects import Model, Request
from pipeline.bench.worker import is_out_of_memory
from pipeline.errors import ArtifactError, PipelineError, UsageError
from pipeline.runtimes import REFERENCE
from pipeline.store import Store
from pipeline.version import REMEDY, Version

JSON = dict[str, Any]
Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]

DEFAULT_MODEL = "yolo11n"
_RUNTIMES = (REFERENCE, "onnx", "openvino", "litert", "engine")
"""Those that are measured when none is named, in this order, where they are installed."""


@dataclass(frozen=True)
class Artifact:
    """A file that an export made of a model. Its accuracy is that of this very file."""

    model: Model
    imgsz: tuple[int, int]
    batch: int
    map50_95: float | None
    map50: float | None
    measured_on: str


@dataclass(frozen=True)
class Source:
    """A model and the files that there are of it.

    Attributes:
        model: the checkpoint, from which other files are exported; or a file that is all there is.
        artifacts: runtime and precision → file.
    """

    model: Model
    artifacts: Mapping[tuple[str, str], Artifact] = field(default_factory=dict)

    def runs_as_it_is(self, setting: Setting) -> Artifact | None:
        """The artifact that is this cell's, where its input fits."""
        found = self.artifacts.get((setting.runtime, setting.precision))
        fits = (
            found is not None and found.imgsz == setting.imgsz and (found.batch == setting.batch or setting.runtime == REFERENCE)
        )
        return found if fits else None


# ---------------------------------------------------------------- models


def sources(model: str, tasks: Sequence[str], store: Store, cache: Path, base: Path) -> list[Source]:
    """The models that a word means, one a task.

    Args:
        model: see `benchmark_params.Benchmark.model`.
        tasks: empty for the model's own.

    Raises:
        UsageError: no such model; or tasks for a model that has one of its own.
    """
    if not model:
        model = DEFAULT_MODEL if tasks or not store.latest("export") else "export@latest"
    if model.partition("@")[0] in ("export", "train"):
        if tasks and list(tasks) != ["detect"]:
            raise UsageError(f"{model} is a detector.", f"For other tasks name a model that has them: --model {DEFAULT_MODEL}")
        return [_of_version(store.resolve(model), store, cache)]
    path = base / Path(model).expanduser()
    if path.is_file() and not tasks:
        return [Source(subjects.find(model, subjects.task_of(path, cache), cache, base))]
    return [Source(subjects.find(model, task, cache, base)) for task in dict.fromkeys(tasks or [_task_in(model)])]


def _task_in(name: str) -> str:
    """`yolo11n-seg` is for segmentation, and `yolo11n` for detection."""
    plain = name.removesuffix(".pt")
    return next((task for task, suffix in subjects.TASKS.items() if suffix and plain.endswith(suffix)), "detect")


def _of_version(version: Version, store: Store, cache: Path) -> Source:
    train = version if version.stage == "train" else _input(store, version, "train")
    name = f"{Path(train.manifest['recipe']['params']['model']).stem} ({train.name})"
    checkpoint = replace(_file_of(train, "weights/best.pt", cache), name=name)
    if version.stage == "train":
        return Source(checkpoint)
    parity, records = _read(version, "parity.json", dict), _read(version, "exports.json", list)
    on = f"{_input(store, version, 'split').name} {parity['split']}, {parity['images']} images"
    reference = _figures(parity["models"].get(REFERENCE, {}), on)
    artifacts = {(REFERENCE, "fp32"): Artifact(checkpoint, checkpoint.imgsz, 1, **reference)}
    for record in records:
        if record["status"] == "ok":
            model = replace(_file_of(version, record["file"], cache), name=name)
            size = (record["imgsz"][0], record["imgsz"][1])
            key = (record["format"], record["precision"])
            artifacts[key] = Artifact(model, size, record["batch"], **_figures(record, on))
    sizes = {artifact.imgsz for key, artifact in artifacts.items() if key[0] != REFERENCE}
    if sizes:  # the exports' size is what the figures beside it were measured at
        checkpoint = replace(checkpoint, imgsz=next(iter(sizes)))
        artifacts[REFERENCE, "fp32"] = replace(artifacts[REFERENCE, "fp32"], model=checkpoint, imgsz=checkpoint.imgsz)
    return Source(checkpoint, artifacts)


def _file_of(version: Version, name: str, cache: Path) -> Model:
    if not (version.path / name).is_file():
        raise ArtifactError(f"{version.name} is damaged: {name} is missing.", REMEDY)
    return subjects.find(str(version.path / name), "detect", cache, version.path)


def _read(version: Version, name: str, kind: type) -> Any:
    """A table of a version, which nobody need have verified."""
    try:
        found = json.loads((version.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{version.name} is damaged: {name} cannot be read ({error}).", REMEDY) from error
    if not isinstance(found, kind):
        raise ArtifactError(f"{version.name} is damaged: {name} holds something else.", REMEDY)
    return found


def _input(store: Store, version: Version, stage: str) -> Version:
    return store.resolve(f"{stage}@v{version.manifest['recipe']['inputs'][stage]['version']}")


def _figures(record: JSON, measured_on: str) -> JSON:
    known = record.get("map50_95") is not None
    return {"map50_95": record.get("map50_95"), "map50": record.get("map50"), "measured_on": measured_on if known else ""}


# ---------------------------------------------------------------- axes


def axes_for(source: Source, wanted: Axes) -> Axes:
    """What is varied for one model: where nothing is asked for, what there is."""
    precisions = wanted.precisions or sorted({precision for _, precision in source.artifacts}) or ["fp32"]
    names = wanted.runtimes
    if not names and source.artifacts:
        names = [name for name, _ in source.artifacts]
    elif not names and source.model.runtime != REFERENCE:
        names = [source.model.runtime]
    elif not names:
        names = [name for name in _RUNTIMES if not runtimes.missing_modules(runtimes.module(name).REQUIRES.load)]
    return replace(wanted, runtimes=list(dict.fromkeys(names)), precisions=precisions)


def devices_here() -> list[str]:
    """The CPU, every NVIDIA GPU, and Apple's GPU on a Mac that has one."""
    gpus = [f"cuda:{number}" for number in range(len(machine.gpu_names()))]
    return ["cpu", *gpus, *(["mps"] if sys.platform == "darwin" and platform.machine() == "arm64" else [])]


# ---------------------------------------------------------------- cells


@dataclass(frozen=True)
class Plan:
    """What is measured; what could not be exported, with the reason; the record's models."""

    planned: list[Planned]
    failed: list[tuple[Setting, str]]
    models: dict[str, JSON]


@dataclass(frozen=True)
class Possible:
    """A cell that nothing is known against."""

    source: Source
    setting: Setting
    request: Request


def lay_out(
    found: Sequence[Source], wanted: Axes, inputs: Inputs, cache: Path
) -> tuple[list[Possible], list[tuple[Setting, str]]]:
    """Every cell of every model: what may be measured, and what cannot be, with the reason. Makes and loads nothing.

    Where neither runtimes nor precisions are asked for, of an export its files are cells, and no other pair of the two.
    """
    anything = not wanted.runtimes and not wanted.precisions
    skipped: list[tuple[Setting, str]] = []
    possible: list[Possible] = []
    for source in found:
        model = source.model
        for setting in cells(model.name, model.task, model.imgsz, axes_for(source, wanted)):
            if anything and source.artifacts and (setting.runtime, setting.precision) not in source.artifacts:
                continue
            request = _request(source, setting, inputs, cache)
            if reason := subjects.why_not(request):
                skipped.append((setting, reason))
            else:
                possible.append(Possible(source, setting, request))
    return possible, skipped


def plan(possible: Sequence[Possible], inputs: Inputs, progress: Progress) -> Plan:
    """The cells with the files that they run; exports what is missing."""
    made, failed = _files(possible, inputs, progress)
    models: dict[str, JSON] = {}
    return Plan([_planned(each, file, inputs, models) for each, file in made], failed, models)


def _request(source: Source, setting: Setting, inputs: Inputs, cache: Path) -> Request:
    artifact = source.runs_as_it_is(setting)
    return Request(
        artifact.model if artifact else source.model,
        setting.runtime,
        setting.precision,
        setting.device,
        setting.imgsz,
        setting.batch,
        setting.threads or 0,
        inputs.files,
        cache,
    )


def _files(
    possible: Sequence[Possible], inputs: Inputs, progress: Progress
) -> tuple[list[tuple[Possible, Path]], list[tuple[Setting, str]]]:
    """The cells with their files; and those without one, with the reason. Where an exporter had no memory for a batch, half of it
    is tried. Cells that run the same file ask for it once: failing takes long, too."""
    made: list[tuple[Possible, Path]] = []
    failed: list[tuple[Setting, str]] = []
    known: dict[Request, Path | PipelineError] = {}
    queue = deque(possible)
    settings = {each.setting for each in possible}
    with progress("export", len(possible)) as advance:
        while queue:
            each = queue.popleft()
            batch = each.setting.batch
            advance(0, cell=f"{each.setting.task}, {each.setting.runtime} {each.setting.precision}")
            found = _export(each.request, known)
            if isinstance(found, Path):
                made.append((each, found))
            else:
                reason = " ".join(found.message.split()).rstrip(".")
                if batch > 1 and is_out_of_memory(str(found)):
                    reason = f"{reason}; {tried_instead(batch)}"
                    smaller = _with_batch(each, batch // 2, inputs)
                    if smaller.setting not in settings:
                        settings.add(smaller.setting)
                        queue.appendleft(smaller)
                        advance(0, more=1)
                failed.append((each.setting, reason))
            advance(1)
    return made, failed


def _export(request: Request, known: dict[Request, Path | PipelineError]) -> Path | PipelineError:
    key = replace(request, device="", threads=0)
    if key not in known:
        try:
            known[key] = subjects.export(request)
        except PipelineError as error:
            known[key] = error
    return known[key]


def _with_batch(cell: Possible, batch: int, inputs: Inputs) -> Possible:
    old = cell.setting
    key = model_key(cell.source.model.name, old.runtime, old.precision, old.imgsz, batch)
    setting = replace(old, batch=batch, model=key)
    return Possible(cell.source, setting, _request(cell.source, setting, inputs, cell.request.cache))


def _planned(cell: Possible, file: Path, inputs: Inputs, models: dict[str, JSON]) -> Planned:
    """The cell, whose file is described in `models`."""

    def with_batch(batch: int) -> Planned:
        smaller = _with_batch(cell, batch, inputs)
        return _planned(smaller, subjects.export(smaller.request), inputs, models)

    if cell.setting.model not in models:
        models[cell.setting.model] = _entry(cell.source, cell.setting, file)
    load = partial(subjects.prepare, cell.request, inputs.files, inputs.names, cell.setting.scenario, file)
    return Planned(cell.setting, load, with_batch if cell.setting.batch > 1 else None)


def _entry(source: Source, setting: Setting, file: Path) -> JSON:
    """The record's description of the file that is run."""
    measured = source.runs_as_it_is(setting)
    parts = subjects.parts_of(file)
    checkpoint = source.model.path if source.model.runtime == REFERENCE else None
    return {
        "name": source.model.name,
        "task": source.model.task,
        "runtime": setting.runtime,
        "precision": setting.precision,
        "file_hash": hash_of(*parts),
        "weights_hash": hash_of(checkpoint) if checkpoint else "",
        "weights": source.model.weights,
        "parameters": source.model.parameters,
        "gflops": source.model.gflops,
        "bytes": sum(path.stat().st_size for path in parts),
        "map50_95": measured.map50_95 if measured else None,
        "map50": measured.map50 if measured else None,
        "measured_on": measured.measured_on if measured else "",
    }
