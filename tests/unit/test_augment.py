"""Augment: train only, boxes follow, the same bytes whatever the number of workers, every transform does what it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from pipeline import drawing, images, ledger, params
from pipeline.dataset import Dataset
from pipeline.errors import MissingDependency, ParamsError
from pipeline.pixels import augmentation
from pipeline.pixels.augmentation import augment
from pipeline.pixels.options import AugmentParams, Transform
from pipeline.stage import Context
from pipeline.stages.augment import STAGE, run

ALL = ("brightness", "exposure", "blur", "crop", "flip", "rotate", "hue", "noise", "cutout")
EVERY_TRANSFORM = [{name: {}} for name in ALL]
SPLITS = ("train", "train", "val", "train", "test", "train")


def photo(seed: int, size: tuple[int, int] = (96, 72)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def split_artifact(folder: Path, names: list[str], splits: tuple[str, ...] = SPLITS, shift: float = 0) -> Path:
    rows, boxes = [], []
    for number, name in enumerate(names):
        images.save(folder / "images" / name, photo(int(name.split("/")[-1].split(".")[0])))
        data = (folder / "images" / name).read_bytes()
        row = {"path": name, "width": 96, "height": 72, "hash": blake3.blake3(data).hexdigest(), "dhash": "0" * 16}
        rows.append({**row, "split": splits[number], "source_id": f"original/{name}", "group_id": f"group{number}"})
        boxes += [(number, 0, 10 + shift, 12, 50, 60), (number, 1, 60, 5, 90, 30)]
    Dataset.from_rows(["cat", "dog"], rows, boxes).save(folder)
    return folder


NAMES = [f"sub/{i}.jpg" for i in range(6)]


def options(**values: Any) -> AugmentParams:
    return AugmentParams.model_validate({"copies": 2, "transforms": EVERY_TRANSFORM, "contact_sheet_images": 0, **values})


def run_stage(source: Path, out: Path, augment_params: AugmentParams, **context: Any) -> dict[str, Any]:
    return run({"split": source}, augment_params, out, Context(**context))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def only(name: str, **values: Any) -> tuple[Transform, ...]:
    return (Transform.model_validate({name: {"p": 1.0, **values}}),)


# One image


def red_on_grey() -> tuple[np.ndarray, np.ndarray]:
    image = np.full((300, 400, 3), 90, np.uint8)
    image[100:180, 150:260] = (240, 30, 30)
    return image, np.array([[150, 100, 260, 180.0]])


@pytest.mark.parametrize("name", ["brightness", "exposure", "blur", "crop", "flip", "rotate", "hue", "noise"])
@pytest.mark.parametrize("copy", [1, 2, 3])
def test_the_box_follows_the_object(name: str, copy: int) -> None:
    image, boxes = red_on_grey()
    values = {"rotate": {"boxes": "corners"}, "flip": {"vertical": True}, "hue": {"degrees": 5}}.get(name, {})
    result = augment(image, boxes, only(name, **values), 0, "content", copy)
    assert result.applied == (name,)
    assert result.image.shape == image.shape
    assert not np.array_equal(result.image, image)
    rows, columns = np.nonzero(result.image[:, :, 0].astype(int) - result.image[:, :, 1] > 70)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(result.boxes[0] - extent).max() <= 1.5


def test_a_turned_disc_keeps_a_tight_box() -> None:
    image = np.full((300, 300, 3), 90, np.uint8)
    cv2.circle(image, (100, 150), 40, (240, 30, 30), -1)
    boxes = np.array([[60, 110, 141, 191.0]])
    result = augment(image, boxes, only("rotate", degrees=45), 0, "content", 2)
    rows, columns = np.nonzero(result.image[:, :, 0].astype(int) - result.image[:, :, 1] > 70)
    assert np.abs(result.boxes[0] - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() <= 1.5
    loose = augment(image, boxes, only("rotate", degrees=45, boxes="corners"), 0, "content", 2)
    assert (loose.boxes[0, 2:] - loose.boxes[0, :2] > result.boxes[0, 2:] - result.boxes[0, :2] + 2).all()


def test_cutout_counts_what_it_hides_and_leaves_boxes_where_they_are() -> None:
    image, boxes = red_on_grey()
    for copy in range(1, 6):
        result = augment(image, boxes, only("cutout", holes=8, size=0.4), 0, "content", copy)
        seen = (result.image[100:180, 150:260, 0] == 240).mean()
        assert result.boxes.tolist() == boxes.tolist()
        assert result.visible[0] == pytest.approx(seen, abs=1e-6)


def test_a_box_that_a_crop_cuts_is_cut_and_counted() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[0, 0, 100, 100], [0, 0, 3, 3], [97, 97, 100, 100.0]])
    shares = [augment(image, boxes, only("crop", min_scale=0.5), 0, "content", copy).visible for copy in range(1, 10)]
    assert all(0.45 <= share[0] < 1 for share in shares)
    assert any(share[1] == 0 for share in shares)
    assert any(share[2] == 0 for share in shares)


def test_images_without_boxes_are_augmented_too() -> None:
    result = augment(photo(1), np.zeros((0, 4)), options().transforms, 0, "content", 1)
    assert result.boxes.shape == (0, 4)
    assert result.visible.shape == (0,)


def test_seed_content_and_number_each_change_the_copy_and_nothing_else_does() -> None:
    transforms = options().transforms
    image = photo(1)

    def draw(seed: int = 0, content: str = "a", copy: int = 1) -> bytes:
        return augment(image, np.zeros((0, 4)), transforms, seed, content, copy).image.tobytes()

    assert draw() == draw()
    assert len({draw(), draw(seed=1), draw(content="b"), draw(copy=2)}) == 4


def test_transforms_fire_independently_of_each_other() -> None:
    transforms = options(transforms=[{"brightness": {}}, {"flip": {}}, {"exposure": {}}]).transforms
    sets = {augment(photo(1), np.zeros((0, 4)), transforms, 0, "content", copy).applied for copy in range(1, 80)}
    assert len(sets) == 7  # every combination but none, which is drawn again


def test_how_often_a_transform_fires_is_its_p() -> None:
    transforms = options(transforms=[{"flip": {"p": 0.2}}, {"brightness": {"p": 1.0}}]).transforms
    fired = [augment(photo(1), np.zeros((0, 4)), transforms, 0, "content", copy).applied for copy in range(1, 400)]
    assert 0.13 < np.mean(["flip" in names for names in fired]) < 0.27


def test_a_library_that_cannot_be_imported_is_an_error_not_a_shrug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(MissingDependency, match="albumentations cannot be imported"):
        augmentation.albumentations()


# The stage


def test_val_and_test_are_passed_on_untouched_and_never_copied(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    run_stage(source, tmp_path / "out", options())
    before, after = Dataset.load(source), Dataset.load(tmp_path / "out")
    for split in ("val", "test"):
        old, new = before.of_split(split), after.of_split(split)
        assert len(old.images) == 1
        assert new.images.equals(old.images)
        assert new.boxes.equals(old.boxes)
        for path in old.images["path"]:
            assert (tmp_path / "out/images" / path).samefile(source / "images" / path)
    copies = after.images[after.images["path"].str.contains("__aug")]
    assert set(copies["split"]) == {"train"}
    held_out = set(before.images.loc[before.images["split"] != "train", "source_id"])
    assert not held_out & set(copies["source_id"])
    assert not set(before.images.loc[before.images["split"] != "train", "group_id"]) & set(copies["group_id"])


def test_a_data_set_without_training_images_gets_no_copies(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES[:2], ("val", "test"))
    summary = run_stage(source, tmp_path / "out", options(contact_sheet_images=6))
    assert (summary["copies"], summary["images_processed"], summary["images"]) == (0, 0, 2)


def test_copies_lie_beside_their_originals_and_descend_from_them(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    summary = run_stage(source, tmp_path / "out", options())
    out = Dataset.load(tmp_path / "out").images.set_index("path")
    assert (summary["copies"], summary["images"], len(out)) == (8, 14, 14)
    for name in ("sub/0.jpg", "sub/5.jpg"):
        for number in (1, 2):
            copy = out.loc[name.replace(".jpg", f"__aug{number}.jpg")]
            assert copy["source_id"] == out.loc[name, "source_id"]
            assert copy["group_id"] == out.loc[name, "group_id"]
            assert (copy["width"], copy["height"]) == (96, 72)
            assert copy["hash"] == blake3.blake3((tmp_path / "out/images" / str(copy.name)).read_bytes()).hexdigest()
            assert copy["hash"] != out.loc[name, "hash"]
    assert sum(summary["transforms_applied"].values()) > 8


def test_equal_stems_in_one_folder_do_not_clash(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", ["1.jpg", "1.png"], ("train", "train"))
    run_stage(source, tmp_path / "out", options(copies=1))
    assert Dataset.load(tmp_path / "out").images["path"].tolist() == ["1.jpg", "1.png", "1__aug1.jpg", "1.png__aug1.jpg"]


def test_the_bytes_are_the_same_whatever_the_number_of_workers(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    for workers in (1, 4):
        run_stage(source, tmp_path / f"out{workers}", options(contact_sheet_images=6), workers=workers)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out4")


def test_a_copy_does_not_depend_on_the_other_images(tmp_path: Path) -> None:
    run_stage(split_artifact(tmp_path / "few", NAMES[:2]), tmp_path / "few_out", options())
    run_stage(split_artifact(tmp_path / "many", NAMES), tmp_path / "many_out", options())
    assert contents(tmp_path / "few_out/images").items() <= contents(tmp_path / "many_out/images").items()


def test_known_copies_are_linked_and_only_new_ones_are_made(tmp_path: Path) -> None:
    run_stage(split_artifact(tmp_path / "in1", NAMES), tmp_path / "v1", options())
    source = split_artifact(tmp_path / "in2", [*NAMES, "sub/77.jpg"], (*SPLITS, "train"))
    summary = run_stage(source, tmp_path / "v2", options(), previous=tmp_path / "v1")
    assert (summary["images_processed"], summary["images_reused"]) == (1, 4)
    assert (tmp_path / "v2/images/sub/0__aug1.jpg").samefile(tmp_path / "v1/images/sub/0__aug1.jpg")
    run_stage(source, tmp_path / "fresh", options())
    assert contents(tmp_path / "v2") == contents(tmp_path / "fresh")


def test_corrected_labels_are_not_answered_with_old_boxes(tmp_path: Path) -> None:
    run_stage(split_artifact(tmp_path / "in1", NAMES), tmp_path / "v1", options())
    source = split_artifact(tmp_path / "in2", NAMES, shift=5)
    summary = run_stage(source, tmp_path / "v2", options(), previous=tmp_path / "v1")
    assert summary["images_processed"] == 4
    run_stage(source, tmp_path / "fresh", options())
    assert contents(tmp_path / "v2") == contents(tmp_path / "fresh")


def test_hidden_boxes_are_dropped_in_that_copy_and_accounted_for(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    strict = options(transforms=[{"cutout": {"p": 1.0, "holes": 20, "size": 0.5}}], min_visibility=0.8)
    summary = run_stage(source, tmp_path / "out", strict)
    out = Dataset.load(tmp_path / "out")
    dropped = [entry for entry in ledger.read(tmp_path / "out") if entry.reason == "hidden_in_copy"]
    assert dropped
    assert len(out.boxes) + len(dropped) == 2 * len(out.images)
    assert summary["ledger"] == {"box dropped: hidden_in_copy": len(dropped)}
    assert all("__aug" in entry.path for entry in dropped)


def test_without_copies_nothing_is_drawn_and_albumentations_stays_unloaded(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    code = (
        "import sys; from pathlib import Path; from pipeline.stages.augment import STAGE; from pipeline.stage import Context;"
        "print(STAGE.run({'split': Path(sys.argv[1])}, STAGE.params(), Path(sys.argv[2]), Context())['copies'],"
        "'albumentations' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "False", "False"]
    assert len(Dataset.load(tmp_path / "out").images) == 6


def test_the_contact_sheet_shows_originals_beside_their_copies(tmp_path: Path) -> None:
    source = split_artifact(tmp_path / "in", NAMES)
    run_stage(source, tmp_path / "out", options(contact_sheet_images=6))
    sheet = images.decode(tmp_path / "out" / "contact_sheet.jpg")
    height = drawing.CAPTION_HEIGHT + drawing.GAP + 225
    assert sheet.shape == (48 + height, drawing.GAP + 6 * (300 + drawing.GAP), 3)  # two images with two copies each, in a row


def test_drawn_boxes_have_their_classes_colours_and_stay_inside() -> None:
    image = np.full((200, 300, 3), 128, np.uint8)
    boxes = np.array([[20, 40, 120, 160], [250, -5, 320, 60.0]])
    drawn = drawing.draw_boxes(image, boxes, np.array([0, 1]), ("cat", "dog"), scores=np.array([0.9, 0.5], np.float32))
    assert drawn.shape == image.shape
    assert tuple(drawn[100, 20]) == drawing.colour_of(0)
    assert tuple(drawn[30, 251]) == drawing.colour_of(1)
    assert (image == 128).all()
    plain = drawing.draw_boxes(image, boxes, np.array([0, 1]), ("cat", "dog"), labels=False)
    assert (drawn != plain).any(axis=2).sum() > 300


# Params


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"blur": {"sigma": 0}}, "greater than 0.1"),
        ({"rotate": {"degrees": 200}}, "less than or equal to 180"),
        ({"flip": {"horizontal": False}}, "remove the flip"),
        ({"hue": {"degrees": 0, "saturation": 0}}, "nothing would change"),
        ({"noise": {"std": "much"}}, "valid number"),
        ({"brightness": {"p": 0}}, "greater than 0"),
        ({"flip": {}, "blur": {}}, "one transform per list entry"),
        ({}, "one transform per list entry"),
    ],
)
def test_transforms_that_cannot_be_meant_are_refused(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        options(transforms=[transform])


def test_boxes_by_image_are_those_of_each_image() -> None:
    rows = [{"path": f"{number}.jpg", "width": 96, "height": 72} for number in range(5)]
    boxes = [(3, 1, 1, 2, 30, 40), (1, 0, 5, 6, 7, 8), (3, 0, 9, 9, 20, 20)]
    for some in (boxes, []):
        dataset = Dataset.from_rows(["cat", "dog"], rows, some)
        by_image = dataset.by_image()
        assert len(by_image) == 5
        for number, (edges, class_ids) in enumerate(by_image):
            np.testing.assert_array_equal(edges, dataset.edges_of(number)[0])
            np.testing.assert_array_equal(class_ids, dataset.edges_of(number)[1])
            assert (edges.dtype, edges.shape) == (np.dtype(np.float64), (len(class_ids), 4))


def test_tables_are_not_built_for_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all copies reused, nearly all of the time went into one table a copy."""

    def built(names: list[str], folder: Path) -> int:
        source = split_artifact(folder / "data", names, ("train",) * len(names))
        run_stage(source, folder / "first", options())
        whole, count = pd.DataFrame.__init__, 0

        def counting(*args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            whole(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(pd.DataFrame, "__init__", counting)
            summary = run_stage(source, folder / "again", options(), previous=folder / "first")
        assert summary["images_reused"] == len(names)
        return count

    assert built(NAMES[:2], tmp_path / "few") == built(NAMES, tmp_path / "many")


def test_copies_without_transforms_are_refused() -> None:
    with pytest.raises(ValidationError, match="would be duplicates"):
        options(transforms=[])


def test_a_misspelled_transform_names_its_place_and_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("augment:\n  copies: 1\n  transforms:\n    - flip: {}\n    - bluur: {sigma: 1.0}\n", encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        params.load(path, {"augment": STAGE})
    assert any("augment.transforms.1.bluur" in problem and "'blur'" in problem for problem in caught.value.problems)


def test_a_misspelled_option_of_a_transform_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("augment:\n  copies: 1\n  transforms:\n    - rotate: {degree: 5}\n", encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        params.load(path, {"augment": STAGE})
    assert any("'degrees'" in problem for problem in caught.value.problems)


def test_the_seed_of_the_run_reaches_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 7\n", encoding="utf-8")
    assert params.load(path, {"augment": STAGE}).stages["augment"].model_dump()["seed"] == 7
