"""The export stage: what it publishes, what it refuses, and what it leaves for another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import exports, images, machine, runtimes
from pipeline.dataset import Dataset
from pipeline.errors import DataError, ExportError, ExportMismatch, MissingDependency, ParamsError, TrainingError, UsageError
from pipeline.runtimes import LoadOptions, engine
from pipeline.runtimes._isolated import isolated
from pipeline.stage import Context
from pipeline.stages.export import STAGE, Params, external, preflight
from tests import tiny_model

needs_no_gpu = pytest.mark.skipif(bool(machine.gpu_names()), reason="tells what happens without an NVIDIA GPU")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights as a training's artifact, and a split whose labels are what those weights see."""
    root = tmp_path_factory.mktemp("trained")
    weights = tiny_model.write(root / "train/weights/best.pt", root / "cache")
    (root / "train/args.yaml").write_text(f"imgsz: {tiny_model.IMGSZ}\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for number in range(8):
        pixels = rng.integers(0, 256, (16, 16 + number, 3), dtype=np.uint8).repeat(6, axis=0).repeat(6, axis=1)
        images.save(root / f"split/images/{number}.png", pixels)
        height, width = pixels.shape[:2]
        rows.append({"path": f"{number}.png", "width": width, "height": height, "split": "train" if number < 4 else "test"})
    detector = runtimes.module("pytorch").load(weights, "cpu", LoadOptions(threads=1, cache=root / "cache"))
    boxes = []
    for number, row in enumerate(rows):
        found = detector.predict([images.decode(root / "split/images" / str(row["path"]))])[0].above(0.3)
        boxes += [(number, k, *edges) for k, edges in zip(found.class_ids, found.boxes, strict=True)]
    Dataset.from_rows(tiny_model.NAMES, rows, boxes).save(root / "split")
    return {"train": root / "train", "split": root / "split"}


def context(tmp_path: Path, said: list[str] | None = None) -> Context:
    return Context(cache=tmp_path / "cache", device="cpu", warn=(said if said is not None else []).append)


@pytest.mark.slow
@needs_no_gpu
def test_what_agrees_is_published_and_an_engine_is_left_to_the_gpu_machine(trained: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "out"
    # Random weights crowd boxes on the edge of suppression, where a rounding decides; a trained model's drop is 0.
    params = Params(formats=["onnx", "tensorrt:fp16"], max_map_drop=0.1)
    summary = STAGE.run(trained, params, out, context(tmp_path, said))

    done = summary["onnx"]
    assert (done["status"], done["file"], done["imgsz"]) == ("ok", "onnx/best.onnx", [96, 96])
    assert done["size_bytes"] == (out / done["file"]).stat().st_size > 1e6
    assert done["export_s"] > 0
    assert abs(done["map_drop"]) < 0.1
    assert 0 < done["map50_95"] <= done["map50"] <= 1
    assert done["parity"]["images"] == 4
    assert done["parity"]["fraction"] > 0.99
    assert done["parity"]["worst_image"] in {"4.png", "5.png", "6.png", "7.png"}

    skipped = summary["engine:fp16"]
    assert skipped["status"] == "skipped"
    assert "no NVIDIA GPU" in skipped["reason"]
    assert any("engine:fp16: skipped" in text for text in said)
    told = (out / "engine-fp16" / engine.INSTRUCTIONS).read_text(encoding="utf-8")
    assert "build('best.onnx', 'best.engine')" in told
    assert '-e ".[train,onnx,tensorrt]"' in told, "what building imports"
    assert (out / "engine-fp16/best.onnx").stat().st_size < 0.6 * done["size_bytes"], "half precision"

    assert json.loads((out / "exports.json").read_text(encoding="utf-8")) == list(summary.values())
    report = json.loads((out / "parity.json").read_text(encoding="utf-8"))
    assert (report["split"], report["images"]) == ("test", 4)
    assert report["models"]["pytorch"]["map50_95"] == pytest.approx(done["map50_95"] + done["map_drop"])

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("best.onnx")}
    again = STAGE.run(trained, params, out, context(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("best.onnx")} == stamps, "a killed run's artifacts are kept"
    assert again == summary


@pytest.mark.slow
def test_an_artifact_that_differs_fails_the_stage(trained: dict[str, Path], tmp_path: Path) -> None:
    params = Params(formats=["onnx:int8"], max_map_drop=0.0, min_agreement=1.0, calibration_images=2)
    with pytest.raises(ExportMismatch) as caught:
        STAGE.run(trained, params, tmp_path / "out", context(tmp_path))
    text = str(caught.value)
    assert caught.value.exit_code == 5
    assert "onnx:int8" in text
    assert "worst image: " in text
    assert "export.max_map_drop" in text


def test_the_gate_names_format_measure_limit_and_image() -> None:
    agreement = {"fraction": 0.5, "matched": 5, "boxes": 10, "max_edge_px": 12.34, "worst_image": "a/b.jpg"}
    figures = {
        "pytorch": {"map50_95": 0.5, "map50": 0.8},
        "onnx": {"map50_95": 0.46, "map50": 0.8, "map_drop": 0.04, "parity": agreement},
    }
    exports.check(figures, exports.Limits(max_map_drop=0.05, min_agreement=0.5))
    with pytest.raises(ExportMismatch) as caught:
        exports.check(figures, exports.Limits(max_map_drop=0.01, min_agreement=0.9))
    assert caught.value.problems == (
        "onnx: mAP50-95 is 0.0400 lower (0.5000 → 0.4600), allowed is 0.01 (export.max_map_drop); "
        "worst image: a/b.jpg (boxes up to 12.3 px apart)",
        "onnx: 5 of 10 boxes have a partner (50.0%), needed are 90.0% (export.min_agreement); "
        "worst image: a/b.jpg (boxes up to 12.3 px apart)",
    )


def test_an_empty_test_split_is_replaced_by_val_and_said(trained: dict[str, Path], tmp_path: Path) -> None:
    from pipeline.stages.export import _judged

    dataset = Dataset.load(trained["split"])
    said: list[str] = []
    moved = Dataset(dataset.class_names, dataset.images.replace({"split": {"test": "val"}}), dataset.boxes)
    part, split = _judged(moved, context(tmp_path, said))
    assert (split, len(part.images)) == ("val", 4)
    assert "compared on val" in said[0]
    with pytest.raises(DataError, match="no image in test or val"):
        _judged(dataset.of_split("train"), context(tmp_path))


def test_one_format_has_one_name() -> None:
    assert Params(formats=["tflite", "trt:fp16"]).formats == ["litert", "engine:fp16"]
    assert Params(formats=["tflite"]) == Params(formats=["litert"])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"formats": ["onx"]}, "Did you mean 'onnx'"),
        ({"formats": ["litert:fp16"]}, "litert supports fp32, int8, w8a32"),
        ({"formats": ["pytorch"]}, "what an export starts from"),
        ({"formats": ["onnx", "onnx:fp32"]}, "given twice"),
        ({"imgsz": 100}, "multiples of 32"),
        ({"imgsz": [96]}, "multiples of 32"),
    ],
)
def test_impossible_params_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ParamsError, match=r"export\.") as caught:
        Params(**values)
    assert told in str(caught.value)


def test_a_missing_extra_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "litert_torch" else real(name, *rest))
    monkeypatch.setattr("pipeline.runtimes.litert.unavailable", lambda: "")
    with pytest.raises(MissingDependency, match=r"export\.formats: To export to litert, litert_torch must") as caught:
        preflight(Params(formats=["onnx", "tflite"]), Context())
    assert '-e ".[litert]"' in caught.value.hint
    preflight(Params(formats=["onnx", "engine"]), Context())


@needs_no_gpu
def test_a_machine_with_a_gpu_makes_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = Params(formats=["onnx", "engine"])
    without = external(params, context(tmp_path))
    assert without == {"engine": "this machine has no NVIDIA GPU"}
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA H100"])
    versions = {"tensorrt-cu13": "11.4.0"}  # as its distribution is called on PyPI
    monkeypatch.setattr(machine, "version_of", lambda name: versions.get(name, ""))
    assert external(params, context(tmp_path))["engine"] == "NVIDIA H100, TensorRT 11.4.0"


def test_params_are_checked_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from pipeline.stages.export import Params, external; from pipeline.stage import Context;"
        "external(Params(formats=['onnx:int8', 'litert', 'engine']), Context());"
        "print(sorted({'numpy', 'cv2', 'pandas', 'torch', 'ultralytics', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- exporters in a process of their own


def _speak_and_fail() -> None:
    os.write(1, b"converter: node 7 is not supported\n")
    raise KeyError("node 7")


def _refuse() -> None:
    raise ParamsError("no", "do this")


def _die() -> None:
    os._exit(7)


def test_an_exporter_that_fails_shows_what_it_said(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="thing: KeyError: 'node 7'") as caught:
        isolated("thing", _speak_and_fail)
    assert "converter: node 7 is not supported" in caught.value.problems
    assert capfd.readouterr().out == ""


def test_our_own_errors_and_a_death_come_through() -> None:
    with pytest.raises(ParamsError, match="no\ndo this"):
        isolated("thing", _refuse)
    with pytest.raises(ExportError, match="exit code 7"):
        isolated("thing", _die)
    assert isolated("thing", abs, -3) == 3


# --- TensorRT: built against a stand-in, since the real one needs a GPU; it shows our side of the conversation, not TensorRT's


class StandIn(ModuleType):
    """As much of `tensorrt` as a build uses; remembers the network's flag."""

    __version__ = "10.9.0"

    def __init__(self, parses: bool = True) -> None:
        super().__init__("tensorrt")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        severities = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
        self.ILogger = type("ILogger", (), {"Severity": severities})
        self.BuilderFlag = SimpleNamespace(TF32="tf32")
        self.cleared: list[str] = []
        self.flags: list[int] = []
        self.devices: list[str] = []
        """Those that were chosen by `torch.cuda.device` and not left yet."""
        self.made_on: list[tuple[str, str]] = []
        network = SimpleNamespace(get_input=lambda number: SimpleNamespace(name="images", shape=(1, 3, 96, 96)))
        self.OnnxParser = lambda network, logger: SimpleNamespace(
            parse_from_file=lambda path: parses, num_errors=1, get_error=lambda number: "unsupported operator"
        )
        self.Builder = lambda logger: SimpleNamespace(
            create_network=lambda flags: self.flags.append(flags) or network,
            create_builder_config=lambda: SimpleNamespace(clear_flag=self.cleared.append),
            build_serialized_network=lambda network, config: self.note("build") or b"engine",
        )
        loaded = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=lambda number: ("images", "output0")[number],
            get_tensor_shape=lambda name: (1, 3, 96, 96),
            create_execution_context=lambda: self.note("context"),
        )
        self.says = ""

        def deserialize(logger: Any) -> object:
            self.note("engine")
            logger.log(severities.WARNING, "[W] a lot")
            if not self.says:
                return loaded
            logger.log(severities.ERROR, self.says)
            return None

        self.Runtime = lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: deserialize(logger))

    def note(self, what: str) -> None:
        self.made_on.append((what, self.devices[-1] if self.devices else "the current device"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    import contextlib

    import torch

    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setattr(machine, "gpu_names", lambda: ["Stand-in 4090"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Stand-in 4090")

    @contextlib.contextmanager
    def chosen(device: str) -> Iterator[None]:
        stand_in.devices.append(device)
        yield
        stand_in.devices.pop()

    monkeypatch.setattr(torch.cuda, "device", chosen)
    engine._logger.cache_clear()
    return stand_in


def onnx_with_metadata(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("images", "output0")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["output0"])], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog'}", "imgsz": "[96, 96]", "batch": "1"})
    onnx.save(model, path)
    return path


def test_an_engine_is_bound_to_its_gpu_and_version(gpu: StandIn, tmp_path: Path) -> None:
    made = engine.build(onnx_with_metadata(tmp_path / "best.onnx"), tmp_path / "best.engine")
    assert made.read_bytes() == b"engine"
    assert gpu.flags == [1 << 1], "precision is the file's, not the builder's"
    assert gpu.cleared == ["tf32"], "fp32 is fp32"
    binding = engine.check_binding(made, "Stand-in 4090", "10.9.0")
    assert (binding["class_names"], binding["imgsz"], binding["batch"]) == (["cat", "dog"], [96, 96], 1)
    with pytest.raises(
        TrainingError, match=r"built for Stand-in 4090 by TensorRT 10\.9\.0; this machine has Other and TensorRT 10"
    ):
        engine.check_binding(made, "Other", "10.9.0")
    with pytest.raises(TrainingError, match=r"Stand-in 4090 and TensorRT 11\.0\.1"):
        engine.check_binding(made, "Stand-in 4090", "11.0.1")
    (tmp_path / "best.engine.json").unlink()
    with pytest.raises(TrainingError, match="nothing says which GPU"):
        engine.check_binding(made, "Stand-in 4090", "10.9.0")


def test_an_engine_and_its_context_are_made_on_the_gpu_that_was_asked_for(gpu: StandIn, tmp_path: Path) -> None:
    """TensorRT binds both to the device that is current, which torch takes for the first one unless told otherwise."""
    made = engine.build(onnx_with_metadata(tmp_path / "best.onnx"), tmp_path / "best.engine", "cuda:1")
    detector = engine.load(made, "cuda:1")
    assert gpu.made_on == [("build", "cuda:1"), ("engine", "cuda:1"), ("context", "cuda:1")]
    assert (detector.device, detector.class_names, detector.imgsz) == ("cuda:1", ("cat", "dog"), (96, 96))


def test_fp32_is_not_tf32_in_onnx_runtime_and_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pipeline.runtimes import onnx, pytorch

    (name, options), cpu = onnx._providers("cuda:1", [onnx.CUDA, "CPUExecutionProvider"])
    assert (name, options, cpu) == (onnx.CUDA, {"device_id": 1, "use_tf32": 0}, "CPUExecutionProvider")
    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    with pytest.raises(RuntimeError), pytorch._full_precision():
        assert not any(place.allow_tf32 for place in places)
        raise RuntimeError
    assert [place.allow_tf32 for place in places] == before, "training keeps what it had"


def test_a_tensorrt_without_a_distribution_has_a_version(gpu: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version_of", lambda name: "")
    assert engine.machine_key() == "Stand-in 4090, TensorRT 10.9.0"


def test_an_engine_that_tensorrt_refuses_says_why(gpu: StandIn, tmp_path: Path) -> None:
    made = engine.build(onnx_with_metadata(tmp_path / "best.onnx"), tmp_path / "best.engine")
    gpu.says = "Error Code 6: The engine cannot run on this GPU,\n which has compute capability 9.0"
    with pytest.raises(
        TrainingError, match=r"cannot load .*: Error Code 6: The engine cannot run on this GPU, which has"
    ) as caught:
        engine.load(made)
    assert "a lot" not in caught.value.message
    gpu.says = "another"
    with pytest.raises(TrainingError, match=r"best\.engine: another$"):
        engine.load(made)


@pytest.mark.parametrize("content", ["[]", "{}", '{"gpu": "Stand-in 4090", "tensorrt": "10.9.0"}', "torn {"])
def test_a_binding_that_is_not_whole_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "best.engine.json").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match="nothing says which GPU"):
        engine.check_binding(tmp_path / "best.engine", "Stand-in 4090", "10.9.0")


def test_a_network_that_tensorrt_cannot_parse_is_an_export_error(gpu: StandIn, tmp_path: Path) -> None:
    sys.modules["tensorrt"] = StandIn(parses=False)
    with pytest.raises(ExportError, match="unsupported operator"):
        engine.build(onnx_with_metadata(tmp_path / "best.onnx"), tmp_path / "best.engine")
    assert not (tmp_path / "best.engine").exists()


@needs_no_gpu
def test_an_engine_without_a_gpu_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs an NVIDIA GPU: this machine has no NVIDIA GPU"):
        engine.load(tmp_path / "best.engine")
