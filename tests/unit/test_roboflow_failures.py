"""What can go wrong between Roboflow and this machine: each is an error of one line, and none tells the key."""

from __future__ import annotations

import http.server
import socket
import sys
import time
from dataclasses import replace
from typing import Any

import pytest

from pipeline import machine
from pipeline.downloads import transfer
from pipeline.errors import DataError, MissingDependency
from pipeline.sources import _roboflow_api, _roboflow_export
from pipeline.stage import Context
from tests.packing import zip_of
from tests.roboflow_service import KEY, Roboflow, coco_export, refuse, refused, run, send, send_json, send_part

pytest.importorskip("roboflow", reason="needs the extra roboflow")


def test_an_export_that_never_ends_is_given_up(service: Roboflow, context: Context) -> None:
    service.busy["export"] = [0.42] * 10_000
    started = time.monotonic()
    error = refused(context, DataError, wait_minutes=0.005)
    assert time.monotonic() - started < 5
    assert "Roboflow makes the export of mari/sharks-tiny/3 for longer than 0.005 min (42 % done)" in error.message
    assert "collect.options.wait_minutes" in error.hint


def test_a_wrong_key(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "anotherKey")
    error = refused(context)
    assert error.message == (
        "127.0.0.1 does not accept the key for mari/sharks-tiny/3 (401): This API key does not exist (or has been revoked)."
    )
    assert "anotherKey" not in str(error)


def test_a_version_and_a_project_that_do_not_exist(service: Roboflow, context: Context) -> None:
    error = refused(context, DataError, source="roboflow:mari/sharks-tiny/9")
    assert error.message == "collect.source: the project 'mari/sharks-tiny' has no version 9 (404)."
    assert error.hint == "Versions that exist: 1, 2, 3."
    error = refused(context, DataError, source="roboflow:mari/whales/1")
    assert "no project 'mari/whales'" in error.message
    service.versions = []
    assert "none yet" in refused(context, DataError).hint


def test_a_format_that_the_project_cannot_be_exported_in(service: Roboflow, context: Context) -> None:
    service.faults["export"] = refuse(400, f"Unsupported format `folder` for\n{KEY} this project.")
    error = refused(context, DataError, format="folder")
    assert (
        "does not export mari/sharks-tiny/3 as 'folder' (400): Unsupported format `folder` for … this project." in error.message
    )


@pytest.mark.parametrize("route", ["version", "export", "download"])
@pytest.mark.parametrize(
    ("retry_after", "said"),
    [("300", "it asks to wait 5 min"), ("Wed, 21 Oct 2099 07:28:00 GMT", "it asks to wait for more than 100 days"), ("", "429")],
)
def test_too_many_requests(route: str, retry_after: str, said: str, service: Roboflow, context: Context) -> None:
    service.faults[route] = refuse(429, "Too many requests", **({"Retry_After": retry_after} if retry_after else {}))
    error = refused(context)
    assert "429" in error.message
    assert said in error.message


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("route", ["version", "export", "download"])
def test_a_refusal_that_passes(status: int, route: str, service: Roboflow, context: Context) -> None:
    def once(to: http.server.BaseHTTPRequestHandler) -> None:
        del service.faults[route]
        refuse(status, "Not now", Retry_After="1")(to)

    service.faults[route] = refuse(status, "Not now")
    assert f"{status}" in refused(context).message
    assert service.requests.count(route) == 3
    service.faults[route] = once
    started = time.monotonic()
    assert run(context)["images"] == 4
    assert time.monotonic() - started >= 1
    assert service.requests.count(route) == 3 + 2


def test_a_fault_of_the_service(service: Roboflow, context: Context) -> None:
    service.faults["export"] = lambda to: send(to, 503, b"<html>Bad gateway</html>", "text/html")
    assert "127.0.0.1 fails when asked for mari/sharks-tiny/3 (503)" in refused(context).message
    service.faults["export"] = lambda to: send(to, 200, b"<html>log in</html>", "text/html")
    assert "does not answer as Roboflow does" in refused(context).message
    service.faults["export"] = lambda to: send_json(to, 200, [1])
    assert "does not answer as Roboflow does" in refused(context).message
    for export in ({"link": None}, {"link": "file:///etc/passwd"}, 5):
        service.faults["export"] = lambda to, export=export: send_json(to, 200, {"export": export})
        assert "no link" in refused(context).message


def test_a_connection_that_is_cut_and_lengths_that_are_wrong(service: Roboflow, context: Context) -> None:
    size = len(service.packed)
    service.faults["download"] = lambda to: send_part(to, service.packed[: size // 2], size)
    broke = "127.0.0.1 does not hand out the export of mari/sharks-tiny/3: the connection broke after"
    assert f"{broke} {size // 2:,} of {size:,} bytes." in refused(context).message
    service.faults["download"] = lambda to: send_part(to, service.packed, size + 1000)
    assert f"{broke} {size:,} of {size + 1000:,} bytes." in refused(context).message
    service.faults["download"] = lambda to: send_part(to, service.packed, size - 30)
    assert "damaged or cut short" in refused(context).message
    service.faults["download"] = lambda to: send_part(to, service.packed[: size // 2], 0)
    assert "damaged or cut short" in refused(context).message
    service.faults["download"] = lambda to: send_part(to, service.packed, 0)
    assert run(context)["images"] == 4  # a length need not be announced
    del service.faults["download"]


def test_something_else_than_a_zip(service: Roboflow, context: Context) -> None:
    service.faults["download"] = lambda to: send(to, 200, b"\n<!DOCTYPE html><title>Log in</title>", "text/html")
    error = refused(context)
    assert error.message.endswith("mari/sharks-tiny/3: it sent a web page instead of a zip archive.")
    assert "login page" in error.hint
    service.faults["download"] = lambda to: send(to, 200, b"", "application/zip")
    assert "the server sent nothing" in refused(context).message
    service.faults["download"] = lambda to: send(to, 403, b"<Error>Expired</Error>", "text/xml")
    error = refused(context)
    assert "127.0.0.1 does not hand out the export of mari/sharks-tiny/3: 403" in error.message
    assert "Links run out" in error.hint


def test_a_damaged_archive_is_fetched_again(service: Roboflow, context: Context) -> None:
    whole = service.packed
    service.packed = whole[:200] + bytes(50) + whole[250:]
    error = refused(context, DataError)
    assert "Roboflow's export of mari/sharks-tiny/3 cannot be used" in error.message
    service.packed = whole
    assert run(context)["images"] == 4


@pytest.mark.parametrize("files", [{"../evil.jpg": b"x"}, {"train/a.jpg": bytes(300 * 2**20)}], ids=["slip", "bomb"])
def test_archives_that_attack_are_refused(files: dict[str, bytes], service: Roboflow, context: Context) -> None:
    service.packed = zip_of(coco_export() | files)
    error = refused(context, DataError)
    assert error.problems
    assert not (context.base / "evil.jpg").exists()
    assert not (context.base / "out" / "evil.jpg").exists()


def test_no_network_is_told_within_five_seconds(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    rfapi = _roboflow_api._load()
    original = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "api.roboflow.invalid":
            time.sleep(20)
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    for url, host in (("http://127.0.0.1:9", "127.0.0.1"), ("https://api.roboflow.invalid", "api.roboflow.invalid")):
        monkeypatch.setattr(rfapi, "API_URL", url)
        started = time.monotonic()
        error = refused(context)
        assert time.monotonic() - started < 5
        assert error.message.startswith(f"{host} cannot be reached (")


def test_a_service_that_goes_silent_after_an_answer(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_roboflow_api, "READ_S", 0.2)
    service.faults["export"] = lambda to: time.sleep(1)
    assert "silent for 0.2 s" in refused(context).message
    del service.faults["export"]

    def stall(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", str(len(service.packed)))
        to.end_headers()
        to.wfile.write(service.packed[:50])
        time.sleep(1)

    service.faults["download"] = stall
    limits = _roboflow_export.LIMITS
    monkeypatch.setattr(_roboflow_export, "LIMITS", replace(limits, read_s=0.2, attempts=1))
    assert "silent after 50 bytes" in refused(context).message


def test_a_refusal_of_the_connection_hides_the_url(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_roboflow_api, "require_reachable", lambda url: None)
    monkeypatch.setattr(_roboflow_api._load(), "API_URL", "http://127.0.0.1:9")
    assert refused(context).message == "127.0.0.1 cannot be reached (the connection fails)."


def test_a_missing_sdk_is_named(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "roboflow.adapters", None)
    error = refused(context, MissingDependency)
    assert "[roboflow]" in error.hint


def test_an_export_that_does_not_fit_the_disk(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    service.faults["download"] = lambda to: send(to, 200, service.packed, "application/zip")
    monkeypatch.setattr(transfer, "WORTH_RESUMING", 1)  # smaller ones are not looked at one by one
    monkeypatch.setattr(machine, "free_bytes", lambda folder: len(service.packed) - 1)
    error = refused(context, machine.NoRoom)
    assert "GB left" in error.message
