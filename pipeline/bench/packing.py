"""A benchmark that travels: a zip with models, images, the plan, and one file that runs it without this project.

    benchmark-pack.zip
        run_benchmark.py      carries the source of this package; needs Python, numpy and one runtime
        plan.json             the axes, the method, and what lies here: models and images with their hashes
        models/*.onnx         from which OpenVINO's files and TensorRT's engines are built where they run
        inputs/*              the photos, and their pixels as .npy for machines without an image library
        README.txt

Equal contents give equal bytes: entries are sorted and have no times. No path, user or host name is in it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from pipeline import files, runtimes
from pipeline.bench import subjects
from pipeline.bench.inputs import Inputs, hash_of
from pipeline.bench.planning import Source
from pipeline.bench.settings import OFFLINE, SINGLE_STREAM, Method, Setting
from pipeline.bench.subjects import Request
from pipeline.bench.unpacked import KIND, PLAN, RUNTIMES, SCHEMA_NUMBER
from pipeline.errors import ParamsError, UsageError
from pipeline.runtimes import REFERENCE

JSON = dict[str, Any]

RUNNER, README = "run_benchmark.py", "README.txt"
PRECISIONS = ("fp32", "fp16")
"""int8 needs images to take its value ranges from, which a pack has not."""
_TEMPLATE = Path(__file__).parent.parent / "templates" / RUNNER
_EPOCH = (1980, 1, 1, 0, 0, 0)
_METADATA = ("names", "imgsz", "batch", "task", "kpt_shape")


@dataclass(frozen=True)
class Plan:
    """What is to be measured on the other machine.

    Attributes:
        runtimes: of `RUNTIMES`; those that are missing there are skipped.
        precisions: of `PRECISIONS`.
        imgsz: network inputs (height, width) in pixels; empty: each model's own.
        batches: for the scenario "offline".
        threads: of the CPU; 0 for every core that there is.
        method: how every cell is measured.
    """

    runtimes: Sequence[str] = RUNTIMES
    precisions: Sequence[str] = ("fp32",)
    imgsz: Sequence[tuple[int, int]] = ()
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (1, 0)
    scenarios: Sequence[str] = (SINGLE_STREAM,)
    method: Method = field(default_factory=Method)


def write(
    target: Path,
    sources: Sequence[Source],
    inputs: Inputs,
    plan: Plan,
    cache: Path,
    advance: Callable[[int], object] = lambda number: None,
) -> int:
    """Export what is not exported yet, and write the zip, atomically.

    Args:
        sources: models: checkpoints or ONNX files.
        cache: where exports are kept.
        advance: is called with 1 for each of `steps`.

    Returns:
        Its size in bytes.

    Raises:
        ParamsError: a runtime or a precision that cannot travel.
        PipelineError: a model that cannot be exported.
    """
    _check(sources, plan)
    entries: dict[str, bytes | Path] = {}
    models, pictures = [], []
    for number, source in enumerate(sources, 1):
        models.append(_describe(source))
        for precision, imgsz, batch in _variants(source, plan):
            name = f"models/{number}-{_plain(source.model.name)}-{precision}-{imgsz[1]}x{imgsz[0]}-b{batch}.onnx"
            path, about = _onnx(source, precision, imgsz, batch, cache)
            entries[name] = path
            models[-1]["files"].append({"file": name, **about})
            advance(1)
    for number, (path, entry) in enumerate(zip(inputs.files, inputs.entries, strict=True), 1):
        pictures.append(_add_picture(entries, f"inputs/{number}{path.suffix.lower()}", path, entry))
        advance(1)
    entries[PLAN] = _json(
        {
            "schema": SCHEMA_NUMBER,
            "kind": KIND,
            "tool": f"yolo-pipeline {pipeline.__version__}",
            "axes": {key: value for key, value in asdict(plan).items() if key != "method"},
            "method": asdict(plan.method),
            "models": models,
            "inputs": pictures,
        }
    )
    entries[RUNNER] = runner().encode()
    entries[README] = _readme(models).encode()
    with files.atomic_path(target) as temporary:
        _zip(temporary, entries)
    return target.stat().st_size


def steps(sources: Sequence[Source], inputs: Inputs, plan: Plan) -> int:
    """How often `write` advances."""
    return sum(1 for source in sources for _ in _variants(source, plan)) + len(inputs.files)


def runner() -> str:
    """The one file that runs a pack: a template with the source of this package, zipped, in base64."""
    packed = io.BytesIO()
    package = Path(pipeline.__file__).parent
    sources = {
        f"pipeline/{relative}": Path(entry.path)
        for relative, entry in files.walk_relative(package)
        if "__pycache__" not in relative and not files.is_temporary(entry.name)
    }
    _zip(packed, sources)
    text = "\n".join(textwrap.wrap(base64.b64encode(packed.getvalue()).decode("ascii"), 128))
    return _TEMPLATE.read_text(encoding="utf-8").replace("@SOURCE@", text)


def _check(sources: Sequence[Source], plan: Plan) -> None:
    runtimes.require("onnx", "export")
    for words, known, what in ((plan.runtimes, RUNTIMES, "runtime"), (plan.precisions, PRECISIONS, "precision")):
        if strange := [word for word in words if word not in known]:
            raise ParamsError(f"{', '.join(strange)}: no {what} that a pack can carry.", f"Choose of {', '.join(known)}.")
    names = [source.model.name for source in sources]
    if not names:
        raise ParamsError("There is no model to pack.", "Name one, or a task.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParamsError(f"Two models are called {', '.join(twice)}, and a record could not tell them apart.", "Rename one.")


def _variants(source: Source, plan: Plan) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Precision, input and batch of every ONNX file of a model."""
    batches = {*(plan.batches if OFFLINE in plan.scenarios else ()), *(1 for scenario in plan.scenarios if scenario != OFFLINE)}
    precisions = [*plan.precisions, *(["fp32"] if "openvino" in plan.runtimes else [])]  # see `Pack.source_of`
    for precision in dict.fromkeys(precisions):
        for imgsz in plan.imgsz or (source.model.imgsz,):
            yield from ((precision, imgsz, batch) for batch in sorted(batches))


def _plain(name: str) -> str:
    """Fit for the name of a file on every system."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)


def _describe(source: Source) -> JSON:
    model = source.model
    return {
        "name": model.name,
        "task": model.task,
        "imgsz": list(model.imgsz),
        "weights": model.weights,
        "weights_hash": hash_of(model.path) if model.runtime == REFERENCE else "",
        "parameters": model.parameters,
        "gflops": model.gflops,
        "files": [],
    }


def _onnx(source: Source, precision: str, imgsz: tuple[int, int], batch: int, cache: Path) -> tuple[Path, JSON]:
    """A file to travel, and what the plan says of it; with the accuracy of an artifact that was measured."""
    from pipeline.runtimes import onnx

    model = source.model
    artifact = source.runs_as_it_is(Setting(model.task, model.name, "onnx", precision, "cpu", imgsz, batch))
    path = (
        artifact.model.path if artifact else subjects.export(Request(model, "onnx", precision, "cpu", imgsz, batch, cache=cache))
    )
    metadata = {key: value for key, value in onnx.metadata_of(path).items() if key in _METADATA}
    held = onnx.read_metadata(metadata, path)[1], int(metadata.get("batch", 1))
    if held != (imgsz, batch):
        raise UsageError(
            f"{path} takes {held[1]} × {held[0][1]}x{held[0][0]} px, and not {batch} × {imgsz[1]}x{imgsz[0]} px.",
            "Give the checkpoint, which is exported as the plan wants it.",
        )
    accuracy = ("map50_95", "map50", "measured_on")
    return path, {
        "precision": precision,
        "imgsz": list(imgsz),
        "batch": batch,
        "hash": hash_of(path),
        "bytes": path.stat().st_size,
        "metadata": metadata,
        **(
            {key: getattr(artifact, key) for key in accuracy}
            if artifact
            else {"map50_95": None, "map50": None, "measured_on": ""}
        ),
    }


def _add_picture(entries: dict[str, bytes | Path], name: str, path: Path, entry: Mapping[str, Any]) -> JSON:
    """The file, and its pixels, go to `entries`; returns the plan's entry of both."""
    from pipeline import images

    pixels = io.BytesIO()
    np.save(pixels, images.decode(path), allow_pickle=False)
    entries[name], entries[f"{name}.npy"] = path, pixels.getvalue()
    pixels_hash = hashlib.blake2b(pixels.getvalue(), digest_size=16).hexdigest()
    return {**entry, "file": name, "pixels": f"{name}.npy", "pixels_hash": pixels_hash}


def _json(value: JSON) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _zip(target: Path | io.BytesIO, entries: Mapping[str, bytes | Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(entries):
            content = entries[name]
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16  # alike on every system
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, 9)


def _readme(models: Sequence[JSON]) -> str:
    listed = "\n".join(f"    {model['task']:<10}{model['name']} ({model['weights']} weights)" for model in models)
    return f"""How fast are these models on this machine?

{listed}

1. Unpack the whole zip into a folder.
2. Python 3.11 or newer, numpy and one runtime are needed, for instance:  pip install numpy onnxruntime
   With opencv-python and pillow, photos are decoded and scaled as elsewhere; without them numpy stands in, and the record says
   so. psutil tells more of the machine. What is missing is told, with the line that installs it, by:

       python {RUNNER} --list

3. Measure:

       python {RUNNER} --label "my workstation"

   --quick takes a few minutes at most, --help tells the rest. After Ctrl-C the same command goes on.

results/record.json is what to bring back: `python -m pipeline benchmark compare A.json B.json`, where yolo-pipeline is, holds it
against another machine's. results/summary.txt is for reading. Neither has the name of a user, a host or a folder in it.

Licence: AGPL-3.0, as yolo-pipeline and the models of Ultralytics are. The source: python {RUNNER} --source FOLDER
"""
