"""Downloads from several hosts, with credentials, through proxies, without a network, on a full disk: against a real server."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import urls
from pipeline.downloads import Download, Limits, connections, download, download_all
from pipeline.errors import DataError, NetworkError
from pipeline.stage import Context
from tests import serving
from tests.serving import Server

QUICK = Limits(backoff_s=0.01, read_s=2.0)
PROGRESS = Context().progress


def test_credentials_go_to_their_host_alone_and_are_not_shown(server: Server, tmp_path: Path) -> None:
    with serving.serving() as other:
        other.pages["/b"] = b"content"
        server.odd["/a"] = [serving.redirect(f"{other.url}/b")]
        url = f"http://me:s%40crt@127.0.0.1:{server.port}/a?token=abc"
        assert download_all([Download(url, tmp_path / "a")], PROGRESS)[0].reason == ""
        assert server.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"me:s@crt").decode()
        assert "authorization" not in other.requests[0].headers
    server.odd["/a"] = [serving.status(404)]
    detail = download_all([Download(url, tmp_path / "b")], PROGRESS)[0].detail
    assert detail == f"{server.url}/a: 404 Not Found"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@h.org:8443/a.jpg?width=640&token=xyz#top", "https://h.org:8443/a.jpg?width=640"),
        ("https://h/a?X-Amz-Signature=1&X-Amz-Date=2&id=7", "https://h/a?id=7"),
        ("https://h/a?sv=1&sig=abc%3D", "https://h/a?sv=1"),
        ("https://h/a?q=" + "a1B2" * 12, "https://h/a"),
        ("https://h/a.jpg?name=cats and dogs", "https://h/a.jpg?name=cats and dogs"),
        ("http://h]x@[/a?token=1", "http://h]x@[/a"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, expected: str) -> None:
    assert urls.shown(url).replace("//h]x@[", "//[") == expected.replace("//h]x@[", "//[")


@pytest.mark.parametrize(
    "url", ["ftp://h/a", "file:///etc/passwd", "h/a.jpg", "http://", "http://[::1/a", "http://h:99999/", "http://h/a b", ""]
)
def test_what_is_no_url_is_told_without_asking(url: str, tmp_path: Path) -> None:
    outcome = download_all([Download(url, tmp_path / "a")], PROGRESS)[0]
    assert outcome.reason == "bad_url"
    assert outcome.detail


def test_one_bad_apple_does_not_stop_the_rest(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{number}": b"x" * 100 for number in range(20)}
    server.odd["/7"] = [serving.status(500)]
    del server.pages["/3"]
    wanted = [Download(f"{server.url}/{number}", tmp_path / str(number)) for number in range(20)]
    wanted.append(Download("http://127.0.0.1:9/gone", tmp_path / "gone"))
    outcomes = download_all(wanted, PROGRESS, limits=QUICK)
    bad = {outcome.download.target.name: outcome.reason for outcome in outcomes if outcome.reason}
    assert bad == {"3": "not_found", "7": "server_error", "gone": "host_unreachable"}


def test_a_check_refuses_a_file_with_its_own_reason(server: Server, tmp_path: Path) -> None:
    from pipeline.images import read_header

    server.odd["/a.jpg"] = [serving.html]
    outcome = download_all([Download(f"{server.url}/a.jpg", tmp_path / "a.jpg")], PROGRESS, lambda path: void(read_header(path)))[
        0
    ]
    assert (outcome.reason, outcome.detail) == ("not_an_image", f"{server.url}/a.jpg: not an image")
    assert list(tmp_path.iterdir()) == []


def void(_: object) -> None:
    return None


def test_no_network_is_told_in_seconds_with_the_host(tmp_path: Path, server: Server) -> None:
    with socket.socket() as full:  # accepts nothing: its queue is full, as a firewall that swallows packets
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with pytest.raises(NetworkError, match=r"127\.0\.0\.1 cannot be reached") as caught:
            download_all([Download(f"http://127.0.0.1:{port}/{n}", tmp_path / str(n)) for n in range(50)], PROGRESS)
        assert time.monotonic() - started < 5
        for filler in fillers:
            filler.close()
    assert "same command" in caught.value.hint
    with pytest.raises(NetworkError, match="cannot be reached"):
        download(Download("http://127.0.0.1:9/a", tmp_path / "a"), PROGRESS)


def test_no_name_server(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(5)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"example\.org cannot be reached \(no answer within 4 s\)"):
        download(Download("http://example.org/a", tmp_path / "a"), PROGRESS)
    assert time.monotonic() - started < 5


def test_a_single_download_raises_with_what_to_do(server: Server, tmp_path: Path) -> None:
    server.odd["/a"] = [serving.status(401)]
    with pytest.raises(NetworkError, match=r"/a: 401 Unauthorized\.") as caught:
        download(Download(f"{server.url}/a", tmp_path / "a"), PROGRESS)
    assert "login" in caught.value.hint


def test_no_more_at_once_than_allowed(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{number}": b"x" for number in range(12)}
    server.odd = {path: [serving.slowly(0.05)] for path in server.pages}
    wanted = [Download(server.url + path, tmp_path / path[1:]) for path in server.pages]
    download_all(wanted, PROGRESS, limits=Limits(per_host=3))
    assert server.most_at_once == 3


def test_no_faster_than_allowed(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{number}": b"x" for number in range(6)}
    wanted = [Download(server.url + path, tmp_path / path[1:]) for path in server.pages]
    started = time.monotonic()
    download_all(wanted, PROGRESS, limits=Limits(requests_per_second=10))
    assert time.monotonic() - started >= 0.49


def test_a_full_disk_is_told_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    server.pages = {"/a": b"x"}
    with pytest.raises(DataError, match="GB left"):
        download(Download(f"{server.url}/a", tmp_path / "a", size=1 << 60), PROGRESS)
    assert server.requests == []


def test_a_single_file_that_does_not_fit(server: Server, tmp_path: Path) -> None:
    server.odd["/a"] = [lambda handler: handler.answer(200, b"", {"Content-Length": str(1 << 55)})]
    with pytest.raises(DataError, match="GB left"):
        download(Download(f"{server.url}/a", tmp_path / "a"), PROGRESS)


def test_progress_counts_files_and_tells_rate_and_time_left(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{number}": b"x" * 10_000 for number in range(8)}
    server.odd = {path: [serving.slowly(0.3)] for path in server.pages}
    seen: list[tuple[int, dict[str, object]]] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[object]:
        assert (label, total) == ("download", 8)
        yield lambda n=1, **info: seen.append((n, info))

    wanted = [Download(server.url + path, tmp_path / path[1:]) for path in server.pages]
    download_all(wanted, progress, limits=Limits(per_host=2))  # type: ignore[arg-type]
    assert sum(n for n, _ in seen) == 8
    assert any({"MB", "MB/s", "ETA"} <= info.keys() for _, info in seen)


def test_proxies_of_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages = {"http://example.org/a": b"by proxy"}
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pw@127.0.0.1:{server.port}")
    monkeypatch.setenv("http_proxy", f"http://me:pw@127.0.0.1:{server.port}")
    download(Download("http://example.org/a", tmp_path / "a"), PROGRESS)
    assert (tmp_path / "a").read_bytes() == b"by proxy"
    assert server.requests[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.pages["/b"] = b"direct"
    download(Download(f"{server.url}/b", tmp_path / "b"), PROGRESS)
    assert "proxy-authorization" not in server.requests[1].headers


def test_a_proxy_that_is_gone_is_named_with_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    said = r"^The proxy 127\.0\.0\.1, on the way to example\.org, cannot be reached \("
    with pytest.raises(NetworkError, match=said):
        connections.require_reachable("http://example.org/a")
    with pytest.raises(NetworkError, match=said):
        download(Download("http://example.org/a", tmp_path / "a"), PROGRESS)
