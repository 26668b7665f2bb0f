"""Fingerprints: of values (recipes), of files, and of whole folders outside the workspace.

Files are hashed with BLAKE3, several at once. A folder that was hashed before is recognised by a stat per file: size, mtime,
ctime and inode of every file, folded into one hash. Reading or even parsing a list of known hashes is not needed as long as
nothing changed, so that nothing-to-do stays cheap with 50,000 files.
"""

from __future__ import annotations

import json
import os
import stat as stat_modes
import sys
import time
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

from pipeline import files
from pipeline.errors import DataError
from pipeline.paths import is_plain

# A file written less than this before it was hashed could change again without its mtime moving on (FAT's clock ticks every 2 s).
RACY_NS = 2_000_000_000

_SMALL_FILE = 1 << 20

_SAVE_EVERY_S = 30

Stat = tuple[str, int, int, int, int]
"""Relative POSIX path, size, mtime_ns, ctime_ns, inode."""

Progress = Callable[[str, int], AbstractContextManager[Callable[..., object]]]
"""`stage.Progress`, which this module is below."""


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
    return _collected(paths, of_file, advance)


def of_readable_files(paths: Iterable[Path], advance: Callable[[int], object] | None = None) -> list[str]:
    """`of_files`, with "" for a file that cannot be read: on a failing disk one wants to know of all of them."""

    def attempt(path: Path) -> str:
        try:
            return of_file(path)
        except OSError:
            return ""

    return _collected(paths, attempt, advance)


def _collected(paths: Iterable[Path], read: Callable[[Path], str], advance: Callable[[int], object] | None) -> list[str]:
    done: list[str] = []
    with closing(_each_hash(paths, read)) as digests:
        for digest in digests:
            done.append(digest)
            if advance:
                advance(1)
    return done


def _each_hash(paths: Iterable[Path], read: Callable[[Path], str]) -> Generator[str, None, None]:
    """The hashes one by one; closing it drops what is not begun, so that Ctrl-C does not wait for the rest."""
    from concurrent.futures import ThreadPoolExecutor  # not needed where nothing is to be read

    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        yield from pool.map(read, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def copy_hashed(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a stream to its end; the BLAKE3 of what was copied, at the cost of no second reading."""
    from blake3 import blake3

    hasher = blake3()
    while chunk := source.read(1 << 20):
        hasher.update(chunk)
        target.write(chunk)
    return hasher.hexdigest()


def tree_digest(hashes: Mapping[str, str]) -> str:
    """One hash for a folder: over its sorted (relative path, file hash) pairs, in the text form of `checksums_text`."""
    from blake3 import blake3

    return blake3(checksums_text(hashes).encode("utf-8")).hexdigest()


def checksums_text(hashes: Mapping[str, str]) -> str:
    """The list of `b3sum`: a line `<hash>  <path>` a file, sorted by path; `b3sum --check` reads it."""
    return "".join(f"{hashes[path]}  {path}\n" for path in sorted(hashes))


def parse_checksums(text: str) -> dict[str, str]:
    """Inverse of `checksums_text`."""
    pairs = (line.split("  ", 1) for line in text.split("\n") if line)
    return {path: digest for digest, path in pairs}


class Tree(NamedTuple):
    """The regular files below a folder, in no particular order.

    Attributes:
        paths: relative POSIX paths.
        numbers: size, mtime_ns, ctime_ns and inode of each path, one after the other; 64 bits each.
        dangling: links that lead nowhere.
    """

    paths: list[str]
    numbers: array[int]
    dangling: list[str]

    def state(self) -> str:
        """One hash for all of it. It depends on the order, which is stable while a folder is not touched."""
        from blake3 import blake3

        # No file name holds a zero. Names that are no Unicode are refused later, where they can be named.
        names = "\0".join([*self.paths, "", *self.dangling]).encode("utf-8", "surrogatepass")
        return blake3(names + b"\0\0" + self.numbers.tobytes()).hexdigest()

    def rows(self) -> list[Stat]:
        """A tuple a file, sorted by path."""
        four = iter(self.numbers)
        return sorted(zip(self.paths, four, four, four, four, strict=True))


def stat_tree(folder: Path) -> Tree:
    """A stat of every regular file below `folder`; hidden files and folders (".git", ".DS_Store") are left out.

    Links stand for what they lead to, folders included; one that leads back to a folder it lies in is passed over. This loop
    is what a run with nothing to do spends its time on; it takes hardly longer than a bare scandir with a stat for each file.
    """
    root = os.fspath(folder)
    paths: list[str] = []
    numbers: list[int] = []
    dangling: list[str] = []
    pending = [""]
    posix = os.name == "posix"
    while pending:
        prefix = pending.pop()
        with _listing(os.path.join(root, prefix)) as entries:
            for entry in entries:
                name = entry.name
                if name[0] == ".":
                    continue
                relative = prefix + name
                if posix and entry.is_file(follow_symlinks=False):
                    stat = entry.stat()
                elif entry.is_dir(follow_symlinks=False) and not _is_junction(entry):
                    pending.append(relative + "/")
                    continue
                else:
                    try:  # DirEntry.stat() on Windows has no inode; os.stat has, and costs the same there
                        stat = os.stat(os.path.join(root, relative))
                    except PermissionError:
                        raise
                    except OSError:
                        dangling.append(relative)
                        continue
                    if stat_modes.S_ISDIR(stat.st_mode) and not _is_cycle(root, prefix, stat):
                        pending.append(relative + "/")
                    if not stat_modes.S_ISREG(stat.st_mode):
                        continue
                paths.append(relative)
                numbers += (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return Tree(paths, _packed(numbers), dangling)


@contextmanager
def _listing(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """`os.scandir`; by descriptor where that is possible, which spares the system a walk down the path for every file."""
    descriptor = os.open(path, os.O_RDONLY) if os.scandir in os.supports_fd else None
    try:
        with os.scandir(path) if descriptor is None else os.scandir(descriptor) as entries:
            yield entries
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Whether it is Windows' other kind of link to a folder, which does not count as a symbolic one."""
    return sys.version_info >= (3, 12) and entry.is_junction()


def _is_cycle(root: str, prefix: str, target: os.stat_result) -> bool:
    """Whether a link in the folder `prefix` leads to that folder or one above it, as far as `root`."""
    parts = prefix.split("/")[:-1]
    above = (os.path.join(root, *parts[:depth]) for depth in range(len(parts) + 1))
    return any(os.path.samestat(target, os.stat(path)) for path in above)


def _packed(numbers: list[int]) -> array[int]:
    try:
        return array("q", numbers)
    except OverflowError:  # some file systems have inodes of 64 bits without a sign, or of 128
        return array("q", [number & 0x7FFF_FFFF_FFFF_FFFF for number in numbers])


class FolderIndex:
    """Remembers the hashes of folders and files outside the workspace between runs.

    Two files a folder in `<cache>/index/`: a short `.head` with the fingerprint of all stats and the resulting digest, and
    `.files` with the hash of every file, read only when something changed. A single file has a `.file`.
    """

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "index"

    def digest(self, folder: Path, progress: Progress | None = None) -> str:
        """The content digest of `folder`: a stat per file when nothing changed, else the changed files are hashed.

        Raises:
            DataError: the folder does not exist, cannot be listed, or holds no file.
        """
        tree = _tree(folder)
        head = self._read_words(folder, ".head")
        if len(head) == 2 and head[0] == tree.state():
            return head[1]
        return _digest(self._update(folder, tree, progress), tree)

    def hashes(self, folder: Path, progress: Progress | None = None) -> tuple[dict[str, str], list[str]]:
        """The hash of every file below `folder`, by relative path, and the links that lead nowhere, both sorted.

        Only new and changed files are read. Raises as `digest`.
        """
        tree = _tree(folder)
        head = self._read_words(folder, ".head")
        if len(head) == 2 and head[0] == tree.state():
            rows, known = tree.rows(), self._read_known(folder)
            if known.keys() >= set(rows):
                return {row[0]: known[row] for row in rows}, sorted(tree.dangling)
        return self._update(folder, tree, progress), sorted(tree.dangling)

    def file_digest(self, path: Path, progress: Progress | None = None) -> str:
        """`of_file`; a stat when the file did not change since."""
        stat = path.stat()
        row: Stat = (path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        state = of_value(row)
        known = self._read_words(path, ".file")
        if len(known) == 2 and known[0] == state:
            return known[1]
        started = time.time_ns()
        with _bar(progress, 1) as advance:
            digest = _of_source(path)
            advance(1)
        if _is_settled(row, started):
            files.write_text(self._path(path, ".file"), f"{state} {digest}\n")
        return digest

    def _path(self, outside: Path, suffix: str) -> Path:
        return self._folder / f"{of_value(os.fspath(outside.resolve()))[:32]}{suffix}"

    def _read_words(self, outside: Path, suffix: str) -> list[str]:
        try:
            return self._path(outside, suffix).read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            return []

    def _read_known(self, folder: Path) -> dict[Stat, str]:
        try:
            rows = json.loads(self._path(folder, ".files").read_text(encoding="utf-8"))
            return {tuple(row[:-1]): row[-1] for row in rows}
        except (OSError, ValueError, TypeError):
            return {}

    def _update(self, folder: Path, tree: Tree, progress: Progress | None) -> dict[str, str]:
        """Hash what is not known yet, and remember it; the hash of every file by path, sorted."""
        _refuse_names(folder, [*tree.paths, *tree.dangling])
        rows = tree.rows()
        known = self._read_known(folder)
        unknown = [row for row in rows if row not in known]
        started = time.time_ns()
        safe = [row for row in rows if _is_settled(row, started)]
        saved = time.monotonic()
        try:
            paths = (folder / row[0] for row in unknown)
            with _bar(progress, len(unknown)) as advance, closing(_each_hash(paths, _of_source)) as digests:
                for row, digest in zip(unknown, digests, strict=True):
                    known[row] = digest
                    advance(1)
                    if time.monotonic() - saved > _SAVE_EVERY_S:
                        self._save(folder, safe, known)
                        saved = time.monotonic()
        finally:  # what was read before a Ctrl-C or an unreadable file need not be read again
            self._save(folder, safe, known)
        hashes = {row[0]: known[row] for row in rows}
        if len(safe) == len(rows):
            files.write_text(self._path(folder, ".head"), f"{tree.state()} {_digest(hashes, tree)}\n")
        return hashes

    def _save(self, folder: Path, safe: list[Stat], known: Mapping[Stat, str]) -> None:
        rows = [[*row, known[row]] for row in safe if row in known]
        files.write_text(self._path(folder, ".files"), json.dumps(rows))


def _tree(folder: Path) -> Tree:
    if not folder.is_dir():
        raise DataError(f"There is no folder {_shown(folder)}.", "Check the path (collect.source in params.yaml).")
    try:
        tree = stat_tree(folder)
    except OSError as error:
        where = _shown(Path(error.filename)) if isinstance(error.filename, str) else _shown(folder)
        raise DataError(
            f"{where} cannot be listed: {error.strerror}.", "Check the permissions of its files and folders."
        ) from error
    if not tree.paths:
        raise DataError(f"{_shown(folder)} holds no files.", "Put images and labels there, or point collect.source elsewhere.")
    return tree


def _of_source(path: Path) -> str:
    """`of_file` for what a user gave.

    Raises:
        DataError: it cannot be read; the source is to blame, not the workspace.
    """
    try:
        return of_file(path)
    except OSError as error:
        raise DataError(
            f"{_shown(path)} cannot be read: {error.strerror or error}.", "Check who may read the files of collect.source."
        ) from error


def _shown(path: Path) -> Path:
    """A path as one would write it: without the `..` that come of a path relative to params.yaml."""
    return path.resolve() if ".." in path.parts else path


def _refuse_names(folder: Path, paths: Iterable[str]) -> None:
    wrong = [ascii(path) for path in sorted(paths) if not is_plain(path)]
    if wrong:
        raise DataError(f"{folder}: file names with control characters, or that are not valid UTF-8:", "Rename them.", wrong)


def _digest(hashes: Mapping[str, str], tree: Tree) -> str:
    """The content of a folder; links that lead nowhere count, because the ledger of a collection names them."""
    return tree_digest({**hashes, **dict.fromkeys(tree.dangling, "")})


def _is_settled(row: Stat, now_ns: int) -> bool:
    """Whether a later change will show in the stat. On Windows ctime is the time of creation and says nothing."""
    return max(row[2], row[3] if os.name == "posix" else 0) < now_ns - RACY_NS


def _bar(progress: Progress | None, total: int) -> AbstractContextManager[Callable[..., object]]:
    """A bar where files must be read, else nothing."""
    return progress("hash source", total) if progress is not None and total else nullcontext(lambda n=1: None)
