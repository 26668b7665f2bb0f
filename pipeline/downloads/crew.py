"""The threads that download, and the caller's thread, which counts what they bring and can be interrupted at any time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline import urls
from pipeline.downloads.connections import Connections, wait_in_words
from pipeline.downloads.items import Check, Download, Failed, Limits, Outcome, Stopped
from pipeline.downloads.meter import Meter
from pipeline.downloads.schedule import Schedule
from pipeline.downloads.transfer import Line, attempt
from pipeline.stage import Advance

TICK_S = 0.25
PAUSE_S = 0.05
"""With many files their end is counted so often only: waking this thread for each would take the others' time."""
LEAVE_S = 0.5
"""How long an interrupted run waits for its threads; one that hangs in a silent connection dies with the process."""


@dataclass(frozen=True)
class _Crew:
    schedule: Schedule
    line: Line
    check: Check | None
    results: queue.SimpleQueue[Outcome | BaseException]

    def work(self) -> None:
        while (task := self.schedule.take()) is not None:
            answered = True
            try:
                outcome = Outcome(task.download, hash=attempt(task.download, self.line, self.check))
            except Failed as failure:
                if self.schedule.again(task, failure):
                    continue
                answered = not failure.disconnected
                if failure.disconnected and self.schedule.has_gone(task):
                    self.line.connections.give_up(task.download.url)
                wait = f"; {wait_in_words(failure.wait_s)}" if failure.wait_s is not None else ""
                outcome = Outcome(task.download, failure.reason, f"{urls.shown(task.download.url)}: {failure.detail}{wait}")
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - of the disk, or a bug: raised again in the caller's thread
                self.results.put(error)
                return
            self.schedule.done(task, answered)
            self.results.put(outcome)


def fetched(wanted: Sequence[Download], check: Check | None, limits: Limits, advance: Advance) -> Iterator[Outcome]:
    """What becomes of each, as it is done. Raises as `download_all`."""
    sizes = [each.size for each in wanted if each.size is not None]
    meter = Meter(len(wanted), sum(sizes) if len(sizes) == len(wanted) else None)
    connections, stop = Connections(limits), threading.Event()
    line = Line(connections, stop, meter.received, meter.expected, limits.max_bytes)
    crew = _Crew(Schedule(wanted, limits), line, check, queue.SimpleQueue())
    threads = [threading.Thread(target=crew.work, daemon=True) for _ in range(min(limits.parallel, len(wanted)))]
    for thread in threads:
        thread.start()

    done = 0

    def info() -> dict[str, object]:
        shown = meter.info(done)
        if shown is None:
            return {}
        waiting = connections.waiting() or crew.schedule.waiting()
        return {**shown, "waiting": waiting} if waiting else shown

    try:
        pause_s = min(PAUSE_S, len(wanted) / 10_000)
        while done < len(wanted):
            if crew.results.empty():
                time.sleep(pause_s)
            try:
                result = crew.results.get(timeout=TICK_S)
            except queue.Empty:
                advance(0, **info())
                continue
            if isinstance(result, BaseException):
                raise result
            done += 1
            advance(1, **info())
            yield result
        connections.require_any()
    finally:
        stop.set()
        crew.schedule.stop()
        until = time.monotonic() + LEAVE_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
