"""One process for one round of a cell: its memory is that of this model alone, and what kills it ends no other cell.

Each round has a new process because processes of the same model differ: where the system put its memory, and in what pieces,
stays as it is until the end. Of PyTorch's yolo11n-pose six processes that took turns for ten rounds each had medians of 39.3 to
47.0 ms: between processes the spread was three times what the scatter of their rounds explains (benchmarks/processes.py). What
one process measures ever so often is known of that process alone; the user's next one is another (T. Kalibera and R. Jones,
"Rigorous Benchmarking in Reasonable Time", ISMM 2013; pyperf and JMH do so, too).

A worker's own words, and those of the libraries in it, go to a file; its end is shown when it dies.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline import machine
from pipeline.bench.settings import STREAM, Method
from pipeline.bench.statistics import Samples
from pipeline.bench.timing import Phase, Stream, Timer, WarmUp
from pipeline.bench.watch import Sensors, Watch, Watched, joined

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
_READY = "ready"


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


@dataclass(frozen=True)
class Round:
    """What one process measured.

    Attributes:
        device: where the model really ran.
        images: of one sample.
        samples: of each phase, of `end_to_end`, and of `age` where a stream was run.
        seconds: that measuring took.
        frames, dropped: of a stream.
    """

    device: str
    images: int
    load_ms: float
    warm_up: WarmUp
    samples: Mapping[str, Samples]
    seconds: float
    clock_went_back: bool
    frames: int
    dropped: int
    watched: Watched


def run_round(load: Loader, device: str, scenario: str, method: Method) -> Round:
    """Load the model in a new process, warm it up and measure one round. At the end the process is gone, whatever happened.

    Args:
        load: see `Loader`.
        device: as asked for; of "cuda:1" its sensors are read.

    Raises:
        WorkerError: it came to nothing.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="yolo-pipeline-", ignore_cleanup_errors=True) as folder:
            log = Path(folder) / "log.txt"
            with _started(log, load, device, scenario, method) as (connection, process):
                _answer(connection, process, log, _LOAD_LIMIT_S)
                found: Round = _answer(connection, process, log, method.max_seconds + _MARGIN_S)
                return found
    except OSError as error:  # a full disk, no more processes
        raise WorkerError(f"its process cannot be started ({error.strerror or error})") from error


@contextmanager
def _started(log: Path, load: Loader, device: str, scenario: str, method: Method) -> Iterator[tuple[Connection, BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # No daemon: those may not have an exporter as a child.
    process = context.Process(target=_serve, args=(theirs, log, load, device, scenario, method))
    try:
        with _deaf_to_ctrl_c():
            process.start()
        theirs.close()
        yield ours, process
    finally:
        _end(process)
        ours.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Ctrl-C reaches the whole group of processes, and the parent decides. A process that begins is deaf to it from its first
    moment where it inherits that, as on Linux and macOS; on Windows from `_serve` on."""
    if threading.current_thread() is not threading.main_thread():  # others may not
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(connection: Connection, process: BaseProcess, log: Path, limit_s: float) -> Any:
    try:
        if not connection.poll(limit_s):
            raise WorkerError(f"it hangs: no answer for {limit_s:.0f} s")
        answer = connection.recv()
    except (EOFError, OSError):
        raise _death(process, log) from None
    if isinstance(answer, WorkerError):
        raise answer
    return answer


def _death(process: BaseProcess, log: Path) -> WorkerError:
    process.join(5)
    code = process.exitcode
    words = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    last = next((line.strip() for line in reversed(words.splitlines()) if line.strip()), "")
    if code == _KILLED:
        return WorkerError("the process was killed, as systems do when memory is gone", out_of_memory=True)
    said = f"; its last words: {last[:_LONGEST_REASON]}" if last else ""
    return WorkerError(f"the process died with exit code {code}{said}", is_out_of_memory(words))


def _end(process: BaseProcess) -> None:
    if process.pid is None:  # it was never started
        return
    if process.is_alive():
        process.terminate()
        process.join(5)
    if process.is_alive():
        process.kill()
    process.join()


# ---------------------------------------------------------------- in the worker


def _serve(connection: Connection, log: Path, load: Loader, device: str, scenario: str, method: Method) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    machine.number_gpus_as_nvml()
    with log.open("wb", buffering=0) as stream:
        for descriptor in (1, 2):  # below Python's streams, where native code writes
            os.dup2(stream.fileno(), descriptor)
    cell = _Cell(device, scenario, method)
    try:
        cell.load(load)
        connection.send(_READY)
        answer: Round | WorkerError = cell.round()
    except Exception as error:  # noqa: BLE001 - libraries raise anything, and not all of it can be sent
        traceback.print_exc()
        sys.stderr.flush()
        answer = cell.failure(error)
    connection.send(answer)


class _Cell:
    """What a worker does."""

    def __init__(self, device: str, scenario: str, method: Method) -> None:
        self._device = device
        self._scenario = scenario
        self._method = method

    def load(self, load: Loader) -> None:
        self._watch = Watch(Sensors(gpu_of(self._device)))  # before the model takes memory
        rule = self._method.warm_up
        with self._watch.loading():
            self._loaded = load()
            self._timer = Timer(self._loaded.phases, self._loaded.inputs)
            least = max(_LEAST, -(-rule.window_samples // self._loaded.images))
            self._warm_up = self._timer.warm_up(replace(rule, window_samples=least))

    def round(self) -> Round:
        method, loaded, timer = self._method, self._loaded, self._timer
        seconds, longest = method.min_seconds / method.rounds, method.max_seconds / method.rounds
        images = -(-method.min_samples // method.rounds)
        stream = Stream(0, 0)
        with self._watch.round():
            if self._scenario == STREAM:
                stream = timer.run_stream(method.stream_fps, min(max(seconds, images / method.stream_fps), longest))
            else:
                timer.run_round(seconds, max(_LEAST, -(-images // loaded.images)), longest)
        samples = {name: timer.samples(name) for name in timer.names}
        return Round(
            loaded.device,
            loaded.images,
            loaded.load_ms,
            self._warm_up,
            samples,
            timer.seconds,
            timer.clock_went_back,
            stream.frames,
            stream.dropped,
            joined([self._watch]),
        )

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
