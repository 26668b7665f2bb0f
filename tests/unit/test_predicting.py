"""Which photos `predict` takes, its pictures and what is left of earlier ones, and the threshold of a known model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import images, predicting
from pipeline.errors import DataError, UsageError
from pipeline.store import Store
from tests import tiny_model


def photo(path: Path) -> Path:
    images.save(path, np.full((8, 8, 3), 90, dtype=np.uint8))
    return path


def found(*sources: Path, base: Path) -> list[str]:
    return [path.relative_to(base).as_posix() for path in predicting.find_photos(sources)]


def test_folders_are_searched_and_files_taken_once(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.jpg", "b/.hidden/3.jpg", "b/._1.png"):
        photo(tmp_path / name)
    (tmp_path / "b" / "labels.txt").write_text("0 0 0 0 0", encoding="utf-8")
    assert found(tmp_path / "b", tmp_path / "a.jpg", tmp_path / "b" / "1.png", base=tmp_path) == ["b/1.png", "b/2.JPG", "a.jpg"]
    with pytest.raises(DataError, match="no image in"):
        predicting.find_photos([tmp_path / "b" / "labels.txt"])


def test_linked_folders_are_followed_without_going_round(tmp_path: Path) -> None:
    photo(tmp_path / "elsewhere" / "day" / "1.jpg")
    photo(tmp_path / "photos" / "0.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "day" / "back").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / "self").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "single.jpg").symlink_to(tmp_path / "elsewhere" / "day" / "1.jpg")
    assert found(tmp_path / "photos", base=tmp_path) == ["photos/0.jpg", "photos/more/day/1.jpg", "photos/single.jpg"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert found(tmp_path / "photos", base=tmp_path) == ["photos/gone.jpg"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs permissions that count")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(DataError, match="cannot be listed"):
        predicting.find_photos([tmp_path])


def test_pictures_have_names_of_their_own_on_every_file_system(tmp_path: Path) -> None:
    photos = [Path(name) for name in ("a/x.jpg", "b/X.png", "c/x-2.jpg", "d/x.jpg")]
    assert predicting._picture_names(photos, tmp_path) == ["x.jpg", "X-2.jpg", "x-2-2.jpg", "x-3.jpg"]


def test_a_photo_is_never_overwritten(tmp_path: Path) -> None:
    first = photo(tmp_path / "photos" / "1.jpg")
    before = first.read_bytes()
    with pytest.raises(UsageError, match=r"take the place of photos that are to be read, such as 1\.jpg") as caught:
        predicting.predict(tmp_path / "no.onnx", [first], 0.5, tmp_path / "photos", "cpu", tmp_path, lambda n=1: None)
    assert "--out" in caught.value.hint
    assert first.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    bad = os.fsdecode(b"\xff.jpg")
    assert predicting._picture_names([Path(bad)], tmp_path) == ["\ufffd.jpg"]


# ---------------------------------------------------------------- what is left of an earlier call


def test_an_earlier_run_leaves_nothing_behind_and_other_files_stay(tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    first, second = photo(tmp_path / "photos" / "1.png"), photo(tmp_path / "photos" / "2.png")
    out = tmp_path / "out"
    photo(out / "mine.jpg")

    def predict(*photos: Path) -> list[str]:
        results = predicting.predict(weights, photos, 0.5, out, "cpu", tmp_path / "cache", lambda n=1: None)
        assert json.loads((out / "detections.json").read_text(encoding="utf-8")) == results
        return sorted(path.name for path in out.iterdir())

    assert predict(first, second) == ["1.jpg", "2.jpg", "detections.json", "mine.jpg"]
    assert predict(second) == ["2.jpg", "detections.json", "mine.jpg"]


@pytest.mark.parametrize(
    "content",
    [
        '[{"picture": "../mine.jpg"}, {"picture": "sub/mine.jpg"}, {"picture": "mine.png"}, {"picture": 5}, 7, {}]',
        '{"picture": "mine.jpg"}',
        '[{"picture": "a\\u0000.jpg"}, {"picture": ["mine.jpg"]}]',
        "not JSON",
        "",
    ],
)
def test_a_list_that_was_tampered_with_removes_nothing_else(content: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = [photo(out / "mine.jpg"), photo(out / "sub" / "mine.jpg"), photo(tmp_path / "mine.jpg"), photo(out / "mine.png")]
    (out / "detections.json").write_text(content, encoding="utf-8")
    predicting._remove_earlier(out, [])
    assert all(path.exists() for path in kept)


def test_a_picture_that_is_to_be_read_again_is_kept(tmp_path: Path) -> None:
    picture = photo(tmp_path / "1.jpg")
    (tmp_path / "detections.json").write_text('[{"picture": "1.jpg"}]', encoding="utf-8")
    predicting._remove_earlier(tmp_path, [picture])
    assert picture.exists()


# ---------------------------------------------------------------- the threshold of a known model


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A workspace of two trainings; the first was exported and evaluated twice, the second not at all."""
    store = Store(tmp_path / "ws", dict.fromkeys(("train", "export", "evaluate"), "runs"))

    def publish(stage: str, file: str, key: str, train: int | None = None, **summary: float) -> None:
        work = store.work_folder(stage, key)
        (work / file).parent.mkdir(parents=True, exist_ok=True)
        (work / file).write_bytes(b"model")
        inputs = {} if train is None else {"train": {"version": train, "digest": "0" * 64}}
        recipe = {"stage": stage, "params": {}, "inputs": inputs}
        store.publish(stage, work, {"key": key, "recipe": recipe, "summary": summary}, [])

    for number in (1, 2):
        publish("train", "weights/best.pt", f"t{number}")
    publish("export", "onnx/best.onnx", "x1", train=1)
    publish("export", "onnx/best.onnx", "x2", train=2)
    publish("evaluate", "metrics.json", "e1", train=1, confidence=0.9)
    publish("evaluate", "metrics.json", "e2", train=1, confidence=0.75)
    return store


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("runs/train/v1/weights/best.pt", 0.75),
        ("runs/export/v1/onnx/best.onnx", 0.75),
        ("runs/train/v2/weights/best.pt", None),
        ("runs/export/v2/onnx/best.onnx", None),
        ("runs/evaluate/v1/metrics.json", None),
        ("elsewhere/runs/export/v1/onnx/best.onnx", None),
    ],
)
def test_a_file_in_a_version_has_the_threshold_of_its_training(
    file: str, expected: float | None, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predicting.recommended_confidence(store, store.workspace / file) == expected
    monkeypatch.chdir(store.workspace)
    assert predicting.recommended_confidence(store, Path(file)) == expected


def test_a_link_into_a_version_leads_to_its_threshold(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(store.workspace / "runs/export/v1/onnx/best.onnx")
    assert predicting.recommended_confidence(store, tmp_path / "link.onnx") == 0.75
