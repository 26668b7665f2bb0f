"""The cells of a grid, each in its own process, taking turns.

Cells are taken in groups of as many models as fit into memory side by side. A group is loaded and warmed up one model after the
other; then every cell measures in each round, in an order that is shuffled and mirrored (`timing.schedule`), so that a machine
that gets warm or busy meanwhile weighs on all of them alike. The larger a group is, the longer is the time that the rounds of a
cell are spread over, and the more of what comes and goes its interval covers. A cell that fails leaves the others alone; one for
which there was no memory beside others has it to itself afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pipeline.bench.privacy import without_places
from pipeline.bench.settings import Method, Setting
from pipeline.bench.timing import schedule
from pipeline.bench.watch import memory_left_mib
from pipeline.bench.worker import Loader, Worker, WorkerError
from pipeline.errors import PipelineError

JSON = dict[str, Any]
Advance = Callable[..., None]


class Interrupted(KeyboardInterrupt):
    """The user does not want to wait. Attributes: `cells`, those of the group that was at work, as far as they were measured."""

    def __init__(self, cells: list[JSON]) -> None:
        super().__init__()
        self.cells = cells


@dataclass(frozen=True)
class Planned:
    """A cell to be measured.

    Attributes:
        load: runs in a process of its own.
        with_batch: the same cell with a smaller batch, for when memory does not do; may raise PipelineError. None where there is
            none.
    """

    setting: Setting
    load: Loader
    with_batch: Callable[[int], Planned] | None = None


_SPARE_MIB = 2048
"""Left for another model and for what the models of a group take later: a machine that swaps measures its disk."""

INTERRUPTED = "interrupted before its last round"
"""The first reason of a cell that is measured anew when the same command goes on."""


def steps(planned: int, method: Method) -> int:
    """How often `measure` advances: for each cell once when it is warm, and once a round."""
    return planned * (1 + method.rounds)


def measure(
    planned: Sequence[Planned], method: Method, advance: Advance, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[JSON]]:
    """The record's cells, a group at a time.

    Args:
        advance: `advance(n, cell="…")`.

    Raises:
        Interrupted: by Ctrl-C.
    """
    queue, alone = list(planned), list[Planned]()
    settings = {each.setting for each in queue}
    while queue or alone:
        group = queue[: method.together] or alone[:1]
        measured = _measure_group(group, method, advance, sleep)
        yield measured.cells
        smaller = [each for each in measured.smaller if each.setting not in settings]
        settings |= {each.setting for each in smaller}
        advance(-len(smaller) * steps(1, method))  # in place of those that were too large
        alone = [*(alone if queue else alone[1:]), *measured.crowded]
        queue = [*smaller, *measured.not_loaded, *queue[method.together :]]


def tried_instead(batch: int) -> str:
    return f"out of memory at batch {batch}: batch {batch // 2} is tried instead"


def blank(setting: Setting, status: str, reasons: Sequence[str]) -> JSON:
    """A cell without figures; its reasons name no folder."""
    figures = "load_ms first_ms warm_up images_per_s stream memory_peak_mib gpu_memory_peak_mib energy_j_per_image drift watch"
    return {
        **setting.as_json(),
        "status": status,
        "reasons": [without_places(reason) for reason in reasons],
        **dict.fromkeys(figures.split()),
        "phases": {},
        "samples": {},
        "rounds": [],
    }


@dataclass
class _Measured:
    """What became of a group.

    Attributes:
        cells: of the record.
        smaller: cells with smaller batches, to be tried in place of those that were too large.
        crowded: cells for which there was no memory beside the others.
        not_loaded: cells that had to wait, as memory was short before they came.
    """

    cells: list[JSON] = field(default_factory=list)
    smaller: list[Planned] = field(default_factory=list)
    crowded: list[Planned] = field(default_factory=list)
    not_loaded: list[Planned] = field(default_factory=list)


def _measure_group(group: Sequence[Planned], method: Method, advance: Advance, sleep: Callable[[float], None]) -> _Measured:
    cells: dict[Setting, JSON] = {}
    alive: dict[Setting, Worker] = {}
    found = _Measured()
    by_setting = {each.setting: each for each in group}

    def fail(setting: Setting, worker: Worker, error: WorkerError, steps_left: int) -> None:
        worker.close()
        alive.pop(setting, None)
        planned = by_setting[setting]
        if error.out_of_memory and (alive or found.crowded):  # also when the others have just been killed, too
            cells.pop(setting, None)
            found.crowded.append(planned)
            advance(steps_left - 1 - method.rounds)  # back to where it had not begun
            return
        reasons = [error.reason]
        if error.out_of_memory and planned.with_batch is not None and setting.batch > 1:
            reasons.append(tried_instead(setting.batch))
            try:
                found.smaller.append(planned.with_batch(setting.batch // 2))
            except PipelineError as unmade:
                reasons.append(f"batch {setting.batch // 2}: {unmade.message}")
        cells[setting] = blank(setting, "failed", reasons)
        advance(steps_left)

    with ExitStack() as stack:
        for place, each in enumerate(group):
            if alive and (left_mib := memory_left_mib()) is not None and left_mib < _SPARE_MIB:
                found.not_loaded = list(group[place:])
                break
            setting = each.setting
            advance(0, cell=str(setting))
            worker = stack.enter_context(Worker(each.load, setting.device, setting.scenario, method))
            try:
                told = worker.load()
            except WorkerError as error:
                fail(setting, worker, error, 1 + method.rounds)
                continue
            alive[setting] = worker
            cells[setting] = {**blank(setting, "failed", []), **told}
            advance(1)
        order = list(alive)
        number = 0
        try:
            for number, turns in enumerate(schedule(len(order), method.rounds, method.seed)):
                for setting in (order[turn] for turn in turns):
                    if setting not in alive:
                        continue
                    advance(0, cell=str(setting))
                    try:
                        alive[setting].round()
                    except WorkerError as error:
                        fail(setting, alive[setting], error, method.rounds - number)
                    else:
                        advance(1)
                sleep(method.cool_down_s)
            for setting, worker in list(alive.items()):
                try:
                    cells[setting] |= worker.finish()
                except WorkerError as error:
                    fail(setting, worker, error, 0)
        except KeyboardInterrupt:
            raise Interrupted([cells[setting] | _as_far(alive[setting]) for setting in alive] if number else []) from None
    found.cells = [cells[each.setting] for each in group if each.setting in cells]
    return found


def _as_far(worker: Worker) -> JSON:
    """What was measured before the user interrupted."""
    try:
        found = worker.finish_early()
    except WorkerError as error:
        return {"reasons": [INTERRUPTED, without_places(error.reason)]}
    return found | {"status": "invalid", "reasons": [INTERRUPTED, *found["reasons"]]}
