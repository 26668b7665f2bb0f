"""What the operating system refused, told by the folder a person knows: the workspace, a source, or where results were wanted."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline import files, machine
from pipeline.errors import ArtifactError

_FULL = {errno.ENOSPC: "the disk is full"}
_REFUSED = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EIO: "the disk fails to read or write",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}
if hasattr(errno, "EDQUOT"):  # not on Windows
    _FULL[errno.EDQUOT] = "the disk quota is used up"
if hasattr(errno, "ESTALE"):
    _REFUSED[errno.ESTALE] = "the network drive has changed; mount it anew"

_OURS = ("datasets", "runs", ".cache")


def explain(error: OSError, workspace: Path, targets: Sequence[Path]) -> ArtifactError | None:
    """The error in plain words; None for one that only a mistake of ours can cause.

    Args:
        targets: folders outside the workspace that the command writes to.
    """
    path = _place(error.filename)
    if error.errno == errno.ENOENT and path is not None:
        if workspace.is_relative_to(path):  # as below /proc, or on a drive that is not there
            return ArtifactError(f"The workspace {workspace} cannot be made.", "Choose another --workspace.")
        return _of_a_version(path, workspace)
    if error.errno in _FULL:
        return _full(_FULL[error.errno], _place(error.filename2) or path, workspace, targets)  # a copy is full where it goes to
    if error.errno not in _REFUSED:
        return None
    what = _REFUSED[error.errno]
    if path is None:
        return ArtifactError(f"{what[0].upper()}{what[1:]}.", "Check who owns the workspace and the source.")
    if _is_ours(path, workspace):
        hint = "Check who owns it, or choose another --workspace."
        return ArtifactError(f"The workspace {workspace}{_within(path, workspace)}: {what}.", hint)
    shown = path.parent if files.is_temporary(path.name) else path
    return ArtifactError(f"{shown}: {what}.", "Check who owns it, and whether another program has it open.")


def _place(name: object) -> Path | None:
    return Path(os.path.abspath(name)) if isinstance(name, str) else None  # noqa: PTH100 - resolve() would follow links


def _of_a_version(path: Path, workspace: Path) -> ArtifactError | None:
    """A file that a version had when it was published is gone."""
    parts = path.relative_to(workspace).parts if path.is_relative_to(workspace) else ()
    if len(parts) < 4 or parts[0] not in _OURS[:2] or parts[1].startswith("."):
        return None
    stage, label, *rest = parts[1:]
    return ArtifactError(f"{stage}@{label} lacks {'/'.join(rest)}.", "`python -m pipeline verify` says what to do.")


def _full(what: str, path: Path | None, workspace: Path, targets: Sequence[Path]) -> ArtifactError:
    import tempfile  # not on the way of a run with nothing to do

    if path is None:  # a write does not say where; it was most likely there where least is left
        path = min((workspace, *targets, Path(tempfile.gettempdir())), key=machine.free_bytes)
    if _is_ours(path, workspace):
        hint = "Free some space (`python -m pipeline gc` lists what is not needed), then run the same command."
        return ArtifactError(f"The workspace {workspace}: {what}.", hint)
    shown = path.parent if files.is_temporary(path.name) else path
    return ArtifactError(f"{shown}: {what}.", "Free some space there, then run the same command.")


def _is_ours(path: Path, workspace: Path) -> bool:
    """Whether a path is the workspace, leads to it, or lies in what the pipeline keeps there."""
    return workspace.is_relative_to(path) or any(path.is_relative_to(workspace / name) for name in _OURS)


def _within(path: Path, workspace: Path) -> str:
    """The place in the workspace, where it is one that a person may know."""
    if workspace.is_relative_to(path) or any(part.startswith(".") for part in path.relative_to(workspace).parts[:-1]):
        return ""
    known = path.parent if path.name.startswith(".") else path
    return f" ({known.relative_to(workspace).as_posix()})"
