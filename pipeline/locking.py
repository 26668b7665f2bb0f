"""One writer at a time: a lock of the operating system on a workspace, which dies with its process however that ends.

Beside the lock lies a note that says who holds it. The note of a killed run stays, so it counts only as long as the lock is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline import files
from pipeline.errors import ArtifactError

_LOCK = "workspace.lock"
_NOTE = "lock-holder.json"
_PATIENCE_S = 2.0
"""A lock without a note is one just taken, whose note comes at once, or one about to be free."""


@contextlib.contextmanager
def hold(workspace: Path, cache: Path) -> Iterator[None]:
    """Hold the workspace for writing.

    Raises:
        ArtifactError: another process holds it; says which.
    """
    from filelock import FileLock, Timeout

    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / _LOCK)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if (cache / _NOTE).exists() or time.monotonic() > deadline:
                raise in_use(workspace, _told(cache / _NOTE)) from None
        time.sleep(_PATIENCE_S / 40)
    try:
        about = {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": " ".join(sys.argv[1:])}
        files.write_text(cache / _NOTE, json.dumps(about))
        yield
    finally:
        (cache / _NOTE).unlink(missing_ok=True)
        lock.release()


def holder(cache: Path) -> str:
    """Who holds the workspace, "" when nobody does; the lock itself is touched only where there is a note to doubt."""
    if not (cache / _NOTE).exists():
        return ""
    from filelock import FileLock, Timeout

    lock = FileLock(cache / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return _told(cache / _NOTE)
    except OSError:
        return ""  # where nothing can be written, nothing is being written
    try:
        (cache / _NOTE).unlink(missing_ok=True)  # of a run that was killed
    finally:
        lock.release()
    return ""


def in_use(workspace: Path, who: str) -> ArtifactError:
    return ArtifactError(
        f"The workspace {workspace} is in use by another run: {who}.", "Wait until it ends, or use another --workspace."
    )


def _told(note: Path) -> str:
    try:
        about = json.loads(note.read_text(encoding="utf-8"))
        return f"process {about['pid']}, since {about['since']} (`{about['command']}`)"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has just begun"
