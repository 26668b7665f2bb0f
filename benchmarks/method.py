"""Do others find the same times? Our figures of `inference` beside those of other tools, for the same file and threads.

    python benchmarks/method.py [--model yolo11n] [--runtimes pytorch,onnx,openvino] [--imgsz 640] [--threads all]
                                [--turns 10] [--samples 100] [--workspace DIR] [--json]

Every tool has some turns of `--samples` inferences, each turn in a process of its own, in an order that is shuffled and mirrored:
what the machine does meanwhile, and where a process happens to lie in memory, weighs on all alike. Ours is measured in two ways:

    chain   as a cell of `benchmark`: decode, preprocess, inference, postprocess, image after image; the phase `inference` of it
    alone   by the same timer, inference after inference, with inputs that are made beforehand

A tool is held against the one that it resembles, by the statistic that it gives. Beside its figure (over all turns) stand ours,
with an interval by the rule of the records (a turn is a round), whether its figure lies in it, and the ratio ours / its with an
interval that counts the scatter of both. Not counted are tools that do not measure the same thing, which are shown with the
reason, and rows where ours is INVALID in one of the turns. How narrow the intervals are says how small a difference would show.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from other_timers import Figures, Job, Tool, alone, chain, tools

from pipeline import machine
from pipeline.bench import statistics, subjects
from pipeline.bench.inputs import default as default_photos
from pipeline.bench.results import Results
from pipeline.bench.settings import SINGLE_STREAM, Method
from pipeline.bench.statistics import NS_PER_MS, Samples, Statistic
from pipeline.bench.subjects import Request
from pipeline.bench.timing import overhead_ns, schedule
from pipeline.bench.worker import Loaded, WorkerError, run_round
from pipeline.errors import PipelineError
from pipeline.runtimes._isolated import isolated

MOST_OVERHEAD_NS = 20_000
OURS = {"chain": chain, "alone": alone}


def our_turn(job: Job, load: Callable[[Job], Loaded]) -> tuple[Samples, list[str]]:
    """One round of a cell in a new process: the samples of `inference`, and why they are not valid."""
    method = Method(min_seconds=0, min_samples=job.samples, max_seconds=600, rounds=1, max_uncertainty=math.inf)
    found = Results(SINGLE_STREAM, method)
    found.rounds.append(run_round(partial(load, job), "cpu", SINGLE_STREAM, method))
    # Not by photo: a plain median, as the others give it.
    return replace(found.samples("inference"), inputs=1), found.cell(slowdown=None)["reasons"]


@dataclass(frozen=True)
class Turns:
    """What came of all turns for one runtime: our samples by kind, figures of each tool by name; who failed, and why; why ours
    is not valid."""

    ours: dict[str, Samples]
    theirs: dict[str, list[Figures]]
    failed: dict[str, str]
    invalid: dict[str, list[str]]


def take_turns(job: Job, others: Sequence[Tool], turns: int, say: Callable[[str], None]) -> Turns:
    ours: dict[str, list[Samples]] = {kind: [] for kind in OURS}
    theirs: dict[str, list[Figures]] = {tool.name: [] for tool in others}
    failed: dict[str, str] = {}
    invalid: dict[str, list[str]] = {kind: [] for kind in OURS}
    subjects_of_turns = [*OURS, *others]
    for number, order in enumerate(schedule(len(subjects_of_turns), turns)):
        say(f"{job.request.runtime}: turn {number + 1} of {turns}")
        for subject in (subjects_of_turns[place] for place in order):
            if isinstance(subject, Tool):
                if subject.name not in failed:
                    try:
                        theirs[subject.name].append(isolated(subject.name, subject.turn, job))
                    except PipelineError as error:
                        failed[subject.name] = " ".join(error.message.split())
            else:
                samples, reasons = our_turn(job, OURS[subject])
                ours[subject].append(samples)
                invalid[subject] += [f"turn {number + 1}: {reason}" for reason in reasons]
    return Turns({kind: joined(parts) for kind, parts in ours.items()}, theirs, failed, invalid)


def joined(parts: Sequence[Samples]) -> Samples:
    """A turn is a round."""
    return Samples(np.concatenate([part.ns for part in parts]), tuple(len(part.ns) for part in parts))


def row(tool: Tool, statistic: Statistic, turns: Turns) -> dict[str, Any]:
    ours = turns.ours[tool.against]
    each = np.array([figures[statistic] for figures in turns.theirs[tool.name]])
    reduce = np.median if statistic == "median" else np.mean
    its = float(reduce(each))
    low, high = (limit / NS_PER_MS for limit in statistics.interval(ours, statistic) or (0.0, 0.0))
    found = statistics.ratio(ours, Samples(np.round(each * NS_PER_MS).astype(np.int64), (1,) * len(each)), statistic)
    return {
        "tool": tool.name,
        "statistic": statistic,
        "its_ms": its,
        "its_turns_ms": each.tolist(),
        "against": tool.against,
        "ours_ms": float(reduce(ours.ns)) / NS_PER_MS,
        "ours_ci95_ms": [low, high],
        "within": low <= its <= high,
        "ratio": found.value,
        "ratio_ci95": [found.low, found.high],
        "ratio_holds_1": found.is_noise,
        "note": tool.note,
        "unlike": tool.unlike,
        "counts": not tool.unlike and not turns.invalid[tool.against],
    }


def compared(job: Job, turns: int, say: Callable[[str], None]) -> dict[str, Any]:
    others = tools(job)
    found = take_turns(job, others, turns, say)
    rows = [row(tool, statistic, found) for tool in others if tool.name not in found.failed for statistic in tool.statistics]
    return {"runtime": job.request.runtime, "rows": rows, "failed": found.failed, "invalid": found.invalid}


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['runtime']}, milliseconds")
    print(f"  {'tool':<32}{'figure':<8}{'its':>8}  {'ours':<6}{'':>7} {'95 %':<18}{'within':<8}{'ours / its':<22}")
    for each in result["rows"]:
        interval = "[{:.3f}, {:.3f}]".format(*each["ours_ci95_ms"])
        ratio = "{:.3f} [{:.3f}, {:.3f}]".format(each["ratio"], *each["ratio_ci95"])
        invalid = "INVALID" if result["invalid"][each["against"]] else ""
        within = "-" if each["unlike"] else invalid or ("yes" if each["within"] else "no")
        told = f"not alike: {each['unlike']}" if each["unlike"] else each["note"]
        print(
            f"  {each['tool']:<32}{each['statistic']:<8}{each['its_ms']:>8.3f}  {each['against']:<6}{each['ours_ms']:>7.3f} "
            f"{interval:<18}{within:<8}{ratio:<22}  {told}".rstrip()
        )
    for name, reason in result["failed"].items():
        print(f"  {name}: failed: {reason}")
    for kind, reasons in result["invalid"].items():
        for reason in reasons:
            print(f"  ours, {kind}, is INVALID in {reason}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo11n", help="an official detector, or a checkpoint")
    parser.add_argument("--runtimes", default="pytorch,onnx,openvino")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--threads", default="all")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--samples", type=int, default=100, help="of a tool in a turn")
    parser.add_argument("--workspace", type=Path, default=Path(), help="whose .cache has weights and exports")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.turns < 2:
        parser.error("--turns: at least 2, a single one tells nothing of its scatter")
    stream = sys.stderr if arguments.json else sys.stdout
    cache = arguments.workspace.resolve() / ".cache"
    threads = machine.usable_cores() if arguments.threads == "all" else int(arguments.threads)
    model = subjects.find(arguments.model, "detect", cache, Path.cwd())
    photos = default_photos(cache).files
    print(f"{model.name}, fp32, {arguments.imgsz} px, batch 1, {threads} threads, "
          f"{arguments.turns} turns of {arguments.samples} samples", file=stream)  # fmt: skip
    results = []
    for runtime in arguments.runtimes.split(","):
        request = Request(model, runtime, imgsz=(arguments.imgsz,) * 2, threads=threads, cache=cache)
        if reason := subjects.why_not(request):
            print(f"{runtime}: {reason}", file=stream)
            continue
        job = Job(request, subjects.export(request), photos, arguments.samples)
        try:
            results.append(compared(job, arguments.turns, lambda text: print(text, file=sys.stderr)))
        except WorkerError as error:
            print(f"{runtime}: {error.reason}", file=stream)
            continue
        if not arguments.json:
            show(results[-1])
    counted = [each for result in results for each in result["rows"] if each["counts"]]
    widths = [(high - low) / 2 / each["ours_ms"] for each in counted for low, high in [each["ours_ci95_ms"]]]
    told = {
        "counted": len(counted),
        "within": sum(each["within"] for each in counted),
        "ratio_holds_1": sum(each["ratio_holds_1"] for each in counted),
        "widest_half_interval": max(widths, default=None),
        "overhead_ns": overhead_ns(),
    }
    if arguments.json:
        print(json.dumps({"model": model.name, "threads": threads, **told, "runtimes": results}, indent=1))
        return
    if counted:
        print(f"\nof {len(counted)} figures of the same thing {told['within']} lie in our interval (± {min(widths):.1%} to "
              f"± {max(widths):.1%}); the interval of the ratio holds 1 for {told['ratio_holds_1']}")  # fmt: skip
    else:
        print("\nnothing is shown: no figure of the same thing that is valid on our side")
    print(f"the timer takes {told['overhead_ns'] / 1000:.2f} us a sample of four phases (goal: < {MOST_OVERHEAD_NS / 1000:g} us)")


if __name__ == "__main__":
    main()
