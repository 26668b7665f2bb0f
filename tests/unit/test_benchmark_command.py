"""`benchmark`: what options and params mean, what is listed and refused, the version that is kept, and what Ctrl-C leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline import benchmark_command, cli, images, machine
from pipeline.bench import planning, record
from pipeline.bench.grid import Axes
from pipeline.bench.measure import Planned
from pipeline.bench.settings import Method, quick
from pipeline.benchmark_params import Benchmark
from pipeline.commands import Options, Project
from pipeline.console import Console
from pipeline.errors import ExportError
from tests import bench_loaders, tiny_model
from tests.bench_workspace import describe
from tests.contract.test_runtimes import noise

JSON = dict[str, Any]
REPOSITORY = Path(__file__).parents[2]
FAST = (
    *("benchmark.min_seconds=0.01", "benchmark.min_samples=4", "benchmark.rounds=2", "benchmark.max_rounds=2"),
    *("benchmark.cool_down_s=0", "benchmark.max_uncertainty=1000", "benchmark.max_slowdown=1000"),
)
"""Limits of the method that a test can wait for."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, which nothing loads, and a photo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "mine.pt").write_text("my weights")
    describe(tmp_path / "mine.pt", tmp_path / ".cache")
    images.save(tmp_path / "holiday.png", noise(48, 64, seed=1))
    return tmp_path


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes that measure a stand-in."""

    real = planning._planned

    def planned(cell: planning.Possible, *arguments: Any) -> Planned:
        return replace(real(cell, *arguments), load=partial(bench_loaders.loaded, cell.setting.batch))

    monkeypatch.setattr(planning, "_planned", planned)


def run(*words: str) -> int:
    return cli.main(["benchmark", "--model", "mine.pt", "--images", "holiday.png", "--runtimes", "pytorch", *words])


def parsed(*words: str) -> tuple[Options, Benchmark]:
    options = Options()
    cli._parse(["benchmark", *words], options)
    return options, benchmark_command._wanted(options, Project.open(options))[0]


def axes(*words: str) -> Axes:
    return benchmark_command._axes(parsed(*words)[1])


def method(*words: str) -> Method:
    options, wanted = parsed(*words)
    return benchmark_command._method(wanted, 0, options)


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> JSON:
    assert cli.main(["benchmark", *words, "--list", "--json"]) == 0
    document: JSON = json.loads(capsys.readouterr().out)
    return document


# ---------------------------------------------------------------- options


def test_lists_are_parted_by_commas_and_told_once() -> None:
    cores = machine.usable_cores()
    found = axes(
        *("--imgsz", "320, 640x384,320,384x640,320x320"),
        *("--threads", f"all,{cores + 1},{cores}"),
        *("--batch", "8,1,8"),
        *("--runtimes", "tflite,onnx,litert,ort"),
        *("--devices", "cuda,cpu,cuda:0"),
        *("--precisions", "fp16,fp32,fp16"),
        *("--scenarios", "stream,offline,stream"),
    )
    assert found.imgsz == [(320, 320), (384, 640), (640, 384)], "640x384 is width × height, the record has the height first"
    assert found.threads == [cores, cores + 1]
    assert found.batches == [8, 1]
    assert found.runtimes == ["litert", "onnx"]
    assert found.devices == ["cuda:0", "cpu"]
    assert found.precisions == ["fp16", "fp32"]
    assert found.scenarios == ["stream", "offline"]


def test_what_is_left_out_has_its_default() -> None:
    found = axes()
    assert (found.runtimes, found.precisions, found.imgsz, found.batches) == ([], [], [], [1])
    assert found.threads == [machine.usable_cores()]
    assert found.scenarios == ["single-stream"]
    assert found.devices[0] == "cpu"
    assert axes("--batch", "1,8").scenarios == ["single-stream", "offline"], "batches are for throughput"
    assert axes("--batch", "8", "--scenarios", "stream").scenarios == ["stream"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--runtimes onxx", "Unknown format or runtime 'onxx'.\nDid you mean 'onnx'?"),
        ("--runtimes [onnx", "Unknown format or runtime '[onnx'."),
        ("--runtimes ,", "--runtimes names nothing.\nFor example: --runtimes pytorch,onnx"),
        ("--batch=", "--batch names nothing.\nFor example: --batch 1,8,32\n"),
        ("--imgsz 640x", "benchmark.imgsz.0: expected a whole number or a list, got '640x'"),
        ("--imgsz 320,640x384x3", "benchmark.imgsz.1: expected a whole number or a list, got '640x384x3'"),
        ("--imgsz 100", "must be a multiple of 32, got 100"),
        ("--threads 0", "benchmark.threads.0: must be at least 1, got 0"),
        ("--threads -1", "benchmark.threads.0: must be at least 1, got -1"),
        ("--batch 1,many", "benchmark.batch.1: expected a whole number, got 'many'"),
        ("--scenarios ofline", "expected single-stream, offline or stream, got 'ofline'"),
        ("--precisions fp8", "expected fp32, fp16 or int8, got 'fp8'"),
        ("--tasks depth", "expected detect, segment, classify or pose, got 'depth'"),
        ("--label " + 61 * "x", "benchmark.label: may have at most 60 characters, got 'xxx"),
        ("benchmark.rounds=1", "benchmark.rounds: must be at least 2, got 1"),
        ("--runtime onnx", "`benchmark` has no option '--runtime'.\nDid you mean '--runtimes'?"),
    ],
)
def test_a_mistake_is_told_before_anything_is_looked_for(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "sources", lambda *rest: pytest.fail("looked for models"))
    assert cli.main(["benchmark", *words.split(" ")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_paths_that_are_typed_start_where_they_are_typed_and_those_of_params_beside_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, desk = here / "project", here / "desk"
    for folder, name in ((project, "a.png"), (desk, "b.png")):
        images.save(folder / "photos" / name, noise(48, 64, seed=2))
        (folder / "best.pt").write_text(f"weights in {folder.name}")
        describe(folder / "best.pt", desk / ".cache", imgsz=(32, 32) if folder == project else (64, 64))
    (project / "params.yaml").write_text("benchmark: {model: best.pt, images: [photos], runtimes: [pytorch]}")
    monkeypatch.chdir(desk)
    seen = []
    lay_out = planning.lay_out
    monkeypatch.setattr(
        planning,
        "lay_out",
        lambda found, wanted, inputs, cache: seen.append(inputs.files) or lay_out(found, wanted, inputs, cache),
    )
    params = ("--params", "../project/params.yaml")
    assert listed(capsys, *params)["cells"][0]["imgsz"] == [32, 32]
    assert listed(capsys, *params, "--model", "best.pt")["cells"][0]["imgsz"] == [64, 64]
    assert listed(capsys, *params, "--images", "photos, ../holiday.png")
    assert [[path.name for path in files] for files in seen] == [["a.png"], ["a.png"], ["b.png", "holiday.png"]]


def test_the_command_line_comes_before_params_and_both_before_quick(here: Path) -> None:
    assert method() == Method()
    assert method("--quick") == quick(Method())
    (here / "params.yaml").write_text("benchmark: {min_seconds: 2.5, rounds: 7, runtimes: [onnx], batch: [4]}\nseed: 3\n")
    found = method("--quick", "benchmark.rounds=4")
    assert (found.min_seconds, found.rounds, found.min_samples) == (2.5, 4, quick(Method()).min_samples)
    assert (method().min_seconds, method().rounds, method().min_samples) == (2.5, 7, Method().min_samples)
    assert axes("--batch", "2").batches == [2]
    assert axes("--runtimes", "litert").runtimes == ["litert"]
    assert axes().runtimes == ["onnx"]


def test_what_is_set_to_its_default_is_set_also_with_quick() -> None:
    usual = Method().min_seconds
    assert method("--quick", f"benchmark.min_seconds={usual}").min_seconds == usual != quick(Method()).min_seconds


# ---------------------------------------------------------------- what is listed and refused


def test_the_list_says_what_would_be_measured_and_what_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--model", "mine.pt", "--images", "holiday.png", "--runtimes", "pytorch,onnx", "--precisions", "fp32,int4")
    assert cli.main(["benchmark", *words[:-1], "fp32,fp16", "--list"]) == 0
    out = capsys.readouterr().out
    assert "3 cells would be measured" in out
    assert "1 cell would be skipped\n  pytorch fp16 on cpu: pytorch runs the checkpoint" in out
    document = listed(capsys, *words[:-1], "fp32,fp16", "--threads", "1")
    assert [(cell["runtime"], cell["precision"]) for cell in document["cells"]] == [
        ("pytorch", "fp32"),
        ("onnx", "fp32"),
        ("onnx", "fp16"),
    ]
    assert document["cells"][0]["model"] == "mine/pytorch/fp32/96x96/1"
    [skipped] = document["skipped"]
    assert skipped["reason"].startswith("pytorch runs the checkpoint")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("when", ["before", "after exporting"])
def test_where_nothing_can_be_measured_there_is_one_error_with_all_reasons(
    when: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_up(request: object) -> Path:
        raise ExportError("mine.pt: the exporter gave up.")

    monkeypatch.setattr("pipeline.bench.subjects.export", give_up)
    words = ("--devices", "npu", "--threads", "1,2") if when == "before" else ("--runtimes", "onnx", "--precisions", "fp32,fp16")
    assert run(*words, "--json") == 2
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["message"] == "Nothing of this can be measured here:"
    assert (
        error["problems"]
        == {
            "before": ["pytorch fp32 on npu: 'npu' is no device"],
            "after exporting": [f"onnx {precision} on cpu: mine.pt: the exporter gave up" for precision in ("fp32", "fp16")],
        }[when]
    )
    assert "Traceback" not in said.err
    assert not list(here.glob("runs/benchmark/v*"))


def test_photos_are_numbered_unless_their_names_are_wanted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, wanted = parsed("--images", "holiday.png")
    chosen = benchmark_command._inputs(wanted, here, 0, here, options, Console())
    assert chosen.names == ("image-1.png",)
    options, wanted = parsed("--images", "holiday.png", "--keep-names")
    chosen = benchmark_command._inputs(wanted, here, 0, here, options, Console())
    assert chosen.names == ("holiday.png",)
    assert run("--images", "nowhere") == 2
    assert f"There is no {here / 'nowhere'}." in capsys.readouterr().err


# ---------------------------------------------------------------- what is kept


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_loaded")
def test_a_record_is_a_version_like_any_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*FAST, "--label", "laptop", "--threads", "1,2", "--precisions", "fp32,fp16", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    assert "samples" not in document["record"]["cells"][0]
    made = record.read(here / "runs/benchmark/v1/record.json")
    assert [cell["status"] for cell in made["cells"]].count("skipped") == 2
    assert made["inputs"][0]["name"] == "image-1.png"
    assert (here / "runs/benchmark/v1/record.csv").read_text(encoding="utf-8").count("\n") == 5
    manifest = json.loads((here / "runs/benchmark/v1/manifest.json").read_text(encoding="utf-8"))
    assert manifest["summary"]["record"] == made["id"]
    assert sum(manifest["summary"]["cells"].values()) == 4
    assert manifest["recipe"]["models"]["mine/pytorch/fp32/96x96/1"]["weights"] == "fine-tuned"
    for private in (str(here), "holiday"):
        assert private not in json.dumps(made) + json.dumps(manifest)

    assert run(*FAST, "--label", "laptop", "--threads", "1,2", "--precisions", "fp32,fp16", "--quiet") == 0, "a second record"
    assert run(*FAST, "--label", "other", "--quiet") == 0
    capsys.readouterr()

    def told(*words: str, code: int = 0) -> str:
        assert cli.main(list(words)) == code
        return capsys.readouterr().out

    assert told("versions", "benchmark").count("benchmark@v") == 3
    assert "4 cells: " in told("versions")
    shown = told("show", "benchmark@v1")
    assert "benchmark@v1  4 cells: " in shown
    assert "cells.skipped" in shown
    assert "record.json" in shown
    differs = told("diff", "benchmark@v1", "benchmark@v3")
    assert [line.split() for line in differs.splitlines() if "label" in line] == 2 * [["label", "laptop", "other"]]
    told("tag", "benchmark@v1", "before")
    assert "benchmark@before" in told("tag", "--list")
    assert "laptop" in told("benchmark", "show", "benchmark@before")
    assert "3 versions intact" in told("verify", "benchmark")
    (here / "params.yaml").write_text("seed: 0\n")
    assert "nothing to delete" in told("gc", "--yes"), "records are of use because there are several"

    with (here / "runs/benchmark/v2/record.json").open("a") as stream:
        stream.write(" ")
    broken = told("verify", code=5)
    assert "changed: record.json" in broken
    assert "python -m pipeline benchmark " in broken
    assert "run ..benchmark" not in broken
    assert "deleted 1 version" in told("gc", "--damaged", "--yes")
    assert [path.name for path in sorted(here.glob("runs/benchmark/v*"))] == ["v1", "v3"]


def test_what_makes_a_record_is_said_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "benchmark@v1"]) == 2
    assert capsys.readouterr().err == "error: benchmark has no version yet.\nRun `python -m pipeline benchmark` first.\n"


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_loaded")
def test_tables_remarks_and_what_to_do_next_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--batch", "1,2", "--precisions", "fp32,fp16", "benchmark.max_drift=1000", "benchmark.max_background_load=1")
    assert run(*FAST, *words) == 0
    out = capsys.readouterr().out
    for said in ("p50 [95 %]", "throughput: batches", "(best)", "benchmark@v1: 6 cells: 3 valid, 3 skipped", "benchmark compare"):
        assert said in out
    assert "skipped: pytorch fp16 on cpu: pytorch runs the checkpoint as it was trained, in fp32 (3 cells, the first)" in out


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_loaded")
def test_where_the_disk_is_full_the_figures_are_at_least_shown(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, what: JSON) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record, "write", full)
    assert run(*FAST, "--threads", "1,2", "benchmark.together=1") == 3
    told = capsys.readouterr()
    assert "p50 [95 %]" in told.out
    assert told.err.count("the cells so far cannot be saved (No space left on device)") == 1
    assert "the disk is full" in told.err
    assert not list(here.glob("runs/benchmark/v*"))


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a signal to a group of processes, as a terminal sends it")
def test_after_ctrl_c_the_same_command_goes_on(here: Path) -> None:
    tiny_model.write(here / "tiny.pt", here / ".cache", task="classify")
    command = [sys.executable, "-m", "pipeline", "benchmark", "--model", "tiny.pt", "--images", "holiday.png"]
    command += ["--runtimes", "onnx", "--threads", "1,2,3", *FAST, "benchmark.together=1", "--json"]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, encoding="utf-8", start_new_session=True)

    first = start()
    deadline = time.monotonic() + 120
    while not (found := list(here.glob("runs/.tmp/benchmark-*/record.json"))) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGINT)
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 130, stderr
    assert stderr.rstrip().endswith("interrupted; what was finished is kept, the same command goes on from there")
    assert "Traceback" not in stderr
    partial_record = record.read(found[0])
    assert partial_record["partial_reason"].endswith("of 3 cells are measured")
    assert not list(here.glob("runs/benchmark/v*"))

    second = start()
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 0, stderr
    made = record.read(here / "runs/benchmark/v1/record.json")
    assert not made["partial"]
    assert made["cells"][: len(partial_record["cells"])] == partial_record["cells"], "these very samples"
    assert [cell["threads"] for cell in made["cells"]] == [1, 2, 3]
    assert all(cell["phases"] for cell in made["cells"])
    assert not list(here.glob("runs/.tmp/benchmark-*"))
