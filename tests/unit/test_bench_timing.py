"""The timer against a clock of the tests: phases, the ends of rounds, warm-up, what a camera drops, and the verdict on a cell."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.bench import timing
from pipeline.bench.statistics import Samples
from pipeline.bench.timing import Limits, Timer, WarmUpRule

MS = 1_000_000


class FakeClock:
    """Time passes only when work is done, or by `tick` nanoseconds at every look."""

    def __init__(self, tick: int = 0) -> None:
        self.now = 0
        self.tick = tick
        self.slept: list[float] = []

    def __call__(self) -> int:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)

    def work(self, ms: float | Sequence[float]) -> Callable[[Any], Any]:
        """A function that takes `ms`, or each of these in turn and then the last for ever, and passes its argument on."""
        durations = [ms] if isinstance(ms, int | float) else list(ms)

        def function(value: Any) -> Any:
            self.now += round((durations.pop(0) if len(durations) > 1 else durations[0]) * MS)
            return value

        return function


def timer_of(clock: FakeClock, ms: float | Sequence[float], inputs: Sequence[Any] = (None,)) -> Timer:
    return Timer([("inference", clock.work(ms))], inputs, clock=clock, sleep=clock.sleep)


def ms_of(timer: Timer, name: str = "end_to_end") -> list[float]:
    return list(timer.samples(name).ns / MS)


# ---- rounds ----


def test_each_phase_gets_the_result_of_the_one_before_and_its_own_time() -> None:
    clock = FakeClock()
    seen: list[Any] = []

    def phase(name: str, ms: float) -> tuple[str, Callable[[Any], Any]]:
        def function(value: Any) -> Any:
            clock.now += round(ms * MS)
            seen.append(value)
            return f"{value}>{name}"

        return name, function

    timer = Timer([phase("decode", 5), phase("inference", 20), phase("postprocess", 1)], ["a", "b"], clock=clock)
    assert timer.run_round(seconds=0, samples=2) == 2
    assert seen == ["a", "a>decode", "a>decode>inference", "b", "b>decode", "b>decode>inference"]
    assert timer.names == ("decode", "inference", "postprocess", "end_to_end")
    assert [ms_of(timer, name) for name in timer.names] == [[5, 5], [20, 20], [1, 1], [26, 26]]
    assert timer.samples("inference").ns.dtype == np.int64


@pytest.mark.parametrize(
    ("seconds", "samples", "inputs", "expected"),
    [(1.0, 3, 1, 10), (0.2, 25, 1, 25), (0.0, 4, 3, 6), (1.0, 1, 4, 12)],
    ids=["long enough", "samples enough", "whole passes", "all of it"],
)
def test_a_round_lasts_until_there_is_time_and_count(seconds: float, samples: int, inputs: int, expected: int) -> None:
    timer = timer_of(FakeClock(), 100, range(inputs))
    assert timer.run_round(seconds, samples) == expected


def test_a_round_stops_at_its_most_seconds_with_what_there_is() -> None:
    timer = timer_of(FakeClock(), 4000, range(8))
    assert timer.run_round(seconds=1, samples=100, max_seconds=10) == 3
    assert timer.seconds == 12


def test_rounds_add_up() -> None:
    timer = timer_of(FakeClock(), 10)
    timer.run_round(0, 3)
    timer.run_round(0, 5)
    assert timer.rounds == (3, 5)
    assert timer.samples("inference").rounds == (3, 5)
    assert timer.seconds == pytest.approx(0.08)


def test_cells_can_take_turns() -> None:
    clock = FakeClock()
    slow, fast = timer_of(clock, 50), timer_of(clock, 10)
    for timer in (slow, fast, fast, slow):
        timer.run_round(0, 2)
    assert (ms_of(slow), ms_of(fast)) == ([50] * 4, [10] * 4)


def test_a_model_that_fails_leaves_the_rounds_before_as_they_were() -> None:
    clock = FakeClock()
    calls = []

    def third_fails(value: Any) -> Any:
        calls.append(value)
        clock.now += MS
        if len(calls) == 5:
            raise MemoryError("out of memory")
        return value

    timer = Timer([("inference", third_fails)], clock=clock)
    timer.run_round(0, 2)
    with pytest.raises(MemoryError):
        timer.run_round(0, 10)
    assert timer.rounds == (2,)
    assert len(timer.samples("end_to_end").ns) == 2


def test_garbage_is_cleared_before_a_round_and_the_collector_is_left_as_it_was() -> None:
    frozen = []
    timer = Timer([("inference", lambda value: frozen.append(gc.get_freeze_count()))])
    before = gc.get_freeze_count()
    timer.run_round(0, 1)
    assert frozen[0] > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == before


@pytest.mark.parametrize(
    ("phases", "inputs"),
    [([], (1,)), ([("a", str)], ()), ([("a", str), ("a", str)], (1,)), ([("end_to_end", str)], (1,)), ([("age", str)], (1,))],
)
def test_phases_and_inputs_must_be_there_and_have_names_of_their_own(phases: Any, inputs: Any) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Timer(phases, inputs)


# ---- warm-up ----


def test_warm_up_ends_when_two_windows_are_alike() -> None:
    timer = timer_of(FakeClock(), [300, *[60] * 10, *[40] * 10, 40])
    warm = timer.warm_up(WarmUpRule(window_samples=10, window_seconds=0))
    assert (warm.samples, warm.stable) == (31, True)
    assert warm.seconds == pytest.approx(0.3 + 0.6 + 0.4 + 0.4)
    assert warm.first_ms == {"inference": 300, "end_to_end": 300}
    assert timer.rounds == ()
    assert not len(timer.samples("inference").ns)


def test_a_window_lasts_some_time_too() -> None:
    warm = timer_of(FakeClock(), 1).warm_up(WarmUpRule(window_samples=10, window_seconds=0.2))
    assert (warm.samples, warm.stable) == (401, True)


def test_windows_compare_the_same_inputs() -> None:
    clock = FakeClock()
    timer = Timer([("inference", lambda ms: clock.work(ms)(ms))], [10, 20, 90], clock=clock)
    assert timer.warm_up(WarmUpRule(window_samples=4, window_seconds=0)).samples == 1 + 6 + 6


def test_warm_up_gives_up_after_its_time_and_says_so() -> None:
    getting_slower = [100 * 1.1**n for n in range(200)]
    warm = timer_of(FakeClock(), getting_slower).warm_up(WarmUpRule(window_seconds=0, max_seconds=10))
    assert not warm.stable
    assert 10 <= warm.seconds < 12


def test_a_window_that_was_cut_short_is_not_stable() -> None:
    warm = timer_of(FakeClock(), 4000).warm_up(WarmUpRule(window_samples=2, window_seconds=0, max_seconds=11))
    assert (warm.samples, warm.stable) == (3, False)


# ---- stream ----


def test_a_fast_model_sees_every_frame_and_waits_for_it() -> None:
    clock = FakeClock(tick=1000)
    timer = timer_of(clock, 10)
    stream = timer.run_stream(fps=10, seconds=1)
    assert (stream.frames, stream.dropped) == (10, 0)
    assert ms_of(timer, "age") == pytest.approx([10] * 10, abs=0.01)
    assert len(clock.slept) == 9
    assert sum(clock.slept) == pytest.approx(0.9 - 0.09 - 9 * 0.002, abs=1e-3)
    assert timer.seconds == pytest.approx(1)


def test_a_slow_model_drops_frames_and_takes_the_newest() -> None:
    taken: list[int] = []
    clock = FakeClock()
    work = clock.work(250)
    timer = Timer([("inference", lambda frame: taken.append(frame) or work(frame))], range(10), clock=clock, sleep=clock.sleep)
    stream = timer.run_stream(fps=10, seconds=1)
    # Ends at 250, 500, 750, 1000 ms; the newest frame by then is number 2, 5, 7, and 9, the last.
    assert taken == [0, 2, 5, 7, 9]
    assert ms_of(timer, "age") == [250, 300, 250, 300, 350]
    assert (stream.frames, stream.dropped) == (10, 5)
    assert timer.rounds == (5,)
    assert not clock.slept


def test_every_frame_is_processed_or_dropped() -> None:
    for ms in (1, 33, 34, 70, 1234):
        timer = timer_of(FakeClock(tick=500), ms)
        stream = timer.run_stream(fps=29.97, seconds=3)
        assert stream.frames == 90
        assert stream.frames == stream.dropped + sum(timer.rounds)
        assert min(ms_of(timer, "age")) >= ms


def test_samples_know_whose_turn_it_was_except_in_a_stream_which_drops() -> None:
    taken, seen = timer_of(FakeClock(), 1, "abc"), timer_of(FakeClock(tick=100), 1, "abc")
    taken.run_round(0, 6)
    seen.run_stream(20, 0.5)
    assert (taken.samples("end_to_end").inputs, seen.samples("end_to_end").inputs) == (3, 1)


def test_streams_go_by_rounds_too() -> None:
    timer = timer_of(FakeClock(tick=100), 5)
    timer.run_stream(20, 0.5)
    timer.run_stream(20, 0.25)
    assert timer.rounds == (10, 5)
    assert timer.names == ("inference", "end_to_end", "age")
    assert timer.samples("age").rounds == (10, 5)


@pytest.mark.parametrize("fps", [0, -5])
def test_a_camera_has_frames(fps: float) -> None:
    with pytest.raises(ValueError, match="frames a second"):
        timer_of(FakeClock(), 1).run_stream(fps, 1)


# ---- a clock that jumps ----


def test_a_clock_that_goes_back_ends_the_round() -> None:
    timer = timer_of(FakeClock(), [10, 10, -3_600_000, 10])
    assert timer.run_round(seconds=1, samples=100) == 3
    assert timer.clock_went_back
    reasons = timing.invalid_because(timer.samples("end_to_end"), 1, Limits(min_seconds=0, min_samples=0), clock_went_back=True)
    assert reasons == ["the clock jumped: it went back"]


def test_a_clock_that_goes_back_between_samples_is_seen() -> None:
    clock = FakeClock()
    looks = []

    def jumpy() -> int:
        looks.append(clock.now)
        if len(looks) == 4:
            clock.now -= 5 * MS
        return clock.now

    timer = Timer([("inference", clock.work(1))], clock=jumpy)
    timer.run_round(seconds=1, samples=100)
    assert timer.clock_went_back
    assert timer.rounds[0] < 100


def test_a_clock_that_goes_back_ends_a_stream() -> None:
    timer = timer_of(FakeClock(tick=10), [10, -10_000, 10])
    timer.run_stream(fps=50, seconds=1)
    assert timer.clock_went_back
    assert timer.rounds == (2,)


# ---- the verdict ----


def steady(ms: float = 40, samples: int = 100) -> Samples:
    return Samples(np.full(samples, round(ms * MS), dtype=np.int64), (samples // 5,) * 5)


def test_a_cell_that_keeps_all_limits_is_valid() -> None:
    assert timing.invalid_because(steady(), 4, Limits(), background_load=0.1, throttled=False) == []
    assert timing.invalid_because(steady(), 4, Limits()) == []


@pytest.mark.parametrize(
    ("samples", "seconds", "watched", "reason"),
    [
        (steady(samples=95), 4, {}, "too few samples: 95, at least 100 are asked for"),
        (Samples(np.zeros(0, dtype=np.int64), ()), 4, {}, "too few samples: 0, at least 100 are asked for"),
        (steady(), 2.5, {}, "measured for 2.50 s, at least 3 s are asked for"),
        (
            steady(),
            4,
            {"uncertainty": 0.22},
            "uncertain: the interval reaches 22.0% from the figure after 5 rounds, 10.0% are allowed",
        ),
        (steady(), 4, {"throttled": True}, "throttled: the processor or the GPU was slowed down for heat or power"),
        (steady(), 4, {"background_load": 0.4}, "the machine was busy: others took 40% of its processors, 25% are allowed"),
        (
            steady(),
            4,
            {"slowdown": 0.24},
            "the processors were slow: arithmetic took 24.0% longer than at their best, 15.0% are allowed; "
            "others are at work on the host of this virtual machine, or its clock fell",
        ),
        (
            Samples(np.append(np.full(100, 5 * MS), 3_600_000 * MS), (101,)),
            4,
            {},
            "the clock jumped or the process was stopped: a sample of 3600.0 s, where the median is 5 ms",
        ),
        (
            Samples(np.repeat(np.array([40, 41, 42, 43, 44]) * MS, 20), (20,) * 5),
            4,
            {},
            "drift: 9.5% slower from the first round to the last, 5.0% are allowed",
        ),
        (
            Samples(np.repeat(np.array([44, 43, 42, 41, 40]) * MS, 20), (20,) * 5),
            4,
            {},
            "drift: 9.5% faster from the first round to the last, 5.0% are allowed",
        ),
    ],
)
def test_each_limit_has_its_reason(samples: Samples, seconds: float, watched: dict[str, Any], reason: str) -> None:
    assert timing.invalid_because(samples, seconds, Limits(), **watched) == [reason]


# ---- order and overhead ----


def test_every_round_has_all_cells_and_rounds_come_in_mirrored_pairs() -> None:
    orders = timing.schedule(cells=6, rounds=5, seed=1)
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    assert orders[0] != orders[2]
    assert orders == timing.schedule(6, 5, seed=1) != timing.schedule(6, 5, seed=2)


def test_the_overhead_is_the_time_between_samples_too() -> None:
    # Five looks at the clock a sample, for four phases.
    assert timing.overhead_ns(FakeClock(tick=100), samples=10) == pytest.approx(500, abs=20)


def test_the_timer_costs_less_than_20_microseconds_a_sample() -> None:
    # Measured: 1.3 µs. A busy machine can disturb one attempt, hardly three.
    assert min(timing.overhead_ns(time.perf_counter_ns, samples=500) for _ in range(3)) < 20_000
