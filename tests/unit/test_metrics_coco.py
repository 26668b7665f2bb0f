"""Average precision in known cases, and which classes may be compared at all."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.detections import Detections
from pipeline.errors import DataError
from pipeline.metrics import coco
from pipeline.metrics.matching import Labels

SMALL, MEDIUM, LARGE = (0, 0, 20, 20), (100, 100, 150, 150), (200, 100, 320, 280)


def dataset(*rows: tuple[float, ...], names: tuple[str, ...] = ("cat", "dog"), images: int = 2) -> Dataset:
    return Dataset.from_rows(names, [{"path": f"{n}.jpg", "width": 400, "height": 300} for n in range(images)], rows)


def answers(*images: list[tuple[tuple[float, ...], float, int]]) -> list[Detections]:
    return [Detections.make([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]) for rows in images]


def test_perfect_detections() -> None:
    truth = dataset((0, 0, *SMALL), (0, 1, *MEDIUM), (1, 0, *LARGE))
    result = coco.evaluate(truth, answers([(SMALL, 0.9, 0), (MEDIUM, 0.8, 1)], [(LARGE, 0.7, 0)]))
    figures = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "ar10", "ar100")
    assert [getattr(result, name) for name in figures] == pytest.approx([1] * len(figures))
    assert np.nanmin(result.precision50) == pytest.approx(1)


def test_half_found_after_a_false_one() -> None:
    """One of two boxes, behind a wrong detection: precision 1/2 up to recall 1/2, which 51 of the 101 recalls reach."""
    truth = dataset((0, 0, *MEDIUM), (1, 0, *MEDIUM))
    result = coco.evaluate(truth, answers([(LARGE, 0.9, 0), (MEDIUM, 0.8, 0)], []))
    assert result.map50 == pytest.approx(0.5 * 51 / 101)
    assert result.per_class[0].ar100 == pytest.approx(0.5)


def test_nothing_found() -> None:
    result = coco.evaluate(dataset((0, 0, *SMALL)), answers([], []))
    assert (result.map50_95, result.map50, result.map_small, result.ar100) == (0, 0, 0, 0)


def test_a_class_and_a_size_without_boxes_stay_out_of_the_mean() -> None:
    truth = dataset((0, 0, *SMALL), names=("cat", "dog"))
    result = coco.evaluate(truth, answers([(SMALL, 0.9, 0), (LARGE, 0.9, 1)], []))
    assert result.map50_95 == pytest.approx(1)
    assert (result.map_medium, result.map_large) == (None, None)
    assert result.per_class[1] == coco.ClassResult("dog", 0, 1, None, None, None, None)
    assert np.isnan(result.precision50[1]).all()


def test_an_overlap_of_080_counts_up_to_080() -> None:
    truth = dataset((0, 0, *(0, 0, 100, 100)))
    result = coco.evaluate(truth, answers([((0, 0, 100, 81), 0.9, 0)], []))
    assert result.map50_95 == pytest.approx(0.7)
    assert result.map75 == pytest.approx(1)


def test_a_model_with_its_classes_in_another_order() -> None:
    truth = dataset((0, 0, *SMALL), (1, 1, *LARGE))
    class_map = coco.match_classes(("dog", "cat"), truth)
    assert class_map.tolist() == [1, 0]
    assert coco.evaluate(truth, answers([(SMALL, 0.9, 1)], [(LARGE, 0.9, 0)]), class_map).map50 == pytest.approx(1)


def test_no_box_no_figure() -> None:
    with pytest.raises(DataError, match="2 images without a single box"):
        coco.evaluate(dataset(), answers([], []))


def test_the_number_of_detections_must_fit() -> None:
    with pytest.raises(ValueError, match="expected 2 detections, one per image, got 1"):
        coco.evaluate(dataset((0, 0, *SMALL)), answers([]))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    truth = dataset((0, 0, *SMALL))
    coco.evaluate(truth, answers([(SMALL, 0.9, 0)], []))
    coco.error_types(truth, answers([(SMALL, 0.9, 0)], []))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ((MEDIUM, 0.9, 1), "class"),
        (((100, 100, 150, 120), 0.9, 0), "place"),
        (((100, 100, 150, 120), 0.9, 1), "class and place"),
        ((LARGE, 0.9, 0), "background"),
    ],
)
def test_kinds_of_errors(wrong: tuple[tuple[float, ...], float, int], kind: str) -> None:
    """A box that is found right elsewhere, and one error: mending that kind gains most."""
    truth = dataset((0, 0, *MEDIUM), (1, 0, *MEDIUM), (1, 1, *SMALL))
    gains = coco.error_types(truth, answers([wrong], [(MEDIUM, 0.5, 0), (SMALL, 0.5, 1)]))
    assert gains[kind] == max(value for name, value in gains.items() if name != "missed")
    assert gains[kind] > 0


def test_classes_that_only_one_side_knows_are_refused() -> None:
    truth = dataset((0, 0, *SMALL), names=("cat", "dog"))
    with pytest.raises(DataError) as refused:
        coco.match_classes(("cat", "bird"), truth)
    assert refused.value.problems == (
        "the model knows 'bird', the data set does not",
        "the data set has 'dog' (without boxes), the model does not",
    )


def test_a_mapping_merges_and_leaves_out() -> None:
    truth = dataset((0, 0, *SMALL), names=("pet", "robot"))
    mapping = {"cat": "pet", "dog": "pet"}
    assert coco.match_classes(("dog", "person", "cat"), truth, mapping).tolist() == [0, -1, 0]
    with pytest.raises(DataError, match="no class 'bird'"):
        coco.match_classes(("dog",), truth, {"dog": "pet", "bird": "pet"})
    with pytest.raises(DataError, match=r"'pet' \(with boxes\)"):
        coco.match_classes(("dog",), truth, {"dog": "robot"})


def test_box_sizes_are_counted_as_coco_does() -> None:
    """Small, medium and large by their area; one at a limit counts on both sides of it, as in pycocotools."""
    truth = dataset(*((0, 0, 0, 0, side, side) for side in (4, 32, 33, 95, 96, 200)), images=1)
    assert coco.box_sizes(Labels.of(truth)) == {"small": 2, "medium": 4, "large": 2}
    for side in (32, 33, 95, 96):
        one = dataset((0, 0, 0, 0, side, side), images=1)
        result, counted = coco.evaluate(one, answers([])), coco.box_sizes(Labels.of(one))
        assert {size: getattr(result, f"map_{size}") is not None for size in counted} == {k: n > 0 for k, n in counted.items()}
