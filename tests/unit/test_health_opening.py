from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError, ParamsError
from pipeline.health.examine import examine, examine_tables
from pipeline.health.findings import Finding
from pipeline.health.opening import MENDING, open_folder
from pipeline.labelling.classes import Classes
from pipeline.ledger import Ledger
from pipeline.stage import Context
from tests.labelling import Collected


def found(folder: Path, **options: object) -> dict[str, Finding]:
    warnings: list[str] = []
    context = Context(workers=2, warn=warnings.append)
    result = {one.code: one for one in examine(open_folder(folder, context), context, **options)}  # type: ignore[arg-type]
    assert warnings == []  # the findings say it all
    return result


def photos(root: Path) -> Collected:
    tree = Collected(root)
    for number, colour in enumerate(("red", "green", "blue")):
        tree.image(f"{colour}.png", 100, 50 + number)
    return tree


def test_a_folder_is_examined_as_it_came_and_left_as_it_was(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.voc("a/red.xml", "red.png", [("cat", 10, 10, 10, 40), ("cat", 20, 20, 60, 40), ("cat", 70, 30, 130, 45)])
    tree.voc("a/gone.xml", "gone.png", [("cat", 1, 1, 9, 9)])
    before = sorted(path for path in tmp_path.rglob("*"))
    result = found(tree.files)
    assert result["box_zero_area"].items[0].where().startswith("a/red.xml:")
    assert result["box_out_of_bounds"].items[0].path == "red.png"
    assert result["label_without_image"].items[0].where() == "a/gone.xml"
    assert {item.path for item in result["image_unlabelled"].items} == {"green.png", "blue.png"}
    assert "image_background" not in result
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_what_collect_brought_is_examined_the_same_with_the_groups_that_it_knows(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    tree.groups = {"red.png": "clip"}
    subject = open_folder(tree.close(), Context())
    assert subject.name.endswith("(voc)")
    groups = dict(zip(subject.dataset.images["path"], subject.dataset.images["group_id"], strict=True))
    assert groups["red.png"] == "clip"


def test_equal_files_are_found_in_a_folder_that_nobody_has_hashed(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    shutil.copy(tree.files / "red.png", tree.files / "copy.png")
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    result = found(tree.files)
    assert result["image_duplicate"].count == 1  # the copy says nothing, so it contradicts nothing
    assert "image_duplicate_labels" not in result
    tree.voc("copy.xml", "copy.png", [])
    result = found(tree.files)
    assert [item.detail for item in result["image_duplicate_labels"].items] == ["1 and 0 boxes"]
    assert "image_duplicate" not in result


def test_images_are_examined_also_where_the_labels_cannot_be_read(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.data("cut.jpg", b"\xff\xd8\xff\xe0 cut off")
    result = found(tree.files)
    assert "no labels in a known format" in result["labels_unusable"].detail
    assert (result["labels_unusable"].count, result["labels_unusable"].items) == (1, ())  # the message is told once
    assert result.keys().isdisjoint({"image_background", "image_unlabelled"})  # nobody knows
    assert [item.path for item in result["image_unreadable"].items] == ["cut.jpg"]
    assert "Known formats: coco, " in result["labels_unusable"].detail, "what to do is said too"
    tree.text("labels.json", '{"images": [], "annotations": [')
    assert found(tree.files)["labels_unusable"].severity == "error"


def test_one_label_file_that_cannot_be_parsed_does_not_hide_the_others(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40), ("cat", 5, 5, 5, 5)])
    tree.text("green.xml", "<annotation><filename>green.png</filename>\n<object>")
    result = found(tree.files)
    assert result["label_file_malformed"].items[0].where() == "green.xml:2"
    assert result["box_zero_area"].count == 1


def test_where_no_label_file_can_be_parsed_they_are_named(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.text("green.xml", "<annotation><filename>green.png</filename>\n<object>")
    assert [item.detail.partition(" ")[0] for item in found(tree.files)["labels_unusable"].items] == ["green.xml:2:"]


def test_two_formats_are_refused_until_one_is_named(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30]}
    tree.coco("coco.json", [{"id": 1, "file_name": "red.png", "width": 100, "height": 50}], [box], [{"id": 1, "name": "dog"}])
    assert "2 formats" in found(tree.files)["labels_unusable"].detail
    subject = open_folder(tree.files, Context(), policies=[replace(MENDING, format="voc")])
    assert subject.dataset.class_names == ("cat",)
    assert [one.code for one in subject.found] == ["labels_other_format"]


def test_links_that_were_not_followed_are_told_with_labels_and_without(tmp_path: Path) -> None:
    tree = photos(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    (tree.files / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [item.path for item in found(tree.files)["link_left_out"].items] == ["more"]
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    assert [item.path for item in found(tree.files)["link_left_out"].items] == ["more"]


def test_several_sources_are_examined_as_the_one_data_set_that_they_become(tmp_path: Path) -> None:
    tree = Collected(tmp_path).image("a/red.png").image("b/green.png", 100, 60)
    tree.voc("a/red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 30, 30]}
    tree.coco("b/coco.json", [{"id": 1, "file_name": "green.png", "width": 100, "height": 60}], [box], [{"id": 1, "name": "dog"}])
    assert "labels_unusable" in found(tree.files)
    parts = [replace(MENDING, folder="a"), replace(MENDING, folder="b")]
    subject = open_folder(tree.files, Context(), policies=parts, classes=Classes())
    assert (subject.name, subject.dataset.class_names) == (f"{tree.files} (voc, coco)", ("cat", "dog"))
    assert (len(subject.dataset.images), len(subject.dataset.boxes), subject.found) == (2, 2, [])


def test_classes_that_no_file_names_are_told_and_the_numbers_between_are_not_empty_classes(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.text("red.txt", "3 0.5 0.5 0.2 0.2\n")
    result = found(tree.files)
    assert (result["class_names_missing"].severity, result["class_names_missing"].count) == ("warning", 1)
    assert result.keys().isdisjoint({"import_note", "class_empty"})
    named = replace(MENDING, classes=Classes(rename={f"class_{k}": name for k, name in enumerate("abcd")}))
    context = Context(workers=2)
    result = {one.code: one for one in examine(open_folder(tree.files, context, policies=[named]), context)}
    assert "class_names_missing" not in result
    assert [item.detail for item in result["class_empty"].items] == ["a", "b", "c"]


def test_no_folder_and_no_image_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        open_folder(tmp_path / "gone", Context())
    with pytest.raises(DataError, match="There is no image"):
        open_folder(tmp_path, Context())


def test_an_ignored_code_is_left_out_and_a_misspelled_one_refused(tmp_path: Path) -> None:
    tree = photos(tmp_path)
    tree.voc("red.xml", "red.png", [("cat", 20, 20, 60, 40)])
    assert "image_unlabelled" not in found(tree.files, ignore=["image_unlabelled"])
    with pytest.raises(ParamsError, match="no code"):
        found(tree.files, ignore=["image_unlabeled"])


# ---------------------------------------------------------------- versions


def version(root: Path, stage: str, number: int, dataset: Dataset, ledger: Ledger, **inputs: int) -> Path:
    folder = root / stage / f"v{number}"
    dataset.save(folder)
    ledger.write(folder)
    recipe = {"stage": stage, "inputs": {name: {"version": n, "digest": ""} for name, n in inputs.items()}}
    (folder / "manifest.json").write_text(json.dumps({"recipe": recipe}), encoding="utf-8")
    return folder


def test_a_version_tells_what_the_import_that_it_descends_from_noted(tmp_path: Path) -> None:
    data = Dataset.from_rows(["a"], [{"path": "a.jpg", "width": 9, "height": 9}], [(0, 0, 1, 1, 5, 5)])
    noted, other = Ledger(), Ledger()
    noted.add("box", "dropped", "zero_area", path="a.jpg", file="a.txt", line=2)
    other.add("box", "dropped", "below_min_area", path="a.jpg")
    version(tmp_path, "annotate", 1, data, Ledger(), collect=1)
    version(tmp_path, "annotate", 2, data, noted, collect=1)
    version(tmp_path, "preprocess", 4, data, other, annotate=2)
    split = version(tmp_path, "split", 3, data, other, preprocess=4)
    subject = open_folder(split, Context(), "split@v3")
    assert (subject.name, [entry.where() for entry in subject.entries]) == ("split@v3", ["a.txt:2"])


def test_the_tables_alone_tell_what_needs_no_pixels() -> None:
    rows = [{"path": "a/1.jpg", "width": 9, "height": 9, "hash": "x"}, {"path": "b/1.jpg", "width": 9, "height": 9, "hash": "x"}]
    data = Dataset.from_rows(["a", "b"], rows, [(0, 0, 1, 1, 5, 5), (1, 0, 1, 1, 5, 5)])
    account = Ledger()
    account.add("box", "dropped", "zero_area", path="a/1.jpg")
    codes = [one.code for one in examine_tables(data, account.entries) if one.severity != "info"]
    assert codes == ["box_zero_area", "image_duplicate", "class_empty", "class_rare"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("bccd-voc", {"box_zero_area": 2, "box_near_identical": 7, "box_unlike_class": 3, "leak_near_duplicate": 1}),
        ("traffic-coco", {"box_tiny": 1, "class_empty": 1, "class_rare": 2}),
        ("sharks-yolo", {"box_near_identical": 1, "class_rare": 3, "leak_near_duplicate": 2, "split_class_missing": 2}),
        ("airbird-darknet", {"split_list_missing": 1, "class_rare": 2, "split_overlap": 1}),
        ("exif/keides-stored-frame", {"exif_undecided": 2, "class_names_missing": 1, "class_rare": 1}),
    ],
)
def test_of_real_data_sets_exactly_that_is_told_which_a_person_sees_in_them(
    shared_data: Path, folder: str, expected: dict[str, int]
) -> None:
    result = found(shared_data / folder)
    assert {code: one.count for code, one in result.items() if one.severity != "info"} == expected
