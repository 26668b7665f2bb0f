"""How long does `run all` take when there is nothing to do, and how much work does one new photo make?

    python benchmarks/noop.py [--images 5000 50000]

Makes a folder of small photos with YOLO labels, runs collect to split for real, and publishes stand-ins for the stages above by
the real runner (a no-op reads manifests only, so what a training did inside does not matter). Then times `python -m pipeline run
all` against `python -c pass`, and a run after one photo was added.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from pipeline import files, fingerprint, params, runner  # noqa: E402
from pipeline.console import Console  # noqa: E402
from pipeline.stage import counted  # noqa: E402
from pipeline.store import Store  # noqa: E402

REAL = ("collect", "annotate", "preprocess", "split")


def make_photos(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        target = folder / f"{number // 1000:02}" / f"{number:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(target), cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC))
        target.with_suffix(".txt").write_text(f"{number % 2} 0.5 0.5 0.25 0.25\n")
    (folder / "classes.txt").write_text("one\ntwo\n")


def publish_everything(workspace: Path) -> None:
    def stand_in(inputs: Mapping[str, Path], values: Any, out: Path, context: Any) -> dict[str, Any]:
        files.write_text(out / "stand-in.txt", "made by a benchmark\n")
        return {}

    stages = {
        name: stage if name in REAL else dataclasses.replace(stage, run=stand_in, preflight=None, headline=counted)
        for name, stage in runner.discover().items()
    }
    loaded = params.load(workspace / "params.yaml", stages)
    store = Store(workspace, {name: stage.root for name, stage in stages.items()})
    runner.Runner(stages, loaded, store, Console(quiet=True)).run(list(stages))


def seconds(command: list[str], workspace: Path, repeats: int = 7) -> float:
    """Median wall time of a command."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # containers set it; an installed program has its bytecode
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, cwd=workspace, env=env, check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="noop-"))
    try:
        workspace = folder / "workspace"
        workspace.mkdir()
        make_photos(folder / "photos", count)
        text = "collect: {source: ../photos}\nsplit: {group_by: [source]}\n"
        (workspace / "params.yaml").write_text(text)
        time.sleep(2.5)  # files younger than two seconds are hashed again, by design
        publish_everything(workspace)
        run_all = [sys.executable, "-m", "pipeline", "run", "all"]
        seconds(run_all, workspace, repeats=1)
        nothing = seconds(run_all, workspace)
        floor = seconds([sys.executable, "-c", "pass"], workspace)
        beyond = nothing - floor
        print(f"{count:>7,} images: nothing to do {nothing:.3f} s, python -c pass {floor:.3f} s, beyond it {beyond:.3f} s")

        shutil.copy(folder / "photos/00/000000.jpg", folder / "photos/00/new.jpg")
        with (folder / "photos/00/new.jpg").open("ab") as stream:
            stream.write(b"one more byte after the end marker makes it another file")
        one = seconds([*run_all[:-1], "..split"], workspace, repeats=1)
        manifest = json.loads((workspace / "datasets/preprocess/v2/manifest.json").read_text())
        summary = manifest["summary"]
        print(
            f"{'':>7}  one photo added: collect to split {one:.1f} s, "
            f"{summary['images_processed']} image decoded, {summary['images_reused']:,} taken over"
        )
    finally:
        shutil.rmtree(folder)


def measure_hashing(count: int = 512) -> None:
    """One core, files of a megabyte in the page cache: BLAKE3 as the pipeline uses it, beside what DVC and most others use."""
    folder = Path(tempfile.mkdtemp(prefix="hash-"))
    try:
        paths = [folder / str(number) for number in range(count)]
        for path in paths:
            path.write_bytes(os.urandom(1_000_000))
        rates = {}
        for name, function in (
            ("blake3", fingerprint.of_file),
            ("md5", lambda path: hashlib.md5(path.read_bytes()).hexdigest()),
            ("sha256", lambda path: hashlib.sha256(path.read_bytes()).hexdigest()),
        ):
            started = time.process_time()
            for path in paths:
                function(path)
            rates[name] = count / 1000 / (time.process_time() - started)
        print("hashing, GB a CPU second: " + ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items()))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[5_000, 50_000])
    options = parser.parse_args()
    measure_hashing()
    for size in options.images:
        measure(size)
