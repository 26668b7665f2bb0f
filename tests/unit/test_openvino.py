"""OpenVINO's pair of files: what is in them, on which device and with what they run, and what is said of damaged ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import runtimes
from pipeline.errors import TrainingError, UsageError
from pipeline.runtimes import ExportOptions, LoadOptions
from pipeline.runtimes import openvino as runtime
from pipeline.stage import Context
from pipeline.stages import export
from tests import tiny_model

openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.slow
SIZE = (tiny_model.IMGSZ, tiny_model.IMGSZ)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openvino")
    return tiny_model.write(root / "best.pt", root / "cache")


@pytest.fixture(scope="module")
def model(weights: Path) -> Path:
    return runtime.export(weights, weights.parent / "made", ExportOptions(SIZE, cache=weights.parent / "cache"))


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    for path in (model, model.with_suffix(".bin")):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / model.name


def test_two_files_and_nothing_beside_them_with_equal_bytes_each_time(weights: Path, model: Path, tmp_path: Path) -> None:
    again = runtime.export(weights, tmp_path / "again", ExportOptions(SIZE, cache=weights.parent / "cache"))
    for folder in (model.parent, again.parent):
        assert sorted(path.name for path in folder.iterdir()) == ["best.bin", "best.xml"]
    assert again.read_bytes() == model.read_bytes()
    assert again.with_suffix(".bin").read_bytes() == model.with_suffix(".bin").read_bytes()
    assert b"tmp" not in model.read_bytes().lower(), "no path of this machine"


def test_the_threads_that_were_asked_for_compute_in_float32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a CPU with bfloat16 would answer otherwise than one without."""
    compiled: list[Any] = []
    original = openvino.Core.compile_model

    def watch(self: Any, *arguments: Any) -> Any:
        compiled.append(original(self, *arguments))
        return compiled[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", watch)
    runtimes.for_file(model).load(model, "cpu", LoadOptions(threads=1))
    [one] = compiled
    assert one.get_property("INFERENCE_NUM_THREADS") == 1
    assert one.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert "LATENCY" in str(one.get_property("PERFORMANCE_HINT"))


def test_a_dynamic_model_takes_flat_images_and_batches(weights: Path, tmp_path: Path) -> None:
    cache = weights.parent / "cache"
    path = runtime.export(weights, tmp_path, ExportOptions(SIZE, batch=4, dynamic=True, cache=cache))
    options = LoadOptions(threads=1, batch=4, rectangular=True, cache=cache)
    detector = runtime.load(path, "cpu", options)
    assert (detector.batch, detector.fixed_batch, detector.rectangular, detector.imgsz) == (4, False, True, SIZE)
    reference = runtimes.module("pytorch").load(weights, "cpu", options)
    inputs = np.random.default_rng(0).random((3, 3, 64, 96), dtype=np.float32)
    np.testing.assert_allclose(detector.forward(inputs), reference.forward(inputs), atol=0.01)


def cut_graph(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def cut_weights(path: Path) -> None:
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1000])


def lose_weights(path: Path) -> None:
    path.with_suffix(".bin").unlink()


def other_xml(path: Path) -> None:
    path.write_text("<annotation><filename>a.jpg</filename></annotation>")


def empty_graph(path: Path) -> None:
    path.write_text('<?xml version="1.0"?><net name="a" version="11"></net>')


def lose_names(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"<names value", b"<nomes value"))


def odd_names(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'<names value="{0:', b'<names value="{[0]:'))


DAMAGES = [
    (cut_graph, "cannot be loaded by OpenVINO"),
    (cut_weights, "cannot be loaded by OpenVINO: Incorrect weights in bin file"),
    (lose_weights, r"has no best\.bin beside it"),
    (other_xml, "is no OpenVINO model"),
    (empty_graph, "has no class names"),
    (lose_names, "has no class names"),
    (odd_names, "has no class names"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_damaged_files_get_one_line(damage: Any, told: str, copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damage(copy)
    with pytest.raises(TrainingError, match=told) as caught:
        runtime.load(copy, "cpu")
    assert str(copy) in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_devices_are_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["CPU", "GPU.0", "GPU.1", "NPU"]
    monkeypatch.setattr(openvino, "Core", lambda: type("Core", (), {"available_devices": there})())
    assert [runtime.place(each) for each in ("auto", "cpu", "gpu", "gpu:1", "npu")] == ["cpu", "cpu", "gpu", "gpu:1", "npu"]
    for device in ("gpu:2", "cuda", "mps", "gpu:", "AUTO"):
        with pytest.raises(UsageError, match=f"OpenVINO has no device '{device}' here") as caught:
            runtime.place(device)
        assert "cpu, gpu:0, gpu:1, npu" in caught.value.hint
    there[:] = ["CPU"]
    with pytest.raises(UsageError, match="no device 'npu'"):
        runtime.place("npu")


@pytest.mark.parametrize(
    ("where", "precision", "hint"),
    [("gpu", "fp32", "f32"), ("gpu:1", "fp16", "f16"), ("npu", "fp16", None), ("cpu", "fp16", "f32")],
)
def test_what_computes_in_which_precision(where: str, precision: str, hint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in: there is neither GPU nor NPU here."""
    seen: dict[str, Any] = {}

    class Core:
        def compile_model(self, model: Any, device: str, config: dict[str, Any]) -> Any:
            seen.update(config, device=device)
            return type("Compiled", (), {"create_infer_request": lambda self: None})()

    monkeypatch.setattr(openvino, "Core", Core)
    runtime._compile(None, Path("a.xml"), where, precision, 3)
    assert seen["device"] == where.upper().replace(":", ".")
    assert seen.get("INFERENCE_PRECISION_HINT") == hint
    assert seen.get("INFERENCE_NUM_THREADS") == (3 if where == "cpu" else None)


def test_a_gpu_of_pytorch_does_not_forbid_the_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is judged on the CPU then, as LiteRT is."""
    asked: list[str] = []
    monkeypatch.setattr("pipeline.devices.require", asked.append)
    monkeypatch.setattr(runtime, "place", lambda device, place=runtime.place: asked.append(device) or place(device))
    export.preflight(export.Params(formats=["openvino"]), Context(device="cuda:0", cache=tmp_path))
    assert asked == ["cuda:0", "auto"]


def test_other_runtimes_keep_their_threads_beside_it(model: Path, weights: Path) -> None:
    """OpenVINO brings threads of its own; PyTorch's number and the cores this process may use stay what they were."""
    import torch

    before = runtimes.module("pytorch").load(weights, "cpu", LoadOptions(threads=1, cache=weights.parent / "cache"))
    batch = np.zeros((1, 3, *SIZE), dtype=np.float32)
    before.forward(batch)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    runtime.load(model, "cpu", LoadOptions(threads=2)).forward(batch)
    assert torch.get_num_threads() == 1
    assert cores is None or os.sched_getaffinity(0) == cores
