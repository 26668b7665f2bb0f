"""What a set of label files says, before anybody judges it: the one shape that every reader in `formats/` returns.

A reader reports; it does not resolve file names, clip, repair or sort out frames. All that is done once, for every format, by
`importing`. Boxes are kept in one flat array of numbers rather than as objects: a million of them then take 56 MB, and
every check is a vector operation.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW = 7
"""Numbers a box takes in `Labels.rows`."""

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of which a label file speaks, also when it says that nothing is on it.

    Attributes:
        file: the label file, relative POSIX path.
        names: how the label file refers to the image, the most trustworthy first.
        path: the image file itself, where the reader knows it for certain; `names` are not looked at then.
        line: where the image stands in `file`; 0 when lines mean nothing.
        width, height: size that the label file declares, in pixels; 0 when it does not.
        split: "train", "val", "test" or "".
        group: what must stay together in a split (a video); "" when the label file does not say.
    """

    file: str
    names: tuple[str, ...] = ()
    path: str = ""
    line: int = 0
    width: int = 0
    height: int = 0
    split: str = ""
    group: str = ""

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.path or (self.names[0] if self.names else self.file)


@dataclass(frozen=True, slots=True)
class SplitList:
    """The images that one list assigns to a split.

    Attributes:
        split: "train", "val" or "test".
        file: where it says so.
        names: the lines of `file`, each a reference to an image or blank; relative paths of existing images if `exact`.
    """

    split: str
    file: str
    names: Sequence[str]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Malformed:
    """A label file that cannot be parsed. `image` is the number of the only image it speaks of, None when it concerns them
    all."""

    file: str
    line: int
    message: str
    image: int | None = None

    @classmethod
    def of(cls, error: DataError, file: str, image: int | None = None) -> Malformed:
        """From an error whose message starts with the file, or the file and a line."""
        message = error.message.removeprefix(file).lstrip(":")
        line, separator, text = message.partition(": ")
        if separator and line.isdigit():
            return cls(file, int(line), text, image)
        return cls(file, 0, message.strip(), image)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


def _line_is_row(file: str, row: int) -> tuple[int, str]:
    return row, ""


@dataclass
class Labels:
    """Everything that the label files of one format say.

    Attributes:
        class_names: in the format's own order, unique; `class_id` adds to it.
        images: one record for each mention of an image.
        rows: boxes, `ROW` numbers each: image (position in `images`), class (position in `class_names`), x1, y1, x2, y2, place.
            Edges are pixels in the frame that the labels were drawn in (stored or upright), or fractions of it if `normalised`;
            they may be anything a float can be. Place is what `locate` understands.
        splits: lists that assign images to splits.
        not_photos: files with an image's suffix that are something else (segmentation masks).
        malformed: label files that could not be parsed.
        locate: `locate(file, place) -> (line, words)` for messages; line 0 where lines mean nothing.
    """

    class_names: list[str] = field(default_factory=list)
    images: list[LabelledImage] = field(default_factory=list)
    rows: array[float] = field(default_factory=lambda: array("d"))
    normalised: bool = False
    splits: list[SplitList] = field(default_factory=list)
    not_photos: frozenset[str] = frozenset()
    malformed: list[Malformed] = field(default_factory=list)
    locate: Callable[[str, int], tuple[int, str]] = _line_is_row
    _class_ids: dict[str, int] = field(default_factory=dict)

    def class_id(self, name: str) -> int:
        """The position of a class, which is added when new."""
        number = self._class_ids.get(name)
        if number is None:
            number = self._class_ids[name] = len(self.class_names)
            self.class_names.append(name)
        return number

    def class_ids(self, names: Sequence[str], file: str, ledger: Ledger) -> list[int]:
        """Positions of a format's own numbered list of names; a name that stands there twice is one class."""
        for name in sorted({name for name in names if names.count(name) > 1}):
            ids = [str(number) for number, other in enumerate(names) if other == name]
            detail = f"'{name}' is number {' and '.join(ids)}; taken for one class"
            ledger.add("file", "converted", "duplicate_class_name", file=file, detail=detail)
        return [self.class_id(name) for name in names]

    def add_image(self, image: LabelledImage) -> int:
        self.images.append(image)
        return len(self.images) - 1

    def table(self) -> NDArray[np.float64]:
        """`rows` as an array (N, ROW) that shares its memory."""
        import numpy as np

        return np.frombuffer(self.rows, dtype=np.float64).reshape(-1, ROW) if self.rows else np.zeros((0, ROW))

    def sort_classes(self, first: Sequence[str] = ()) -> None:
        """Bring the classes into alphabetical order, for formats that have none of their own.

        Args:
            first: names that come before, in their order, also those that no box has.
        """
        import numpy as np

        for name in first:
            self.class_id(name)
        leading = list(dict.fromkeys(first))
        order = [*leading, *sorted(set(self.class_names) - set(leading))]
        number_of = {name: number for number, name in enumerate(order)}
        position = np.array([number_of[name] for name in self.class_names], dtype=np.float64)
        table = self.table()
        if len(table):
            table[:, 1] = position[table[:, 1].astype(np.int64)]
        self.class_names = order
        self._class_ids = number_of


def split_of_folder(path: str) -> str:
    """The split that a folder on the way to a file is named after (`train/`, `val2017/`, `Test/`), the nearest first; or ""."""
    for part in reversed(path.split("/")[:-1]):
        split = _SPLIT_WORDS.get(part.lower().rstrip("0123456789"))
        if split:
            return split
    return ""


def split_of_file(path: str) -> str:
    """The split that a label file speaks of by its name (`instances_train2017.json`) or else by its folder; or ""."""
    words = re.split("[^a-z]+", path.rsplit("/", 1)[-1].lower())
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else split_of_folder(path)
