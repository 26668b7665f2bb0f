"""What files from elsewhere are called here: by names that every system can hold, and each by a name of its own."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.ledger import Item, Ledger
from pipeline.paths import folded, is_image, portable


def settled(wished: Mapping[str, str], ledger: Ledger) -> dict[str, str]:
    """The path that each file gets, by what it is called where it comes from.

    Files whose names are one in some file system are all left out. To keep one of them, or to give one another name, could bring
    the labels of one photo to another: label files name photos without regard to case, too.

    Args:
        wished: relative paths, clean (`paths.is_clean`).
        ledger: gets an entry for each file that is renamed or left out.
    """
    targets = {name: portable(path) for name, path in wished.items()}
    first: dict[str, str] = {}
    for name, path in list(targets.items()):
        other = first.setdefault(folded(path), name)
        if other != name:
            for clashing, with_ in ((other, name), (name, other)):
                if clashing in targets:
                    detail = f"'{clashing}' and '{with_}' are one name where case and Unicode form do not count, or once portable"
                    ledger.add(_kind(path), "dropped", "duplicate_name", path=targets.pop(clashing), detail=detail)
    for name, path in targets.items():
        if path != wished[name]:
            ledger.add(_kind(path), "converted", "renamed", path=path, detail=f"'{name}' cannot be a name on every system")
    return targets


def _kind(path: str) -> Item:
    return "image" if is_image(path) else "file"
