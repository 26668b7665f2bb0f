"""Numpy in place of OpenCV and Pillow: the same pixels, within a level."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline.bench import _portable, _tasks

ROOT = Path(__file__).resolve().parents[2]
SIZES = [((48, 64), (640, 640)), ((480, 640), (640, 480)), ((271, 409), (224, 338)), ((1, 9), (7, 3)), ((97, 50), (31, 200))]


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, smooth slopes and hard edges: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3))
    image[: height // 2] = np.linspace(0, 255, width)[None, :, None]
    image[:, : width // 3, 1] = 255
    return image.astype(np.uint8)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_resize_is_that_of_opencv(source: tuple[int, int], target: tuple[int, int]) -> None:
    image, size = photo(*source), target[::-1]
    ours, theirs = _portable.resize(image, size), cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    inner = np.zeros((target[0] + 2, target[1] + 2, 3), np.uint8)[1:-1, 1:-1]
    assert _portable.resize(image, size, dst=inner) is inner
    np.testing.assert_array_equal(inner, ours)


def test_resize_takes_floats_of_one_plane() -> None:
    plane = np.random.default_rng(0).normal(size=(17, 23)).astype(np.float32)
    ours = _portable.resize(plane, (92, 68), interpolation=_portable.INTER_LINEAR)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, cv2.resize(plane, (92, 68), interpolation=cv2.INTER_LINEAR), atol=1e-5)
    with pytest.raises(NotImplementedError):
        _portable.resize(plane, (4, 4), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_antialiasing_is_that_of_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    image = photo(*source)
    theirs = np.asarray(PillowImage.fromarray(image).resize(target[::-1], PillowImage.Resampling.BILINEAR))
    ours = _portable.resize_antialiased(image, target)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_split_is_that_of_opencv() -> None:
    image = photo(5, 7)
    for ours, theirs in zip(_portable.split(image), cv2.split(image), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_opencv_keeps_its_place_where_it_is() -> None:
    assert _portable.install() == "opencv"
    assert sys.modules["cv2"] is cv2


@pytest.mark.parametrize("missing", ["cv2", "PIL", "cv2 PIL"])
def test_without_opencv_or_pillow_numpy_prepares_the_same_inputs(missing: str, tmp_path: Path) -> None:
    image = photo(271, 409)
    np.save(tmp_path / "image.npy", image)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing.split()!r}))\n"
        "from pipeline.bench import _portable\n"
        "assert _portable.install() == _portable.install() == 'numpy'\n"
        "import numpy as np\n"
        "from pipeline.bench import _tasks\n"
        "image = np.load('image.npy')\n"
        "np.savez('out.npz', box=_tasks.letterboxed([image], (320, 320)).batch, cut=_tasks.cropped([image], (224, 224)).batch)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as ours:
        for name, theirs in (("box", _tasks.letterboxed([image], (320, 320))), ("cut", _tasks.cropped([image], (224, 224)))):
            assert np.abs(ours[name] - theirs.batch).max() * 255 < 1.001
