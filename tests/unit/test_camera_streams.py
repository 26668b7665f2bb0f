"""Streams of a camera: a server on this machine that speaks as IP cameras do, and drops, hangs and asks for a password."""

from __future__ import annotations

import base64
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import images
from pipeline.errors import DataError, NetworkError, ParamsError
from pipeline.sources import _camera_address, _camera_device, camera
from pipeline.sources.camera import Options
from pipeline.stage import Context
from pipeline.stages import collect
from tests import serving
from tests.cameras import mjpeg, number_in
from tests.serving import Server

USER, PASSWORD = "me", "s3cr3t/pass"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
def server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name in list(os.environ):
        if name.startswith("CAMERA_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(_camera_device, "PAUSE_S", 0.05)
    server.odd["/video"] = [mjpeg()]
    return server


def options(**given: object) -> Options:
    return Options.model_validate({"every_s": 0.04, "frames": 4, "preview": "off", **given})


def test_a_stream_is_recorded_as_it_comes(server: Server, tmp_path: Path, context: Context) -> None:
    began = time.monotonic()
    fetched = camera.fetch(f"{server.url}/video", options(every_s=0.2), 0, tmp_path, context)
    assert time.monotonic() - began >= 0.5
    numbers = [number_in(images.decode(tmp_path / origin.path)) for origin in fetched.files]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 4
    assert {origin.group for origin in fetched.files} == {f"{server.url}/video session-1"}
    assert fetched.description == f"the session 'session-1' of {server.url}/video"
    assert fetched.ledger.entries == []


def test_a_stream_that_breaks_off_is_taken_up_again(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd["/video"] = [mjpeg(count=5), serving.status(503), mjpeg()]
    fetched = camera.fetch(f"{server.url}/video", options(frames=12, every_s=0), 0, tmp_path, context)
    assert len(fetched.files) == 12
    assert len(server.requests) >= 3
    (entry,) = fetched.ledger.entries
    assert (entry.reason, entry.action) == ("camera_interrupted", "kept")
    assert entry.detail.startswith("the camera broke off 1 times, ")


def test_a_stream_that_falls_silent_is_opened_anew(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_camera_device, "SILENT_S", 1.5)
    server.odd["/video"] = [mjpeg(count=4, every_s=0.01), mjpeg()]
    hanging = server.odd["/video"][0]
    server.odd["/video"][0] = lambda handler: (hanging(handler), time.sleep(6))[0]
    fetched = camera.fetch(f"{server.url}/video", options(frames=8, every_s=0), 0, tmp_path, context)
    assert len(fetched.files) == 8
    assert [entry.reason for entry in fetched.ledger.entries] == ["camera_interrupted"]


def test_a_stream_that_is_lost_is_an_error_and_the_next_run_goes_on(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_camera_device, "LOST_S", 0.5)
    server.odd["/video"] = [mjpeg(count=5), serving.status(503)]
    with pytest.raises(NetworkError, match="has given no picture for") as caught:
        camera.fetch(f"{server.url}/video", options(frames=20, every_s=0), 0, tmp_path, context)
    assert "goes on with this session" in caught.value.hint
    kept = {path.name for path in (tmp_path / "session-1").iterdir()}
    assert kept
    server.odd["/video"] = [mjpeg()]
    fetched = camera.fetch(f"{server.url}/video", options(frames=20, every_s=0), 0, tmp_path, context)
    assert len(fetched.files) == 20
    assert kept < {Path(origin.path).name for origin in fetched.files}


def test_a_session_without_an_end_is_ended_by_the_loss_of_the_camera(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_camera_device, "LOST_S", 0.5)
    server.odd["/video"] = [mjpeg(count=5), serving.status(503)]
    told: list[str] = []
    listening = replace(context, warn=told.append)
    fetched = camera.fetch(f"{server.url}/video", options(frames=None, every_s=0), 0, tmp_path, listening)
    assert 1 <= len(fetched.files) <= 5
    assert [entry.reason for entry in fetched.ledger.entries] == ["camera_lost"]
    assert "has given no picture for" in told[0]
    with pytest.raises(NetworkError, match="cannot be opened"):
        camera.fetch(f"{server.url}/video", options(frames=None, session="other"), 0, tmp_path, listening)


def test_a_camera_that_is_silent_from_the_start(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_camera_device, "SILENT_S", 0.5)
    server.odd["/video"] = [serving.slowly(4)]
    began = time.monotonic()
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:\d+/video (gives no picture in 0\.5 s|cannot be opened)"):
        camera.fetch(f"{server.url}/video", options(), 0, tmp_path, context)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_camera_that_cannot_be_reached(scheme: str, server: Server, tmp_path: Path, context: Context) -> None:
    server.close()
    with pytest.raises(NetworkError, match=rf"{scheme}://127\.0\.0\.1:{server.port}/video cannot be opened") as caught:
        camera.fetch(f"{scheme}://127.0.0.1:{server.port}/video", options(), 0, tmp_path, context)
    assert "\n" not in caught.value.message


def test_what_is_no_stream(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd["/video"] = [serving.html]
    with pytest.raises(NetworkError, match="cannot be opened"):
        camera.fetch(f"{server.url}/video", options(), 0, tmp_path, context)


# Passwords


@pytest.mark.parametrize("place", ["environment", ".env", "text file"])
def test_the_password_reaches_the_camera_and_nothing_else(
    place: str,
    server: Server,
    tmp_path: Path,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, url = f"camera:{server.url}/video", f"http://me:s3cr3t%2Fpass@127.0.0.1:{server.port}/video"
    if place == "environment":
        monkeypatch.setenv("CAMERA_USER", USER)
        monkeypatch.setenv("CAMERA_PASSWORD", PASSWORD)
    elif place == ".env":
        (tmp_path / ".env").write_text(f"# of mine\nexport CAMERA_USER={USER}\nCAMERA_PASSWORD='{PASSWORD}'\n", encoding="utf-8")
    else:
        source = "camera:mine.txt"
        (tmp_path / "mine.txt").write_text(f"# the gate\n{url}\n", encoding="utf-8")
    server.odd["/video"] = [mjpeg(login=BASIC)]
    params = collect.Params(source=source, options={"frames": 2, "every_s": 0, "preview": "off"})
    summary = collect.run({}, params, tmp_path / "out", context)
    printed = str(collect.external(params, context))
    server.odd["/video"] = [serving.status(503)]
    with pytest.raises(NetworkError) as caught:
        collect.run({}, params, tmp_path / "again", context)
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.json*"))
    seen = " ".join([printed, str(summary), str(caught.value), repr(caught.value), *capfd.readouterr()]).encode() + written
    assert summary["images"] == 2
    assert b"s3cr3t" not in seen
    assert f"127.0.0.1:{server.port}/video".encode() in written


def test_a_wrong_password_is_not_shown(
    server: Server, tmp_path: Path, context: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    server.odd["/video"] = [mjpeg(login=BASIC)]
    (tmp_path / "mine.txt").write_text(f"http://me:wr0ng@127.0.0.1:{server.port}/video", encoding="utf-8")
    with pytest.raises(NetworkError) as caught:
        camera.fetch("mine.txt", options(), 0, tmp_path, context)
    assert "CAMERA_PASSWORD" in caught.value.hint
    assert "wr0ng" not in " ".join([str(caught.value), *capfd.readouterr()])


def test_the_login_of_the_address_goes_before_that_of_the_environment(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_USER", "other")
    (tmp_path / "mine.txt").write_text("rtsp://me:pw@10.0.0.9:554/a", encoding="utf-8")
    address = _camera_address.parse("mine.txt", context).with_login(tmp_path)
    assert address.target == "rtsp://me:pw@10.0.0.9:554/a"
    assert "pw" not in repr(address)
    assert _camera_address.parse("rtsp://10.0.0.9/a", context).with_login(tmp_path).target == "rtsp://other:@10.0.0.9/a"


@pytest.mark.parametrize("location", ["rtsp://me:pw@10.0.0.9/a", "http://10.0.0.9/a?token=abc"])
def test_a_password_in_the_params_is_refused(location: str, context: Context) -> None:
    with pytest.raises(ParamsError, match="password or token") as caught:
        collect.external(collect.Params(source=f"camera:{location}"), context)
    assert "camera:my-camera.txt" in caught.value.hint
    assert "pw" not in caught.value.message
    assert "abc" not in caught.value.message


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("", "there is no camera"),
        ("front", "there is no camera 'front'"),
        ("ftp://10.0.0.9/a", "a stream begins with rtsp"),
        ("rtsp://", "names no host"),
        ("two.txt", "neither a video nor a text"),
        ("noise.txt", "neither a video nor a text"),
    ],
)
def test_mistakes_in_the_address(location: str, told: str, tmp_path: Path, context: Context) -> None:
    (tmp_path / "two.txt").write_text("rtsp://10.0.0.9/a\nrtsp://10.0.0.9/b\n", encoding="utf-8")
    (tmp_path / "noise.txt").write_bytes(b"\xff\xfe\0\1")
    with pytest.raises((ParamsError, DataError), match=told):
        collect.external(collect.Params(source=f"camera:{location}"), context)


def test_a_text_in_a_videos_place_is_refused(tmp_path: Path, context: Context) -> None:
    (tmp_path / "list.mp4").write_text("#EXTM3U\nhttp://example.org/secret.ts\n", encoding="utf-8")
    with pytest.raises(DataError, match="a text, no video"):
        camera.fetch("list.mp4", options(), 0, tmp_path / "out", context)
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match="not a video"):
        camera.fetch("noise.mp4", options(), 0, tmp_path / "out", context)
