"""What is peculiar to Hugging Face image folders and Parquet files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError, PipelineError
from tests.labelling import Collected, Result

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "huggingface"


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(collected: Collected, record: dict[str, Any], **params: Any) -> Result:
    """One image with this record, and one sound box on another."""
    sound = {"file_name": "z.jpg", "objects": {"bbox": [[1, 1, 1, 1]], "category": [0]}}
    text = lines({"file_name": "a.jpg", **record}, sound)
    return collected.image("a.jpg").image("z.jpg").text("metadata.jsonl", text).run(**params)


def of_a(result: Result) -> list[Any]:
    return [box[1:] for box in result.boxes() if box[0] == "a.jpg"]


def parquet(collected: Collected, path: str, table: pa.Table) -> Collected:
    target = collected.files / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, target)
    return collected


def test_as_the_documentation_has_it(collected: Collected) -> None:
    text = (
        '{"file_name": "0001.png", "objects": {"bbox": [[302.0, 109.0, 73.0, 52.0]], "categories": [0]}}\n'
        '{"file_name": "0002.png", "objects": {"bbox": [[810.0, 100.0, 57.0, 28.0]], "categories": [1]}}\n'
        '{"file_name": "0003.png", "objects": {"bbox": [], "categories": []}}\n'
    )
    for number in (1, 2, 3):
        collected.image(f"data/test/000{number}.png", 900, 300)
    result = collected.text("data/test/metadata.jsonl", text).run()
    assert result.summary["format"] == "huggingface"
    assert result.boxes() == [
        ("data/test/0001.png", "class_0", 302, 109, 375, 161),
        ("data/test/0002.png", "class_1", 810, 100, 867, 128),
    ]
    assert set(result.splits().values()) == {"test"}
    assert (result.entries, result.summary["background"]) == ([], 1)


def test_parquet_of_the_datasets_library(collected: Collected) -> None:
    collected.copy(GOLDEN).image("data/10.jpg").image("data/20.jpg").image("images/30.jpg", 64, 48)
    result = collected.run()
    assert result.summary["format"] == "huggingface"
    assert result.dataset.class_names == ("Coverall", "Mask", "Unused"), "from the schema"
    assert result.boxes() == [
        ("data/10.jpg", "Coverall", 10, 5, 40.5, 25.25),
        ("data/10.jpg", "Mask", 1, 1, 10, 10),
        ("images/30.jpg", "Mask", 0, 0, 64, 48),
    ]
    assert result.splits() == {"data/10.jpg": "train", "data/20.jpg": "train", "images/30.jpg": "val"}
    assert (result.entries, result.summary["background"]) == ([], 1)


def test_images_of_one_name_in_two_parquet_files(collected: Collected) -> None:
    boxes = {"train": [1.0, 1.0, 2.0, 2.0], "test": [2.0, 2.0, 2.0, 2.0]}
    for split, box in boxes.items():
        image = {"bytes": b"", "path": "0.jpg"}
        table = pa.table({"image": [image], "objects": [{"bbox": [box], "category": ["cat"]}]})
        parquet(collected.image(f"{split}-00000/0.jpg"), f"{split}-00000.parquet", table)
    assert [box[:3] for box in collected.run().boxes()] == [("test-00000/0.jpg", "cat", 2), ("train-00000/0.jpg", "cat", 1)]


def test_images_that_lie_in_the_parquet_file(collected: Collected) -> None:
    with pytest.raises(DataError) as error:
        collected.copy(GOLDEN).image("logo.jpg").run(on_invalid="drop")
    assert [problem.split(": ")[0] for problem in error.value.problems] == [
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]
    assert "inside the Parquet file; unpack them beside it" in error.value.problems[0]
    assert "10.jpg" in error.value.problems[0]


@pytest.mark.parametrize(
    "record",
    [
        {"objects": {"bbox": [[1, 2, 3, 4]], "category": [0]}},
        {"objects": [{"bbox": [1, 2, 3, 4], "label": 0}]},
        {"faces": {"boxes": [[1, 2, 3, 4]], "class_id": ["0"]}},
        {"image_id": 5, "annotations": [{"bbox": [1, 2, 3, 4], "category_id": 0.0, "area": None}]},
        {"bbox": [[1, 2, 3, 4]], "labels": [0]},
        {"bbox": [1, 2, 3, 4], "label": 0},
    ],
)
def test_columns_have_no_fixed_names(collected: Collected, record: dict[str, Any]) -> None:
    names = {"names": ["cat"]} if "class_id" not in record.get("faces", {}) else {}
    wanted = "cat" if names else "0"  # a text is a name
    assert of_a(read(collected, record, options=names)) == [(wanted, 1, 2, 4, 6)]


@pytest.mark.parametrize(
    ("options", "values", "edges"),
    [
        ({}, [10, 20, 30, 10], (10, 20, 40, 30)),
        ({"box": "xyxy"}, [10, 20, 30, 40], (10, 20, 30, 40)),
        ({"box": "cxcywh"}, [20, 30, 10, 20], (15, 20, 25, 40)),
        ({"box": "xyxy", "normalised": True}, [0.1, 0.4, 0.3, 0.8], (10, 20, 30, 40)),
    ],
)
def test_what_the_numbers_are(
    collected: Collected, options: dict[str, Any], values: list[float], edges: tuple[float, ...]
) -> None:
    text = lines({"file_name": "a.jpg", "objects": {"bbox": [values], "category": ["x"]}})
    assert collected.image("a.jpg").text("metadata.jsonl", text).run(options=options).boxes() == [("a.jpg", "x", *edges)]


def test_an_unknown_kind_of_box_is_refused(collected: Collected) -> None:
    with pytest.raises(PipelineError, match=r"annotate\.options\.box"):
        read(collected, {}, options={"box": "polar"})


CARD = """---
license: mit
dataset_info:
- config_name: default
  features:
  - name: image
    dtype: image
  - name: scene
    dtype:
      class_label:
        names:
          '0': indoor
  - name: objects
    sequence:
    - name: bbox
      sequence: float32
      length: 4
    - name: category
      dtype:
        class_label:
          names:
            '0': no
            '10': ten
            '2': "1e3"
---
# Title
"""


@pytest.mark.parametrize("place", ["README.md", "data/README.md", "data/train/README.md"])
def test_class_names_of_the_data_set_card(collected: Collected, place: str) -> None:
    record = {"file_name": "a.jpg", "objects": {"bbox": [[1, 1, 2, 2], [2, 2, 2, 2], [3, 3, 3, 3]], "category": [2, 10, 1]}}
    collected.image("data/train/a.jpg").text("data/train/metadata.jsonl", lines(record))
    result = collected.text(place, CARD).run()
    assert result.dataset.class_names == ("no", "1e3", "ten")
    assert [box[1] for box in result.boxes()] == ["1e3", "ten"]
    assert [(entry.reason, entry.line) for entry in result.entries] == [("unknown_class", 1)]


def test_class_names_of_dataset_info(collected: Collected) -> None:
    label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {"objects": {"feature": {"bbox": {"_type": "Value"}, "label": label}, "_type": "Sequence"}}
    collected.text("dataset_infos.json", json.dumps({"default": {"features": features}}))
    result = read(collected, {"objects": {"bbox": [[1, 1, 2, 2]], "label": [1]}})
    assert (of_a(result), result.dataset.class_names) == ([("dog", 1, 1, 3, 3)], ("cat", "dog"))
    result = read(collected, {"objects": {"bbox": [[1, 1, 2, 2]], "label": [1]}}, options={"names": ["x", "y"]})
    assert of_a(result) == [("y", 1, 1, 3, 3)], "the user knows better"


def test_cards_that_mean_harm_or_are_broken(collected: Collected) -> None:
    record = {"objects": {"bbox": [[1, 1, 2, 2]], "label": [1]}}
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    collected.text("README.md", f"---\n{laughs}---\n")
    assert of_a(read(collected, record)) == [("class_1", 1, 1, 3, 3)]
    collected.text("README.md", "---\nlicense: mit\nx: [1\n---\n")
    with pytest.raises(DataError, match=r"- README\.md:4: malformed YAML"):
        read(collected, record)
    assert of_a(read(collected, record, options={"names": ["x", "y"]})) == [("y", 1, 1, 3, 3)], "nobody needs the card"
    collected.text("README.md", "---\nx: " + "[" * 100_000 + "\n---\n")
    with pytest.raises(DataError, match=r"README\.md.*malformed YAML"):
        read(collected, record)
    collected.text("README.md", "no front matter")
    assert of_a(read(collected, record)) == [("class_1", 1, 1, 3, 3)]


def test_names_without_a_list_come_in_alphabetical_order(collected: Collected) -> None:
    records = [{"file_name": f"{n}.jpg", "objects": {"bbox": [[1, 1, 2, 2]], "category": [n]}} for n in ("dog", "cat")]
    result = collected.image("dog.jpg").image("cat.jpg").text("metadata.jsonl", lines(*records)).run()
    assert result.dataset.class_names == ("cat", "dog")
    assert result.boxes() == [("cat.jpg", "cat", 1, 1, 3, 3), ("dog.jpg", "dog", 1, 1, 3, 3)]


def test_one_class_that_nobody_writes_down(collected: Collected) -> None:
    record = {"faces": {"bbox": [[1, 1, 2, 2]], "blur": [0]}}
    assert read(collected, record).reasons() == {"box dropped: no_class": 1}
    assert of_a(read(collected, record, options={"names": ["face"]})) == [("face", 1, 1, 3, 3)]


def test_crowds(collected: Collected) -> None:
    record = {"objects": {"bbox": [[1, 1, 2, 2], [2, 2, 2, 2]], "category": [0, 0], "iscrowd": [False, True]}}
    result = read(collected, record)
    assert (of_a(result), result.reasons()) == ([("class_0", 1, 1, 3, 3)], {"box dropped: crowd": 1})


@pytest.mark.parametrize(
    "cell",
    ['{"bbox": [[1, 2, 3, 4]], "category": ["cat"]}', "{'bbox': [[1, 2, 3, 4]], 'category': ['cat']}"],
)
def test_csv(collected: Collected, cell: str) -> None:
    quoted = cell.replace('"', '""')
    collected.image("a b.jpg").image("b.jpg").text(
        "metadata.csv", f'file_name,objects,note\r\na b.jpg,"{quoted}",x\r\nb.jpg,,y\r\n'
    )
    result = collected.run()
    assert (result.summary["format"], result.boxes()) == ("huggingface", [("a b.jpg", "cat", 1, 2, 4, 6)])
    assert (result.entries, result.summary["background"]) == ([], 1)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"bbox": [[1, 2, 3]], "category": [0]}, "malformed_box"),
        ({"bbox": [[1, 2, 3, "x"]], "category": [0]}, "malformed_box"),
        ({"bbox": [{"x": 1}], "category": [0]}, "malformed_box"),
        ({"bbox": [[1, 2, 3, math.nan]], "category": [0]}, "not_finite"),
        ({"bbox": [[1, 2, 3, 10**400]], "category": [0]}, "not_finite"),
        ({"bbox": [[1, 2, 3, 4]], "category": []}, "no_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": [None]}, "no_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": [" "]}, "no_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": 0}, "no_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": [-1]}, "unknown_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": [10**9]}, "unknown_class"),
        ({"bbox": [[1, 2, 3, 4]], "category": [[0]]}, "unknown_class"),
        ({"bbox": "text", "category": [0]}, "malformed_box"),
        ([{"bbox": [1, 2, 3], "category": 0}], "malformed_box"),
    ],
)
def test_objects_that_cannot_be_used(collected: Collected, objects: Any, reason: str) -> None:
    result = read(collected, {"objects": objects})
    assert of_a(result) == []
    (entry,) = result.entries
    assert (entry.action, entry.reason, entry.path, entry.where()) == ("dropped", reason, "a.jpg", "metadata.jsonl:1")


def test_deep_nesting_is_no_crash(collected: Collected) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    result = read(collected, {"objects": {"bbox": [deep, [1, 2, 3, 4]], "category": [0, deep]}})
    assert result.reasons() == {"box dropped: malformed_box": 1, "box dropped: unknown_class": 1}


def test_every_broken_file_is_named_at_once(collected: Collected) -> None:
    sound = json.dumps({"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "category": [0]}})
    collected.image("train/a.jpg").text("train/metadata.jsonl", f"{sound}\n{sound[:-5]}\n5\n")
    collected.text("val/metadata.jsonl", "x").text("test/metadata.csv", 'file_name,objects\na.jpg,"{1"\n')
    collected.data("p/metadata.parquet", b"PAR1 no table PAR1")
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop")
    assert [problem.split(": ", 1)[0] for problem in error.value.problems] == [
        "p/metadata.parquet",
        "test/metadata.csv:2",
        "train/metadata.jsonl:2",
        "train/metadata.jsonl:3",
        "val/metadata.jsonl:1",
    ]


def test_parquet_without_pixels(collected: Collected) -> None:
    objects = [[{"bbox": [1.0, 2.0, 3.0, 4.0], "label": "cat"}], [], None, [{"bbox": [1.0, None, 3.0, 4.0], "label": "cat"}]]
    table = pa.table({"file_name": ["a.jpg", "sub/b.jpg", "c.jpg", "d.jpg"], "width": [100, 100, None, 7], "objects": objects})
    for path in ("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg"):
        collected.image(path)
    result = parquet(collected, "metadata.parquet", table).run()
    assert result.boxes() == [("a.jpg", "cat", 1, 2, 4, 6)]
    assert [(entry.reason, entry.path, entry.where(), entry.detail[:5]) for entry in result.entries] == [
        ("malformed_box", "d.jpg", "metadata.parquet", "row 4")
    ]


def test_other_parquet_files_are_no_labels(collected: Collected) -> None:
    collected.image("a.jpg")
    parquet(collected, "table.parquet", pa.table({"path": ["a.jpg"], "x1": [1.0], "box_count": [2]}))
    with pytest.raises(DataError, match="no labels in a known format"):
        collected.run()


def test_a_small_parquet_file_with_one_large_value(collected: Collected) -> None:
    count = 17_000_000
    numbers = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count, np.float32)))
    objects = pa.StructArray.from_arrays([numbers], ["bbox"])
    parquet(collected.image("a.jpg"), "metadata.parquet", pa.table({"file_name": ["a.jpg"], "objects": objects}))
    assert (collected.files / "metadata.parquet").stat().st_size < 2000
    with pytest.raises(DataError, match="bytes without their pixels"):
        collected.run()


def test_a_small_parquet_file_with_many_rows(collected: Collected) -> None:
    rows = 10_000_001
    objects = pa.nulls(rows, pa.struct([("bbox", pa.list_(pa.float32()))]))
    parquet(
        collected.image("a.jpg"), "metadata.parquet", pa.table({"file_name": pa.nulls(rows, pa.string()), "objects": objects})
    )
    assert (collected.files / "metadata.parquet").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"10000001 rows .* too many"):
        collected.run()
