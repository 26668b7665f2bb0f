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


def test_linked_folders_are_followed_and_what_cannot_be_read_is_told(project: Project, tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    make_photos(tmp_path / "elsewhere", 1)
    album = tmp_path / "album"
    album.mkdir()
    (album / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (album / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    done = project.run("predict", str(album), "--model", str(weights), "--json")
    assert done.returncode == 3, "one of them cannot be read"
    gone, linked = json.loads(done.stdout)["images"]
    assert (Path(gone["image"]).name, gone["picture"]) == ("gone.jpg", "")
    assert gone["error"].startswith("cannot be read: No such file")
    assert Path(linked["image"]).relative_to(album).as_posix() == "linked/day 0/photo 0.png"
    assert (project.folder / "predictions" / linked["picture"]).exists()


def test_a_second_run_replaces_the_first(project: Project, tmp_path: Path) -> None:
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    make_photos(tmp_path / "more", 2)
    for photos in ("day 0", "day 1"):
        assert project.run("predict", str(tmp_path / "more" / photos), "--model", str(weights)).returncode == 0
    assert sorted(path.name for path in (project.folder / "predictions").iterdir()) == ["detections.json", "photo 1.jpg"]


def test_names_in_another_script_leave_the_terminal_alone(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model, "NAMES", ("猫", "straße", "$a$"))
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    done = project.run("predict", "photos/day 0", "--model", str(weights), "--confidence", "0.05", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [("run", "all", "device=cuda:99"), ("predict", "photos", "--device", "cuda:99")])
def test_a_device_that_is_not_there_ends_everything_before_it_begins(
    command: tuple[str, ...], project: Project, tmp_path: Path
) -> None:
    weights = tiny_model.write(tmp_path / "tiny.pt", tmp_path / "cache")
    done = project.run(*command, *(("--model", str(weights)) if command[0] == "predict" else ()))
    assert done.returncode == 2, done.stderr
    assert "The device 'cuda:99' is not there" in done.stderr
    assert not list(project.folder.rglob("v1"))


def test_what_cannot_be_predicted_is_named(project: Project) -> None:
    none = project.run("predict", "photos")
    assert (none.returncode, "train has no version yet" in none.stderr) == (2, True)
    missing = project.run("predict", "nowhere.jpg", "--model", "params.yaml")
    assert missing.returncode == 3
    wrong = project.run("predict", "photos", "--model", "params.yaml")
    assert (wrong.returncode, "no runtime runs such a file" in wrong.stderr) == (2, True)
