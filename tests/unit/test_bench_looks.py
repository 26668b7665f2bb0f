"""How much slower neighbours of a virtual machine make its processors."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from pipeline.bench import looks
from pipeline.bench.looks import Looks

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads are told where to run on Linux only")


def looked(times: list[int], cpus: tuple[int, ...] = (0,)) -> Looks:
    """Each look comes after one that does not count."""
    each = itertools.chain.from_iterable((10**9, value) for value in itertools.cycle(times))
    found = Looks(cpus, lambda: next(each), sleep=lambda seconds: None)
    for _ in range(10):
        found.take()
    return found


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Where the thread was put, on a machine with processors 0 and 1."""
    told: list[set[int]] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: told.append(set(cpus)), raising=False)
    return told


def test_undisturbed_processors_are_not_slowed_down(moves: list[set[int]]) -> None:
    assert looked([125, 126, 125, 124]).slowdown() == pytest.approx(0.008, abs=0.001)


def test_the_slowdown_is_the_mean_beyond_the_undisturbed_time(moves: list[set[int]]) -> None:
    assert looked([100, 100, 100, 160, 160]).slowdown() == pytest.approx(0.24)
    # Each processor has a time of its own: those for efficiency are slower, and that is no neighbour.
    assert looked([100, 300], cpus=(0, 1)).slowdown() == pytest.approx(0)


def test_each_processor_is_looked_at_and_the_thread_goes_free(moves: list[set[int]]) -> None:
    looked([100], cpus=(0, 1))
    assert moves[:3] == [{0}, {1}, {0}]
    assert moves[-1] == {0, 1}


def test_the_best_is_that_of_all_looks_and_the_mean_that_since_the_start(moves: list[set[int]]) -> None:
    found = looked([100])
    start = len(found)
    found._time_ns = lambda: 130
    found.take()
    assert found.slowdown(start) is None  # of ten looks nobody can tell
    found.take()
    assert found.slowdown(start) == pytest.approx(0.3)
    assert found.slowdown() == pytest.approx(0.05)


@pytest.mark.parametrize("refused", [{1}, {0, 1}], ids=["a processor that was taken away", "any"])
def test_a_sandbox_that_forbids_to_choose_a_processor_ends_the_looks_alone(
    refused: set[int], moves: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(pid: int, cpus: set[int]) -> None:
        if cpus <= refused:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden, raising=False)
    assert looked([100], cpus=(0, 1)).slowdown() is None


def test_a_failing_look_sets_the_thread_free(moves: list[set[int]]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Looks((0,), interrupted).take()
    assert moves == [{0}, {0, 1}]


def test_nothing_is_told_of_a_machine_of_ones_own(moves: list[set[int]]) -> None:
    found = Looks.here(virtual=False)
    found.take()
    assert found.slowdown() is None
    assert moves == []


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_nothing_is_told_where_a_thread_cannot_choose(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    found = Looks.here(virtual=True)
    found.take()
    assert found.slowdown() is None


@LINUX
def test_many_processors_are_represented_by_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4, 104)))
    assert list(Looks.here(virtual=True)._taken) == list(range(4, 104, 13))


@LINUX
def test_real_processors_are_looked_at() -> None:
    before = os.sched_getaffinity(0)
    found = Looks.here(virtual=True)
    found.take()
    found.take()
    slowdown = found.slowdown()
    assert slowdown is not None
    assert slowdown >= 0
    assert os.sched_getaffinity(0) == before
    assert looks._arithmetic()() > 1000
