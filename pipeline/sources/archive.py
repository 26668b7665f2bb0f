"""A zip archive of images and labels on this machine.

Archives are untrusted: no path leaves the folder, links and encrypted entries are refused, and what unpacks to far more than it
weighs is taken for a bomb. Every entry's CRC is checked by reading it.
"""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline import files
from pipeline.errors import DataError
from pipeline.fingerprint import FolderIndex, copy_hashed
from pipeline.ledger import Ledger
from pipeline.paths import is_plain, is_safe_relative
from pipeline.sources import Fetched, Origin, is_wanted, local_path
from pipeline.stage import Context, StageParams

MAX_FILES = 2_000_000
MAX_BYTES = 500 * 2**30
MAX_RATIO = 200
"""Images hardly shrink and label text shrinks 5 to 20 times; an archive above this as a whole is no data set."""


class Options(StageParams):
    """An archive has no options."""


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    return FolderIndex(context.cache).file_digest(_archive(location, context), context.progress)


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    path = _archive(location, context)
    ledger = Ledger()
    origins: list[Origin] = []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive, path)
            with context.progress("unpack", len(entries)) as advance:
                for name, entry in sorted(entries.items()):
                    if is_wanted(name):
                        digest = _unpack(archive, entry, out / name)
                        origins.append(Origin(name, f"{path.name}:{entry.filename}", hash=digest))
                    else:
                        ledger.add("file", "dropped", "not_an_image_nor_labels", path=name)
                    advance()
    except zipfile.BadZipFile as error:
        if _was_a_zip(path):
            raise _damaged(path, error) from error
        raise DataError(
            f"collect.source: {path.resolve()} is neither a folder nor a zip archive.",
            "Unpack archives of other kinds, and give the folder.",
        ) from error
    except (zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk; bz2 reports damaged data by an OSError without a number
        raise _damaged(path, error) from error
    return Fetched(origins, description=f"the archive '{path.name}'", ledger=ledger)


def _was_a_zip(path: Path) -> bool:
    """Whether a file begins or ends as archives do, however damaged the rest of it is."""
    with path.open("rb") as stream:
        return stream.read(2) == b"PK" or zipfile.is_zipfile(path)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.resolve()}: the archive is damaged or of an unknown kind ({error}).", "Download or pack it again.")


def _archive(location: str, context: Context) -> Path:
    path = local_path(location, context)
    if not path.is_file():
        raise DataError(f"collect.source: there is no archive {path.resolve()}.", "Check the path.")
    return path


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries that are files, by clean relative path. Raises DataError for anything that no honest packer writes."""
    entries: dict[str, zipfile.ZipInfo] = {}
    problems: list[str] = []
    folded: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename.replace("\\", "/").removeprefix("./")
        mode = entry.external_attr >> 16
        if name.endswith("/") or _is_junk(name):
            continue
        if not is_plain(name):
            problems.append(f"{entry.filename!a} has control characters in its name: rename it before packing")
        elif not is_safe_relative(name):
            problems.append(f"'{entry.filename}' leads out of the folder")
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            problems.append(f"'{entry.filename}' is a link or a device")
        elif entry.flag_bits & 1:
            problems.append(f"'{entry.filename}' is encrypted")
        elif name.casefold() in folded:
            problems.append(f"'{entry.filename}' occurs twice, or differs from another name in upper and lower case alone")
        folded.add(name.casefold())
        entries[PurePosixPath(name).as_posix()] = entry  # "a//b" and "a/./b" are "a/b"
    total = sum(entry.file_size for entry in entries.values())
    packed = sum(entry.compress_size for entry in entries.values())
    if len(entries) > MAX_FILES or total > MAX_BYTES or total > MAX_RATIO * max(packed, 2**20):
        problems.append(f"{len(entries):,} files of {total:,} bytes unpacked from {packed:,}: taken for a bomb")
    if problems:
        raise DataError(f"{path} is not unpacked:", "Unpack it yourself if you trust it, and use the folder.", problems)
    return entries


def _is_junk(name: str) -> bool:
    """Resource forks and hidden files that packers add by themselves."""
    return any(part == "__MACOSX" or part.startswith(".") for part in PurePosixPath(name).parts if part not in (".", ".."))


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> str:
    """Make `target`; its hash, or "" where a run of the same recipe that was killed had unpacked it (whole)."""
    if target.exists():
        return ""
    with archive.open(entry) as packed, files.atomic_path(target) as temporary, temporary.open("wb") as unpacked:
        return copy_hashed(packed, unpacked)
