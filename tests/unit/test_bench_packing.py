"""A pack is made, travels, and runs where there is nothing but Python, numpy and ONNX Runtime."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import zipfile
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import benchmark_command
from pipeline.bench import inputs, packing, record, subjects
from pipeline.bench.planning import Artifact, Source
from pipeline.commands import Options
from pipeline.console import Console
from pipeline.errors import ParamsError, UsageError
from tests import bench_loaders, tiny_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SIZE = (tiny_model.IMGSZ, tiny_model.IMGSZ)
MOST_BYTES = 60_000_000
FAST = replace(bench_loaders.FAST, min_samples=8, rounds=2, max_rounds=2)
PLAN = packing.Plan(threads=(1,), method=FAST)

# Runs at the start of every Python process, of those that measure too: only what a bare machine has can be imported.
ONLY = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Only:
    @staticmethod
    def find_spec(name, path=None, target=None):
        known = name.partition('.')[0] in {*sys.stdlib_module_names, *%r}
        return PathFinder.find_spec(name, path, target) if known else None
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Only]
"""
BARE = ("pipeline", "numpy", "onnxruntime", "flatbuffers", "google", "packaging")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    root = tmp_path_factory.mktemp("models")
    found = []
    for task in subjects.TASKS:
        path = tiny_model.write(root / f"tiny-{task}.pt", root / "cache", task=task)
        found.append(Source(subjects.find(str(path), task, root / "cache", root)))
    return found


@pytest.fixture(scope="module")
def cache(models: list[Source]) -> Path:
    return models[0].model.path.parent / "cache"


@pytest.fixture(scope="module")
def archive(models: list[Source], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packs") / "benchmark-pack.zip"
    pictures = inputs.default(cache)
    advanced: list[int] = []
    size = packing.write(target, models, pictures, PLAN, cache, advanced.append)
    assert size == target.stat().st_size
    assert sum(advanced) == packing.steps(models, pictures, PLAN) == 4 + 4
    return target


@pytest.fixture
def folder(archive: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "pack")
    return tmp_path / "pack"


def run(folder: Path, *arguments: str, modules: tuple[str, ...] = BARE) -> subprocess.CompletedProcess[str]:
    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(ONLY % (modules,), encoding="utf-8")
    kept = {
        name: value for name, value in os.environ.items() if name in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR", "LD_LIBRARY_PATH")
    }
    environment = {**kept, "PYTHONPATH": str(site), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "run_benchmark.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=600, check=False)


def test_four_tasks_are_small_enough_to_travel(archive: Path) -> None:
    # The sizes do not depend on the input, but the official classifier has 1,000 classes and not 3: 5 MB more.
    assert archive.stat().st_size < MOST_BYTES - 6_000_000


def test_equal_contents_are_equal_bytes_and_tell_nothing_of_this_machine(
    archive: Path, models: list[Source], cache: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.zip"
    packing.write(again, models, inputs.default(cache), PLAN, cache)
    assert again.read_bytes() == archive.read_bytes()
    private = [str(ROOT), str(cache.parent), str(Path.home()), socket.gethostname()]
    private += [getpass.getuser()] if len(getpass.getuser()) > 4 else []  # "root" is a word too
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for name in names:
            content = packed.read(name)
            assert not [word for word in private if len(word) > 4 and word.encode() in content], name


def test_it_measures_with_numpy_and_one_runtime_alone(folder: Path) -> None:
    done = run(folder, "--label", "bare", "--devices", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images: numpy, as OpenCV" in done.stdout
    assert "openvino: missing. " in done.stdout
    assert "-m pip install openvino" in done.stdout
    found = record.read(folder / "results" / "record.json")
    measured = {cell["task"]: cell for cell in found["cells"] if cell["phases"]}
    assert set(measured) == set(subjects.TASKS)
    for cell in measured.values():
        assert set(cell["phases"]) == {"decode", "preprocess", "inference", "postprocess", "end_to_end"}
        assert cell["rounds"] == [4, 4]  # each of the four photos once a round
    assert {cell["runtime"] for cell in found["cells"] if cell["status"] == "skipped"} == {"openvino", "engine"}
    assert (found["label"], found["partial"], found["method"]["image_library"]) == ("bare", False, "numpy")
    assert found["inputs"] == [dict(entry) for entry in inputs.default(folder.parent / "cache").entries]
    model = found["models"]["tiny-detect/onnx/fp32/96x96/1"]
    assert (model["weights"], model["task"]) == ("fine-tuned", "detect")
    assert model["parameters"] > 2_000_000
    table = (folder / "results" / "summary.txt").read_text(encoding="utf-8")
    assert table in done.stdout.replace("\r\n", "\n")
    assert "tiny-classify" in table
    text = (folder / "results" / "record.json").read_text(encoding="utf-8")
    assert not [word for word in (str(folder), str(Path.home()), socket.gethostname()) if len(word) > 4 and word in text]


def test_a_record_that_is_finished_is_kept(folder: Path) -> None:
    arguments = ("--runtimes", "ort", "--devices", "cpu")
    for _ in range(2):
        done = run(folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    newest, *before = sorted((folder / "results").glob("record*.json"), key=lambda path: -path.stat().st_mtime_ns)
    assert newest.name == "record.json"
    assert [path.stem for path in before] == [f"record-{record.read(before[0])['id']}"]
    assert f"The record of before is now {before[0].name}." in done.stdout


def test_it_lists_without_measuring_and_says_what_is_wrong(folder: Path) -> None:
    listed = run(folder, "--list", "--threads", "1,all,1")
    assert listed.returncode == 0, listed.stderr
    assert "detect, onnx fp32, cpu, 1 thread, 96 px" in listed.stdout
    assert not (folder / "results").exists()
    for arguments, code, words in (
        (("--runtimes", "onyx"), 2, "Error: 'onyx' runs nothing of this pack.\nDid you mean 'onnx'?"),
        (("--runtimes", "openvino"), 2, "Nothing can be measured here"),
        (("--threads", "many"), 2, "'many': give whole numbers or all"),
    ):
        done = run(folder, *arguments)
        assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    model = next((folder / "models").glob("*cls*"), None) or next((folder / "models").glob("*classify*"))
    model.write_bytes(model.read_bytes()[:-1])
    done = run(folder, "--list")
    assert done.returncode == 3
    assert f"models/{model.name}: damaged, its hash differs" in done.stdout


def test_it_writes_its_source_out(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "--source", str(tmp_path / "source"))
    assert done.returncode == 0, done.stderr
    for name in ("__init__.py", "bench/timing.py", "templates/run_benchmark.py"):
        assert (tmp_path / "source" / "pipeline" / name).read_bytes() == (ROOT / "pipeline" / name).read_bytes()


def test_what_python_must_have_is_said_in_a_line(folder: Path) -> None:
    without = run(folder, modules=("pipeline",))
    assert (without.returncode, without.stderr.strip()) == (
        1,
        f"numpy is missing. Install it: {sys.executable} -m pip install numpy",
    )
    code = "import sys; sys.version_info = (3, 9, 1); exec(open('run_benchmark.py', encoding='utf-8').read())"
    old = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert (old.returncode, old.stderr.strip()) == (1, "Python 3.11 or newer is needed, and this is Python 3.9.")


def test_what_travels_is_what_the_cells_run(models: list[Source]) -> None:
    def variants(**changes: object) -> list[tuple[str, tuple[int, int], int]]:
        return list(packing._variants(models[0], replace(PLAN, **changes)))

    assert variants() == [("fp32", SIZE, 1)]
    assert variants(batches=(8, 1)) == [("fp32", SIZE, 1)]  # one image at a time
    both = {"scenarios": ("single-stream", "offline"), "batches": (8,), "imgsz": ((64, 64),)}
    assert variants(**both) == [("fp32", (64, 64), 1), ("fp32", (64, 64), 8)]
    assert variants(precisions=("fp16",)) == [("fp16", SIZE, 1), ("fp32", SIZE, 1)]  # of which OpenVINO's is made
    assert variants(precisions=("fp16",), runtimes=("onnx", "engine")) == [("fp16", SIZE, 1)]


def test_an_exported_artifact_travels_with_its_accuracy(models: list[Source], cache: Path, tmp_path: Path) -> None:
    made = tmp_path / "best.onnx"
    made.write_bytes(subjects.export(subjects.Request(models[0].model, "onnx", imgsz=SIZE, cache=cache)).read_bytes())
    artifact = Artifact(replace(models[0].model, path=made), SIZE, 1, 0.4, 0.6, "split v1 test, 12 images")
    path, about = packing._onnx(Source(models[0].model, {("onnx", "fp32"): artifact}), "fp32", SIZE, 1, cache)
    assert path == made
    assert (about["map50_95"], about["map50"], about["measured_on"]) == (0.4, 0.6, "split v1 test, 12 images")


def test_what_cannot_travel_is_refused(models: list[Source], cache: Path, tmp_path: Path) -> None:
    pictures, target = inputs.default(cache), tmp_path / "pack.zip"
    for plan, words in (
        (replace(PLAN, runtimes=("onnx", "litert")), "litert: no runtime that a pack can carry"),
        (replace(PLAN, precisions=("int8",)), "int8: no precision that a pack can carry"),
    ):
        with pytest.raises(ParamsError, match=words):
            packing.write(target, models, pictures, plan, cache)
    with pytest.raises(ParamsError, match="There is no model to pack"):
        packing.write(target, [], pictures, PLAN, cache)
    with pytest.raises(ParamsError, match="Two models are called tiny-detect"):
        packing.write(target, [models[0], models[0]], pictures, PLAN, cache)
    made = subjects.export(subjects.Request(models[0].model, "onnx", imgsz=SIZE, cache=cache))
    onnx = subjects.find(str(made), "detect", cache, tmp_path)
    with pytest.raises(UsageError, match="takes 1 × 96x96 px, and not 1 × 64x64 px"):
        packing.write(target, [Source(onnx)], pictures, replace(PLAN, imgsz=[(64, 64)]), cache)
    assert not target.exists()


def test_the_command_packs_what_params_and_options_say(
    models: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def write(target: Path, sources: Any, pictures: Any, plan: packing.Plan, *rest: object) -> int:
        seen.update(target=target, names=[source.model.name for source in sources], plan=plan)
        return 47_000_000

    monkeypatch.setattr(packing, "write", write)
    monkeypatch.chdir(tmp_path)
    parser = ArgumentParser()
    benchmark_command.add_pack_options(parser)
    path = str(models[0].model.path)
    words = ["--model", path, "--threads", "1,all", "--batch", "1,4", "--imgsz", "96", "--out", "a.zip"]
    given = parser.parse_args(words, Options(params=None, workspace=tmp_path, overrides=["benchmark.min_seconds=2"]))
    assert benchmark_command.pack(given, Console()) == 0
    plan = seen["plan"]
    assert (seen["target"], seen["names"]) == (Path("a.zip"), ["tiny-detect"])
    assert (list(plan.runtimes), list(plan.precisions), list(plan.imgsz)) == (
        ["onnx", "openvino", "engine"],
        ["fp32"],
        [(96, 96)],
    )
    assert (plan.batches, plan.threads, plan.scenarios) == ([1, 4], [1, 0], ["single-stream", "offline"])
    assert plan.method.min_seconds == 2
    assert "a.zip: 47.0 MB, 1 model, 4 images" in capsys.readouterr().out
    given.out = tmp_path
    with pytest.raises(UsageError, match="is a folder"):
        benchmark_command.pack(given, Console())
