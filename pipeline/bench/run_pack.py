"""What `run_benchmark.py` does on the machine that a pack has travelled to: tell what is there, build, measure, write.

Everything here and everything that it imports needs Python, numpy and one runtime, and uses OpenCV, Pillow, psutil and pynvml
where they are there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline import files
from pipeline.bench import RECORD, _portable, session, system, tables, timing, unpacked
from pipeline.bench import record as records
from pipeline.bench._plain import Plain, rough
from pipeline.bench.settings import Method, Setting, quick
from pipeline.bench.unpacked import Pack
from pipeline.errors import PipelineError

JSON = dict[str, Any]

SUMMARY = "summary.txt"
RESULTS = "results"
_PROCESS_S = 3.0
"""To start, load and warm up, of a small model."""


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 2 or more an error that was told in a line, 130 interrupted.

    Args:
        folder: where the pack was unpacked to.
    """
    options = _parser().parse_args(arguments)
    say = Plain(sys.stdout)
    try:
        if options.source:
            return _write_source(options.source, say)
        return _run(folder, options, say)
    except KeyboardInterrupt:
        say("\nInterrupted. The cells that were finished are kept, and the same command goes on.")
        return 130
    except PipelineError as error:
        say(f"Error: {error}")
        return error.exit_code
    except OSError as error:
        say(f"Error: {error.filename or 'a file'}: {error.strerror or error}")
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_benchmark.py", description="Measures how fast the models of this pack are on this machine."
    )
    parser.add_argument("--label", default="", help="what you call this machine; the one name in the record")
    parser.add_argument("--runtimes", type=_words, metavar="A,B", help="onnx, openvino, engine; default: those of the plan")
    parser.add_argument(
        "--devices", type=_words, metavar="A,B", help="cpu, cuda:0, gpu, npu; default: cpu, and the NVIDIA GPU where there is one"
    )
    parser.add_argument("--threads", type=_threads, metavar="1,all", help="of the CPU; default: those of the plan")
    parser.add_argument("--quick", action="store_true", help="a first look: some ten seconds a cell, wider intervals")
    parser.add_argument("--list", action="store_true", help="tell what would be measured, and what is missing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: results, beside this file")
    parser.add_argument("--source", type=Path, metavar="DIR", help="write out the source code that this file carries, and end")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _threads(text: str) -> list[int]:
    """0 stands for all."""
    try:
        numbers = [0 if word == "all" else int(word) for word in _words(text)]
    except ValueError:
        numbers = [-1]
    if not numbers or min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"'{text}': give whole numbers or all, as 1,2,all")
    return numbers


def _write_source(target: Path, say: Plain) -> int:
    package = Path(pipeline.__file__).parent
    shutil.copytree(package, target / "pipeline", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    say(f"The source is in {target / 'pipeline'}.")
    return 0


def _run(folder: Path, options: argparse.Namespace, say: Plain) -> int:
    pack = Pack.open(folder)
    library = _portable.install()
    out = options.out or folder / RESULTS
    cells = unpacked.cells(pack, options.runtimes, options.devices, options.threads)
    for line in unpacked.what_is_there(library, list(dict.fromkeys(setting.runtime for setting in cells))):
        say(line)
    possible, skipped = unpacked.sort_out(pack, cells, out)
    _tell(possible, skipped, say)
    if options.list:
        return 0
    if not possible:
        say("Nothing can be measured here: install what is missing, see above.")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    built, failed = _build(pack, possible, out, say)
    method = quick(pack.method) if options.quick else pack.method
    record = _started(pack, built, method, library, out, options.label)
    planned = [unpacked.planned(pack, setting, out, library) for setting in built]
    _put_aside(out, record, say)
    least_s = len(planned) * (method.min_seconds + method.rounds * (_PROCESS_S + method.cool_down_s / method.together))
    more = "longer where a model is slow or others are at work"
    say(f"Measuring {len(planned)} cells takes about {rough(least_s)}, {more}. Leave the machine alone.")
    try:
        record = session.run(out, record, planned, skipped, failed, method, say.progress, say)
        say(f"\n{tables.text(record)}")
        session.write(out, record)
    finally:
        if (out / RECORD).exists():
            files.write_text(out / SUMMARY, tables.text(records.read(out / RECORD)))
    say(f"In {out}: {RECORD}, which is to be brought back, {session.TABLE} and {SUMMARY}.")
    return 0


def _put_aside(out: Path, record: JSON, say: Plain) -> None:
    """A record is not written over; a partial one of the same plan is gone on with."""
    try:
        before = records.read(out / RECORD)
    except records.RecordError:
        return
    if session.goes_on(before, record):
        return
    for name in (RECORD, session.TABLE, SUMMARY):
        path = out / name
        if path.exists():
            path.replace(path.with_stem(f"{path.stem}-{before['id']}"))
    say(f"The record of before is now {Path(RECORD).stem}-{before['id']}.json.")


def _tell(possible: Sequence[Setting], skipped: Sequence[tuple[Setting, str]], say: Plain) -> None:
    if possible:
        say(f"\n{len(possible)} cells can be measured here:")
    for setting in possible:
        say(f"  {setting}")
    if skipped:
        say(f"\n{len(skipped)} cells are left out:")
    for reason in dict.fromkeys(reason for _, reason in skipped):
        first, *rest = (setting for setting, why in skipped if why == reason)
        more = f" (and {len(rest)} more)" if rest else ""
        say(f"  {first}{more}: {reason}")
    say("")


def _build(pack: Pack, possible: Sequence[Setting], out: Path, say: Plain) -> tuple[list[Setting], list[tuple[Setting, str]]]:
    """The cells whose file is there, and those whose file cannot be built, with the reason."""
    built, failed = [], []
    broken: dict[Path, str] = {}
    for setting in possible:
        file = unpacked.file_of(pack, setting, out)
        if file not in broken:
            try:
                if not file.exists():
                    minutes = ", which takes minutes" if setting.runtime == "engine" else ""
                    say(f"Building {file.name} for {setting.runtime}{minutes} …")
                unpacked.build(pack, setting, out)
            except PipelineError as error:
                broken[file] = f"cannot be built: {' '.join(str(error).split())}"
                say(f"  {broken[file]}")
        if file in broken:
            failed.append((setting, broken[file]))
        else:
            built.append(setting)
    return built, failed


def _started(pack: Pack, settings: Sequence[Setting], method: Method, library: str, out: Path, label: str) -> JSON:
    """The record without its cells."""
    scenarios = list(dict.fromkeys(setting.scenario for setting in settings))
    told = method.as_json(scenarios, timing.overhead_ns(), library)
    record = records.new(f"{pack.plan['tool']}, pack", system.machine(), system.software(), told, label)
    return {**record, "inputs": pack.inputs, "models": unpacked.models_of(pack, settings, out)}
