"""Recordings: what is taken and when, by time, key and preview, and how a session ends. Streams: test_camera_streams.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import images
from pipeline.errors import DataError, ParamsError, UsageError
from pipeline.sources import _camera_user, camera
from pipeline.sources._camera_device import Shot
from pipeline.sources.camera import Options, Session
from pipeline.stage import Context
from pipeline.stages import collect
from tests.cameras import HEIGHT, WIDTH, keys, number_in, picture, shots


def advance(n: int = 1, **info: object) -> None:
    pass


def record(out: Path, source: Any, window: Any = None, pressed: Any = None, **options: Any) -> Session:
    session = Session("camera 0", Options(**options), out)
    session.record(source, window, pressed, advance)
    return session


def numbers(session: Session) -> list[int]:
    return [number_in(images.decode(session.out / origin.path)) for origin in session.origins]


# What is taken, and when


def test_a_picture_every_so_many_seconds_bears_its_time(tmp_path: Path) -> None:
    session = record(tmp_path, shots(9), every_s=1)
    assert numbers(session) == [0, 2, 4, 6, 8]
    paths = [origin.path for origin in session.origins]
    assert paths[:2] == ["session-1/20260301T120000250Z.jpg", "session-1/20260301T120001250Z.jpg"]
    assert session.origins[0].origin == "camera 0 @ 2026-03-01T12:00:00.250Z"
    assert {origin.group for origin in session.origins} == {"camera 0 session-1"}


def test_late_frames_do_not_shift_those_after_them(tmp_path: Path) -> None:
    late = [shot._replace(at_s=shot.at_s + (0.3 if number == 2 else 0)) for number, shot in enumerate(shots(9))]
    assert numbers(record(tmp_path, late, every_s=1)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"frames": 3}, [0, 2, 4]),
        ({"seconds": 2.5}, [0, 2, 4]),
        ({"every_s": 0}, list(range(9))),
        ({"frames": 50}, [0, 2, 4, 6, 8]),
    ],
)
def test_how_a_session_ends_by_itself(options: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    assert numbers(record(tmp_path, shots(9), **options)) == expected


def test_pictures_of_the_same_millisecond_are_all_kept(tmp_path: Path) -> None:
    session = record(tmp_path, shots(4, every_s=0.0001), every_s=0)
    assert [origin.path[-8:] for origin in session.origins] == ["250Z.jpg", "251Z.jpg", "252Z.jpg", "253Z.jpg"]
    assert numbers(session) == [0, 1, 2, 3]


def test_pictures_that_look_like_the_one_before_are_left_out_on_demand(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    looks = [rng.integers(0, 256, (6, 10, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(2)]
    session = record(tmp_path, shots(8, look=lambda number: looks[number // 4]), every_s=0, drop_similar=True, format="png")
    assert [images.decode(tmp_path / origin.path)[..., ::-1].tolist() for origin in session.origins] == [
        look.tolist() for look in looks
    ]
    assert [(entry.action, entry.reason) for entry in session.ledger.entries] == [("dropped", "similar_frame")] * 6
    pressed = record(tmp_path / "2", shots(4, look=lambda _: looks[0]), None, keys("", "", " "), every_s=0, drop_similar=True)
    assert len(pressed.origins) == 2  # the person at the camera wants this one


# Keys, preview, Ctrl-C


def test_keys_take_pictures_and_end_the_session(tmp_path: Path) -> None:
    assert numbers(record(tmp_path / "a", shots(9), None, keys("", " ", "x", "", " "), on_key=True)) == [1, 4]
    assert numbers(record(tmp_path / "b", shots(9), None, keys("", " ", "", "", "", "q"), every_s=2)) == [0, 1, 4]


def test_a_key_pressed_between_two_frames_counts_for_the_next(tmp_path: Path) -> None:
    given = [*shots(2), None, None, *list(shots(4))[2:]]
    assert numbers(record(tmp_path, given, None, keys("", "", " "), on_key=True)) == [2]


def test_ctrl_c_ends_the_session_and_keeps_what_was_taken(tmp_path: Path) -> None:
    def interrupted(count: int) -> Iterator[Shot]:
        yield from shots(count)
        raise KeyboardInterrupt

    assert numbers(record(tmp_path, interrupted(5), every_s=1)) == [0, 2, 4]
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "none", interrupted(0))


class FakeScreen:
    """cv2's windows, without a screen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, codes: list[int], visible: list[float]) -> None:
        self.shown: list[tuple[int, ...]] = []
        self.open = False
        monkeypatch.setattr(_camera_user, "why_no_window", lambda: "")
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: setattr(self, "open", True))
        monkeypatch.setattr(cv2, "destroyAllWindows", lambda: setattr(self, "open", False))
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image.shape))
        monkeypatch.setattr(cv2, "waitKey", lambda _: codes.pop(0) if codes else -1)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: visible.pop(0) if visible else 1.0)


def test_the_preview_shows_every_frame_and_takes_keys(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = FakeScreen(monkeypatch, [-1, 32, -1, 0x100000 + ord("Q")], [])
    with _camera_user.preview("auto", context) as window:
        assert screen.open
        session = record(tmp_path, shots(9), window, on_key=True)
    assert numbers(session) == [1]
    assert screen.shown == [(HEIGHT, WIDTH, 3)] * 4
    assert not screen.open


def test_closing_the_preview_ends_the_session(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeScreen(monkeypatch, [], [1.0, 1.0, 0.0])
    with _camera_user.preview("on", context) as window:
        assert numbers(record(tmp_path, shots(9), window, every_s=0)) == [0, 1, 2]


def test_large_pictures_are_shown_smaller_and_kept_whole(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = FakeScreen(monkeypatch, [], [])
    with _camera_user.preview("auto", context) as window:
        session = record(tmp_path, shots(1, look=lambda _: np.zeros((1080, 1920, 3), np.uint8)), window)
    assert screen.shown == [(720, 1280, 3)]
    assert images.read_header(tmp_path / session.origins[0].path).width == 1920


def test_without_a_window_the_recording_goes_on_and_says_so(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(_camera_user, "why_no_window", lambda: "there is no display")
    listening = replace(context, warn=told.append)
    with _camera_user.preview("auto", listening) as window:
        assert window is None
    assert told == ["The camera is recorded without a preview: there is no display."]
    with pytest.raises(UsageError, match="preview: there is no display"), _camera_user.preview("on", listening):
        pass
    with _camera_user.preview("off", listening) as window:
        assert window is None
    assert len(told) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is how Linux says it")
def test_a_display_that_does_not_answer_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    assert "does not answer" in _camera_user.why_no_window()
    monkeypatch.delenv("DISPLAY")
    assert _camera_user.why_no_window() == "there is no display"


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_keys_of_the_terminal_come_without_return(monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    ours, theirs = os.openpty()
    with os.fdopen(theirs, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(theirs)
        with _camera_user.terminal() as pressed:
            assert pressed is not None
            assert pressed() == ""
            os.write(ours, b"Q ")
            assert [pressed(), pressed(), pressed()] == ["q", " ", ""]
        assert termios.tcgetattr(theirs) == before
    os.close(ours)


def test_keys_alone_need_someone_who_can_press_them(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_camera_user, "why_no_window", lambda: "there is no display")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ParamsError, match="neither a preview window nor a terminal"):
        camera.fetch("0", Options(on_key=True), 0, tmp_path, context)


# A killed session


def test_a_killed_session_goes_on(tmp_path: Path) -> None:
    record(tmp_path, shots(5), every_s=1, frames=2)
    (tmp_path / "session-1" / ".77-0badcafe.part.jpg").write_bytes(b"half")
    (tmp_path / "session-1" / "notes.jpg").write_bytes(b"not ours")
    later = [shot._replace(taken=shot.taken.replace(minute=5)) for shot in shots(9)]
    session = record(tmp_path, later, every_s=1, frames=4)
    assert [origin.path[-14:] for origin in session.origins] == [
        "120000250Z.jpg",
        "120001250Z.jpg",
        "120500250Z.jpg",
        "120501250Z.jpg",
    ]
    whole = Session("camera 0", Options(frames=4), tmp_path)
    assert whole.is_complete
    assert [origin.path for origin in whole.origins] == [origin.path for origin in session.origins]


def test_seconds_of_a_killed_session_count(tmp_path: Path) -> None:
    record(tmp_path, shots(7), every_s=1)  # three seconds
    session = Session("camera 0", Options(seconds=4), tmp_path)
    assert (session.done_s, session.is_complete) == (3, False)
    session.record([shot._replace(taken=shot.taken.replace(minute=5)) for shot in shots(9)], None, None, advance)
    assert len(session.origins) == 5
    assert Session("camera 0", Options(seconds=3), tmp_path).is_complete


# A webcam, and a video in its place


class FakeWebcam:
    """`cv2.VideoCapture` of a webcam: so many pictures, then it is unplugged."""

    def __init__(self, count: int) -> None:
        self.count, self.number, self.size = count, 0, dict[int, float]()

    def set(self, name: int, value: float) -> None:
        self.size[name] = value

    def read(self) -> tuple[bool, Any]:
        self.number += 1
        return self.number <= self.count, picture(self.number % 256)

    def release(self) -> None:
        self.count = 0


def test_a_webcam_is_asked_for_a_size(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    webcam, indexes = FakeWebcam(10**9), list[int]()
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: indexes.append(index) or webcam)
    fetched = camera.fetch("2", Options(frames=3, every_s=0, preview="off", width=1920, height=1080), 0, tmp_path, context)
    assert (len(fetched.files), indexes) == (3, [2])
    assert webcam.size == {cv2.CAP_PROP_FRAME_WIDTH: 1920, cv2.CAP_PROP_FRAME_HEIGHT: 1080}
    assert webcam.count == 0, "the webcam is let go"


def test_a_webcam_that_is_not_there_is_told_in_a_line(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: FakeWebcam(0))
    with pytest.raises(DataError, match="camera 7 cannot be opened") as caught:
        camera.fetch("7", Options(preview="off"), 0, tmp_path, context)
    assert "used by no other program" in caught.value.hint


def test_a_video_in_a_cameras_place(shared_data: Path, tmp_path: Path, context: Context) -> None:
    source = f"camera:{shared_data / 'video/car-detection.mp4'}"
    params = collect.Params(source=source, options={"every_s": 5, "frames": 4, "session": "night", "preview": "off"})
    summary = collect.run({}, params, tmp_path / "out", context)
    assert (summary["images"], summary["groups"]) == (4, 1)
    assert summary["description"] == "the session 'night' of car-detection.mp4"
    found = sorted((tmp_path / "out/files/night").iterdir())
    assert len({images.decode(path).tobytes() for path in found}) == 4
    assert images.decode(found[0]).shape == (432, 768, 3)


def test_a_session_without_a_picture_is_an_error(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda index: FakeWebcam(10**9))
    monkeypatch.setattr(_camera_user, "why_no_window", lambda: "")
    FakeScreen(monkeypatch, [ord("q")], [])
    with pytest.raises(DataError, match="ended before a picture was taken"):
        camera.fetch("0", Options(on_key=True), 0, tmp_path, context)


def test_the_fingerprint_is_the_session(context: Context) -> None:
    def printed(source: str = "camera:0", **options: object) -> str:
        return collect.external(collect.Params(source=source, options=dict(options)), context)["source files"]

    assert printed() == printed() == printed("camera://0")
    assert len({printed(), printed("camera:1"), printed(session="night"), printed("camera:rtsp://10.0.0.9/a")}) == 4
    with pytest.raises(ParamsError, match="session"):
        printed(session="../evil")
