"""JSON of any origin: fast, tolerant of what other tools write, and safe against what nobody should write.

Python's json module writes NaN and Infinity, Windows tools a byte-order mark or UTF-16: none of these is JSON, and all are read.
Nesting is bounded by the parsers themselves (orjson: 1,024 levels), and so are integers: those beyond 64 bits become floats.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

SNIFFED_FILES = 200
"""A tree with more JSON files than this has one an image, or a few thousand that mean something else: a sample tells."""
TELLING = ("annotations", "asset", "categories", "data", "filename", "images", "items", "shapes", "size", "task", "vid_list")
"""For every format of JSON objects a key that it has and few others have."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PIECE = 1 << 18
_OVERLAP = 200
_MARKS = b"\xef\xbb\xbf \t\r\n"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ALIKE: dict[Sniffed, Sniffed] = {}
"""One object for all files of which the same is known: there may be a million."""


def parse(files: FileSet, path: str) -> Any:
    """The value that a JSON file holds.

    Raises:
        DataError: not JSON; the message starts with `path:line`.
    """
    return parse_bytes(files.read_bytes(path), path)


def parse_bytes(data: bytes, path: str) -> Any:
    """See `parse`; `path` is for the message, and may have a line already (`x.ndjson:7`)."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(data, parse_int=_integer)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # half of a character: no file could be written with it
        return value
    except json.JSONDecodeError as error:
        where = path if re.search(r":\d+$", path) else f"{path}:{error.lineno}"
        raise DataError(f"{where}: malformed JSON ({error.msg})") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: malformed JSON (half of a surrogate pair)") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: the text is not UTF-8", "Save the file as UTF-8.") from error
    except RecursionError as error:
        raise DataError(f"{path}: malformed JSON (nested too deeply)") from error
    except ValueError as error:
        raise DataError(f"{path}: malformed JSON ({error})"[:200]) from error


def is_utf8(data: bytes) -> bool:
    """Whether all of it is, in pieces: the text of a large file would take up to four times its size."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(data[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _integer(digits: str) -> int | float:
    # int() of a million digits takes minutes, and nothing that a label file counts needs 20.
    return int(digits) if len(digits) < 20 else float(digits)


class Sniffed(NamedTuple):
    """What is known of a file: its first character, if that is one of JSON's brackets, and which keys occur in it."""

    opening: bytes
    found: frozenset[str]
    absent: frozenset[str]


def opens_with(files: FileSet, path: str, opening: bytes) -> bool:
    """Whether the first character of a file, after a byte-order mark and spaces, is this bracket."""
    return _sniff(files, path, TELLING).opening == opening


def has_keys(files: FileSet, path: str, *keys: str, opening: bytes = b"{") -> bool:
    """Whether a file looks like a JSON object (or array: `opening=b"["`) in which all `keys` occur, wherever they stand.

    Searching the bytes also finds them in a file that is damaged further on, and costs no parsing. All formats ask about the
    same files: `TELLING` is looked for in one go, and what was found is remembered.
    """
    known = _sniff(files, path, TELLING)
    if known.opening != opening or not known.absent.isdisjoint(keys):
        return False
    return _sniff(files, path, keys).found.issuperset(keys)


def _sniff(files: FileSet, path: str, keys: Sequence[str]) -> Sniffed:
    known: Sniffed | None = files.sniffed.get(path)
    wanted = set(keys) if known is None else set(keys) - known.found - known.absent
    if known is not None and not wanted:
        return known
    opening, found = _search(files, path, wanted)
    if known is not None:
        wanted, found = wanted | known.found | known.absent, found | known.found
    sniffed = Sniffed(opening, frozenset(found), frozenset(wanted - found))
    files.sniffed[path] = sniffed = _ALIKE.setdefault(sniffed, sniffed)
    return sniffed


def occurs(files: FileSet, path: str, pattern: re.Pattern[bytes]) -> bool:
    """Whether a pattern of less than 200 bytes is found in a file, which is read no further than to its first place."""
    before = b""
    for piece in _pieces(files, path):
        text = before + piece.replace(b"\0", b"")  # UTF-16 without its mark, as far as it is ASCII
        if pattern.search(text):
            return True
        before = text[-_OVERLAP:]
    return False


def _search(files: FileSet, path: str, keys: set[str]) -> tuple[bytes, set[str]]:
    """The first character, and those of `keys` that occur."""
    pending = {key: f'"{key}"'.encode() for key in keys}
    longest = max(map(len, pending.values()), default=0)
    opening, before = b"", b""
    for text in _pieces(files, path):
        if not opening:
            opening = text[:100].lstrip(_MARKS)[:1]
            if opening not in (b"{", b"["):
                return b"", set()
        text = before + text
        pending = {key: quoted for key, quoted in pending.items() if quoted not in text}
        if not pending:
            break
        before = text[-longest:]
    return opening, keys - pending.keys()


def _pieces(files: FileSet, path: str) -> Iterator[bytes]:
    """The text of a file as UTF-8, in pieces, because it may be as large as the memory."""
    with open(os.path.join(files.root, path), "rb", buffering=0) as stream:
        piece = stream.read(_PIECE)
        decode = codecs.getincrementaldecoder("utf-16")("ignore").decode if piece[:2] in _UTF_16 else None
        while piece:
            yield decode(piece).encode() if decode else piece
            piece = stream.read(_PIECE)
