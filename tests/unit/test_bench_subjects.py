"""The four tasks that are timed, each phase, held against what ultralytics' own predictor answers with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import images, runtimes
from pipeline.bench import subjects
from pipeline.bench._tasks import Inputs, Outputs
from pipeline.boxes import iou
from pipeline.errors import TrainingError, UsageError
from pipeline.yolo import ultralytics
from tests import tiny_model
from tests.contract.test_runtimes import noise

pytestmark = pytest.mark.slow
SIZE = (tiny_model.IMGSZ, tiny_model.IMGSZ)
TASKS = sorted(subjects.TASKS)
PICTURES = {"square": (96, 96), "wide": (60, 200), "tall": (311, 97), "large": (480, 640), "tiny": (8, 8)}

Find = Callable[[str], subjects.Request]


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory) -> Find:
    root = tmp_path_factory.mktemp("subjects")
    found: dict[str, subjects.Request] = {}

    def of_task(task: str) -> subjects.Request:
        if task not in found:
            path = tiny_model.write(root / f"{task}.pt", root / "cache", task=task)
            model = subjects.find(str(path), task, root / "cache", root)
            found[task] = subjects.Request(model, "pytorch", imgsz=SIZE, threads=1, cache=root / "cache")
        return found[task]

    return of_task


def picture(name: str) -> Any:
    return noise(*PICTURES[name], seed=len(name) + PICTURES[name][1])


def answer(subject: subjects.Subject, image: Any) -> Any:
    return subject.postprocess(subject.inference(subject.preprocess([image])))[0]


@pytest.fixture(scope="module")
def original(find: Find) -> Callable[[str, Any], Any]:
    """What ultralytics' predictor says, with its default thresholds and the letterbox that exports have."""
    loaded: dict[str, Any] = {}

    def predict(task: str, image: Any) -> Any:
        request = find(task)
        if task not in loaded:
            loaded[task] = ultralytics(request.cache).YOLO(str(request.model.path))
        arguments = {"imgsz": tiny_model.IMGSZ, "rect": False, "device": "cpu", "verbose": False, "save": False}
        return loaded[task].predict(np.ascontiguousarray(image[..., ::-1]), **arguments)[0]

    return predict


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("task", TASKS)
def test_it_answers_what_ultralytics_answers(task: str, name: str, find: Find, original: Callable[[str, Any], Any]) -> None:
    image = picture(name)
    ours, theirs = answer(subjects.load(find(task)), image), original(task, image)
    if task == "classify":
        probabilities = theirs.probs.data.numpy()
        assert ours.class_ids.tolist() == np.argsort(-probabilities).tolist()
        np.testing.assert_allclose(ours.probabilities, np.sort(probabilities)[::-1], atol=1e-5)
        return
    found = ours if task == "detect" else ours.detections
    boxes, scores = theirs.boxes.xyxy.numpy(), theirs.boxes.conf.numpy()
    assert len(found) == len(scores)
    assert len(found) > 3
    np.testing.assert_allclose(found.scores, scores, atol=1e-4)
    np.testing.assert_allclose(found.boxes, boxes, atol=0.01)
    assert found.class_ids.tolist() == theirs.boxes.cls.int().tolist()
    if task == "segment":
        masks = theirs.masks.data.numpy().astype(bool)
        assert ours.masks.shape == masks.shape == (len(found), *SIZE)
        both, either = (ours.masks & masks).sum(axis=(1, 2)), (ours.masks | masks).sum(axis=(1, 2))
        assert (both / either).min() > 0.99
        assert set(np.unique(ours.masks)) == {0, 1}
    if task == "pose":
        np.testing.assert_allclose(
            ours.keypoints, theirs.keypoints.data.numpy(), atol=0.05
        )  # pixels of an image up to 7 times the input
        assert ours.keypoints.shape[1:] == (17, 3)


@pytest.mark.parametrize(
    ("task", "runtime"),
    # LiteRT's converter takes its time: one with two outputs, and one with coordinates beyond the box.
    [*((task, runtime) for task in TASKS for runtime in ("onnx", "openvino")), ("segment", "litert"), ("pose", "litert")],
)
def test_every_runtime_gives_the_raw_outputs_of_pytorch(task: str, runtime: str, find: Find) -> None:
    request = replace(find(task), runtime=runtime)
    if reason := subjects.why_not(request):
        pytest.skip(reason)
    reference, subject = subjects.load(find(task)), subjects.load(request)
    inputs = reference.preprocess([picture("large")])
    expected, raw = reference.inference(inputs).raw, subject.inference(inputs).raw
    assert [each.shape for each in raw] == [each.shape for each in expected]
    for one, other in zip(raw, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=0.03, rtol=1e-3)  # pixels
    assert len(subject.postprocess(subject.inference(inputs))) == 1
    assert subject.size_bytes > 1_000_000
    assert subject.device == "cpu"


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_gives_what_its_images_give_alone(task: str, find: Find) -> None:
    request = replace(find(task), batch=3, runtime="onnx")
    subject, alone = subjects.load(request), subjects.load(find(task))
    group = [picture(name) for name in ("wide", "tall", "large")]
    together = subject.postprocess(subject.inference(subject.preprocess(group)))
    assert len(together) == 3
    for image, one in zip(group, together, strict=True):
        single = answer(alone, image)
        if task == "classify":
            np.testing.assert_allclose(one.probabilities, single.probabilities, atol=1e-4)
        else:
            boxes = [each.boxes if task == "detect" else each.detections.boxes for each in (one, single)]
            assert iou(*boxes).max(axis=1).mean() > 0.98


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_opencv_has_no_threads_that_would_get_in_the_way_of_the_runtime(task: str, find: Find) -> None:
    import cv2

    cv2.setNumThreads(4)
    answer(subjects.load(replace(find(task), threads=2)), picture("large"))
    assert cv2.getNumThreads() in (0, 1)  # importing ultralytics sets none at all


def test_an_export_is_made_once(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    request = replace(find("classify"), runtime="onnx")
    first = subjects.export(request)
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(runtimes.module("onnx"), "export", lambda *rest: pytest.fail("made again"))
    assert subjects.export(request) == first
    assert first.stat().st_mtime_ns == written


def test_the_record_gets_parameters_and_operations(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {task: find(task).model for task in TASKS}
    assert {task: round(model.parameters / 1e6, 1) for task, model in known.items() if model.parameters} == {
        "detect": 2.6,
        "segment": 2.8,
        "pose": 2.9,
        "classify": 1.5,
    }
    assert all(model.gflops and model.weights == "fine-tuned" for model in known.values())
    assert known["classify"].gflops < known["detect"].gflops < known["segment"].gflops  # type: ignore[operator]
    # Counting loads torch: the second time it is read.
    monkeypatch.setattr("pipeline.runtimes._isolated.isolated", lambda *rest: pytest.fail("counted again"))
    request = find("detect")
    assert subjects.find(str(request.model.path), "detect", request.cache, Path()) == request.model


@pytest.mark.parametrize(
    ("photos", "batch", "told"),
    [("ab", 1, ["a", "b"]), ("ab", 64, ["a, b"]), ("abcdef", 6, ["a, b, c, d and 2 more"]), ("abcd", 3, ["a, b, c"])],
)
def test_a_large_batch_is_told_by_its_first_images(find: Find, photos: str, batch: int, told: list[str]) -> None:
    request = replace(find("classify"), batch=batch)
    loaded = subjects.prepare(request, [Path(name) for name in photos], list(photos), "offline")
    assert list(loaded.input_names)[: len(told)] == told


def test_a_file_is_decoded_upright(find: Find, tmp_path: Path) -> None:
    images.save(tmp_path / "a.png", picture("wide"))
    np.testing.assert_array_equal(subjects.load(find("classify")).decode(tmp_path / "a.png"), picture("wide"))


def test_a_model_for_another_task_is_refused(find: Find) -> None:
    request = find("pose")
    with pytest.raises(UsageError, match=r"pose\.pt is a model for 'pose', and not for 'segment'"):
        subjects.find(str(request.model.path), "segment", request.cache, Path())
    path = subjects.export(replace(request, runtime="onnx"))
    with pytest.raises(UsageError, match=r"pose\.onnx is a model for 'pose', and not for 'segment'"):
        subjects.find(str(path), "segment", request.cache, Path())
    exported = replace(request.model, path=path, task="segment")
    with pytest.raises(TrainingError, match="is a 'pose' model, and not one for 'segment'"):
        subjects.load(replace(request, model=exported, runtime="onnx"))


def test_an_exported_file_fits_its_own_runtime_and_size_alone(find: Find) -> None:
    request = find("classify")
    path = subjects.export(replace(request, runtime="onnx"))
    exported = replace(request, model=subjects.find(str(path), "classify", request.cache, Path()), runtime="onnx")
    assert (exported.model.runtime, exported.model.parameters) == ("onnx", None)
    assert subjects.why_not(exported) == ""
    assert subjects.why_not(replace(exported, runtime="openvino")) == "classify.onnx is a file for onnx"
    with pytest.raises(UsageError, match="takes 1 × 96x96 px, and the cell asks for 2 × 96x96 px"):
        subjects.load(replace(exported, batch=2))
    with pytest.raises(UsageError, match="the cell asks for 1 × 64x64 px"):
        subjects.load(replace(exported, imgsz=(64, 64)))


def test_an_answer_in_another_form_is_refused(find: Find) -> None:
    for task, raw in (
        ("segment", [np.zeros((1, 300, 38), np.float32), np.zeros((1, 32, 24, 24), np.float32)]),
        ("pose", [np.zeros((1, 300, 57), np.float32)]),
        ("classify", [np.zeros((1, 7), np.float32)]),
    ):
        with pytest.raises(TrainingError, match=f"which is not what a '{task}' model of 3 classes gives"):
            subjects.load(find(task)).postprocess(Outputs(raw, ()))


def test_nothing_found_is_an_answer(find: Find) -> None:
    for task in ("segment", "pose"):
        subject = subjects.load(find(task))
        batch, letterboxes = subject.preprocess([picture("wide")])
        raw = [np.zeros_like(output) for output in subject.inference(Inputs(batch, letterboxes)).raw]
        [found] = subject.postprocess(Outputs(raw, letterboxes))
        assert len(found.detections) == 0
        assert (found.masks.shape if task == "segment" else found.keypoints.shape)[0] == 0
