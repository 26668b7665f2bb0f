"""The footer of a Parquet file: whether it has columns of boxes, and how many values its columns hold.

A few bytes of Parquet can stand for billions of equal values, so they are counted before anything is unpacked. pyarrow would
count them, too, but ends the whole process where this part of a file is damaged.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (FileMetaData), written in the compact
protocol of https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

MAX_BYTES = 16_000_000
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS, _LISTS, _MAP = (4, 5, 6), (9, 10), 11


def read_footer(files: FileSet, path: str) -> bytes:
    """The bytes of the footer; none for what is no Parquet file."""
    with (files.root / path).open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        end = stream.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or length > min(size - 8, MAX_BYTES):
            return b""
        stream.seek(size - 8 - length)
        return stream.read(length)


def mentions(footer: bytes, name: str) -> bool:
    """Whether a column may bear a name, without parsing: in the footer its length stands before it."""
    return bytes([len(name)]) + name.encode() in footer


def count_values(footer: bytes, path: str) -> Counter[str]:
    """How many values each column (`objects.bbox.list.element`) holds in all its row groups.

    Raises:
        DataError: no footer.
    """
    counts: Counter[str] = Counter()
    try:
        for row_group in _Reader(footer).struct()[4]:
            for chunk in row_group[1]:
                metadata = chunk[3]
                counts[b".".join(metadata[3]).decode()] += max(0, metadata[5])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: malformed Parquet (unreadable footer)") from error
    return counts


class _Reader:
    """Values in Thrift's compact protocol; a struct becomes a dict by field number. ValueError or IndexError for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in _LISTS:
            head = self._byte()
            length = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15) for _ in range(length)]
        if kind == _MAP:
            length = self._unsigned()
            kinds = self._byte() if length else 0
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(length)]
        return self._bytes({_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}[kind])

    def _byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1]

    def _bytes(self, length: int) -> bytes:
        self._position += length
        if self._position > len(self._data):
            raise ValueError("cut short")
        return self._data[self._position - length : self._position]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("not a number")
        return value | byte << shift

    def _integer(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
