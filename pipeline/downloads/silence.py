"""Hosts that accept a connection and then say nothing: asked a few times, told meanwhile, and given up.

Overloaded machines and some firewalls do so. A host that has answered once is given all the time that answers take; one that
never has is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

from pipeline.errors import NetworkError
from pipeline.urls import Origin

Answer = TypeVar("Answer")

REMEDY = "Check the network and the proxy (HTTPS_PROXY), then give the same command again: it goes on from where it stopped."
FIRST_BYTE_S = (4.0, 11.0, 15.0)
"""How long a host that has never answered may take, attempt by attempt; that nothing comes is known within five seconds."""
SHOW_AFTER_S = 2.0


class Silence:
    """Who has answered, and how long the others are waited for. Thread-safe.

    Args:
        tell: called with a line when a host that keeps silent is asked again; where there is a bar, it shows `waiting`.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._heard: set[Origin] = set()
        self._asked: dict[Origin, tuple[float, str, int]] = {}  # when first, the name to show, the last attempt that was told

    def limit_s(self, origin: Origin, later_s: float, shown: str = "") -> float:
        """How long to wait for the answer to the next request; `later_s` from a host that is known to answer.

        Raises:
            NetworkError: the host has had its time, and has never answered.
        """
        if origin in self._heard:
            return later_s
        with self._lock:
            now = time.monotonic()
            since, shown, told = self._asked.get(origin, (now, shown or origin.host, 0))
            attempt, left_s = _attempt(now - since)
            self._asked[origin] = since, shown, attempt
        if left_s <= 0:
            raise NetworkError(f"{shown} cannot be reached (connected, but no answer in {sum(FIRST_BYTE_S):g} s).", REMEDY)
        limit_s = min(later_s, left_s, FIRST_BYTE_S[attempt])
        if self._tell and attempt > told:
            self._tell(f"waiting for {shown}, which does not answer ({_of(attempt)}, for {limit_s:.0f} s)")
        return limit_s

    def heard(self, origin: Origin) -> None:
        """The host has answered, whatever it was."""
        self._heard.add(origin)

    def lasts(self, origin: Origin) -> bool:
        """Whether a host has never answered."""
        return origin not in self._heard

    def ask(self, origin: Origin, later_s: float, send: Callable[[float], Answer], silent: type[Exception]) -> Answer:
        """What `send(limit_s)` returns; it is called anew while the host has never answered, which it tells by raising `silent`.

        Raises:
            NetworkError: as `limit_s`.
        """
        while True:
            limit_s = self.limit_s(origin, later_s)
            try:
                answer = send(limit_s)
            except silent:
                if not self.lasts(origin):
                    raise
            else:
                self.heard(origin)
                return answer

    def waiting(self) -> str:
        """`for HOST (attempt 2 of 3, 14 s left)`; "" when nobody is waited for, or not for long."""
        for origin, (since, shown, _) in list(self._asked.items()):
            waited_s = time.monotonic() - since
            attempt, left_s = _attempt(waited_s)
            if self.lasts(origin) and waited_s >= SHOW_AFTER_S and left_s > 0:
                return f"for {shown} ({_of(attempt)}, {left_s:.0f} s left)"
        return ""


def _attempt(waited_s: float) -> tuple[int, float]:
    """Which attempt is due, counted from 0, and the time that is left for all."""
    ends = list(accumulate(FIRST_BYTE_S))
    attempt = next((number for number, end in enumerate(ends) if waited_s < end), len(ends) - 1)
    return attempt, ends[-1] - waited_s


def _of(attempt: int) -> str:
    return f"attempt {attempt + 1} of {len(FIRST_BYTE_S)}"
