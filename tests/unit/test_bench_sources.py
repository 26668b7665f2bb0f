"""Which models a word on the command line means, and what is known of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench import subjects
from pipeline.errors import ArtifactError, UsageError
from pipeline.store import Store
from tests.bench_workspace import ROOTS, SIZE, artifact, describe, exported, find, trained


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, ROOTS)


def test_the_default_is_the_latest_export_and_without_one_an_official_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "find", lambda model, task, cache, base: (model, task))
    assert [source.model for source in find(store)] == [("yolo11n", "detect")]
    monkeypatch.undo()
    exported(store, [artifact("onnx", "onnx/best.onnx")])
    exported(store, [artifact("onnx", "onnx/best.onnx")], trained(store, "better weights"))
    assert [source.model.name for source in find(store)] == ["yolo11n (train@v2)"]


def test_tasks_are_of_official_models_though_there_is_an_export(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(store, [artifact("onnx", "onnx/best.onnx")])
    monkeypatch.setattr(subjects, "find", lambda model, task, cache, base: (model, task))
    assert [source.model for source in find(store, "", "segment", "pose")] == [("yolo11n", "segment"), ("yolo11n", "pose")]
    assert [source.model for source in find(store, "yolo11s", "detect")] == [("yolo11s", "detect")]


@pytest.mark.parametrize(
    ("name", "task"),
    [("yolo11n", "detect"), ("yolo11n-seg", "segment"), ("yolo11n-cls.pt", "classify"), ("yolo11n-pose", "pose")],
)
def test_the_name_of_an_official_model_says_its_task(name: str, task: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "find", lambda model, task, cache, base: (model, task))
    assert [source.model for source in find(store, name)] == [(name, task)]


def test_an_export_brings_its_files_with_the_figures_of_each(store: Store) -> None:
    records = [
        artifact("onnx", "onnx/best.onnx", map50_95=0.59),
        artifact("onnx", "onnx-int8/best.onnx", "int8", map50_95=0.55, map50=None),
        artifact("litert", "litert/best.tflite", map50_95=None, map50=None),
        artifact("engine", "", status="skipped", reason="no NVIDIA GPU"),
    ]
    version = exported(store, records)
    trained(store, "weights that came later")
    [source] = find(store, version.name)
    assert source.model.path == store.resolve("train@v1").path / "weights" / "best.pt"
    assert source.model.imgsz == SIZE, "of the exports, and not the 640 of the checkpoint: the figures were measured there"
    found = {key: (each.model.path.parent.name, each.map50_95, each.measured_on) for key, each in source.artifacts.items()}
    on = "split@v1 test, 30 images"
    assert found == {
        ("pytorch", "fp32"): ("weights", 0.6, on),
        ("onnx", "fp32"): ("onnx", 0.59, on),
        ("onnx", "int8"): ("onnx-int8", 0.55, on),
        ("litert", "fp32"): ("litert", None, ""),
    }
    assert {each.model.name for each in source.artifacts.values()} == {"yolo11n (train@v1)"}


def test_an_export_of_nothing_still_has_its_checkpoint(store: Store) -> None:
    version = exported(store, [artifact("engine", "", status="skipped")], models={})
    [source] = find(store, version.name)
    assert list(source.artifacts) == [("pytorch", "fp32")]
    assert source.artifacts["pytorch", "fp32"].map50_95 is None


@pytest.mark.parametrize("name", ["parity.json", "exports.json"])
@pytest.mark.parametrize("content", ["", '{"split": ', "1", None])
def test_a_damaged_export_is_named(name: str, content: str | None, store: Store) -> None:
    version = exported(store, [artifact("onnx", "onnx/best.onnx")])
    if content is None:
        (version.path / name).unlink()
    else:
        (version.path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"export@v1 is damaged: {name}") as caught:
        find(store)
    assert "verify" in caught.value.hint


@pytest.mark.parametrize("name", ["train/v1/weights/best.pt", "export/v1/onnx/best.onnx"])
def test_a_model_that_is_gone_is_named(name: str, store: Store) -> None:
    exported(store, [artifact("onnx", "onnx/best.onnx")])
    (store.workspace / "runs" / name).unlink()
    with pytest.raises(ArtifactError, match=rf"@v1 is damaged: {name.partition('v1/')[2]} is missing"):
        find(store)


def test_a_version_of_train_is_its_checkpoint_alone(store: Store) -> None:
    exported(store, [artifact("onnx", "onnx/best.onnx")])
    [source] = find(store, "train@v1")
    assert (source.model.name, source.model.weights, source.model.imgsz) == ("yolo11n (train@v1)", "fine-tuned", (640, 640))
    assert source.artifacts == {}
    with pytest.raises(UsageError, match="train has no version or tag 'v7'"):
        find(store, "train@v7")


def test_a_file_has_its_own_task_and_starts_from_the_folder_of_params(store: Store) -> None:
    (store.workspace / "mine.pt").write_text("my weights")
    describe(store.workspace / "mine.pt", store.cache, task="pose")
    [source] = find(store, "mine.pt")
    assert (source.model.name, source.model.task, source.artifacts) == ("mine", "pose", {})
    with pytest.raises(UsageError, match="is a model for 'pose', and not for 'segment'"):
        find(store, "mine.pt", "segment")


def test_a_trained_detector_is_for_no_other_task(store: Store) -> None:
    exported(store, [artifact("onnx", "onnx/best.onnx")])
    for model in ("export@latest", "train@v1"):
        assert len(find(store, model, "detect")) == 1
        with pytest.raises(UsageError, match=f"{model} is a detector") as caught:
            find(store, model, "segment")
        assert caught.value.hint.endswith("--model yolo11n")


def test_without_any_version_the_message_says_what_makes_one(store: Store) -> None:
    with pytest.raises(UsageError, match="export has no version yet"):
        find(store, "export@latest")


def test_a_task_that_is_named_twice_is_measured_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "find", lambda model, task, cache, base: (model, task))
    assert len(find(store, "yolo11n", "detect", "pose", "detect")) == 2
