"""One JSON object a line (https://github.com/ndjson/ndjson-spec), and classes that are numbers: for ndjson and huggingface."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.formats._json import parse_bytes
from pipeline.labelling.labels import Labels, Malformed

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

MAX_CLASSES = 10_000
HEAD = 65_536


def head_of(files: FileSet, path: str) -> bytes:
    """The first bytes of a file, as UTF-8 without a byte-order mark; a big file is not read for them."""
    with (files.root / path).open("rb") as stream:
        return _as_utf8(stream.read(HEAD))


def _as_utf8(data: bytes) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf")


def records(files: FileSet, path: str, labels: Labels) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line that is not blank; lines that are none go to `labels.malformed`."""
    for number, line in enumerate(io.BytesIO(_as_utf8(files.read_bytes(path))), 1):
        if line.isspace():
            continue
        try:
            record = parse_bytes(line, f"{path}:{number}")
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            labels.malformed.append(Malformed(path, number, "expected a JSON object in every line"))


def as_number(value: Any) -> int | None:
    """A class number, whichever way it is written; None for what is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        value = int(value)
    return value if isinstance(value, int) else None


class NumberedClasses:
    """The classes of a file by their numbers: those that it lists, or `class_0`, `class_1` and so on where it lists none.

    Attributes:
        made: positions in `Labels.class_names` of the classes that were made up so far.
    """

    def __init__(self, labels: Labels, names: Mapping[int, str] | None) -> None:
        self._labels = labels
        self._listed = None if names is None else {number: labels.class_id(name) for number, name in names.items()}
        self.made: list[int] = []

    def find(self, number: int) -> int | None:
        """The position of a class in `Labels.class_names`; None where the list does not have the number."""
        if self._listed is not None:
            return self._listed.get(number)
        if not 0 <= number < MAX_CLASSES:
            return None
        while len(self.made) <= number:  # those below it too, so that their order is that of the numbers
            self.made.append(self._labels.class_id(f"class_{len(self.made)}"))
        return self.made[number]
