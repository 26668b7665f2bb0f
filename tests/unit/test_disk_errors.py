"""What the operating system refused, told by the folder a person knows."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.disk_errors import explain


def told(code: int, path: Path | None, workspace: Path, *targets: Path) -> str:
    error = explain(OSError(code, os.strerror(code), *([str(path)] if path else [])), workspace, targets)
    return str(error).replace(str(workspace), "WORKSPACE") if error else ""


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (".cache/index/.8801-7efd231e.part.files", "The workspace WORKSPACE: the file system is read-only."),
        ("datasets/.tmp/split-1/images.parquet", "The workspace WORKSPACE: the file system is read-only."),
        ("datasets/split/highest.json", "The workspace WORKSPACE (datasets/split/highest.json): the file system is read-only."),
        ("datasets/split/.12-ab.part.json", "The workspace WORKSPACE (datasets/split): the file system is read-only."),
        ("", "The workspace WORKSPACE: the file system is read-only."),
        ("..", "The workspace WORKSPACE: the file system is read-only."),
    ],
)
def test_of_the_workspace_the_part_is_named_that_a_person_knows(tmp_path: Path, place: str, expected: str) -> None:
    workspace = tmp_path / "workspace"
    path = workspace.parent if place == ".." else workspace / place
    assert told(errno.EROFS, path, workspace) == f"{expected}\nCheck who owns it, or choose another --workspace."


def test_other_places_are_not_blamed_on_the_workspace(tmp_path: Path) -> None:
    photo, out = tmp_path / "photos" / "a.jpg", tmp_path / "out" / ".12-ab.part.jpg"
    for path, shown in ((photo, photo), (out, out.parent)):
        text = told(errno.EACCES, path, tmp_path)
        assert text.startswith(f"{shown}: permission denied.\n".replace(str(tmp_path), "WORKSPACE"))
        assert "--workspace" not in text


def test_a_full_disk_is_named_also_when_the_error_does_not_say_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import disk_errors

    free = {tmp_path / "workspace": 100, tmp_path / "out": 5}
    monkeypatch.setattr(disk_errors.machine, "free_bytes", lambda path: free.get(path, 1000))
    assert told(errno.ENOSPC, tmp_path / "workspace" / "datasets" / "x", tmp_path / "workspace").startswith(
        "The workspace WORKSPACE: the disk is full.\nFree some space (`python -m pipeline gc`"
    )
    assert told(errno.ENOSPC, None, tmp_path / "workspace").startswith("The workspace WORKSPACE: the disk is full.")
    assert told(errno.ENOSPC, None, tmp_path / "workspace", tmp_path / "out") == (
        f"{tmp_path / 'out'}: the disk is full.\nFree some space there, then run the same command."
    )


def test_a_copy_is_full_where_it_goes_to(tmp_path: Path) -> None:
    there = tmp_path / "out" / "images" / "a.jpg"
    error = OSError(errno.ENOSPC, "full", str(tmp_path / "photos" / "a.jpg"), None, str(there))
    assert str(explain(error, tmp_path / "workspace", [])).startswith(f"{there}: the disk is full.\n")


def test_a_path_is_told_without_detours(tmp_path: Path) -> None:
    assert told(errno.EACCES, tmp_path / "here" / ".." / "a.jpg", tmp_path).startswith("WORKSPACE/a.jpg: ")


def test_a_file_that_a_version_lost_points_to_verify(tmp_path: Path) -> None:
    lost = tmp_path / "datasets" / "split" / "v3" / "images" / "a.jpg"
    assert told(errno.ENOENT, lost, tmp_path) == "split@v3 lacks images/a.jpg.\n`python -m pipeline verify` says what to do."
    assert told(errno.ENOENT, tmp_path, tmp_path / "new").startswith("The workspace WORKSPACE cannot be made.")


def test_a_mistake_of_ours_is_not_explained_away(tmp_path: Path) -> None:
    for path in (tmp_path / "elsewhere", tmp_path / "datasets" / ".tmp" / "split-1" / "x", tmp_path / ".cache" / "x"):
        assert told(errno.ENOENT, path, tmp_path) == ""
    assert told(errno.EINVAL, tmp_path / "datasets" / "x", tmp_path) == ""
    assert told(errno.ENOENT, None, tmp_path) == ""
