"""What is to be downloaded, within which limits, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Check = Callable[[Path], object]
"""Raises DataError for a file that is not what it should be; the error may have a `reason`, a code for the ledger."""


@dataclass(frozen=True)
class Download:
    """One URL and the file it becomes.

    Attributes:
        url: http or https; user and password in it are sent to that host alone.
        target: appears whole and checked, or not at all. No two downloads may share one.
        size: in bytes, where it is known before; a file of another size is refused.
        sha256: hex digits, where they are known; a file of another hash is refused.
        identity: what its partial file is known by in the next run, for a URL that is another one each time; "" for the URL.
    """

    url: str
    target: Path
    size: int | None = None
    sha256: str = ""
    identity: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a download.

    Attributes:
        reason: "" when the file is there, else a code for the ledger (`not_found`, `timeout`, `not_an_image` …).
        detail: the URL without its secrets, and what happened, for a reader.
        hash: BLAKE3 of the file; "" when it was there before.
    """

    download: Download
    reason: str = ""
    detail: str = ""
    hash: str = ""


@dataclass(frozen=True)
class Limits:
    """How hard to ask.

    Attributes:
        parallel: downloads at once.
        per_host: of these, from one host; halved each time it answers 429.
        requests_per_second: to one host; 0 means no limit.
        attempts: a download that fails for a passing reason is tried so often.
        backoff_s: the pause after the first failure; it doubles with each.
        longest_wait_s: in all, for what a host asks for by Retry-After; beyond it the download has failed.
        read_s: how long a connection may be silent.
        max_bytes: a file that turns out larger is given up.
    """

    parallel: int = 16
    per_host: int = 16
    requests_per_second: float = 0.0
    attempts: int = 6
    backoff_s: float = 1.0
    longest_wait_s: float = 600.0
    read_s: float = 30.0
    max_bytes: int = 1 << 40


class Failed(Exception):
    """One attempt that came to nothing.

    Args:
        reason: see `Outcome`.
        detail: what happened, without the URL.
        again: whether it may work the next time.
        wait_s: how long the host wants to be left alone; None when it does not say.
        disconnected: whether no connection came about.
    """

    def __init__(
        self, reason: str, detail: str, *, again: bool = False, wait_s: float | None = None, disconnected: bool = False
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
        self.again, self.wait_s, self.disconnected = again, wait_s, disconnected


class Stopped(Exception):
    """The user, or an error elsewhere, ended all downloads; what has come so far is kept."""
