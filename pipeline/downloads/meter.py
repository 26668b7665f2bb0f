"""How fast it goes and how long it will take."""

from __future__ import annotations

import threading
import time
from collections import deque

WINDOW_S = 20.0
"""The rate is of so many seconds: it follows a network that changes, and does not jump with every file."""
SHOW_EVERY_S = 0.5


class Meter:
    """Counts bytes from many threads, and files in one.

    Args:
        files: to be fetched.
        sizes: their sizes together in bytes, where all are known; else the time left is reckoned by files.
    """

    def __init__(self, files: int, sizes: int | None) -> None:
        self._files, self._sizes = files, sizes
        self._lock = threading.Lock()
        self._bytes = self._done = self._expected = 0
        self._marks: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])

    def received(self, count: int) -> None:
        with self._lock:
            self._bytes += count

    def expected(self, size: int) -> None:
        """The server told the size of a file; for a single one that is all that has to be known."""
        with self._lock:
            self._expected = size

    def info(self, done: int) -> dict[str, object] | None:
        """What to show beside the bar; None when it was shown a moment ago."""
        now = time.monotonic()
        if now - self._marks[-1][0] < SHOW_EVERY_S:
            return None
        with self._lock:
            self._marks.append((now, self._bytes, done))
            while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
                self._marks.popleft()
            before, bytes_before, done_before = self._marks[0]
            seconds, rate = now - before, (self._bytes - bytes_before) / (now - before)
            total = self._sizes if self._sizes is not None else self._expected if self._files == 1 else None
            left = (total - self._bytes) / rate if total and rate else None
            if left is None and done > done_before:
                left = (self._files - done) * seconds / (done - done_before)
            shown: dict[str, object] = {"MB": round(self._bytes / 1e6, 1), "MB/s": round(rate / 1e6, 2)}
            return {**shown, "ETA": _clock(left)} if left is not None else shown


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
