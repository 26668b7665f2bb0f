"""The record: what is written is read again, and whatever is wrong with one is told by file and key."""

from __future__ import annotations

import base64
import copy
import csv
import importlib.util
import io
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench import record, statistics, system, timing, watch
from pipeline.bench.record import RecordError
from pipeline.bench.record_schema import SCHEMA
from pipeline.bench.statistics import Samples

ROOT = Path(__file__).resolve().parents[2]
JSON = dict[str, Any]


def measured(timer: timing.Timer, warm: timing.WarmUp, watched: watch.Watch, limits: timing.Limits) -> JSON:
    """A cell as a benchmark puts it together."""
    samples = {name: timer.samples(name) for name in timer.names}
    total = samples["end_to_end"]
    reasons = timing.invalid_because(
        total,
        timer.seconds,
        limits,
        background_load=watched.background_load,
        throttled=watched.throttled,
        clock_went_back=timer.clock_went_back,
    )
    return {
        "task": "detect",
        "model": "yolo11n/onnx/fp32",
        "runtime": "onnx",
        "precision": "fp32",
        "device": "cpu",
        "imgsz": [640, 640],
        "batch": 1,
        "threads": 2,
        "scenario": "single-stream",
        "status": "invalid" if reasons else "valid",
        "reasons": reasons,
        "load_ms": 83.1,
        "first_ms": warm.first_ms["end_to_end"],
        "warm_up": {"samples": warm.samples, "seconds": warm.seconds, "stable": warm.stable},
        "phases": {name: statistics.summary(one) for name, one in samples.items()},
        "images_per_s": statistics.throughput(total, 1),
        "stream": None,
        "memory_peak_mib": watched.memory_peak_mib,
        "gpu_memory_peak_mib": watched.gpu_memory_peak_mib,
        "energy_j_per_image": watched.energy_j,
        "drift": statistics.drift(total),
        "watch": {**watched.summary(), "slowdown": None},
        "samples": {name: record.pack(one) for name, one in samples.items()},
        "rounds": list(timer.rounds),
    }


def skipped() -> JSON:
    unknown = "load_ms first_ms warm_up images_per_s stream memory_peak_mib gpu_memory_peak_mib energy_j_per_image drift watch"
    cell = dict.fromkeys([*unknown.split(" "), "threads"])
    setting = {"task": "pose", "model": "yolo11n-pose/engine/fp16", "runtime": "engine", "precision": "fp16", "device": "cuda:0"}
    setting |= {"imgsz": [640, 640], "batch": 8, "scenario": "offline", "status": "skipped", "reasons": ["no GPU here"]}
    return {**cell, **setting, "phases": {}, "samples": {}, "rounds": []}


MODEL = {
    "name": "yolo11n",
    "task": "detect",
    "runtime": "onnx",
    "precision": "fp32",
    "file_hash": "00ff",
    "weights_hash": "",
    "weights": "official",
    "parameters": 2624080,
    "gflops": 6.6,
    "bytes": 10600000,
    "map50_95": None,
    "map50": None,
    "measured_on": "",
}


@pytest.fixture(scope="module")
def made() -> JSON:
    """A real one: this machine, the real clock, a model that does next to nothing."""
    limits = timing.Limits(min_seconds=0.02, min_samples=20, max_uncertainty=9, max_drift=9, max_background_load=1)
    warm_up = timing.WarmUpRule(window_seconds=0.001, max_seconds=0.5)
    timer = timing.Timer([("preprocess", lambda n: n + 1), ("inference", lambda n: sum(range(2000)))], inputs=[1])
    watched = watch.Watch(watch.Sensors())
    warm = timer.warm_up(warm_up)
    for _ in range(4):
        with watched.round():
            timer.run_round(limits.min_seconds / 4, limits.min_samples // 4)
    method = {**asdict(limits), "rounds": 4, "warm_up": asdict(warm_up), "seed": 0, "scenarios": ["single-stream"]}
    method |= {"max_rounds": 4, "max_seconds": 60.0, "together": 4, "cool_down_s": 0.0, "image_library": "opencv"}
    method["overhead_ns"] = timing.overhead_ns(samples=50)
    found = record.new("yolo-pipeline 0.1.0", system.machine(), system.software(), method, label="laptop")
    found["inputs"] = [{"name": "bus-1280x720.jpg", "hash": "ab12", "width": 1280, "height": 720, "bytes": 123456}]
    found["models"] = {"yolo11n/onnx/fp32": MODEL}
    # Whatever this machine is doing just now.
    found["cells"] = [measured(timer, warm, watched, limits) | {"status": "valid", "reasons": []}, skipped()]
    return found


@pytest.fixture
def mine(made: JSON) -> JSON:
    """A copy to spoil."""
    return copy.deepcopy(made)


# ---- there and back ----


def test_a_real_record_is_written_and_read(made: JSON, tmp_path: Path) -> None:
    record.write(tmp_path / "record.json", made)
    assert record.read(tmp_path / "record.json") == made
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_new_record_is_a_partial_one(made: JSON) -> None:
    found = record.new("tool 1", made["machine"], made["software"], made["method"], created_at_s=0)
    record.check(found, "record.json")
    assert (found["created_at"], found["partial"], found["partial_reason"]) == ("1970-01-01T00:00:00Z", True, "not finished")
    assert len(found["id"]) == 12


def test_the_samples_are_those_that_were_measured(made: JSON) -> None:
    cell = made["cells"][0]
    samples = record.samples_of(cell, "inference", len(made["inputs"]))
    assert samples.rounds == tuple(cell["rounds"])
    assert statistics.summary(samples) == cell["phases"]["inference"]


@pytest.mark.parametrize(
    ("images", "batch", "scenario", "inputs"),
    [(4, 1, "single-stream", 4), (4, 8, "offline", 1), (3, 2, "offline", 3), (4, 1, "stream", 1), (0, 1, "offline", 1)],
)
def test_samples_know_whose_turn_it_was(made: JSON, images: int, batch: int, scenario: str, inputs: int) -> None:
    cell = {**made["cells"][0], "batch": batch, "scenario": scenario}
    assert record.samples_of(cell, "inference", images).inputs == inputs


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8), max_size=6))
def test_any_samples_come_back(rounds: list[list[int]]) -> None:
    ns = np.array([value for one in rounds for value in one], dtype=np.int64)
    sizes = [len(one) for one in rounds]
    found = record.unpack(record.pack(Samples(ns, tuple(sizes))), sizes)
    assert (found.ns == ns).all()
    assert found.rounds == tuple(sizes)


def test_a_disk_that_is_full_leaves_the_record_before_as_it_was(
    made: JSON, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write(tmp_path / "record.json", made)

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        record.write(tmp_path / "record.json", {**made, "label": "other"})
    assert os.listdir(tmp_path) == ["record.json"]
    assert record.read(tmp_path / "record.json") == made


def test_nothing_is_written_that_could_not_be_read(mine: JSON, tmp_path: Path) -> None:
    mine["cells"][0]["drift"] = float("nan")
    with pytest.raises(RecordError, match=r"cells\[0\].drift: a number or null expected, not NaN"):
        record.write(tmp_path / "record.json", mine)
    assert not list(tmp_path.iterdir())


# ---- what is wrong with it ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "r.json: empty"),
        (b'{"schema": 1, "kind": "yolo', "no JSON at line 1, column 23 (Unterminated string starting at): the end is missing"),
        (b'{"schema": 1,', "the end is missing"),
        (b'{"schema": 1, oops}', "r.json: no JSON at line 1, column 15"),
        (b"\xff\xfe{}", "r.json: not text, byte 0 is no UTF-8"),
        (b"[1, 2]", "r.json: not a benchmark record"),
        (b'{"a": 1}', "r.json: not a benchmark record"),
        (b'{"a": NaN}', "r.json: no JSON at line 1, column 1 (NaN is no JSON)"),
        (b"[" * 100_000, "r.json: nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "r.json: Exceeds the limit"),
        (b'{"kind": "yolo-pipeline benchmark"}', "r.json: schema: a whole number is expected, not null"),
        (b'{"kind": "yolo-pipeline benchmark", "schema": 1}', "r.json: id: missing"),
    ],
)
def test_files_that_are_no_records(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(RecordError) as caught:
        record.read(tmp_path / "r.json")
    assert message in caught.value.message
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(RecordError, match=f"{path.name}: cannot be read"):
            record.read(path)


def test_a_file_of_gigabytes_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MAX_BYTES", 10)
    (tmp_path / "r.json").write_text("{" + " " * 20 + "}", encoding="utf-8")
    with pytest.raises(RecordError, match="larger than"):
        record.read(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (3, "r.json: made by a newer release (schema 3; this one reads up to 1)"),
        (0, "r.json: made by an older release (schema 0; this one reads from 1 on)"),
        (True, "r.json: schema: a whole number is expected, not true"),
        ("1", 'r.json: schema: a whole number is expected, not "1"'),
    ],
)
def test_records_of_other_releases(mine: JSON, schema: object, message: str) -> None:
    mine["schema"] = schema
    with pytest.raises(RecordError) as caught:
        record.check(mine, "r.json")
    assert caught.value.message == message


def spoil(path: str, value: Any) -> Callable[[JSON], None]:
    """Set the value at a path such as "cells.0.batch"; `...` takes it out."""

    def change(found: JSON) -> None:
        *parents, last = path.split(".")
        inner: Any = found
        for part in parents:
            inner = inner[int(part) if part.isdigit() else part]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("label", 5), "label: text expected, not 5"),
        (spoil("partial", "no"), 'partial: true or false expected, not "no"'),
        (spoil("machine.cpu.cores", "two"), 'machine.cpu.cores: a whole number or null expected, not "two"'),
        (spoil("machine.cpu.governor", ...), "machine.cpu.governor: missing"),
        (spoil("software.packages.numpy", 2.3), "software.packages.numpy: text expected, not 2.3"),
        (spoil("method.rounds", 0), "method.rounds: at least 1 expected, not 0"),
        (spoil("method.min_seconds", float("inf")), "method.min_seconds: a number expected, not Infinity"),
        (spoil("models", []), "models: an object expected, not []"),
        (spoil("models", {}), "cells[0].model: no model 'yolo11n/onnx/fp32' in models"),
        (spoil("cells.0.task", "fly"), 'cells[0].task: one of detect, segment, classify, pose expected, not "fly"'),
        (spoil("cells.0.imgsz", [640]), "cells[0].imgsz: 2 to 2 items expected, not 1"),
        (spoil("cells.0.batch", 1.5), "cells[0].batch: a whole number expected, not 1.5"),
        (spoil("cells.0.batch", True), "cells[0].batch: a whole number expected, not true"),
        (spoil("cells.0.stream", {"fps": 0}), "cells[0].stream.frames: missing"),
        (spoil("cells.0.phases.inference.p50_ms", ...), "cells[0].phases.inference.p50_ms: missing"),
        (spoil("cells.0.phases.inference.n", 7), "cells[0].phases.inference.n: 7, where the rounds have "),
        (spoil("cells.0.phases.end_to_end", ...), "cells[0].phases: no end_to_end"),
        (spoil("cells.0.phases", {}), "cells[0].phases: empty, although the cell is valid"),
        (spoil("cells.1.reasons", []), "cells[1].reasons: empty, although the cell is skipped"),
        (spoil("cells.0.samples.inference", ...), "cells[0].samples: none of inference, which has figures"),
        (spoil("cells.0.samples.inference", "!!"), "cells[0].samples.inference: samples that cannot be unpacked"),
        (spoil("cells.0.samples.inference", "AAAA"), "cells[0].samples.inference: samples that cannot be unpacked"),
        (spoil("cells.0.samples.inference", "ä"), "cells[0].samples.inference: samples that cannot be unpacked"),
        (spoil("cells.0.samples.inference", ""), "cells[0].samples.inference: 0 samples, where the rounds have "),
        (spoil("cells.0.rounds", [10**12]), "cells[0].phases.preprocess.n: "),
        (spoil("cells.1.status", "unknown"), 'cells[1].status: one of valid, invalid, skipped, failed expected, not "unknown"'),
        (spoil("cells.1.watch", "x" * 500), f'cells[1].watch: an object or null expected, not "{"x" * 56}…'),
    ],
)
def test_each_fault_is_told_by_its_key(mine: JSON, change: Callable[[JSON], None], message: str) -> None:
    change(mine)
    with pytest.raises(RecordError) as caught:
        record.check(mine, "r.json")
    assert caught.value.message.startswith(f"r.json: {message}")
    assert caught.value.hint


def test_samples_that_would_fill_the_memory_are_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    with pytest.raises(RecordError, match="more samples, where the rounds have 3"):
        record.unpack(bomb, [3])
    with pytest.raises(RecordError, match="at most"):
        record.unpack(bomb, [10**12])


def test_samples_that_are_cut_off_are_told() -> None:
    packed = base64.b64decode(record.pack(Samples(np.arange(1000, dtype=np.int64), (1000,))))
    with pytest.raises(RecordError, match="where the rounds have 1,000"):
        record.unpack(base64.b64encode(packed[:-20]).decode(), [1000])


def test_what_later_releases_add_is_ignored(mine: JSON) -> None:
    mine["cells"][0]["novelty"] = {"a": 1}
    mine["machine"]["cpu"]["novelty"] = None
    record.check(mine, "r.json")


# ---- the published schema ----


def test_the_published_schema_is_up_to_date_and_accepts_a_real_record(made: JSON) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_schema", ROOT / "scripts" / "benchmark_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text(encoding="utf-8")
    assert text == module.page(), "run scripts/benchmark_schema.py"
    assert record.mismatch(made, json.loads(text)) == ""


def test_a_keyword_that_is_not_checked_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="pattern"):
        record.mismatch("x", {"type": "string", "pattern": "y"})


def test_every_key_of_the_schema_is_required() -> None:
    def walk(schema: JSON) -> None:
        assert set(schema.get("required", [])) == set(schema.get("properties", {}))
        for inner in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
            if inner:
                walk(inner)

    walk(SCHEMA)


# ---- spreadsheets ----


def test_the_csv_has_a_line_a_cell(mine: JSON) -> None:
    mine["label"] = 'my "fast", old laptop'
    mine["cells"][1]["reasons"] = ["no GPU here", "no TensorRT"]
    rows = list(csv.DictReader(io.StringIO(record.to_csv(mine))))
    valid, not_run = rows
    assert (valid["label"], valid["status"], valid["imgsz"]) == ('my "fast", old laptop', "valid", "640x640")
    assert float(valid["inference_p50_ms"]) == mine["cells"][0]["phases"]["inference"]["p50_ms"]
    assert [float(valid[f"end_to_end_p50_{end}_ms"]) for end in ("low", "high")] == mine["cells"][0]["phases"]["end_to_end"][
        "p50_ci95_ms"
    ]
    assert (not_run["status"], not_run["reasons"], not_run["inference_p50_ms"]) == ("skipped", "no GPU here; no TensorRT", "")
    frame = pd.read_csv(io.StringIO(record.to_csv(mine)))
    assert frame["inference_p50_ms"].dtype == np.float64


def test_a_record_without_cells_has_a_csv_without_lines(mine: JSON) -> None:
    mine["cells"] = []
    text = record.to_csv(mine)
    assert text.startswith("record,label,cpu,gpu,task,model,runtime,")
    assert text.count("\n") == 1
