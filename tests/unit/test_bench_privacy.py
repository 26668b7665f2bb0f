"""No folder of anybody in a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.measure import blank
from pipeline.bench.privacy import without_places
from tests.bench_loaders import setting


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot load /home/ann/models/best.onnx: it is damaged", "cannot load best.onnx: it is damaged"),
        (r"C:\Users\ann\best.onnx takes 1 × 640x640 px", "best.onnx takes 1 × 640x640 px"),
        ("'/srv/a/b.engine' and \"/x/y.json\"", "'b.engine' and \"y.json\""),
        ("~/models/best.onnx", "best.onnx"),
        ("file:///home/ann/a.onnx", "file:a.onnx"),
        ("(1, 3, 640, 640) and 4/5 of 3 m/s, no path", "(1, 3, 640, 640) and 4/5 of 3 m/s, no path"),
        ("and/or", "and/or"),
    ],
)
def test_the_way_to_a_file_is_dropped_and_its_name_kept(text: str, kept: str) -> None:
    assert without_places(text) == kept


def test_known_folders_may_have_blanks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "Ann Example"
    home.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)
    told = without_places(f"cannot load {home / 'my models' / 'best.onnx'}")
    assert "Ann" not in told
    assert told.endswith("best.onnx")


def test_reasons_of_cells_have_none() -> None:
    cell = blank(setting(), "failed", ["cannot load /home/ann/best.onnx"])
    assert cell["reasons"] == ["cannot load best.onnx"]
