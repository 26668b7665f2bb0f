"""Which file a label file means when it names an image.

Label files name images as they lay on another machine: with its absolute path, with backslashes, percent-encoded, without a
suffix, in another case, or by the bare name. The rules, first to last:

1. The name as a path, with or without its suffix, from the folder of the label file or any folder above it.
2. A file of the same name, regardless of case and Unicode form. Of several, the one that shares most trailing folders with the
   reference; then the one in a folder that differs from the label file's in one place (`labels/a/x.txt`, `photos/a/x.jpg`);
   then the one whose folders end like the label file's, or begin like them (`A/Annotations/x.xml`, `A/JPEGImages/x.jpg`).
3. A file of the same stem, by the same order.

Where the other names of a label file lead to files from one folder, a name that leads to none from there, and shares no folder
with what rule 2 or 3 finds, means a file that is missing: `cam1/0001.jpg` is not `cam2/0001.jpg`.

Where two files remain equal there is no match: the caller names both, because choosing one in silence is how the labels of one
photo end up on another.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote

from pipeline.paths import folded, portable

EXACT, BY_NAME, BY_STEM = 0, 1, 2
_DOTTED = re.compile(r"(^|/)(\.{0,2}(/|$))")
"""An empty part of a path, `.` or `..`."""
_SPELLED = re.compile(r"^\s|\s$|[\\%]")
_ANY_IMAGES = frozenset({"data", "image", "images", "img", "imgs", "jpegimages", "photos", "pictures"})
"""Folders that say no more than that images lie there."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a reference means.

    Attributes:
        path: the file, "" when there is none or more than one.
        rank: `EXACT`, `BY_NAME` or `BY_STEM`; the lower the surer.
        candidates: the files between which nothing decides.
    """

    path: str = ""
    rank: int = EXACT
    candidates: tuple[str, ...] = ()


class References:
    """An index of files by name and by stem, made when somebody asks: most sets of labels name every image as it is."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)

    @cached_property
    def _index(self) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, str]]:
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        without_suffix: dict[str, str] = {}  # "" where two files differ only in their suffix
        for path in sorted(self._paths):
            whole = os.path.splitext(path)[0]
            without_suffix[whole] = "" if whole in without_suffix else path
            by_name.setdefault(_key(path.rpartition("/")[2]), []).append(path)
            by_stem.setdefault(_key(whole.rpartition("/")[2]), []).append(path)
        return by_name, by_stem, without_suffix

    @property
    def _by_name(self) -> dict[str, list[str]]:
        return self._index[0]

    @property
    def _by_stem(self) -> dict[str, list[str]]:
        return self._index[1]

    @property
    def _without_suffix(self) -> dict[str, str]:
        return self._index[2]

    def exact(self, path: str) -> str:
        """The file of that path, or the only one that it becomes by adding a suffix; "" where there is none."""
        return path if path in self._paths else self._without_suffix.get(path, "")

    def find(self, name: str, near: str) -> Match:
        """The file that `name`, written in the label file `near`, refers to."""
        if name in self._paths and "/" not in near:
            return Match(name)
        spellings = _spellings(name)
        for spelling in spellings:
            path = self._at(spelling, near)
            if path:
                return Match(path)
        for spelling in spellings:
            found = self._named(spelling, near)
            if found.path or found.candidates:
                return found
        return Match()

    def _at(self, name: str, near: str) -> str:
        folder = near
        is_plain = not _DOTTED.search(name)
        while folder:
            folder = folder.rpartition("/")[0]
            path = f"{folder}/{name}" if folder else name
            path = path if is_plain else posixpath.normpath(path)
            if path in self._paths or path in self._without_suffix:
                return self.exact(path)
        return self.exact(name)

    def roots(self, names: Sequence[str]) -> Counter[str]:
        """For every folder (with its slash, "" at the top) from which a name leads to a file: how many of the names do."""
        votes: Counter[str] = Counter()
        for name in names:
            key = _key(name.rpartition("/")[2])
            for path in self._by_name.get(key) or self._by_stem.get(key, []):
                found = path if key in self._by_name else os.path.splitext(path)[0]
                if found == name or found.endswith(f"/{name}"):
                    votes[found[: len(found) - len(name)]] += 1
        return votes

    def _named(self, name: str, near: str) -> Match:
        base = _key(name.rstrip("/").rpartition("/")[2])
        stem, suffix = os.path.splitext(base)
        if base in self._by_name:
            return _best(self._by_name[base], name, near, BY_NAME)
        if base in self._by_stem:
            return _best(self._by_stem[base], name, near, BY_STEM)
        if re.fullmatch(r"\.\w{1,5}", suffix) and stem in self._by_stem:
            return _best(self._by_stem[stem], name, near, BY_STEM)
        return Match()


def _key(name: str) -> str:
    # macOS decomposes umlauts in file names, Windows ignores case: both change a name without anybody asking. What Windows
    # forbids is renamed by `collect`, and the label files still say the old name.
    return folded(portable(name))


def _spellings(name: str) -> list[str]:
    found = [name]
    if not _SPELLED.search(name):
        return found
    for spelling in (name.strip(), name.strip().replace("\\", "/"), unquote(name.strip().replace("\\", "/"))):
        if spelling not in found:
            found.append(spelling)
    return found


def _best(candidates: list[str], name: str, near: str, rank: int) -> Match:
    if len(candidates) == 1:
        return Match(candidates[0], rank)
    wanted = _key(name).split("/")[:-1]
    beside = _key(near).split("/")[:-1]

    def closeness(path: str) -> tuple[int, bool, bool, int, int]:
        folders = _key(path).split("/")[:-1]
        same_spelling = path.rpartition("/")[2] == name.rpartition("/")[2]
        ending, leading = _shared(folders[::-1], beside[::-1]), _shared(folders, beside)
        mirrors = len(folders) == len(beside) and leading + ending >= len(folders) - 1
        return _shared(folders[::-1], wanted[::-1]), same_spelling, mirrors, ending, leading

    ranked = sorted(candidates, key=closeness, reverse=True)
    tied = [path for path in ranked if closeness(path) == closeness(ranked[0])]
    return Match(ranked[0], rank) if len(tied) == 1 else Match(rank=rank, candidates=tuple(sorted(tied)))


def contradicts(name: str, path: str) -> bool:
    """Whether a relative name with folders means a file in another place than `path`: not one trailing folder is the same."""
    spelled = name.strip().replace("\\", "/")
    folders, written = _key(spelled).split("/")[:-1], spelled.split("/")[:-1]
    if spelled.startswith("/") or ":" in "".join(written[:1]) or ".." in written or set(folders) <= _ANY_IMAGES:
        return False  # a bare name, or a path of another machine
    return _shared(folders[::-1], _key(path).split("/")[:-1][::-1]) == 0


def _shared(a: list[str], b: list[str]) -> int:
    """How many of the first parts are equal."""
    return next((number for number, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
