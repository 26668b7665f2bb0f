"""Lists of URLs as people have them, and safe, unique file names for what the URLs lead to."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pipeline import urls
from pipeline.errors import DataError
from pipeline.paths import folded, is_image, portable

_URL_COLUMNS = ("url", "image_url", "coco_url", "image", "link", "uri", "src", "href")
_NAME_COLUMNS = ("name", "file_name", "filename", "path")
_SIZE_COLUMNS = ("size", "bytes")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029/\ud800-\udfff]")
MAX_NAME_BYTES = 180


@dataclass(frozen=True)
class Entry:
    """A line of a list. `name` is what the list itself wants the file to be called, or ""."""

    url: str
    line: int = 0
    name: str = ""
    size: int | None = None
    sha256: str = ""


def read(path: Path) -> list[Entry]:
    """The entries of a text file with a URL a line (blank lines and lines that start with # do not count), or of a CSV.

    A CSV has a header with a column `url` (or image_url, coco_url, link …), and may have `name`, `size` (bytes) and `sha256`;
    without a header the first column that holds a URL counts.

    Raises:
        DataError: not text, or a CSV in which no column holds URLs.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the list is not UTF-8 ({error.reason} at byte {error.start}).", "Save it as UTF-8.") from error
    lines = text.splitlines()
    first = next((line for line in lines if line.strip() and not line.lstrip().startswith("#")), "")
    if path.suffix.lower() in (".csv", ".tsv") or "://" not in first:
        return list(_of_table(lines, first, path))
    return [Entry(line.strip(), number) for number, line in enumerate(lines, 1) if line.strip() and line.lstrip()[0] != "#"]


def _of_table(lines: list[str], first: str, path: Path) -> Iterator[Entry]:
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(lines, delimiter=delimiter)
    columns: dict[str, int] | None = None
    try:
        for row in rows:
            if not any(row) or row[0].startswith("#"):
                continue
            if columns is None:
                columns = _columns(row, path, rows.line_num)
                if not any("://" in cell for cell in row):
                    continue  # the header

            def cell(name: str, row: list[str] = row, columns: dict[str, int] = columns) -> str:
                at = columns.get(name)
                return row[at].strip() if at is not None and at < len(row) else ""

            size = cell("size")
            known = int(size) if size.isdecimal() and len(size) < 19 else None
            yield Entry(cell("url"), rows.line_num, cell("name"), known, cell("sha256"))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: malformed CSV ({error}).") from error


def _columns(row: list[str], path: Path, line: int) -> dict[str, int]:
    names = [cell.strip().lower() for cell in row]
    if any("://" in cell for cell in row):
        return {"url": next(index for index, cell in enumerate(row) if "://" in cell)}
    found = {
        kind: names.index(name)
        for kind, choices in (("url", _URL_COLUMNS), ("name", _NAME_COLUMNS), ("size", _SIZE_COLUMNS), ("sha256", ("sha256",)))
        for name in reversed(choices)
        if name in names
    }
    if "url" not in found:
        raise DataError(
            f"{path}:{line}: neither a URL nor a header with a column of URLs.",
            "A text file has one URL a line, each starting with http:// or https://; a CSV has a column `url`.",
        )
    # The first of the choices counts, and the dictionary above kept the last that it saw: hence `reversed`.
    return found


def unique_names(entries: Iterable[Entry], keep_folders: bool, suffix: str, suffixes: Iterable[str]) -> list[str]:
    """A relative POSIX path for each entry, in order, different in more than case.

    The name is the list's own, or the last part of the URL's path; the first to claim one gets it, a later one has a hash of its
    URL appended. So a name does not change when lines are added at the end.

    Args:
        keep_folders: put host and folders of the URL before the name.
        suffix: appended to a name that has none of an image; with "" the name stays without, and any of `suffixes` is kept free.
    """
    taken: set[str] = set()
    names = []
    for entry in entries:
        wanted = _name(entry, keep_folders)
        if suffix and not is_image(wanted):
            wanted += suffix
        name, number = wanted, 0
        while _claims(name, suffixes) & taken:
            name, number = _with_hash(wanted, f"{entry.url}{number or ''}"), number + 1
        taken |= _claims(name, suffixes)
        names.append(name)
    return names


def _claims(name: str, suffixes: Iterable[str]) -> set[str]:
    claim = folded(name)
    return {claim} if is_image(name) else {claim, *(claim + suffix for suffix in suffixes)}


def _with_hash(path: str, url: str) -> str:
    whole = PurePosixPath(path)
    suffix = whole.suffix if is_image(path) else ""
    return f"{path.removesuffix(suffix)}-{hashlib.blake2s(url.encode(), digest_size=4).hexdigest()}{suffix}"


def _name(entry: Entry, keep_folders: bool) -> str:
    if entry.name:
        return "/".join(safe_name(part) for part in entry.name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    if urls.problem(entry.url):
        return "image"
    parts = urlsplit(entry.url)
    path = [safe_name(unquote(part)) for part in parts.path.split("/") if part not in ("", ".", "..")]
    host = [safe_name(parts.hostname or "")] if keep_folders else []
    return "/".join([*host, *(path or ["image"])] if keep_folders else path[-1:] or ["image"])


def safe_name(name: str) -> str:
    """A file name that every system takes, and that no tool hides."""
    name = portable(_UNSAFE.sub("_", name).rstrip(". "))
    if not name or name.startswith("."):
        name = f"_{name}"
    if len(name.encode()) > MAX_NAME_BYTES:
        suffix = PurePosixPath(name).suffix if is_image(name) else ""
        key = hashlib.blake2s(name.encode(), digest_size=4).hexdigest()
        name = f"{name.encode()[: MAX_NAME_BYTES - 20].decode(errors='ignore')}-{key}{suffix}"
    return name
