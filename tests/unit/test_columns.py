"""A data set as columns: to and from parquet, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import BOX_COLUMNS, IMAGE_COLUMNS, Dataset
from pipeline.errors import ArtifactError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset() -> Dataset:
    images = [{"path": path, "width": 10, "height": 20, "split": "val"} for path in ("a b.jpg", "ü/🐈.png", "z.jpg")]
    return Dataset.from_rows(["cat", "dog"], images, [(2, 1, 1, 2, 3, 4), (0, 0, 0.1, 0.2, 0.3, 1 / 3), (0, 1, 0, 0, 10, 20)])


def test_tables_and_columns_are_the_same(dataset: Dataset) -> None:
    assert dataset.images.dtypes.astype(str).to_dict() == IMAGE_COLUMNS
    assert dataset.boxes.dtypes.astype(str).to_dict() == BOX_COLUMNS
    assert dataset.boxes["image"].tolist() == dataset.image_of_box.tolist() == [0, 0, 2], "sorted"
    assert dataset.boxes["class_id"].tolist() == dataset.class_ids.tolist() == [0, 1, 1], "and otherwise as they came"
    again = Dataset(dataset.class_names, dataset.images, dataset.boxes)
    assert again.image_columns == dataset.image_columns | {
        "width": again.image_columns["width"],
        "height": again.image_columns["height"],
    }
    assert again.sizes.tolist() == dataset.sizes.tolist() == [[10, 20]] * 3
    assert (again.edges == dataset.edges).all()


def test_parquet_is_what_pandas_reads_and_writes(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path)
    for name, table in (("images", dataset.images), ("boxes", dataset.boxes)):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), table)
        table.assign(more=1).to_parquet(tmp_path / f"{name}.parquet")
    loaded = Dataset.load(tmp_path)
    assert loaded.paths == dataset.paths
    assert loaded.box_columns.keys() == BOX_COLUMNS.keys()
    assert (loaded.edges == dataset.edges).all()


def test_a_data_set_without_images_or_boxes(tmp_path: Path) -> None:
    Dataset.from_rows(["cat"], [], []).save(tmp_path)
    loaded = Dataset.load(tmp_path)
    assert loaded.counts() == {"images": 0, "boxes": 0, "classes": {"cat": 0}}
    assert loaded.images.dtypes.astype(str).to_dict() == IMAGE_COLUMNS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ["a.jpg", None, "b.jpg"]}, "images: path must be text, got "),
        ({"width": [1.0, float("nan"), 2.0]}, "images: width must be whole numbers, and some are missing"),
        ({"path": ["a.jpg", "a.jpg", "b.jpg"]}, "path must be unique, but 'a.jpg' occurs more than once"),
        ({"split": None}, "missing \\['split'\\]"),
    ],
)
def test_what_is_no_data_set(dataset: Dataset, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    dataset.save(tmp_path)
    gone = [name for name, values in change.items() if values is None]
    table = dataset.images.drop(columns=gone) if gone else dataset.images.assign(**change)
    with pytest.raises(ValueError, match=message):
        Dataset(dataset.class_names, table, dataset.boxes)
    table.to_parquet(tmp_path / "images.parquet")
    with pytest.raises(ArtifactError, match=message):
        Dataset.load(tmp_path)


def test_columns_of_two_lengths(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="columns of one length"):
        Dataset(dataset.class_names, {**dataset.image_columns, "path": ["a.jpg"]}, dataset.box_columns)


def test_columns_are_read_only_and_the_memory_of_others_is_not(dataset: Dataset) -> None:
    mine = {name: np.array(values) for name, values in dataset.box_columns.items()}
    for values in (mine, {name: column[::-1].copy() for name, column in mine.items()}):
        made = Dataset(dataset.class_names, dataset.image_columns, values)
        for column in (made.class_ids, made.image_of_box, made.edges, *made.box_columns.values(), made.image_columns["width"]):
            with pytest.raises(ValueError, match="read-only"):
                column[0] = 0
        values["x1"][0] = 0.5
    assert np.shares_memory(Dataset(dataset.class_names, dataset.image_columns, mine).edges_of(0)[1], mine["class_id"]), "no copy"


def replaced(table: pa.Table, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index("width"), "width", column)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: table.append_column("path", table["path"]), r"images\.parquet.*path"),
        (lambda table: replaced(table, pa.array([[1, 2]] * 3)), "images: width must be numbers"),
        (lambda table: replaced(table, pa.array([{"a": 1}] * 3)), "images: width must be numbers"),
        (lambda table: replaced(table, pa.array([None] * 3)), "images: width must be numbers"),
        (lambda table: replaced(table, pa.array(["wide"] * 3)), "images: width must be numbers"),
    ],
)
def test_tables_of_other_kinds(dataset: Dataset, tmp_path: Path, damage: Callable[[pa.Table], pa.Table], message: str) -> None:
    dataset.save(tmp_path)
    pq.write_table(damage(pq.read_table(tmp_path / "images.parquet")), tmp_path / "images.parquet")
    with pytest.raises(ArtifactError, match=message) as caught:
        Dataset.load(tmp_path)
    assert "verify" in caught.value.hint


@pytest.mark.parametrize("text", ["null", "3", '"ab"', '{"cat": 1}', "[1, 2]", '[["cat"]]', "[", "[" * 100_000])
def test_class_names_that_are_none(dataset: Dataset, tmp_path: Path, text: str) -> None:
    dataset.save(tmp_path)
    (tmp_path / "classes.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"classes\.json"):
        Dataset.load(tmp_path)


def test_a_damaged_table_is_a_clear_error(dataset: Dataset, tmp_path: Path) -> None:
    dataset.save(tmp_path)
    whole = (tmp_path / "boxes.parquet").read_bytes()
    random, hints = Random(0), []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.randrange(len(whole))] = random.randrange(256)
        (tmp_path / "boxes.parquet").write_bytes(damaged)
        try:
            assert Dataset.load(tmp_path).paths == dataset.paths  # that table is whole
        except ArtifactError as error:
            hints.append(error.hint)
    assert len(hints) > 100
    assert all("verify" in hint for hint in hints)


@pytest.mark.parametrize("target", ["yolo", "voc", "coco", "csv", "kitti", "supervisely"])
def test_a_conversion_loads_no_pandas(tmp_path: Path, target: str) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.json").write_text(json.dumps(document), encoding="utf-8")
    code = (
        "import sys\nfrom pipeline import cli\n"
        f"code = cli.main(['convert', 'in', 'out', '--to', {target!r}, '--no-images', '--quiet'])\n"
        "print(code, sorted(sys.modules.keys() & {'pandas', 'pyarrow', 'cv2', 'PIL'}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.split("\n")[0] == "0 []", result.stderr
