"""How much slower the processors of a virtual machine are than at their best.

    looks = Looks.here(virtual=True)
    start = len(looks)
    looks.take()                         # between the turns of the cells, while no model is at work
    looks.slowdown(start)                # 0.14: 14 % slower since then, on average

On a machine of one's own, counters tell of other programs, of heat and of the clock. Inside a virtual machine none tells of its
neighbours: their threads share a core with ours, come and go within tenths of a second, and stay for minutes. So a fixed piece of
arithmetic that fits into the nearest cache is timed on each processor. On the server that this was written on its times lie in
two heaps, the slower one at one and a half times the faster one, which is the same from day to day: how many lie in the slower
heap is what neighbours take. What is timed is the processor time of the thread, which other programs of this machine do not
lengthen: `background_load` tells of those. A neighbour that never leaves is not seen.

Not on machines of one's own, nor on Linux in Windows: there a processor that lowers its clock after a while would pass for one
with neighbours.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

_REPEATS = 128
_VALUES = 2048
_LOOKS = 10
"""Of each processor in one go, and the pause between them: long enough to see neighbours come and go."""
_PAUSE_S = 0.01
_MOST_CPUS = 8
_BEST = 5.0
"""The percentile of all looks that counts as the best: it is right where neighbours left a twentieth of the time."""
_LEAST_LOOKS = 20
"""Fewer tell nothing of their spread."""


class Looks:
    """At some processors, over a whole benchmark.

    Args:
        cpus: that are looked at; none where nothing is to be told.
        time_ns: what the arithmetic takes right now, on the processor that the thread runs on.
    """

    def __init__(
        self,
        cpus: Sequence[int] = (),
        time_ns: Callable[[], int] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._time_ns = time_ns or _arithmetic()
        self._sleep = sleep
        self._taken: dict[int, list[int]] = {cpu: [] for cpu in cpus}

    @classmethod
    def here(cls, virtual: bool) -> Looks:
        """At the processors that this process may use, eight at most; at none but in a virtual machine with Linux, where a
        thread can be told on which processor to run."""
        if not virtual or sys.platform != "linux":
            return cls()
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[:: -(-len(usable) // _MOST_CPUS)])

    def __len__(self) -> int:
        """How often each processor was looked at."""
        return min(map(len, self._taken.values()), default=0)

    def take(self) -> None:
        """Look at each processor some times, for a tenth of a second or two in all."""
        if not self._taken or sys.platform != "linux":
            return
        allowed = os.sched_getaffinity(0)
        try:
            for _ in range(_LOOKS):
                for cpu, taken in self._taken.items():
                    os.sched_setaffinity(0, {cpu})  # of this thread alone
                    self._time_ns()  # the first one after a move has a cold cache
                    taken.append(self._time_ns())
                self._sleep(_PAUSE_S)
        except OSError:  # a processor was taken from us, or a sandbox forbids to choose one
            self._taken = {}
        finally:
            with suppress(OSError):
                os.sched_setaffinity(0, allowed)

    def slowdown(self, start: int = 0) -> float | None:
        """How much longer than at its best the arithmetic has taken since look `start`, on average over time and processors. The
        best is that of all looks. None where nobody looked."""
        since = len(self) - start
        if since < _LEAST_LOOKS:
            return None
        slower = [np.mean(taken[start:]) / np.percentile(taken, _BEST) - 1 for taken in self._taken.values()]
        return max(0.0, float(np.mean(slower)))


def _arithmetic() -> Callable[[], int]:
    values = np.linspace(0, 1, _VALUES, dtype=np.float32)
    result = np.empty_like(values)

    def once() -> int:
        started = time.thread_time_ns()
        for _ in range(_REPEATS):
            np.sin(values, out=result)
        return time.thread_time_ns() - started

    return once
