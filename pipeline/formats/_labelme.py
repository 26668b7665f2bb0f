"""What the readers of labelme's, LabelMe's and VoTT's files share: names of images, and lines of JSON items."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.formats._common import is_own_name, line_numbers
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet


def names_of_image(path: str, written: str, ledger: Ledger) -> tuple[str, ...]:
    """How the label file `path`, which speaks of one image, refers to it: by the name that is `written` in it, and by its own.

    Where the two differ the file was renamed or copied, and an image of the file's own name is preferred: the written name
    may be that of another image by now.
    """
    stem = path.rpartition("/")[2].rpartition(".")[0]
    if not written or is_own_name(stem, written):
        return (written or stem,)
    ledger.add("file", "converted", "filename_mismatch", file=path, detail=f"it says {written}")
    return stem, written


def locate_key(files: FileSet, key: str, counts: Mapping[str, int], word: str) -> Callable[[str, int], tuple[int, str]]:
    """For `Labels.locate`: line and words (`shape 3`) for the n-th item (from 0) of a JSON file, each of which has `key` once.

    JSON parsers tell no lines, so the key is searched for when somebody asks. Where a file has it more or less often than the
    `counts` of its items, the line is 0: better none than a wrong one.
    """
    pattern = re.compile(rb'"' + re.escape(key.encode()) + rb'"\s*:')

    @lru_cache(maxsize=64)
    def lines_of(path: str) -> list[int]:
        lines = line_numbers(files.read_bytes(path), pattern)
        return lines if len(lines) == counts.get(path) else []

    def locate(path: str, number: int) -> tuple[int, str]:
        lines = lines_of(path)
        return (lines[number] if 0 <= number < len(lines) else 0), f"{word} {number + 1}"

    return locate
