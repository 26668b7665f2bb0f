"""The photos of a benchmark: the bundled set, and a user's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline import images
from pipeline.bench import inputs, record, record_schema
from pipeline.errors import DataError, MissingDependency, UsageError


def write(path: Path, shade: int = 0) -> Path:
    images.save(path, np.full((20, 30, 3), shade, np.uint8))
    return path


def test_the_bundled_set_has_real_photos_of_four_sizes(tmp_path: Path) -> None:
    found = inputs.default(tmp_path)
    sizes = [(entry["width"], entry["height"]) for entry in found.entries]
    assert sizes == [(640, 480), (810, 1080), (1280, 720), (1920, 1080)]
    assert found.names == tuple(path.name for path in found.files)
    for path, entry, (width, height) in zip(found.files, found.entries, sizes, strict=True):
        pixels = images.decode(path)
        assert pixels.shape == (height, width, 3)
        assert pixels.std() > 30  # a photo, not an even patch
        assert entry["hash"] == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert entry["bytes"] == path.stat().st_size
        assert not record.mismatch(entry, record_schema.SCHEMA["properties"]["inputs"]["items"])
    assets = inputs._assets()
    assert found.files[1].read_bytes() == (assets / "bus.jpg").read_bytes()
    assert found.files[2].read_bytes() == (assets / "zidane.jpg").read_bytes()


def test_it_is_made_once_alike_everywhere_and_again_when_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = inputs.default(tmp_path / "a")
    assert inputs.default(tmp_path / "b").entries == first.entries
    with monkeypatch.context() as patch:
        patch.setattr(inputs, "_make", lambda *rest: pytest.fail("made again"))
        assert inputs.default(tmp_path / "a") == first
    whole = first.files[0].read_bytes()
    first.files[0].write_bytes(whole[:1000])
    assert inputs.default(tmp_path / "a") == first
    assert first.files[0].read_bytes() == whole


def test_without_ultralytics_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="or give images of your own"):
        inputs.default(tmp_path)


def test_own_images_lose_their_names(tmp_path: Path) -> None:
    sources = [write(tmp_path / "Anna at home.JPG", 10), write(tmp_path / "more" / "Bert.png", 20)]
    found = inputs.own([sources[0], tmp_path / "more"])
    assert found.files == tuple(sources)
    assert found.names == ("image-1.jpg", "image-2.png")
    assert inputs.own(sources, keep_names=True).names == ("Anna at home.JPG", "Bert.png")
    assert found.told == ""
    assert (found.entries[0]["width"], found.entries[0]["height"]) == (30, 20)


def test_of_many_a_seed_chooses_some(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / f"{number:02}.png", number)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    found = inputs.own([tmp_path], seed=3)
    assert len(found.files) == inputs.MOST
    assert list(found.files) == sorted(found.files)
    assert found.told == "16 of 20 images, chosen by chance (seed 3)"
    assert inputs.own([tmp_path], seed=3) == found
    assert inputs.own([tmp_path], seed=4).files != found.files
    named = tmp_path / "19.png"
    assert all(named in inputs.own([tmp_path, named], seed=seed).files for seed in range(5))


def test_what_cannot_be_read_is_told_or_refused(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.png"), tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff and no more")
    found = inputs.own([tmp_path])
    assert found.files == (good,)
    assert found.told.startswith("1 could not be read and were left out, the first: ")
    with pytest.raises(images.UnreadableImage, match=r"bad\.jpg"):
        inputs.own([good, bad])
    good.unlink()
    with pytest.raises(DataError, match="None of 1 images can be read"):
        inputs.own([tmp_path])
    with pytest.raises(UsageError, match=r"There is no .*nowhere"):
        inputs.own([tmp_path / "nowhere"])
    bad.unlink()
    with pytest.raises(DataError, match="No images in"):
        inputs.own([tmp_path])
