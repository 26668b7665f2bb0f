"""JSON of any origin: fast, tolerant of what other tools write, and safe against what nobody should write.

Python's json module writes NaN and Infinity, Windows tools a byte-order mark or UTF-16: none of these is JSON, and all are read.
Nesting is bounded by the parsers themselves (orjson: 1,024 levels), and so are integers: those beyond 64 bits become floats.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

import orjson

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

SNIFFED_FILES = 200
"""A tree with more JSON files than this has one an image, or a few thousand that mean something else: a sample tells."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PIECE = 1 << 20
_MARKS = b"\xef\xbb\xbf \t\r\n"


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


def has_keys(files: FileSet, path: str, *keys: str, opening: bytes = b"{") -> bool:
    """Whether a file looks like a JSON object (or array: `opening=b"["`) in which all `keys` occur, wherever they stand.

    Searching the bytes also finds them in a file that is damaged further on, and costs no parsing.
    """
    data = files.read_bytes(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "ignore").encode()
    return data[:100].lstrip(_MARKS).startswith(opening) and all(f'"{key}"'.encode() in data for key in keys)
