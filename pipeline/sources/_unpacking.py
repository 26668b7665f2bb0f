"""Unpack an archive that a stranger packed.

All of it is looked at before a byte is written: no path leaves the folder, links, devices and encrypted files are refused, and so
is what unpacks to far more than it weighs; `_names` says what becomes of names that not every system can hold. Zip's checksum of
each file is checked by reading it; a tar has none of its own, but gzip, bzip2 and xz have one of the whole. Files appear whole,
and those that a killed run had unpacked are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline import files
from pipeline.errors import DataError
from pipeline.fingerprint import copy_hashed
from pipeline.ledger import Ledger
from pipeline.machine import NoRoom, require_room
from pipeline.paths import MAX_NAME_BYTES, folded, is_clean, is_long, is_plain
from pipeline.sources import OPENED, Origin, is_wanted
from pipeline.sources._names import settled
from pipeline.sources._packed import MAX_RATIO, Member, bomb, members, telling_damage
from pipeline.stage import Context

MAX_FILES = 2_000_000
MAX_BYTES = 500 * 2**30
_STATE = f".state{files.TEMPORARY_SUFFIX}"


@dataclass
class _Budget:
    """What an archive, together with those in it, unpacks to."""

    packed: int
    members: int = 0
    size: int = 0
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def take(self, member: Member, shown: str) -> None:
        self.members += 1
        self.size += member.size
        if self.members > MAX_FILES or self.size > MAX_BYTES or self.size > MAX_RATIO * max(self.packed, 2**20):
            raise bomb(shown, f"{self.members:,} files of {self.size:,} bytes unpacked from {self.packed:,}")


@dataclass(frozen=True)
class _Unpacker:
    out: Path
    context: Context
    ledger: Ledger
    place: Callable[[str], str]
    nested: bool
    keep_going: bool
    budget: _Budget


def unpack(
    path: Path,
    out: Path,
    context: Context,
    ledger: Ledger,
    *,
    place: Callable[[str], str] = str,
    nested: bool = False,
    keep_going: bool = False,
    name: str = "",
    shown: str = "",
) -> list[Origin]:
    """Bring the images and labels of an archive to `out`; the origins of all, sorted by path.

    Args:
        path: zip or tar.*, see `_packed`.
        ledger: gets an entry for each file that is neither an image nor holds labels.
        place: where a file of a (clean, relative) path goes; "" for one that is not asked for.
        nested: open archives in the archive too, in a folder of their name; those within these stay closed.
        keep_going: links and devices go to the ledger; else they stop the run.
        name: what the origins begin with; the file's name unless told.
        shown: what messages call the archive; its path unless told.

    Raises:
        DataError: of another kind, damaged, cut short, encrypted, a bomb, or with members that no honest packer writes.
    """
    to = _Unpacker(out, context, ledger, place, nested, keep_going, _Budget(path.stat().st_size))
    origins = _unpack(path, name or path.name, shown or str(path.resolve()), "", to)
    return sorted(origins, key=lambda origin: origin.path)


@contextmanager
def blaming(what: str, forgotten: Path, hint: str = "") -> Iterator[None]:
    """Say whose archive cannot be used, and remove the file `forgotten`, so that the next run fetches it anew.

    A full disk is not the archive's fault.
    """
    try:
        yield
    except NoRoom:
        raise
    except DataError as error:
        forgotten.unlink(missing_ok=True)
        raise DataError(f"{what}{error.message}", hint or error.hint, error.problems) from error


def begin(out: Path, state: str) -> None:
    """Empty `out` when a run that was killed had begun to unpack something else there.

    Args:
        state: which content it is, for what may change between two runs of one recipe.
    """
    if out.exists() and begun(out) != state:
        shutil.rmtree(out)
    files.write_text(out / _STATE, state)


def begun(out: Path) -> str:
    """The state that a killed run had begun to unpack, or ""."""
    try:
        return (out / _STATE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _unpack(path: Path, name: str, shown: str, prefix: str, to: _Unpacker) -> list[Origin]:
    """`unpack` for one archive: the outermost, or one in it (`prefix` is then the folder that it becomes)."""
    plan = _plan(path, shown, prefix, to)
    if not any((to.out / target).exists() for target in plan.values()):  # else a run that was killed found room for it
        to.out.mkdir(parents=True, exist_ok=True)
        require_room(to.out, to.budget.size, f"{name} unpacked")
    origins: list[Origin] = []
    inner: list[tuple[Path, str, str]] = []
    with to.context.progress("unpack", len(plan)) as advance:
        for member, opener in members(path, shown):
            target = plan.get(member.name)
            if target is None or member.is_folder or member.wrong:
                continue
            if is_wanted(target):
                with telling_damage(shown):
                    digest = "" if (to.out / target).exists() else _copy(opener, to.out / target)
                origins.append(Origin(target, f"{name}:{member.name}", hash=digest))
            elif not _is_archive(target) or prefix:
                to.ledger.add("file", "dropped", "not_an_image_nor_labels", path=target)
            elif not to.nested:
                detail = "collect.options.nested=true opens archives in the archive"
                to.ledger.add("file", "dropped", "nested_archive", path=target, detail=detail)
            else:
                kept = to.out / f".{len(inner)}-nested{files.TEMPORARY_SUFFIX}"
                with telling_damage(shown):
                    _copy(opener, kept)
                inner.append((kept, f"{name}:{member.name}", _without_suffix(target) + "/"))
            advance()
    for kept, inner_name, folder in inner:
        origins += _unpack(kept, inner_name, inner_name, folder, to)
        kept.unlink()
    return origins


def _copy(opener: Callable[[], object], target: Path) -> str:
    with opener() as packed, files.atomic_path(target) as temporary, temporary.open("wb") as unpacked:  # type: ignore[attr-defined]
        return copy_hashed(packed, unpacked)


def _plan(path: Path, shown: str, prefix: str, to: _Unpacker) -> dict[str, str]:
    """Where each member that is a file goes. Raises DataError for anything that no honest packer writes."""
    wished: dict[str, str] = {}
    problems: list[str] = []
    encrypted = 0
    size_mib = max(1, path.stat().st_size >> 20)
    with to.context.progress("look into the archive (MiB)", size_mib) as advance:
        read_mib = 0
        for member, _ in members(path, shown):
            to.budget.take(member, shown)
            advance((member.position >> 20) - read_mib)
            read_mib = member.position >> 20
            name = member.name.replace("\\", "/").removeprefix("./")
            if member.is_folder or _is_junk(name):
                continue
            name = name if name.startswith("/") else PurePosixPath(name).as_posix()  # "a//b" and "a/./b" are "a/b"
            wrong = _problem(name)
            target = "" if wrong else to.place(name)
            encrypted += member.is_encrypted and bool(target)
            if target and member.wrong and to.keep_going:
                to.ledger.add("file", "dropped", "link_or_device", path=prefix + target)
            elif wrong or (target and (wrong := member.wrong or ("occurs twice" if member.name in wished else ""))):
                problems.append(f"{member.name!a} {wrong}" if not is_plain(member.name) else f"'{member.name}' {wrong}")
            elif target:
                wished[member.name] = prefix + target
        advance(max(0, size_mib - read_mib))
    plan = settled(wished, to.ledger)
    problems += [f"'{name}' {wrong}" for name, target in plan.items() if (wrong := _collision(target, to.budget))]
    if problems:
        raise DataError(f"{shown} is not unpacked:", "Unpack it yourself if you trust it, and use the folder.", problems)
    if encrypted:
        raise DataError(
            f"{shown} is encrypted ({encrypted:,} of {len(plan):,} files).", "Unpack it with its password, and give the folder."
        )
    return plan


def _problem(name: str) -> str:
    if not is_plain(name):
        return "has control characters in its name: rename it before packing"
    if is_long(name):
        return f"has a name of more than {MAX_NAME_BYTES} bytes: rename it before packing"
    return "" if is_clean(name) else "leads out of the folder"


def _collision(path: str, budget: _Budget) -> str:
    """What a file would get in the way of: a file or folder of another archive that is unpacked to the same place."""
    name = folded(path)
    twice = name in budget.files
    budget.files.add(name)
    is_both = name in budget.folders
    while folder := name.rpartition("/")[0]:
        is_both = is_both or folder in budget.files
        if folder in budget.folders:
            break
        budget.folders.add(folder)
        name = folder
    if twice:
        return "is there already, or differs from another name in upper and lower case alone"
    return "is a file and a folder at once" if is_both else ""


def _is_junk(name: str) -> bool:
    """Resource forks and hidden files that packers add by themselves."""
    return any(part == "__MACOSX" or part.startswith(".") for part in PurePosixPath(name).parts if part not in (".", ".."))


def _is_archive(path: str) -> bool:
    return path.lower().endswith(OPENED)


def _without_suffix(path: str) -> str:
    """`a/b.tar.gz` → `a/b`."""
    return path[: -len(max((suffix for suffix in OPENED if path.lower().endswith(suffix)), key=len))]
