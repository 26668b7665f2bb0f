"""One attempt at one download: ask, receive into a partial file, check, move.

A partial file that is worth it has a `.json` beside it with what the server called that version of the file (RFC 9110: ETag, or
Last-Modified). The next attempt, also one of a later run, asks for the rest on the condition that it is still that version
(Range and If-Range); a server that cannot do so sends the whole, and the file starts anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import files, urls
from pipeline.downloads.connections import Connections, basic, leave, retry_after_s, status_line
from pipeline.downloads.items import Check, Download, Failed, Stopped
from pipeline.errors import DataError
from pipeline.machine import require_room

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CHUNK = 1 << 16
WORTH_RESUMING = 1 << 20
"""Bytes: below it, fetching the whole again costs less than remembering."""
STALL_S, STALL_BYTES = 60.0, 1 << 13
"""Less than so many bytes in so many seconds: a server that drips must not hold a place for hours."""
_PASSING = {408: "timeout", 425: "server_error", 429: "too_many_requests"}
_FINAL = {401: "access_denied", 403: "access_denied", 404: "not_found", 407: "access_denied", 410: "not_found"}
_HEADERS = {"User-Agent": "yolo-pipeline", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Line:
    """What all attempts share: connections, the word to stop, and who counts the bytes."""

    connections: Connections
    stop: threading.Event
    received: Callable[[int], None]
    expected: Callable[[int], None]
    max_bytes: int


def attempt(download: Download, line: Line, check: Check | None) -> str:
    """Bring the file to `download.target`; its BLAKE3.

    Raises:
        Failed: with the reason, and whether another attempt may help.
        Stopped: see `Line.stop`.
        DataError: the disk is too small.
        OSError: of the disk.
    """
    part = _part(download)
    start, if_range = _kept(part, download)
    headers = {**_HEADERS, "Range": f"bytes={start}-"} if start else _HEADERS
    if if_range:
        headers = {**headers, "If-Range": if_range}
    if line.stop.is_set():
        raise Stopped
    user = urls.credentials(download.url)
    response = line.connections.follow(download.url, headers, {"Authorization": basic(user)} if user else {})
    try:
        start = _require_content(response, start, part)
        size, digest, sha256 = _receive(response, part, start, download, line)
    except BaseException:
        response.close()  # what is left of the body would otherwise be taken for the next answer
        raise
    response.release_conn()
    _require_right(part, size, sha256, download, check, resumed=bool(start))
    os.replace(part, download.target)
    if size >= WORTH_RESUMING:
        _sidecar(part).unlink(missing_ok=True)
    return digest


def _require_content(response: BaseHTTPResponse, start: int, part: Path) -> int:
    """The offset that the body begins at. Raises Failed for an answer without the file."""
    status = response.status
    if status == 200:
        return 0
    if status == 206 and start:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if found and int(found[1]) == start:
            return start
    if status in (206, 416):
        _forget(part)
        raise Failed("server_error", f"{status_line(response)}: not the part that was asked for", again=True)
    detail, wait_s = status_line(response), retry_after_s(response.headers)
    leave(response)
    if status in _PASSING or (status >= 500 and status not in (501, 505)):
        raise Failed(_PASSING.get(status, "server_error"), detail, again=True, wait_s=wait_s)
    raise Failed(_FINAL.get(status, "http_error"), detail)


def _receive(response: BaseHTTPResponse, part: Path, start: int, download: Download, line: Line) -> tuple[int, str, str]:
    """Append the body to `part`; size, BLAKE3 and, where it is asked for, SHA-256 of the whole."""
    from blake3 import blake3
    from urllib3 import exceptions

    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() and len(length) < 19 else None
    _require_size_and_room(total, start, download)
    _remember(part, response, total)
    if total:
        line.expected(total)
    blake, sha = blake3(), hashlib.sha256()
    with part.open("r+b" if start else "wb", buffering=2 * CHUNK) as out:
        while start and (chunk := out.read(CHUNK)):
            blake.update(chunk)
            if download.sha256:
                sha.update(chunk)
        since, in_time, size = time.monotonic(), 0, start
        try:
            while chunk := response.read1(CHUNK):
                out.write(chunk)
                blake.update(chunk)
                if download.sha256:
                    sha.update(chunk)
                line.received(len(chunk))
                in_time += len(chunk)
                size += len(chunk)
                if size > line.max_bytes:
                    raise Failed("too_large", f"more than {line.max_bytes:,} bytes")
                if line.stop.is_set():
                    raise Stopped
                if time.monotonic() - since > STALL_S:
                    if in_time < STALL_BYTES:
                        raise Failed("timeout", f"{in_time} bytes in {STALL_S:g} s", again=True)
                    since, in_time = time.monotonic(), 0
        except exceptions.ReadTimeoutError as error:
            raise Failed("timeout", f"silent after {size:,} bytes", again=True) from error
        except exceptions.DecodeError as error:
            raise Failed("damaged", f"its compression is damaged ({error})") from error
        except exceptions.HTTPError as error:
            of = f" of {total:,}" if total else ""
            raise Failed("cut_off", f"the connection broke after {size:,}{of} bytes", again=True) from error
    return size, blake.hexdigest(), sha.hexdigest()


def _require_size_and_room(total: int | None, start: int, download: Download) -> None:
    if total is None:
        return
    if download.size is not None and total != download.size:
        raise Failed("wrong_size", f"the server has {total:,} bytes, {download.size:,} were expected")
    if total - start > WORTH_RESUMING:  # small files are counted before, all together
        require_room(download.target.parent, total - start)


def _require_right(part: Path, size: int, sha256: str, download: Download, check: Check | None, resumed: bool) -> None:
    """Raise Failed, and forget the file, unless it is what it should be. One put together from pieces gets a second chance."""
    failure = None
    if not size:
        failure = Failed("empty_file", "the server sent nothing")
    elif download.size is not None and size != download.size:
        failure = Failed("wrong_size", f"{size:,} bytes came, {download.size:,} were expected", again=resumed)
    elif download.sha256 and sha256 != download.sha256.lower():
        failure = Failed("wrong_hash", f"its SHA-256 is {sha256}, expected was {download.sha256.lower()}", again=resumed)
    elif check is not None:
        try:
            check(part)
        except DataError as error:
            told = error.message.replace(f"{part}: ", "").replace(str(part), "the file")
            failure = Failed(getattr(error, "reason", "") or "check_failed", told, again=resumed)
    if failure is not None:
        _forget(part)
        raise failure


# ---- partial files


def _part(download: Download) -> Path:
    """The same in every run, and with a name that marks it as temporary: publishing a version deletes what is left over."""
    key = hashlib.blake2s(f"{download.identity or download.url}\n{download.target.name}".encode(), digest_size=10).hexdigest()
    return download.target.with_name(f".{key}{files.TEMPORARY_SUFFIX}")


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _kept(part: Path, download: Download) -> tuple[int, str]:
    """How many bytes an earlier attempt brought that can be gone on from, and the version of the file they are of."""
    try:
        size = part.stat().st_size
        if_range = json.loads(_sidecar(part).read_text(encoding="utf-8"))["if_range"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""
    # Without a version, only a known hash tells afterwards that the pieces belong together.
    return (size, str(if_range)) if size and (if_range or download.sha256) else (0, "")


def _remember(part: Path, response: BaseHTTPResponse, total: int | None) -> None:
    if total is None or total < WORTH_RESUMING or response.headers.get("Content-Encoding", "identity") != "identity":
        return
    tag = response.headers.get("ETag", "")
    # A weak tag means "much the same", which bytes must not rely on (RFC 9110, 13.1.5).
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    if response.status == 200:
        part.unlink(missing_ok=True)  # before the new version is written down: the old bytes are not of it
        files.write_text(_sidecar(part), json.dumps({"if_range": version}))


def _forget(part: Path) -> None:
    _sidecar(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)
