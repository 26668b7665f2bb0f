"""A server on this machine that answers as the Hugging Face hub does, and what its tests share."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from pipeline.errors import NetworkError, PipelineError
from pipeline.sources import _huggingface_hub
from pipeline.stage import Context
from tests import collecting

TOKEN = "hf_s3cretTokenOfAUser0042"
SIGNATURE = "s3cretOfTheSignedLink"
REPO = "mari/reef"
SOURCE = f"huggingface:{REPO}"
NAMES = ["fish", "never seen", "shark"]
CARD = """---
license: cc-by-4.0
dataset_info:
  features:
  - name: image
    dtype: image
---
# Reef
"""
Answer = Callable[["Handler"], None]


def photo(number: int, kind: str = "JPEG", size: tuple[int, int] = (100, 50)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (number, 50, 200)).save(stream, kind)
    return stream.getvalue()


def table_of(rows: list[dict[str, Any]], **features: Any) -> bytes:
    """A Parquet file as `datasets` writes one, with the features in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from datasets import Features

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, Features(features).arrow_schema), stream)
    return stream.getvalue()


def parquet(rows: list[dict[str, Any]], names: list[str] | None = NAMES, kind: str = "objects", **features: Any) -> bytes:
    """An image {bytes, path}, objects {bbox, category}, and more.

    Args:
        kind: "objects" for an object of lists, "list" for a list of objects.
    """
    from datasets import ClassLabel, List, Value
    from datasets import Image as ImageFeature

    category = ClassLabel(names=names) if names else Value("int64")
    parts = {"bbox": List(Value("float32"), length=4), "category": category}
    objects = {name: List(part) for name, part in parts.items()} if kind == "objects" else List(parts)
    return table_of(rows, image=ImageFeature(), objects=objects, **features)


def row(number: int, boxes: list[list[float]], categories: list[int], path: str | None = "", **more: Any) -> dict[str, Any]:
    """A row; without `path` the image is called after its number."""
    name = f"{number}.jpg" if path == "" else path
    return {"image": {"bytes": photo(number), "path": name}, "objects": {"bbox": boxes, "category": categories}} | more


def table() -> dict[str, bytes]:
    train = [row(n, [[0, 5, 20.5, 10], [70, 30, 30, 20]], [2, 0]) for n in range(6)] + [row(6, [], [])]
    return {
        "README.md": CARD.encode(),
        ".gitattributes": b"*.parquet filter=lfs\n",
        "data/train-00000-of-00002.parquet": parquet(train[:4]),
        "data/train-00001-of-00002.parquet": parquet(train[4:]),
        "data/validation-00000-of-00001.parquet": parquet([row(10 + n, [[1, 2, 30, 4]], [2]) for n in range(2)]),
    }


class Hub:
    """The routes that the client asks, with the shapes of their real answers. `faults` exchanges the answers of a route.

    Routes are "info", "tree", "head" (what a file is), "file" and "lfs" (its bytes). A list of answers is used one by one.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {REPO: table()}
        self.branches = {"main": "a" * 40}
        self.faults: dict[str, list[Answer | None]] = {}
        self.requests: Counter[str] = Counter()
        self.tokens: dict[str, set[str]] = {"hub": set(), "lfs": set()}
        self.needs_token = False
        self.waits: list[float] = []
        handler = type("Bound", (Handler,), {"hub": self})
        # Large files lie on another host, which must not get the token.
        self._servers = [_Quiet(("127.0.0.1", 0), handler) for _ in range(2)]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up in some of these tests; their tracebacks would only hide others."""


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        found = re.fullmatch(
            r"/api/datasets/(?P<info>[^/]+(?:/(?!revision|tree)[^/]+)?)(?:/revision/(?P<revision>.+)|/tree/(?P<tree>.+))?"
            r"|/datasets/(?P<repo>.+?)/resolve/(?P<sha>[^/]+)/(?P<path>.+)|/lfs/(?P<lfs>\w+)",
            path,
        )
        assert found, path
        if found["info"]:
            route = "tree" if found["tree"] else "info"
        else:
            route = "lfs" if found["lfs"] else "head" if self.command == "HEAD" else "file"
        self.hub.requests[route] += 1
        self.hub.tokens["lfs" if route == "lfs" else "hub"].add(self.headers.get("Authorization", ""))
        queue = self.hub.faults.get(route, [None])
        fault = queue.pop(0) if len(queue) > 1 else queue[0]
        if fault is not None:
            fault(self)
        elif found["lfs"]:
            files = (data for files in self.hub.repos.values() for data in files.values())
            self.send_data(next(data for data in files if hashlib.sha256(data).hexdigest() == found["lfs"]))
        elif self.hub.needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            refuse(401, "Invalid username or password.", "RepoNotFound")(self)
        else:
            self.answer(found)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, found: re.Match[str]) -> None:
        repo = found["info"] or found["repo"]
        files = self.hub.repos.get(repo)
        revision = found["revision"] or found["tree"] or found["sha"] or "main"
        sha = self.hub.branches.get(revision, revision)
        if files is None:
            refuse(404 if self.headers.get("Authorization") else 401, "Repository not found", "RepoNotFound")(self)
        elif sha not in self.hub.branches.values():
            refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")(self)
        elif found["tree"]:
            self.send_json([entry(path, data) for path, data in sorted(files.items())])
        elif found["info"]:
            self.send_json({"id": repo, "sha": sha, "private": False, "gated": False, "tags": [], "siblings": []})
        elif found["path"] not in files:
            refuse(404, "Entry not found", "EntryNotFound")(self)
        else:
            data = files[found["path"]]
            headers = {"X-Repo-Commit": sha, "ETag": f'"{git_sha1(data)}"'}
            if found["path"].endswith(".parquet"):
                place = f"{self.hub.storage}/lfs/{hashlib.sha256(data).hexdigest()}?X-Amz-Signature={SIGNATURE}"
                linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
                self.send(302, b"", headers | linked | {"Location": place})
            else:
                self.send_data(data, headers)

    def send_data(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        ranges = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        self.send(206 if asked else 200, data[start:], {**(headers or {}), **ranges})

    def send_json(self, answer: Any) -> None:
        self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    about = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
    if path.endswith(".parquet"):
        about["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 132}
    return about


def refuse(status: int, message: str, code: str = "", **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    more |= {"X-Error-Code": code} if code else {}
    body = json.dumps({"error": message}).encode()
    return lambda to: to.send(status, body, {"Content-Type": "application/json", "X-Error-Message": message, **more})


def html(to: Handler) -> None:
    to.send(200, b"<!DOCTYPE html><title>Log in</title>", {"Content-Type": "text/html"})


def cut_after(data: bytes, count: int) -> Answer:
    """Promises all of `data`, sends `count` bytes, and hangs up."""

    def answer(to: Handler) -> None:
        to.send(200, data[:count], {"Content-Length": str(len(data))})
        to.close_connection = True

    return answer


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """A running server that stands in HF_ENDPOINT, and nobody logged in."""
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "home" / "hub"))
    for module in (_http, file_download, _huggingface_hub):  # they wait between attempts
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=hub.waits.append, monotonic=time.monotonic))
    yield hub
    hub.close()


def run(context: Context, out: str = "out", source: str = SOURCE, seed: int = 0, **options: Any) -> dict[str, Any]:
    return collecting.run(source, context.base / out, context, seed, **options)


def refused(context: Context, kind: type[PipelineError] = NetworkError, /, **options: Any) -> PipelineError:
    """The error of a run, which must be one line and hold no secret in anything it could be printed as."""
    with pytest.raises(PipelineError) as caught:
        run(context, **options)
    error = caught.value
    assert type(error) is kind, str(error)
    collecting.assert_told_in_a_line_without((TOKEN, SIGNATURE), error)
    no_secrets(context.base)
    return error


def no_secrets(folder: Path) -> None:
    paths = (path for path in folder.rglob("*") if path.name != ".env" and path.parent.name != "home")
    collecting.assert_no_file_holds((TOKEN, SIGNATURE), paths)


def written(context: Context, out: str = "out") -> list[str]:
    return collecting.collected(context.base / out)


def labels(context: Context, place: str, out: str = "out") -> list[dict[str, Any]]:
    text = (context.base / out / "files" / place / "metadata.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
