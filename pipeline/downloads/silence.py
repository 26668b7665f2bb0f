"""Hosts that accept a connection and then say nothing: asked a few times, told meanwhile, and given up.

Overloaded machines and some firewalls do so. A host that has answered once is given all the time that answers take; one that
never has is asked anew, and waited for longer each time. Only what was really waited counts: not the time until it was asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipeline.errors import NetworkError
from pipeline.urls import Origin

Answer = TypeVar("Answer")

REMEDY = "Check the network and the proxy (HTTPS_PROXY), then give the same command again: it goes on from where it stopped."
FIRST_BYTE_S = (4.0, 11.0, 60.0)
"""How long a host that has never answered may take, attempt by attempt, and never longer than one that has.

That nothing comes is told within five seconds; the last attempt has the patience that a slow host needs.
"""
SHOW_AFTER_S = 2.0


@dataclass(frozen=True)
class Attempt:
    """A question to a host: how long to wait for the answer, and since when. Attempts are counted from 0."""

    origin: Origin
    number: int
    limit_s: float
    since: float


@dataclass
class _Host:
    shown: str
    number: int = 0  # of the attempt that is due
    waited_s: float = 0.0
    last: Attempt | None = None  # None until somebody makes the attempt that is due


class Silence:
    """Who has answered, and how long the others are waited for. Thread-safe.

    Many requests may share an attempt: it is over as soon as one of them has waited in vain. While nobody at all has answered,
    what one host was waited for counts for all, so that many silent hosts take no longer than one.

    Args:
        tell: called with a line when a host that keeps silent is asked again; where there is a bar, it shows `waiting`.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._heard: set[Origin] = set()
        self._hosts: dict[Origin, _Host] = {}
        self._longest = 0  # attempt that is due at any host

    def attempt(self, origin: Origin, later_s: float, shown: str = "") -> Attempt:
        """To be called with every question; its limit is `later_s` for a host that is known to answer.

        Raises:
            NetworkError: the host has had its time, and has never answered.
        """
        now = time.monotonic()
        if origin in self._heard:
            return Attempt(origin, 0, later_s, now)
        with self._lock:
            host = self._hosts.setdefault(origin, _Host(shown or origin.host))
            _require_time(host)
            number = host.number if self._heard else max(host.number, min(self._longest, len(FIRST_BYTE_S) - 1))
            attempt = Attempt(origin, number, min(later_s, FIRST_BYTE_S[number]), now)
            is_new, host.last = host.last is None and host.number > 0, attempt
        if self._tell and is_new:
            self._tell(f"waiting for {host.shown}, which does not answer ({_of(number)}, for up to {attempt.limit_s:.0f} s)")
        return attempt

    def timed_out(self, attempt: Attempt) -> None:
        """Nothing came within the limit.

        Raises:
            NetworkError: it was the last attempt at a host that has never answered.
        """
        with self._lock:
            if attempt.origin in self._heard:
                return
            host = self._hosts[attempt.origin]
            if attempt.number >= host.number:  # else another request of the same attempt was the first to tell
                host.number, host.last = attempt.number + 1, None
                host.waited_s += time.monotonic() - attempt.since
                self._longest = max(self._longest, host.number)
            _require_time(host)

    def heard(self, origin: Origin) -> None:
        """The host has answered, whatever it was."""
        self._heard.add(origin)

    def is_silent(self, origin: Origin) -> bool:
        """Whether a host has never answered."""
        return origin not in self._heard

    def nobody_heard(self) -> bool:
        """Whether no host has ever answered."""
        return not self._heard

    def ask(self, origin: Origin, later_s: float, send: Callable[[float], Answer], silent: type[Exception]) -> Answer:
        """What `send(limit_s)` returns; it is called anew while the host has never answered, which it tells by raising `silent`.

        Raises:
            NetworkError: as `timed_out`.
        """
        while True:
            attempt = self.attempt(origin, later_s)
            try:
                answer = send(attempt.limit_s)
            except silent:
                if not self.is_silent(origin):
                    raise
                self.timed_out(attempt)
            else:
                self.heard(origin)
                return answer

    def waiting(self) -> str:
        """`for HOST (attempt 2 of 3, 9 s left)`; "" when nobody is waited for, or not for long."""
        for host in list(self._hosts.values()):
            if (last := host.last) is not None and self.is_silent(last.origin):
                waited_s = time.monotonic() - last.since
                if SHOW_AFTER_S <= waited_s < last.limit_s:
                    return f"for {host.shown} ({_of(last.number)}, {last.limit_s - waited_s:.0f} s left)"
        return ""


def _require_time(host: _Host) -> None:
    if host.number >= len(FIRST_BYTE_S):
        raise NetworkError(f"{host.shown} cannot be reached (connected, but no answer in {host.waited_s:.0f} s).", REMEDY)


def _of(number: int) -> str:
    return f"attempt {number + 1} of {len(FIRST_BYTE_S)}"
