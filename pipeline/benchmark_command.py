"""`benchmark`: how fast a model is on this machine."""

from __future__ import annotations

import re
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline import __version__, fingerprint, machine, params, runtimes
from pipeline.bench import RECORD
from pipeline.benchmark_params import Benchmark
from pipeline.commands import Options, Project
from pipeline.console import Console, size
from pipeline.errors import ExportError, UsageError
from pipeline.store import BENCHMARK, Version
from pipeline.wording import plural

if TYPE_CHECKING:
    from pipeline.bench.grid import Axes
    from pipeline.bench.inputs import Inputs
    from pipeline.bench.planning import Possible
    from pipeline.bench.settings import Method, Setting

JSON = dict[str, Any]

AXES = {
    "tasks": "detect,segment,classify,pose",
    "runtimes": "pytorch,onnx,openvino,litert,engine",
    "devices": "cpu,cuda:0",
    "precisions": "fp32,fp16,int8",
    "imgsz": "320,640,640x384",
    "batch": "1,8,32 (of the scenario offline)",
    "threads": "1,2,all",
    "scenarios": "single-stream,offline,stream",
    "images": "photos/, IMG_1.jpg",
}
"""Options of the command line that are lists in params.yaml, with an example."""
NUMBERS = ("imgsz", "batch", "threads")
"""Those whose items are numbers where they look like it."""
PACK = "benchmark-pack.zip"


def add_options(parser: ArgumentParser) -> None:
    """What `benchmark` takes; lists are parted by commas, and stand for those of the section `benchmark` of params.yaml."""
    parser.add_argument("--model", metavar="MODEL", help="export@latest, train@v2, a model file, or an official name (yolo11n)")
    for name, example in AXES.items():
        parser.add_argument(f"--{name}", metavar="A,B", help=f"e.g. {example}")
    parser.add_argument("--keep-names", action="store_true", help="of your own images, in the record; else they are numbered")
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--label", help="what the record calls this machine or run")
    parser.add_argument("--list", action="store_true", dest="list_cells", help="what would be measured, and what not and why")


def add_pack_options(parser: ArgumentParser) -> None:
    """What `benchmark pack` takes: of the grid, what does not depend on the machine."""
    parser.add_argument("--model", metavar="MODEL", help="export@latest, train@v2, a model file, or an official name (yolo11n)")
    for name, example in {**AXES, "runtimes": "onnx,openvino,engine", "precisions": "fp32,fp16"}.items():
        if name != "devices":
            parser.add_argument(f"--{name}", metavar="A,B", help=f"e.g. {example}")
    parser.add_argument("--keep-names", action="store_true", help="of your own images, in the record; else they are numbered")
    parser.add_argument("--out", type=Path, default=Path(PACK), metavar="FILE", help=f"default: {PACK}")
    parser.set_defaults(devices=None, label=None, quick=False)


def measure(options: Options, console: Console) -> int:
    """Measure a grid, and keep the record as the next version of `benchmark`."""
    from pipeline.bench import RECORD, planning, record, session, system
    from pipeline.bench.timing import overhead_ns

    project = Project.open(options, console)
    wanted, base, seed = _wanted(options, project)
    axes = _axes(wanted)  # a misspelled runtime is told before anything is downloaded
    cache = project.store.cache
    images = _inputs(wanted, base, seed, cache, options, console)
    found = planning.sources(wanted.model, wanted.tasks, project.store, cache, _base_of_model(options, base))
    possible, skipped = planning.lay_out(found, axes, images, cache)
    if options.list_cells:
        return _list(possible, skipped, console)
    _require(possible, skipped)
    method = _method(wanted, seed, options)
    with project.store.lock():
        plan = planning.plan(possible, images, console.progress)
        _require(plan.planned, [*skipped, *plan.failed])
        scenarios = list(dict.fromkeys(each.setting.scenario for each in plan.planned))
        started = record.new(
            f"yolo-pipeline {__version__}",
            system.machine(),
            system.software(),
            method.as_json(scenarios, overhead_ns(), "opencv"),
            wanted.label,
        )
        started |= {"inputs": list(images.entries), "models": plan.models}
        recipe = {
            "params": {**wanted.model_dump(mode="json"), "images": list(images.names) if wanted.images else []},
            "inputs": {},
            "libraries": started["software"]["packages"],
            "images": [entry["hash"] for entry in images.entries],
            "cells": [str(each.setting) + each.setting.model for each in plan.planned],
            "machine": started["machine"],
            "software": started["software"],
            "method": session.planned_method(started),  # so that a quick one in between takes the place of no partial one
            "models": plan.models,
        }
        key = fingerprint.of_value(recipe)
        work = project.store.work_folder(BENCHMARK, key)
        clock = time.monotonic()
        try:
            done = session.run(work, started, plan.planned, skipped, plan.failed, method, console.progress, console.warn)
        except KeyboardInterrupt:
            if (work / RECORD).exists():
                console.say(f"\nthe partial record: {work / RECORD}")
            raise
        _say_figures(done, console)
        session.write(work, done)
        manifest = _manifest(done, recipe, key, time.monotonic() - clock, machine.git_commit(base))
        version = project.store.publish(BENCHMARK, work, manifest, [])
    _say_where(done, version, console)
    return 0 if any(cell["phases"] for cell in done["cells"]) else ExportError.exit_code


def pack(options: Options, console: Console) -> int:
    """Write a zip that measures the same grid on a machine without this project."""
    from pipeline.bench import packing, planning, unpacked

    project = Project.open(options, console)
    wanted, base, seed = _wanted(options, project)
    axes = _axes(wanted)
    cache = project.store.cache
    if options.out.is_dir():
        raise UsageError(f"{options.out} is a folder.", f"Name a file: --out {options.out / PACK}")
    images = _inputs(wanted, base, seed, cache, options, console)
    plan = packing.Plan(
        axes.runtimes or unpacked.RUNTIMES,
        axes.precisions or ("fp32",),
        axes.imgsz,
        axes.batches,
        [0 if count == "all" else count for count in wanted.threads],
        axes.scenarios,
        _method(wanted, seed, options),
    )
    found = planning.sources(wanted.model, wanted.tasks, project.store, cache, _base_of_model(options, base))
    with console.progress("pack", packing.steps(found, images, plan)) as advance:
        size_bytes = packing.write(options.out, found, images, plan, cache, advance)
    console.say(f"{options.out}: {size(size_bytes)}, {plural(len(found), 'model')}, {plural(len(images.files), 'image')}", "bold")
    console.say("On the other machine: unpack it, then python run_benchmark.py --list tells what is missing there.")
    if console.as_json:
        console.json({"path": str(options.out), "bytes": size_bytes, "models": [source.model.name for source in found]})
    return 0


def _wanted(options: Options, project: Project) -> tuple[Benchmark, Path, int]:
    """The section of params.yaml with the command line over it, the folder that its paths start from, and the seed.

    A model can be measured without a project: then the defaults hold.
    """
    given = {name: getattr(options, name) for name in AXES if getattr(options, name) is not None}
    overrides = [*options.overrides, *(f"benchmark.{name}={_yaml(name, text)}" for name, text in given.items())]
    for name in ("model", "label"):
        if (text := getattr(options, name)) is not None:
            overrides.append(f"benchmark.{name}={yaml.safe_dump(text, default_style=chr(34)).strip()}")
    path = options.params or Path(params.FILE_NAME)
    if options.params is None and not path.exists():
        loaded = params.from_settings(project.stages, overrides)
        return loaded.benchmark, Path.cwd(), loaded.seed
    loaded = params.load(path, project.stages, overrides)
    return loaded.benchmark, loaded.base, loaded.seed


def _yaml(name: str, text: str) -> str:
    """`320,640` as a list; a size may be oblong: `640x384` is width × height, as cameras have it."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"--{name} names nothing.", f"For example: --{name} {AXES[name].partition(' (')[0].replace(' ', '')}")
    if name == "images":
        words = [str(Path(word).expanduser().absolute()) for word in words]  # of where the command is typed
    items: list[object] = [int(word) if name in NUMBERS and re.fullmatch(r"-?\d+", word) else word for word in words]
    if name == "imgsz":
        oblong = [re.fullmatch(r"(\d+)x(\d+)", word) for word in words]
        items = [[int(pair[2]), int(pair[1])] if pair else item for item, pair in zip(items, oblong, strict=True)]
    return yaml.safe_dump(items, default_flow_style=True, width=10**6).strip()


def _base_of_model(options: Options, base: Path) -> Path:
    """Where the path of a model starts: of a file that was typed, where it was typed."""
    return Path.cwd() if options.model and Path(options.model).expanduser().is_file() else base


def _inputs(wanted: Benchmark, base: Path, seed: int, cache: Path, options: Options, console: Console) -> Inputs:
    from pipeline.bench import inputs

    if not wanted.images:
        return inputs.default(cache)
    chosen = inputs.own([base / Path(name).expanduser() for name in wanted.images], seed, options.keep_names)
    if chosen.told:
        console.warn(chosen.told)
    return chosen


def _axes(wanted: Benchmark) -> Axes:
    from pipeline.bench.grid import Axes
    from pipeline.bench.planning import devices_here
    from pipeline.bench.settings import OFFLINE, SINGLE_STREAM

    everything = machine.usable_cores()
    batched = max(wanted.batch) > 1
    sizes = [(size, size) if isinstance(size, int) else (size[0], size[1]) for size in wanted.imgsz]
    devices = [each for device in wanted.devices for each in (devices_here() if device == "auto" else [device])]
    return Axes(
        list(dict.fromkeys(map(runtimes.resolve_name, wanted.runtimes))),
        list(dict.fromkeys(wanted.precisions)),
        list(dict.fromkeys("cuda:0" if device == "cuda" else device for device in devices)),
        list(dict.fromkeys(sizes)),
        list(dict.fromkeys(wanted.batch)),
        list(dict.fromkeys(everything if count == "all" else count for count in wanted.threads)),
        list(dict.fromkeys(wanted.scenarios)) or [SINGLE_STREAM, *([OFFLINE] if batched else [])],
    )


def _method(wanted: Benchmark, seed: int, options: Options) -> Method:
    from pipeline.bench.settings import Method, quick

    own = set(Method.__dataclass_fields__) & set(Benchmark.model_fields)
    method = Method(seed=seed, **{name: getattr(wanted, name) for name in own})
    # What is set, in params.yaml or on the command line, holds also with --quick.
    return quick(method, wanted.model_fields_set) if options.quick else method


def _require(cells: Sequence[object], left_out: Sequence[tuple[Setting, str]]) -> None:
    if not cells:
        raise UsageError("Nothing of this can be measured here:", "`benchmark --list` shows what can.", _reasons(left_out))


def _reasons(skipped: Sequence[tuple[Setting, str]]) -> list[str]:
    """A line for each reason, with how many cells it holds for."""
    counts: dict[str, int] = {}
    for setting, reason in skipped:
        line = f"{setting.runtime} {setting.precision} on {setting.device}: {reason}"
        counts[line] = counts.get(line, 0) + 1
    return [line + (f" ({count} cells)" if count > 1 else "") for line, count in counts.items()]


def _list(possible: list[Possible], skipped: list[tuple[Setting, str]], console: Console) -> int:
    console.say(f"{plural(len(possible), 'cell')} would be measured", "bold")
    if possible:
        console.table(("", "model"), [(str(each.setting), each.setting.model) for each in possible])
    if skipped:
        console.say(f"\n{plural(len(skipped), 'cell')} would be skipped", "bold")
        for line in _reasons(skipped):
            console.say(f"  {line}")
    if console.as_json:
        cells = [each.setting.as_json() for each in possible]
        left_out = [{**setting.as_json(), "reason": reason} for setting, reason in skipped]
        console.json({"cells": cells, "skipped": left_out})
    return 0


def _manifest(record: JSON, recipe: Mapping[str, object], key: str, seconds: float, commit: str) -> JSON:
    counts = {
        status: sum(cell["status"] == status for cell in record["cells"]) for status in ("valid", "invalid", "failed", "skipped")
    }
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return {
        "key": key,
        "recipe": recipe,
        "headline": f"{plural(len(record['cells']), 'cell')}: {told}",
        "summary": {"cells": counts, "record": record["id"], "label": record["label"]},
        "started_at": record["created_at"],
        "seconds": round(seconds, 3),
        "machine": machine.describe(),
        "git_commit": commit,
    }


def _say_figures(record: JSON, console: Console) -> None:
    from pipeline.bench import tables

    for heading, (header, rows) in tables.sections(record):
        console.say(f"\n{heading}", "bold")
        console.table(header, rows)
    if found := tables.remarks(record):
        console.say()
    for line in found:
        console.say(f"  {line}")


def _say_where(record: JSON, version: Version, console: Console) -> None:
    path = version.path / RECORD
    console.say(f"\n{version.name}: {version.manifest['headline']}", "bold")
    console.say(f"record: {path}")
    console.say(f"compare it with another machine's: python -m pipeline benchmark compare {path} OTHER.json")
    if console.as_json:
        console.json({"version": version.number, "path": str(version.path), "record": _without_samples(record)})


def _without_samples(record: JSON) -> JSON:
    return {**record, "cells": [{key: value for key, value in cell.items() if key != "samples"} for cell in record["cells"]]}
