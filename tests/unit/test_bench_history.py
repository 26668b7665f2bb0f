"""One machine over time: order, what is a regression and what is not, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.bench.history import as_json, follow
from pipeline.errors import DataError
from tests.bench_records import make_cell, make_machine, make_record, make_software

JSON = dict[str, Any]


def day(number: int, *cells: JSON, **changed: Any) -> JSON:
    return make_record(cells, **{"label": f"day {number}", "created_at": f"2026-11-{number:02}T06:00:00Z"} | changed)


def by_label(*records: JSON) -> dict[str, JSON]:
    return {record["label"]: record for record in records}


def test_points_stand_in_the_order_of_time_and_a_regression_names_what_was_installed() -> None:
    newer = make_software(onnxruntime="1.32.0", openvino="2026.4")
    records = [day(3, make_cell(50, seed=3), software=newer), day(1, make_cell(40, seed=1)), day(2, make_cell(40.2, seed=2))]
    (trend,) = follow(by_label(*records)).trends
    assert [point.record for point in trend.points] == ["day 1", "day 2", "day 3"]
    assert trend.points[0].slowdown is None
    assert [point.change for point in trend.points] == ["", "none", "slower"]
    assert trend.points[2].told.startswith("1.2")
    assert trend.points[2].told.endswith("slower than in day 2; since then onnxruntime 1.31.1 → 1.32.0, openvino none → 2026.4")


def test_what_changed_about_the_machine_is_named_too() -> None:
    on_battery = make_machine(power={"plan": "", "on_battery": True})
    records = by_label(day(1, make_cell(40, seed=1)), day(2, make_cell(60, seed=2), machine=on_battery))
    ((_, point),) = follow(records).regressions
    assert point.told.endswith("slower than in day 1; since then power on_battery False → True")


def test_small_steps_that_add_up_are_seen_against_the_best() -> None:
    speeds = (40, 41.2, 42.4, 43.7)
    records = [day(number, make_cell(ms, seed=number)) for number, ms in enumerate(speeds, start=1)]
    records = by_label(*records)
    history = follow(records, threshold=0.05)
    ((trend, point),) = history.regressions
    assert "slower than at its best, in day 1" in point.told
    assert [point.change for point in trend.points[:2]] == ["", "none"]
    assert not follow(records, threshold=0.2).regressions


def test_only_the_newest_point_counts_as_a_regression_now() -> None:
    records = by_label(*(day(number, make_cell(ms, seed=number)) for number, ms in ((1, 40), (2, 80), (3, 40))))
    history = follow(records)
    assert not history.regressions
    assert [point.change for point in history.trends[0].points] == ["", "slower", "faster"]
    assert history.trends[0].points[2].told.endswith("faster than in day 2")


def test_noise_is_no_regression() -> None:
    history = follow(by_label(*(day(number, make_cell(40, seed=number)) for number in range(1, 6))))
    assert [point.change for point in history.trends[0].points] == ["", *["none"] * 4]
    assert history.trends[0].points[1].told == "no change beyond 5%"


def test_where_the_interval_is_wide_nobody_says_that_nothing_changed() -> None:
    rng = np.random.default_rng(0)

    def uneven(*medians: float) -> JSON:
        return make_cell([rng.normal(median, 0.2, 30) for median in medians])

    history = follow(by_label(day(1, uneven(38, 44, 36)), day(2, uneven(47, 54, 41))))
    assert not history.regressions
    (trend,) = history.unclear
    found, ends = trend.points[-1].slowdown, trend.points[-1].interval_ms
    assert found is not None
    assert ends is not None
    assert ends[0] < trend.points[-1].ms < ends[1]
    assert found.value > 1.1
    assert trend.points[-1].told == f"cannot be told: {found.low:.2f} to {found.high:.2f} times what it took in day 1"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"machine": make_machine("Other CPU")}, "another processor: Other CPU, not Example CPU 8"),
        ({"machine": make_machine(gpus=["H100"])}, "another GPU: H100, not none"),
        ({"method": make_record([])["method"] | {"rounds": 3}}, "method: rounds is 5 in day 3 and 3 in day 1"),
        ({"inputs": []}, "inputs: day 3 measured bus-1280x720.jpg, which day 1 did not, or not alike"),
    ],
)
def test_records_unlike_the_newest_are_left_out_with_the_reason(changed: JSON, reason: str) -> None:
    records = by_label(day(1, make_cell(10), **changed), day(2, make_cell(40, seed=2)), day(3, make_cell(40, seed=3)))
    history = follow(records)
    assert history.records_left_out == {"day 1": (reason,)}
    assert len(history.trends[0].points) == 2


def test_a_history_of_one_is_refused() -> None:
    with pytest.raises(DataError, match="needs two records"):
        follow(by_label(day(1, make_cell())))
    other = day(1, make_cell(), machine=make_machine("Other CPU"))
    with pytest.raises(DataError, match="needs two records") as caught:
        follow(by_label(other, day(2, make_cell())))
    assert caught.value.problems == ("day 1: another processor: Other CPU, not Example CPU 8",)


def test_cells_without_a_trend_are_listed() -> None:
    first = day(1, make_cell(seed=1), make_cell(task="pose"))
    second = day(2, make_cell(seed=2), make_cell(task="pose", status="invalid", reasons=["machine busy"]), make_cell(threads=1))
    history = follow(by_label(first, second))
    assert len(history.trends) == 1
    assert [(cell.record, cell.status) for cell in history.left_out] == [
        ("day 2", "invalid"),
        ("day 1", "once"),
        ("day 2", "once"),
    ]


def test_other_weights_are_another_trend() -> None:
    cell = make_cell(seed=1)
    retrained = {cell["model"]: {"weights_hash": "newer"}}
    records = by_label(day(1, cell), day(2, make_cell(seed=2)), day(3, make_cell(90), models=retrained))
    (trend,) = follow(records).trends
    assert [point.record for point in trend.points] == ["day 1", "day 2"]


def test_the_history_as_json() -> None:
    history = follow(by_label(day(1, make_cell(40, seed=1)), day(2, make_cell(80, seed=2))))
    told = json.loads(json.dumps(as_json(history)))
    first, second = told["trends"][0]["points"]
    assert first["slowdown"] is None
    assert first["interval_ms"][0] < first["ms"] < first["interval_ms"][1]
    assert second["slowdown"]["value"] == pytest.approx(2, rel=0.05)
    assert second["change"] == "slower"
