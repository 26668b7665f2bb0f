"""Numbers in sentences: 1 image, 1,200 boxes."""

from __future__ import annotations

from collections.abc import Sequence


def plural(number: int, one: str, many: str = "") -> str:
    """`1 box`, `1,200 boxes`; `many` is `one` with an s unless told."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """`train`, `train and val`, `train, val and test`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
