"""Tables of text of any origin: comma, semicolon or tab; quoted or not; a decimal comma; a byte-order mark.

https://www.rfc-editor.org/rfc/rfc4180 is what most programs write, spreadsheets in half of Europe excepted.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

DELIMITERS = (",", ";", "\t", "|")
HEAD = 8192
MAX_CELL = 1 << 24
"""A polygon of many thousand points may stand in one cell; the limit of the library, one for the whole process, is 131,072."""
csv.field_size_limit(MAX_CELL)
_EXCEL = re.compile(r"sep=([^\w\s]|\t)\r?\n")
"""The first line by which Excel is told the delimiter."""


@dataclass(frozen=True)
class Table:
    """A file's rows.

    Attributes:
        header: the first row's cells, stripped; also in `rows` only when the table was read without a header.
        rows: (line, cells) of every row that is not blank; the line is that of the row's end.
        delimiter: what separates cells.
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    delimiter: str


def read_table(files: FileSet, path: str, has_header: bool = True) -> Table:
    """All rows of a file.

    Raises:
        DataError: not UTF-8, or not a table; the message starts with `path` or `path:line`.
    """
    text = files.read_text(path)
    told = _EXCEL.match(text)
    delimiter = told[1] if told else delimiter_of(text)
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            is_told = told is not None and reader.line_num == 1
            if not is_told and any(cell and not cell.isspace() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: malformed CSV ({error})") from error
    header = [cell.strip() for cell in rows[0][1]] if rows and has_header else []
    return Table(header, rows[1:] if has_header else rows, delimiter)


def read_header(files: FileSet, path: str) -> list[str]:
    """The cells of the first row, stripped, without reading the rest; empty for what is no text."""
    with (files.root / path).open("rb") as stream:
        head = stream.read(HEAD)
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "ignore")
    told = _EXCEL.match(text)
    first = next((line for line in text[told.end() if told else 0 :].splitlines() if line.strip()), "")
    try:
        return [cell.strip() for cell in next(csv.reader([first], delimiter=told[1] if told else delimiter_of(first)), [])]
    except csv.Error:
        return []


def delimiter_of(text: str) -> str:
    """The delimiter that the first line has most of, outside of quotes; a comma in doubt."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    bare = "".join(first.split('"')[0::2])
    return max(DELIMITERS, key=lambda mark: (bare.count(mark), mark == ","))


def number(cell: str) -> float:
    """A number with a decimal point or comma.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(cell)
    except ValueError:
        if cell.count(",") == 1 and "." not in cell:
            return float(cell.replace(",", "."))
        raise
