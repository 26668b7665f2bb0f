"""The evaluate stage: with a predictor made for the test, and once with a real network and ultralytics beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import ValidationError

from pipeline import images
from pipeline.boxes import iou
from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Detections, Image, Predictor
from pipeline.errors import DataError
from pipeline.metrics import coco
from pipeline.metrics.prediction import predict
from pipeline.stage import Context
from pipeline.stages.evaluate import STAGE, Params, _measurable, measure, run
from tests import tiny_model
from tests.detecting import _found, make_dataset

ARTIFACT = ("metrics.json", "per_class.csv", "per_image.csv", "pr_curve.png", "f1_curve.png", "confusion_matrix.png")
SUMMARY = {"map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "precision", "recall", "f1", "confidence"}
SUMMARY |= {"ci95", "images", "groups", "boxes", "box_sizes", "split", "ultralytics"}


class Recalling:
    """Knows each image by its upper left pixel, and answers what it was given for it."""

    imgsz = (320, 320)
    runtime = "recalling"

    def __init__(self, class_names: Sequence[str], answers: Sequence[Detections]) -> None:
        self.class_names = tuple(class_names)
        self.answers = answers
        self.batches: list[int] = []

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        self.batches.append(len(images))
        return [self.answers[image[0, 0, 0]] for image in images]


def put_images(dataset: Dataset, folder: Path) -> None:
    for number, path in enumerate(dataset.images["path"]):
        images.save(folder / "images" / path, np.full((8, 8, 3), number, dtype=np.uint8))


def case(folder: Path, count: int = 24, classes: int = 3) -> tuple[Dataset, list[Detections]]:
    """A data set with its pixels in `folder/images`, and something detected in it."""
    rng = np.random.default_rng(5)
    dataset = make_dataset(rng, count, classes)
    named = dataset.images.assign(path=[f"photos/{n} é.png" for n in range(count)])
    dataset = Dataset(dataset.class_names, named, dataset.boxes)
    put_images(dataset, folder)
    return dataset, [_found(rng, dataset, image, 10, 4.0, 1000) for image in range(count)]


def test_few_decoded_images_wait_whatever_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, answers = case(tmp_path)
    decode, begun, most = images.decode, [], 0

    class Slow(Recalling):
        def predict(self, images: Sequence[Image]) -> list[Detections]:
            nonlocal most
            time.sleep(0.1)  # time enough to decode all that may be decoded
            most = max(most, len(begun) - len(self.batches) * 2)
            return super().predict(images)

    monkeypatch.setattr(images, "decode", lambda path: (begun.append(path), decode(path))[1])
    found = predict(Slow(dataset.class_names, answers), dataset, tmp_path, batch=2, workers=4, advance=lambda n=1: None)
    assert [len(each.scores) for each in found] == [len(each.scores) for each in answers]
    assert most <= 2 + 4 + 2  # the batch, one a worker, and two


def test_the_artifact_is_whole_and_agrees_with_itself(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    predictor, out = Recalling(dataset.class_names, answers), tmp_path / "out"
    params = Params(bootstrap=50, batch=7)
    summary = measure(predictor, dataset, tmp_path, params, out, Context(workers=2), {"map50": 0.5})
    assert predictor.batches == [7, 7, 7, 3]
    assert set(summary) >= SUMMARY
    assert (summary["images"], summary["boxes"], summary["split"]) == (24, len(dataset.boxes), "test")
    assert summary["ultralytics"] == {"map50": 0.5}
    result = coco.evaluate(dataset, answers)
    assert (summary["map50_95"], summary["map50"]) == (result.map50_95, result.map50)
    low, high = summary["ci95"]["map50_95"]
    assert low < result.map50_95 < high

    assert {path.name for path in out.iterdir()} == {*ARTIFACT, "detections.parquet"}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics.items() >= json.loads(json.dumps(summary)).items()
    per_class, per_image = pd.read_csv(out / "per_class.csv"), pd.read_csv(out / "per_image.csv")
    for name in ("tp", "fp", "fn"):
        assert metrics["pooled"][name] == per_class[name].sum() == per_image[name].sum()
    assert [row["ap50"] for row in metrics["per_class"]] == pytest.approx([row.ap50 for row in result.per_class])
    assert np.diag(metrics["confusion_matrix"]["counts"])[:-1].tolist() == per_class["tp"].tolist()
    assert summary["f1"] == pytest.approx(per_class["f1"].mean(), abs=1e-5)
    assert set(per_image["path"]) == set(dataset.images["path"])
    assert per_image["badness"].is_monotonic_decreasing
    assert ((per_image["tp"] + per_image["fn"]) == per_image["boxes"]).all()


def test_the_recorded_detections_give_the_same_figures(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    summary = measure(
        Recalling(dataset.class_names, answers), dataset, tmp_path, Params(bootstrap=0), tmp_path / "out", Context(), None
    )
    table = pd.read_parquet(tmp_path / "out" / "detections.parquet")
    rows = [table[table["path"] == path] for path in dataset.images["path"]]
    again = [Detections.make(row[EDGES].to_numpy(), row["score"].to_numpy(), row["class_id"].to_numpy()) for row in rows]
    assert coco.evaluate(dataset, again).map50_95 == summary["map50_95"]
    assert summary["ci95"] is None


def test_the_same_again_writes_the_same_bytes(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    for name, workers in (("first", 1), ("second", 3)):
        params, context = Params(bootstrap=20), Context(workers=workers)
        measure(Recalling(dataset.class_names, answers), dataset, tmp_path, params, tmp_path / name, context, None)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_a_model_with_its_classes_in_another_order(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    turned = [Detections(found.boxes, found.scores, 2 - found.class_ids) for found in answers]
    straight, reverse = (
        measure(Recalling(names, found), dataset, tmp_path, Params(bootstrap=0), tmp_path / out, Context(), None)
        for names, found, out in (
            (dataset.class_names, answers, "straight"),
            (dataset.class_names[::-1], turned, "reverse"),
        )
    )
    assert straight == reverse
    tables = [pd.read_parquet(tmp_path / out / "detections.parquet") for out in ("straight", "reverse")]
    pd.testing.assert_frame_equal(*tables)


def test_a_given_threshold_is_used(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    best, given = (
        measure(Recalling(dataset.class_names, answers), dataset, tmp_path, params, tmp_path / "out", Context(), None)
        for params in (Params(bootstrap=0), Params(bootstrap=0, confidence=0.9))
    )
    assert given["confidence"] == 0.9
    assert best["f1"] >= given["f1"]
    assert best["map50_95"] == given["map50_95"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["confidence_from"] == "threshold from evaluate.confidence"


def test_a_model_that_finds_nothing(tmp_path: Path) -> None:
    dataset, _ = case(tmp_path, count=6)
    nothing = [Detections.make([], [], [])] * 6
    summary = measure(
        Recalling(dataset.class_names, nothing), dataset, tmp_path, Params(bootstrap=20), tmp_path / "out", Context(), None
    )
    assert (summary["map50_95"], summary["precision"], summary["recall"], summary["f1"]) == (0, 0, 0, 0)
    assert summary["ci95"]["map50"] == [0, 0]
    assert len(pd.read_parquet(tmp_path / "out" / "detections.parquet")) == 0


def test_a_class_without_boxes(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    dataset = Dataset((*dataset.class_names, "unseen"), dataset.images, dataset.boxes)
    summary = measure(
        Recalling(dataset.class_names, answers), dataset, tmp_path, Params(bootstrap=20), tmp_path / "out", Context(), None
    )
    assert summary["map50"] == pytest.approx(coco.evaluate(dataset, answers).map50)
    row = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["per_class"][-1]
    assert (row["name"], row["boxes"], row["ap50"], row["recall"], row["best_confidence"]) == ("unseen", 0, None, None, None)


def test_few_sources_are_pointed_out(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    frames = dataset.images.assign(group_id=[f"video {n % 3}" for n in range(24)])
    warnings: list[str] = []
    context = Context(warn=warnings.append)
    filmed = Dataset(dataset.class_names, frames, dataset.boxes)
    measure(Recalling(dataset.class_names, answers), filmed, tmp_path, Params(bootstrap=20), tmp_path / "out", context, None)
    assert warnings == [
        "measured on 24 test images from 3 sources only: the intervals hold for more images of these, not for others."
    ]


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    chosen = int(dataset.boxes["image"].iloc[0])
    single = dataset.select(np.arange(24) == chosen)
    warnings: list[str] = []
    context = Context(warn=warnings.append)
    recalling = Recalling(dataset.class_names, answers)
    summary = measure(recalling, single, tmp_path, Params(bootstrap=20), tmp_path / "out", context, None)
    assert summary["ci95"] is None
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["ci95"] is None
    assert STAGE.headline(summary).endswith("[–] on 1 test image")
    assert warnings == ["measured on 1 test image from 1 source only: too little to tell how far the figures would swing."]


def test_figures_of_small_boxes_say_how_many_they_rest_on(tmp_path: Path) -> None:
    dataset, answers = case(tmp_path)
    summary = measure(
        Recalling(dataset.class_names, answers), dataset, tmp_path, Params(bootstrap=0), tmp_path / "out", Context(), None
    )
    edges = dataset.boxes[EDGES].to_numpy()
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    assert summary["box_sizes"]["small"] == (area <= 32**2).sum()
    for size, count in summary["box_sizes"].items():
        assert (summary[f"map_{size}"] is None) == (count == 0)


def parted(data: Dataset, *sides: str) -> Dataset:
    """The data set with its images on these sides, in turn."""
    turns = [sides[n % len(sides)] for n in range(len(data.images))]
    return Dataset(data.class_names, data.images.assign(split=turns), data.boxes)


@pytest.mark.parametrize("missing", ["images", "boxes"])
def test_val_is_measured_on_where_test_has_nothing_to_measure_by(missing: str, tmp_path: Path) -> None:
    dataset, _ = case(tmp_path)
    if missing == "boxes":
        tested = np.arange(24) % 2 == 1
        dataset = Dataset(dataset.class_names, dataset.images, dataset.boxes[~tested[dataset.boxes["image"].to_numpy()]])
    whole = parted(dataset, "val", "test" if missing == "boxes" else "train")
    warnings: list[str] = []
    part, split = _measurable(whole, "test", Context(warn=warnings.append))
    assert split == "val"
    assert set(part.images["split"]) == {"val"}
    (said,) = warnings
    assert said == f"test has no {missing}, so val is measured on: val chose the best epoch, hence these figures are too good."


def test_without_a_box_anywhere_there_is_nothing_to_measure(tmp_path: Path) -> None:
    dataset, _ = case(tmp_path)
    bare = Dataset(dataset.class_names, dataset.images.assign(split="test"), dataset.boxes[:0])
    bare.save(tmp_path)
    with pytest.raises(DataError, match=r"evaluate\.split: no image of test or val has a box") as refused:
        run({"split": tmp_path, "train": tmp_path}, Params(), tmp_path / "out", Context())
    assert "Label more images" in refused.value.hint


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network with random weights, and a data set whose labels are what it sees most clearly"""
    from pipeline.runtimes import LoadOptions, pytorch

    folder = tmp_path_factory.mktemp("real")
    tiny_model.write(folder / "train" / "weights" / "best.pt", folder / "cache")
    (folder / "train" / "args.yaml").write_text(yaml.safe_dump({"imgsz": tiny_model.IMGSZ}), encoding="utf-8")
    rng = np.random.default_rng(0)
    paths = [f"{n} ü.{'png' if n % 2 else 'jpg'}" for n in range(10)]
    for path in paths:
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        images.save(folder / "split" / "images" / path, np.kron(coarse, np.ones((16, 16, 1), dtype=np.uint8)))
    predictor: Predictor = pytorch.load(
        folder / "train" / "weights" / "best.pt", "cpu", LoadOptions(imgsz=(96, 96), cache=folder / "cache")
    )
    rows: list[tuple[float, ...]] = []
    for number, path in enumerate(paths):
        found = predictor.predict([images.decode(folder / "split" / "images" / path)])[0]
        chosen: list[int] = []
        for row in range(len(found)):  # clipping to the image makes many of a random network's boxes equal
            x1, y1, x2, y2 = found.boxes[row]
            if min(x2 - x1, y2 - y1) > 4 and iou(found.boxes[[row]], found.boxes[chosen]).max(initial=0) < 0.5:
                chosen.append(row)
        rows += [(number, found.class_ids[row], *found.boxes[row]) for row in chosen[:6]]
    records = [{"path": path, "width": 128, "height": 96, "split": "test"} for path in paths]
    Dataset.from_rows(tiny_model.NAMES, records, rows).save(folder / "split")
    return {"train": folder / "train", "split": folder / "split", "cache": folder / "cache"}


def test_a_real_network_with_ultralytics_beside_it(
    real: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in real["split"].rglob("*") if path.is_file()}
    done: dict[str, int] = {}

    class Counting:
        def __init__(self, label: str, total: int) -> None:
            self.label = label

        def __enter__(self) -> Any:
            return lambda n=1, **info: done.update({self.label: done.get(self.label, 0) + n})

        def __exit__(self, *error: object) -> None:
            return None

    context = Context(device="cpu", cache=real["cache"], progress=Counting, warn=pytest.fail)
    capfd.readouterr()
    summary = run(real, Params(bootstrap=20, batch=4), tmp_path / "out", context)
    assert capfd.readouterr() == ("", "")
    theirs = summary["ultralytics"]
    assert theirs["measured_by"].startswith("ultralytics 8.")
    # Random weights answer differently to another padding, so the figures cannot be near each other here.
    assert 0 <= theirs["map50_95"] <= theirs["map50"] <= 1
    assert 0 < summary["map50_95"] < summary["map50"] <= 1, "it finds some of its own detections again"
    assert done == {"yolo val": 10, "evaluate": 10}
    assert before == {path: path.read_bytes() for path in real["split"].rglob("*") if path.is_file()}
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not list(real["cache"].glob("validate-*"))


def test_a_data_set_without_test_images_is_measured_on_val_under_its_name(real: dict[str, Path], tmp_path: Path) -> None:
    whole = Dataset.load(real["split"])
    Dataset(whole.class_names, whole.images.assign(split="val"), whole.boxes).save(tmp_path / "split")
    (tmp_path / "split" / "images").symlink_to(real["split"] / "images", target_is_directory=True)
    inputs = {"train": real["train"], "split": tmp_path / "split"}
    context = Context(device="cpu", cache=real["cache"])
    summary = run(inputs, Params(bootstrap=0, ultralytics=False), tmp_path / "out", context)
    assert summary["split"] == json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))["split"] == "val"
    assert STAGE.headline(summary).endswith("on 10 val images")


def test_what_ultralytics_would_leave_out_costs_only_its_own_figures(real: dict[str, Path], tmp_path: Path) -> None:
    whole = Dataset.load(real["split"])
    twice = Dataset(whole.class_names, whole.images, pd.concat([whole.boxes, whole.boxes[:1]]))
    twice.save(tmp_path / "split")
    (tmp_path / "split" / "images").symlink_to(real["split"] / "images", target_is_directory=True)
    warnings: list[str] = []
    context = Context(device="cpu", cache=real["cache"], warn=warnings.append)
    summary = run({"train": real["train"], "split": tmp_path / "split"}, Params(bootstrap=0), tmp_path / "out", context)
    assert "skipped" in summary["ultralytics"]
    assert summary["boxes"] == len(whole.boxes) + 1
    assert len(warnings) == 1


@pytest.mark.parametrize("wrong", [1.5, -0.1, "best", True])
def test_a_threshold_is_a_share_or_auto(wrong: object) -> None:
    with pytest.raises(ValidationError):
        Params.model_validate({"confidence": wrong})


def test_the_record_of_the_stage() -> None:
    assert STAGE.inputs == ("train", "split")
    assert STAGE.root == "runs"
    assert "hotcoco" in STAGE.libraries
