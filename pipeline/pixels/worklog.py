"""What was done for each image, kept by content, so that the next version does only what is new.

A row says which input content gave which output file. The finished log is part of the artifact; while a stage runs, rows are
appended as images are done, so that a run that takes over from a killed one finds its work too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline import files

NAME = "work.jsonl"

Row = dict[str, Any]
"""At least `key` (what the work depends on, besides code and params) and `file` (relative to `images/`)."""


class WorkLog:
    """The rows of an earlier version and of a killed run, and the rows of this run.

    Args:
        out: the folder being made; may hold the files of a killed run.
        previous: folder of a version made by the same code and params, or None.
    """

    def __init__(self, out: Path, previous: Path | None) -> None:
        self._out = out
        self._known: dict[str, tuple[Path, Row]] = {}
        for folder in (previous, out):
            if folder is not None:
                self._known.update((row["key"], (folder, row)) for row in _read(folder / NAME))
        out.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> tuple[Path, Row] | None:
        """The finished file and the row of a key, or None where the work has to be done."""
        folder, row = self._known.get(key, (None, None))
        if folder is None or row is None:
            return None
        path = folder / "images" / row["file"]
        return (path, row) if path.is_file() else None

    def add(self, row: Row) -> None:
        """Note finished work at once, in case this run is killed."""
        with (self._out / NAME).open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(_line(row))

    def finish(self, rows: Iterable[Row]) -> None:
        """Write the final log: the rows of this version only, in an order that does not depend on timing."""
        files.write_text(self._out / NAME, "".join(_line(row) for row in sorted(rows, key=lambda row: str(row["key"]))))


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"


def _read(path: Path) -> list[Row]:
    rows = []
    if path.is_file():
        for line in path.read_bytes().split(b"\n"):
            try:
                rows.append(json.loads(line.decode("utf-8")))
            except ValueError:
                continue  # the last line of a killed run, which may end within a character; or nothing after the last line end
    return rows
