"""The command, called as the command line calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import health_commands
from pipeline.commands import Options
from pipeline.console import Console
from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.errors import DataError, ParamsError, UsageError
from pipeline.ledger import Ledger
from pipeline.metrics import prediction
from tests.labelling import Collected

DEFAULTS: dict[str, Any] = {
    "subject": None,
    "strict": False,
    "fix": False,
    "ignore": [],
    "pictures": None,
    "format": "auto",
    "model": None,
    "detections": None,
    "params": None,
    "workspace": None,
    "overrides": [],
}


def check(*, as_json: bool = False, **options: Any) -> int:
    return health_commands.check(Options(**{**DEFAULTS, **options}), Console(as_json=as_json))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos whose labels have an error, a warning and more."""
    tree = Collected(tmp_path / "photos")
    for name in ("red", "green"):
        tree.image(f"{name}.png", 100, 50 if name == "red" else 60)
    tree.voc("red.xml", "red.png", [("cat", 10, 10, 10, 40), ("cat", 20, 20, 60, 40)])
    tree.voc("green.xml", "green.png", [("cat", 20, 20, 60, 40)], size=(100, 60))
    return tree.files


def publish(workspace: Path, stage: str, number: int, data: Dataset, root: str = "datasets", **inputs: int) -> Path:
    folder = workspace / root / stage / f"v{number}"
    data.save(folder)
    Ledger().write(folder)
    recipe = {"stage": stage, "params": {}, "inputs": {name: {"version": n, "digest": ""} for name, n in inputs.items()}}
    manifest = {"schema": 1, "stage": stage, "version": number, "key": "", "digest": "", "recipe": recipe}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def pets(folder: Path, sides: str = "train val") -> Dataset:
    rows = [{"path": f"{i}.png", "width": 100, "height": 50, "split": side} for i, side in enumerate(sides.split())]
    tree = Collected(folder)
    for row in rows:
        tree.image(str(row["path"]))
    return Dataset.from_rows(["cat"], rows, [(i, 0, 10, 10, 40, 40) for i in range(len(rows))])


def test_people_see_what_where_and_what_to_do(workspace: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(subject=str(photos)) == 0
    text = capsys.readouterr().out
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == f"{photos} (voc): 2 images, 2 boxes"
    error = next(number for number, line in enumerate(lines) if line.startswith("XX  box_zero_area"))
    assert lines[error].endswith("1  Boxes without width or height")
    assert lines[error + 1].startswith("red.xml:")
    assert lines[error + 2] == "→ Draw them again, or delete them."
    assert any(line.startswith("!!  image_blank") for line in lines)
    assert lines[-1].startswith("1 error, ")
    assert text.index("XX  ") < text.index("!!  ") < text.index("class_balance")


def test_what_label_files_say_cannot_steer_the_terminal(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Collected(tmp_path / "coco").image("a.png")
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30]}
    tree.coco("a.json", [image], [box], [{"id": 1, "name": "\x1b[2Jcat\nXX  no_such_code"}])
    check(subject=str(tree.files))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert not any(line.startswith("XX") for line in text.splitlines())
    assert "cat" in text


def test_strict_fails_on_errors_only_and_ignored_codes_are_none(workspace: Path, photos: Path) -> None:
    assert check(subject=str(photos), strict=True) == 3
    assert check(subject=str(photos), strict=True, ignore=["box_zero_area"]) == 0


def test_json_is_one_document(workspace: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(subject=str(photos), as_json=True, pictures=workspace / "out")
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["error"] == 1
    assert (document["images"], document["boxes"]) == (2, 2)
    first = document["findings"][0]
    assert (first["code"], first["severity"], first["count"], first["picture"]) == (
        "box_zero_area",
        "error",
        1,
        "box_zero_area.png",
    )
    assert first["items"][0]["file"] == "red.xml"
    assert (workspace / "out" / first["picture"]).exists()


def test_params_are_read_where_there_are_any(workspace: Path, photos: Path) -> None:
    (workspace / "params.yaml").write_text("split: {duplicate_distance: 99}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match="duplicate_distance"):
        check(subject=str(photos))
    (workspace / "params.yaml").write_text("health: {ignore: [box_zero_area]}\n", encoding="utf-8")
    assert check(subject=str(photos), strict=True) == 0
    (workspace / "params.yaml").unlink()
    assert check(subject=str(photos), strict=True) == 3
    with pytest.raises(ParamsError, match="no code"):
        check(subject=str(photos), ignore=["box_zero"])


def codes(capsys: pytest.CaptureFixture[str], **options: Any) -> set[str]:
    check(as_json=True, **options)
    return {found["code"] for found in json.loads(capsys.readouterr().out)["findings"]}


def test_the_command_line_says_how_a_folder_is_imported_with_params_and_without(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Collected(tmp_path / "turned").image("a.jpg", orientation=6)
    tree.voc("a.xml", "a.jpg", [("cat", 10, 10, 30, 30)], size=None)
    for _ in range(2):
        assert "exif_undecided" in codes(capsys, subject=str(tree.files))
        assert "exif_undecided" not in codes(capsys, subject=str(tree.files), overrides=["annotate.frame=stored"])
        (workspace / "params.yaml").write_text("annotate: {classes: {keep: [dog]}}\n", encoding="utf-8")  # for other photos


def test_the_params_say_how_the_projects_own_images_are_imported(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Collected(tmp_path / "own").image("a/red.png").image("b/green.png", 100, 60)
    tree.voc("a/red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30]}
    tree.coco("b/c.json", [{"id": 1, "file_name": "green.png", "width": 100, "height": 60}], [box], [{"id": 1, "name": "dog"}])
    collected = str(tree.close())
    assert "labels_unusable" in codes(capsys, subject=collected)
    text = f"collect: {{source: {json.dumps(str(tree.files))}}}\nannotate: {{sources: [{{folder: a}}, {{folder: b}}]}}\n"
    (workspace / "params.yaml").write_text(text, encoding="utf-8")
    for subject in (collected, str(tree.files)):
        assert "labels_unusable" not in codes(capsys, subject=subject)
    tree.text("a/red.xml", "<annotation>")
    (workspace / "params.yaml").write_text(text.replace("annotate: {", "annotate: {on_invalid: error, "), encoding="utf-8")
    check(subject=str(shutil.copytree(tree.files / "b", tmp_path / "other")))
    assert "(coco): 1 image," in capsys.readouterr().out  # another folder knows nothing of the project's sources


def test_fixing_tells_what_was_mended_and_not_what_the_user_left_out(
    workspace: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Collected(photos.parent)
    tree.voc("green.xml", "green.png", [("cat", 20, 20, 60, 40), ("dog", 1, 1, 9, 9), ("cat", 70, 20, 130, 40)], size=(100, 60))
    tree.voc("gone.xml", "gone.png", [("cat", 1, 1, 9, 9)])
    text = f"collect: {{source: {json.dumps(str(photos))}}}\nannotate: {{classes: {{keep: [cat]}}}}\n"
    (workspace / "params.yaml").write_text(text, encoding="utf-8")
    assert check(fix=True) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    told = [line for line in lines if " × " in line]
    assert told == ["1 × box clipped: out_of_bounds", "1 × box dropped: zero_area"]
    assert any(line.startswith("XX  label_without_image") for line in lines)
    assert "gone.xml (gone.png)" in lines


def test_the_latest_split_is_examined_unless_told(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no version to check"):
        check()
    data = pets(workspace / "photos")
    for stage, number in (("annotate", 1), ("split", 1), ("split", 2)):
        shutil.copytree(workspace / "photos" / "files", publish(workspace, stage, number, data) / "images")
    check()
    assert capsys.readouterr().out.startswith("split@v2: 2 images, 2 boxes")
    check(subject="annotate")
    assert capsys.readouterr().out.startswith("annotate@v1: ")
    check(subject="datasets/split/v1")
    assert capsys.readouterr().out.startswith("datasets/split/v1: ")


def test_what_cannot_be_examined_is_refused_with_the_reason(workspace: Path, photos: Path) -> None:
    publish(workspace, "train", 1, pets(workspace / "photos"), "runs")
    (workspace / "runs" / "train" / "v1" / "images.parquet").unlink()
    for wanted, error, text in (
        ("../gone", DataError, "no folder"),
        ("splitt", UsageError, "Unknown stage 'splitt'"),
        ("train@v1", UsageError, "holds no images"),
    ):
        with pytest.raises(error, match=text):
            check(subject=wanted)
    with pytest.raises(UsageError, match="lies in the data set itself"):
        check(subject=str(photos), pictures=photos / "pictures")
    with pytest.raises(UsageError, match="exclude each other"):
        check(subject=str(photos), model="a.pt", detections="b.parquet")
    with pytest.raises(DataError, match=r"There is no file gone\.pt"):
        check(subject=str(photos), model="gone.pt")


def test_labels_are_held_against_an_evaluation_of_the_split_that_it_measured(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pets(workspace / "photos", "train val val")
    for number in (1, 2):
        shutil.copytree(workspace / "photos" / "files", publish(workspace, "split", number, data) / "images")
    evaluate = publish(workspace, "evaluate", 1, data, "runs", split=1, train=1)
    cat = (10.0, 10.0, 40.0, 40.0)
    seen = [Detections.make([cat, (50, 5, 90, 45)], [0.9, 0.8], [0, 0])] * 3
    prediction.as_table(data, seen, np.array([0])).to_parquet(evaluate / "detections.parquet")
    check(detections="evaluate@v1", as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["subject"] == "split@v1"
    (missing,) = [found for found in document["findings"] if found["code"] == "model_missing_box"]
    assert (missing["count"], missing["items"][0]["marks"][0]["box"]) == (3, [50, 5, 90, 45])
    check(subject="split@v2", detections=str(evaluate / "detections.parquet"))
    assert "model_missing_box" in capsys.readouterr().out


def test_the_page_shows_what_is_really_said(
    workspace: Path, shared_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(health_commands.__file__).parents[1] / "docs" / "health.md").read_text(encoding="utf-8")
    shown = [line.strip() for line in page.partition("```text\n")[2].partition("```")[0].splitlines()]
    monkeypatch.chdir(shared_data / "exif")
    check(subject="../bccd-voc", workspace=workspace)
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in shown if line != "…"] == [line for line in said if line in shown]
