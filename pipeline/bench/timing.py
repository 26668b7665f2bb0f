"""The timer: it calls what it is given, reads the clock in between, and knows of no model, runtime or project.

After MLPerf's LoadGen (V. Reddi et al., "MLPerf Inference Benchmark", ISCA 2020): whoever measures is kept apart from what is
measured, every single duration is kept, and a result stands only after a minimum time and a minimum count. The scenarios are its
single-stream (one input after the other: latency) and offline (batches, as fast as they go: throughput), which differ only by
what an input is, and a camera:

    timer = Timer([("decode", decode), ("preprocess", prepare), ("inference", forward), ("postprocess", boxes)], inputs=paths)
    timer.warm_up()
    for _ in range(5):
        timer.run_round(seconds=0.6, samples=20)         # or timer.run_stream(fps=30, seconds=2)
    timer.samples("inference")

Rounds are what makes cells comparable: measured one whole cell after the other, a machine that gets warm or busy meanwhile
favours the first. `schedule` says in which order the cells of a grid take turns.
"""

from __future__ import annotations

import gc
import random
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.bench import END_TO_END
from pipeline.bench.statistics import NS_PER_MS, Samples, drift, is_trend

Phase = tuple[str, Callable[[Any], Any]]

AGE = "age"
"""Samples of `run_stream`: from the arrival of a frame to its result."""

NS_PER_S = 1_000_000_000
_SPIN_NS = 2_000_000
"""A sleep ends up to a millisecond late: the last two before a frame arrives are waited out by looking at the clock."""

STALL_NS = 10 * NS_PER_S
STALL_TIMES = 1000
"""A sample that lasts ten seconds and a thousand medians was no inference: the clock jumped, or the process was stopped. Of a
sleep of the machine the clocks of Linux and macOS tell nothing."""


@dataclass(frozen=True)
class WarmUpRule:
    """When a cell is warm: the medians of its last two windows differ by less than `tolerance`.

    Attributes:
        window_samples, window_seconds: a window has at least that many samples (whole passes of the inputs) and lasts at least
            that long; processors take tenths of a second to raise their clock.
        tolerance: of the smaller median.
        max_seconds: then measuring starts anyway, and the record says that the cell was not stable.
    """

    window_samples: int = 10
    window_seconds: float = 0.2
    tolerance: float = 0.02
    max_seconds: float = 10.0


@dataclass(frozen=True)
class WarmUp:
    """What the warm-up took. `first_ms` has each phase of the very first sample, and `end_to_end`."""

    samples: int
    seconds: float
    stable: bool
    first_ms: Mapping[str, float]


@dataclass(frozen=True)
class Stream:
    """A camera's frames: every frame was either processed or dropped, because a newer one arrived while it waited."""

    frames: int
    dropped: int


class Timer:
    """Times a chain of functions, round by round.

    Args:
        phases: (name, function) in order; the first function is given an input, each further one the result of the one before. A
            function returns when it is done: one that only asked a GPU for something would count in the next one, or in none.
        inputs: taken in turn. A round ends with a whole pass, so that each input weighs the same in every round. For batches an
            input is a list of images.
        clock: monotonic nanoseconds.
        sleep: seconds; only `run_stream` waits.

    A timer is for one scenario: `run_round` or `run_stream`, not both. Whatever a phase raises ends the round and comes out; the
    samples of the rounds before are kept, those of that round are not.

    Attributes:
        seconds: measured so far, all rounds together.
        clock_went_back: a reading was earlier than the one before; the round ended there.
        position: of the input that is being processed, and of the one that failed.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        inputs: Sequence[Any] = (None,),
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        names = [name for name, _ in phases]
        if not phases or not inputs or len({*names, END_TO_END, AGE}) != len(names) + 2:
            raise ValueError(f"a timer needs inputs, and phases with names of their own; these are {names}")
        self._functions = [function for _, function in phases]
        self._inputs = inputs
        self._clock = clock
        self._sleep = sleep
        self._durations: dict[str, array[int]] = {name: array("q") for name in (*names, END_TO_END, AGE)}
        self._rounds: list[int] = []
        self.seconds = 0.0
        self.clock_went_back = False
        self.position: int | None = None

    @property
    def rounds(self) -> tuple[int, ...]:
        """Samples of each round so far."""
        return tuple(self._rounds)

    @property
    def names(self) -> tuple[str, ...]:
        """What there are samples of: the phases, `end_to_end`, and `age` where a stream was run."""
        return tuple(name for name, durations in self._durations.items() if name != AGE or durations)

    def samples(self, name: str) -> Samples:
        """All samples of a phase, of `end_to_end` or of `age`, of the rounds that were finished."""
        ns = np.array(self._durations[name][: sum(self._rounds)], dtype=np.int64)
        # A camera's frames are dropped as it comes: their order does not tell which one a sample was.
        return Samples(ns, self.rounds, 1 if self._durations[AGE] else len(self._inputs))

    def warm_up(self, rule: WarmUpRule | None = None) -> WarmUp:
        """Run without keeping samples until the cell is stable, as `rule` has it, or its time is up."""
        rule = rule or WarmUpRule()
        started = self._clock()
        first = self._sample(0)
        count, before, stable = 1, None, False
        with _collector_at_rest():
            while not stable and (left := rule.max_seconds - (self._clock() - started) / NS_PER_S) > 0:
                window = [marks[-1] - marks[0] for marks in self._passes(rule.window_seconds, rule.window_samples, left)]
                count += len(window)
                median = Samples(np.array(window, dtype=np.int64), (len(window),), len(self._inputs)).median()
                alike = before is not None and abs(median - before) < rule.tolerance * min(median, before)
                stable = alike and len(window) >= rule.window_samples
                before = median
        durations = zip(self._durations, [*_differences(first), first[-1] - first[0]], strict=False)
        return WarmUp(count, (self._clock() - started) / NS_PER_S, stable, {name: ns / NS_PER_MS for name, ns in durations})

    def run_round(self, seconds: float, samples: int, max_seconds: float = float("inf")) -> int:
        """Measure for at least `seconds` and at least `samples` samples, in whole passes of the inputs; stop after `max_seconds`
        whatever there is. Returns the number of samples."""
        with _collector_at_rest():
            started = self._clock()
            marks = list(self._passes(seconds, samples, max_seconds))
        return self._keep(marks, (marks[-1][-1] - started) / NS_PER_S)

    def run_stream(self, fps: float, seconds: float) -> Stream:
        """One round as a camera gives it: `fps` frames a second for `seconds`, the first one at once.

        A queue of one, as live views have it: a frame that arrives while another is processed waits, and gives way to the next
        one to arrive. The `age` of a result is its time after the arrival of its frame, waiting included. Frames arrive by the
        clock, not by a thread: nothing but the model runs.
        """
        if fps <= 0:
            raise ValueError(f"a camera has a positive number of frames a second, not {fps:g}")
        frames = max(1, round(seconds * fps))
        marks, ages = [], []
        with _collector_at_rest():
            started, frame = self._clock(), 0
            while frame < frames:
                arrival = started + round(frame * NS_PER_S / fps)
                self._wait_until(arrival)
                sample = self._sample(frame % len(self._inputs))
                marks.append(sample)
                ages.append(sample[-1] - arrival)
                if self._goes_back([arrival, *sample]):
                    break
                # The newest frame that has arrived by now, or else the next one to come.
                newest = int((sample[-1] - started) * fps / NS_PER_S)
                frame = max(frame + 1, min(newest, frames - 1))
        self._durations[AGE].extend(ages)
        self._keep(marks, max(frames / fps, (marks[-1][-1] - started) / NS_PER_S))
        return Stream(frames, frames - len(marks))

    def _keep(self, marks: list[list[int]], seconds: float) -> int:
        columns = zip(*map(_differences, marks), strict=True)
        for durations, column in zip(self._durations.values(), columns, strict=False):
            durations.extend(column)
        self._durations[END_TO_END].extend(sample[-1] - sample[0] for sample in marks)
        self.seconds += seconds
        self._rounds.append(len(marks))  # last: a round that is counted is complete
        return len(marks)

    def _passes(self, seconds: float, samples: int, max_seconds: float) -> Iterator[list[int]]:
        """Marks of samples until there are enough; ends at once when the clock goes back, which could otherwise take for ever."""
        started = last = self._clock()
        count = 0
        while True:
            marks = self._sample(count % len(self._inputs))
            yield marks
            count += 1
            if self._goes_back([last, *marks]):
                return
            last = marks[-1]
            elapsed = (last - started) / NS_PER_S
            enough = count >= samples and elapsed >= seconds and count % len(self._inputs) == 0
            if enough or elapsed >= max_seconds:
                return

    def _goes_back(self, marks: list[int]) -> bool:
        if marks != sorted(marks):
            self.clock_went_back = True
        return self.clock_went_back

    def _sample(self, position: int) -> list[int]:
        """Clock readings: before the first phase and after each."""
        clock = self._clock
        self.position, value = position, self._inputs[position]
        marks = [clock()]
        for function in self._functions:
            value = function(value)
            marks.append(clock())
        return marks

    def _wait_until(self, arrival_ns: int) -> None:
        if (early := arrival_ns - self._clock()) > _SPIN_NS:
            self._sleep((early - _SPIN_NS) / NS_PER_S)
        before = self._clock()
        while before < arrival_ns:
            now = self._clock()
            if self._goes_back([before, now]):
                return
            before = now


def schedule(cells: int, rounds: int, seed: int = 0) -> list[list[int]]:
    """The order of the cells in each round: shuffled, and every second round the reverse of the one before it.

    What gets steadily slower then weighs on all cells alike (first and second half of a pair mirror each other), and what comes
    and goes hits them by chance instead of by their place in the grid.
    """
    rng = random.Random(seed)  # noqa: S311 (no secret)
    orders: list[list[int]] = []
    for number in range(rounds):
        orders.append(orders[-1][::-1] if number % 2 else rng.sample(range(cells), cells))
    return orders


def overhead_ns(clock: Callable[[], int] = time.perf_counter_ns, phases: int = 4, samples: int = 2000) -> int:
    """What the timer itself costs per sample on this machine: the time of a round of empty phases, divided by its samples; the
    median of five rounds. It bounds from above what is inside the samples: most of it lies between them."""

    def nothing(value: Any) -> Any:
        return value

    rounds = []
    for _ in range(5):
        timer = Timer([(f"phase {number}", nothing) for number in range(phases)], clock=clock)
        timer.run_round(seconds=0.0, samples=samples)
        rounds.append(timer.seconds * NS_PER_S / samples)
    return round(float(np.median(rounds)))


@dataclass(frozen=True)
class Limits:
    """What a cell must keep to be VALID.

    Attributes:
        min_seconds, min_samples: over all rounds together.
        max_uncertainty: how far the 95 % interval of the figure may reach from it, as a share of it.
        max_drift: of the medians of the rounds, from the first to the last, either way, where they went that way steadily.
        max_background_load: share of all processor time that others took meanwhile.
        max_slowdown: of the processors of a virtual machine, see `looks`.
    """

    min_seconds: float = 3.0
    min_samples: int = 100
    max_uncertainty: float = 0.1
    max_drift: float = 0.05
    max_background_load: float = 0.25
    max_slowdown: float = 0.15


def invalid_because(
    end_to_end: Samples,
    seconds: float,
    limits: Limits,
    uncertainty: float | None = None,
    background_load: float | None = None,
    slowdown: float | None = None,
    throttled: bool | None = None,
    clock_went_back: bool = False,
    counted: int | None = None,
) -> list[str]:
    """The verdict on a cell: why its figures do not stand; empty for a VALID one.

    Args:
        counted: what `limits.min_samples` is held against: images of batches, frames of a stream; None for samples.
        seconds, clock_went_back: as the timer has them.
        uncertainty: of the figure that the scenario is judged by, see `statistics.uncertainty`; None where it is not known.
        background_load, slowdown, throttled: as `watch` and `looks` have them; None where the machine does not tell.
    """
    reasons = []
    ns = end_to_end.ns
    counted = len(ns) if counted is None else counted
    if counted < limits.min_samples:
        reasons.append(f"too few samples: {counted}, at least {limits.min_samples} are asked for")
    if seconds < limits.min_seconds * 0.999:  # seconds divided among rounds and added up again
        reasons.append(f"measured for {seconds:.2f} s, at least {limits.min_seconds:g} s are asked for")
    if clock_went_back or (len(ns) and ns.min() < 0):
        reasons.append("the clock jumped: it went back")
    elif len(ns) and ns.max() > max(STALL_NS, STALL_TIMES * float(np.median(ns))):
        reasons.append(
            f"the clock jumped or the process was stopped: a sample of {ns.max() / NS_PER_S:.1f} s, "
            f"where the median is {float(np.median(ns)) / NS_PER_MS:.3g} ms"
        )
    if uncertainty is not None and uncertainty > limits.max_uncertainty:
        reasons.append(
            f"uncertain: the interval reaches {uncertainty:.1%} from the figure after {len(end_to_end.rounds)} rounds, "
            f"{limits.max_uncertainty:.1%} are allowed"
        )
    if (change := drift(end_to_end)) is not None and abs(change) > limits.max_drift and is_trend(end_to_end):
        word = "slower" if change > 0 else "faster"
        reasons.append(f"drift: {abs(change):.1%} {word} from the first round to the last, {limits.max_drift:.1%} are allowed")
    if background_load is not None and background_load > limits.max_background_load:
        allowed = f"{limits.max_background_load:.0%} are allowed"
        reasons.append(f"the machine was busy: others took {background_load:.0%} of its processors, {allowed}")
    if slowdown is not None and slowdown > limits.max_slowdown:
        reasons.append(
            f"the processors were slow: arithmetic took {slowdown:.1%} longer than at their best, {limits.max_slowdown:.1%} are "
            "allowed; others are at work on the host of this virtual machine, or its clock fell"
        )
    if throttled:
        reasons.append("throttled: the processor or the GPU was slowed down for heat or power")
    return reasons


def _differences(marks: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(marks)]


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Garbage collection as a process with this one model would have it: left on, but what libraries have made is cleared
    away before and not looked through again meanwhile."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
