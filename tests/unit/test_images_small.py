from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.neighbours import near_groups, parse


def photo(folder: Path, width: int, height: int, orientation: int = 1, suffix: str = ".jpg") -> Path:
    coarse = np.random.default_rng(width).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    exif = Image.Exif()
    exif[images.ORIENTATION_TAG] = orientation
    path = folder / f"{width}{suffix}"
    picture.save(path, exif=exif)
    return path


@pytest.mark.parametrize(("width", "height", "factor"), [(640, 480, 8), (401, 200, 4), (257, 130, 2), (100, 90, 1)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_decoded_at_a_fraction_upright_and_looks_the_same(
    tmp_path: Path, width: int, height: int, factor: int, orientation: int
) -> None:
    path = photo(tmp_path, width, height, orientation)
    small, whole = images.decode_small(path), images.decode(path)
    assert small.shape[:2] == tuple(-(-side // factor) for side in whole.shape[:2])
    assert abs(float(small.mean()) - float(whole.mean())) < 2
    assert near_groups(parse([images.dhash(small), images.dhash(whole)]), 1).tolist() == [0, 0]


def test_other_files_are_decoded_whole(tmp_path: Path) -> None:
    assert images.decode_small(photo(tmp_path, 640, 512, suffix=".png")).shape == (512, 640, 3)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = photo(tmp_path, 640, 512)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(images.UnreadableImage):
        images.decode_small(path)


def test_hashes_of_real_photos_are_the_same_within_a_sixty_fourth(shared_data: Path) -> None:
    for path in sorted(shared_data.rglob("*.jpg"))[::4]:
        hashes = parse([images.dhash(images.decode_small(path)), images.dhash(images.decode(path))])
        assert near_groups(hashes, 1).tolist() == [0, 0], path
