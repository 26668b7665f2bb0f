from __future__ import annotations

import os
import time
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
    hashes = {"a  b.jpg": "0" * 64, "ä/ö.png": "1" * 64}
    assert fingerprint.parse_checksums(fingerprint.checksums_text(hashes)) == hashes


def test_nothing_is_read_when_nothing_changed(tmp_path: Path, folder: Path, hashed: list[str]) -> None:
    index = FolderIndex(tmp_path / "cache")
    first = index.digest(folder)
    assert sorted(hashed) == ["a.jpg", "b.jpg"]
    hashed.clear()
    assert index.digest(folder) == first
    assert index.hashes(folder).keys() == {"a.jpg", "sub/b.jpg"}
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
