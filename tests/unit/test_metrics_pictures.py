"""Pictures: whole, readable at any number of classes, the same every time, and without a trace of global state."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import images
from pipeline.metrics import coco, curves, pictures
from pipeline.metrics.matching import Matches
from tests.detecting import _found, make_dataset


def draw(folder: Path, classes: int) -> list[Path]:
    rng = np.random.default_rng(0)
    dataset = make_dataset(rng, 60, classes)
    detections = [_found(rng, dataset, image, 12, 4.0, 1000) for image in range(60)]
    matches = Matches.of(dataset, detections)
    with_boxes = np.flatnonzero(curves.present(matches))
    f1 = curves.counts_by_confidence(matches).f1[with_boxes]
    paths = [folder / name for name in ("pr_curve.png", "f1_curve.png", "confusion_matrix.png")]
    pictures.pr_curve(paths[0], coco.evaluate(dataset, detections))
    pictures.f1_curve(paths[1], {int(k): dataset.class_names[k] for k in with_boxes}, f1, 0.4, "threshold of the best mean F1")
    pictures.confusion_matrix(paths[2], dataset.class_names, curves.confusion_matrix(matches, 0.4), 0.4)
    return paths


@pytest.mark.parametrize("classes", [1, 3, 12, 80])
def test_pictures_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    for path in draw(tmp_path, classes):
        pixels = images.decode(path)
        assert min(pixels.shape[:2]) >= 400
        assert max(pixels.shape[:2]) <= 3200
        assert (pixels != 255).mean() > 0.01, "it is not blank"
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".png"]


def test_equal_figures_have_equal_bytes(tmp_path: Path) -> None:
    first, second = draw(tmp_path / "first", 4), draw(tmp_path / "second", 4)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_no_window_system_and_no_settings_left_behind(tmp_path: Path) -> None:
    import matplotlib

    had_pyplot, before = "matplotlib.pyplot" in sys.modules, matplotlib.rcParams.copy()
    draw(tmp_path, 2)
    assert matplotlib.rcParams.copy() == before
    assert had_pyplot or "matplotlib.pyplot" not in sys.modules


def test_names_in_any_script(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    names = ["straße", "чашка", "a very long class name that would not fit"]
    pictures.confusion_matrix(tmp_path / "m.png", names, np.arange(16).reshape(4, 4), 0.5)
    assert [str(warning.message) for warning in recwarn] == []


def test_a_matrix_without_a_box_or_a_detection(tmp_path: Path) -> None:
    pictures.confusion_matrix(tmp_path / "m.png", ["a", "b"], np.zeros((3, 3), dtype=np.int64), 0.5)
    assert images.decode(tmp_path / "m.png").size
