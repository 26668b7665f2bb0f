"""A tree of files as label readers see it: relative POSIX paths, listed once, and how to read text of any origin."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline import files
from pipeline.errors import DataError, did_you_mean
from pipeline.paths import is_image, is_plain


@dataclass(frozen=True)
class FileSet:
    """Files below `root`; `paths` are relative, with forward slashes, sorted.

    The images may lie below another folder, `photo_root`, as if it lay over `root`. What an operating system or an unfinished
    copy leaves behind (`._x.jpg`, `__MACOSX/`, `*.part`) is not in it.

    Attributes:
        unfollowed: links to folders, out of the folder or to nothing: a data set of unknown origin may point to anything.
        renamed: the path that a file had in its source, by the path that it has now, where `collect` gave it another name. Label
            files may say the old one.
    """

    root: Path
    paths: tuple[str, ...]
    photo_root: Path | None = None
    unfollowed: tuple[str, ...] = ()
    name: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What messages call it: the path, unless its user knows it by another name."""
        return self.name or str(self.root)

    @classmethod
    def scan(
        cls, root: Path, photo_root: Path | None = None, name: str = "", renamed: Mapping[str, str] = MappingProxyType({})
    ) -> FileSet:
        """List a folder, and the images of another in place of its own where one is given.

        Args:
            name: what messages call the folder; its path unless told.
            renamed: see there.

        Raises:
            DataError: there is no such folder, or names that cannot be kept on every system.
        """
        paths, unfollowed = _list(root)
        if photo_root is not None:
            photos, more = _list(photo_root)
            paths = [path for path in paths if not is_image(path)] + [path for path in photos if is_image(path)]
            unfollowed += more
        return cls(root, tuple(sorted(paths)), photo_root, tuple(sorted(unfollowed)), name, renamed)

    def below(self, folder: str, photo_folder: str = "") -> FileSet:
        """The part in a sub-folder, its images from another one where that is given; paths stay relative to `root`.

        Raises:
            DataError: there is no such folder.
        """
        for wanted in (folder, photo_folder):
            if wanted and wanted not in self.folders:
                names = sorted(name for name in self.folders if name and "/" not in name)
                raise DataError(f"There is no folder '{wanted}' in {self.called}.", did_you_mean(wanted, names or self.folders))
        others = [path for path in _below(self.paths, folder) if not photo_folder or not is_image(path)]
        photos = [path for path in _below(self.paths, photo_folder) if is_image(path)] if photo_folder else []
        return replace(self, paths=tuple(sorted([*others, *photos])))

    @cached_property
    def _start(self) -> str:
        return os.path.join(self.root, "")

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

    @cached_property
    def folder_of(self) -> dict[str, str]:
        """Every one of `folders` by its path, and by the one that it had in its source."""
        found = {folder: folder for folder in self.folders}
        for path in self.members & self.renamed.keys():
            now, before = path.rpartition("/")[0], self.renamed[path].rpartition("/")[0]
            while before not in found:
                found[before] = now
                now, before = now.rpartition("/")[0], before.rpartition("/")[0]
        return found

    @cached_property
    def sniffed(self) -> dict[str, Any]:
        """What readers have found out about files, by path, so that the next one need not read them again."""
        return {}

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Paths that end in one of the (lower-case) suffixes (".json"), in any case."""
        found = [path for suffix in suffixes for path in self._by_suffix.get(suffix, ())]
        return sorted(found) if len(suffixes) > 1 else found

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            _, dot, suffix = path.rpartition("/")[2].rpartition(".")
            found.setdefault(dot + suffix.lower(), []).append(path)
        return found

    def photos_below(self, folder: str) -> list[str]:
        return _below(self.photos, folder)

    def photo(self, path: str) -> Path:
        """Where an image lies on the disk."""
        return (self.photo_root or self.root) / path

    def read_bytes(self, path: str) -> bytes:
        return files.read_bytes(f"{self._start}{path}")

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


def _list(root: Path) -> tuple[list[str], list[str]]:
    """The files below a folder, and the links that are not followed."""
    if not root.is_dir():
        raise DataError(f"There is no folder {root}.", "Check the path.")
    inside = root.resolve()
    names, unfollowed, pending = [], [], [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_symlink() and not (entry.is_file() and Path(entry.path).resolve().is_relative_to(inside)):
                    unfollowed.append(name)
                elif entry.is_dir():
                    pending.append(f"{name}/")
                elif entry.is_file():
                    names.append(name)
    wrong = [name for name in names if _is_unusable(name)]
    if wrong:
        raise DataError("File names that do not exist on every system", "Rename the files.", [ascii(name) for name in wrong])
    return [path for path in names if not _is_residue(path)], unfollowed


def _below(paths: Sequence[str], folder: str) -> list[str]:
    """Those of the sorted `paths` that lie in a folder; all for ""."""
    if not folder:
        return list(paths)
    start = bisect_left(paths, folder + "/")
    return list(paths[start : bisect_left(paths, folder + "0", start)])  # "0" is the character after "/"


def _is_unusable(name: str) -> bool:
    """Whether a path has a backslash or a line end in a name, or is not Unicode: no list of relative POSIX paths can hold it."""
    return "\\" in name or not is_plain(name)


def _is_residue(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith("._") or path.startswith("__MACOSX/") or "/__MACOSX/" in path or files.is_temporary(name)
