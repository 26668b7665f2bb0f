"""What clients that use `requests` share: the patience that hosts need which keep silent, or are busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipeline.downloads.connections import be_patient
from pipeline.downloads.silence import Silence
from pipeline.urls import Origin

TOLD_FROM_S = 2.0


def answered(silence: Silence, origin: Origin, read_s: float, is_streamed: bool, send: Callable[[float], Any]) -> Any:
    """The answer to `send(limit_s)`, which asks with `stream=True`; called anew while the host has never answered.

    Args:
        read_s: how long the host may be silent once it has answered; the first answer's body has that time, too.
        is_streamed: leave the body for the caller to read.

    Raises:
        NetworkError: as `Silence.ask`.
    """
    import requests

    def once(limit_s: float) -> Any:
        response = send(limit_s)
        silence.heard(origin)
        be_patient(response.raw, read_s)
        if not is_streamed:
            _ = response.content  # kept in the answer
        return response

    return silence.ask(origin, read_s, once, requests.ReadTimeout)


def pause(warn: Callable[[str], None], host: str, why: str, number: int, attempts: int, seconds: float) -> None:
    """Wait after attempt `number` of `attempts`, and say so when it is for long."""
    if seconds > TOLD_FROM_S:
        warn(f"waiting for {host}: {why} (attempt {number + 1} of {attempts}, next in {seconds:.0f} s)")
    time.sleep(seconds)
