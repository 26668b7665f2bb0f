"""A folder of images and labels on this machine, as the user has it; nested folders are kept.

The folder is only read. Links in it stand for what they lead to; one that leads nowhere goes to the ledger. Files are copied, not
linked: an editor that writes in place would otherwise change a published version. Files that an earlier version already holds are
hard-linked from there.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from pipeline import files
from pipeline.errors import DataError
from pipeline.fingerprint import FolderIndex, copy_hashed, parse_checksums
from pipeline.ledger import Ledger
from pipeline.sources import Fetched, Origin, is_wanted, local_path
from pipeline.stage import Context, StageParams
from pipeline.version import CHECKSUMS


class Options(StageParams):
    """A folder has no options."""


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The content of the folder: changes when any file is added, removed, renamed or edited."""
    return FolderIndex(context.cache).digest(find(location, context), context.progress)


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    folder = find(location, context)
    hashes, dangling = FolderIndex(context.cache).hashes(folder, context.progress)
    known = held(context.previous)
    ledger = Ledger()
    for path in dangling:
        ledger.add("file", "dropped", "dangling_link", path=path)
    origins: list[Origin] = []
    with context.progress("copy", len(hashes)) as advance:
        for path, digest in sorted(hashes.items()):
            if not is_wanted(path):
                ledger.add("file", "dropped", "not_an_image_nor_labels", path=path)
            else:
                origins.append(Origin(path, path, hash=bring(folder / path, out / path, known.get(digest), digest)))
            advance()
    return Fetched(origins, description=f"the folder '{PurePosixPath(folder.as_posix()).name}'", ledger=ledger)


def find(location: str, context: Context) -> Path:
    folder = local_path(location, context)
    workspace = context.cache.resolve().parent
    if folder.is_dir() and workspace.is_relative_to(folder.resolve()):
        raise DataError(
            f"collect.source: the folder {folder.resolve()} contains the workspace itself ({workspace}).",
            "Put the images into a folder of their own, beside datasets/ and runs/.",
        )
    return folder


def held(previous: Path | None) -> dict[str, Path]:
    """Hash → file of the version before, for everything it collected."""
    if previous is None:
        return {}
    try:
        hashes = parse_checksums((previous / CHECKSUMS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # damaged, and nobody has verified it yet
    return {digest: previous / path for path, digest in hashes.items() if path.startswith("files/")}


def bring(source: Path, target: Path, held: Path | None, digest: str) -> str:
    """Make `target`; its hash, or "" where that is not certain. `held` is a file of the content `digest`, if there is one."""
    if os.path.lexists(target):
        return ""  # brought by a run of the same recipe that was killed; files appear whole
    if held is not None and held.exists():
        files.link(held, target)
        return digest
    # Hashed again on its way: the source may have been edited since it was listed.
    with source.open("rb") as original, files.atomic_path(target) as temporary, temporary.open("wb") as copy:
        return copy_hashed(original, copy)
