"""Apply a function to many images with all cores, in order, without a queue that outgrows memory.

Threads, not processes: decoding, resizing, encoding and hashing release Python's global lock, nothing is pickled, and no worker
has to import the heavy libraries again. Measured with albumentations' transforms too (benchmarks/pixels.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_WORKER = 4
"""Items given out before the oldest result is fetched: enough to keep workers busy while one image takes longer."""


def imap_images(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Iterator[Result]:
    """`function` of every item, in the order of the items, each as soon as it and all before it are done.

    Args:
        workers: threads; with 1 the function runs in the caller's thread.
        ahead: items given out before the oldest result is fetched, `AHEAD_PER_WORKER` a worker unless told. So many results wait
            in memory at most: choose it small where they are whole images.

    Raises:
        Whatever `function` raises, as it is; items not yet begun are then left out. The same on Ctrl-C.
    """
    with _one_cv2_thread():
        if workers <= 1:
            yield from map(function, items)
            return
        waiting = iter(items)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
        try:
            first = islice(waiting, workers * AHEAD_PER_WORKER if ahead is None else max(1, ahead))
            pending: deque[Future[Result]] = deque(pool.submit(function, item) for item in first)
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(waiting, 1))
                yield result
        finally:
            # Also when the caller stops early: what has begun is short, what has not is cancelled.
            pool.shutdown(wait=True, cancel_futures=True)


def map_images(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    progress_advance: Callable[..., None] = lambda n=1: None,
) -> list[Result]:
    """As `imap_images`, as a list; `progress_advance()` is called once per finished item, in the caller's thread."""
    results = []
    for result in imap_images(function, items, workers):
        results.append(result)
        progress_advance()
    return results


@contextmanager
def _one_cv2_thread() -> Iterator[None]:
    """OpenCV would start a thread per core inside each of our workers, and the cores would fight over them."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
