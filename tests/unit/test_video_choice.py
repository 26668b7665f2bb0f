from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import images
from pipeline.errors import ParamsError
from pipeline.sources import _video_choice
from pipeline.sources._video_choice import Choice, Part
from pipeline.stage import Context
from tests.collecting import collected

av = pytest.importorskip("av")

from tests.videos import entries, make_video, picture, run, scene  # noqa: E402

# Which frames


def times(count: int, fps: float = 10) -> array[float]:
    return array("d", (number / fps for number in range(count)))


def middles(count: int, fps: float = 10, **options: Any) -> list[int]:
    return [part.middle for part in _video_choice.parts(times(count, fps), Choice(**options))]


def test_choice_by_time() -> None:
    assert middles(25) == [0, 10, 20]
    assert middles(25, every_s=0.75) == [0, 8, 15, 23]
    assert middles(5, every_s=0) == [0, 1, 2, 3, 4]
    assert middles(40, every_s=1, start_s=0.5, end_s=3.0) == [5, 15, 25]
    assert middles(40, every_s=1, start_s=9) == []
    assert middles(90, fps=29.97) == [0, 30, 60]  # 1.001 s and 2.002 s: the first frames that are due


def test_choice_of_so_many() -> None:
    assert middles(100, frames=4) == [12, 37, 62, 87]
    assert middles(3, frames=10) == [0, 1, 2]
    assert middles(100, every_s=0.1, max_frames=4) == [12, 37, 62, 87]
    assert middles(25, every_s=1, max_frames=3) == [0, 10, 20]
    assert middles(25, frames=4, max_frames=1) == [12]
    assert list(_video_choice.parts(times(6), Choice(frames=2))) == [Part(0, 3, 1), Part(3, 6, 4)]


def test_parts_cover_all_frames_without_overlap() -> None:
    for options in ({"every_s": 0.35}, {"frames": 7}, {"every_s": 0.01}, {"start_s": 0.3, "end_s": 2.2}):
        choice = Choice(**options)  # type: ignore[arg-type]
        numbers = [number for part in _video_choice.parts(times(30), choice) for number in range(part.first, part.stop)]
        assert numbers == list(_video_choice.within(times(30), choice))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every_s": 1, "frames": 3}, r"collect\.options.*frames: .*either this or every_s"),
        ({"frames": 3, "scenes": True}, r"collect\.options.*scenes: .*either this or frames"),
        ({"start_s": 3, "end_s": 2}, r"collect\.options.*end_s: .*after start_s"),
        ({"every_s": -1}, r"collect\.options.*every_s"),
        ({"format": "gif"}, r"collect\.options.*format"),
        ({"every": 1}, "Did you mean 'every_s'"),
    ],
)
def test_options_that_cannot_be_meant(
    options: dict[str, object], words: str, clips: Path, tmp_path: Path, context: Context
) -> None:
    make_video(clips / "a.mp4", [picture(1)])
    with pytest.raises(ParamsError, match=words):
        run(tmp_path / "out", context, **options)


def test_scenes_begin_where_the_picture_changes(clips: Path, tmp_path: Path, context: Context, decoder: str) -> None:
    cuts = [0, 17, 40, 41, 70]
    make_video(clips / "a.mp4", (scene(sum(number >= cut for cut in cuts), number) for number in range(90)))
    run(tmp_path / "out", context, scenes=True)
    # Of two cuts in a row the second changes no more than the first: it is no other scene.
    assert [int(path[-10:-4]) for path in collected(tmp_path / "out")] == [0, 17, 40, 70]
    run(tmp_path / "two", context, scenes=True, max_frames=2)
    assert len(collected(tmp_path / "two")) == 2


def test_the_sharpest_of_each_stretch(clips: Path, tmp_path: Path, context: Context) -> None:
    import cv2

    sharp = {13, 31, 60}
    pictures = (picture(n) if n in sharp else cv2.GaussianBlur(picture(n), (0, 0), 3) for n in range(75))
    make_video(clips / "a.mp4", pictures)
    run(tmp_path / "out", context, sharp=True, every_s=1)
    assert {int(path[-10:-4]) for path in collected(tmp_path / "out")} == sharp


def measured(pictures: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The sharpness of each picture (brightness), as ours, and as the variance of the Laplacian of all pixels."""
    import cv2

    sharpness = _video_choice.Sharpness()
    pairs = [(sharpness.of(picture), cv2.Laplacian(picture, cv2.CV_64F).var()) for picture in pictures]
    return np.array([ours for ours, _ in pairs]), np.array([whole for _, whole in pairs])


def test_small_pictures_are_measured_as_they_are() -> None:
    rng = np.random.default_rng(0)
    ours, whole = measured(rng.integers(0, 256, (3, 96, 160), dtype=np.uint8))
    assert ours == pytest.approx(whole)


def test_sharpness_at_half_the_size_chooses_as_all_pixels_do_on_a_real_video(shared_data: Path) -> None:
    from pipeline.sources import _video_pyav

    path = shared_data / "video/car-detection.mp4"
    index = _video_pyav.index(path)
    ours, whole = measured(picture.grey for picture in _video_pyav.read(path, index, range(len(index)), []))
    ranks = [values.argsort().argsort() for values in (ours, whole)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9
    for every_s in (0.5, 1, 2):
        for part in _video_choice.parts(index.times_s, Choice(every_s=every_s)):
            stretch = slice(part.first, part.stop)
            assert whole[stretch][ours[stretch].argmax()] > 0.93 * whole[stretch].max()


def test_sharpness_falls_as_blur_grows_in_real_photos_with_noise(shared_data: Path) -> None:
    import cv2

    rng = np.random.default_rng(1)
    for path in sorted((shared_data / "exif").rglob("*.jpg"))[:5]:
        grey = cv2.cvtColor(images.decode(path), cv2.COLOR_RGB2GRAY)
        blurred = [grey, *(cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1, 1.5, 2, 3, 5, 8))]
        noisy = [np.clip(view + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8) for view in blurred]
        for views in (blurred, noisy[:5]):
            ours, _ = measured(views)
            assert (np.diff(ours) < 0).all(), path


def test_frames_that_look_alike_are_dropped_and_accounted_for(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "a.mp4", (scene(number // 25, 0) for number in range(75)))
    summary = run(tmp_path / "out", context, every_s=0.2, drop_similar=True)
    assert summary["images"] == 3
    dropped = entries(tmp_path / "out", "similar_frame")
    assert len(dropped) == 12
    assert dropped[0].path == "a/frame_000005.jpg"
    assert dropped[0].detail == "looks like frame 0 of a.mp4"
