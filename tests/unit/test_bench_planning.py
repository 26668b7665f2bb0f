"""From models and a grid to cells: which are impossible, which files they run, what the record says of a file."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import planning, subjects
from pipeline.bench.grid import Axes
from pipeline.bench.inputs import Inputs
from pipeline.bench.measure import measure
from pipeline.bench.planning import Possible, Source
from pipeline.bench.settings import Setting
from pipeline.errors import ExportError
from pipeline.store import Store
from tests import bench_loaders, tiny_model
from tests.bench_workspace import ROOTS, SIZE, artifact, describe, exported, find
from tests.contract.test_runtimes import noise

NOTHING = Axes(runtimes=[], precisions=[])
"""Nothing is asked for."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, ROOTS)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    from pipeline import images

    images.save(tmp_path / "photo.png", noise(48, 64, seed=1))
    return Inputs((tmp_path / "photo.png",), ({"name": "photo.png"},))


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: [])


def lay_out(source: Source, wanted: Axes, inputs: Inputs, store: Store) -> tuple[list[Possible], dict[Setting, str]]:
    possible, skipped = planning.lay_out([source], wanted, inputs, store.cache)
    return possible, dict(skipped)


@contextmanager
def progress(label: str, total: int) -> Iterator[Any]:
    yield lambda n=1, **info: None


def hash_of(*texts: str | bytes) -> str:
    data = b"".join(text.encode() if isinstance(text, str) else text for text in texts)
    return hashlib.blake2b(data, digest_size=16).hexdigest()


# ---------------------------------------------------------------- which cells


def source_of(store: Store, name: str = "mine.pt", task: str = "detect") -> Source:
    path = store.workspace / name
    path.write_text(f"a model: {name}")
    describe(path, store.cache, task)
    return find(store, name)[0]


def test_where_nothing_is_asked_for_it_is_what_there_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = exported(store, [artifact("onnx", "a/best.onnx"), artifact("litert", "b/best.tflite", "int8")])
    axes = planning.axes_for(find(store, version.name)[0], NOTHING)
    assert (axes.runtimes, axes.precisions) == (["pytorch", "onnx", "litert"], ["fp32", "int8"])
    axes = planning.axes_for(source_of(store, "mine.onnx"), NOTHING)
    assert (axes.runtimes, axes.precisions) == (["onnx"], ["fp32"])
    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: [name for name in modules if name == "openvino"])
    axes = planning.axes_for(source_of(store), NOTHING)
    assert axes.runtimes == ["pytorch", "onnx", "litert", "engine"]
    axes = planning.axes_for(source_of(store), Axes(["openvino", "onnx", "openvino"], ["fp16"]))
    assert (axes.runtimes, axes.precisions) == (["openvino", "onnx"], ["fp16"])


def test_of_an_export_every_file_is_a_cell_and_nothing_else_is(store: Store, inputs: Inputs) -> None:
    """And not int8 of LiteRT, say, which nobody made and which would be calibrated on the benchmark's few photos."""
    records = [artifact("onnx", "a/best.onnx"), artifact("onnx", "b/best.onnx", "int8"), artifact("litert", "c/best.tflite")]
    [source] = find(store, exported(store, records).name)
    possible, skipped = lay_out(source, NOTHING, inputs, store)
    assert [(each.setting.runtime, each.setting.precision) for each in possible] == [
        ("pytorch", "fp32"),
        ("onnx", "fp32"),
        ("litert", "fp32"),
        ("onnx", "int8"),
    ]
    assert skipped == {}
    assert {each.request.model.path for each in possible} == {each.model.path for each in source.artifacts.values()}
    asked, refused = lay_out(source, replace(NOTHING, precisions=["int8"]), inputs, store)
    assert [each.setting.runtime for each in asked] == ["onnx", "litert"]
    assert list(refused.values()) == ["pytorch runs the checkpoint as it was trained, in fp32"]


def test_every_impossible_cell_has_its_reason_and_nothing_is_made(
    store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "export", lambda request: pytest.fail("exported"))
    monkeypatch.setattr(subjects, "load", lambda *rest: pytest.fail("loaded"))
    monkeypatch.setattr("pipeline.runtimes.unavailable", lambda name: "no NVIDIA GPU" if name == "engine" else "")
    wanted = Axes(["pytorch", "onnx", "litert", "engine"], ["fp32", "int8"], ["cpu", "npu"], threads=[1, 2])
    possible, skipped = lay_out(source_of(store, task="pose"), wanted, inputs, store)
    assert [str(each.setting) for each in possible] == [
        f"pose, {runtime} fp32, cpu, {threads}, 96 px"
        for threads in ("1 thread", "2 threads")
        for runtime in ("pytorch", "onnx", "litert")
    ]
    reasons = {(cell.runtime, cell.precision, cell.device): reason for cell, reason in skipped.items()}
    assert reasons["engine", "fp32", "cpu"] == "no NVIDIA GPU"
    assert reasons["pytorch", "int8", "cpu"] == "pytorch runs the checkpoint as it was trained, in fp32"
    assert reasons["onnx", "int8", "cpu"] == "int8 is made of detectors only"
    assert "npu" in reasons["onnx", "fp32", "npu"]
    assert len(possible) + len(skipped) == 4 * 2 * (2 + 1)
    assert all(reason and not reason.endswith(".") for reason in skipped.values())


def test_a_cell_of_another_size_or_batch_is_exported_anew(store: Store, inputs: Inputs) -> None:
    [source] = find(store, exported(store, [artifact("onnx", "onnx/best.onnx")]).name)
    wanted = Axes(["onnx"], [], imgsz=[SIZE, (64, 64)], batches=[1, 2], scenarios=["offline"])
    possible, _ = lay_out(source, wanted, inputs, store)
    own = source.artifacts["onnx", "fp32"].model.path
    found = {(each.setting.imgsz, each.setting.batch): each.request.model.path for each in possible}
    assert found.pop((SIZE, 1)) == own
    assert set(found.values()) == {source.model.path}


# ---------------------------------------------------------------- what the record says of files


def plan_of(
    source: Source, wanted: Axes, inputs: Inputs, store: Store, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> planning.Plan:
    """With `made` by runtime and size in place of exports; a model that is run as it is stays so."""

    def export(request: subjects.Request) -> Path:
        if request.model.runtime == request.runtime:
            return request.model.path
        if (key := f"{request.runtime} {request.imgsz[0]}") not in made:
            raise ExportError("best.pt: the exporter\n  gave up.", problems=["a line of its log"])
        return made[key]

    monkeypatch.setattr(subjects, "export", export)
    possible, _ = planning.lay_out([source], wanted, inputs, store.cache)
    return planning.plan(possible, inputs, progress)


def openvino(folder: Path, text: str = "<net/>") -> Path:
    folder.mkdir()
    (folder / "best.bin").write_bytes(b"0123456789")
    (folder / "best.xml").write_text(text)
    return folder / "best.xml"


def test_a_file_is_known_by_its_own_hash_and_that_of_its_weights(
    store: Store, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"openvino 96": openvino(tmp_path / "made")}
    source = source_of(store)
    plan = plan_of(source, Axes(["pytorch", "openvino"]), inputs, store, made, monkeypatch)
    plain, graph = plan.models["mine/pytorch/fp32/96x96/1"], plan.models["mine/openvino/fp32/96x96/1"]
    weights = hash_of("a model: mine.pt")
    assert plain == {
        "name": "mine",
        "task": "detect",
        "runtime": "pytorch",
        "precision": "fp32",
        "file_hash": weights,
        "weights_hash": weights,
        "weights": "fine-tuned",
        "parameters": 1000,
        "gflops": 0.5,
        "bytes": len("a model: mine.pt"),
        "map50_95": None,
        "map50": None,
        "measured_on": "",
    }
    assert (graph["file_hash"], graph["weights_hash"]) == (hash_of("<net/>", b"0123456789"), weights)
    assert graph["bytes"] == len("<net/>") + 10
    assert [each.setting.model for each in plan.planned] == list(plan.models)


def test_of_a_file_that_is_no_checkpoint_the_weights_are_unknown(
    store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(source_of(store, "mine.onnx"), NOTHING, inputs, store, {}, monkeypatch)
    assert plan.models["mine/onnx/fp32/96x96/1"]["weights_hash"] == ""


def test_an_export_that_fails_is_a_skipped_cell(store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(source_of(store), Axes(["pytorch", "onnx"]), inputs, store, {}, monkeypatch)
    assert [each.setting.runtime for each in plan.planned] == ["pytorch"]
    assert [(cell.runtime, reason) for cell, reason in plan.failed] == [("onnx", "best.pt: the exporter gave up")]
    assert list(plan.models) == ["mine/pytorch/fp32/96x96/1"]


def test_cells_that_run_one_file_ask_for_it_once(store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it cannot be made: an exporter takes half a minute to give up."""
    asked = []

    def export(request: subjects.Request) -> Path:
        asked.append((request.runtime, request.batch))
        raise ExportError("best.pt: the exporter gave up.")

    monkeypatch.setattr(subjects, "export", export)
    wanted = Axes(["onnx", "openvino"], ["fp32"], batches=[1, 2], threads=[1, 2, 3], scenarios=["single-stream", "offline"])
    possible, _ = planning.lay_out([source_of(store)], wanted, inputs, store.cache)
    plan = planning.plan(possible, inputs, progress)
    assert sorted(asked) == [("onnx", 1), ("onnx", 2), ("openvino", 1), ("openvino", 2)]
    assert len(plan.failed) == len(possible) == 18


@pytest.mark.parametrize("batches", [[16], [16, 4]])
def test_an_exporter_without_memory_tries_half_the_batch(
    batches: list[int], store: Store, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(request: subjects.Request) -> Path:
        if request.batch > 4:
            log = ["terminate called after throwing an instance of 'std::bad_alloc'"]
            raise ExportError("onnx: the process ended with exit code -6", problems=log)
        return tmp_path / "mine.pt"

    source = source_of(store)
    monkeypatch.setattr(subjects, "export", export)
    wanted = Axes(["onnx"], ["fp32"], batches=batches, threads=[1], scenarios=["offline"])
    possible, _ = planning.lay_out([source], wanted, inputs, store.cache)
    plan = planning.plan(possible, inputs, progress)
    assert [each.setting.batch for each in plan.planned] == [4]
    assert [setting.batch for setting, _ in plan.failed] == [16, 8]
    assert plan.failed[0][1].endswith("exit code -6; out of memory at batch 16: batch 8 is tried instead")
    assert plan.planned[0].setting.model in plan.models


def test_accuracy_is_that_of_the_very_file_at_the_size_it_was_measured_at(
    store: Store, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller input is faster and finds less: with the accuracy of the larger one it would win every choice."""
    [source] = find(store, exported(store, [artifact("onnx", "onnx/best.onnx", map50_95=0.59)]).name)
    smaller, new = tmp_path / "smaller.onnx", openvino(tmp_path / "new")
    smaller.write_text("an export of 64 px")
    made = {"onnx 64": smaller, "openvino 64": new, "openvino 96": new}
    wanted = Axes(["pytorch", "onnx", "openvino"], ["fp32"], imgsz=[(64, 64), SIZE])
    plan = plan_of(source, wanted, inputs, store, made, monkeypatch)
    told = {(each.setting.runtime, each.setting.imgsz): plan.models[each.setting.model] for each in plan.planned}
    known = {key: (model["map50_95"], model["measured_on"]) for key, model in told.items() if model["map50_95"] is not None}
    on = "split@v1 test, 30 images"
    assert known == {("pytorch", SIZE): (0.6, on), ("onnx", SIZE): (0.59, on)}
    assert told["onnx", (64, 64)]["file_hash"] == hash_of("an export of 64 px")
    assert told["onnx", SIZE]["file_hash"] != told["onnx", (64, 64)]["file_hash"]


# ---------------------------------------------------------------- less memory


@pytest.mark.slow
def test_a_smaller_batch_is_exported_where_it_is_measured(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    path = tiny_model.write(tmp_path / "tiny.pt", cache, task="classify")
    [source] = planning.sources("tiny.pt", [], Store(tmp_path, ROOTS), cache, tmp_path)
    wanted = Axes(["onnx"], ["fp32"], batches=[2], threads=[1], scenarios=["offline"])
    possible, skipped = planning.lay_out([source], wanted, inputs, cache)
    assert skipped == []
    with monkeypatch.context() as patched:  # the file of a batch that is not loaded
        patched.setattr(subjects, "export", lambda request: path)
        plan = planning.plan(possible, inputs, progress)
    [large] = plan.planned
    no_memory = replace(large, load=partial(bench_loaders.loaded, 8, "memory above 2"))
    groups = measure([no_memory], bench_loaders.FAST, lambda n=1, **info: None, sleep=lambda seconds: None)
    failed, smaller = (cell for group in groups for cell in group)
    assert failed["reasons"][1] == "out of memory at batch 2: batch 1 is tried instead"
    assert (smaller["status"], smaller["batch"], smaller["reasons"]) == ("valid", 1, [])
    assert smaller["phases"].keys() == {"decode", "preprocess", "inference", "postprocess", "end_to_end"}
    assert smaller["model"] in plan.models
    assert list((cache / "benchmark" / "exports").glob("tiny-*/onnx/*.onnx"))
    assert not multiprocessing.active_children()
