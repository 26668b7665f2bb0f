"""Stand-ins for models that workers load: they take no time, and fail as models do."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bench.measure import Planned
from pipeline.bench.settings import Method, Setting
from pipeline.bench.timing import WarmUpRule
from pipeline.bench.worker import Loaded

FAST = Method(
    min_seconds=0.0,
    min_samples=9,
    rounds=3,
    cool_down_s=0.0,
    max_uncertainty=1e9,
    max_drift=1e9,
    max_background_load=1.0,
    max_slowdown=1e9,
    stream_fps=500.0,
    warm_up=WarmUpRule(max_seconds=0.0),  # one sample
)
NAMES = ("a.jpg", "b.jpg", "c.jpg")


def loaded(batch: int = 1, trouble: str = "") -> Loaded:
    """Phases that pass on a number.

    Args:
        trouble: "load", "third image", "slow", "hangs", "memory above 2", "death", "killed", "no memory, says the log", or
            "third process " and a path: a file there counts them.
    """
    calls = 0
    if trouble == "load":
        raise ValueError("no such\n  model")
    if trouble == "memory above 2" and batch > 2:
        raise RuntimeError(f"CUDA out of memory. Tried to allocate {batch} GiB")
    processes = 0
    if trouble.startswith("third process "):
        with Path(trouble.removeprefix("third process ")).open("a+", encoding="utf-8") as count:
            count.write("+")
            processes = count.tell()
    if trouble == "no memory, says the log":
        print("terminate called after throwing an instance of std::bad_alloc", file=sys.stderr)
        sys.stderr.flush()
        os._exit(134)
    if trouble == "death":
        print("Illegal instruction", flush=True)
        os._exit(7)
    if trouble == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

    def inference(value: Any) -> Any:
        nonlocal calls
        calls += 1
        if trouble == "slow":
            time.sleep(0.004)
        if trouble == "hangs" and calls > 1:
            time.sleep(30)
        if trouble == "third image" and value == 2:
            raise RuntimeError("unexpected shape")
        if processes == 3:
            raise RuntimeError("lost the device")
        return value

    return Loaded([("inference", inference), ("postprocess", lambda value: value)], (0, 1, 2), NAMES, batch, "cpu", 12.5)


def setting(**changes: Any) -> Setting:
    given: dict[str, Any] = {"task": "detect", "model": "tiny/onnx/fp32", "runtime": "onnx", "precision": "fp32"}
    return Setting(**(given | {"device": "cpu", "imgsz": (64, 64), "threads": 1} | changes))


def planned(trouble: str = "", **changes: Any) -> Planned:
    """A cell with such a model; with smaller batches to fall back to."""
    what = setting(**changes)
    return Planned(what, partial(loaded, what.batch, trouble), lambda batch: planned(trouble, **{**changes, "batch": batch}))
