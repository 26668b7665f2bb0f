"""Downloads against a real server on this machine that breaks off, lies, is busy, redirects and wants a login."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from blake3 import blake3

from pipeline import files
from pipeline.downloads import Download, Limits, connections, download_all, transfer
from pipeline.stage import Context
from tests import serving
from tests.serving import Server

QUICK = Limits(backoff_s=0.01, read_s=2.0)
PROGRESS = Context().progress
BIG = bytes(range(256)) * (3 << 12)  # 3 MiB


def get(server: Server, path: str, out: Path, limits: Limits = QUICK, **known: object) -> tuple[str, str]:
    """(reason, detail) of one download to `out/file`."""
    wanted = Download(server.url + path, out / "file", **known)  # type: ignore[arg-type]
    outcome = download_all([wanted], PROGRESS, limits=limits)[0]
    return outcome.reason, outcome.detail


def left_over(folder: Path) -> list[str]:
    return [entry.name for entry in files.walk(folder) if files.is_temporary(entry.name)]


def test_many_files_with_their_hashes_in_order(server: Server, tmp_path: Path) -> None:
    server.pages = {f"/{number}.bin": bytes([number]) * (number + 1) for number in range(60)}
    wanted = [Download(f"{server.url}{path}", tmp_path / "a" / path[1:]) for path in server.pages]
    outcomes = download_all(wanted, PROGRESS)
    assert [outcome.download for outcome in outcomes] == wanted
    assert [outcome.hash for outcome in outcomes] == [blake3(data).hexdigest() for data in server.pages.values()]
    assert [each.target.read_bytes() for each in wanted] == list(server.pages.values())
    assert left_over(tmp_path) == []


def test_what_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    server.pages = {"/a": b"new"}
    (tmp_path / "file").write_bytes(b"old")
    assert get(server, "/a", tmp_path) == ("", "")
    assert server.requests == []
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, "not_found"),
        (410, "not_found"),
        (401, "access_denied"),
        (403, "access_denied"),
        (400, "http_error"),
        (501, "http_error"),
    ],
)
def test_final_answers_are_asked_for_once(server: Server, tmp_path: Path, code: int, reason: str) -> None:
    server.odd["/a"] = [serving.status(code)]
    found, detail = get(server, "/a", tmp_path)
    assert found == reason
    assert f"/a: {code}" in detail
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_answers_are_asked_for_again(server: Server, tmp_path: Path, code: int) -> None:
    server.pages["/a"] = b"content"
    server.odd["/a"] = [serving.status(code), serving.status(code), None]
    assert get(server, "/a", tmp_path) == ("", "")
    assert len(server.requests) == 3


def test_it_is_not_asked_for_ever(server: Server, tmp_path: Path) -> None:
    server.odd["/a"] = [serving.status(503)]
    assert get(server, "/a", tmp_path)[0] == "server_error"
    assert len(server.requests) == QUICK.attempts


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_is_kept_for_the_whole_host(server: Server, tmp_path: Path, kind: str) -> None:
    server.pages = {"/a": b"a", "/b": b"b"}

    def busy(handler: serving.Handler) -> None:
        until = {"seconds": "1", "date": email.utils.formatdate(time.time() + 2, usegmt=True)}[kind]
        handler.answer(429, b"", {"Retry-After": until})

    server.odd["/a"] = [busy, None]
    wanted = [Download(server.url + path, tmp_path / path[1:]) for path in server.pages]
    started = time.monotonic()
    outcomes = download_all(wanted, PROGRESS, limits=Limits(per_host=1, backoff_s=0.01))
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert time.monotonic() - started >= 0.9
    assert server.counts() == {"/a": 2, "/b": 1}


def test_a_host_that_wants_too_long_a_pause_is_given_up(server: Server, tmp_path: Path) -> None:
    server.odd["/a"] = [serving.status(429, {"Retry-After": "86400"})]
    started = time.monotonic()
    assert get(server, "/a", tmp_path)[0] == "too_many_requests"
    assert time.monotonic() - started < 2


def test_a_broken_connection_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG
    server.odd["/big"] = [serving.cut_after(2 << 20), None]
    assert get(server, "/big", tmp_path, sha256=hashlib.sha256(BIG).hexdigest()) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG
    again = server.requests[1].headers
    assert again["range"] == f"bytes={2 << 20}-"
    assert again["if-range"].startswith('"')
    assert left_over(tmp_path) == []


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG
    server.odd["/big"] = [serving.cut_after(2 << 20), serving.whole_without_ranges]
    assert get(server, "/big", tmp_path) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG


def test_a_file_that_changed_meanwhile_starts_anew(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG

    def change(handler: serving.Handler) -> None:
        serving.cut_after(2 << 20)(handler)
        server.pages["/big"] = BIG[::-1]

    server.odd["/big"] = [change, None]
    assert get(server, "/big", tmp_path) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG[::-1]


def test_last_modified_serves_where_there_is_only_a_weak_tag(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    server.odd["/big"] = [serving.cut_after(2 << 20, {"ETag": 'W/"x"', "Last-Modified": date}), serving.whole_without_ranges]
    assert get(server, "/big", tmp_path) == ("", "")
    assert server.requests[1].headers["if-range"] == date


def test_without_a_version_nothing_is_put_together(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG
    server.odd["/big"] = [serving.cut_after(2 << 20, {}), None]
    assert get(server, "/big", tmp_path) == ("", "")
    assert "range" not in server.requests[1].headers


def test_pieces_that_do_not_belong_together_are_fetched_again(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG

    def lies(handler: serving.Handler) -> None:
        start = 2 << 20
        handler.answer(206, bytes(len(BIG) - start), {"Content-Range": f"bytes {start}-{len(BIG) - 1}/{len(BIG)}"})

    server.odd["/big"] = [serving.cut_after(2 << 20), lies, None]
    assert get(server, "/big", tmp_path, sha256=hashlib.sha256(BIG).hexdigest()) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG


def test_a_length_that_is_promised_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = b"0123456789" * 10
    server.odd["/a"] = [serving.cut_after(40)]
    reason, detail = get(server, "/a", tmp_path)
    assert reason == "cut_off"
    assert "after 40 of 100 bytes" in detail
    assert not (tmp_path / "file").exists()


def test_known_size_and_hash(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = b"content"
    assert get(server, "/a", tmp_path, size=8)[0] == "wrong_size"
    assert get(server, "/a", tmp_path, sha256="0" * 64)[0] == "wrong_hash"
    assert list(tmp_path.iterdir()) == []
    assert get(server, "/a", tmp_path, size=7, sha256=hashlib.sha256(b"content").hexdigest().upper()) == ("", "")


def test_nothing_is_no_file(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = b""
    assert get(server, "/a", tmp_path)[0] == "empty_file"


def test_chunked_and_compressed_answers(server: Server, tmp_path: Path) -> None:
    body = gzip.compress(BIG)

    def chunked(handler: serving.Handler) -> None:
        handler.answer(200, b"", {"Content-Length": "", "Transfer-Encoding": "chunked", "Content-Encoding": "gzip"})
        for start in range(0, len(body), 999):
            piece = body[start : start + 999]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    server.odd["/a"] = [chunked]
    assert get(server, "/a", tmp_path) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG


def test_a_silent_server(server: Server, tmp_path: Path) -> None:
    server.pages["/a"] = b"content"
    server.odd["/a"] = [serving.slowly(3), None]
    assert get(server, "/a", tmp_path, Limits(backoff_s=0.01, read_s=0.3)) == ("", "")
    assert len(server.requests) == 2


def test_a_dripping_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALL_S", 0.2)

    def drip(handler: serving.Handler) -> None:
        handler.answer(200, b"", {"Content-Length": "100000"})
        for _ in range(40):
            handler.wfile.write(b"x")
            time.sleep(0.02)

    server.odd["/a"] = [drip]
    assert get(server, "/a", tmp_path, Limits(backoff_s=0.01, attempts=1))[0] == "timeout"


def test_a_file_without_end_is_given_up(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG
    assert get(server, "/big", tmp_path, Limits(max_bytes=1 << 20))[0] == "too_large"


def test_redirects(server: Server, tmp_path: Path) -> None:
    server.pages["/c"] = b"content"
    server.odd = {"/a": [serving.redirect("/b?x=1", 307)], "/b": [serving.redirect(f"{server.url}/c", 301)]}
    assert get(server, "/a", tmp_path) == ("", "")
    server.odd["/loop"] = [serving.redirect("/loop")]
    assert get(server, "/loop", tmp_path / "2")[0] == "too_many_redirects"
    assert server.counts()["/loop"] == connections.MAX_REDIRECTS + 1
    server.odd["/file"] = [serving.redirect("file:///etc/passwd")]
    reason, detail = get(server, "/file", tmp_path / "3")
    assert reason == "bad_url"
    assert "only http and https" in detail


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_leaves_what_the_next_run_goes_on_from(server: Server, tmp_path: Path) -> None:
    server.pages["/big"] = BIG

    def half(handler: serving.Handler) -> None:
        tag = f'"{hashlib.sha256(BIG).hexdigest()[:16]}"'
        handler.answer(200, BIG[: 2 << 20], {"Content-Length": str(len(BIG)), "ETag": tag})
        time.sleep(15)

    server.odd["/big"] = [half, None]
    code = f"""
    from pathlib import Path
    from pipeline.downloads import Download, download
    from pipeline.stage import Context
    download(Download("{server.url}/big", Path({str(tmp_path / "file")!r})), Context().progress)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment, stderr=subprocess.PIPE)
    until = time.monotonic() + 15
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) != 0
    assert b"KeyboardInterrupt" in (process.stderr.read() if process.stderr else b"")
    assert len(left_over(tmp_path)) == 2
    assert get(server, "/big", tmp_path) == ("", "")
    assert (tmp_path / "file").read_bytes() == BIG
    assert server.requests[1].headers["range"].startswith("bytes=")
    assert left_over(tmp_path) == []


@pytest.mark.parametrize(
    ("retry_after", "said"),
    [
        ("", "it does not say for how long"),
        ("soon", "it does not say for how long"),
        ("0", "it asks to wait 0 s"),
        ("119", "it asks to wait 119 s"),
        ("3001", "it asks to wait 51 min"),
        ("9999999999999", "it asks to wait for more than 100 days"),
        ("Tue, 20 Oct 2026 07:28:30 GMT", "it asks to wait 30 s"),
        ("Tue, 20 Oct 2026 07:27:00 GMT", "it asks to wait 0 s"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "it asks to wait for more than 100 days"),
    ],
)
def test_a_wait_is_told_in_words(retry_after: str, said: str) -> None:
    headers = {"Date": "Tue, 20 Oct 2026 07:28:00 GMT", "Retry-After": retry_after}
    assert connections.wait_in_words(connections.retry_after_s(headers)) == said


def test_a_wait_of_hours_is_told_as_the_time_when_it_ends() -> None:
    until = time.strftime("%Y-%m-%d %H:", time.localtime(time.time() + 7200))
    assert connections.wait_in_words(7200.0).startswith(f"it asks to wait until {until}")
