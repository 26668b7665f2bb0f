from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.detections import Detections, Image
from pipeline.errors import DataError
from pipeline.health import model, opinions
from pipeline.health.findings import Finding
from pipeline.health.images import Look
from pipeline.images import Header, save
from pipeline.metrics import prediction
from pipeline.stage import Context

Box = tuple[int, float, float, float, float]
"""class, edges"""


def dataset(labels: Sequence[Sequence[Box]], names: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    rows = [{"path": f"{i}.png", "width": 300, "height": 200} for i in range(len(labels))]
    return Dataset.from_rows(names, rows, [(i, *box) for i, boxes in enumerate(labels) for box in boxes])


def seen(*boxes: tuple[int, float, float, float, float, float]) -> Detections:
    """From (class, x1, y1, x2, y2, score)."""
    table = np.array(boxes, dtype=float).reshape(-1, 6)
    return Detections.make(table[:, 1:5], table[:, 5], table[:, 0])


def check(labels: Sequence[Sequence[Box]], detections: Sequence[Detections | None]) -> dict[str, Finding]:
    return {found.code: found for found in model.check(dataset(labels), detections)}


CAT: Box = (0, 10, 10, 60, 60)
DOG: Box = (1, 100, 10, 160, 60)
RIGHT = [seen((*CAT, 0.9), (*DOG, 0.8))] * 20
"""What a model that agrees says of twenty images with a cat and a dog: it may be trusted."""
TRUE = [[CAT, DOG]] * 20


def test_a_model_that_agrees_has_nothing_to_say() -> None:
    assert check(TRUE, RIGHT) == {}


def test_each_kind_of_error_is_told_with_label_and_detection() -> None:
    labels = [[CAT], [CAT, (0, *DOG[1:])], [(0, 10, 10, 95, 85), DOG], [CAT, DOG, (0, 200, 100, 250, 150)], *TRUE]
    detections = [seen((*CAT, 0.9), (*DOG, 0.8))] * 4 + RIGHT
    found = check(labels, detections)
    items = {code: [(item.path, item.detail) for item in one.items] for code, one in found.items()}
    assert items == {
        "model_missing_box": [("0.png", "dog 0.80")],
        "model_other_class": [("1.png", "labelled cat, looks like dog 0.80")],
        "model_misplaced_box": [("2.png", "cat, IoU 0.39 with the model's box 0.90")],
        "model_extra_box": [("3.png", "cat, of which the model finds 88%")],
    }
    (item,) = found["model_other_class"].items
    assert [(mark.text, mark.box) for mark in item.marks] == [("label: cat", DOG[1:]), ("model: dog 0.80", DOG[1:])]
    assert found["model_missing_box"].detail == "it finds 94% of the labelled boxes in 24 images"


def test_the_surest_disagreement_comes_first() -> None:
    labels = [[CAT], [CAT], [CAT], *TRUE]
    detections = [seen((*CAT, 0.9), (*DOG, score)) for score in (0.6, 0.95, 0.7)] + RIGHT
    assert [item.detail for item in check(labels, detections)["model_missing_box"].items] == ["dog 0.95", "dog 0.70", "dog 0.60"]


@pytest.mark.parametrize(
    "detections",
    [
        seen((*CAT, 0.9), (*DOG, 0.4)),  # unsure of what nobody labelled
        seen((*CAT, 0.9), (0, 12, 12, 50, 50, 0.8)),  # a part of the cat
        seen((*CAT, 0.9), (0, 0, 0, 120, 120, 0.8)),  # something around the cat
        seen((*CAT, 0.9), (1, 12, 8, 62, 60, 0.6)),  # also a bit like a dog
        seen((*CAT, 0.06)),  # hardly seen, but seen
        seen((*CAT, 0.9), (0, 30, 15, 80, 65, 0.8)),  # a second cat behind it, or the same: who knows
    ],
)
def test_what_can_be_explained_is_no_accusation(detections: Detections) -> None:
    assert check([[CAT], *TRUE], [detections, *RIGHT]) == {}


def test_a_dog_on_a_cat_is_explained_by_the_labelled_dog_and_not_taken_for_the_cat() -> None:
    above: Box = (1, 12, 8, 62, 60)
    assert check([[CAT, above], *TRUE], [seen((*above, 0.9), (*CAT, 0.1)), *RIGHT]) == {}


def test_two_sure_answers_for_one_missing_object_are_told_once() -> None:
    found = check([[CAT], *TRUE], [seen((*CAT, 0.9), (*DOG, 0.8), (0, 102, 12, 160, 60, 0.7)), *RIGHT])
    assert [item.detail for item in found["model_missing_box"].items] == ["dog 0.80"]


def test_a_class_that_the_model_often_misses_accuses_nobody() -> None:
    labels = [[CAT, DOG]] * 10
    detections = [seen((*CAT, 0.9), (*DOG, 0.8))] * 6 + [seen((*CAT, 0.9))] * 4
    assert check(labels, detections) == {}


def test_a_weak_model_is_told_to_be_weak() -> None:
    labels = [[CAT, DOG]] * 10
    found = check(labels, [seen((1, 200, 100, 250, 150, 0.9), (*CAT, 0.9))] * 4 + [seen()] * 6)
    assert found.keys() == {"model_weak"}
    assert found["model_weak"].detail == "it finds 20% of the labelled boxes in 10 images"


def test_images_that_the_model_was_not_shown_say_nothing() -> None:
    assert check([[CAT, DOG], *TRUE], [None, *RIGHT]) == {}
    assert check(TRUE, [None] * 20) == {}


def test_most_spoilt_labels_are_found_and_few_others(tmp_path: Path) -> None:
    """Labels of a known truth are spoilt; the model sees the truth as a good one does, with some noise and some misses."""
    rng = np.random.default_rng(0)
    truth: list[list[Box]] = []
    answers = []
    for _ in range(150):
        boxes: list[Box] = []
        for cell in rng.permutation(12)[:6].tolist():
            x, y = cell % 4 * 75 + rng.uniform(0, 10), cell // 4 * 66 + rng.uniform(0, 10)
            boxes.append((int(rng.integers(0, 2)), x, y, x + rng.uniform(30, 60), y + rng.uniform(30, 55)))
        truth.append(boxes)
        noise = rng.normal(0, 1.5, (6, 4))
        keep = rng.random(6) < 0.95
        answers.append(
            seen(*[(k, *(np.array(e) + noise[i]), rng.uniform(0.3, 0.95)) for i, (k, *e) in enumerate(boxes) if keep[i]])
        )
    labels = [list(boxes) for boxes in truth]
    spoilt: dict[str, set[str]] = {"model_missing_box": set(), "model_other_class": set(), "model_extra_box": set()}
    for image in range(0, 45, 3):
        del labels[image][0]
        class_id, *edges = labels[image + 1][0]
        labels[image + 1][0] = (1 - class_id, *edges)
        free = next(
            c for c in range(12) if all(abs(b[1] - c % 4 * 75) > 30 or abs(b[2] - c // 4 * 66) > 30 for b in truth[image + 2])
        )
        labels[image + 2].append((0, free % 4 * 75.0, free // 4 * 66.0, free % 4 * 75.0 + 40, free // 4 * 66.0 + 40))
        for code, row in zip(spoilt, (image, image + 1, image + 2), strict=True):
            spoilt[code].add(f"{row}.png")
    found = check(labels, answers)
    for code in ("model_missing_box", "model_other_class"):
        told = {item.path for item in found[code].items}
        assert told <= spoilt[code]  # no false alarm
        assert len(told) >= 8  # of 15; the model was unsure of some of the others
    told = [item.path for item in found["model_extra_box"].items]
    assert found["model_extra_box"].count >= 15  # what the model missed stands among them: it is information, no warning
    assert told


# ---------------------------------------------------------------- where the opinions come from


def test_the_table_of_an_evaluation_is_read_back(tmp_path: Path) -> None:
    data = dataset([[CAT], [DOG], [CAT]])
    written = [seen((*CAT, 0.9), (*DOG, 0.3)), seen(), seen((*DOG, 0.5))]
    prediction.as_table(data, written, np.array([0, 1])).to_parquet(tmp_path / opinions.TABLE)
    read = opinions.of_table(tmp_path, data)
    assert read[1] is None  # nothing tells an image without detections from one that was not shown
    for row in (0, 2):
        got = read[row]
        assert got is not None
        assert got.boxes.tolist() == written[row].boxes.tolist()
        assert got.class_ids.tolist() == written[row].class_ids.tolist()


def test_a_table_of_other_images_or_classes_or_none_at_all_is_refused(tmp_path: Path) -> None:
    data = dataset([[CAT]])
    prediction.as_table(data, [seen((*CAT, 0.9))], np.array([0, 1])).to_parquet(tmp_path / opinions.TABLE)
    other = Dataset(data.class_names, data.images.assign(path="other.png"), data.boxes)
    with pytest.raises(DataError, match=r"1 of 1 detections .* such as 0\.png"):
        opinions.of_table(tmp_path, other)
    (tmp_path / "metrics.json").write_text('{"confusion_matrix": {"labelled": ["dog", "cat", "nothing"]}}', encoding="utf-8")
    with pytest.raises(DataError, match="other classes than the data set \\(dog, cat\\)"):
        opinions.of_table(tmp_path, data)
    (tmp_path / "table.parquet").write_text("no table", encoding="utf-8")
    for name, told in (("table.parquet", "is no table of detections"), ("gone.parquet", r"There is no .*gone\.parquet\.")):
        with pytest.raises(DataError, match=told):
            opinions.of_table(tmp_path / name, data)


class Painter:
    """A predictor that finds one box, of the class that the image's grey level names; its classes are in another order."""

    class_names = ("dog", "cat")
    imgsz = (64, 64)
    runtime = "paint"

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        return [seen((0 if image.mean() > 127 else 1, 1, 2, 30, 40, 0.9)) for image in images]


def test_a_model_is_run_over_what_can_be_read_and_its_classes_go_by_name(tmp_path: Path) -> None:
    data = dataset([[CAT], [DOG], [CAT], [CAT], [DOG]])
    for row, grey in enumerate((10, 250, 10, 10, 250)):
        save(tmp_path / f"{row}.png", np.full((200, 300, 3), grey, np.uint8))
    header = Header(300, 200, 1, "PNG", "RGB")
    looks = [Look(header, "truncated" if row == 2 else "", "") for row in range(5)]
    found = opinions.of_model(Painter(), data, tmp_path, looks, 2, Context(workers=2))
    assert [None if one is None else one.class_ids.tolist() for one in found] == [[0], [1], None, [0], [1]]
    with pytest.raises(DataError, match="classes"):
        opinions.of_model(Painter(), dataset([[CAT]], ("cat", "fish")), tmp_path, looks[:1], 2, Context())
