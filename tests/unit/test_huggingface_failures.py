"""What can go wrong between the Hugging Face hub and this machine: each is an error of one line, and none tells the token."""

from __future__ import annotations

import email.utils
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.machine import NoRoom
from pipeline.sources import _huggingface_files, _huggingface_hub
from pipeline.stage import Context
from tests.huggingface_service import (
    REPO,
    SOURCE,
    TOKEN,
    Handler,
    Hub,
    cut_after,
    entry,
    html,
    refuse,
    refused,
    run,
    table,
)

pytest.importorskip("datasets", reason="needs the extra huggingface")

SHARD = "data/train-00000-of-00002.parquet"


def test_a_data_set_that_is_not_there_or_not_for_everybody(hub: Hub, context: Context, monkeypatch: Any) -> None:
    error = refused(context, DataError, source="huggingface:mari/whales")
    assert error.message == (
        "collect.source: 127.0.0.1 has no data set 'mari/whales' that somebody without a token may see (401)."
    )
    assert "HF_TOKEN" in error.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error = refused(context, DataError, source="huggingface:mari/whales")
    assert error.message == "collect.source: 127.0.0.1 has no data set 'mari/whales' that this token may see (404)."


def test_a_token_that_is_not_accepted(hub: Hub, context: Context, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults["info"] = [refuse(401, "Invalid credentials in Authorization header")]
    assert refused(context).message == "127.0.0.1 does not accept the token for mari/reef (401)."
    hub.faults["info"] = [refuse(403, f"Forbidden for {TOKEN}")]
    assert refused(context).message == "127.0.0.1 does not accept the token for mari/reef (403)."


@pytest.mark.parametrize("route", ["info", "head"])
def test_a_gated_data_set(route: str, hub: Hub, context: Context, monkeypatch: Any) -> None:
    hub.faults[route] = [refuse(401, "Access to dataset mari/reef is restricted.", "GatedRepo")]
    error = refused(context)
    assert error.message == "The data set mari/reef is gated, and there is no token (401)."
    assert f"Agree to its terms at {hub.url}/datasets/mari/reef" in error.hint
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults[route] = [refuse(403, "Access to dataset mari/reef is restricted.", "GatedRepo")]
    assert refused(context).message == "The data set mari/reef is gated, and this token has no access to it (403)."


def test_a_revision_that_is_not_there(hub: Hub, context: Context) -> None:
    error = refused(context, DataError, source=f"{SOURCE}@v9")
    assert error.message == "collect.source: the data set mari/reef has no revision 'v9' (404)."


def test_a_file_that_is_listed_and_not_there(hub: Hub, context: Context) -> None:
    hub.faults["head"] = [None, refuse(404, "Entry not found", "EntryNotFound", X_Repo_Commit="a" * 40)]
    assert "lists a file of mari/reef that it does not hand out (404)" in refused(context).message


@pytest.mark.parametrize("route", ["info", "tree", "head", "file", "lfs"])
def test_a_short_wait_is_kept(route: str, hub: Hub, context: Context, warnings: list[str]) -> None:
    hub.faults[route] = [refuse(429, "Too many requests", Retry_After="7"), None]
    assert run(context)["images"] == 9
    assert [wait for wait in hub.waits if wait >= 7]
    assert [text.partition(" asks")[0] for text in warnings] == ["127.0.0.1"]
    assert "7 s without requests (429)" in warnings[0]


@pytest.mark.parametrize("route", ["info", "tree", "head", "file", "lfs"])
def test_a_wait_until_a_date_is_kept_once(route: str, hub: Hub, context: Context, warnings: list[str]) -> None:
    """The client does not read dates."""
    until = email.utils.formatdate(time.time() + 100, usegmt=True)
    hub.faults[route] = [refuse(429, "Too many requests", Retry_After=until), None]
    assert run(context)["images"] == 9
    assert len([wait for wait in hub.waits if 50 < wait <= 100]) == 1
    assert " s without requests (429)" in warnings[0]


@pytest.mark.parametrize("route", ["info", "tree", "head", "file", "lfs"])
@pytest.mark.parametrize("headers", [{"Retry_After": "3000"}, {"RateLimit": '"api";r=0;t=3000'}])
def test_a_long_wait_is_refused(route: str, headers: dict[str, str], hub: Hub, context: Context) -> None:
    hub.faults[route] = [refuse(429, "Too many requests", **headers)]
    error = refused(context)
    assert error.message == "127.0.0.1 answers no more for now: too many requests (429); it asks to wait 50 min."
    assert not [wait for wait in hub.waits if wait > 300]


@pytest.mark.parametrize("route", ["info", "tree", "head", "file", "lfs"])
def test_a_fault_of_the_hub(route: str, hub: Hub, context: Context) -> None:
    hub.faults[route] = [refuse(503, "maintenance"), None]
    if route in ("file", "lfs"):  # the client tries these once
        assert "127.0.0.1 fails when asked for mari/reef (503)." in refused(context).message
    assert run(context)["images"] == 9
    hub.repos[REPO] = table() | {"README.md": b"another", SHARD: table()[SHARD] + b" "}
    hub.branches["main"] = "b" * 40
    hub.faults[route] = [refuse(503, "maintenance")]
    assert "127.0.0.1 fails when asked for mari/reef (503)." in refused(context).message


def test_too_many_requests_for_too_long(hub: Hub, context: Context) -> None:
    hub.faults["tree"] = [refuse(429, "Too many requests", Retry_After="2")]
    assert "too many requests (429); it asks to wait 2 s" in refused(context).message


def test_a_cut_connection_goes_on_where_it_was(hub: Hub, context: Context) -> None:
    data = hub.repos[REPO][SHARD]
    del hub.repos[REPO]["data/train-00001-of-00002.parquet"], hub.repos[REPO]["data/validation-00000-of-00001.parquet"]
    hub.faults["lfs"] = [cut_after(data, len(data) // 2), None]
    assert run(context)["images"] == 4
    assert hub.requests["lfs"] == 2


def test_a_connection_that_is_always_cut(hub: Hub, context: Context) -> None:
    hub.faults["lfs"] = [cut_after(b"x" * 9999, 0)]
    assert refused(context).message == "127.0.0.1 does not hand out mari/reef (the connection broke)."
    assert not [path for path in context.cache.rglob("blobs/*") if path.stat().st_size > 1000]


def test_lengths_and_contents_that_are_wrong(hub: Hub, context: Context) -> None:
    data = hub.repos[REPO][SHARD]
    short = {"Content-Length": str(len(data) - 9)}
    hub.faults["lfs"] = [lambda to: to.send(200, data[:-9], short)]
    assert "127.0.0.1 broke off: a file of mari/reef has another length than it announced" in refused(context).message
    changed = bytes(len(data))
    hub.faults["lfs"] = [lambda to: to.send(200, changed, {})]
    hub.repos[REPO] = {SHARD: data}
    error = refused(context)
    assert error.message == f"127.0.0.1 sent other bytes for {SHARD} than the {len(data):,} that it lists."
    hub.faults.clear()
    assert run(context)["images"] == 4


def test_a_list_that_does_not_fit_the_files(hub: Hub, context: Context) -> None:
    data = hub.repos[REPO][SHARD]
    hub.repos[REPO] = {SHARD: data}
    hub.faults["tree"] = [lambda to: to.send_json([entry(SHARD, data + b"more")])]
    assert f"127.0.0.1 sent {len(data):,} bytes for {SHARD} than" in refused(context).message


@pytest.mark.parametrize("route", ["info", "tree", "head", "file"])
def test_a_page_instead_of_an_answer(route: str, hub: Hub, context: Context) -> None:
    hub.faults[route] = [html]
    error = refused(context)
    assert error.message in (
        "127.0.0.1 does not answer as Hugging Face does when asked for mari/reef.",
        "127.0.0.1 broke off: a file of mari/reef has another length than it announced.",
    )
    hub.faults["info"] = [lambda to: to.send_json([1])]
    assert "does not answer as Hugging Face does" in refused(context).message
    hub.faults["info"] = [lambda to: to.send_json({"id": "../../x", "sha": "a" * 40})]
    assert "does not answer as Hugging Face does" in refused(context).message


def test_a_hub_that_goes_silent_after_an_answer(hub: Hub, context: Context, monkeypatch: Any) -> None:
    def silent(to: Handler) -> None:
        to.close_connection = True
        time.sleep(1)

    monkeypatch.setattr(_huggingface_hub, "READ_S", 0.1)
    for route in ("tree", "head"):
        hub.faults = {route: [silent]}
        assert refused(context).message == "127.0.0.1 does not hand out mari/reef (silent for too long)."


def test_no_network_is_told_within_five_seconds(context: Context, monkeypatch: Any) -> None:
    for url, host in (("http://127.0.0.1:9", "127.0.0.1"), ("https://hub.invalid", "hub.invalid")):
        monkeypatch.setenv("HF_ENDPOINT", url)
        started = time.monotonic()
        error = refused(context)
        assert time.monotonic() - started < 5
        assert error.message.startswith(f"{host} cannot be reached (")


def test_a_disk_that_is_too_small(hub: Hub, context: Context, monkeypatch: Any) -> None:
    def full(folder: Path) -> Any:
        return type("Usage", (), {"free": 100})

    monkeypatch.setattr("shutil.disk_usage", full)
    assert "what is to be fetched takes" in refused(context, NoRoom).message


def test_a_bug_is_no_network_error(hub: Hub, context: Context, monkeypatch: Any) -> None:
    monkeypatch.setattr(_huggingface_files, "_checked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(context)


def test_the_client_is_left_as_it_was(hub: Hub, context: Context) -> None:
    import logging

    from huggingface_hub import constants, get_session

    before = (constants.HF_HUB_DISABLE_XET, constants.DOWNLOAD_CHUNK_SIZE, logging.getLogger("huggingface_hub").level)
    run(context)
    assert before == (constants.HF_HUB_DISABLE_XET, constants.DOWNLOAD_CHUNK_SIZE, logging.getLogger("huggingface_hub").level)
    assert get_session().event_hooks["response"] == []


def test_a_thread_of_a_download_that_is_over_does_not_use_the_client_of_the_next_one(context: Context) -> None:
    """It would close it: the library lets go of its client whenever a connection fails."""
    said: list[object] = []

    def ask() -> None:
        try:
            said.append(send("request"))
        except RuntimeError as error:
            said.append(str(error))

    with _huggingface_hub.connect(context) as hub:
        send = _huggingface_hub._Patience(hub).sends(lambda request: f"answer to {request}")
        for name in (hub.thread, "huggingface-1", "MainThread"):
            thread = threading.Thread(target=ask, name=name)
            thread.start()
            thread.join()
    assert said == ["answer to request", "this download is over", "answer to request"]
