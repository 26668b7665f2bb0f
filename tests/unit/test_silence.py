"""How long hosts are waited for that accept a connection and then say nothing, by a clock that is told the time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline import urls
from pipeline.downloads import silence
from pipeline.downloads.silence import Silence
from pipeline.errors import NetworkError

HOST = urls.origin("http://a.example")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes when told to."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(silence, "time", clock)
    return clock


def test_only_attempts_count_and_only_what_was_waited(clock: SimpleNamespace) -> None:
    told: list[str] = []
    asked = Silence(told.append)
    for limit_s in (4, 11):
        attempt, late = asked.attempt(HOST, 30), asked.attempt(HOST, 30)
        assert attempt.limit_s == late.limit_s == limit_s
        clock.now += limit_s
        for each in (attempt, late):
            asked.timed_out(each)
        clock.now += 1000
    clock.now += 1
    attempt = asked.attempt(HOST, 30)
    clock.now += 20
    assert asked.waiting() == "for a.example (attempt 3 of 3, 10 s left)"
    clock.now += 10
    for again in (lambda: asked.timed_out(attempt), lambda: asked.attempt(HOST, 30)):
        with pytest.raises(NetworkError, match=r"a\.example cannot be reached \(connected, but no answer in 45 s\)"):
            again()
    assert told == [
        f"waiting for a.example, which does not answer (attempt {n} of 3, for up to {s} s)" for n, s in ((2, 11), (3, 30))
    ]


def test_a_host_that_answers_in_time_is_trusted(clock: SimpleNamespace) -> None:
    asked = Silence()
    attempt, late = asked.attempt(HOST, 30), asked.attempt(HOST, 30)
    asked.timed_out(attempt)
    asked.heard(HOST)
    asked.timed_out(late)
    assert asked.attempt(HOST, 30).limit_s == 30


def test_while_nobody_answers_all_share_the_attempts(clock: SimpleNamespace) -> None:
    """So many silent hosts take no longer than one."""
    asked = Silence()
    for number, limit_s in enumerate((4, 11, 30)):
        attempt = asked.attempt(urls.origin(f"http://h{number}.example"), 30)
        assert attempt.limit_s == limit_s
        clock.now += limit_s
        if number < 2:
            asked.timed_out(attempt)
    with pytest.raises(NetworkError, match=r"h2\.example cannot be reached \(connected, but no answer in 30 s\)"):
        asked.timed_out(attempt)
    asked.heard(HOST)
    assert asked.attempt(urls.origin("http://new.example"), 30).limit_s == 4
