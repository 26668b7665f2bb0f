"""Which photos `predict` takes, and what it calls its pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import images, predicting
from pipeline.errors import DataError, UsageError


def photo(path: Path) -> Path:
    images.save(path, np.full((8, 8, 3), 90, dtype=np.uint8))
    return path


def found(*sources: Path, base: Path) -> list[str]:
    return [path.relative_to(base).as_posix() for path in predicting.find_photos(sources)]


def test_folders_are_searched_and_files_taken_once(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/1.png", "a.jpg", "b/.hidden/3.jpg", "b/._1.png"):
        photo(tmp_path / name)
    (tmp_path / "b" / "labels.txt").write_text("0 0 0 0 0", encoding="utf-8")
    assert found(tmp_path / "b", tmp_path / "a.jpg", tmp_path / "b" / "1.png", base=tmp_path) == ["b/1.png", "b/2.JPG", "a.jpg"]
    with pytest.raises(DataError, match="no image in"):
        predicting.find_photos([tmp_path / "b" / "labels.txt"])


def test_linked_folders_are_followed_without_going_round(tmp_path: Path) -> None:
    photo(tmp_path / "elsewhere" / "day" / "1.jpg")
    photo(tmp_path / "photos" / "0.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "day" / "back").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / "self").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "single.jpg").symlink_to(tmp_path / "elsewhere" / "day" / "1.jpg")
    assert found(tmp_path / "photos", base=tmp_path) == ["photos/0.jpg", "photos/more/day/1.jpg", "photos/single.jpg"]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    assert found(tmp_path / "photos", base=tmp_path) == ["photos/gone.jpg"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs permissions that count")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(DataError, match="cannot be listed"):
        predicting.find_photos([tmp_path])


def test_pictures_have_names_of_their_own_on_every_file_system(tmp_path: Path) -> None:
    photos = [Path(name) for name in ("a/x.jpg", "b/X.png", "c/x-2.jpg", "d/x.jpg")]
    assert predicting._picture_names(photos, tmp_path) == ["x.jpg", "X-2.jpg", "x-2-2.jpg", "x-3.jpg"]


def test_a_photo_is_never_overwritten(tmp_path: Path) -> None:
    first = photo(tmp_path / "photos" / "1.jpg")
    before = first.read_bytes()
    with pytest.raises(UsageError, match=r"take the place of photos that are to be read, such as 1\.jpg") as caught:
        predicting.predict(tmp_path / "no.onnx", [first], 0.5, tmp_path / "photos", "cpu", tmp_path, lambda n=1: None)
    assert "--out" in caught.value.hint
    assert first.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    bad = os.fsdecode(b"\xff.jpg")
    assert predicting._picture_names([Path(bad)], tmp_path) == ["\ufffd.jpg"]
