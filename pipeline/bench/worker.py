"""One process for one cell: its memory is that of this model alone, and what kills it ends no other cell.

The parent says what to do next and waits, so that of all workers only one is ever at work. A worker's own words, and those of the
libraries in it, go to a file; its end is shown when it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline import machine
from pipeline.bench import END_TO_END, statistics
from pipeline.bench import record as records
from pipeline.bench.settings import STREAM, Method
from pipeline.bench.timing import AGE, Phase, Timer, invalid_because
from pipeline.bench.watch import Sensors, Watch

JSON = dict[str, Any]

_KILLED = -9
"""The exit code of a process that Linux ended because memory was gone."""
_MEMORY = re.compile(
    r"out_?of_?memory|out of memory|(?:cannot|can't|failed to) allocate|bad_alloc|bad allocation|not enough memory|memoryerror"
    r"|\boom\b|available memory of|exceeded max size of memory|cublas_status_alloc_failed"
    rf"|exit code {_KILLED}\b",
    re.IGNORECASE,
)
_LONGEST_REASON = 300
_LEAST = 2
"""Batches of a round, and of a window of the warm-up."""
_LOAD_LIMIT_S = 1800.0
_MARGIN_S = 120.0
"""A worker that is silent for longer than it may measure, and this, hangs."""
_LAST_WORD_S = 5.0


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to be timed.

    Attributes:
        phases: see `Timer`.
        inputs: of the first phase, taken in turn.
        input_names: what each is called, for messages.
        images: in one input.
        device: where it really runs.
        load_ms: what loading took, libraries not included.
    """

    phases: Sequence[Phase]
    inputs: Sequence[Any]
    input_names: Sequence[str]
    images: int
    device: str
    load_ms: float


Loader = Callable[[], Loaded]
"""Is sent to the worker, and so must be a function of a module, or a `functools.partial` of one."""


def is_out_of_memory(said: str) -> bool:
    """Whether a library's message, or its log, says so."""
    return bool(_MEMORY.search(said))


class WorkerError(Exception):
    """A cell that came to nothing. `out_of_memory`: a smaller batch may do."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.out_of_memory = out_of_memory


class Worker:
    """The parent's side. A context manager: at its end the process is gone, whatever happened.

    Args:
        load: see `Loader`.
        device: as asked for; of "cuda:1" its sensors are read.
        scenario, method: how it is measured.
    """

    def __init__(self, load: Loader, device: str, scenario: str, method: Method) -> None:
        self._limit_s = method.max_seconds + _MARGIN_S
        self._is_asked = False
        self._folder = tempfile.TemporaryDirectory(prefix="yolo-pipeline-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log.txt"
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, self._log, load, device, scenario, method)
        self._process = context.Process(target=_serve, args=arguments)  # no daemon: those may not have an exporter as a child
        self._process.start()
        theirs.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and give back what it held."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._connection.close()
        self._folder.cleanup()

    def load(self) -> JSON:
        """Load and warm up: `load_ms`, `first_ms`, `warm_up` and `device`."""
        return self._ask("load", _LOAD_LIMIT_S)

    def round(self) -> None:
        self._ask("round", self._limit_s)

    def finish(self) -> JSON:
        """What was measured: everything of a record's cell that is not in its setting or in the answer of `load`."""
        return self._ask("finish", self._limit_s)

    def finish_early(self) -> JSON:
        """`finish` for a user who does not want to wait: after an interruption, also of a question that was not answered yet."""
        if self._is_asked:
            self._answer(_LAST_WORD_S, "its round was not over")
        return self._ask("finish", _LAST_WORD_S)

    def _ask(self, command: str, limit_s: float) -> JSON:
        self._is_asked = True  # before it is: an interruption in between would take this answer for that of the next question
        try:
            self._connection.send(command)
        except OSError:
            raise self._death() from None
        return self._answer(limit_s, f"it hangs: no answer for {limit_s:.0f} s")

    def _answer(self, limit_s: float, too_late: str) -> JSON:
        try:
            if not self._connection.poll(limit_s):
                raise WorkerError(too_late)
            answer: JSON | WorkerError = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        self._is_asked = False
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def _death(self) -> WorkerError:
        self._process.join(5)
        code = self._process.exitcode
        log = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
        if code == _KILLED:
            return WorkerError("the process was killed, as systems do when memory is gone", out_of_memory=True)
        said = f"; its last words: {last[:_LONGEST_REASON]}" if last else ""
        return WorkerError(f"the process died with exit code {code}{said}", is_out_of_memory(log))


# ---------------------------------------------------------------- in the worker


def _serve(connection: Connection, log: Path, load: Loader, device: str, scenario: str, method: Method) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    machine.number_gpus_as_nvml()
    with log.open("wb", buffering=0) as stream:
        for descriptor in (1, 2):  # below Python's streams, where native code writes
            os.dup2(stream.fileno(), descriptor)
    cell = _Cell(load, device, scenario, method)
    while True:
        try:
            command = connection.recv()
        except EOFError:
            return
        try:
            answer: JSON | WorkerError = getattr(cell, command)()
        except Exception as error:  # noqa: BLE001 - libraries raise anything, and not all of it can be sent
            traceback.print_exc()
            sys.stderr.flush()
            answer = cell.failure(error)
        connection.send(answer)


class _Cell:
    """What `Worker` asks for, in the worker."""

    def __init__(self, load: Loader, device: str, scenario: str, method: Method) -> None:
        self._load = load
        self._device = device
        self._scenario = scenario
        self._method = method
        self._frames = self._dropped = 0

    def load(self) -> JSON:
        self._watch = Watch(Sensors(gpu_of(self._device)))  # before the model takes memory
        rule = self._method.warm_up
        with self._watch.loading():
            self._loaded = self._load()
            self._timer = Timer(self._loaded.phases, self._loaded.inputs)
            least = max(_LEAST, -(-rule.window_samples // self._loaded.images))
            warm = self._timer.warm_up(replace(rule, window_samples=least))
        return {
            "device": self._loaded.device,
            "load_ms": self._loaded.load_ms,
            "first_ms": warm.first_ms[END_TO_END],
            "warm_up": {"samples": warm.samples, "seconds": warm.seconds, "stable": warm.stable},
        }

    def round(self) -> JSON:
        method = self._method
        seconds, longest = method.min_seconds / method.rounds, method.max_seconds / method.rounds
        images = -(-method.min_samples // method.rounds)
        self._timer.settle(0.0 if self._device == "cpu" else method.warm_up.window_seconds)
        with self._watch.round():
            if self._scenario == STREAM:
                stream = self._timer.run_stream(method.stream_fps, min(max(seconds, images / method.stream_fps), longest))
                self._frames += stream.frames
                self._dropped += stream.dropped
            else:
                self._timer.run_round(seconds, max(_LEAST, -(-images // self._loaded.images)), longest)
        return {}

    def finish(self) -> JSON:
        timer, watch, method = self._timer, self._watch, self._method
        samples = {name: timer.samples(name) for name in timer.names}
        whole = samples[END_TO_END]
        phases = {name: statistics.summary(each, method.seed) for name, each in samples.items()}
        images = len(whole.ns) * self._loaded.images
        per_s = statistics.throughput(whole, self._loaded.images)
        counted, stream = images, None
        if self._scenario == STREAM:
            counted, per_s = self._frames, images / timer.seconds
            ages = {"age_p50_ms": phases[AGE]["p50_ms"], "age_p99_ms": phases[AGE]["p99_ms"]}
            stream = {"fps": method.stream_fps, "frames": self._frames, "dropped": self._dropped, **ages}
        load, clock = watch.background_load, timer.clock_went_back
        reasons = invalid_because(whole, timer.seconds, method.limits, load, watch.throttled, clock, counted)
        return {
            "status": "invalid" if reasons else "valid",
            "reasons": reasons,
            "phases": phases,
            "images_per_s": per_s,
            "stream": stream,
            "memory_peak_mib": watch.memory_peak_mib,
            "gpu_memory_peak_mib": watch.gpu_memory_peak_mib,
            "energy_j_per_image": None if watch.energy_j is None else watch.energy_j / images,
            "drift": statistics.drift(whole),
            "watch": watch.summary(),
            "samples": {name: records.pack(each) for name, each in samples.items()},
            "rounds": list(whole.rounds),
        }

    def failure(self, error: Exception) -> WorkerError:
        message = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        text = " ".join(str(message).split())
        reason = text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
        if hasattr(self, "_timer") and self._timer.position is not None:
            reason = f"{self._loaded.input_names[self._timer.position]}: {reason}"
        return WorkerError(reason, isinstance(error, MemoryError) or is_out_of_memory(text))


def gpu_of(device: str) -> int | str | None:
    """NVML's number or UUID of a CUDA device, None for other devices; as CUDA_VISIBLE_DEVICES has it."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    index = int(number or 0)
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    if index < len(visible):
        return int(visible[index]) if visible[index].isdigit() else visible[index]
    return index
