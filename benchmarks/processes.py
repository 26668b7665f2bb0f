"""Do processes of the same model differ? Some at once, taking turns, so that what comes and goes on the machine hits all alike.

    python benchmarks/processes.py [--runtime pytorch] [--task pose] [--processes 6] [--rounds 10] [--workspace DIR] [--json]

If they did not, the medians of the processes would scatter by what the scatter of their rounds explains: the spread of single
rounds by the root of their number. F is the ratio of the two variances, 1 where processes are alike.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402

from pipeline import machine  # noqa: E402
from pipeline.bench import END_TO_END, subjects  # noqa: E402
from pipeline.bench.inputs import default as default_photos  # noqa: E402
from pipeline.bench.settings import SINGLE_STREAM, Method  # noqa: E402
from pipeline.bench.statistics import NS_PER_MS, Floats  # noqa: E402
from pipeline.bench.subjects import Request  # noqa: E402
from pipeline.bench.timing import schedule  # noqa: E402
from pipeline.bench.worker import Loaded, _Cell  # noqa: E402


def serve(connection: Connection, load: Callable[[], Loaded], method: Method) -> None:
    """A process: a round for each message."""
    cell = _Cell("cpu", SINGLE_STREAM, method)
    cell.load(load)
    connection.send(None)
    while connection.recv():
        connection.send(cell.round().samples[END_TO_END].round_medians())


def measure(load: Callable[[], Loaded], processes: int, rounds: int) -> Floats:
    """(processes, rounds) milliseconds, the median of each round."""
    context = multiprocessing.get_context("spawn")
    found: list[Floats] = [np.zeros(0)] * processes
    connections = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, load, Method()), daemon=True).start()
        ours.recv()  # loaded and warm, before the next one comes
        connections.append(ours)
    for number, order in enumerate(schedule(processes, rounds)):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for place in order:
            connections[place].send(True)
            found[place] = connections[place].recv()
    for connection in connections:
        connection.send(False)
    return np.array(found) / NS_PER_MS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--task", default="pose", choices=subjects.TASKS)
    parser.add_argument("--runtime", default="pytorch")
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workspace", type=Path, default=Path(), help="whose .cache has weights and exports")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.processes, arguments.rounds) < 2:
        parser.error("at least 2 processes and 2 rounds: single ones tell nothing of their scatter")
    cache = arguments.workspace.resolve() / ".cache"
    model = subjects.find(arguments.model, arguments.task, cache, Path.cwd())
    request = Request(model, arguments.runtime, imgsz=model.imgsz, threads=machine.usable_cores(), cache=cache)
    if reason := subjects.why_not(request):
        sys.exit(f"{arguments.runtime}: {reason}")
    photos = default_photos(cache)
    load = partial(subjects.prepare, request, photos.files, photos.names, SINGLE_STREAM, subjects.export(request))
    ms = measure(load, arguments.processes, arguments.rounds)
    within = float(np.log(ms).var(axis=1, ddof=1).mean())
    between = float(np.log(ms).mean(axis=1).var(ddof=1))
    told = {
        "model": model.name,
        "runtime": arguments.runtime,
        "process_medians_ms": np.median(ms, axis=1).tolist(),
        "rounds_ms": ms.tolist(),
        "spread_of_rounds": within**0.5,
        "spread_of_processes": between**0.5,
        "explained_by_rounds": (within / arguments.rounds) ** 0.5,
        "f": between * arguments.rounds / within,
    }
    if arguments.json:
        print(json.dumps(told, indent=1))
        return
    print(f"{model.name}, {arguments.runtime}: {arguments.processes} processes, {arguments.rounds} rounds each")
    print("medians of the processes: " + ", ".join(f"{median:.1f}" for median in np.median(ms, axis=1)) + " ms")
    print(
        f"spread of the rounds of a process: {within**0.5:.1%}, which explains one of {told['explained_by_rounds']:.1%} between"
    )
    print(f"processes; it is {between**0.5:.1%}, F = {told['f']:.1f}")


if __name__ == "__main__":
    main()
