"""Where the weights of a benchmark come from, what stands in for them, and which cells are impossible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import weights
from pipeline.bench import subjects
from pipeline.errors import MissingDependency, NetworkError, TrainingError, UsageError
from pipeline.yolo import standin
from tests import tiny_model

CHECKPOINT = subjects.Model("yolo11n", "detect", Path("yolo11n.pt"), "official", "local file", "0" * 64)
POSE = replace(CHECKPOINT, name="yolo11n-pose", task="pose")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    return tiny_model.write(root / "yolo11n.pt", root / "cache")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, cache: Path) -> Any:
        raise NetworkError("github.com cannot be reached")

    monkeypatch.setattr(weights, "released", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_without_a_release_the_detector_lends_its_weights(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pipeline import images
    from pipeline.yolo import ultralytics

    cache = source.parent / "cache"
    model = subjects.find("yolo11n", "pose", cache, source.parent)
    assert (model.name, model.weights, model.parameters) == ("yolo11n-pose", "transferred", 2_874_462)
    assert model.origin.startswith("493 of 541 tensors from yolo11n.pt (local file), the rest random; github.com")

    given, made = (ultralytics(cache).YOLO(str(path)).model.state_dict() for path in (source, model.path))
    assert torch.equal(made["model.0.conv.weight"], given["model.0.conv.weight"])
    # Random layers are measured, lest all signal shrinks to nothing.
    measured = made["model.23.cv4.0.0.bn.running_var"]
    assert measured.std() > 0
    assert not torch.equal(measured, torch.ones_like(measured))

    subject = subjects.load(subjects.Request(model, "pytorch", threads=1, cache=cache))
    from ultralytics.utils import ASSETS

    [found] = subject.postprocess(subject.inference(subject.preprocess([images.decode(Path(ASSETS) / "bus.jpg")])))
    assert 1 <= len(found.detections) <= standin.CANDIDATES

    monkeypatch.setattr(standin, "build", lambda *rest: pytest.fail("built again"))
    assert subjects.find("yolo11n", "pose", cache, source.parent) == model
    assert subjects.find("yolo11n-pose.pt", "pose", cache, source.parent) == model


@pytest.mark.slow
def test_with_no_weights_at_all_it_is_random_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_download", lambda *rest: (_ for _ in ()).throw(NetworkError("github.com is silent")))
    model = subjects.find("yolo11s", "classify", tmp_path / "cache", tmp_path)
    assert (model.weights, model.origin) == ("random", "random; github.com is silent")


@pytest.mark.slow
def test_a_release_comes_before_a_stand_in_and_a_local_file_before_both(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    released = weights.Weights(source, "yolo11n.pt", "release https://example.org", weights.sha256_of(source))
    monkeypatch.setattr(weights, "released", lambda name, cache: released)
    cache = source.parent / "cache"
    model = subjects.find("yolo11n", "detect", cache, tmp_path)
    assert (model.weights, model.origin, model.path) == ("official", "release https://example.org", source)
    local = subjects.find("yolo11n", "detect", cache, source.parent)
    assert (local.weights, local.origin) == ("official", "local file")
    assert subjects.find("yolo11n.pt", "detect", cache, source.parent).weights == "fine-tuned"


@pytest.mark.parametrize(
    ("model", "task", "told"),
    [
        ("yolo11n", "depth", "There is no task 'depth'"),
        ("yolo11q", "detect", "no official model is called 'yolo11q'"),
        ("best.pt", "detect", r"There is no file .*best\.pt"),
        ("yolo11n-seg", "pose", "'yolo11n-seg' is no model for 'pose'"),
        ("yolov9t", "segment", "'yolov9t' is no model for 'segment'"),
    ],
)
def test_names_that_mean_nothing(model: str, task: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        subjects.find(model, task, tmp_path, tmp_path)
    assert caught.value.hint


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"not a model")
    with pytest.raises(TrainingError, match="damaged or not a checkpoint"):
        subjects.find("best.pt", "detect", tmp_path, tmp_path)
    (tmp_path / "best.h5").write_bytes(b"not a model")
    with pytest.raises(UsageError, match="no runtime runs such a file"):
        subjects.find("best.h5", "detect", tmp_path, tmp_path)


CELLS = [
    (subjects.Request(CHECKPOINT, "pytorch"), ""),
    (subjects.Request(CHECKPOINT, "pytorch", "fp16"), "pytorch runs the checkpoint as it was trained, in fp32"),
    (subjects.Request(CHECKPOINT, "onnx", "int4"), "onnx has no int4 (it has fp32, fp16, int8)"),
    (subjects.Request(CHECKPOINT, "onnx", "int8"), "int8 needs images to take its value ranges from"),
    (subjects.Request(POSE, "onnx", "int8", calibration=(Path("a.jpg"),)), "int8 is made of detectors only"),
    (subjects.Request(CHECKPOINT, "litert", device="gpu"), "LiteRT runs on the CPU here, and the device is 'gpu'"),
    (
        subjects.Request(CHECKPOINT, "onnx", device="npu"),
        "ONNX Runtime runs on the CPU or on an NVIDIA GPU, and the device is 'npu'",
    ),
    (subjects.Request(replace(CHECKPOINT, path=Path("best.xml")), "onnx"), "best.xml is a file for openvino"),
]


@pytest.mark.parametrize(("request_", "reason"), CELLS, ids=[reason[:40] or "possible" for _, reason in CELLS])
def test_impossible_cells_have_a_reason(request_: subjects.Request, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: [])
    monkeypatch.setattr("pipeline.runtimes.unavailable", lambda name: "")
    assert subjects.why_not(request_) == reason


def test_what_is_not_installed_or_cannot_be_made_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: ["openvino"])
    told = subjects.why_not(subjects.Request(CHECKPOINT, "openvino"))
    assert "openvino must be installed" in told
    assert '-e ".[openvino]"' in told
    monkeypatch.setattr("pipeline.runtimes.unavailable", lambda name: "this machine has no NVIDIA GPU")
    assert subjects.why_not(subjects.Request(CHECKPOINT, "engine")) == "this machine has no NVIDIA GPU"


def test_a_runtime_of_detectors_alone_says_so_for_the_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was added by `docs/extending.md`."""
    from pipeline.runtimes import onnx

    monkeypatch.delattr(onnx, "open_network")
    assert subjects.why_not(subjects.Request(POSE, "onnx")) == "onnx runs detectors only"


def test_a_device_that_is_not_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: str) -> str:
        raise MissingDependency("no CUDA here.", "pip install it.")

    monkeypatch.setattr("pipeline.runtimes.missing_modules", lambda modules: [])
    monkeypatch.setattr("pipeline.runtimes.onnx.place", refuse)
    assert subjects.why_not(subjects.Request(CHECKPOINT, "onnx", device="cuda")) == "no CUDA here. pip install it"
