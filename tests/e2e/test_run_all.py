"""The whole pipeline: on the default params once, and on a real data set with few pixels and one epoch."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import REPOSITORY, Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, Any]]:
    """A project on the default params after `run all`, and the summaries of its stages."""
    project = Project(tmp_path_factory.mktemp("default"))
    shutil.copy(REPOSITORY / "params.yaml", project.folder)
    done = project.run("run", "all", "--json")
    assert done.returncode == 0, done.stderr
    return project, {stage["stage"]: stage["summary"] for stage in json.loads(done.stdout)["stages"]}


def test_the_detector_is_good_and_its_figures_stand_in_the_manifest(finished: tuple[Project, dict[str, Any]]) -> None:
    project, summaries = finished
    manifest = json.loads((project.folder / "runs/evaluate/v1/manifest.json").read_text(encoding="utf-8"))
    figures = manifest["summary"]
    assert figures == summaries["evaluate"]
    assert figures["map50"] >= 0.85
    assert 0 < figures["map50_95"] < figures["map50"] <= 1
    low, high = figures["ci95"]["map50_95"]
    assert low <= figures["map50_95"] <= high
    assert abs(figures["ultralytics"]["map50"] - figures["map50"]) < 0.05
    assert manifest["recipe"]["inputs"].keys() == {"train", "split"}
    assert summaries["train"]["weights"]["origin"]


def test_every_export_behaves_like_the_checkpoint(finished: tuple[Project, dict[str, Any]]) -> None:
    project, summaries = finished
    assert summaries["export"].keys() == {"onnx", "litert"}
    for record in summaries["export"].values():
        assert record["status"] == "ok"
        assert abs(record["map_drop"]) < 0.001
        assert (project.folder / "runs/export/v1" / record["file"]).stat().st_size == record["size_bytes"]


def test_the_report_is_one_page_that_loads_nothing(finished: tuple[Project, dict[str, Any]]) -> None:
    project, summaries = finished
    page = (project.folder / "runs/report/v1/report.html").read_text(encoding="utf-8")
    assert f"{summaries['evaluate']['map50_95']:.3f}" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#|https?://)[^"]*"', page)
    assert not re.findall(r'src="https?://', page)


def test_a_second_run_does_nothing_and_everything_is_intact(finished: tuple[Project, dict[str, Any]]) -> None:
    project, _ = finished
    again = project.run("run", "all")
    assert "nothing to do" in again.stdout
    assert again.stdout.rstrip().endswith("report.html")
    verified = project.run("verify")
    assert verified.returncode == 0, verified.stdout
    text = "".join(path.read_text(encoding="utf-8") for path in project.folder.glob("*/*/v1/manifest.json"))
    assert str(project.folder) not in text


def test_another_threshold_of_the_gate_runs_the_export_alone(finished: tuple[Project, dict[str, Any]]) -> None:
    project, _ = finished
    plan = json.loads(project.run("run", "all", "--dry-run", "--json", "export.max_map_drop=0.02").stdout)["plan"]
    assert [step["stage"] for step in plan if step["action"] == "run"] == ["export", "report"]
    assert next(step for step in plan if step["stage"] == "export")["reasons"] == ["max_map_drop 0.01 → 0.02"]


def test_predict_uses_the_best_threshold(finished: tuple[Project, dict[str, Any]]) -> None:
    project, summaries = finished
    photos = sorted((project.folder / "datasets/split/v1/images").rglob("*.jpg"))[:2]
    done = project.run("predict", *map(str, photos), "--json")
    document = json.loads(done.stdout)
    assert document["confidence"] == summaries["evaluate"]["confidence"]
    assert sum(len(image["objects"]) for image in document["images"]) > 0


def test_a_benchmark_of_the_export_is_compared_chosen_from_and_shown_in_the_report(
    finished: tuple[Project, dict[str, Any]],
) -> None:
    project, summaries = finished
    limits = "min_seconds=0.1 min_samples=8 rounds=2 max_rounds=2 cool_down_s=0"
    limits += " max_uncertainty=1000 max_drift=1000 max_background_load=1 max_slowdown=1000"
    relaxed = [f"benchmark.{limit}" for limit in limits.split()]

    def measured(label: str, *words: str) -> dict[str, Any]:
        done = project.run("benchmark", "--quick", "--devices", "cpu", "--label", label, *words, *relaxed, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)["record"]
        assert {cell["status"] for cell in document["cells"]} == {"valid"}, done.stderr
        return document

    first = measured("all cores")
    measured("one core", "--threads", "1", "--runtimes", "onnx,litert")
    assert [cell["runtime"] for cell in first["cells"]] == ["pytorch", "onnx", "litert"]
    for cell in first["cells"]:
        model = first["models"][cell["model"]]
        assert cell["phases"].keys() == {"decode", "preprocess", "inference", "postprocess", "end_to_end"}
        assert model["measured_on"].startswith("split@v1 test, ")
        if cell["runtime"] in summaries["export"]:
            assert model["map50_95"] == summaries["export"][cell["runtime"]]["map50_95"]

    compared = project.run("benchmark", "compare", "benchmark@v1", "benchmark@v2", "--json")
    assert compared.returncode == 0, compared.stderr
    assert len(json.loads(compared.stdout)["rows"]) == 2
    assert {path.name for path in (project.folder / "benchmark-comparison").iterdir()} >= {"index.html", "ratios.png"}
    chosen = project.run("benchmark", "recommend", "benchmark@v1", "--target-fps", "0.01", "--min-map", "0.01")
    assert chosen.returncode == 0, chosen.stderr
    assert chosen.stdout.count("← take this") == 1

    again = json.loads(project.run("run", "all", "--json").stdout)["stages"]
    assert [stage["stage"] for stage in again if not stage["reused"]] == ["report"]
    page = (Path(again[-1]["path"]) / "report.html").read_text(encoding="utf-8")
    speed = page[page.index('id="speed"') :]
    for said in ("all cores", "one core", "runs/benchmark/v2/record.json", "pytorch", "onnx", "litert"):
        assert said in speed
    verified = project.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_real_traffic_from_labels_to_onnx(shared_data: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    lines = [
        f"collect: {{source: '{(shared_data / 'traffic-coco').as_posix()}'}}",
        "preprocess: {resize: {mode: long_side, size: 640}}",
        "split: {group_by: []}",
        "train: {epochs: 1, imgsz: 160, batch: 4}",
        "export: {formats: [onnx]}",
    ]
    (tmp_path / "params.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = project.run("run", "all", "--json")
    assert done.returncode == 0, done.stderr
    summaries = {stage["stage"]: stage["summary"] for stage in json.loads(done.stdout)["stages"]}
    assert (summaries["annotate"]["format"], summaries["annotate"]["boxes"]) == ("coco", 324)
    assert summaries["augment"]["images"] == 24
    assert summaries["export"]["onnx"]["status"] == "ok"
