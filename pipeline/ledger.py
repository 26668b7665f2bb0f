"""The account of everything that did not pass through a stage unchanged.

Every image and box that comes in goes out, or stands here with a reason, a file and a line. The ledger is part of the artifact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import files

NAME = "ledger.jsonl"

Item = Literal["image", "box", "file"]
Action = Literal["dropped", "clipped", "fixed", "converted", "kept"]


@dataclass(frozen=True)
class Entry:
    """One deviation.

    Attributes:
        item: what it is about.
        action: what was done with it.
        reason: a stable code in snake_case, for counting and filtering (`out_of_bounds`, `zero_area` …).
        path: the image, as a relative POSIX path.
        file, line: where the item stood (label file, relative; line number from 1, 0 when lines mean nothing). Of a file that
            `collect` renamed, the path that it had.
        detail: the values, for a reader.
    """

    item: Item
    action: Action
    reason: str
    path: str = ""
    file: str = ""
    line: int = 0
    detail: str = ""

    def where(self) -> str:
        """`file:line`, or the image's path where no label file is concerned."""
        place = self.file or self.path
        return f"{place}:{self.line}" if self.line else place


class Ledger:
    """Entries in the order of their making."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)

    def add(
        self, item: Item, action: Action, reason: str, *, path: str = "", file: str = "", line: int = 0, detail: str = ""
    ) -> None:
        self.entries.append(Entry(item, action, reason, path, file, line, detail))

    def counts(self) -> dict[str, int]:
        """How many entries of each `item action: reason`, sorted."""
        counter = Counter(f"{entry.item} {entry.action}: {entry.reason}" for entry in self.entries)
        return dict(sorted(counter.items()))

    def write(self, folder: Path) -> None:
        """Write `ledger.jsonl`, also when empty: no file would not tell an empty account from a missing one."""
        files.write_json_lines(folder / NAME, map(vars, self.entries))  # `asdict` would copy each


def read(folder: Path) -> list[Entry]:
    """The entries of an artifact; an artifact without a ledger has none."""
    path = folder / NAME
    if not path.exists():
        return []
    return [Entry(**row) for row in files.read_json_lines(path)]
