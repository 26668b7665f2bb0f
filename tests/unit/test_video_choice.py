from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

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


def test_frames_that_look_alike_are_dropped_and_accounted_for(clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "a.mp4", (scene(number // 25, 0) for number in range(75)))
    summary = run(tmp_path / "out", context, every_s=0.2, drop_similar=True)
    assert summary["images"] == 3
    dropped = entries(tmp_path / "out", "similar_frame")
    assert len(dropped) == 12
    assert dropped[0].path == "a/frame_000005.jpg"
    assert dropped[0].detail == "looks like frame 0 of a.mp4"
