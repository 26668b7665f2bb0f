"""Writing and linking files so that whatever has its final name is whole.

A process can be killed between any two instructions. Every file of an artifact is therefore written under a temporary name in
the same folder and then renamed, which all supported systems do atomically.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_SUFFIX = ".part"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success rename it to `path`, on failure remove it.

    The temporary name keeps the suffix of `path`, because encoders choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short and free of the target's name: a 250-character file name would not fit with anything added to it.
    temporary = path.with_name(f".{os.getpid()}-{abs(hash(path.name)) & 0xFFFFFFFF:08x}{TEMPORARY_SUFFIX}{path.suffix[:16]}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_temporary(name: str) -> bool:
    """Whether a file name was given by `atomic_path` (a killed process may leave such a file behind)."""
    return name.startswith(".") and TEMPORARY_SUFFIX in name


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with `\\n` line ends on every system, so that equal content has equal bytes."""
    write_bytes(path, text.encode("utf-8"))


def write_json_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a line of JSON a row."""
    encode = json.JSONEncoder(ensure_ascii=False).encode  # one for all: there may be a row for every box of a large data set
    write_text(path, "".join([encode(row) + "\n" for row in rows]))


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that `write_json_lines` wrote."""
    # Not `splitlines`: it also splits at characters such as U+2028, which JSON leaves as they are.
    yield from (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)


def read_bytes(path: str) -> bytes:
    """As `Path.read_bytes`, with half of the calls to the system: for thousands of small files."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(handle).st_size
        data = os.read(handle, size)
        if size and len(data) == size:
            return data
        pieces = [data]  # a pipe, or larger than one call reads
        while piece := os.read(handle, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def write_unseen(path: str | Path, data: bytes) -> None:
    """Write a file of a folder that has a temporary name itself, and is renamed when all of it is there.

    A name of its own until then would double the cost of a small file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - strings: this is called for every image
        handle = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def copy(source: Path, target: Path) -> None:
    """Copy the bytes of `source` (a link is followed), never its permissions: sources may be read-only."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def link(source: str | Path, target: str | Path) -> None:
    """Hard-link `target` to `source`; copy where the file system has no (more) links."""
    try:
        try:
            os.link(source, target)
        except FileNotFoundError:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    except FileExistsError:
        if not os.path.samefile(source, target):
            os.unlink(target)  # noqa: PTH108 - may be a text
            link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES, errno.ENOSYS, errno.EINVAL):
            raise
        copy(Path(source), Path(target))


def walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every regular file below `folder`, in no particular order; four times as fast as `Path.rglob`.

    For folders of our own: a link to a folder is not followed, so that nothing outside `folder` is ever taken for a part of it.
    The folders of users are listed by `fingerprint.stat_tree`, which does follow.
    """
    return (entry for _, entry in walk_relative(folder))


def walk_relative(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """`walk`, with the path relative to `folder` (forward slashes) of each file.

    Put together on the way: cutting it out of the whole path goes wrong where `folder` ends in a separator, as `D:\\` does.
    """
    pending = [(os.fspath(folder), "")]
    while pending:
        path, prefix = pending.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    yield prefix + entry.name, entry
