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

A file that `collect` renamed, because not every system can hold its name, goes by that name too. No other file does: `a:1.jpg` is
not `a_1.jpg`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from urllib.parse import unquote

from pipeline.paths import folded

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
    """An index of files by name and by stem, made when somebody asks: most sets of labels name every image as it is.

    Args:
        renamed: the path that a file had in its source, by the path that it has now; label files among them too.
    """

    def __init__(self, paths: Iterable[str], renamed: Mapping[str, str] = MappingProxyType({})) -> None:
        self._renamed = renamed
        self._paths = {path: path for path in paths}
        """Paths by the names they go by."""
        self._paths |= {renamed[path]: path for path in self._paths.keys() & renamed.keys()}

    @cached_property
    def _index(self) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, str]]:
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        without_suffix: dict[str, str] = {}  # "" where two files differ only in their suffix
        for path in sorted(self._paths):
            whole = os.path.splitext(path)[0]
            without_suffix[whole] = "" if whole in without_suffix else path
            # macOS decomposes umlauts in file names, Windows ignores case: both change a name without anybody asking.
            by_name.setdefault(folded(path.rpartition("/")[2]), []).append(path)
            by_stem.setdefault(folded(whole.rpartition("/")[2]), []).append(path)
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
        return self._paths.get(path) or self._paths.get(self._without_suffix.get(path, ""), "")

    def source_name(self, path: str) -> str:
        """The path that a file had in its source."""
        return self._renamed.get(path, path)

    def find(self, name: str, near: str) -> Match:
        """The file that `name`, written in the label file `near`, refers to."""
        if name in self._paths and "/" not in near:
            return Match(self._paths[name])
        near = self.source_name(near)
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
        """For every folder (with its slash, "" at the top) from which a name leads to a file: how many of the names do.

        The folders are those of the source.
        """
        votes: Counter[str] = Counter()
        for name in names:
            key = folded(name.rpartition("/")[2])
            for path in self._by_name.get(key) or self._by_stem.get(key, []):
                found = path if key in self._by_name else os.path.splitext(path)[0]
                if (found == name or found.endswith(f"/{name}")) and path not in self._renamed:
                    votes[found[: len(found) - len(name)]] += 1
        return votes

    def _named(self, name: str, near: str) -> Match:
        base = name.rstrip("/").rpartition("/")[2]
        stem, suffix = map(folded, os.path.splitext(base))
        base = folded(base)
        if base in self._by_name:
            return self._best(self._by_name[base], name, near, BY_NAME)
        if base in self._by_stem:
            return self._best(self._by_stem[base], name, near, BY_STEM)
        if re.fullmatch(r"\.\w{1,5}", suffix) and stem in self._by_stem:
            return self._best(self._by_stem[stem], name, near, BY_STEM)
        return Match()

    def _best(self, candidates: list[str], name: str, near: str, rank: int) -> Match:
        if len(candidates) > 1:
            candidates = _closest(candidates, name, near)
        found = sorted({self._paths[candidate] for candidate in candidates})
        return Match(found[0], rank) if len(found) == 1 else Match(rank=rank, candidates=tuple(found))

    def contradicts(self, name: str, path: str) -> bool:
        """Whether a relative name with folders means a file in another place than `path`: not one trailing folder is the same."""
        spelled = name.strip().replace("\\", "/")
        folders, written = folded(spelled).split("/")[:-1], spelled.split("/")[:-1]
        if spelled.startswith("/") or ":" in "".join(written[:1]) or ".." in written or set(folders) <= _ANY_IMAGES:
            return False  # a bare name, or a path of another machine
        return not any(_shared(folders[::-1], folded(place).split("/")[:-1][::-1]) for place in (path, self.source_name(path)))


def _spellings(name: str) -> list[str]:
    found = [name]
    if not _SPELLED.search(name):
        return found
    for spelling in (name.strip(), name.strip().replace("\\", "/"), unquote(name.strip().replace("\\", "/"))):
        if spelling not in found:
            found.append(spelling)
    return found


def _closest(candidates: list[str], name: str, near: str) -> list[str]:
    wanted = folded(name).split("/")[:-1]
    beside = folded(near).split("/")[:-1]

    def closeness(path: str) -> tuple[int, bool, bool, int, int]:
        folders = folded(path).split("/")[:-1]
        same_spelling = path.rpartition("/")[2] == name.rpartition("/")[2]
        ending, leading = _shared(folders[::-1], beside[::-1]), _shared(folders, beside)
        mirrors = len(folders) == len(beside) and leading + ending >= len(folders) - 1
        return _shared(folders[::-1], wanted[::-1]), same_spelling, mirrors, ending, leading

    best = max(map(closeness, candidates))
    return [path for path in candidates if closeness(path) == best]


def _shared(a: list[str], b: list[str]) -> int:
    """How many of the first parts are equal."""
    return next((number for number, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
