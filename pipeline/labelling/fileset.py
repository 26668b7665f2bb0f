"""A tree of files as label readers see it: relative POSIX paths, listed once, and how to read text of any origin."""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError
from pipeline.paths import is_image, is_plain


@dataclass(frozen=True)
class FileSet:
    """Files below `root`; `paths` are relative, with forward slashes, sorted.

    What an operating system or an unfinished copy leaves behind (`._x.jpg`, `__MACOSX/`, `*.part`) is not in it.
    """

    root: Path
    paths: tuple[str, ...]

    @classmethod
    def scan(cls, root: Path) -> FileSet:
        """List a folder.

        Raises:
            DataError: names that cannot be kept on every system.
        """
        names = [name for name, _ in files.walk_relative(root)]
        wrong = [name for name in names if _is_unusable(name)]
        if wrong:
            raise DataError("File names that do not exist on every system", "Rename the files.", [ascii(name) for name in wrong])
        return cls(root, tuple(sorted(path for path in names if not _is_residue(path))))

    @cached_property
    def members(self) -> frozenset[str]:
        return frozenset(self.paths)

    @cached_property
    def photos(self) -> tuple[str, ...]:
        """Paths with the suffix of an image; whether they are images is another question."""
        return tuple(path for path in self.paths if is_image(path))

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder that holds a file, directly or below; "" is the root."""
        found = {""}
        for path in self.paths:
            folder = path.rpartition("/")[0]
            while folder not in found:
                found.add(folder)
                folder = folder.rpartition("/")[0]
        return frozenset(found)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Paths that end in one of the (lower-case) suffixes, in any case."""
        return [path for path in self.paths if path.lower().endswith(suffixes)]

    def photos_below(self, folder: str) -> list[str]:
        if not folder:
            return list(self.photos)
        start = bisect_left(self.photos, folder + "/")
        end = bisect_left(self.photos, folder + "0", start)  # "0" is the character after "/"
        return list(self.photos[start:end])

    def read_bytes(self, path: str) -> bytes:
        with open(os.path.join(self.root, path), "rb") as stream:
            return stream.read()

    def read_text(self, path: str) -> str:
        """The text of a file: UTF-8, or UTF-16 with a byte-order mark.

        Raises:
            DataError: any other encoding; guessing one would garble class and file names in silence.
        """
        return decode_text(self.read_bytes(path), path)


def decode_text(data: bytes, path: str) -> str:
    """See `FileSet.read_text`; `path` is for the message."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: the text is not UTF-8", "Save the file as UTF-8.") from error


def _is_unusable(name: str) -> bool:
    """Whether a path has a backslash or a line end in a name, or is not Unicode: no list of relative POSIX paths can hold it."""
    return "\\" in name or not is_plain(name)


def _is_residue(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith("._") or path.startswith("__MACOSX/") or "/__MACOSX/" in path or files.is_temporary(name)
