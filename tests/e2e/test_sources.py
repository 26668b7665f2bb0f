"""From where images come to a trained model: a folder with VOC labels, an export of Roboflow, videos with some labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from tests.packing import zip_of
from tests.roboflow_service import serving

pytestmark = pytest.mark.slow

TINY = [
    "train.epochs=1",
    "train.imgsz=64",
    "train.batch=16",
    "train.optimizer=AdamW",
    "train.lr0=0.002",
    "augment.copies=0",
    "evaluate.bootstrap=20",
    "evaluate.ultralytics=false",
    "train.model=start.pt",
    "device=cpu",
]


@pytest.fixture
def project(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert cli.main(["init", str(tmp_path / "project")]) == 0
    shutil.copy(base / "start.pt", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run(project: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> dict[str, Any]:
    """Run everything up to evaluate; the summary of each stage."""
    capsys.readouterr()
    assert cli.main(["run", "collect..evaluate", "--json", *TINY, *settings]) == 0, capsys.readouterr().err
    stages = {stage["stage"]: stage["summary"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert (project / "runs/train/v1/weights/best.pt").exists()
    assert 0 <= stages["evaluate"]["map50_95"] <= 1
    return stages


def test_a_folder_with_voc_labels(shared_data: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = run(project, capsys, f"collect.source={shared_data / 'bccd-voc'}", "collect.license=MIT")
    assert (stages["collect"]["images"], stages["collect"]["license"]) == (364, "MIT")
    assert (stages["annotate"]["format"], stages["annotate"]["boxes"]) == ("voc", 4886)
    assert stages["evaluate"]["images"] == 72


def test_an_export_of_roboflow(
    shared_data: Path, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("roboflow", reason="needs the extra roboflow")
    export = shared_data / "sharks-yolo"
    with serving(monkeypatch, project) as server:
        server.packed = zip_of(
            {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*") if path.is_file()}
        )
        stages = run(project, capsys, "collect.source=roboflow://mari/sharks-tiny/3", "collect.options={format: yolov8}")
    assert stages["collect"]["license"] == "CC BY 4.0"
    assert (stages["annotate"]["images"], stages["annotate"]["boxes"]) == (10, 60)
    assert stages["annotate"]["splits"] == {"train": 7, "val": 2, "test": 1}


def test_videos_with_labels_for_some_frames(shared_data: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="needs the extra video")
    from tests.videos import make_video, picture

    clips = project.parent / "clips"
    for name, start in (("morning", 0), ("evening", 100)):
        make_video(clips / f"{name}.mp4", map(picture, range(start, start + 60)))
        for frame in range(0, 60, 10):
            (clips / f"{name}_{frame:06d}.txt").write_text("0 0.125 0.5 0.25 1\n1 0.875 0.5 0.25 1\n")
    (clips / "classes.txt").write_text("red\nblue\n")
    shutil.copy(shared_data / "video" / "car-detection.mp4", clips)
    stages = run(project, capsys, f"collect.source=video:{clips}", "collect.options={every_s: 0.4}", "split.group_by=[source]")
    assert stages["collect"]["groups"] == 3
    assert (stages["annotate"]["boxes"], stages["annotate"]["background"]) == (24, stages["annotate"]["images"] - 12)
    assert stages["split"]["groups"] == 3
