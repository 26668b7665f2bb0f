"""Which download is next: as many at once as allowed, fair between hosts, and none while its host wants to be left alone."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline import urls
from pipeline.downloads.items import Download, Failed, Limits


@dataclass(eq=False)
class _Host:
    name: str
    limit: int
    waiting: deque[Task] = field(default_factory=deque)
    active: int = 0
    listed: bool = False
    not_before: float = 0.0
    answered: float = 0.0


@dataclass(eq=False)
class Task:
    """A download on its way. Times are of the monotonic clock, in seconds."""

    download: Download
    host: _Host
    failures: int = 0
    waited_s: float = 0.0
    first_try: float = 0.0


class Schedule:
    """Thread-safe. A host is in one place at most: in `_ready`, in `_later`, or in neither while it has nothing to give."""

    def __init__(self, downloads: Iterable[Download], limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._ready: deque[_Host] = deque()
        self._later: list[tuple[float, int, _Host, Task | None]] = []
        self._numbers = itertools.count()
        self._left = self._active = 0
        self._stopped = False
        hosts: dict[str, _Host] = {}
        for download in downloads:
            name = urls.origin(download.url).host
            host = hosts.setdefault(name, _Host(name, max(1, limits.per_host)))
            host.waiting.append(Task(download, host))
            self._left += 1
        with self._changed:
            for host in hosts.values():
                self._list(host, 0.0)

    def take(self) -> Task | None:
        """The next task, as soon as one may be begun; None when all are done, or `stop` was called."""
        with self._changed:
            while self._left and not self._stopped:
                now = time.monotonic()
                self._wake(now)
                if self._ready:
                    host = self._ready.popleft()
                    host.listed = False
                    if host.waiting and host.active < host.limit and host.not_before <= now:
                        return self._begin(host, now)
                    self._list(host, now)
                    continue
                self._changed.wait(self._later[0][0] - now if self._later else None)
            return None

    def _begin(self, host: _Host, now: float) -> Task:
        task = host.waiting.popleft()
        host.active += 1
        self._active += 1
        task.first_try = task.first_try or now
        if self._limits.requests_per_second > 0:
            host.not_before = now + 1 / self._limits.requests_per_second
        self._list(host, now)
        return task

    def done(self, task: Task, answered: bool) -> None:
        """The task needs no further attempt; `answered`: its host is alive."""
        with self._changed:
            now = time.monotonic()
            task.host.active -= 1
            self._active -= 1
            task.host.answered = now if answered else task.host.answered
            self._left -= 1
            self._list(task.host, now)
            if self._left:
                self._changed.notify()
            else:
                self._changed.notify_all()

    def again(self, task: Task, failure: Failed) -> bool:
        """Put the task back for another attempt; False when it has had its share, and is then still to be `done`."""
        wait_s = self._pause(task, failure)
        if wait_s is None:
            return False
        with self._changed:
            due = time.monotonic() + wait_s
            host = task.host
            host.active -= 1
            self._active -= 1
            if failure.wait_s is not None:
                host.not_before = max(host.not_before, due)  # it speaks of this client, not of this file
            if failure.reason == "too_many_requests":
                host.limit = max(1, host.limit // 2)
            heapq.heappush(self._later, (due, next(self._numbers), host, task))
            self._list(host, time.monotonic())
            self._changed.notify()
        return True

    def _pause(self, task: Task, failure: Failed) -> float | None:
        if not failure.again:
            return None
        if failure.wait_s is not None:  # as asked for; such a wait is no failure, but has an end
            wait_s = max(failure.wait_s, self._limits.backoff_s) * random.uniform(1, 1.1)  # noqa: S311 - not for secrets
            task.waited_s += wait_s
            return wait_s if task.waited_s <= self._limits.longest_wait_s else None
        task.failures += 1
        if task.failures >= self._limits.attempts:
            return None
        return self._limits.backoff_s * 2.0 ** (task.failures - 1) * random.uniform(0.5, 1)  # noqa: S311

    def has_gone(self, task: Task) -> bool:
        """Whether the host has answered nobody since the task was first tried."""
        with self._changed:
            return task.host.answered < task.first_try

    def waiting(self) -> str:
        """`for HOST (attempt 2 of 6, next in 4 s)` while nothing is under way; "" otherwise."""
        with self._changed:
            if self._active or not self._later:
                return ""
            due, _, host, task = self._later[0]
        number = f"attempt {task.failures + 1} of {self._limits.attempts}, " if task and task.failures else ""
        return f"for {host.name} ({number}next in {max(0.0, due - time.monotonic()):.0f} s)"

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _wake(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, _, host, task = heapq.heappop(self._later)
            if task is None:
                host.listed = False
            else:
                host.waiting.append(task)
            self._list(host, now)

    def _list(self, host: _Host, now: float) -> None:
        """Put the host where it will be found when it may give a task."""
        if host.listed or not host.waiting or host.active >= host.limit:
            return
        host.listed = True
        if host.not_before > now:
            heapq.heappush(self._later, (host.not_before, next(self._numbers), host, None))
        else:
            self._ready.append(host)
        self._changed.notify()
