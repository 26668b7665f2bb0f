"""A pack on another machine: what is damaged, what is possible, what is built, and what is told of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import machine, runtimes
from pipeline.bench import RECORD, _plain, record, run_pack, unpacked
from pipeline.bench.inputs import hash_of
from pipeline.bench.settings import Method, Setting
from pipeline.bench.unpacked import Pack
from pipeline.errors import DataError, ExportError, UsageError
from pipeline.runtimes import engine, onnx, openvino
from tests.bench_records import make_cell, make_record

METADATA = {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[64, 96]", "batch": "2", "task": "pose", "kpt_shape": "[17, 3]"}
DETECT = Setting("detect", "yolo11n/onnx/fp32/96x64/1", "onnx", "fp32", "cpu", (64, 96), 1, 1)


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What is remembered of this machine."""
    yield
    unpacked._unavailable.cache_clear()
    unpacked._builder.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pack whose files are no models."""

    def file(name: str, content: str) -> str:
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return hash_of(path)

    files = []
    for precision, batch in (("fp32", 1), ("fp32", 4), ("fp32", 8), ("fp16", 1)):
        name = f"models/1-yolo11n-{precision}-64x96-b{batch}.onnx"
        about = {"precision": precision, "imgsz": [64, 96], "batch": batch, "hash": file(name, name), "bytes": 9}
        accuracy = {"map50_95": 0.5, "map50": 0.7, "measured_on": "split v1 test, 9 images"}
        files.append({"file": name, "metadata": METADATA, **about, **accuracy})
    known = {"weights": "official", "weights_hash": "0" * 32, "parameters": 26, "gflops": 6.6}
    entry = {"name": "image-1.jpg", "hash": file("inputs/1.jpg", "photo"), "width": 30, "height": 20, "bytes": 5}
    pixels = {"file": "inputs/1.jpg", "pixels": "inputs/1.jpg.npy", "pixels_hash": file("inputs/1.jpg.npy", "pixels")}
    axes = {"runtimes": ["onnx", "openvino", "engine"], "precisions": ["fp32"], "imgsz": [], "batches": [1], "threads": [1, 0]}
    plan = {
        **{"schema": 1, "kind": unpacked.KIND, "tool": "yolo-pipeline 0.1.0", "method": asdict(Method(rounds=7))},
        "axes": {**axes, "scenarios": ["single-stream"]},
        "models": [{"name": "yolo11n", "task": "detect", "imgsz": [64, 96], "files": files, **known}],
        "inputs": [{**entry, **pixels}],
    }
    file("plan.json", json.dumps(plan))
    return tmp_path / "pack"


def change(folder: Path, how: Callable[[Any], object]) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    how(plan)
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


def test_a_plan_is_read_whole(folder: Path) -> None:
    pack = Pack.open(folder)
    assert pack.method == Method(rounds=7)
    assert [entry["name"] for entry in pack.inputs] == ["image-1.jpg"]
    assert "pixels" not in pack.inputs[0]
    assert pack.input_files("opencv") == [folder / "inputs" / "1.jpg"]
    assert pack.input_files("numpy") == [folder / "inputs" / "1.jpg.npy"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda plan: plan.update(kind="holiday plan"), "is no plan of a benchmark"),
        (lambda plan: plan.update(schema=2), "of schema 2, and this run_benchmark.py reads 1"),
        (lambda plan: plan.pop("axes"), "is damaged .KeyError: 'axes'"),
        (lambda plan: plan["method"].update(rounds_=3), "is damaged .TypeError"),
        (lambda plan: plan["models"][0].pop("imgsz"), "is damaged"),
        (lambda plan: plan["inputs"].append(3), "is damaged"),
        (lambda plan: plan["inputs"][0].update(file="../1.jpg"), r"\.\./1\.jpg: no name of a file in this folder"),
        (lambda plan: plan["inputs"][0].update(file="inputs/2.jpg"), "inputs/2.jpg: missing"),
        (lambda plan: plan["inputs"][0].update(hash="1"), "inputs/1.jpg: damaged, its hash differs"),
    ],
)
def test_what_is_damaged_is_named(folder: Path, how: Callable[[Any], object], words: str) -> None:
    change(folder, how)
    with pytest.raises(DataError, match=words) as caught:
        Pack.open(folder)
    assert caught.value.hint


def test_without_a_plan_there_is_nothing(folder: Path) -> None:
    (folder / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"plan\.json is damaged: "):
        Pack.open(folder)
    (folder / "plan.json").unlink()
    with pytest.raises(DataError, match=r"There is no plan\.json beside run_benchmark\.py"):
        Pack.open(folder)


def test_the_grid_is_that_of_the_plan_unless_told_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack.open(folder)
    monkeypatch.setattr(machine, "usable_cores", lambda: 6)
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Example GPU"])
    found = unpacked.cells(pack, None, None, None)
    assert {setting.device for setting in found} == {"cpu", "cuda:0"}
    assert {setting.threads for setting in found if setting.device == "cpu"} == {1, 6}
    assert {setting.imgsz for setting in found} == {(64, 96)}
    assert unpacked.cells(pack, ["ort", "onnx"], ["cpu"], [6, 0, 1, 1]) == [replace(DETECT, threads=6), DETECT]
    with pytest.raises(UsageError, match="'tflite' runs nothing of this pack"):
        unpacked.cells(pack, ["tflite"], None, None)


def test_why_a_cell_is_impossible(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack.open(folder)
    trt = replace(DETECT, runtime="engine", device="cuda:0")
    assert unpacked.why_not(pack, DETECT, tmp_path) == ""
    assert unpacked.why_not(pack, replace(DETECT, batch=2), tmp_path) == "no fp32 of batch 2 is in this pack"
    monkeypatch.setattr(machine, "gpu_names", lambda: [])
    assert unpacked.why_not(pack, trt, tmp_path) == "this machine has no NVIDIA GPU"
    unpacked._unavailable.cache_clear()
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Example GPU"])
    monkeypatch.setattr(runtimes, "missing_modules", lambda names: list(names))
    monkeypatch.setattr("sys.executable", "/home/somebody/python3.12")
    assert unpacked.why_not(pack, trt, tmp_path) == (
        "tensorrt and torch must be installed: python3.12 -m pip install tensorrt-cu13 torch"
    )
    told = list(unpacked.what_is_there("numpy", ["onnx", "openvino"]))
    assert "onnx: missing. python3.12 -m pip install onnxruntime-gpu" in told
    assert "openvino: missing. python3.12 -m pip install openvino" in told
    assert "GPU: Example GPU" in told
    assert any("pip install opencv-python-headless pillow" in line for line in told)


def test_an_engine_is_built_from_the_onnx_by_what_the_plan_says_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, built = Pack.open(folder), []

    def isolated(what: str, function: Any, source: Path, target: Path, device: str, metadata: Any) -> None:
        assert function is unpacked._build_engine
        built.append((source.name, device, metadata))
        target.parent.mkdir(exist_ok=True)
        target.write_text("engine", encoding="utf-8")

    monkeypatch.setattr("pipeline.runtimes._isolated.isolated", isolated)
    monkeypatch.setattr(engine, "machine_key", lambda: "Example GPU, TensorRT 10.13")
    setting = replace(DETECT, runtime="engine", device="cuda:1", threads=None, model="yolo11n/engine/fp16", precision="fp16")
    for _ in range(2):  # once
        unpacked.build(pack, setting, tmp_path)
    assert built == [("1-yolo11n-fp16-64x96-b1.onnx", "cuda:1", METADATA)]
    first = unpacked.file_of(pack, setting, tmp_path)
    assert first.suffix == ".engine"
    assert first != unpacked.file_of(pack, replace(setting, device="cuda:0"), tmp_path)
    unpacked._builder.cache_clear()
    monkeypatch.setattr(engine, "machine_key", lambda: "Example GPU, TensorRT 11.0")
    assert first != unpacked.file_of(pack, setting, tmp_path)
    # What `engine.build` makes of the metadata, without the package onnx.
    monkeypatch.setattr(onnx, "metadata_of", lambda path: pytest.fail("the ONNX was read"))
    described = engine._describe(Path("a.onnx"), METADATA)
    assert described == {"class_names": ["cat", "dog"], "imgsz": [64, 96], "batch": 2, "task": "pose", "keypoints": (17, 3)}


def test_openvino_halves_the_weights_of_fp32_itself(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack, built = Pack.open(folder), []
    monkeypatch.setattr(openvino, "build", lambda *arguments: built.append(arguments))
    setting = replace(DETECT, runtime="openvino", precision="fp16", model="yolo11n/openvino/fp16")
    unpacked.build(pack, setting, tmp_path)
    target = unpacked.file_of(pack, setting, tmp_path)
    assert built == [(folder / "models" / "1-yolo11n-fp32-64x96-b1.onnx", target, "fp16", METADATA)]
    assert target.suffix == ".xml"


def test_a_file_that_cannot_be_built_leaves_the_other_cells_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ExportError("TensorRT 10.13 cannot parse it.", problems=["node 3"])

    monkeypatch.setattr("pipeline.runtimes._isolated.isolated", fail)
    monkeypatch.setattr(engine, "machine_key", lambda: "Example GPU, TensorRT 10.13")
    stream, pack = io.StringIO(), Pack.open(folder)
    impossible = [replace(DETECT, runtime="engine", device="cuda:0", scenario=scenario) for scenario in ("stream", "offline")]
    built, failed = run_pack._build(pack, [DETECT, *impossible], tmp_path, _plain.Plain(stream))
    assert built == [DETECT]
    assert failed == [(setting, "cannot be built: TensorRT 10.13 cannot parse it. - node 3") for setting in impossible]
    assert "for engine, which takes minutes …" in stream.getvalue()
    assert stream.getvalue().count("cannot be built") == 1


def test_the_record_is_told_what_was_run(folder: Path, tmp_path: Path) -> None:
    pack = Pack.open(folder)
    other = replace(DETECT, runtime="openvino", model="yolo11n/openvino/fp32")
    built = unpacked.file_of(pack, other, tmp_path)
    built.parent.mkdir()
    for path in (built, built.with_suffix(".bin")):
        path.write_text("12345", encoding="utf-8")
    found = unpacked.models_of(pack, [DETECT, replace(DETECT, threads=2), other], tmp_path)
    assert not record.mismatch(found, record.SCHEMA["properties"]["models"])
    direct, made = found["yolo11n/onnx/fp32/96x64/1"], found["yolo11n/openvino/fp32"]
    assert (direct["map50_95"], made["map50_95"], made["measured_on"]) == (0.5, None, "")  # that of the very file
    assert made["bytes"] == 10
    assert made["weights_hash"] == direct["weights_hash"]
    assert direct["file_hash"] == hash_of(folder / "models" / "1-yolo11n-fp32-64x96-b1.onnx")


def test_a_partial_record_stays_where_it_is(tmp_path: Path) -> None:
    stream = io.StringIO()
    partial = make_record([make_cell()], partial=True, partial_reason="interrupted")
    record.write(tmp_path / RECORD, partial)
    run_pack._put_aside(tmp_path, {**partial, "cells": []}, _plain.Plain(stream))
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]
    assert stream.getvalue() == ""


def test_a_partial_record_of_another_plan_is_put_aside(tmp_path: Path) -> None:
    partial = make_record([make_cell()], partial=True, partial_reason="interrupted")
    record.write(tmp_path / RECORD, partial)
    quick = {**partial, "method": {**partial["method"], "rounds": 3}}
    run_pack._put_aside(tmp_path, quick, _plain.Plain(io.StringIO()))
    assert [path.name for path in tmp_path.iterdir()] == [f"record-{partial['id']}.json"]


def test_progress_is_lines_of_text_with_the_time_that_is_left() -> None:
    stream, now = io.StringIO(), 0.0
    say = _plain.Plain(stream, lambda: now)
    with say.progress("measure", 10) as advance:
        advance(0, cell="detect")
        for _ in range(5):
            now += 10
            advance(1)
        advance(0, more=10)
    assert stream.getvalue().splitlines() == [
        "measure   0 %, time left not known yet: detect",
        "measure  20 %, about 80 s left: detect",
        "measure  40 %, about 60 s left: detect",
        "measure: 5 of 20 steps in 50 s",
    ]
    assert [_plain.rough(seconds) for seconds in (40.2, 95, 6000)] == ["40 s", "2 min", "1.7 h"]


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_one_line_and_strange_letters_do_no_harm() -> None:
    shown = io.BytesIO()
    say = _plain.Plain(Terminal(shown, encoding="ascii"), lambda: 0.0)
    with say.progress("measure", 2) as advance:
        advance(1, cell="640×384")
        advance(1, cell="b")
    say("…")
    text = shown.getvalue().decode("ascii")
    assert text.count("\n") == 2
    assert "\rmeasure 100 %, about 0 s left: b" in text
    assert "640?384" in text
    assert text.endswith("?\n")
