"""The short way to a JPEG's header says what Pillow says, or leaves the file to it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import images
from pipeline.images import Header, UnreadableImage, read_header


def made() -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Mode, options of `Image.save`, and whether the short way takes such a file."""
    yield "RGB", {}, True
    yield "L", {}, True
    yield "RGB", {"progressive": True, "optimize": True, "comment": "a comment"}, True
    yield "RGB", {"subsampling": 0, "restart_marker_blocks": 2, "dpi": (300, 300)}, True
    yield "CMYK", {}, False
    yield "RGB", {"icc_profile": b"profile"}, False
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = 6
    yield "RGB", {"exif": exif}, False
    yield "RGB", {"comment": "x" * 5000}, False


def both_ways(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Header | str, Header | str]:
    def told() -> Header | str:
        try:
            return read_header(path)
        except UnreadableImage as error:
            return error.reason

    short = told()
    with monkeypatch.context() as patch:
        patch.setattr(images, "_plain_jpeg", lambda _: None)
        return short, told()


@pytest.mark.parametrize(("mode", "options", "is_plain"), list(made()))
def test_both_ways_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, options: dict[str, Any], is_plain: bool
) -> None:
    path = tmp_path / "x.jpg"
    Image.new(mode, (60, 40)).save(path, **options)
    assert (images._plain_jpeg(path) is not None) == is_plain
    short, pillow = both_ways(path, monkeypatch)
    assert short == pillow


def test_they_agree_on_damaged_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    path = tmp_path / "x.jpg"
    Image.new("RGB", (60, 40)).save(path)
    whole = path.read_bytes()
    for _ in range(500):
        data = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(min(len(data), rng.randrange(3))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        short, pillow = both_ways(path, monkeypatch)
        assert short == pillow, data.hex()
