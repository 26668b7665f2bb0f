"""What other tools find for the same file: a bare loop, ultralytics, OpenVINO's benchmark_app, onnxruntime_test.

For `method.py`. Each function is one turn, and runs in a process of its own. The tools' own code measures, as it is, but for a
warm-up where `warm` is said; the runtimes that they open get the settings of ours (`same_settings`), for which most of the tools
have no option.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench import subjects
from pipeline.bench.settings import SINGLE_STREAM
from pipeline.bench.statistics import NS_PER_MS, Statistic
from pipeline.bench.subjects import Request
from pipeline.bench.timing import Timer
from pipeline.bench.worker import Loaded
from pipeline.yolo import ultralytics

WARM_UP_S = 1.0
Figures = dict[Statistic, float]
"""Milliseconds."""


@dataclass(frozen=True)
class Job:
    """What all tools measure; it goes to their processes."""

    request: Request
    file: Path
    photos: tuple[Path, ...]
    samples: int

    @property
    def size(self) -> int:
        return self.request.imgsz[0]

    @property
    def threads(self) -> int:
        return self.request.threads


@dataclass(frozen=True)
class Tool:
    """Another tool.

    Attributes:
        turn: measures once, and gives its figures; those of one turn have equal weight.
        against: "chain" or "alone".
        statistics: that it gives.
        note: what may shift its figure a little.
        unlike: why it does not measure the same thing; "" where it does.
    """

    name: str
    turn: Callable[[Job], Figures]
    against: str
    statistics: tuple[Statistic, ...]
    note: str = ""
    unlike: str = ""


def chain(job: Job) -> Loaded:
    """Ours, as a cell of `benchmark`."""
    return subjects.prepare(job.request, job.photos, [photo.name for photo in job.photos], SINGLE_STREAM, job.file)


def alone(job: Job) -> Loaded:
    """Ours, the phase `inference` by itself."""
    loaded = chain(job)
    phases = dict(loaded.phases)
    inputs = [phases["preprocess"](phases["decode"](photo)) for photo in loaded.inputs]
    return replace(loaded, phases=[("inference", phases["inference"])], inputs=inputs)


def inputs_of(job: Job) -> list[Any]:
    """The same network inputs that ours gets."""
    return [inputs.batch for inputs in alone(job).inputs]


def looped(call: Callable[[Any], Any], inputs: Sequence[Any], samples: int) -> Figures:
    """What anybody would write who knows the settings of ours; warmed up for a second."""
    started = time.perf_counter()
    while time.perf_counter() - started < WARM_UP_S:
        for each in inputs:
            call(each)
    times = []
    for number in range(samples):
        before = time.perf_counter()
        call(inputs[number % len(inputs)])
        times.append(time.perf_counter() - before)
    return of_ms(np.array(times) * 1000)


def chain_with_threads_of_opencv(job: Job) -> Figures:
    """Ours, were OpenCV not kept to one thread."""
    loaded = chain(job)
    import cv2

    cv2.setNumThreads(job.threads)
    timer = Timer(loaded.phases, loaded.inputs)
    timer.warm_up()
    timer.run_round(seconds=0, samples=job.samples)
    return of_ms(timer.samples("inference").ns / NS_PER_MS)


def of_ms(times: Any) -> Figures:
    return {"mean": float(np.mean(times)), "median": float(np.median(times))}


def loop_of_pytorch(job: Job) -> Figures:
    inputs = inputs_of(job)
    import torch

    from pipeline.runtimes.pytorch import memory_format

    network = ultralytics(job.request.cache).YOLO(str(job.file)).model.float().fuse(verbose=False).eval()
    torch.set_num_threads(job.threads)
    network = network.to(memory_format=memory_format("cpu"))

    def call(batch: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(batch))[0].numpy()

    return looped(call, inputs, job.samples)


def loop_of_onnx(job: Job) -> Figures:
    inputs = inputs_of(job)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(os.fspath(job.file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return looped(lambda batch: session.run(None, {name: batch}), inputs, job.samples)


def openvino_settings(job: Job) -> dict[str, Any]:
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job.threads, "INFERENCE_PRECISION_HINT": "f32"}


def loop_of_openvino(job: Job) -> Figures:
    inputs = inputs_of(job)
    import openvino

    request = openvino.Core().compile_model(job.file, "CPU", openvino_settings(job)).create_infer_request()
    return looped(lambda batch: request.infer([batch], share_inputs=True), inputs, job.samples)


def clock_of_openvino(job: Job) -> Figures:
    """The same calls by the runtime's own clock, which benchmark_app reads."""
    inputs = inputs_of(job)
    import openvino

    request = openvino.Core().compile_model(job.file, "CPU", openvino_settings(job)).create_infer_request()
    times = []

    def call(batch: Any) -> None:
        request.infer([batch], share_inputs=True)
        times.append(request.latency)

    looped(call, inputs, job.samples)
    return of_ms(times[-job.samples :])


def onnxruntime_test(job: Job) -> Figures:
    same_settings(job)
    from onnxruntime.tools.onnxruntime_test import run_model

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run_model(os.fspath(job.file), job.samples)
    return {"mean": number_in(r"avg latency: ([\d.e+-]+) ms", said.getvalue())}


def benchmark_app(job: Job) -> str:
    """What it says."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"CPU": openvino_settings(job)}), encoding="utf-8")
        code = "from openvino.tools.benchmark.main import main; main()"
        options = ["-m", os.fspath(job.file), "-d", "CPU", "-hint", "latency", "-api", "sync", "-niter", str(job.samples)]
        command = [sys.executable, "-c", code, *options, "-load_config", os.fspath(config)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return done.stdout


def latency_of_benchmark_app(job: Job) -> Figures:
    said = benchmark_app(job)
    return {"mean": number_in(r"Average:\s+([\d.]+) ms", said), "median": number_in(r"Median:\s+([\d.]+) ms", said)}


def throughput_of_benchmark_app(job: Job) -> Figures:
    return {"mean": 1000 / number_in(r"Throughput:\s+([\d.]+) FPS", benchmark_app(job))}


def number_in(pattern: str, said: str) -> float:
    if (found := re.search(pattern, said)) is None:
        raise RuntimeError(f"its output has no {pattern}: {said.strip()[-300:]}")
    return float(found[1])


def same_settings(job: Job) -> None:
    """The threads and the precision of ours for every session of this process.

    Left alone, `yolo` takes min(8, processors - 1) threads for PyTorch, 8 in ProfileModels, and bfloat16 in OpenVINO where the
    processor has it.
    """
    if job.request.runtime == "pytorch":
        from ultralytics.utils import torch_utils

        torch_utils.NUM_THREADS = job.threads  # to which `select_device` goes back at each call
    elif job.request.runtime == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession

        def opened(path: Any, sess_options: Any = None, **keywords: Any) -> Any:
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = job.threads
            return session(path, options, **keywords)

        onnxruntime.InferenceSession = opened
    else:
        import openvino

        class Core(openvino.Core):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.set_property(
                    "CPU", {key: value for key, value in openvino_settings(job).items() if key != "PERFORMANCE_HINT"}
                )

        openvino.Core = Core


def loaded_by_ultralytics(job: Job, folder: Path) -> Any:
    """The same file as `yolo` opens it."""
    library = ultralytics(job.request.cache)
    same_settings(job)
    file = job.file
    if job.request.runtime == "openvino":  # it opens folders whose name ends like this, with a description beside the graph
        file = folder / f"{job.file.stem}_openvino_model"
        file.mkdir()
        for part in subjects.parts_of(job.file):
            shutil.copy(part, file)
        names = library.YOLO(str(job.request.model.path)).names
        about = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [job.size] * 2, "names": names}
        (file / "metadata.yaml").write_text(json.dumps(about), encoding="utf-8")
    return library.YOLO(str(file), task="detect")


def predicted(job: Job) -> Figures:
    """`speed["inference"]` of `predict`, one photo a call."""
    with tempfile.TemporaryDirectory() as folder:
        model = loaded_by_ultralytics(job, Path(folder))

        def speed(photo: Path) -> float:
            found = model.predict(photo, imgsz=job.size, rect=False, device="cpu", verbose=False, project=folder)
            return float(found[0].speed["inference"])

        started = time.perf_counter()
        while time.perf_counter() - started < WARM_UP_S:
            for photo in job.photos:
                speed(photo)
        return of_ms([speed(job.photos[number % len(job.photos)]) for number in range(job.samples)])


def validated_warm(job: Job) -> Figures:
    """The same after a warm-up, which it leaves out on CPUs."""
    ultralytics(job.request.cache)
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    def warm_up(network: Any, imgsz: tuple[int, ...], im: Any = None) -> None:
        started = time.perf_counter()
        while time.perf_counter() - started < WARM_UP_S:
            network.forward(torch.rand(1, 3, job.size, job.size))

    AutoBackend.warmup = warm_up
    return validated(job)


def validated(job: Job) -> Figures:
    """What `yolo benchmark` prints: `speed["inference"]` of `val`, called as `ultralytics.utils.benchmarks.benchmark` does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = loaded_by_ultralytics(job, folder)
        for kind in ("images", "labels"):
            (folder / kind / "val").mkdir(parents=True)
        for number in range(job.samples):
            photo = job.photos[number % len(job.photos)]
            (folder / "images" / "val" / f"{number:04}.jpg").write_bytes(photo.read_bytes())
            (folder / "labels" / "val" / f"{number:04}.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
        data = folder / "data.yaml"
        about = {"path": name, "train": "images/val", "val": "images/val", "names": model.names}
        data.write_text(json.dumps(about), encoding="utf-8")
        results = model.val(
            data=str(data),
            batch=1,
            imgsz=job.size,
            rect=False,
            plots=False,
            device="cpu",
            verbose=False,
            conf=0.001,
            project=name,
        )
        return {"mean": float(results.speed["inference"])}


def profiled(job: Job) -> Figures:
    ultralytics(job.request.cache)
    same_settings(job)
    from ultralytics.utils.benchmarks import ProfileModels

    profiler = ProfileModels([], num_timed_runs=job.samples, min_time=0, imgsz=job.size, trt=False, device="cpu")
    return {"mean": float(profiler.profile_onnx_model(os.fspath(job.file))[0])}


BOTH: tuple[Statistic, ...] = ("mean", "median")
LOOPS = {"pytorch": loop_of_pytorch, "onnx": loop_of_onnx, "openvino": loop_of_openvino}
CALLS = {"pytorch": "the network", "onnx": "session.run", "openvino": "request.infer"}


def tools(job: Job) -> list[Tool]:
    runtime = job.request.runtime
    cold = "it does not warm up, the first call is in it"
    found = [
        Tool(f"bare loop of {CALLS[runtime]}", LOOPS[runtime], "alone", BOTH),
        Tool("yolo predict", predicted, "chain", BOTH),
        Tool("yolo benchmark (val), warm", validated_warm, "chain", ("mean",)),
        Tool("yolo benchmark (val)", validated, "chain", ("mean",), unlike=cold),
        Tool("ours, OpenCV with threads", chain_with_threads_of_opencv, "chain", BOTH, unlike="ours keeps OpenCV to one thread"),
    ]
    if runtime == "onnx":
        clipped = "leaves out samples beyond two deviations; noise as input"
        found += [
            Tool("onnxruntime_test", onnxruntime_test, "alone", ("mean",), unlike=cold),
            Tool("ProfileModels of ultralytics", profiled, "alone", ("mean",), clipped),
        ]
    if runtime == "openvino":
        inside = "by the clock inside the runtime: results are not in numpy yet"
        found += [
            Tool(
                "benchmark_app, 1 / throughput",
                throughput_of_benchmark_app,
                "alone",
                ("mean",),
                "one call to warm up; noise as input",
            ),
            Tool("benchmark_app, latency", latency_of_benchmark_app, "alone", BOTH, unlike=inside),
            Tool("bare loop, request.latency", clock_of_openvino, "alone", BOTH, unlike=inside),
        ]
    return found
