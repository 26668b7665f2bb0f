from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from blake3 import blake3

from pipeline import fingerprint
from pipeline.errors import DataError
from pipeline.fingerprint import FolderIndex


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name in ("a.jpg", "sub/b.jpg", ".git/config"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        _age(path)
    return source


def _age(path: Path, seconds: float = 100) -> None:
    old = time.time() - seconds
    os.utime(path, (old, old))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose bytes were read, in order."""
    names: list[str] = []
    original = fingerprint.of_file

    def spy(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(fingerprint, "of_file", spy)
    # Files of this test are seconds old by ctime, which cannot be set.
    monkeypatch.setattr(fingerprint, "RACY_NS", -10_000_000_000)
    return names


def test_key_order_does_not_matter_and_defaults_count() -> None:
    assert fingerprint.of_value({"a": 1, "b": 2}) == fingerprint.of_value({"b": 2, "a": 1})
    assert fingerprint.of_value({"a": 1}) != fingerprint.of_value({"a": 1, "b": None})


@pytest.mark.parametrize("size", [0, 10, (1 << 20) + 1])
def test_file_hash_is_blake3(tmp_path: Path, size: int) -> None:
    (tmp_path / "f").write_bytes(bytes(size))
    assert fingerprint.of_file(tmp_path / "f") == blake3(bytes(size)).hexdigest()


def test_checksums_round_trip_with_odd_names() -> None:
    hashes = {"a  b.jpg": "0" * 64, "ä/ö.png": "1" * 64, "a\u2028b\x85.jpg": "2" * 64}
    assert fingerprint.parse_checksums(fingerprint.checksums_text(hashes)) == hashes


def test_nothing_is_read_when_nothing_changed(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    assert sorted(hashed) == ["a.jpg", "b.jpg"]
    hashed.clear()
    assert index.digest(folder) == first
    assert index.hashes(folder)[0].keys() == {"a.jpg", "sub/b.jpg"}
    assert hashed == []


def test_only_the_new_file_is_read(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    hashed.clear()
    (folder / "c.jpg").write_text("c")
    assert index.digest(folder) != first
    assert hashed == ["c.jpg"]


def test_an_edit_of_the_same_size_and_mtime_is_seen(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    (folder / "a.jpg").write_text("A.jpg")
    _age(folder / "a.jpg")
    assert index.digest(folder) != first


def test_a_file_written_just_now_is_not_trusted(tmp_path: Path, folder: Path) -> None:
    index = FolderIndex(tmp_path / "cache")
    index.digest(folder)
    assert not list((tmp_path / "cache" / "index").glob("*.head"))


def test_renaming_changes_the_digest_and_equal_trees_share_it(tmp_path: Path, folder: Path) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    (folder / "a.jpg").rename(folder / "z.jpg")
    assert index.digest(folder) != first
    (folder / "z.jpg").rename(folder / "a.jpg")
    assert index.digest(folder) == first


def test_damaged_index_files_are_rebuilt(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    for path in (tmp_path / "cache" / "index").iterdir():
        path.write_text("{torn")
    assert index.digest(folder) == first


def test_missing_and_empty_folders_are_data_errors(tmp_path: Path) -> None:
    index = FolderIndex(tmp_path / "cache")
    with pytest.raises(DataError, match="no folder"):
        index.digest(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        index.digest(tmp_path / "empty")


def test_the_order_of_the_listing_makes_no_difference_to_the_digest(
    tmp_path: Path, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FolderIndex(tmp_path / "cache").digest(folder)
    original = fingerprint.stat_tree

    def backwards(folder: Path) -> fingerprint.Tree:
        rows = original(folder).rows()[::-1]
        return fingerprint.Tree([row[0] for row in rows], fingerprint._packed([n for row in rows for n in row[1:]]), [])

    monkeypatch.setattr(fingerprint, "stat_tree", backwards)
    hashed.clear()
    assert FolderIndex(tmp_path / "cache").digest(folder) == first
    assert hashed == []
    assert FolderIndex(tmp_path / "other").digest(folder) == first


def test_the_state_sees_every_number_and_name() -> None:
    states = {
        fingerprint.Tree(paths, fingerprint._packed(numbers), dangling).state()
        for paths, numbers, dangling in [
            (["a", "b"], [1, 2, 3, 4, 5, 6, 7, 8], []),
            (["a", "b"], [1, 2, 3, 4, 5, 6, 7, 9], []),
            (["a", "c"], [1, 2, 3, 4, 5, 6, 7, 8], []),
            (["a", "b"], [1, 2, 3, 4, 5, 6, 7, 8], ["c"]),
            (["a"], [1, 2, 3, 4], ["b"]),
        ]
    }
    assert len(states) == 5


def test_inodes_beyond_63_bits_are_kept_as_far_as_they_go() -> None:
    assert list(fingerprint._packed([1, 2, 3, (1 << 64) + 5])) == [1, 2, 3, 5]


def test_what_was_hashed_before_an_interruption_is_not_hashed_again(
    tmp_path: Path, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(n: int = 1) -> None:
        raise KeyboardInterrupt

    bars: list[tuple[str, int]] = []

    def progress(label: str, total: int) -> nullcontext[object]:
        bars.append((label, total))
        return nullcontext(interrupt)  # type: ignore[arg-type]

    index = FolderIndex(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        index.digest(folder, progress)  # type: ignore[arg-type]
    assert bars == [("hash source", 2)]
    hashed.clear()
    whole = index.digest(folder)
    assert hashed == ["b.jpg"]
    assert whole == FolderIndex(tmp_path / "other").digest(folder)
    assert index.digest(folder, progress) == whole  # type: ignore[arg-type]
    assert len(bars) == 1  # no bar where nothing is read


def test_a_single_file_is_read_once(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    path = folder / "a.jpg"
    first = index.file_digest(path)
    assert first == blake3(b"a.jpg").hexdigest()
    assert FolderIndex(tmp_path / "cache").file_digest(path) == first
    assert hashed == ["a.jpg"]
    path.write_text("A.jpg")
    _age(path)
    assert index.file_digest(path) == blake3(b"A.jpg").hexdigest()


def test_a_single_file_written_just_now_is_not_trusted(tmp_path: Path, folder: Path) -> None:
    FolderIndex(tmp_path / "cache").file_digest(folder / "a.jpg")
    assert not (tmp_path / "cache" / "index").exists()


posix_names = pytest.mark.skipif(sys.platform == "win32", reason="the file system does not take such names, or links need rights")


@posix_names
def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "c.jpg").write_text("c")
    (outside / "deep" / "up").symlink_to(outside)
    (folder / "linked").symlink_to(outside)
    (folder / "sub" / "self").symlink_to(folder)
    (folder / "file.jpg").symlink_to(outside / "deep" / "c.jpg")
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "loop").symlink_to(folder / "loop")
    index = FolderIndex(tmp_path / "cache")
    hashes, dangling = index.hashes(folder)
    assert list(hashes) == ["a.jpg", "file.jpg", "linked/deep/c.jpg", "sub/b.jpg"]
    assert dangling == ["gone.jpg", "loop"]
    before = index.digest(folder)
    (folder / "gone.jpg").unlink()
    assert index.digest(folder) != before


@posix_names
@pytest.mark.parametrize("name", ["a\nb.jpg", "a\x1b.jpg", "a\x7f.jpg", "a\x85.jpg", "a\u2028.jpg", "a\u2029.jpg"])
def test_names_that_no_list_can_hold_are_refused(tmp_path: Path, folder: Path, name: str) -> None:
    (folder / "sub" / name).write_text("x")
    with pytest.raises(DataError) as caught:
        FolderIndex(tmp_path / "cache").digest(folder)
    assert caught.value.problems == (ascii(f"sub/{name}"),)
    assert "Rename" in caught.value.hint


@posix_names
def test_unusual_but_plain_names_are_taken(tmp_path: Path, folder: Path) -> None:
    names = ["a\u00a0b.jpg", "👩\u200d🚀.jpg", "ä.jpg"]
    for name in names:
        (folder / name).write_text("x")
    assert set(names) < FolderIndex(tmp_path / "cache").hashes(folder)[0].keys()


@posix_names
def test_a_folder_that_cannot_be_read_is_a_data_error(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match="cannot be listed"):
        FolderIndex(tmp_path / "cache").digest(folder)


def test_a_source_file_that_cannot_be_read_is_a_data_error_that_blames_the_source(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fingerprint.of_file

    def refuse(path: Path) -> str:
        if path.name == "b.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(fingerprint, "of_file", refuse)
    index = FolderIndex(tmp_path / "cache")
    with pytest.raises(DataError, match=r"sub.b\.jpg cannot be read: Permission denied\.\nCheck who may read"):
        index.digest(folder)
    with pytest.raises(DataError, match=r"b\.jpg cannot be read: Permission denied\."):
        index.file_digest(folder / "sub" / "b.jpg")
    assert fingerprint.of_readable_files([folder / "a.jpg", folder / "sub" / "b.jpg"]) == [original(folder / "a.jpg"), ""]


def test_paths_in_messages_are_written_as_one_would_write_them(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        FolderIndex(tmp_path / "cache").digest(folder / "sub" / ".." / "nothing")
    assert caught.value.message == f"There is no folder {folder.resolve() / 'nothing'}."
