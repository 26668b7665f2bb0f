from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import images
from tests import tiny_model
from tests.e2e.project import Project, make_photos

pytestmark = pytest.mark.slow


def test_pictures_and_boxes_of_any_photo(project: Project, tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    make_photos(tmp_path / "more", 2)
    done = project.run("predict", str(tmp_path / "more"), "--model", str(weights), "--confidence", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [Path(row["image"]).name for row in document["images"]] == ["photo 0.png", "photo 1.png"]
    for row in document["images"]:
        picture = images.decode(project.folder / "predictions" / row["picture"])
        assert picture.shape == (90, 120, 3)
        for item in row["objects"]:
            x1, y1, x2, y2 = item["box"]
            assert 0 <= x1 < x2 <= 120
            assert 0 <= y1 < y2 <= 90
    assert json.loads((project.folder / "predictions" / "detections.json").read_text(encoding="utf-8")) == document["images"]


def test_what_cannot_be_predicted_is_named(project: Project) -> None:
    none = project.run("predict", "photos")
    assert (none.returncode, "train has no version yet" in none.stderr) == (2, True)
    missing = project.run("predict", "nowhere.jpg", "--model", "params.yaml")
    assert missing.returncode == 3
    wrong = project.run("predict", "photos", "--model", "params.yaml")
    assert (wrong.returncode, "no runtime runs such a file" in wrong.stderr) == (2, True)
