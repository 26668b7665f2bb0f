"""An archive of images and labels on this machine: zip, tar, tar.gz, tar.bz2 or tar.xz, known by its content.

Archives are untrusted, see `_unpacking` for what is refused. A tar in Zstandard has to be unpacked by hand: Python reads it from
3.14 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from pipeline.errors import DataError
from pipeline.fingerprint import FolderIndex
from pipeline.ledger import Ledger
from pipeline.paths import is_image
from pipeline.sources import Fetched, Origin, local_path
from pipeline.sources._unpacking import unpack
from pipeline.stage import Context, StageParams


class Options(StageParams):
    """`nested`: whether archives in the archive are opened too; those within these never are."""

    nested: bool = Field(default=False, description="open the archives in the archive too")


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    return FolderIndex(context.cache).file_digest(_archive(location, context), context.progress)


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    path = _archive(location, context)
    ledger = Ledger()
    origins = unpack(path, out, context, ledger, nested=options.nested)
    require_opened(origins, ledger, str(path.resolve()))
    return Fetched(origins, description=f"the archive '{path.name}'", ledger=ledger)


def require_opened(origins: Sequence[Origin], ledger: Ledger, shown: str) -> None:
    """Raise DataError when an archive holds nothing but archives, which are closed."""
    closed = [entry.path for entry in ledger.entries if entry.reason == "nested_archive"]
    if closed and not any(is_image(origin.path) for origin in origins):
        raise DataError(
            f"{shown} holds no images but archives, such as '{closed[0]}'.",
            "collect.options.nested=true opens them.",
        )


def _archive(location: str, context: Context) -> Path:
    path = local_path(location, context)
    if not path.is_file():
        raise DataError(f"collect.source: there is no archive {path.resolve()}.", "Check the path.")
    return path
