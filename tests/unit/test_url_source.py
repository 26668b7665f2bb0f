"""Lists of URLs and archives on the web, against a real server on this machine."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from pipeline import fingerprint
from pipeline.errors import DataError, NetworkError, ParamsError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _url_list, url
from pipeline.sources._url_list import Entry
from pipeline.stage import Context
from tests import serving
from tests.collecting import collected, fingerprint_of, origins, run
from tests.packing import compressed, member, tar_of, zip_of
from tests.serving import Server


def picture(kind: str = "JPEG", shade: int = 90) -> bytes:
    stream = io.BytesIO()
    PillowImage.new("RGB", (24, 16), (shade, 20, 30)).save(stream, kind)
    return stream.getvalue()


def write_list(folder: Path, *lines: str, name: str = "list.txt") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def test_a_list_of_urls(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages = {"/x/a.jpg": picture(), "/y/a.jpg": picture(shade=1), "/ä%20b.png": picture("PNG"), "/image": picture("PNG")}
    write_list(
        tmp_path,
        "# mine",
        "",
        *(f"{server.url}{path}" for path in ("/x/a.jpg", "/y/a.jpg")),
        f"{server.url}/image?id=5&token=s3cret",
    )
    summary = run("url:list.txt", tmp_path / "out", context)
    names = collected(tmp_path / "out")
    assert names[1:] == ["a.jpg", "image.png"]
    assert names[0].startswith("a-")
    assert summary["images"] == 3
    assert "3 URLs of the list 'list.txt' from 127.0.0.1" in str(summary["description"])
    assert "s3cret" not in (tmp_path / "out" / "origins.jsonl").read_text(encoding="utf-8")
    assert origins(tmp_path / "out")[2]["origin"] == f"{server.url}/image?id=5"


def test_each_failure_is_accounted_for_with_its_line(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages = {f"/{number}.jpg": picture() for number in range(6)}
    server.odd = {"/html.jpg": [serving.html], "/login.jpg": [serving.status(401)]}
    lines = [f"{server.url}/{number}.jpg" for number in range(6)]
    lines += [f"{server.url}/{name}.jpg" for name in ("gone", "html", "login", "0")]
    write_list(tmp_path, *lines, "ftp://h/a.jpg", "not a url")
    run("url:list.txt", tmp_path / "out", context, max_missing=0.5)
    entries = {entry.line: (entry.reason, entry.file) for entry in read_ledger(tmp_path / "out")}
    assert entries == {
        7: ("not_found", "list.txt"),
        8: ("not_an_image", "list.txt"),
        9: ("access_denied", "list.txt"),
        10: ("duplicate_url", "list.txt"),
        11: ("bad_url", "list.txt"),
        12: ("bad_url", "list.txt"),
    }
    assert len(collected(tmp_path / "out")) == 6


def test_too_many_missing_end_the_run_and_keep_what_came(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages = {"/a.jpg": picture()}
    write_list(tmp_path, f"{server.url}/a.jpg", f"{server.url}/b.jpg")
    with pytest.raises(NetworkError, match="1 of 2 images could not be had") as caught:
        run("url:list.txt", tmp_path / "out", context)
    assert caught.value.problems == (f"{server.url}/b.jpg: 404 Not Found",)
    server.pages["/b.jpg"] = picture()
    run("url:list.txt", tmp_path / "out", context)
    assert server.counts() == {"/a.jpg": 1, "/b.jpg": 2}
    assert collected(tmp_path / "out") == ["a.jpg", "b.jpg"]


def test_without_a_network_one_error_names_the_host(tmp_path: Path, context: Context, server: Server) -> None:
    write_list(tmp_path, "http://127.0.0.1:9/a.jpg", "http://127.0.0.1:9/b.jpg")
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1 cannot be reached"):
        run("url:list.txt", tmp_path / "out", context)


def test_a_csv_has_names_sizes_and_hashes(server: Server, tmp_path: Path, context: Context) -> None:
    data = picture()
    server.pages = {"/1": data, "/2": data, "/3": data}
    sha256 = hashlib.sha256(data).hexdigest()
    rows = [
        f"{server.url}/1;cats/one.jpg;{len(data)};{sha256}",
        f"{server.url}/2;../../two.jpg;;",
        f"{server.url}/3;three.jpg;;{'0' * 64}",
    ]
    write_list(tmp_path, "Image_URL;file_name;size;sha256", *rows, name="list.csv")
    run("url:list.csv", tmp_path / "out", context, max_missing=0.5)
    assert collected(tmp_path / "out") == ["cats/one.jpg", "two.jpg"]
    assert [(entry.line, entry.reason) for entry in read_ledger(tmp_path / "out")] == [(4, "wrong_hash")]


def test_lists_that_are_none(tmp_path: Path, context: Context) -> None:
    write_list(tmp_path, "name,colour", "a,b", name="list.csv")
    with pytest.raises(DataError, match="neither a URL nor a header") as caught:
        run("url:list.csv", tmp_path / "out", context)
    assert "list.csv:1" in str(caught.value)
    write_list(tmp_path, "# nothing")
    with pytest.raises(DataError, match="holds no URL"):
        run("url:list.txt", tmp_path / "out", context)
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        run("url:list.txt", tmp_path / "out", context)
    with pytest.raises(DataError, match="there is no list"):
        run("url:missing.txt", tmp_path / "out", context)


def test_an_archive_is_unpacked(server: Server, tmp_path: Path, context: Context) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train/a.jpg", picture())
        archive.writestr("train/a.txt", "0 0.5 0.5 1 1\n")
    server.pages = {"/data.zip": stream.getvalue()}
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    run(f"url:{server.url}/data.zip", tmp_path / "out", context, sha256=sha256)
    assert collected(tmp_path / "out") == ["train/a.jpg", "train/a.txt"]
    assert origins(tmp_path / "out")[0]["origin"] == f"{server.url}/data.zip:train/a.jpg"
    assert not list((context.cache / "downloads").rglob("*.zip"))
    with pytest.raises(NetworkError, match="SHA-256"):
        run(f"url:{server.url}/data.zip", tmp_path / "out2", context, sha256="0" * 64)


def test_a_single_url_may_lead_to_a_tar(server: Server, tmp_path: Path, context: Context) -> None:
    inner = zip_of({"a.jpg": picture()})
    server.pages = {"/data": compressed(tar_of(member("train/a.jpg", picture()), member("more.zip", inner)), "tar.xz")}
    run(f"url:{server.url}/data", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["train/a.jpg"]
    run(f"url:{server.url}/data", tmp_path / "out2", context, nested=True)
    assert collected(tmp_path / "out2") == ["more/a.jpg", "train/a.jpg"]


def test_a_signed_url_of_an_archive_stands_in_a_list(server: Server, tmp_path: Path, context: Context) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", picture())
    server.pages = {"/data.zip": stream.getvalue()}
    write_list(tmp_path, f"{server.url}/data.zip?sig=s3cret")
    run("url:list.txt", tmp_path / "out", context)
    assert "s3cret" not in (tmp_path / "out" / "origins.jsonl").read_text(encoding="utf-8")
    assert "s3cret" not in (tmp_path / "out" / "source.json").read_text(encoding="utf-8")


def test_a_page_in_place_of_an_archive(server: Server, tmp_path: Path, context: Context) -> None:
    server.odd = {"/data.zip": [serving.html]}
    with pytest.raises(DataError, match=r"/data\.zip: ") as caught:
        run(f"url:{server.url}/data.zip", tmp_path / "out", context)
    assert str(tmp_path) not in str(caught.value)
    assert not list((context.cache / "downloads").rglob("*.zip"))


def test_a_single_image(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages = {"/a.jpg": picture()}
    run(f"url:{server.url}/a.jpg?width=24", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["a.jpg"]


@pytest.mark.parametrize("source", ["url:https://me:pw@h.org/d.zip", "url:https://h.org/d.zip?X-Amz-Signature=abc"])
def test_secrets_are_refused_where_the_manifest_would_show_them(source: str, context: Context) -> None:
    with pytest.raises(ParamsError, match="password or token") as caught:
        fingerprint_of(source, context)
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_only_http(context: Context) -> None:
    with pytest.raises(ParamsError, match="only http and https"):
        fingerprint_of("url:ftp://h.org/d.zip", context)


def test_the_fingerprint_is_the_query_and_the_list(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "RACY_NS", 0)

    def printed(source: str, **options: object) -> str:
        return fingerprint_of(source, context, **options)

    write_list(tmp_path, "http://192.0.2.1/a.jpg")
    first = printed("url:list.txt")
    assert printed("url:list.txt") == first
    assert printed("url:list.txt", keep_folders=True) != first
    write_list(tmp_path, "http://192.0.2.1/a.jpg", "http://192.0.2.1/b.jpg")
    assert printed("url:list.txt") != first
    assert printed("url:http://192.0.2.1/d.zip") == printed("url:http://192.0.2.1/d.zip") != printed("url:http://192.0.2.1/e.zip")


def test_a_longer_list_fetches_only_what_is_new(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages = {"/a.jpg": picture(), "/b.jpg": picture()}
    write_list(tmp_path, f"{server.url}/a.jpg", f"{server.url}/b.jpg")
    run("url:list.txt", tmp_path / "v1", context)
    server.pages["/c.jpg"] = picture()
    write_list(tmp_path, f"{server.url}/c.jpg", f"{server.url}/a.jpg", f"{server.url}/b.jpg")
    run("url:list.txt", tmp_path / "v2", replace(context, previous=tmp_path / "v1"))
    assert server.counts() == {"/a.jpg": 1, "/b.jpg": 1, "/c.jpg": 1}
    assert (tmp_path / "v2" / "files" / "a.jpg").samefile(tmp_path / "v1" / "files" / "a.jpg")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://h/a/b.jpg", "b.jpg"),
        ("http://h/", "image"),
        ("http://h/..%2f..%2fetc%2fpasswd", "_.._.._etc_passwd"),
        ("http://h/a%00b%0a.jpg", "a_b_.jpg"),
        ("http://h/con.jpg", "_con.jpg"),
        ("http://h/.hidden.jpg", "_.hidden.jpg"),
        ("http://h/a%3Ab%3F.jpg", "a_b_.jpg"),
        ("http://h/%E7%8C%AB.jpg", "猫.jpg"),
    ],
)
def test_names_are_safe(address: str, name: str) -> None:
    assert _url_list.unique_names([Entry(address)], False, "", ()) == [name]


def test_names_are_unique_and_stay_when_lines_are_added() -> None:
    entries = [Entry(f"http://h/{path}") for path in ("a/x.jpg", "b/X.JPG", "c/x.jpg", "x", "d/" + "ä" * 200 + ".jpg")]
    names = _url_list.unique_names(entries, False, "", (".jpg", ".png"))
    assert len({name.casefold() for name in names}) == 5
    assert names[0] == "x.jpg"
    assert names[:3] == _url_list.unique_names(entries[:3], False, "", (".jpg", ".png"))
    assert names[3] != "x"  # as x.jpg it would meet the first
    assert all(len(name.encode()) <= 200 for name in names)
    assert _url_list.unique_names(entries[:2], True, "", ()) == ["h/a/x.jpg", "h/b/X.JPG"]
    assert _url_list.unique_names([Entry("http://h/1")], False, ".jpg", ()) == ["1.jpg"]


def test_options_are_checked(context: Context) -> None:
    with pytest.raises(ParamsError):
        fingerprint_of("url:list.txt", context, sufix=".jpg")
    assert url.Options(max_missing=0).max_missing == 0
