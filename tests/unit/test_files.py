from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline import files, fingerprint, ledger
from pipeline.labelling.fileset import FileSet
from pipeline.ledger import Ledger
from pipeline.paths import is_safe_relative


def test_a_failed_write_leaves_neither_target_nor_temporary(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), files.atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"


def test_text_has_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "ä\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa4\nb\n"


def test_the_temporary_name_is_short_and_recognised(tmp_path: Path) -> None:
    name = "x" * 250 + ".png"
    with files.atomic_path(tmp_path / name) as temporary:
        assert files.is_temporary(temporary.name)
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    assert (tmp_path / name).read_bytes() == b"1"
    assert not files.is_temporary("part.of.something.png")


def test_link_shares_the_inode_and_replaces_another_file(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "sub" / "b"
    source.write_text("a")
    files.link(source, target)
    files.link(source, target)
    assert target.samefile(source)
    other = tmp_path / "c"
    other.write_text("c")
    files.link(source, other)
    assert other.samefile(source)


def test_link_copies_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    assert not (tmp_path / "b").samefile(tmp_path / "a")


def test_copy_does_not_take_over_read_only_permissions(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "a").chmod(0o400)
    files.copy(tmp_path / "a", tmp_path / "b")
    assert os.access(tmp_path / "b", os.W_OK)


def test_walk_finds_nested_files(tmp_path: Path) -> None:
    for name in ("a", "x/b", "x/y/c"):
        files.write_text(tmp_path / name, name)
    assert sorted(Path(entry.path).relative_to(tmp_path).as_posix() for entry in files.walk(tmp_path)) == ["a", "x/b", "x/y/c"]


def test_walk_relative_of_a_folder_whose_name_ends_in_a_separator(tmp_path: Path) -> None:
    for name in ("a", "x/y/c"):
        files.write_text(tmp_path / name, name)

    class Root(type(tmp_path)):  # type: ignore[misc]
        """As the root of a drive, `D:\\`."""

        def __fspath__(self) -> str:
            return f"{super().__fspath__()}{os.sep}"

    root = Root(tmp_path)
    assert sorted(name for name, _ in files.walk_relative(root)) == ["a", "x/y/c"]
    assert FileSet.scan(root).paths == ("a", "x/y/c")
    assert sorted(fingerprint.stat_tree(root).paths) == ["a", "x/y/c"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_walk_does_not_leave_the_folder_by_a_link(tmp_path: Path) -> None:
    files.write_text(tmp_path / "outside" / "a", "a")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    assert list(files.walk(tmp_path / "inside")) == []


@pytest.mark.parametrize("path", ["D:evil.jpg", "D:/a.jpg", "D:", "c:a/b.jpg", "/a", "a/../b", "a\\b", "", "a\0b"])
def test_paths_that_lead_out_of_their_folder(path: str) -> None:
    assert not is_safe_relative(path)


def test_a_colon_is_part_of_a_name_where_it_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, safe in (("posix", True), ("nt", False)):
        monkeypatch.setattr("pipeline.paths.os.name", system)
        found = is_safe_relative("shots/12:30.jpg")
        monkeypatch.undo()
        assert found == safe


def test_the_ledger_keeps_its_form_and_any_text(tmp_path: Path) -> None:
    account = Ledger()
    account.add("box", "dropped", "zero_area", path="ä\u2028.jpg", file="a.txt", line=3, detail="1\x85\n2")
    account.add("image", "kept", "other")
    account.write(tmp_path)
    expected = [json.dumps(asdict(entry), ensure_ascii=False) for entry in account.entries]
    assert (tmp_path / "ledger.jsonl").read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert ledger.read(tmp_path) == account.entries
