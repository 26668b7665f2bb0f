"""A record is on disk from the first group of cells on, and the same plan goes on from it."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import files
from pipeline.bench import RECORD, record, session
from pipeline.bench.measure import INTERRUPTED
from pipeline.bench.settings import Method
from tests.bench_loaders import FAST, planned, setting
from tests.bench_records import make_model, make_record

pytestmark = pytest.mark.slow
ONE_BY_ONE = replace(FAST, together=1)


def started(**changes: Any) -> dict[str, Any]:
    """A record without cells whose model is that of `planned`."""
    cell = setting().as_json()
    return make_record([]) | {"models": {cell["model"]: make_model(cell)}, "partial": True} | changes


class Bar:
    """What `session.run` shows; interrupts after some steps, as a user would."""

    def __init__(self, interrupt_after: int = 10**6) -> None:
        self.total = self.done = 0
        self._limit = interrupt_after

    @contextmanager
    def __call__(self, label: str, total: int) -> Any:
        self.total = total

        def advance(n: int = 1, more: int = 0, **_: object) -> None:
            self.done += n
            self.total += more
            if self.done > self._limit:
                raise KeyboardInterrupt

        yield advance


def run(
    folder: Path,
    given: dict[str, Any],
    bar: Bar,
    *plans: Any,
    skipped: Any = (),
    failed: Any = (),
    warn: Any = print,
    method: Method = ONE_BY_ONE,
) -> dict[str, Any]:
    return session.run(folder, given, plans, skipped, failed, method, bar, warn)


def test_a_session_writes_a_whole_record_and_a_table(tmp_path: Path) -> None:
    impossible = setting(runtime="engine")
    unmade = setting(runtime="litert")
    why = {"skipped": [(impossible, "no NVIDIA GPU")], "failed": [(unmade, "no converter")]}
    found = run(tmp_path, started(), Bar(), planned(), planned(threads=2), **why)
    session.write(tmp_path, found)
    assert record.read(tmp_path / RECORD) == found
    assert [(cell["runtime"], cell["status"]) for cell in found["cells"]] == [
        ("onnx", "valid"),
        ("onnx", "valid"),
        ("engine", "skipped"),
        ("litert", "failed"),
    ]
    assert (found["partial"], found["partial_reason"]) == (False, "")
    rows = list(csv.DictReader((tmp_path / session.TABLE).open(encoding="utf-8")))
    assert [row["threads"] for row in rows] == ["1", "2", "1", "1"]
    assert rows[2]["reasons"] == "no NVIDIA GPU"


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path) -> None:
    plans = [planned(), planned(threads=2), planned(threads=3)]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, started(), Bar(interrupt_after=4), *plans)
    partial = record.read(tmp_path / RECORD)
    assert partial["partial_reason"] == "interrupted: 1 of 3 cells are measured"
    assert [cell["status"] for cell in partial["cells"]] == ["valid", "invalid"]

    bar = Bar()
    found = run(tmp_path, started(id="0123456789ab"), bar, *plans)
    assert bar.total == bar.done == 2 * FAST.rounds
    assert found["cells"][0] == partial["cells"][0]
    assert not found["partial"]


def test_cells_of_a_group_are_whole_or_measured_anew(tmp_path: Path) -> None:
    plans = [planned(), planned(threads=2)]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, started(), Bar(interrupt_after=4), *plans, method=FAST)
    partial = record.read(tmp_path / RECORD)
    assert partial["partial_reason"] == "interrupted: 0 of 2 cells are measured"
    assert [cell["reasons"][0] for cell in partial["cells"]] == [INTERRUPTED] * 2
    assert all(sum(cell["rounds"]) > 0 for cell in partial["cells"])

    bar = Bar()
    found = run(tmp_path, started(), bar, *plans, method=FAST)
    assert bar.total == 2 * FAST.rounds
    assert [cell["status"] for cell in found["cells"]] == ["valid", "valid"]


def test_a_smaller_batch_that_was_not_reached_is_tried_when_it_goes_on(tmp_path: Path) -> None:
    plan = planned("memory above 2", scenario="offline", batch=8)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, started(), Bar(interrupt_after=4), plan)
    partial = record.read(tmp_path / RECORD)
    assert [(cell["batch"], cell["status"]) for cell in partial["cells"]] == [(8, "failed")]
    found = run(tmp_path, started(), Bar(), plan)
    assert [(cell["batch"], cell["status"]) for cell in found["cells"]] == [(8, "failed"), (4, "failed"), (2, "valid")]


@pytest.mark.parametrize("change", ["another machine", "damaged", "finished"])
def test_cells_of_another_plan_are_not_taken_over(tmp_path: Path, change: str) -> None:
    given = started()
    if change == "another machine":
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, given, Bar(interrupt_after=4), planned(), planned(threads=2))
        given = started(machine=given["machine"] | {"model": "another laptop"})
    elif change == "damaged":
        files.write_text(tmp_path / RECORD, '{"kind": ')
    else:
        session.write(tmp_path, run(tmp_path, given, Bar(), planned(), planned(threads=2)))
    bar = Bar()
    run(tmp_path, given, bar, planned(), planned(threads=2))
    assert bar.total == 2 * FAST.rounds


def test_a_disk_that_is_full_meanwhile_does_not_end_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def full(path: Path, what: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write", full)
    found = run(tmp_path, started(), Bar(), planned(), planned(threads=2), warn=told.append)
    assert told == ["the cells so far cannot be saved (No space left on device); measuring goes on"]
    assert [cell["status"] for cell in found["cells"]] == ["valid", "valid"]
