"""Fingerprints: of values (recipes), of files, and of whole folders outside the workspace.

Files are hashed with BLAKE3, several at once. A folder that was hashed before is recognised by a stat per file: size, mtime,
ctime and inode of every file, folded into one hash. Reading or even parsing a list of known hashes is not needed as long as
nothing changed, so that nothing-to-do stays cheap with 50,000 files.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError

# A file written less than this before it was hashed could change again without its mtime moving on (FAT's clock ticks every 2 s).
RACY_NS = 2_000_000_000

_SMALL_FILE = 1 << 20

Stat = tuple[str, int, int, int, int]
"""Relative POSIX path, size, mtime_ns, ctime_ns, inode."""


def of_value(value: object) -> str:
    """Hash of a JSON-like value; key order does not matter. No argument is left out because it equals a default."""
    from blake3 import blake3

    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return blake3(text.encode("utf-8")).hexdigest()


def of_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, 64 hex digits (what the `b3sum` tool prints)."""
    from blake3 import blake3

    if path.stat().st_size <= _SMALL_FILE:
        return blake3(path.read_bytes()).hexdigest()
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return hasher.hexdigest()


def of_files(paths: Iterable[Path], advance: Callable[[int], object] | None = None) -> list[str]:
    """`of_file` for many, in order; hashing releases the interpreter lock, so threads use all cores."""
    done: list[str] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for digest in pool.map(of_file, paths):
            done.append(digest)
            if advance:
                advance(1)
    return done


def tree_digest(hashes: Mapping[str, str]) -> str:
    """One hash for a folder: over its sorted (relative path, file hash) pairs, in the text form of `checksums_text`."""
    from blake3 import blake3

    return blake3(checksums_text(hashes).encode("utf-8")).hexdigest()


def checksums_text(hashes: Mapping[str, str]) -> str:
    """The list of `b3sum`: a line `<hash>  <path>` a file, sorted by path; `b3sum --check` reads it."""
    return "".join(f"{hashes[path]}  {path}\n" for path in sorted(hashes))


def parse_checksums(text: str) -> dict[str, str]:
    """Inverse of `checksums_text`."""
    pairs = (line.split("  ", 1) for line in text.splitlines())
    return {path: digest for digest, path in pairs}


def stat_tree(folder: Path) -> list[Stat]:
    """A stat of every regular file below `folder`, sorted by path; hidden ones (".git", ".DS_Store") are left out."""
    prefix = len(os.fspath(folder)) + 1
    rows: list[Stat] = []
    for entry in files.walk(folder):
        relative = entry.path[prefix:].replace(os.sep, "/")
        if not relative.startswith(".") and "/." not in relative:
            # DirEntry.stat() on Windows has no inode; os.stat has, and costs the same there.
            stat = entry.stat() if os.name == "posix" else os.stat(entry.path)
            rows.append((relative, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    rows.sort()
    return rows


class FolderIndex:
    """Remembers the hashes of folders outside the workspace between runs.

    Two files a folder in `<cache>/index/`: a short `.head` with the fingerprint of all stats and the resulting digest, and
    `.files` with the hash of every file, read only when something changed.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "index"

    def digest(self, folder: Path) -> str:
        """The content digest of `folder`: a stat per file when nothing changed, else the changed files are hashed.

        Raises:
            DataError: the folder does not exist or holds no file.
        """
        stats = self._stats(folder)
        state = _state(stats)
        head = self._read_head(folder)
        if head is not None and head[0] == state:
            return head[1]
        return tree_digest(self._update(folder, stats))

    def hashes(self, folder: Path, advance: Callable[[int], object] | None = None) -> dict[str, str]:
        """The hash of every file below `folder`, by relative path; only new and changed files are read."""
        return self._update(folder, self._stats(folder), advance)

    def _stats(self, folder: Path) -> list[Stat]:
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.", "Check the path (collect.source in params.yaml).")
        stats = stat_tree(folder)
        if not stats:
            raise DataError(f"{folder} holds no files.", "Put images and labels there, or point collect.source elsewhere.")
        for path, *_ in stats:
            if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
                raise DataError(f"{folder}: the file name {path!r} is not valid UTF-8.", "Rename that file.")
        return stats

    def _path(self, folder: Path, suffix: str) -> Path:
        return self._folder / f"{of_value(os.fspath(folder.resolve()))[:32]}{suffix}"

    def _read_head(self, folder: Path) -> tuple[str, str] | None:
        try:
            state, digest = self._path(folder, ".head").read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return None
        return state, digest

    def _read_known(self, folder: Path) -> dict[Stat, str]:
        try:
            rows = json.loads(self._path(folder, ".files").read_text(encoding="utf-8"))
            return {tuple(row[:-1]): row[-1] for row in rows}
        except (OSError, ValueError, TypeError):
            return {}

    def _update(self, folder: Path, stats: list[Stat], advance: Callable[[int], object] | None = None) -> dict[str, str]:
        known = self._read_known(folder)
        unknown = [stat for stat in stats if stat not in known]
        started = time.time_ns()
        fresh = dict(zip(unknown, of_files((folder / stat[0] for stat in unknown), advance), strict=True))
        hashes = {stat: known[stat] if stat in known else fresh[stat] for stat in stats}
        safe = [stat for stat in stats if max(stat[2], stat[3] if os.name == "posix" else 0) < started - RACY_NS]
        files.write_text(self._path(folder, ".files"), json.dumps([[*stat, hashes[stat]] for stat in safe]))
        by_path = {stat[0]: digest for stat, digest in hashes.items()}
        if len(safe) == len(stats):
            files.write_text(self._path(folder, ".head"), f"{_state(stats)} {tree_digest(by_path)}\n")
        return by_path


def _state(stats: list[Stat]) -> str:
    from blake3 import blake3

    return blake3(repr(stats).encode("utf-8")).hexdigest()
