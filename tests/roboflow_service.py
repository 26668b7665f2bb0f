"""A server on this machine that answers as Roboflow's does, and what its tests share."""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from pipeline import files
from pipeline.errors import NetworkError, PipelineError
from pipeline.sources import _roboflow_api, _roboflow_export
from pipeline.stage import Context
from tests import collecting
from tests.packing import zip_of

KEY = "s3cretK3yOfAUser0042"
LINK_KEY = "s3cretOfTheLink"
ETAG = '"of this archive"'
SOURCE = "roboflow:mari/sharks-tiny/3"


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (100, 50), (number, 50, 200)).save(stream, "JPEG")
    return stream.getvalue()


def coco_export() -> dict[str, bytes]:
    """As Roboflow packs one: a folder a split, a category of the project's name first, copies of a photo under `.rf.` names."""
    names = {"train": ["a_jpg.rf.0123456789ab.jpg", "a_jpg.rf.ba9876543210.jpg", "b_png.rf.aaaaaaaaaaaa.jpg"], "valid": ["c.jpg"]}
    categories = [
        {"id": number, "name": name, "supercategory": root}
        for number, name, root in (
            (0, "sharks", "none"),
            (1, "fish", "sharks"),
            (2, "never-used", "sharks"),
            (3, "shark", "sharks"),
        )
    ]
    files = {"README.dataset.txt": b"# sharks > raw\n\nProvided by a Roboflow user\nLicense: CC BY 4.0\n"}
    for split, photos in names.items():
        with_box = range(len(photos) - 1 or 1)  # the last image of a larger split has none
        boxes = [{"id": n, "image_id": n, "category_id": 3, "bbox": [10, 5, 20.5, 10], "iscrowd": 0} for n in with_box]
        images = [{"id": n, "license": 1, "file_name": name, "height": 50, "width": 100} for n, name in enumerate(photos)]
        document = {"info": {"year": "2024"}, "categories": categories, "images": images, "annotations": boxes}
        files[f"{split}/_annotations.coco.json"] = json.dumps(document).encode()
        files |= {f"{split}/{name}": photo(len(files) + n) for n, name in enumerate(photos)}
    return files


class Roboflow:
    """The routes that the SDK asks, with the shapes of their real answers. `faults` exchanges the answer of a route."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self.ranges: list[str] = []
        self.links: list[str] = []
        self.versions = [1, 2, 3]
        self.packed = zip_of(coco_export())
        self.project: dict[str, Any] = {
            "id": "mari/sharks-tiny", "type": "object-detection", "name": "Sharks Tiny", "public": True, "license": "CC BY 4.0",
            "images": 4, "unannotated": 0, "annotation": "sharks", "splits": {"train": 3, "valid": 1},
            "created": 1630335544.592, "updated": 1630335741.988, "classes": {"shark": 3},
        }  # fmt: skip
        self.busy: dict[str, list[float]] = {"version": [], "export": []}
        self.faults: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        path, query = urlsplit(to.path).path, parse_qs(urlsplit(to.path).query)
        self.agents.add(to.headers["User-Agent"])
        parts = path.strip("/").split("/")
        route = "download" if parts[0] == "ds" else ("", "workspace", "project", "version", "export")[len(parts)]
        self.requests.append(route)
        if route in self.faults:
            self.faults[route](to)
        elif route == "download":
            self.ranges.append(to.headers.get("Range", ""))
            begin = int(self.ranges[-1].removeprefix("bytes=").rstrip("-") or 0)
            if begin and to.headers["If-Range"] == ETAG:
                of = f"bytes {begin}-{len(self.packed) - 1}/{len(self.packed)}"
                send(to, 206, self.packed[begin:], "application/zip", ETag=ETAG, Content_Range=of)
            else:
                send(to, 200, self.packed, "application/zip", ETag=ETAG)
        elif query["api_key"] != [KEY]:
            refuse(401, "This API key does not exist (or has been revoked).")(to)
        elif parts[:2] != ["mari", "sharks-tiny"]:
            refuse(404, f"Unsupported get request. Project with ID `{parts[1]}` does not exist.")(to)
        elif route == "project":
            listed = [{"id": f"mari/sharks-tiny/{number}", "name": "raw", "images": 4} for number in self.versions]
            send_json(to, 200, {"workspace": {"url": "mari"}, "project": self.project, "versions": listed})
        elif int(parts[2]) not in self.versions:
            refuse(404, f"Unsupported get request. Version with ID `{parts[2]}` does not exist.")(to)
        else:
            busy = self.busy[route].pop(0) if self.busy[route] else None
            version = {
                "id": "/".join(parts[:3]),
                "name": "raw",
                "images": 4,
                "splits": {"train": 3, "valid": 1},
                "exports": ["coco"],
            }
            if route == "version":
                version |= {"generating": busy is not None, "progress": 1 if busy is None else busy}
                send_json(to, 200, {"workspace": {"url": "mari"}, "project": self.project, "version": version})
            elif busy is not None:
                send_json(to, 202, {"progress": busy})
            else:
                self.links.append(f"{self.url}/ds/abc?key={LINK_KEY}{len(self.links)}")  # another one each time, as theirs
                export = {"format": parts[3], "link": self.links[-1], "size": 0.1}
                send_json(to, 200, {"project": self.project, "version": version, "export": export})


def send(to: http.server.BaseHTTPRequestHandler, status: int, body: bytes, kind: str, **headers: str) -> None:
    to.send_response(status)
    to.send_header("Content-Type", kind)
    to.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        to.send_header(name.replace("_", "-"), value)
    to.end_headers()
    to.wfile.write(body)


def send_part(to: http.server.BaseHTTPRequestHandler, body: bytes, announced: int, **headers: str) -> None:
    """`body` and then the end of the connection, whatever was announced; 0 announces nothing."""
    to.send_response(200)
    for name, value in {**headers, **({"Content-Length": str(announced)} if announced else {})}.items():
        to.send_header(name, value)
    to.end_headers()
    to.wfile.write(body)
    to.wfile.flush()
    to.connection.shutdown(socket.SHUT_RDWR)


def send_json(to: http.server.BaseHTTPRequestHandler, status: int, answer: Any, **headers: str) -> None:
    send(to, status, json.dumps(answer).encode(), "application/json", **headers)


def refuse(status: int, message: str, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """As Roboflow refuses: the key that was sent is repeated in the answer."""
    error = {"message": message, "status": status, "type": "OAuthException", "hint": "See the docs.", "key": KEY}
    return lambda to: send_json(to, status, {"error": error}, **headers)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Roboflow]:
    """A running server that the SDK takes for Roboflow, and a key in the environment."""
    server = Roboflow()
    monkeypatch.setenv("ROBOFLOW_CONFIG_DIR", str(folder / "no login.json"))
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_roboflow_api._load(), "API_URL", server.url)
    monkeypatch.setattr(_roboflow_export, "POLL_S", 0.01)
    monkeypatch.setattr(_roboflow_api, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(_roboflow_export, "LIMITS", replace(_roboflow_export.LIMITS, attempts=3, backoff_s=0.01))
    yield server
    server.close()


def run(context: Context, out: str = "out", source: str = SOURCE, **options: Any) -> dict[str, Any]:
    return collecting.run(source, context.base / out, context, **options)


def refused(context: Context, kind: type[PipelineError] = NetworkError, **options: Any) -> PipelineError:
    """The error of a run, which must be one line, hold no secret in anything it could be printed as, and leave nothing that could
    be taken for whole."""
    with pytest.raises(PipelineError) as caught:
        run(context, **options)
    error = caught.value
    assert type(error) is kind
    collecting.assert_told_in_a_line_without((KEY, LINK_KEY), error)
    left = [path.name for path in context.cache.rglob("*") if path.is_file()]
    assert not [name for name in left if not files.is_temporary(name) and not name.endswith(".zip")]
    no_secrets(context.base)
    return error


def no_secrets(folder: Path) -> None:
    collecting.assert_no_file_holds((KEY, LINK_KEY), (path for path in folder.rglob("*") if path.name != ".env"))
