"""What goes into sentences: 1 image, 1,200 boxes; the words of a stranger."""

from __future__ import annotations

from collections.abc import Sequence


def three_places(value: float) -> str:
    """A measured number with as many places as count: `0.52`, `12.3`, `1,234`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 box`, `1,200 boxes`; `many` is `one` with an s unless told."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def one_line(text: str) -> str:
    """`text` of a stranger for a message: printable, in one line of at most 200 characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:200]


def listed(names: Sequence[str], word: str = "and") -> str:
    """`train`, `train and val`, `train, val and test`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
