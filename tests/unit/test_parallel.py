from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cv2
import pytest

from pipeline.errors import DataError
from pipeline.parallel import imap_images, map_images


@pytest.mark.parametrize("workers", [1, 3])
def test_results_keep_the_order_of_the_items(workers: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item < 3 else 0)
        return item * item

    assert map_images(slow_at_first, range(40), workers) == [item * item for item in range(40)]


@pytest.mark.parametrize("workers", [1, 3])
def test_progress_advances_once_per_item_in_the_callers_thread(workers: int) -> None:
    threads: list[int] = []
    map_images(abs, range(10), workers, lambda n=1: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()] * 10


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_out_as_it_is_and_stops_the_rest(workers: int) -> None:
    begun = []

    def fail_at_5(item: int) -> None:
        begun.append(item)
        if item == 5:
            raise DataError("five", "a hint")

    with pytest.raises(DataError, match="five") as caught:
        map_images(fail_at_5, range(1000), workers)
    assert caught.value.hint == "a hint"
    assert len(begun) < 50


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_of_the_caller_stops_at_once(workers: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.005)
        return item

    def interrupt(n: int = 1) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_images(work, range(10_000), workers, interrupt)
    assert len(begun) < 50


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(10_000):
            taken.append(item)
            yield item

    results = imap_images(abs, items(), workers=2)
    assert next(results) == 0
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


def test_as_few_results_wait_as_the_caller_wants() -> None:
    taken = []
    results = imap_images(abs, (taken.append(item) or item for item in range(100)), workers=2, ahead=3)  # type: ignore[func-returns-value]
    for fetched in range(1, 6):
        next(results)
        assert len(taken) == fetched + 3
    results.close()  # type: ignore[attr-defined]
    assert list(imap_images(abs, range(5), workers=2, ahead=0)) == list(range(5))


def test_all_workers_work_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=5)  # opens for three threads only, and gives each its place among them
    assert sorted(map_images(lambda _: barrier.wait(), range(6), workers=3)) == [0, 0, 1, 1, 2, 2]


def test_opencv_runs_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = cv2.getNumThreads()
    assert set(map_images(lambda _: cv2.getNumThreads(), range(8), workers=2)) == {1}
    assert cv2.getNumThreads() == before
