"""A record as tables for people: what is in which column, which batch is best, and what is said of cells that are not valid."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bench import record, tables
from tests.bench_records import make_cell, make_machine, make_record

JSON = dict[str, Any]

HOSTILE = "\x1b[2J\x1b]0;pwned\x07\u202eevil\nline\x9b31m"
"""Clears a screen, sets a title, turns the direction of writing, and begins a line of its own."""
CAMERA = {"fps": 30.0, "frames": 90, "dropped": 12, "age_p50_ms": 33.3, "age_p99_ms": 71.5}


def columns(made: JSON) -> list[dict[str, str]]:
    """The rows of the only table."""
    record.check(made, "record.json")
    [(_, (header, rows))] = tables.sections(made)
    return [dict(zip(header, row, strict=True)) for row in rows]


def unmeasured(status: str, *reasons: str, **changed: Any) -> JSON:
    return make_cell(status=status, reasons=list(reasons), phases={}, samples={}, rounds=[], images_per_s=None, **changed)


def test_latency_has_its_interval_and_the_unit_in_the_heading() -> None:
    cell = make_cell(40)
    cell["phases"]["end_to_end"] |= {"p50_ms": 40.123, "p50_ci95_ms": [9.876, 123.4], "p99_ms": 1234.5}
    cell["phases"]["inference"]["p50_ms"] = 7.009
    made = make_record([cell | {"images_per_s": 24.94, "memory_peak_mib": 310.4}])
    [(heading, _)] = tables.sections(made)
    assert "milliseconds end to end" in heading
    [row] = columns(made)
    assert row == {
        "task": "detect",
        "model": "yolo11n-detect",
        "runtime": "onnx fp32",
        "on": "cpu, 2 threads",
        "px": "640",
        "p50 [95 %]": "40.1 [9.88, 123]",
        "p99": "1,234",
        "inference": "7.01",
        "images/s": "24.9",
        "memory": "310 MiB",
        "": "",
    }


def test_what_is_not_known_is_left_empty_and_what_is_invalid_says_so() -> None:
    cell = make_cell(40, status="invalid", reasons=["drift: 9 %"], memory_peak_mib=None, images_per_s=None)
    cell |= {"threads": None, "device": "cuda:0", "imgsz": [384, 640]}
    del cell["phases"]["inference"], cell["samples"]["inference"]
    cell["phases"]["end_to_end"]["p50_ci95_ms"] = None
    [row] = columns(make_record([cell]))
    assert [row[name] for name in ("on", "px", "inference", "images/s", "memory", "")] == [
        "cuda:0",
        "640x384",
        "",
        "",
        "",
        "INVALID",
    ]
    assert "[]" not in row["p50 [95 %]"]
    assert "None" not in str(row)


def test_accuracy_is_a_column_where_anything_was_measured() -> None:
    cells = [make_cell(40), make_cell(20, runtime="openvino")]
    assert "mAP50-95" not in columns(make_record(cells))[0]
    known = make_record(cells, {"yolo11n-detect/onnx/fp32": {"map50_95": 0.41256}})
    assert [row["mAP50-95"] for row in columns(known)] == ["0.413", ""]


def offline(batch: int, images_per_s: float | None, **changed: Any) -> JSON:
    return make_cell(40, **{"scenario": "offline", "batch": batch, "images_per_s": images_per_s} | changed)


def test_the_best_batch_of_each_family_is_marked() -> None:
    cells = [
        offline(1, 20.0),
        offline(8, 30.0),
        offline(32, 29.0),
        offline(64, 99.0, status="invalid", reasons=["the machine was busy"]),
        offline(1, 50.0, runtime="openvino"),
        offline(8, 40.0, runtime="openvino"),
        offline(8, 10.0, threads=1),  # alone of its kind: nothing to choose from
    ]
    found = [(row["runtime"], row["on"], row["batch"]) for row in columns(make_record(cells))]
    assert [row for row in found if "best" in row[2]] == [
        ("onnx fp32", "cpu, 2 threads", "8 (best)"),
        ("openvino fp32", "cpu, 2 threads", "1 (best)"),
    ]


def test_a_throughput_that_is_not_told_is_not_the_best() -> None:
    found = columns(make_record([offline(1, None), offline(8, 30.0)]))
    assert [row["batch"] for row in found] == ["1", "8 (best)"]


def test_a_camera_tells_what_it_dropped_and_how_old_results_are() -> None:
    [row] = columns(make_record([make_cell(20, scenario="stream", stream=CAMERA)]))
    names = ("frames/s", "dropped", "age p50", "age p99")
    assert [row[name] for name in names] == ["30", "12 of 90", "33.3", "71.5"]
    assert "p50 [95 %]" not in row


def test_a_camera_that_says_nothing_is_no_valid_cell() -> None:
    """Another program's record: what would be shown and compared is not there."""
    with pytest.raises(record.RecordError, match=r"cells\[0\]\.stream: null, although the scenario is stream"):
        record.check(make_record([make_cell(20, scenario="stream")]), "record.json")


def test_each_scenario_has_a_table_and_what_was_not_measured_has_none() -> None:
    cells = [offline(1, 20.0), make_cell(40), unmeasured("skipped", "no GPU", scenario="stream"), unmeasured("failed", "broke")]
    headings = [heading.partition(":")[0] for heading, _ in tables.sections(make_record(cells))]
    assert headings == ["one image after the other", "throughput"]


def test_remarks_tell_each_reason_once_with_how_many_cells_it_holds_for() -> None:
    cells = [
        make_cell(40),
        make_cell(40, status="invalid", reasons=["drift: 9.1% slower", "the machine was busy: 31%"]),
        make_cell(40, status="invalid", reasons=["drift: 12.5% slower"], threads=1),
        *(unmeasured("skipped", "no NVIDIA GPU", runtime="engine", imgsz=[size, size]) for size in (320, 640)),
        unmeasured("skipped", "no NVIDIA GPU", runtime="onnx", device="cuda:0"),
        unmeasured("failed", "out of memory", "batch 4 is tried instead", scenario="offline", batch=8),
    ]
    assert tables.remarks(make_record(cells)) == [
        "invalid: onnx fp32 on cpu: drift: 9.1% slower (2 cells, the first)",
        "invalid: onnx fp32 on cpu: the machine was busy: 31%",
        "skipped: engine fp32 on cpu: no NVIDIA GPU (2 cells, the first)",
        "skipped: onnx fp32 on cuda:0: no NVIDIA GPU",
        "failed: onnx fp32 on cpu: out of memory",
        "failed: onnx fp32 on cpu: batch 4 is tried instead",
    ]


def test_a_record_without_a_cell_is_told_too() -> None:
    made = make_record([], partial=True, partial_reason="interrupted: 0 of 3 cells are measured")
    assert tables.text(made).splitlines() == [
        "yolo-pipeline 0.1.0, 2026-11-22T06:00:00Z, laptop",
        "Example CPU 8, 8 threads",
        "partial: interrupted: 0 of 3 cells are measured",
    ]


@pytest.mark.parametrize(("slowdown", "told"), [(None, 0), (0.04, 0), (0.12, 1)])
def test_what_neighbours_took_of_valid_cells_is_told_once(slowdown: float | None, told: int) -> None:
    cells = [make_cell(threads=threads, watch={**make_cell()["watch"], "slowdown": slowdown}) for threads in (1, 2)]
    found = tables.remarks(make_record(cells))
    assert found == ["note: the processors of this virtual machine were 12% slower on average than at their best"] * told


def test_the_text_has_the_machine_the_tables_and_the_remarks() -> None:
    cells = [make_cell(40), make_cell(4, runtime="openvino"), unmeasured("skipped", "no GPU", runtime="engine")]
    machine = make_machine(gpus=["Example GPU", "Other GPU"])
    lines = tables.text(make_record(cells, machine=machine, label="")).splitlines()
    assert lines[:3] == ["yolo-pipeline 0.1.0, 2026-11-22T06:00:00Z", "Example CPU 8, 8 threads, Example GPU, Other GPU", ""]
    header, first, second = lines[4:7]
    assert header.index("runtime") == first.index("onnx fp32") == second.index("openvino fp32")
    assert lines[-2:] == ["", "skipped: engine fp32 on cpu: no GPU"]
    assert not any(line != line.rstrip() for line in lines)


def test_a_machine_that_does_not_tell_its_threads_is_no_error() -> None:
    machine = make_machine()
    machine["cpu"]["usable_threads"] = None
    made = make_record([make_cell(40)], machine=machine)
    record.check(made, "record.json")
    assert tables.text(made).splitlines()[1] == "Example CPU 8"


def test_nothing_of_a_foreign_record_steers_the_terminal() -> None:
    strange = dict.fromkeys(("runtime", "precision", "device", "model"), HOSTILE)
    cells = [
        make_cell(40, **strange),
        offline(1, 20.0, **strange),
        make_cell(20, scenario="stream", stream=CAMERA, **strange),
        unmeasured("failed", HOSTILE, **strange),
    ]
    machine = make_machine(HOSTILE, gpus=[HOSTILE])
    made = make_record(cells, {HOSTILE: {"name": HOSTILE, "map50_95": 0.5}}, machine=machine)
    made |= {"tool": HOSTILE, "created_at": HOSTILE, "label": HOSTILE, "partial": True, "partial_reason": HOSTILE}
    record.check(made, "record.json")
    text = tables.text(made)
    plain = tables.text(
        make_record([*cells[:3], unmeasured("failed", "broke")], machine=make_machine(gpus=["GPU"]), partial=True)
    )
    assert text.replace("\n", "").isprintable()
    assert text.count("\n") == plain.count("\n")
    for _, (_, rows) in tables.sections(made):
        assert all(field.isprintable() for row in rows for field in row)
    assert all(line.isprintable() for line in tables.remarks(made))
