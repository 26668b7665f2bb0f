from __future__ import annotations

import stat
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DataError, NetworkError, ParamsError, PipelineError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _github_api, _spdx, github
from pipeline.stage import Context
from tests import serving
from tests.collecting import fingerprint_of, origins, published, reasons, run, run_killed_while_unpacking
from tests.packing import zip_of
from tests.serving import Server

SHA = "0123456789abcdef0123456789abcdef01234567"
LATER = "f" * 40
COMMIT = "/repos/mari/fish/commits/"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
TOKEN = "ghp_s3cr3t"
FILES = ["LICENSE", "data/a b.jpg", "data/labels/a b.txt", "database/b.jpg"]
"""Of `repository`, those that are images or may be labels."""


@pytest.fixture
def server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("GITHUB_API_URL", server.url)
    monkeypatch.setenv("GITHUB_CODELOAD_URL", server.url + "/")
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.setattr(_github_api, "PAUSES_S", (0.01, 0.01))
    server.pages = {f"{COMMIT}HEAD": SHA.encode(), f"{COMMIT}main": SHA.encode(), f"/mari/fish/zip/{SHA}": repository(SHA)}
    return server


def repository(sha: str, **more: bytes) -> bytes:
    files = {
        "LICENSE": b"MIT License\n\nCopyright (c) 2026 Mari\n",
        ".gitignore": b"*.pyc",
        "train.py": b"print()",
        "data/a b.jpg": b"1",
        "data/labels/a b.txt": b"0 .5 .5 1 1",
        "database/b.jpg": b"2",
    }
    return zip_of({f"fish-{sha}/{name}": data for name, data in {"": b"", **files, **more}.items()})


def refused(source: str, context: Context, kind: type[PipelineError] = DataError) -> PipelineError:
    with pytest.raises(kind) as caught:
        run(source, context.base / "refused", context)
    assert TOKEN not in str(caught.value)
    return caught.value


def test_a_repository_is_collected_with_its_commit(server: Server, tmp_path: Path, context: Context) -> None:
    summary = run("github:mari/fish", tmp_path / "out", context)
    assert published(tmp_path / "out") == FILES
    assert summary["license"] == "MIT"
    assert summary["homepage"] == f"https://github.com/mari/fish/tree/{SHA}"
    assert summary["description"] == "the repository mari/fish@HEAD (commit 0123456789)"
    assert origins(tmp_path / "out")[1]["origin"] == f"https://github.com/mari/fish/blob/{SHA}/data/a%20b.jpg"
    assert [(entry.path, entry.reason) for entry in read_ledger(tmp_path / "out")] == [("train.py", "not_an_image_nor_labels")]
    assert not list(context.cache.rglob("*.zip"))


@pytest.mark.parametrize(
    "source", ["github:mari/fish@main:data/", "https://github.com/mari/fish/tree/main/data", f"github:mari/fish@{SHA}:data"]
)
def test_a_folder_at_a_ref(server: Server, tmp_path: Path, context: Context, source: str) -> None:
    summary = run(source, tmp_path / "out", context)
    assert published(tmp_path / "out") == ["a b.jpg", "labels/a b.txt"]
    assert summary["license"] == "MIT"
    assert origins(tmp_path / "out")[0]["origin"] == f"https://github.com/mari/fish/blob/{SHA}/data/a%20b.jpg"
    asked_api = any(path.startswith("/repos") for path in server.counts())
    assert asked_api == (SHA not in source)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("mari/fish", ("mari/fish", "HEAD", "")),
        ("mari/fish.git@feature/x:a/b", ("mari/fish", "feature/x", "a/b")),
        ("https://github.com/mari/fish.images", ("mari/fish.images", "HEAD", "")),
        ("https://github.com/mari/fish.git", ("mari/fish", "HEAD", "")),
        ("https://www.github.com/mari/fish/?tab=readme#top", ("mari/fish", "HEAD", "")),
        ("https://github.com/mari/fish/tree/v1%2B/a%20b/", ("mari/fish", "v1+", "a b")),
    ],
)
def test_locations(location: str, expected: tuple[str, str, str]) -> None:
    assert github.parse(location) == github.Query(*expected)


@pytest.mark.parametrize(
    "location", ["", "fish", "mari/fish/data", "mari/..", "mari/fish@", "mari/fish@a b", "mari/fish@a..b", "mari/fish@main:../x"]
)
def test_what_is_no_repository_is_told(location: str, context: Context) -> None:
    with pytest.raises(ParamsError, match="is no repository on GitHub"):
        fingerprint_of(f"github:{location}", context)


def test_a_run_with_nothing_to_do_needs_no_network(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    assert len({fingerprint_of(f"github:mari/fish{end}", context) for end in ("", "@main", "@v1:a")}) == 3


def test_a_killed_run_goes_on_with_its_commit(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_killed_while_unpacking("github:mari/fish@main", tmp_path / "out", context, monkeypatch)
    server.pages |= {f"{COMMIT}main": LATER.encode(), f"/mari/fish/zip/{LATER}": repository(LATER)}
    summary = run("github:mari/fish@main", tmp_path / "out", context)
    assert SHA in str(summary["homepage"])
    assert server.counts() == {f"{COMMIT}main": 1, f"/mari/fish/zip/{SHA}": 1}
    assert LATER in str(run("github:mari/fish@main", tmp_path / "forced", replace(context, previous=None))["homepage"])


def test_links_in_a_repository_go_to_the_ledger(server: Server, tmp_path: Path, context: Context) -> None:
    link = zipfile.ZipInfo(f"fish-{SHA}/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "linked.zip"
    path.write_bytes(repository(SHA))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(link, "/etc/passwd")
    server.pages[f"/mari/fish/zip/{SHA}"] = path.read_bytes()
    run("github:mari/fish", tmp_path / "out", context)
    assert "link.jpg" not in published(tmp_path / "out")
    assert ("link.jpg", "link_or_device") in reasons(tmp_path / "out")


def test_pointers_of_git_lfs_are_no_images(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages[f"/mari/fish/zip/{SHA}"] = repository(SHA, **{"data/big.jpg": POINTER})
    run("github:mari/fish", tmp_path / "out", context)
    assert "data/big.jpg" not in published(tmp_path / "out")
    assert ("data/big.jpg", "lfs_pointer") in reasons(tmp_path / "out")
    server.pages[f"/mari/fish/zip/{SHA}"] = zip_of({"top/a.jpg": POINTER, "top/b.jpg": POINTER})
    assert "All 2 images of the repository mari/fish@HEAD are in Git LFS" in refused("github:mari/fish", context).message


def test_a_folder_that_is_not_there(server: Server, context: Context) -> None:
    assert "has no files in 'nothing' at main" in refused("github:mari/fish@main:nothing", context).message


# ---- the token


def test_the_token_goes_to_github_alone(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"# mine\nexport GITHUB_TOKEN='{TOKEN}'\n", encoding="utf-8")
    other = server.url.replace("127.0.0.1", "localhost")
    server.odd = {f"/repos/mari/fish/zipball/{SHA}": [serving.redirect(f"{other}/mari/fish/zip/{SHA}?token=abc")]}
    run("github:mari/fish", tmp_path / "out", context)
    asked = {request.path.partition("?")[0]: request.headers.get("authorization", "") for request in server.requests}
    assert asked[f"{COMMIT}HEAD"] == f"Bearer {TOKEN}"
    assert asked[f"/repos/mari/fish/zipball/{SHA}"].startswith("Basic ")
    assert asked[f"/mari/fish/zip/{SHA}"] == ""
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert TOKEN.encode() not in written


def test_a_moved_repository_is_followed(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd = {f"{COMMIT}HEAD": [serving.redirect("/repositories/7/commits/HEAD", 301)]}
    server.pages |= {"/repositories/7/commits/HEAD": LATER.encode(), f"/mari/fish/zip/{LATER}": repository(LATER)}
    summary = run("github:mari/fish", tmp_path / "out", context)
    asked = [request.path for request in server.requests]
    assert asked == [f"{COMMIT}HEAD", "/repositories/7/commits/HEAD", f"/mari/fish/zip/{LATER}"]
    assert summary["homepage"] == f"https://github.com/mari/fish/tree/{LATER}"
    assert published(tmp_path / "out") == FILES


# ---- refusals


@pytest.mark.parametrize(
    ("status", "headers", "kind", "expected"),
    [
        (401, {}, NetworkError, "does not accept the token in GITHUB_TOKEN"),
        (403, {}, DataError, "no repository 'mari/fish' that can be seen without a token"),
        (404, {}, DataError, "no repository 'mari/fish' that can be seen without a token, or no 'main' in it (404)"),
        (409, {}, DataError, "has no commit 'main' (409)"),
        (422, {}, DataError, "has no commit 'main' (422)"),
        (500, {}, NetworkError, "GitHub fails when asked for mari/fish (500"),
    ],
)
def test_refusals(
    server: Server, context: Context, status: int, headers: dict[str, str], kind: type[PipelineError], expected: str
) -> None:
    server.odd = {f"{COMMIT}main": [serving.status(status, headers)]}
    error = refused("github:mari/fish@main", context, kind)
    assert expected in error.message
    assert error.hint


@pytest.mark.parametrize("status", [403, 429])
def test_the_limit_of_requests_tells_when_it_ends(server: Server, context: Context, status: int) -> None:
    reset = time.time() + 1800
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(reset))}
    server.odd = {f"{COMMIT}main": [serving.status(status, headers)]}
    error = refused("github:mari/fish@main", context, NetworkError)
    ends = {time.strftime("%H:%M", time.localtime(reset + shift)) for shift in (-2, 0, 2)}
    assert any(f"before {end} ({status}, rate limit)" in error.message for end in ends)
    assert "GITHUB_TOKEN" in error.hint
    assert server.counts() == {f"{COMMIT}main": 1}


def test_a_short_wait_is_waited_for(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd = {f"{COMMIT}main": [serving.status(429, {"Retry-After": "1"}), serving.status(502), None]}
    started = time.monotonic()
    run("github:mari/fish@main", tmp_path / "out", context)
    assert time.monotonic() - started >= 1
    assert server.counts() == {f"{COMMIT}main": 3, f"/mari/fish/zip/{SHA}": 1}


def test_a_page_in_place_of_the_commit_or_the_archive(server: Server, context: Context) -> None:
    server.odd = {f"{COMMIT}main": [serving.html]}
    assert "does not answer as GitHub does" in refused("github:mari/fish@main", context, NetworkError).message
    server.odd = {f"/mari/fish/zip/{SHA}": [serving.html]}
    assert "a web page instead of a zip archive" in refused("github:mari/fish@main", context, NetworkError).message
    assert not list(context.cache.rglob("*.zip"))


def test_a_commit_that_is_not_there(server: Server, context: Context) -> None:
    error = refused(f"github:mari/fish@{LATER}", context)
    assert "hands out no commit ffffffffff of a repository 'mari/fish'" in error.message
    assert "404" in error.message


def test_a_broken_connection_is_tried_again(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd = {f"/mari/fish/zip/{SHA}": [serving.cut_after(100), None]}
    run("github:mari/fish@main", tmp_path / "out", context)
    assert server.counts() == {f"{COMMIT}main": 1, f"/mari/fish/zip/{SHA}": 2}
    assert published(tmp_path / "out") == FILES
    assert [(tmp_path / "out" / "files" / path).read_bytes() for path in FILES[1:]] == [b"1", b"0 .5 .5 1 1", b"2"]


def test_a_damaged_archive_is_not_kept(server: Server, context: Context) -> None:
    data = bytearray(repository(SHA))
    server.pages[f"/mari/fish/zip/{SHA}"] = bytes(data[: len(data) // 2])
    error = refused("github:mari/fish", context, NetworkError)
    assert error.message.endswith("a zip archive that is damaged or cut short.")
    assert not list(context.cache.rglob("*.zip"))
    data[120:140] = b"\xff" * 20
    server.pages[f"/mari/fish/zip/{SHA}"] = bytes(data)
    error = refused("github:mari/fish", context)
    assert error.message.startswith("The repository mari/fish@HEAD: its archive: the archive is damaged")
    assert not list(context.cache.rglob("*.zip"))


def test_no_network_is_told_at_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    error = refused("github:mari/fish@main", context, NetworkError)
    assert time.monotonic() - started < 5
    assert "127.0.0.1 cannot be reached" in error.message
    assert "HTTPS_PROXY" in error.hint


def test_an_address_that_is_none(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "github.example")
    assert "The variable GITHUB_API_URL is no address" in refused("github:mari/fish@main", context, ParamsError).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT License\n\nCopyright", "MIT"),
        ("\n                                 Apache License\n                           Version 2.0, January 2004", "Apache-2.0"),
        ("                    GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007", "GPL-3.0"),
        ("                    GNU AFFERO GENERAL PUBLIC LICENSE\n                       Version 3", "AGPL-3.0"),
        ("                   GNU LESSER GENERAL PUBLIC LICENSE\n                       Version 3", "LGPL-3.0"),
        ("Copyright (c) 2026\nRedistribution and use in source and binary forms, ... Neither the name", "BSD-3-Clause"),
        ("Attribution 4.0 International\n\n====", "CC-BY-4.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
        ("Attribution-NoDerivatives 4.0 International", "CC-BY-ND-4.0"),
        ("# Data under CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("Creative Commons Legal Code\n\nCC0 1.0 Universal", "CC0-1.0"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("\n# Do what you like\x1b[0m\n", "Do what you like[0m"),
        ("", ""),
    ],
)
def test_licences_are_guessed_by_their_beginning(text: str, expected: str) -> None:
    assert _spdx.guess(text) == expected
