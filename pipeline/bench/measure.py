"""The cells of a grid, taking turns.

Cells are taken in groups. In each round every cell of a group measures, in a process of its own, in an order that is shuffled and
mirrored (`timing.schedule`), so that a machine that gets warm or busy meanwhile weighs on all of them alike. Where the figure of
any of them is not known well enough after the last round, all go on with further ones, as far as the time of each does. The
larger a group is, the longer is the time that the rounds of a cell are spread over, and the more of what comes and goes its
interval covers. A cell that fails leaves the others alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.bench.looks import Looks
from pipeline.bench.privacy import without_places
from pipeline.bench.results import Results
from pipeline.bench.settings import Method, Setting
from pipeline.bench.timing import schedule
from pipeline.bench.worker import Loader, WorkerError, run_round
from pipeline.errors import PipelineError

JSON = dict[str, Any]
Advance = Callable[..., None]
"""That of `pipeline.stage`, which needs pydantic; a pack does without."""


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


INTERRUPTED = "interrupted before its last round"
"""The first reason of a cell that is measured anew when the same command goes on."""


def steps(planned: int, method: Method) -> int:
    """How often `measure` advances at least: once a round of each cell."""
    return planned * method.rounds


def measure(
    planned: Sequence[Planned],
    method: Method,
    advance: Advance,
    virtual: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[list[JSON]]:
    """The record's cells, a group at a time.

    Args:
        advance: `advance(n, more=0, cell="…")`; `more` steps than were known of have come up, or fewer.
        virtual: this is a virtual machine on somebody's host.

    Raises:
        Interrupted: by Ctrl-C.
    """
    queue, looks = list(planned), Looks.here(virtual)
    settings = {each.setting for each in queue}
    while queue:
        group, queue = queue[: method.together], queue[method.together :]
        cells, smaller = _measure_group(group, method, advance, looks, sleep)
        yield cells
        smaller = [each for each in smaller if each.setting not in settings]
        settings |= {each.setting for each in smaller}
        advance(0, more=steps(len(smaller), method))
        queue = [*smaller, *queue]


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


def _measure_group(
    group: Sequence[Planned], method: Method, advance: Advance, looks: Looks, sleep: Callable[[float], None]
) -> tuple[list[JSON], list[Planned]]:
    """The cells, and those with smaller batches that are to be tried in place of some for which memory did not do."""
    results = {each.setting: Results(each.setting.scenario, method) for each in group}
    failed: dict[Setting, JSON] = {}
    too_large: list[Planned] = []
    start = len(looks)
    due = dict.fromkeys(results, method.rounds)
    try:
        for number, turns in enumerate(schedule(len(group), max(method.rounds, method.max_rounds), method.seed)):
            in_turn = [group[turn] for turn in turns]
            at_work = [each for each in in_turn if each.setting not in failed and number < due[each.setting]]
            if not at_work:
                break
            for each in at_work:
                setting = each.setting
                advance(0, cell=str(setting))
                looks.take()
                try:
                    results[setting].rounds.append(run_round(each.load, setting.device, setting.scenario, method))
                except WorkerError as error:
                    failed[setting] = blank(setting, "failed", [error.reason])
                    if error.out_of_memory:
                        too_large.append(each)
                    advance(due[setting] - number)
                else:
                    advance(1)
            hopes = {setting: found.due() for setting, found in results.items() if setting not in failed}
            wanted = max((hope.wanted for hope in hopes.values()), default=0)
            for setting, hope in hopes.items():
                rounds = min(wanted, hope.possible)
                advance(0, more=rounds - due[setting])
                due[setting] = rounds
            sleep(method.cool_down_s)
        looks.take()
        cells = {setting: failed.get(setting) or _cell(setting, found, looks, start) for setting, found in results.items()}
        smaller = [half for each in too_large for half in _half(each, cells[each.setting])]
    except KeyboardInterrupt:
        left = {setting: found for setting, found in results.items() if setting not in failed and found.rounds}
        raise Interrupted([_interrupted(_cell(setting, found, looks, start)) for setting, found in left.items()]) from None
    return list(cells.values()), smaller


def _cell(setting: Setting, found: Results, looks: Looks, start: int) -> JSON:
    # Of another device the processors are but a part, and nobody knows which.
    slowdown = looks.slowdown(start) if setting.device == "cpu" else None
    return setting.as_json() | found.cell(slowdown)


def _interrupted(cell: JSON) -> JSON:
    return cell | {"status": "invalid", "reasons": [INTERRUPTED, *cell["reasons"]]}


def _half(planned: Planned, cell: JSON) -> list[Planned]:
    """The same with half the batch, where that can be made; the cell that failed tells of it."""
    batch = planned.setting.batch
    if planned.with_batch is None or batch == 1:
        return []
    cell["reasons"].append(tried_instead(batch))
    try:
        return [planned.with_batch(batch // 2)]
    except PipelineError as unmade:
        cell["reasons"].append(without_places(f"batch {batch // 2}: {unmade.message}"))
        return []
