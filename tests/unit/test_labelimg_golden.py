"""Files that LabelImg 1.8.6 wrote, in the two formats that it shares with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labelling import Collected

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "labelimg"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def test_voc(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "voc").run()
    assert result.summary["format"] == "voc"
    assert result.boxes() == [
        ("kitchen 1.jpg", "person", 1, 1, 30, 40),  # drawn from 0, 0 to 30.9, 40: LabelImg raises 0 to 1 and cuts decimals off
        ("kitchen 1.jpg", "cat", 12, 8, 47, 31),
        ("salt & pepper.png", "tv", 5, 3, 20, 23),
        ("turned.jpg", "dog", 2, 3, 38, 58),  # EXIF orientation 6: LabelImg shows it upright
    ]
    assert result.dataset.class_names == ("cat", "dog", "person", "tv")
    assert result.dataset.images[["width", "height"]].to_numpy().tolist() == [[16, 16], [60, 40], [32, 24], [40, 60]]
    assert result.summary["background"] == 1
    assert result.entries == []
    assert result.warnings == []
    assert collected.run(options={"difficult": "drop"}).reasons() == {"box dropped: difficult": 1}


def test_yolo(collected: Collected) -> None:
    result = collected.copy(GOLDEN / "yolo").run()
    assert result.summary["format"] == "yolo"
    assert result.dataset.class_names == ("dog", "person", "cat", "tv")
    names = [(path, name) for path, name, *_ in result.boxes()]
    assert names == [("kitchen 1.jpg", "person"), ("kitchen 1.jpg", "cat"), ("salt & pepper.png", "tv")]
    edges = [edges for _, _, *edges in result.boxes()]
    assert edges[0] == pytest.approx([1, 1, 30, 40], abs=60e-6), "six decimals of a fraction of 60 px"
    assert edges[1] == pytest.approx([12, 8, 47, 31], abs=60e-6)
    assert edges[2] == pytest.approx([5, 3, 20, 23], abs=60e-6)
    assert result.summary["background"] == 1
    assert result.entries == []
