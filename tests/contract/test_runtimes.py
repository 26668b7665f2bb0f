"""Every runtime through the same cases: what it is, what it answers, and whether that is what PyTorch answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import parity, runtimes
from pipeline.errors import MissingDependency, ParamsError, TrainingError, UsageError
from pipeline.inference import Detector
from pipeline.runtimes import ExportOptions, LoadOptions
from tests import tiny_model

SIZE = (tiny_model.IMGSZ, tiny_model.IMGSZ)
CASES = [
    pytest.param("pytorch", "fp32", id="pytorch"),
    pytest.param("onnx", "fp32", id="onnx"),
    pytest.param("onnx", "fp16", id="onnx-fp16", marks=pytest.mark.slow),
    pytest.param("onnx", "int8", id="onnx-int8", marks=pytest.mark.slow),
    pytest.param("litert", "fp32", id="litert", marks=pytest.mark.slow),
    pytest.param("openvino", "fp32", id="openvino", marks=pytest.mark.slow),
    pytest.param("openvino", "fp16", id="openvino-fp16", marks=pytest.mark.slow),
    pytest.param("openvino", "int8", id="openvino-int8", marks=pytest.mark.slow),
    pytest.param("engine", "fp32", id="engine", marks=pytest.mark.slow),
]

Loader = Callable[[str, str], Detector]


def noise(height: int, width: int, seed: int) -> Any:
    """Blocks of random colour: pixel noise would vanish when it is scaled."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (-(-height // 6), -(-width // 6), 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(6, axis=0).repeat(6, axis=1)[:height, :width])


IMAGES = {
    "square": noise(96, 96, 1),
    "wide": noise(40, 200, 2),
    "tall": noise(311, 97, 3),
    "large": noise(480, 640, 4),
    "tiny": noise(8, 8, 5),
    "line": noise(1, 300, 6),
    "grey": np.full((60, 90, 3), 127, dtype=np.uint8),
}


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Exports on first use; every artifact is made once a session."""
    root = tmp_path_factory.mktemp("runtimes")
    weights = tiny_model.write(root / "best.pt", root / "cache")
    loaded: dict[tuple[str, str], Detector] = {}

    def load(name: str, precision: str) -> Detector:
        if (name, precision) not in loaded:
            module = runtimes.module(name)
            path = weights
            if module.PRECISIONS:
                skip_unless_possible(name)
                options = ExportOptions(SIZE, precision, calibration=calibration_images(root), cache=root / "cache")
                path = module.export(weights, root / f"{name}-{precision}", options)
                assert path.name.endswith(module.SUFFIX)
            loaded[name, precision] = module.load(path, "auto", LoadOptions(threads=1, cache=root / "cache"))
        return loaded[name, precision]

    return load


def skip_unless_possible(name: str) -> None:
    if reason := runtimes.unavailable(name):
        pytest.skip(reason)
    try:
        runtimes.require(name, "load", "export")
    except MissingDependency as error:
        pytest.skip(error.message)


def calibration_images(root: Path) -> tuple[Path, ...]:
    from pipeline import images

    paths = tuple(root / f"{number}.png" for number in range(4))
    for number, path in enumerate(paths):
        images.save(path, noise(96, 96, 50 + number))
    return paths


@pytest.mark.parametrize("name", runtimes.names())
def test_a_module_has_what_a_runtime_needs(name: str) -> None:
    module = runtimes.module(name)
    assert module.__doc__
    assert isinstance(module.REQUIRES, runtimes.Requires)
    assert module.SUFFIX.startswith((".", "_"))
    assert runtimes.for_file(Path(f"best{module.SUFFIX}")) is module
    assert callable(module.load)
    assert not module.PRECISIONS or callable(module.export)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_it_knows_what_it_is(loader: Loader, name: str, precision: str) -> None:
    detector = loader(name, precision)
    assert (detector.runtime, detector.class_names, detector.imgsz) == (name, tiny_model.NAMES, SIZE)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_no_images_give_no_detections(loader: Loader, name: str, precision: str) -> None:
    assert loader(name, precision).predict([]) == []


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_boxes_lie_in_their_image_best_first(loader: Loader, name: str, precision: str) -> None:
    found = loader(name, precision).predict(list(IMAGES.values()))
    assert len(found) == len(IMAGES)
    for image, one in zip(IMAGES.values(), found, strict=True):
        height, width = image.shape[:2]
        assert one.boxes.shape == (len(one), 4)
        assert (one.boxes >= 0).all()
        assert (one.boxes <= [width, height, width, height]).all()
        assert (one.boxes[:, :2] <= one.boxes[:, 2:]).all()
        assert (np.diff(one.scores) <= 0).all()
        assert (one.scores > 0.001).all()
        assert set(one.class_ids.tolist()) <= {0, 1, 2}
    assert sum(map(len, found)) > 100


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_an_image_gets_the_same_boxes_alone_and_in_company(loader: Loader, name: str, precision: str) -> None:
    detector = loader(name, precision)
    together = detector.predict(list(IMAGES.values()))
    for image, one in zip(IMAGES.values(), together, strict=True):
        alone = detector.predict([image])[0]
        np.testing.assert_allclose(alone.boxes, one.boxes, atol=1e-3)


@pytest.mark.parametrize(("name", "precision"), [case for case in CASES if case.id != "pytorch"])
def test_it_answers_what_pytorch_answers(loader: Loader, name: str, precision: str) -> None:
    reference, detector = loader("pytorch", "fp32"), loader(name, precision)
    pictures = [noise(96, 96, seed) for seed in range(20, 28)]
    if precision == "fp32":
        for picture in pictures:
            batch, _ = reference.preprocess([picture])
            expected, raw = reference.forward(batch), detector.forward(batch)
            np.testing.assert_allclose(raw[:, :4], expected[:, :4], atol=0.02)  # pixels
            np.testing.assert_allclose(raw[:, 4:], expected[:, 4:], atol=1e-4)
    result = parity.agreement(reference.predict(pictures), detector.predict(pictures))
    assert result.boxes > 100
    # Random weights crowd boxes on the edge of suppression, where a rounding decides; hence not all of them.
    assert result.fraction > {"fp32": 0.995, "fp16": 0.97, "int8": 0.6}[precision]


@pytest.mark.slow
def test_a_dynamic_onnx_takes_flat_images_and_batches(loader: Loader, tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "best.pt", tmp_path / "cache")
    module = runtimes.module("onnx")
    path = module.export(weights, tmp_path, ExportOptions(SIZE, batch=4, dynamic=True, cache=tmp_path / "cache"))
    options = LoadOptions(threads=1, batch=4, rectangular=True, cache=tmp_path / "cache")
    reference = runtimes.module("pytorch").load(weights, "cpu", options)
    dynamic = module.load(path, "cpu", options)
    assert (dynamic.batch, dynamic.fixed_batch, dynamic.rectangular, dynamic.imgsz) == (4, False, True, SIZE)
    pictures = [IMAGES["wide"], IMAGES["wide"], IMAGES["tall"], IMAGES["square"]]
    assert parity.agreement(reference.predict(pictures), dynamic.predict(pictures)).fraction > 0.99


@pytest.mark.slow
def test_equal_weights_give_equal_bytes_without_a_path_in_them(tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "best.pt", tmp_path / "cache")
    options = ExportOptions(SIZE, cache=tmp_path / "cache")
    made = [runtimes.module("onnx").export(weights, tmp_path / name, options) for name in ("a", "b")]
    first, second = (path.read_bytes() for path in made)
    assert first == second
    assert str(tmp_path).encode() not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "best.pt", "cache"], "nothing beside the weights"


@pytest.mark.slow
def test_an_int8_file_for_tensorrt_is_symmetric_and_keeps_its_biases(tmp_path: Path) -> None:
    """TensorRT takes int8 alone, without zero points; int32, as which biases would be stored, it refuses."""
    import onnx

    weights = tiny_model.write(tmp_path / "best.pt", tmp_path / "cache")
    options = ExportOptions(SIZE, "int8", calibration=calibration_images(tmp_path), cache=tmp_path / "cache")
    graph = onnx.load(runtimes.module("onnx").export(weights, tmp_path / "out", options, symmetric=True)).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(steps) > 100
    assert {tensors[node.input[2]].dtype for node in steps} == {np.dtype(np.int8)}
    assert not any(tensors[node.input[2]].any() for node in steps)


def test_the_longest_suffix_that_fits_chooses_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.module("pytorch"), "SUFFIX", ".torch.onnx")  # stands in for one that another runtime's ends like
    assert runtimes.for_file(Path("best.torch.onnx")) is runtimes.module("pytorch")
    assert runtimes.for_file(Path("best.onnx")) is runtimes.module("onnx")
    assert runtimes.for_file(Path("BEST.ONNX")) is runtimes.module("onnx")


def foreign_onnx(path: Path, output: tuple[int, ...], kind: int | None = None, shape: tuple[int, ...] = (1, 3, 32, 32)) -> Path:
    """An ONNX file with the metadata of a detector of three classes, and an output of zeros."""
    import onnx
    from onnx import TensorProto, helper

    kind = kind or TensorProto.FLOAT
    zeros = helper.make_node("ConstantOfShape", ["size"], ["output0"])
    size = helper.make_tensor("size", TensorProto.INT64, [len(output)], output)
    inputs = [helper.make_tensor_value_info("images", kind, shape)]
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, output)]
    model = helper.make_model(
        helper.make_graph([zeros], "g", inputs, outputs, [size]), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    helper.set_model_props(model, {"names": "{0: 'a', 1: 'b', 2: 'c'}", "imgsz": "[32, 32]"})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("output", [(1, 300, 6), (1, 39, 21), (1, 300, 7), (1, 7)], ids=["nms", "masks", "rtdetr", "flat"])
def test_an_answer_in_another_form_is_refused(output: tuple[int, ...], tmp_path: Path) -> None:
    detector = runtimes.module("onnx").load(foreign_onnx(tmp_path / "foreign.onnx", output), "cpu")
    with pytest.raises(TrainingError, match=r"and not \(images, 7, boxes\) as that of a detector of 3 classes"):
        detector.predict([IMAGES["square"]])


def test_an_input_in_another_form_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto

    load = runtimes.module("onnx").load
    with pytest.raises(TrainingError, match="only float32 images"):
        load(foreign_onnx(tmp_path / "half.onnx", (1, 7, 21), TensorProto.FLOAT16), "cpu")
    with pytest.raises(TrainingError, match="only float32 images"):
        load(foreign_onnx(tmp_path / "flat.onnx", (1, 7, 21), shape=(1, 3)), "cpu")


@pytest.mark.skipif("CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers(), reason="feigns a GPU")
def test_a_gpu_that_onnxruntime_cannot_use_is_not_replaced_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As with a build for CUDA whose libraries are missing: the provider is offered, and the session runs without it."""
    import onnxruntime

    path = foreign_onnx(tmp_path / "a.onnx", (1, 7, 21))
    with pytest.raises(MissingDependency, match="runs on the CPU only"):
        runtimes.module("onnx").load(path, "cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with (
        pytest.warns(UserWarning, match="not in available"),
        pytest.raises(MissingDependency, match="'cuda:1' was asked for, but this"),
    ):
        runtimes.module("onnx").load(path, "cuda:1")
    with pytest.warns(UserWarning, match="not in available"):
        assert runtimes.module("onnx").load(path, "auto").device == "cpu"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("names", ['{"a": "cat"}', "[]", "5", '{"0": ["x"]}'], ids=["key", "list", "number", "value"])
def test_class_names_of_a_foreign_tflite_file(names: str, tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "foreign.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    with zipfile.ZipFile(tmp_path / "foreign.tflite", "a") as archive:
        archive.writestr("metadata.json", f'{{"names": {names}}}')
    with pytest.raises(TrainingError, match=r"foreign\.tflite (has no class names|cannot be loaded)"):
        runtimes.module("litert").load(tmp_path / "foreign.tflite", "cpu")


@pytest.mark.parametrize("name", ["pytorch", "onnx", "litert", "openvino"])
@pytest.mark.parametrize("content", [b"", b"not a model"], ids=["empty", "text"])
def test_a_file_that_is_no_model_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    module = runtimes.module(name)
    path = tmp_path / f"broken{module.SUFFIX}"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="broken") as caught:
        module.load(path, "cpu", LoadOptions(cache=tmp_path))
    assert caught.value.hint, "what to do about it"
    assert "class names" not in caught.value.message, "it is no model at all"


def test_names_and_aliases() -> None:
    assert {"pytorch", "onnx", "litert", "openvino", "engine"} <= set(runtimes.names())
    assert [runtimes.resolve_name(name) for name in ("tflite", "TensorRT", "trt", "onnx")] == [
        "litert",
        "engine",
        "engine",
        "onnx",
    ]
    with pytest.raises(UsageError, match="Did you mean 'litert'"):
        runtimes.resolve_name("litrt")
    with pytest.raises(UsageError, match="no runtime runs such a file"):
        runtimes.for_file(Path("model.h5"))


@pytest.mark.parametrize(
    ("name", "precision", "told"), [("litert", "fp16", "litert supports fp32, int8"), ("onnx", "int4", "onnx supports")]
)
def test_a_precision_that_a_format_lacks_is_refused(name: str, precision: str, told: str) -> None:
    with pytest.raises(ParamsError, match=told):
        runtimes.check_precision(name, precision)


def test_int8_without_images_is_refused() -> None:
    with pytest.raises(ParamsError, match="int8 needs images"):
        ExportOptions(SIZE, "int8")
