"""Do two runs of the same grid agree? The command `benchmark`, several times, and its records held against each other.

    python benchmarks/repeatability.py [--runs 2] [--tasks detect,segment,classify,pose] [--runtimes pytorch,onnx,openvino]
                                       [--workspace DIR] [--json] [-- --quick --set benchmark.rounds=10 …]

What comes after `--` goes to the command as it is. Each run is a new process and a version of its own in a temporary workspace;
weights and exports are copied from the cache of `--workspace`, and all runs measure the same files. A cell of two runs

    agrees      when the interval of the ratio of its times, end to end, holds 1, as `benchmark compare` judges
    differs     when it does not, though both runs call the cell valid: the intervals promise too much
    is INVALID  when a run says so itself

With intervals of 95 % that hold what they say, one cell in twenty differs. The goal is that 90 % agree or are INVALID. Beside it:
how many of the intervals of the medians overlap, which is the weaker demand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from pipeline.bench import END_TO_END  # noqa: E402
from pipeline.bench import record as records  # noqa: E402
from pipeline.bench.cells import Cell, cells_of, ratio  # noqa: E402
from pipeline.bench.statistics import NS_PER_MS, interval  # noqa: E402

GOAL = 0.9


def measure(workspace: Path, run: int, words: Sequence[str]) -> Path:
    """One run of the command: the path of its record."""
    command = [sys.executable, "-m", "pipeline", "benchmark", "--workspace", str(workspace), "--label", f"run {run}", "--json"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*command, *words], stdout=subprocess.PIPE, text=True, env=env, encoding="utf-8")
    if done.returncode:
        sys.exit(f"run {run}: `benchmark` ended with exit code {done.returncode}")
    return Path(json.loads(done.stdout)["path"]) / "record.json"


def compare(first: Cell, second: Cell, phase: str) -> dict[str, Any]:
    """How a cell came out in two runs."""
    told: dict[str, Any] = {"cell": first.title(), "runs": [first.record, second.record], "status": [first.status, second.status]}
    if broken := [cell for cell in (first, second) if not cell.is_valid]:
        reasons = [f"{cell.record}: {reason}" for cell in broken for reason in cell.reasons]
        return {
            **told,
            "outcome": "INVALID" if all(cell.status == "invalid" for cell in broken) else "failed",
            "reasons": reasons,
        }
    found = ratio(second, first, phase)
    limits = [interval(cell.samples(phase), cell.statistic) or (0.0, 0.0) for cell in (first, second)]
    return {
        **told,
        "outcome": "agrees" if found.is_noise else "differs",
        "ms": [cell.typical_ms(phase) for cell in (first, second)],
        "ci95_ms": [
            [limit / NS_PER_MS / cell.batch for limit in pair] for pair, cell in zip(limits, (first, second), strict=True)
        ],
        "ratio": found.value,
        "ratio_ci95": [found.low, found.high],
        "overlap": max(low for low, _ in limits) <= min(high for _, high in limits),
        "reasons": [],
    }


def show(cell: dict[str, Any]) -> None:
    figures = ""
    if cell["outcome"] in ("agrees", "differs"):
        times = "  ".join(
            "{:.3f} [{:.3f}, {:.3f}]".format(ms, *limits) for ms, limits in zip(cell["ms"], cell["ci95_ms"], strict=True)
        )
        figures = f"{times}  x {cell['ratio']:.3f} [{cell['ratio_ci95'][0]:.3f}, {cell['ratio_ci95'][1]:.3f}]"
    print(f"{cell['outcome']:<8} {cell['cell']}, {' and '.join(cell['runs'])}: {figures or '; '.join(cell['reasons'])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--model", default="yolo11n")
    parser.add_argument("--tasks", default="detect,segment,classify,pose")
    parser.add_argument("--runtimes", default="pytorch,onnx,openvino")
    parser.add_argument("--phase", default=END_TO_END)
    parser.add_argument("--workspace", type=Path, default=Path(), help="whose .cache has weights and exports")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("words", nargs="*", metavar="-- OPTION", help="of `benchmark`")
    arguments = parser.parse_args()
    if arguments.runs < 2:
        parser.error("--runs: at least 2")
    words = ["--model", arguments.model, "--tasks", arguments.tasks, "--runtimes", arguments.runtimes, *arguments.words]
    cache = arguments.workspace.resolve() / ".cache"
    with tempfile.TemporaryDirectory() as name:
        for kept in ("weights", "benchmark"):
            if (cache / kept).is_dir():
                shutil.copytree(cache / kept, Path(name) / ".cache" / kept)
        paths = [measure(Path(name), run, words) for run in range(1, arguments.runs + 1)]
        runs = [cells_of(f"run {number}", records.read(path)) for number, path in enumerate(paths, 1)]
    tried = [{cell.title(): cell for cell in cells if cell.status != "skipped"} for cells in runs]
    compared = [
        compare(first[title], second[title], arguments.phase)
        for first, second in combinations(tried, 2)
        for title in first
        if title in second  # smaller batches come where memory does not do, and not in every run
    ]
    counts = {
        outcome: sum(cell["outcome"] == outcome for cell in compared) for outcome in ("agrees", "differs", "INVALID", "failed")
    }
    share = (counts["agrees"] + counts["INVALID"]) / len(compared) if compared else 0.0
    both = counts["agrees"] + counts["differs"]
    overlapping = sum(cell.get("overlap", False) for cell in compared)
    if arguments.json:
        told = {"counts": counts, "overlap": overlapping, "agree_or_invalid": share, "goal": GOAL}
        print(json.dumps({**told, "phase": arguments.phase, "cells": compared}, indent=1))
        return
    for cell in compared:
        show(cell)
    print(f"\n{len(compared)} pairs of cells: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    print(f"agree or INVALID: {share:.0%} (goal: {GOAL:.0%})")
    if both:
        print(f"of the {both} valid pairs {counts['agrees']} agree ({counts['agrees'] / both:.0%}), and {overlapping} overlap")
    else:
        print("no pair is valid: this says nothing of the intervals; measure on a machine that is not busy")


if __name__ == "__main__":
    main()
