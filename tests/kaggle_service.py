"""A server on this machine that answers as Kaggle's API and the storage behind it do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import serving
from tests.packing import zip_of
from tests.serving import Behaviour, Handler, Server

GET = "/v1/datasets.DatasetApiService/GetDataset"
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"
COMPETITION = "/v1/competitions.CompetitionApiService/DownloadDataFiles"
STORED = "/storage/archive.zip"
SIGNATURE = "s1gnatureOfTheL1nk"
KEY = "s3cretK3yOfAUser"


def described(version: int = 3, **more: object) -> bytes:
    about = {"id": 7, "ref": "mari/fish", "title": "Fish of the bay", "licenseName": "CC0: Public Domain"}
    return json.dumps({**about, "currentVersionNumber": version, "totalBytes": 1000, **more}).encode()


def refusing(status: int, message: str = "Permission denied", headers: dict[str, str] | None = None) -> Behaviour:
    body = json.dumps({"code": status, "message": message}).encode()
    return lambda handler: handler.answer(status, body, {"Content-Type": "application/json", **(headers or {})})


def stored(data: bytes, *, md5: bool = True, send: int | None = None, ranges: bool = True) -> Behaviour:
    """As the storage sends an archive; `send`: so many bytes, and then the connection is cut."""

    def behave(handler: Handler) -> None:
        assert "Authorization" not in handler.headers, "the key is for the API alone"
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked[1]) if asked and ranges else 0
        digest = base64.b64encode(hashlib.md5(data).digest()).decode()
        headers = {
            "Content-Length": str(len(data) - start),
            "Content-Type": "application/zip",
            "Accept-Ranges": "bytes" if ranges else "",
            "x-goog-hash": f"crc32c=AAAAAA==,md5={digest}" if md5 else "",
            "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}" if start else "",
        }
        handler.answer(206 if start else 200, data[start:][:send], headers)
        handler.close_connection = send is not None or handler.close_connection

    return behave


def fish() -> bytes:
    return zip_of({"train/a.jpg": b"1" * 900, "train/a.txt": b"0 .5 .5 1 1", "notes.docx": b"x"})


@contextmanager
def kaggle(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Server]:
    """With a key in the environment, and nothing of this machine's user."""
    from kagglehub import config
    from kagglesdk import kaggle_env

    from pipeline.sources import _kaggle_hub

    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLEHUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("KAGGLE_API_TOKEN", KEY)
    monkeypatch.setattr(config, "DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(home / ".kaggle"))
    monkeypatch.setattr(_kaggle_hub, "PAUSES_S", (0.01, 0.01))
    with serving.serving() as server:
        # The library has no variable for another endpoint than Kaggle's own, but for two ports that it knows.
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
        server.pages = {GET: described()}
        # Another name for the same host, as the storage has one.
        storage = server.url.replace("127.0.0.1", "localhost")
        redirect = serving.redirect(f"{storage}{STORED}?X-Goog-Signature={SIGNATURE}")
        server.odd = {DOWNLOAD: [redirect], COMPETITION: [redirect], STORED: [stored(fish())]}
        yield server
