"""Hosts that accept a connection and then say nothing: told by name, given up soon, and no reason to wait for Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.downloads import Download, Limits, crew, download_all, meter, silence
from pipeline.errors import NetworkError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _github_api, _huggingface_hub, _kaggle_hub, _roboflow_api
from pipeline.stage import Context
from tests import huggingface_service, kaggle_service, roboflow_service, serving
from tests.collecting import published, run
from tests.huggingface_service import Hub
from tests.roboflow_service import Roboflow
from tests.serving import Handler, Server

REAL_FIRST_BYTE_S = silence.FIRST_BYTE_S
SAID = "127.0.0.1 cannot be reached (connected, but no answer in 1 s)."
ASKED_AGAIN = re.compile(r"waiting for 127\.0\.0\.1, which does not answer \(attempt [23] of 3, for up to 0 s\)")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that take no time."""
    monkeypatch.setattr(silence, "FIRST_BYTE_S", (0.1, 0.2, 0.3))
    monkeypatch.setattr(silence, "SHOW_AFTER_S", 0.05)
    monkeypatch.setattr(meter, "SHOW_EVERY_S", 0.01)
    monkeypatch.setattr(crew, "TICK_S", 0.01)
    for module in (_github_api, _kaggle_hub):
        monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.01))


def silent(handler: Handler) -> None:
    time.sleep(1)
    handler.close_connection = True


def refused(source: str, context: Context, **options: object) -> str:
    started = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        run(source, context.base / "out", context, **options)
    assert time.monotonic() - started < 5  # with the import of a library
    assert "same command again" in caught.value.hint
    return caught.value.message


def is_told(warnings: list[str]) -> bool:
    return 1 <= len(warnings) <= 2 and all(map(ASKED_AGAIN.fullmatch, warnings))


def write_list(context: Context, *urls: str) -> None:
    (context.base / "list.txt").write_text("\n".join(urls), encoding="utf-8")


# ---- downloads


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_list_of_many_urls_of_a_silent_host(server: Server, context: Context, scheme: str) -> None:
    shown: set[str] = set()

    @contextmanager
    def progress(label: str, total: int) -> Iterator[object]:
        yield lambda n=1, **info: shown.add(str(info.get("waiting", "")))

    with serving.mute() as host:
        write_list(context, *(f"{scheme}://{host}/{number}.jpg" for number in range(300)))
        assert refused("url:list.txt", replace(context, progress=progress)) == SAID  # type: ignore[arg-type]
        host.asked = 0
        assert refused(f"{scheme}://{host}/data.zip", context) == SAID
        assert host.asked == 3
    assert any(text.startswith("for 127.0.0.1 (attempt 3 of 3, ") for text in shown)


def test_a_silent_host_does_not_take_the_others_with_it(server: Server, context: Context) -> None:
    from tests.unit.test_url_source import picture

    server.pages = {f"/{number}.jpg": picture(shade=number) for number in range(20)}
    with serving.mute() as host:
        write_list(context, f"http://{host}/x.jpg", *(server.url + path for path in server.pages))
        run("url:list.txt", context.base / "out", context)
    assert len(published(context.base / "out")) == 20
    (entry,) = read_ledger(context.base / "out")
    assert (entry.path, entry.reason, entry.line) == ("x.jpg", "host_unreachable", 1)
    assert entry.detail.endswith(SAID.rstrip("."))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_silent_proxy_is_named_with_where_it_leads(
    scheme: str, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving.mute() as host:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://{host}")
        wanted = [Download(f"{scheme}://h{number}.example.org/a", tmp_path / str(number)) for number in range(40)]
        with pytest.raises(NetworkError, match=r"^The proxy 127\.0\.0\.1, on the way to h\d+\.example\.org, ") as caught:
            download_all(wanted, context.progress, limits=Limits(parallel=4, backoff_s=0.01))
    assert caught.value.message.endswith(SAID[10:])
    assert caught.value.hint == silence.REMEDY
    assert host.asked <= 3 * 4, "silence is the proxy's, not that of each host behind it"


def test_a_silent_host_behind_a_proxy_that_answers(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, server.url)
    server.pages = {"http://good.example.org/a": b"a"}
    server.odd = {"http://bad.example.org/a": [silent]}
    wanted = [Download(f"http://{name}.example.org/a", tmp_path / name) for name in ("good", "bad")]
    good, bad = download_all(wanted, context.progress, limits=Limits(parallel=1, backoff_s=0.01))
    assert (good.reason, bad.reason) == ("", "host_unreachable")
    assert bad.detail.endswith(SAID.replace("127.0.0.1", "bad.example.org").rstrip("."))
    assert server.counts()["http://bad.example.org/a"] == 3


def test_a_slow_beginner_is_asked_again_and_then_trusted(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "FIRST_BYTE_S", (0.1, 0.5))
    server.pages = {"/b": b"b"}

    def slow(handler: Handler) -> None:
        time.sleep(0.3)
        serving.redirect("/b")(handler)

    server.odd = {"/a": [slow], "/b": [serving.slowly(0.8)]}
    wanted = Download(f"{server.url}/a", tmp_path / "a")
    assert download_all([wanted], context.progress, limits=Limits(backoff_s=0.01))[0].reason == ""
    assert server.counts() == {"/a": 2, "/b": 1}, "once it has answered, it may take its time"


def test_the_rest_of_a_first_answer_may_take_its_time(server: Server, tmp_path: Path, context: Context) -> None:
    def pause(handler: Handler) -> None:
        handler.answer(200, b"half", {"Content-Length": "8"})
        time.sleep(0.4)
        handler.wfile.write(b"half")

    server.odd["/a"] = [pause]
    assert download_all([Download(f"{server.url}/a", tmp_path / "a")], context.progress)[0].reason == ""
    assert len(server.requests) == 1


def test_the_bar_says_what_is_waited_for_after_an_answer(server: Server, tmp_path: Path) -> None:
    server.pages = {"/a": b"a"}
    server.odd["/a"] = [serving.status(503), None]
    shown: set[str] = set()

    @contextmanager
    def progress(label: str, total: int) -> Iterator[object]:
        yield lambda n=1, **info: shown.add(str(info.get("waiting", "")))

    download_all([Download(f"{server.url}/a", tmp_path / "a")], progress, limits=Limits(backoff_s=0.4))  # type: ignore[arg-type]
    assert any(text.startswith("for 127.0.0.1 (attempt 2 of 6, next in ") for text in shown)


def test_many_silent_hosts_are_a_network_that_is_missing(tmp_path: Path, context: Context) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(serving.mute()) for _ in range(40)]
        wanted = [Download(f"http://{host}/{number}", tmp_path / str(number)) for number, host in enumerate(hosts)]
        with pytest.raises(NetworkError) as caught:
            download_all(wanted, context.progress, limits=Limits(parallel=10, per_host=10))
        assert sum(host.asked > 0 for host in hosts) < len(hosts)
    assert caught.value.hint == silence.REMEDY


def test_what_delays_the_next_question_is_not_silence(server: Server, tmp_path: Path, context: Context) -> None:
    """Here the pause after the first failure is longer than a host is waited for in all."""
    server.pages = {"/a": b"a"}
    server.odd = {"/a": [silent, None]}
    wanted = Download(f"{server.url}/a", tmp_path / "a")
    assert download_all([wanted], context.progress, limits=Limits(backoff_s=2))[0].reason == ""
    assert server.counts() == {"/a": 2}


def test_a_host_that_is_always_slow_can_be_used(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REAL_FIRST_BYTE_S[0] < 5
    monkeypatch.setattr(silence, "FIRST_BYTE_S", (0.01, 0.02, REAL_FIRST_BYTE_S[-1]))
    server.pages = {"/a": b"a"}
    server.odd = {"/a": [serving.slowly(0.5)]}
    wanted = Download(f"{server.url}/a", tmp_path / "a")
    assert download_all([wanted], context.progress, limits=Limits(backoff_s=0.01))[0].reason == ""
    assert server.counts() == {"/a": 3}
    assert REAL_FIRST_BYTE_S[-1] >= max(Limits().read_s, _kaggle_hub.READ_S, _roboflow_api.READ_S, _huggingface_hub.READ_S)


# ---- services


def test_github(server: Server, context: Context, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving.mute() as host:
        monkeypatch.setenv("GITHUB_API_URL", f"http://{host}")
        assert refused("github:mari/reef", context) == SAID
    assert is_told(warnings)


def test_kaggle(context: Context, warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kagglehub")
    with kaggle_service.kaggle(monkeypatch, context.base / "home") as server:
        server.odd[kaggle_service.GET] = [silent]
        assert refused("kaggle:mari/fish", context) == SAID
        assert server.counts()[kaggle_service.GET] == 3
        assert is_told(warnings)


def test_kaggles_storage_and_its_api_once_it_has_answered(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kagglehub")
    with kaggle_service.kaggle(monkeypatch, context.base / "home") as server:
        server.odd[kaggle_service.STORED] = [silent]
        assert refused("kaggle:mari/fish", context) == SAID.replace("127.0.0.1", "localhost")
        assert sum(each.path.startswith(kaggle_service.STORED) for each in server.requests) == 3
        assert server.counts()[kaggle_service.DOWNLOAD] == 1
        server.requests.clear()
        monkeypatch.setattr(_kaggle_hub, "READ_S", 0.1)
        server.odd[kaggle_service.DOWNLOAD] = [silent]
        assert refused("kaggle:mari/fish", context) == "127.0.0.1 does not answer (ReadTimeout)."
        assert server.counts()[kaggle_service.DOWNLOAD] == 3, "nobody tries again what was tried often enough"


@pytest.mark.parametrize("route", ["info", "lfs"])
def test_hugging_face(route: str, hub: Hub, context: Context, warnings: list[str]) -> None:
    pytest.importorskip("datasets")
    hub.faults[route] = [lambda to: time.sleep(1)]
    assert refused(huggingface_service.SOURCE, context) == SAID
    assert is_told(warnings)


def test_hugging_face_may_pause_amid_its_first_answer(hub: Hub, context: Context) -> None:
    pytest.importorskip("datasets")
    data = hub.repos[huggingface_service.REPO]["data/train-00000-of-00002.parquet"]
    hub.repos[huggingface_service.REPO] = {"data/train-00000-of-00001.parquet": data}

    def pause(to: huggingface_service.Handler) -> None:
        to.send(200, data[:99], {"Content-Length": str(len(data))})
        time.sleep(0.4)
        to.wfile.write(data[99:])

    hub.faults["lfs"] = [pause]
    run(huggingface_service.SOURCE, context.base / "out", context)
    assert hub.requests["lfs"] == 1


@pytest.mark.parametrize("route", ["version", "download"])
def test_roboflow(route: str, service: Roboflow, context: Context, warnings: list[str]) -> None:
    pytest.importorskip("roboflow")
    with serving.mute() as host:
        if route == "version":
            service.faults["version"] = lambda to: time.sleep(1)
        else:
            export = {"link": f"http://{host}/ds/abc"}
            service.faults["export"] = lambda to: roboflow_service.send_json(to, 200, {"export": export})
        assert refused(roboflow_service.SOURCE, context) == SAID
    assert is_told(warnings) == (route == "version")  # of a download the bar tells


@pytest.mark.parametrize("service_name", ["kaggle", "roboflow"])
def test_an_answer_that_is_read_at_once_may_pause_as_well(service_name: str, server: Server, context: Context) -> None:
    requests = pytest.importorskip("requests")

    def pause(handler: Handler) -> None:
        handler.answer(200, b"half", {"Content-Length": "8"})
        handler.wfile.flush()
        time.sleep(0.4)
        handler.wfile.write(b"half")

    server.odd["/a"] = [pause]
    if service_name == "kaggle":
        answer = _kaggle_hub._session_type(context)().get(f"{server.url}/a")
    else:
        answer = _roboflow_api._get(requests, "key", silence.Silence(), print, f"{server.url}/a")
    assert answer.content == b"halfhalf"
    assert server.counts() == {"/a": 1}


def test_kaggle_tries_again_where_no_connection_comes_about(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = pytest.importorskip("requests")
    sent: list[object] = []

    def send(self: object, request: object, **options: object) -> None:
        sent.append(request)
        raise requests.exceptions.ConnectTimeout

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(NetworkError, match=r"^storage\.example does not answer \(ConnectTimeout\)"):
        _kaggle_hub._session_type(context)().get("http://storage.example/a")
    assert len(sent) == len(_kaggle_hub.PAUSES_S) + 1


def test_roboflow_may_pause_amid_its_first_answer(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("roboflow")
    monkeypatch.setattr(_roboflow_api, "READ_S", 1.0)
    other = roboflow_service.Roboflow()

    def pause(to: roboflow_service.http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(other.packed)))
        to.end_headers()
        to.wfile.write(other.packed[:99])
        time.sleep(0.4)
        to.wfile.write(other.packed[99:])

    other.faults["download"] = pause
    export = {"link": f"{other.url}/ds/abc"}
    service.faults["export"] = lambda to: roboflow_service.send_json(to, 200, {"export": export})
    assert run(roboflow_service.SOURCE, context.base / "out", context)["images"] == 4
    other.close()


# ---- Ctrl-C (where it can be sent)


needs_signals = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")

INTERRUPTED = """
import sys
from pathlib import Path
from pipeline.stage import Context
from tests import collecting
base = Path(sys.argv[2])
collecting.run(sys.argv[1], base / "out", Context(base=base, cache=base / "workspace" / ".cache"))
"""


def interrupted(source: str, context: Context, is_asked: Callable[[], object]) -> float:
    """Seconds between Ctrl-C, given a while after `is_asked`, and the end of the process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), source, str(context.base)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while not is_asked() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in told, told
    return time.monotonic() - started


@needs_signals
def test_ctrl_c_during_downloads(server: Server, context: Context) -> None:
    server.odd["/x.jpg"] = [serving.slowly(20)]
    write_list(context, f"{server.url}/x.jpg")
    assert interrupted("url:list.txt", context, lambda: server.requests) < 2


@needs_signals
def test_ctrl_c_during_files_of_hugging_face(hub: Hub, context: Context) -> None:
    pytest.importorskip("datasets")
    hub.faults["head"] = [lambda to: time.sleep(20)]
    assert interrupted(huggingface_service.SOURCE, context, lambda: hub.requests["head"]) < 2


@needs_signals
def test_ctrl_c_during_a_question_to_github(server: Server, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", server.url)
    server.odd["/repos/mari/reef/commits/HEAD"] = [serving.slowly(20)]
    assert interrupted("github:mari/reef", context, lambda: server.requests) < 2
