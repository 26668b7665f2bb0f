"""What a person sees where there is no library for it: lines of text, and progress with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from pipeline.bench.measure import Advance

EVERY_S = 15.0
"""Between two lines of progress where they are not written over each other."""


def rough(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Plain:
    """Writes lines; what a console cannot show is replaced."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._shown = 0

    def __call__(self, text: str) -> None:
        self._write(self._over("") + text + "\n")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """As `session.run` wants it: `advance(1, cell="…")`."""
        started = self._clock()
        done, last, cell = 0, float("-inf"), ""

        def advance(number: int = 1, more: int = 0, **told: object) -> None:
            nonlocal done, total, last, cell
            done, total, cell, now = done + number, total + more, str(told.get("cell", cell)), self._clock()
            if not self._stream.isatty() and now - last < EVERY_S:
                return
            last = now
            left = f"about {rough((now - started) / done * (total - done))} left" if done else "time left not known yet"
            line = f"{label} {done * 100 // max(total, 1):3d} %, {left}: {cell}"
            self._write(self._over(line) if self._stream.isatty() else line + "\n")

        yield advance
        self(f"{label}: {done} of {total} steps in {rough(self._clock() - started)}")

    def _over(self, line: str) -> str:
        """`line` in place of the line of progress that stands there."""
        wiped = f"\r{' ' * self._shown}\r" if self._shown else ""
        self._shown = len(line)
        return wiped + line

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, errors="replace").decode(encoding))
        self._stream.flush()
