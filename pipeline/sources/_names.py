"""What files from elsewhere are called here: by names that every system can hold, and each by a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.ledger import Item, Ledger
from pipeline.paths import folded, is_image, portable
from pipeline.sources import is_wanted


def settled(wished: Mapping[str, str], ledger: Ledger) -> dict[str, str]:
    """The path that each file gets, by what it is called where it comes from.

    Files whose names are one in some file system are all left out. To keep one of them, or to give one another name, could bring
    the labels of one photo to another: label files name photos without regard to case, too. So are a file and those in a folder
    of its name. Images whose labels may lie in a file that is left out go with it, for they would pass for background.

    Args:
        wished: relative paths, clean (`paths.is_clean`).
        ledger: gets an entry for each file that is renamed (`Entry.file` is then the path wished for) or left out.
    """
    targets = {name: portable(path) for name, path in wished.items()}
    clashing = dict([*_in_folders_place(targets), *_equal(targets)])
    for name, detail in clashing.items():
        ledger.add(_kind(targets[name]), "dropped", "duplicate_name", path=targets[name], detail=detail)
    kept = {name: path for name, path in targets.items() if name not in clashing}
    without = dict(_without_labels(kept, [targets[name] for name in clashing]))
    for name, file in without.items():
        detail = f"its labels may be in '{file}', which is left out"
        ledger.add("image", "dropped", "labels_left_out", path=kept.pop(name), detail=detail)
    for name, path in kept.items():
        if path != wished[name]:
            detail = f"'{name}' cannot be a name on every system"
            ledger.add(_kind(path), "converted", "renamed", path=path, file=wished[name], detail=detail)
    return kept


def _equal(targets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The files whose names meet, and with which."""
    first: dict[str, str] = {}
    for name, path in targets.items():
        other = first.setdefault(folded(path), name)
        if other != name:
            for one, two in ((other, name), (name, other)):
                yield one, f"'{one}' and '{two}' are one name where case and Unicode form do not count, or once portable"


def _in_folders_place(targets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The files that are called like a folder, and those in it."""
    files = {folded(path): name for name, path in targets.items()}
    above: dict[str, str] = {}  # folder: the file that is called like it or one that it lies in, or ""
    for name, path in targets.items():
        file = _file_above(folded(path).rpartition("/")[0], files, above)
        if file:
            for one, two in ((file, name), (name, file)):
                yield one, f"'{one}' and '{two}' would make a file and a folder of one name"


def _file_above(folder: str, files: Mapping[str, str], known: dict[str, str]) -> str:
    if not folder:
        return ""
    if folder not in known:
        known[folder] = files.get(folder, "") or _file_above(folder.rpartition("/")[0], files, known)
    return known[folder]


def _without_labels(kept: Mapping[str, str], left_out: list[str]) -> Iterator[tuple[str, str]]:
    """The images that are called like a file that may hold labels and is left out: `a.jpg` for `A.txt` or `a.jpg.json`."""
    files = {_stem(path): path for path in left_out if not is_image(path) and is_wanted(path)}
    for name, path in kept.items() if files else ():
        file = files.get(_stem(path)) or files.get(folded(path.rpartition("/")[2]))
        if file and is_image(path):
            yield name, file


def _stem(path: str) -> str:
    name = folded(path.rpartition("/")[2])
    return name.rpartition(".")[0] or name


def _kind(path: str) -> Item:
    return "image" if is_image(path) else "file"
