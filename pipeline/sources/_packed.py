"""What is in an archive: a reader for zip and one for tar, both one member after the other, and nothing of it trusted.

The kind is known by the content, not by the name. https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (zip),
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06 (tar); tar alone or in gzip, bzip2 or xz.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from pipeline.errors import DataError

MAX_RATIO = 200
"""Images hardly shrink and label text shrinks 5 to 20 times; an archive above this as a whole is no data set."""
MAX_HEADER = 1 << 24
"""Bytes: a tar may say that a single name is longer than the memory."""

KINDS = "zip, tar, tar.gz, tar.bz2 or tar.xz"
_STREAMS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "tar": lambda packed: packed,
    "tar.gz": lambda packed: gzip.GzipFile(fileobj=packed),  # type: ignore[dict-item,return-value]
    "tar.bz2": bz2.BZ2File,
    "tar.xz": lzma.LZMAFile,
}
_BEGINNINGS = {b"\x1f\x8b": "tar.gz", b"BZh": "tar.bz2", b"\xfd7zXZ\x00": "tar.xz"}
_FOREIGN = {b"7z\xbc\xaf": "7z", b"Rar!": "rar", b"\x28\xb5\x2f\xfd": "Zstandard"}


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: as it stands in the archive.
        size: in bytes when unpacked, as the archive tells.
        wrong: what it is instead of a file ("is a link"); such a member is never unpacked.
        position: how many bytes of the archive were read up to it.
    """

    name: str
    size: int
    is_folder: bool = False
    is_encrypted: bool = False
    wrong: str = ""
    position: int = 0


Opener = Callable[[], IO[bytes]]


def members(path: Path, shown: str) -> Iterator[tuple[Member, Opener]]:
    """Each member, and how to read it; of a tar it can be read until the next one is asked for.

    Args:
        shown: the name of the archive in messages.

    Raises:
        DataError: of another kind, damaged, cut short, or a bomb.
    """
    kind = _kind(path, shown)
    yield from _zip_members(path, shown) if kind == "zip" else _tar_members(path, kind, shown)


def bomb(shown: str, what: str) -> DataError:
    hint = "Unpack it yourself if you trust it, and use the folder."
    return DataError(f"{shown} is not unpacked:", hint, [f"{what}: taken for a bomb"])


@contextmanager
def telling_damage(shown: str) -> Iterator[None]:
    """Turn what the libraries raise for damaged archives into DataError; errors of the disk pass."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk; bz2 and gzip report damaged data by an OSError without a number
        raise _damaged(shown, error) from error
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        UnicodeDecodeError,
    ) as error:
        raise _damaged(shown, error) from error


def _damaged(shown: str, error: Exception) -> DataError:
    return DataError(f"{shown}: the archive is damaged or of an unknown kind ({error}).", "Download or pack it again.")


def _kind(path: Path, shown: str) -> str:
    with path.open("rb") as stream:
        start = stream.read(tarfile.BLOCKSIZE)
    if start.startswith(b"PK"):
        return "zip"
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if _is_tar_header(start):
        return "tar"
    if zipfile.is_zipfile(path):
        return "zip"  # with a program before it that unpacks it
    foreign = next((f" It is a {name} archive." for beginning, name in _FOREIGN.items() if start.startswith(beginning)), "")
    foreign = foreign or (" It looks like a web page." if start.lstrip().startswith(b"<") else "")
    raise DataError(
        f"{shown} is neither a folder nor an archive of a known kind ({KINDS}).{foreign}",
        "Unpack archives of other kinds, and give the folder.",
    )


def why_no_zip(path: Path) -> str:
    """What a server sent in place of a zip archive; "" for a file that has the beginning and the end of one."""
    with path.open("rb") as stream:
        start = stream.read(512).lstrip()
    if start.startswith(b"PK"):
        return "" if zipfile.is_zipfile(path) else "a zip archive that is damaged or cut short"
    if start.startswith(b"<"):
        return "a web page instead of a zip archive"
    return f"{path.stat().st_size:,} bytes that are no zip archive"


def _is_tar_header(block: bytes) -> bool:
    """By its checksum, which the oldest kinds of tar have too."""
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return len(block) == tarfile.BLOCKSIZE and not any(block)  # an archive of nothing is all zeros
    return True


# ---- zip


def _zip_members(path: Path, shown: str) -> Iterator[tuple[Member, Opener]]:
    with telling_damage(shown):
        archive = zipfile.ZipFile(path)
    with archive:
        for entry in archive.infolist():
            mode = stat.S_IFMT(entry.external_attr >> 16)
            is_folder = entry.filename.endswith(("/", "\\"))
            wrong = "" if is_folder or mode in (0, stat.S_IFREG) else "is a link or a device"
            member = Member(entry.filename, entry.file_size, is_folder, bool(entry.flag_bits & 1), wrong)
            yield member, partial(archive.open, entry)


# ---- tar


class _Forward:
    """The unpacked bytes of a tar, from the front to the end.

    `tarfile` may go back in a damaged one, for which a compressed stream would be unpacked from its start again, and reads a name
    of any length into memory.
    """

    def __init__(self, stream: IO[bytes], limit: int, shown: str) -> None:
        self._stream, self._limit, self._shown = stream, limit, shown
        self._position = self._read = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise bomb(self._shown, f"a name or a comment in it has {size:,} bytes")
        self.last = self._stream.read(size)
        self._position += len(self.last)
        self._read += len(self.last)
        self._require_within(max(self._position, self._read))
        return self.last

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a member begins before the one before it has ended")
        self._require_within(position)
        if position > self._position:
            self._stream.seek(position)
            self._position = position

    def tell(self) -> int:
        return self._position

    def _require_within(self, position: int) -> None:
        if position > self._limit:
            raise bomb(self._shown, f"more than {self._limit:,} bytes unpacked")


def _tar_members(path: Path, kind: str, shown: str) -> Iterator[tuple[Member, Opener]]:
    # Not the size times the ratio alone: a small tar is padded to 10 KiB, and zeros shrink a thousandfold.
    limit = MAX_RATIO * max(path.stat().st_size, 1 << 20)
    with path.open("rb") as packed, _STREAMS[kind](packed) as unpacked:
        forward = _Forward(unpacked, limit, shown)
        with _telling_odd_headers(shown):
            archive = tarfile.TarFile(fileobj=forward, mode="r", errorlevel=2)  # type: ignore[arg-type]
        while True:
            with _telling_odd_headers(shown):
                entry = archive.next()
                if entry is not None and (entry.size < 0 or archive.offset <= entry.offset):
                    raise tarfile.ReadError("a size below zero")
                if entry is None:
                    _require_end(forward)
            if entry is None:
                return
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps all that it has read
            wrong = "" if entry.isreg() or entry.isdir() else "is a link or a device"
            # Of a sparse file the size is that of its gaps too.
            member = Member(entry.name, entry.size, entry.isdir(), False, wrong, packed.tell())
            yield member, partial(_content, archive, entry)


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(entry)
    if stream is None:
        raise tarfile.ReadError(f"'{entry.name}' has no content")
    return stream


@contextmanager
def _telling_odd_headers(shown: str) -> Iterator[None]:
    """`telling_damage`, for what only headers bring about: numbers that are none, and names within names."""
    try:
        with telling_damage(shown):
            yield
    except (ValueError, OverflowError, RecursionError) as error:
        raise _damaged(shown, error) from error


def _require_end(forward: _Forward) -> None:
    """Raise ReadError unless the archive ends with blocks of zeros, as it must: `tarfile` also stops at what it cannot read.

    All is read, because gzip and xz tell damage by a checksum at their very end.
    """
    if len(forward.last) != tarfile.BLOCKSIZE or any(forward.last):
        raise tarfile.ReadError("it is cut short, or a header in it is damaged")
    while chunk := forward.read(1 << 16):
        if any(chunk):
            raise tarfile.ReadError("more data follows its end")
