"""One benchmark from its plan to its record: the partial record is on disk after every group of cells, and the same plan goes on
from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.bench import RECORD, system
from pipeline.bench import record as records
from pipeline.bench.measure import INTERRUPTED, Advance, Interrupted, Planned, blank, measure, steps
from pipeline.bench.settings import Method, Setting

JSON = dict[str, Any]

TABLE = "record.csv"
_OF_THE_PLAN = ("schema", "tool", "label", "machine", "software", "method", "inputs")


def run(
    folder: Path,
    record: JSON,
    planned: Sequence[Planned],
    skipped: Sequence[tuple[Setting, str]],
    failed: Sequence[tuple[Setting, str]],
    method: Method,
    progress: Callable[[str, int], AbstractContextManager[Advance]],
    warn: Callable[[str], object],
) -> JSON:
    """Measure what is not measured yet. After every group, `record.json` in `folder` is the partial record.

    Args:
        folder: may hold the partial record of an earlier run of the same plan: the cells that it measured are kept.
            One that failed is tried again, as are the smaller batches that it may lead to.
        record: with everything but its cells.
        skipped: impossible cells, with the reason.
        failed: cells whose file could not be made, with the reason.

    Returns:
        The record, for `write`. Where a partial one cannot be written that is a warning: the cells are still in memory.
    """
    before = _before(folder / RECORD, record)
    cells = {Setting.of(cell): cell for cell in before["cells"]}
    record["models"].update(before["models"])  # smaller batches, where memory did not do for what was asked for
    left = [each for each in planned if each.setting not in cells]
    order = [each.setting for each in planned]
    unmeasured = {setting: ("skipped", why) for setting, why in skipped} | {setting: ("failed", why) for setting, why in failed}
    record = {**record, "cells": []}
    warned: set[str] = set()

    def update(reason: str) -> None:
        known = {setting: blank(setting, status, [why]) for setting, (status, why) in unmeasured.items()} | cells
        places = {setting: place for place, setting in enumerate(dict.fromkeys([*order, *known]))}
        record["cells"] = sorted(known.values(), key=lambda cell: places[Setting.of(cell)])
        record["partial"], record["partial_reason"] = bool(reason), reason

    def save() -> None:
        """What was measured is told at once; a disk that is full meanwhile must not end the grid."""
        whole = sum(bool(cell["phases"]) and INTERRUPTED not in cell["reasons"] for cell in map(cells.get, order) if cell)
        update(f"interrupted: {whole} of {len(order)} cells are measured")
        try:
            records.write(folder / RECORD, record)
        except OSError as error:
            text = f"the cells so far cannot be saved ({error.strerror or error}); measuring goes on"
            if text not in warned:
                warned.add(text)
                warn(text)

    def keep(group: Sequence[JSON]) -> None:
        cells.update({Setting.of(cell): cell for cell in group})
        save()

    with progress("measure", steps(len(left), method)) as advance:
        try:
            for group in measure(left, method, advance, record["machine"]["virtual"]["vm"] not in ("", system.WSL)):
                keep(group)
        except Interrupted as interruption:
            keep(interruption.cells)
            raise
    update("")
    return record


def write(folder: Path, record: JSON) -> None:
    """The whole record and its table; what was measured should have been shown before, for it is lost where this fails."""
    records.write(folder / RECORD, record)
    records.write_csv(folder / TABLE, record)


def goes_on(before: JSON, record: JSON) -> bool:
    """Whether a record that was read is a partial one of the very plan that `record` begins."""
    same_plan = _plan_of(before) == _plan_of(record)
    return bool(before["partial"]) and same_plan and bool(record["models"].items() <= before["models"].items())


def _before(path: Path, record: JSON) -> JSON:
    """The measured cells of a partial record of the very same plan on the same machine, and their models."""
    nothing: JSON = {"cells": [], "models": {}}
    try:
        before = records.read(path)
    except records.RecordError:
        return nothing
    if not goes_on(before, record):
        return nothing
    cells = [cell for cell in before["cells"] if cell["phases"] and INTERRUPTED not in cell["reasons"]]
    return {"cells": cells, "models": {cell["model"]: before["models"][cell["model"]] for cell in cells}}


def _plan_of(record: JSON) -> JSON:
    return {key: record[key] for key in _OF_THE_PLAN} | {"method": planned_method(record)}


def planned_method(record: JSON) -> JSON:
    """The method without what the timer itself takes, which is measured anew each time and differs a little."""
    return {key: value for key, value in record["method"].items() if key != "overhead_ns"}
