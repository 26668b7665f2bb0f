from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError, MissingDependency, NetworkError, ParamsError, PipelineError, UsageError
from pipeline.ledger import read as read_ledger
from pipeline.sources import kaggle as source
from pipeline.stage import Context
from tests import serving
from tests.collecting import fingerprint_of, origins, published, run, run_killed_while_unpacking
from tests.kaggle_service import COMPETITION, DOWNLOAD, GET, KEY, SIGNATURE, STORED, described, fish, kaggle, refusing, stored
from tests.packing import zip_of
from tests.serving import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("kagglehub")
    with kaggle(monkeypatch, tmp_path / "home") as server:
        yield server


def refused(query: str, context: Context, kind: type[PipelineError]) -> PipelineError:
    with pytest.raises(kind) as caught:
        run(query, context.base / "refused", context)
    chain: BaseException | None = caught.value
    while chain is not None:  # what a traceback would show
        assert KEY not in str(chain)
        assert SIGNATURE not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return caught.value


def asked_versions(server: Server) -> list[int]:
    return [json.loads(each.body)["datasetVersionNumber"] for each in server.requests if each.path == DOWNLOAD]


# ---- what comes


def test_a_data_set_is_brought_and_described(
    server: Server, tmp_path: Path, context: Context, capfd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = dict(os.environ)
    summary = run("kaggle:mari/fish", tmp_path / "out", context)
    assert published(tmp_path / "out") == ["train/a.jpg", "train/a.txt"]
    assert summary["license"] == "CC0: Public Domain"
    assert summary["homepage"] == "https://www.kaggle.com/datasets/mari/fish/versions/3"
    assert summary["description"] == "version 3 of the Kaggle data set 'Fish of the bay'"
    assert origins(tmp_path / "out")[0]["origin"] == "kaggle:mari/fish/versions/3:train/a.jpg"
    assert [(entry.path, entry.reason) for entry in read_ledger(tmp_path / "out")] == [("notes.docx", "not_an_image_nor_labels")]
    assert asked_versions(server) == [3]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert capfd.readouterr() == ("", "")
    assert KEY not in caplog.text
    assert dict(os.environ) == before
    assert not [path for path in context.cache.rglob("*") if path.is_file()]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "query", ["kaggle:mari/fish/versions/2", "https://www.kaggle.com/datasets/mari/fish/versions/2?select=a.jpg"]
)
def test_a_version_that_is_asked_for(server: Server, tmp_path: Path, context: Context, query: str) -> None:
    run(query, tmp_path / "out", context)
    assert asked_versions(server) == [2]


def test_the_data_of_a_competition(server: Server, tmp_path: Path, context: Context) -> None:
    summary = run("https://www.kaggle.com/competitions/find-fish/data", tmp_path / "out", context)
    assert published(tmp_path / "out") == ["train/a.jpg", "train/a.txt"]
    assert summary["description"] == "the data of the Kaggle competition 'find-fish'"
    asked = next(each for each in server.requests if each.path == COMPETITION)
    assert json.loads(asked.body) == {"competitionName": "find-fish"}


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("mari/fish", ("mari", "fish", 0)),
        ("mari/fish/versions/12", ("mari", "fish", 12)),
        ("competitions/find-fish", ("", "find-fish", 0)),
        ("https://www.kaggle.com/datasets/mari/fish/data", ("mari", "fish", 0)),
        ("https://kaggle.com/mari/fish", ("mari", "fish", 0)),
        ("https://www.kaggle.com/c/find-fish/overview/rules", ("", "find-fish", 0)),
    ],
)
def test_locations(location: str, expected: tuple[str, str, int]) -> None:
    assert source.parse(location) == source.Query(*expected)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "fish",
        "mari/fish/versions/0",
        "mari/fish/3",
        "../fish",
        "mari/..",
        "https://www.kaggle.com/code/mari/a",
        "competitions/",
    ],
)
def test_what_is_no_data_set_is_told(location: str, context: Context) -> None:
    with pytest.raises(ParamsError, match="is no data set on Kaggle"):
        fingerprint_of(f"kaggle:{location}", context)


def test_a_run_with_nothing_to_do_needs_no_network(context: Context) -> None:
    queries = ("mari/fish", "mari/fish/versions/3", "competitions/fish")
    assert len({fingerprint_of(f"kaggle:{query}", context) for query in queries}) == 3


def test_the_bar_is_ours(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd[STORED] = [stored(zip_of({"a.jpg": os.urandom(3 << 20)}))]
    shown: dict[str, list[int]] = {}

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Any]:
        shown[label] = [total]
        yield lambda count=1, **_: shown[label].append(count)

    run("kaggle:mari/fish", tmp_path / "out", replace(context, progress=progress))
    total, *steps = shown["download (MiB)"]
    assert total == 4
    assert sum(steps) == 3


# ---- interrupted


def test_a_broken_download_goes_on(server: Server, tmp_path: Path, context: Context) -> None:
    data = zip_of({"a.jpg": os.urandom(3 << 20)})
    server.odd[STORED] = [stored(data, send=2 << 20), stored(data)]
    run("kaggle:mari/fish", tmp_path / "out", context)
    ranges = [each.headers.get("range") for each in server.requests if each.path.startswith(STORED)]
    assert ranges[0] is None
    assert ranges[-1] is not None
    assert int(ranges[-1].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_download_that_always_breaks_goes_on_with_the_next_command(server: Server, tmp_path: Path, context: Context) -> None:
    data = zip_of({"a.jpg": os.urandom(8 << 20)})
    server.odd[STORED] = [stored(data, send=2 << 20)]
    assert "broke off during the download of mari/fish" in refused("kaggle:mari/fish", context, NetworkError).message
    server.odd[STORED] = [stored(data)]
    server.requests.clear()
    run("kaggle:mari/fish", tmp_path / "out", context)
    assert any(each.headers.get("range") for each in server.requests)


def test_unpacking_goes_on_with_the_version_it_had_begun_with(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_killed_while_unpacking("kaggle:mari/fish", tmp_path / "out", context, monkeypatch)
    server.pages[GET] = described(version=4)
    before = len(server.requests)
    summary = run("kaggle:mari/fish", tmp_path / "out", context)
    assert len(server.requests) == before, "the archive is here, whole"
    assert summary["description"] == "version 3 of the Kaggle data set 'Fish of the bay'"
    assert "version 4" in str(run("kaggle:mari/fish", tmp_path / "forced", context)["description"])


def test_a_half_finished_folder_of_the_library_is_not_believed(server: Server, tmp_path: Path, context: Context) -> None:
    hub = context.cache / "kaggle" / "mari-fish" / "hub" / "datasets" / "mari" / "fish"
    (hub / "versions" / "3").mkdir(parents=True)
    (hub / "versions" / "3" / "half.jpg").write_bytes(b"half")
    (hub / "3.complete").touch()
    run("kaggle:mari/fish", tmp_path / "out", context)
    assert published(tmp_path / "out") == ["train/a.jpg", "train/a.txt"]


def test_a_partial_archive_that_does_not_belong_is_found_out(server: Server, tmp_path: Path, context: Context) -> None:
    hub = context.cache / "kaggle" / "mari-fish" / "hub" / "datasets" / "mari" / "fish"
    hub.mkdir(parents=True)
    data = fish()
    server.odd[STORED] = [stored(data, md5=False)]
    (hub / "3.archive").write_bytes(b"x" * len(data))  # as long as the right one, which is all that the library asks
    refused("kaggle:mari/fish", context, DataError)
    run("kaggle:mari/fish", tmp_path / "out", context)
    assert published(tmp_path / "out") == ["train/a.jpg", "train/a.txt"]


# ---- keys


def test_keys_are_found_where_kaggle_and_the_pipeline_keep_them(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (tmp_path / ".env").write_text(f"KAGGLE_API_TOKEN={KEY}2\n", encoding="utf-8")
    run("kaggle:mari/fish", tmp_path / "out1", context)
    assert server.requests[-3].headers["authorization"] == f"Bearer {KEY}2"
    (tmp_path / ".env").unlink()
    (tmp_path / "home" / ".kaggle").mkdir(parents=True)
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "mari", "key": KEY}), encoding="utf-8")
    run("kaggle:mari/fish", tmp_path / "out2", context)
    assert server.requests[-3].headers["authorization"].startswith("Basic ")
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text(f'{{"key": "{KEY}"', encoding="utf-8")
    assert "kaggle.json" in refused("kaggle:mari/fish", context, UsageError).message


def test_public_data_need_no_key_but_competitions_do(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    run("kaggle:mari/fish", tmp_path / "out", context)
    assert "authorization" not in server.requests[0].headers
    error = refused("kaggle:competitions/find-fish", context, UsageError)
    assert error.message == "Kaggle wants a key for competitions/find-fish, and there is none."
    assert "KAGGLE_API_TOKEN" in error.hint
    server.odd[GET] = [refusing(403)]
    assert "to nobody without a key (403)" in refused("kaggle:mari/fish", context, UsageError).message


# ---- refusals


@pytest.mark.parametrize(
    ("query", "path", "status", "kind", "expected", "hint"),
    [
        ("mari/fish", GET, 401, NetworkError, "does not accept the key", "settings"),
        ("mari/fish", GET, 403, DataError, "asks for consent, is private", "https://www.kaggle.com/datasets/mari/fish"),
        ("mari/fish", DOWNLOAD, 403, DataError, "asks for consent, is private", "https://www.kaggle.com/datasets/mari/fish"),
        ("mari/fish", GET, 404, DataError, "there is no data set mari/fish on Kaggle", "Check the address"),
        ("mari/fish/versions/9", DOWNLOAD, 404, DataError, "there is no data set mari/fish/versions/9", "Check the address"),
        ("mari/fish", GET, 500, NetworkError, "fails when asked for mari/fish (500)", "later"),
        ("competitions/x", COMPETITION, 403, DataError, "wants its rules accepted", "/competitions/x/rules"),
        ("competitions/x", COMPETITION, 404, DataError, "there is no competition competitions/x", "Check the address"),
    ],
)
def test_refusals(
    server: Server, context: Context, query: str, path: str, status: int, kind: type[PipelineError], expected: str, hint: str
) -> None:
    server.odd[path] = [refusing(status)]
    error = refused(f"kaggle:{query}", context, kind)
    assert expected in error.message
    assert hint in error.hint


def test_too_many_requests(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd[GET] = [refusing(429, "slow down", {"Retry-After": "1"}), refusing(503), None]
    started = time.monotonic()
    run("kaggle:mari/fish", tmp_path / "out", context)
    assert time.monotonic() - started >= 1
    server.odd[GET] = [refusing(429, "slow down", {"Retry-After": "3000"})]
    error = refused("kaggle:mari/fish", context, NetworkError)
    assert error.message == "127.0.0.1 answers no more for now: too many requests (429); it asks to wait 50 min."


def test_a_storage_that_fails_is_asked_a_few_times_only(server: Server, context: Context) -> None:
    server.odd[STORED] = [serving.status(503)]
    assert "fails when asked for mari/fish (503)" in refused("kaggle:mari/fish", context, NetworkError).message
    assert server.counts()[DOWNLOAD] == 1
    assert sum(each.path.startswith(STORED) for each in server.requests) == 3


def test_a_wrong_hash(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd[STORED] = [lambda handler: handler.answer(200, fish(), {"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="})]
    assert "its hash is not the one announced" in refused("kaggle:mari/fish", context, NetworkError).message
    server.odd[STORED] = [stored(fish())]
    run("kaggle:mari/fish", tmp_path / "out", context)


@pytest.mark.parametrize("path", [GET, STORED])
def test_a_page_in_place_of_an_answer(server: Server, context: Context, path: str) -> None:
    server.odd[path] = [serving.html]
    error = refused("kaggle:mari/fish", context, DataError)
    assert "does not answer as Kaggle does" in error.message if path == GET else "a web page" in error.message
    assert not list(context.cache.rglob("*.archive"))


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"currentVersionNumber": "x"}', b"null", b'{"currentVersionNumber": null}'])
def test_an_answer_in_another_form(server: Server, context: Context, answer: bytes) -> None:
    server.pages[GET] = answer
    assert "does not answer as Kaggle does" in refused("kaggle:mari/fish", context, NetworkError).message


def test_a_corrupt_archive_is_not_kept(server: Server, tmp_path: Path, context: Context) -> None:
    data = bytearray(fish())
    data[40:60] = b"\xff" * 20
    server.odd[STORED] = [stored(bytes(data))]
    error = refused("kaggle:mari/fish", context, DataError)
    assert error.message.startswith("Kaggle's mari/fish/versions/3 cannot be used: what it sent: the archive is damaged")
    server.odd[STORED] = [stored(fish())]
    run("kaggle:mari/fish", tmp_path / "out", context)


def test_an_archive_that_attacks_is_refused(server: Server, context: Context) -> None:
    server.odd[STORED] = [stored(zip_of({"../evil.jpg": b"x"}))]
    assert refused("kaggle:mari/fish", context, DataError).problems == ("'../evil.jpg' leads out of the folder",)


def test_no_network_is_told_at_once(server: Server, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    started = time.monotonic()
    error = refused("kaggle:mari/fish", context, NetworkError)
    assert time.monotonic() - started < 5
    assert "127.0.0.1 cannot be reached" in error.message


def test_the_library_is_an_extra(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kagglehub", None)
    error = refused("kaggle:mari/fish", context, MissingDependency)
    assert '".[kaggle]"' in error.hint
