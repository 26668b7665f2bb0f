"""Params of the train stage, and the tree that ultralytics gets to see."""

from __future__ import annotations

import errno
import logging
import os
import re
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline import images, yolo
from pipeline.boxes import from_cxcywhn
from pipeline.dataset import Dataset
from pipeline.errors import DataError, MissingDependency, ParamsError, TrainingError
from pipeline.metrics import pictures
from pipeline.stage import Context
from pipeline.stages import evaluate, export, train
from pipeline.yolo import checkpoints, curves, logs, options, scratch, training
from pipeline.yolo.options import TrainParams as Params


class TestParams:
    def test_every_field_is_described(self) -> None:
        assert [name for name, field in Params.model_fields.items() if not field.description] == []

    @pytest.mark.parametrize(
        "wrong",
        [{"imgsz": 100}, {"epochs": 0}, {"batch": "16"}, {"mosaic": 1.5}, {"optimizer": "adamw"}, {"epoch": 3}, {"seed": -1}],
    )
    def test_impossible_values(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            Params(**wrong)  # type: ignore[arg-type]

    def test_misspelled_extra_names_the_nearest(self) -> None:
        with pytest.raises(ParamsError, match=r"train\.extra\.copy_past:") as caught:
            Params(extra={"copy_past": 0.5})
        assert caught.value.hint == "Did you mean train.extra.copy_paste or train.extra.copy_paste_mode?"

    def test_an_extra_that_is_like_none_is_no_reason_to_list_them_all(self) -> None:
        with pytest.raises(ParamsError, match="no such argument") as caught:
            Params(extra={"foo": 1})
        assert caught.value.hint == f"{options.ARGUMENTS_URL} lists its arguments for training."

    @pytest.mark.parametrize(("wrong", "key"), [("epoch", "train.epochs"), ("mosiac", "train.mosaic"), ("mixupp", "train.mixup")])
    def test_a_misspelled_key_of_train_is_told_where_it_may_stand(self, wrong: str, key: str) -> None:
        with pytest.raises(ParamsError) as caught:
            Params(extra={wrong: 1})
        near = re.findall(r"train\.[\w.]+", caught.value.hint)
        assert key in near
        assert not {name.rpartition(".")[2] for name in near} & options._OURS, "what is refused is no help"

    @pytest.mark.parametrize(
        ("key", "message"), [("epochs", "set train.epochs"), ("device", "own business"), ("fraction", "own business")]
    )
    def test_extra_cannot_bypass_the_pipeline(self, key: str, message: str) -> None:
        with pytest.raises(ParamsError, match=message):
            Params(extra={key: 1})

    def test_known_extra(self) -> None:
        assert Params(extra={"copy_paste": 0.5}).extra == {"copy_paste": 0.5}

    def test_weights_have_one_place(self) -> None:
        assert Params(extra={"pretrained": False}).extra == {"pretrained": False}
        with pytest.raises(ParamsError, match=r"train\.extra\.pretrained: only true or false") as caught:
            Params(extra={"pretrained": "other.pt"})
        assert "train.model" in caught.value.hint

    def test_learning_rate_that_would_be_ignored(self) -> None:
        with pytest.raises(ParamsError, match="no effect"):
            Params(lr0=0.01)
        with pytest.raises(ParamsError, match="is needed"):
            Params(optimizer="SGD")
        assert Params(optimizer="SGD", lr0=0.01).lr0 == 0.01


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    images.save(path, np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8))
    return path


def data_set(folder: Path, names: tuple[str, ...], boxes: list[tuple[float, ...]] | None = None) -> Dataset:
    """One val image and one train image a name, 40x30 each."""
    rows = [{"path": name, "width": 40, "height": 30, "split": "train"} for name in names]
    rows.append({"path": "val.png", "width": 40, "height": 30, "split": "val"})
    for row in rows:
        if not (folder / "images" / str(row["path"])).exists():
            picture(folder / "images" / str(row["path"]))
    default = [(0, 1, 4.0, 3.0, 20.0, 15.0), (len(names), 0, 4.0, 3.0, 20.0, 15.0)]
    return Dataset.from_rows(("a", "b"), rows, default if boxes is None else boxes)


class TestScratch:
    def test_labels_are_the_boxes_and_images_are_linked(self, tmp_path: Path) -> None:
        names = ("images/a b.jpg", "ü 🐱/images/a b.jpg", "x" * 200 + ".png")
        splits = scratch.build(data_set(tmp_path / "data", names), tmp_path / "data", tmp_path / "scratch")
        train = splits["train"]
        assert list(train.paths.values()) == list(names)
        assert list(train.boxes.values()) == [1, 0, 0]
        assert sorted(path.name for path in train.folder.iterdir()) == ["0000000.jpg", "0000001.jpg", "0000002.png"]
        assert os.path.samefile(train.folder / "0000001.jpg", tmp_path / "data/images" / names[1])
        row = (tmp_path / "scratch/labels/train/0000000.txt").read_text(encoding="utf-8").split()
        assert row[0] == "1"
        np.testing.assert_allclose(from_cxcywhn([[float(value) for value in row[1:]]], 40, 30), [[4, 3, 20, 15]], atol=1e-6)

    def test_jpeg_with_padding_is_copied_and_closed(self, tmp_path: Path) -> None:
        source = picture(tmp_path / "data/images/a.jpg")
        source.write_bytes(source.read_bytes() + bytes(64))
        before = source.read_bytes()
        scratch.build(data_set(tmp_path / "data", ("a.jpg",)), tmp_path / "data", tmp_path / "scratch")
        copy = tmp_path / "scratch/images/train/0000000.jpg"
        assert not os.path.samefile(copy, source)
        assert copy.read_bytes() == before + b"\xff\xd9"
        assert source.read_bytes() == before

    @pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "rotated"])
    def test_images_that_ultralytics_reads_otherwise_are_rewritten(self, mode: str, tmp_path: Path) -> None:
        name = "a.jpg" if mode in ("CMYK", "rotated") else "a.png"
        source = tmp_path / "data/images" / name
        source.parent.mkdir(parents=True)
        size = (30, 40) if mode == "rotated" else (40, 30)
        plain = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3)).astype(np.uint8))
        exif = Image.Exif()
        if mode == "rotated":
            exif[0x0112] = 6
        (plain if mode == "rotated" else plain.convert(mode)).save(source, exif=exif)
        scratch.build(data_set(tmp_path / "data", (name,)), tmp_path / "data", tmp_path / "scratch")
        rewritten = tmp_path / "scratch/images/train/0000000.png"
        assert images.read_header(rewritten).is_plain
        np.testing.assert_array_equal(images.decode(rewritten), images.decode(source))

    def test_what_ultralytics_would_drop_is_named(self, tmp_path: Path) -> None:
        boxes = [(0, 0, 4, 3, 20, 15), (0, 0, 4, 3, 20, 15), (0, 1, 5, 5, 5, 9), (1, 0, 30, 5, 60, 9), (2, 0, 4, 3, 20, 15)]
        data = data_set(tmp_path / "data", ("a.jpg", "b.jpg"), boxes)
        with pytest.raises(TrainingError) as caught:
            scratch.build(data, tmp_path / "data", tmp_path / "scratch")
        found = "\n".join(caught.value.problems)
        assert "a.jpg: 1 repeated box" in found
        assert "a.jpg: a box has no area" in found
        assert "b.jpg: a box lies outside" in found

    def test_nothing_to_learn(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nothing to learn"):
            scratch.build(data_set(tmp_path / "data", ("a.jpg",), []), tmp_path / "data", tmp_path / "scratch")
        with pytest.raises(DataError, match="'train'") as caught:
            scratch.build(data_set(tmp_path / "data", (), []), tmp_path / "data", tmp_path / "scratch")
        assert "split.fractions.train" in caught.value.hint
        unlabelled = data_set(tmp_path / "data", ("a.jpg",), [(0, 0, 4, 3, 20, 15)])
        with pytest.raises(DataError, match="No image of val has a box"):
            scratch.build(unlabelled, tmp_path / "data", tmp_path / "scratch")


@pytest.mark.parametrize(
    ("epochs", "best", "told"),
    [(1, 1, "1 epoch: mAP50 0.500 on val"), (12, 7, "12 epochs, the best is 7: mAP50 0.500 on val")],
)
def test_the_headline_counts_in_words(epochs: int, best: int, told: str) -> None:
    assert train.headline({"epochs": epochs, "best_epoch": best, "val_ultralytics": {"map50": 0.5}}) == told


def test_a_single_epoch_is_drawn_at_its_number(tmp_path: Path) -> None:
    row = {"epoch": 1.0, "train/box_loss": 2.0, "val/box_loss": 3.0, "metrics/mAP50(B)": 0.4}
    shown: list[list[str]] = []

    def look(figure: Any, path: Path) -> None:
        figure.canvas.draw()
        for axes in figure.axes:
            low, high = axes.get_xlim()
            shown.append([label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "save", look)
        curves.draw([row], 1, tmp_path / "curves.png")
    assert shown == [["1"]] * 3


def test_the_recipe_knows_opencv_whichever_of_its_wheels_is_installed() -> None:
    for stage in (train.STAGE, evaluate.STAGE, export.STAGE):
        assert {"opencv-python", "opencv-python-headless"} <= set(stage.libraries)


def test_a_missing_package_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "ultralytics" else real(name, *rest))
    with pytest.raises(MissingDependency, match="ultralytics must be installed") as caught:
        train.preflight(Params(), Context())
    assert '-e ".[train]"' in caught.value.hint


class TestExplained:
    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            MemoryError(),
        ],
    )
    def test_too_little_memory_is_told_with_what_to_lower(self, error: Exception, tmp_path: Path) -> None:
        told = training._explained(error, self.job(tmp_path))
        assert isinstance(told, TrainingError)
        assert told.message == "cuda:0 ran out of memory with train.batch 16 at train.imgsz 640."
        assert told.hint.startswith("Set train.batch to 8")

    def test_too_little_shared_memory_is_another_thing(self, tmp_path: Path) -> None:
        said = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        error = RuntimeError(said + "shared memory. Please try to raise your shared memory limit.")
        told = training._explained(error, self.job(tmp_path))
        assert isinstance(told, TrainingError)
        assert "--shm-size" in told.hint

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            RuntimeError("basic_ios::clear: No space left on device"),
        ],
    )
    def test_a_full_disk_is_told_like_anywhere_else_with_its_folder(self, error: Exception, tmp_path: Path) -> None:
        told = training._explained(error, self.job(tmp_path))
        assert isinstance(told, OSError)
        assert (told.errno, told.filename) == (errno.ENOSPC, str(tmp_path))

    def test_a_checkpoint_that_cannot_be_written_on_a_disk_with_room_is_something_else(self, tmp_path: Path) -> None:
        error = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
        assert isinstance(training._explained(error, self.job(tmp_path)), TrainingError)

    def test_anything_else_points_to_the_log(self, tmp_path: Path) -> None:
        told = training._explained(KeyError("x"), self.job(tmp_path))
        assert isinstance(told, TrainingError)
        assert told.message == "Ultralytics failed: KeyError: 'x'"
        assert "train.log" in told.hint

    def job(self, folder: Path) -> training.Job:
        arguments = {"batch": 16, "imgsz": 640}
        return training.Job(folder / "a.pt", arguments, ("a",), {}, folder, folder / "train.log", "cuda:0", "fp16", 1, {})


class TestLog:
    def test_folders_of_the_machine_are_not_named(self, tmp_path: Path) -> None:
        yolo.ultralytics(tmp_path / "cache")  # never imported bare: it would change Pillow for every test that follows
        home = tmp_path / "home" / "ann lee"
        aliases = {home: "~", home / "project": "<base>", home / "project" / "ws": "<work>"}
        lines = {
            f"save_dir={home / 'project' / 'ws' / 'run'}, x": f"save_dir={Path('<work>/run')}, x",
            f"{(home / 'project').as_posix()}/a.pt": "<base>/a.pt",
            f"\x1b[34m{home}\x1b[0m": "~",
            str({"path": str(home)}): "{'path': '~'}",
            f"{home}2 and /elsewhere{home.as_posix()}": f"{home}2 and /elsewhere{home.as_posix()}",
        }
        with logs.logged(tmp_path / "train.log", aliases):
            for line in lines:
                logging.getLogger("ultralytics").info(line)
        assert (tmp_path / "train.log").read_text(encoding="utf-8").splitlines() == list(lines.values())

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that no disk has room for")
    def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        yolo.ultralytics(tmp_path / "cache")
        capfd.readouterr()
        with logs.logged(Path("/dev/full"), {}):
            logging.getLogger("ultralytics").info("a line")
        assert capfd.readouterr() == ("", "")


class TestCheckpoints:
    @pytest.mark.parametrize("gone", ["results.csv", "weights/best.pt"])
    def test_a_run_that_lacks_a_file_is_begun_anew(self, gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fitness = {"train_metrics": {"fitness": 0.1}, "best_fitness": 0.2}
        checkpoint = {"epoch": 2, "stopper": {"best_epoch": 1}, **fitness}
        monkeypatch.setattr(checkpoints, "load", lambda path: checkpoint if path.read_bytes() else {})
        (tmp_path / "weights").mkdir()
        for name in ("weights/last.pt", "weights/best.pt"):
            (tmp_path / name).write_bytes(b"weights")
        (tmp_path / "results.csv").write_text("epoch,time\n1,1.0\n2,2.0\n3,3.0\n", encoding="utf-8")
        found = checkpoints.find(tmp_path, 3, 0)
        assert found is not None
        assert (found.epochs_done, found.seconds, found.finished) == (3, 3.0, True)
        (tmp_path / gone).unlink()
        assert checkpoints.find(tmp_path, 3, 0) is None
        assert not tmp_path.exists()

    @pytest.mark.parametrize("error", [PermissionError(13, "denied"), MemoryError()])
    def test_what_is_not_the_files_fault_does_not_cost_the_run(
        self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(path: Path) -> dict[str, object]:
            raise error

        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "last.pt").write_bytes(b"weights")
        monkeypatch.setattr(checkpoints, "load", load)
        with pytest.raises(type(error)):
            checkpoints.find(tmp_path, 3, 0)
        assert (tmp_path / "weights" / "last.pt").exists()

    def test_results_are_cut_to_whole_rows_of_finished_epochs(self, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text("epoch,time,loss\n1,1.0,3\n2,2.0,2\n3,3.0,1\n4,4", encoding="utf-8")
        assert checkpoints._cut_results(tmp_path / "results.csv", 2) == 2.0
        assert (tmp_path / "results.csv").read_text(encoding="utf-8") == "epoch,time,loss\n1,1.0,3\n2,2.0,2\n"

    @pytest.mark.parametrize("torn", ["", "epoch,time\n1,1.0\n", "epoch,time\n1,1.0\n\0\0\0\0", "epoch,time\n1,1.0\n2"])
    def test_results_that_lost_an_epoch_are_no_state_to_go_on_from(self, torn: str, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text(torn, encoding="utf-8")
        assert checkpoints._cut_results(tmp_path / "results.csv", 2) is None
        assert (tmp_path / "results.csv").read_text(encoding="utf-8") == torn

    def test_publish_keeps_the_one_before(self, tmp_path: Path) -> None:
        for text in ("one", "two", "three"):
            (tmp_path / "last.part").write_text(text, encoding="utf-8")
            checkpoints.publish(tmp_path / "last.part", tmp_path / "last.pt")
        assert (tmp_path / "last.pt").read_text(encoding="utf-8") == "three"
        assert (tmp_path / "previous.pt").read_text(encoding="utf-8") == "two"
        assert not (tmp_path / "last.part").exists()
