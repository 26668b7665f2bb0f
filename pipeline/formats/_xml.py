"""XML of any origin, parsed by the standard library's ElementTree after what makes XML dangerous was refused.

A label file needs no entities: with them, a kilobyte becomes a gigabyte ("billion laughs") or the content of another file
(https://docs.python.org/3/library/xml.html#xml-security). Any declaration of one is an error. Expat itself does not recurse,
but those who walk a tree may: nesting deeper than any format's is an error too.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.formats._common import line_numbers

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

MAX_DEPTH = 100
HEAD = 4096
_ENCODING = re.compile(rb"""[^<]{0,4}<\?xml[^>]*encoding=["']([\w.-]+)["']""")
_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_ATTRIBUTE = _IN_TEXT | str.maketrans({'"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})
_ROOT = re.compile(rb"<([A-Za-z_][\w.-]*)[\s>/]")


def parse(files: FileSet, path: str) -> ET.Element:
    """The root element of a file.

    Raises:
        DataError: malformed, in another encoding than it claims, nested too deeply, or with entities; the message starts with
            `path`, or `path:line` where a line is known.
    """
    document = _document(files.read_bytes(path), path)
    try:
        root = ET.fromstring(document)  # noqa: S314 - `_document` refuses entities
    except ET.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: malformed XML ({error.msg})") from error
    if _is_deeper(root, MAX_DEPTH):
        raise DataError(f"{path}: the XML is nested deeper than {MAX_DEPTH} levels")
    return root


def _is_deeper(root: ET.Element, limit: int) -> bool:
    level = [root]
    for _ in range(limit - 1):  # what has no children is not looked at: most of a file
        level = [child for element in level for child in element if len(child)]
        if not level:
            return False
    return True


def _document(data: bytes, path: str) -> bytes | str:
    """What to give the parser: text where the bytes could hide a declaration of entities from the search for it."""
    declared = _ENCODING.match(data)
    encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
    document: bytes | str = data
    if encoding not in ("utf-8", "us-ascii", "iso-8859-1") or b"\0" in data[:4]:
        try:
            document = data.decode("utf-16" if b"\0" in data[:4] else encoding)
        except (LookupError, UnicodeError) as error:
            raise DataError(f"{path}:1: the text is not {encoding}") from error
    if b"<!ENTITY" in data or (isinstance(document, str) and "<!ENTITY" in document):
        raise DataError(f"{path}: the XML declares entities, which label files have no use for")
    return document


def root_tag(files: FileSet, path: str) -> str:
    """The name of the root element, found without parsing; "" where there is none near the beginning."""
    with (files.root / path).open("rb") as stream:
        head = stream.read(HEAD).replace(b"\0", b"")
    # Comments and declarations before the root may mention anything.
    found = _ROOT.search(re.sub(rb"<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>]*>", b"", head, flags=re.DOTALL))
    return found[1].decode() if found else ""


def locate_tag(files: FileSet, tag: str) -> Callable[[str, int], tuple[int, str]]:
    """For `Labels.locate`: the line of the n-th element `tag` of a file.

    Looked up only when somebody asks: ElementTree is twice as fast as a parser that counts lines.
    """
    pattern = re.compile(rb"<" + re.escape(tag.encode()) + rb"[\s>/]")

    @lru_cache(maxsize=64)
    def lines_of(path: str) -> list[int]:
        return line_numbers(files.read_bytes(path), pattern)

    def locate(path: str, number: int) -> tuple[int, str]:
        lines = lines_of(path)
        return (lines[number] if 0 <= number < len(lines) else 0), ""

    return locate


def escape(words: str) -> str:
    """As the text of an element. The standard library's `xml.sax.saxutils` would load its web client along."""
    return words.translate(_IN_TEXT)


def quoteattr(words: str) -> str:
    """As the value of an attribute, with its quotes."""
    return f'"{words.translate(_IN_ATTRIBUTE)}"'


def text(element: ET.Element, tag: str) -> str:
    """The stripped text of a child, "" where there is none."""
    return (element.findtext(tag) or "").strip()
