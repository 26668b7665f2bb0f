"""Where images come from; one module a source.

A source module has:

    class Options(StageParams)                                    what `collect.options` may hold
    def fingerprint(location, options, seed, context) -> str      what the source holds now, without fetching it
    def fetch(location, options, seed, out, context) -> Fetched   bring the files to `out` (atomically; whole files may be there
                                                                  already from a run that was killed)

`location` is what `collect.source` says after the source's name (`sample` has none), or the path itself for a folder or archive.
An option that is a path is an `OptionPath`, and `local_path` says what it means.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from pipeline.ledger import Ledger
from pipeline.paths import VIDEO_SUFFIXES
from pipeline.stage import Context

ORIGINS = "origins.jsonl"
"""In a version of collect: a line a file, with what `Origin` tells of it."""


UNKNOWN = "unknown"
"""The licence that neither the source nor the user states."""


IS_PATH = "path"

OptionPath = Annotated[str, IS_PATH]
"""A path, or also a URL: on the command line it starts where the user is, in params.yaml where that lies."""


def local_path(location: str, context: Context) -> Path:
    """What `collect.source` means as a path: `~` is one's home, and relative paths start where params.yaml lies."""
    path = Path(location)
    with suppress(RuntimeError):  # no home is known: `~` is a name like any other
        path = path.expanduser()
    return context.base / path


@dataclass(frozen=True)
class Origin:
    """Where one collected file came from.

    Attributes:
        path: relative POSIX path below `out`.
        origin: URL, path inside an archive, or path on disk it was copied from.
        group: files of one video, burst or scene bear the same name; "" when the source does not know.
        hash: BLAKE3 of the file in `out`, where the source came by it anyway; "" has collect read the file.
        license: of this file alone, as the source states it; "" where that of all files counts.
    """

    path: str
    origin: str
    group: str = ""
    hash: str = ""
    license: str = ""


@dataclass(frozen=True)
class Fetched:
    """What a source brought.

    Attributes:
        files: one `Origin` a file, all of them, sorted by path.
        license: as the source states it; "" when it does not.
        homepage: where it can be looked up.
        description: one line for the report.
        kind, query: of the source that this one stands for, where it stands for another.
    """

    files: list[Origin]
    license: str = ""
    homepage: str = ""
    description: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    kind: str = ""
    query: str = ""


OPENED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
"""The archives that can be opened where they lie in another one."""

ARCHIVES = frozenset({*(f".{name.rpartition('.')[2]}" for name in OPENED), ".gz", ".bz2", ".xz", ".7z", ".rar", ".iso"})

# Large or foreign kinds that hold no labels. Whatever else lies beside the images comes along: a label format may use any suffix.
_UNWANTED = ARCHIVES | {
    f".{suffix}"
    for group in (
        (*VIDEO_SUFFIXES, "mp3", "wav"),
        ("pt", "pth", "onnx", "tflite", "engine", "h5", "pb", "bin", "safetensors"),
        ("exe", "dll", "so", "py", "pyc", "ipynb", "doc", "docx", "ppt", "pptx", "pdf"),
    )
    for suffix in group
}


def is_wanted(path: str) -> bool:
    """Whether a file is an image or may hold labels."""
    return PurePosixPath(path).suffix.lower() not in _UNWANTED
