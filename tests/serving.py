"""A real web server on this machine that can behave as badly as those out there."""

from __future__ import annotations

import hashlib
import http.server
import re
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Behaviour = Callable[["Handler"], None]


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes = b""


class _Threads(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up in many of these tests; their tracebacks would only hide others."""


class Server:
    """Serves `pages`, with ranges and ETags; a path in `odd` is served by each of its behaviours once, the last one for ever."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.odd: dict[str, list[Behaviour | None]] = {}
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.active = 0
        self.lock = threading.Lock()
        handler = type("Bound", (Handler,), {"owner": self})
        self._server = _Threads(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def counts(self) -> Counter[str]:
        return Counter(request.path for request in self.requests)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


class Handler(http.server.BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        owner, path = self.owner, self.path.partition("?")[0]
        with owner.lock:
            owner.requests.append(Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            owner.active += 1
            owner.most_at_once = max(owner.most_at_once, owner.active)
            queue = owner.odd.get(path, [None])
            behave = queue.pop(0) if len(queue) > 1 else queue[0]
        try:
            (behave or Handler.page)(self)
        finally:
            with owner.lock:
                owner.active -= 1

    def page(self) -> None:
        data = self.owner.pages.get(self.path.partition("?")[0])
        if data is None:
            self.answer(404, b"<html>gone</html>")
            return
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or self.headers.get("If-Range", tag) != tag:
            self.answer(200, data, {"ETag": tag})
        elif int(asked[1]) >= len(data):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        else:
            start = int(asked[1])
            self.answer(206, data[start:], {"ETag": tag, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        given = {"Content-Length": str(len(body)), **(headers or {})}
        self.send_response(status)
        for name, value in given.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


# ---- behaviours


def status(code: int, headers: dict[str, str] | None = None) -> Behaviour:
    return lambda handler: handler.answer(code, b"no", headers)


def redirect(place: str, code: int = 302) -> Behaviour:
    return status(code, {"Location": place})


def html(handler: Handler) -> None:
    handler.answer(200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"})


def cut_after(count: int, headers: dict[str, str] | None = None) -> Behaviour:
    """Promises all, sends `count` bytes, and hangs up."""

    def behave(handler: Handler) -> None:
        data = handler.owner.pages[handler.path]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"' if headers is None else ""
        handler.answer(200, data[:count], {"Content-Length": str(len(data)), "ETag": tag, **(headers or {})})
        handler.close_connection = True

    return behave


def whole_without_ranges(handler: Handler) -> None:
    handler.answer(200, handler.owner.pages[handler.path])


def slowly(seconds: float) -> Behaviour:
    def behave(handler: Handler) -> None:
        time.sleep(seconds)
        handler.page()

    return behave


class Mute(socketserver.ThreadingTCPServer):
    """Accepts connections and never says a byte; as text its address, without a scheme.

    `asked` counts requests; a probe, which connects and asks nothing, is none.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Deaf)
        self.asked = 0

    def __str__(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Who is not answered hangs up."""


class _Deaf(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(1 << 16):
            self.server.asked += 1  # type: ignore[attr-defined]


@contextmanager
def mute() -> Iterator[Mute]:
    with Mute() as host:
        threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield host
        host.shutdown()
