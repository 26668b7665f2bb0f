"""Files of a Hugging Face repository, brought into the cache by the hub's own client, which names a file when it is whole.

What arrives is held against the hash that the hub lists, which the client does not do. The cache is of the client's own kind, but
lies in this workspace's folder and not in the user's (`HF_HOME`): what is there can be linked into versions, and nobody else
deletes or changes it.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.downloads.meter import Meter
from pipeline.errors import NetworkError
from pipeline.machine import require_room
from pipeline.sources._huggingface_hub import Commit, Entry, Hub, explained, require_online

PARALLEL = 8
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Local:
    """A file that was downloaded; `hash` is its BLAKE3."""

    path: Path
    hash: str


def download(hub: Hub, commit: Commit, entries: Sequence[Entry], label: str = "download") -> dict[str, Local]:
    """Bring files of a commit into the cache, by path; those that are there are only checked.

    Raises:
        NetworkError: one cannot be had, or is not what the hub lists.
        DataError: the disk is too small.
    """
    _sweep(hub, commit)
    missing = [entry for entry in entries if not _is_here(hub, commit, entry)]
    if missing:
        require_online(hub)
        require_room(hub.cache, sum(entry.size for entry in missing))
    meter = Meter(len(entries), sum(entry.size for entry in entries))
    return explained(hub, commit.repo, commit.sha, lambda: _download(hub, commit, entries, meter, label))


def _download(hub: Hub, commit: Commit, entries: Sequence[Entry], meter: Meter, label: str) -> dict[str, Local]:
    brought: dict[str, Local] = {}
    todo: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[str, Local] | BaseException] = queue.SimpleQueue()
    for entry in entries:
        todo.put(entry)

    def work() -> None:
        with suppress(queue.Empty):
            while not hub.stop.is_set():
                entry = todo.get_nowait()
                try:
                    results.put((entry.path, _bring(hub, commit, entry, meter)))
                except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                    results.put(error)

    # Not of a pool: the process would wait for its threads after Ctrl-C, and a host may be silent for long.
    for _ in range(min(PARALLEL, len(entries))):
        threading.Thread(target=work, name=hub.thread, daemon=True).start()
    try:
        with hub.context.progress(label, len(entries)) as advance:
            while len(brought) < len(entries):
                before = len(brought)
                with suppress(queue.Empty):
                    result = results.get(timeout=0.25)
                    if isinstance(result, BaseException):
                        raise result
                    brought[result[0]] = result[1]
                advance(len(brought) - before, **(meter.info(len(brought)) or {}))
    finally:
        hub.stop.set()
    hub.stop.clear()
    return brought


def _bring(hub: Hub, commit: Commit, entry: Entry, meter: Meter) -> Local:
    class Bar:
        """What the client takes for a progress bar."""

        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def close(self) -> None: ...

        def update(self, count: float | None = 1) -> None:
            if hub.stop.is_set():
                raise KeyboardInterrupt  # in a thread: ends it, and its file that is not whole
            meter.received(int(count or 0))

    def brought() -> Path:
        path = hub.library.hf_hub_download(
            commit.repo,
            entry.path,
            repo_type="dataset",
            revision=commit.sha,
            cache_dir=hub.cache,
            endpoint=hub.endpoint,
            token=hub.token or False,
            library_name="yolo-pipeline",
            tqdm_class=Bar,
        )
        return Path(path)

    was_here = _is_here(hub, commit, entry)
    try:
        return _checked(brought(), entry, hub.host)
    except NetworkError:
        if not was_here:
            raise
    return _checked(brought(), entry, hub.host)  # it was damaged on this disk


def _checked(path: Path, entry: Entry, host: str) -> Local:
    """Hash a file once for both: what the hub says of it, and what we call it by. One that is wrong is deleted.

    Raises:
        NetworkError: it is not what the hub lists.
    """
    from blake3 import blake3

    blake = blake3()
    theirs = hashlib.sha256() if entry.sha256 else hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
    size = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            blake.update(chunk)
            theirs.update(chunk)
    expected = entry.sha256 or entry.git_sha1
    if size == entry.size and theirs.hexdigest() == expected:
        return Local(path, blake.hexdigest())
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    what = f"{size:,} bytes" if size != entry.size else "other bytes"
    raise NetworkError(
        f"{host} sent {what} for {entry.path} than the {entry.size:,} that it lists.",
        "It is deleted: run again. A proxy may have changed it on its way.",
    )


def _is_here(hub: Hub, commit: Commit, entry: Entry) -> bool:
    found = hub.library.try_to_load_from_cache(
        commit.repo, entry.path, cache_dir=hub.cache, revision=commit.sha, repo_type="dataset"
    )
    return isinstance(found, str)


def _sweep(hub: Hub, commit: Commit) -> None:
    """Delete what a killed run was about to download: the client gives such files names that it never looks at again."""
    from huggingface_hub.file_download import repo_folder_name

    blobs = hub.cache / repo_folder_name(repo_id=commit.repo, repo_type="dataset") / "blobs"
    for path in blobs.glob("*.incomplete"):
        with suppress(OSError):
            path.unlink()
