"""Tables of images and boxes on the Hugging Face hub: what becomes of their rows, columns, splits and classes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _huggingface_rows, _huggingface_table
from pipeline.sources._huggingface_boxes import as_xywh, decide
from pipeline.stage import Context
from pipeline.stages import annotate
from tests.collecting import origins
from tests.huggingface_service import (
    CARD,
    NAMES,
    REPO,
    Hub,
    labels,
    parquet,
    photo,
    refused,
    row,
    run,
    table_of,
    written,
)

pytest.importorskip("datasets", reason="needs the extra huggingface")

BOXES = [[0.0, 5.0, 20.5, 10.0], [70.0, 30.0, 30.0, 20.0]]
"""Of images of 100 x 50 pixels; as x, y, width, height they fit, and as nothing else."""


def only(hub: Hub, *shards: bytes, **more: bytes) -> None:
    """Serve one split of these shards."""
    paths = {f"data/train-{number:05}-of-{len(shards):05}.parquet": shard for number, shard in enumerate(shards)}
    hub.repos[REPO] = paths | {name.replace("_", "."): data for name, data in more.items()}


def imported(context: Context) -> Dataset:
    annotate.run({"collect": context.base / "out"}, annotate.Params(), context.base / "annotated", context)
    return Dataset.load(context.base / "annotated")


def test_a_table_becomes_images_and_labels(hub: Hub, context: Context) -> None:
    summary = run(context)
    photos = [f"train/{number}.jpg" for number in range(7)] + ["validation/10.jpg", "validation/11.jpg"]
    assert written(context) == sorted([*photos, "dataset_info.json", "train/metadata.jsonl", "validation/metadata.jsonl"])
    assert (context.base / "out" / "files" / "train" / "3.jpg").read_bytes() == photo(3)
    assert summary["license"] == "cc-by-4.0"
    assert summary["description"] == (
        f"the Hugging Face data set {REPO} at commit {'a' * 12}: 7 rows of train, 2 rows of validation; boxes as xywh"
    )
    places = {each["path"]: each["origin"] for each in origins(context.base / "out")}
    assert places["train/6.jpg"] == f"huggingface:{REPO}@{'a' * 40}:train/6"
    assert [(entry.reason, entry.path) for entry in read_ledger(context.base / "out")] == [
        ("boxes_are_xywh", "train/metadata.jsonl"),
        ("boxes_are_xywh", "validation/metadata.jsonl"),
    ]
    dataset = imported(context)
    assert dataset.class_names == tuple(NAMES)
    assert dict(dataset.images["split"].value_counts()) == {"train": 7, "val": 2}
    assert dataset.boxes[["x1", "y1", "x2", "y2"]].head(2).to_numpy().tolist() == [[0, 5, 20.5, 15], [70, 30, 100, 50]]
    assert dataset.boxes["class_id"].head(2).tolist() == [2, 0]


def test_images_of_the_version_before_are_linked(hub: Hub, context: Context) -> None:
    from dataclasses import replace

    from pipeline import fingerprint

    run(context)
    out = context.base / "out"
    paths = {path: fingerprint.of_file(out / "files" / path) for path in written(context)}
    (out / "checksums.b3").write_text(fingerprint.checksums_text({f"files/{path}": digest for path, digest in paths.items()}))
    run(replace(context, previous=out), out="again", limit=4)
    for path in written(context, "again"):
        if path.endswith(".jpg"):
            assert (context.base / "again" / "files" / path).stat().st_nlink > 1


def test_a_single_split_is_not_called_one(hub: Hub, context: Context) -> None:
    run(context, splits=["train"])
    assert {path.partition("/")[0] for path in written(context)} == {"data", "dataset_info.json"}
    assert hub.requests["lfs"] == 2
    assert set(imported(context).images["split"]) == {""}
    error = refused(context, ParamsError, splits=["val"])
    assert error.message == "collect.options.splits: mari/reef has no split 'val'."
    assert "validation" in error.hint


def test_limit_draws_rows_of_all_splits(hub: Hub, context: Context) -> None:
    chosen = {}
    for seed in (1, 1, 2, 3):
        run(context, out=f"out{seed}", seed=seed, limit=5)
        chosen[seed] = [path for path in written(context, f"out{seed}") if path.endswith(".jpg")]
        assert len(chosen[seed]) == 5
    assert len({tuple(paths) for paths in chosen.values()}) > 1
    run(context, out="all", limit=99)
    assert len([path for path in written(context, "all") if path.endswith(".jpg")]) == 9


def test_names_are_the_rows_own_or_their_numbers(hub: Hub, context: Context) -> None:
    paths = ["a/same.jpg", "b\\same.jpg", None, "../CON.jpg", "000002.jpg", "no-suffix", "x" * 300 + ".jpg", "Same.JPG"]
    only(hub, parquet([row(number, BOXES, [0, 0], path) for number, path in enumerate(paths)]))
    run(context)
    names = [label["file_name"] for label in labels(context, "data")]
    assert names[:6] == ["same.jpg", "same-000001.jpg", "000002.jpg", "_CON.jpg", "000002-000004.jpg", "000005.jpg"]
    assert len(names[6].encode()) <= 180
    assert names[7] == "Same-000007.JPG"
    assert len([path for path in written(context) if path.startswith("data/") and path != "data/metadata.jsonl"]) == 8
    assert len(imported(context).boxes) == 16


def test_rows_without_an_image_are_accounted_for(hub: Hub, context: Context) -> None:
    nothing = row(1, BOXES, [0, 0]) | {"image": {"bytes": None, "path": "gone.jpg"}}
    broken = row(2, BOXES, [0, 0]) | {"image": {"bytes": b"<html>", "path": "page.jpg"}}
    only(hub, parquet([row(0, BOXES, [0, 0]), nothing, broken, row(3, BOXES, [0, 0]) | {"image": None}]))
    assert run(context)["images"] == 1
    entries = [entry for entry in read_ledger(context.base / "out") if entry.item == "image"]
    assert [(entry.reason, entry.path) for entry in entries] == [
        ("no_image", "data/gone.jpg"),
        ("not_an_image", "data/page.jpg"),
        ("no_image", ""),
    ]
    assert entries[0].detail.startswith(f"huggingface:{REPO}@{'a' * 40}:train/1: ")


def test_objects_may_be_a_list_and_numbers_may_lack_names(hub: Hub, context: Context) -> None:
    rows = [row(n, [], []) | {"objects": [{"bbox": box, "category": n} for box in BOXES]} for n in range(3)]
    only(hub, parquet(rows, names=None, kind="list"))
    run(context)
    assert labels(context, "data")[1]["objects"] == {"bbox": BOXES, "category": [1, 1]}
    assert imported(context).class_names == ("class_0", "class_1", "class_2")


def test_class_names_of_the_card_count_where_the_file_has_none(hub: Hub, context: Context) -> None:
    described = """---
dataset_info:
  features:
  - name: objects
    sequence:
    - name: category
      dtype:
        class_label:
          names:
            '0': fish
            '1': shark
---
"""
    only(hub, parquet([row(n, BOXES, [n, 1]) for n in range(2)], names=None), README_md=described.encode())
    run(context)
    assert imported(context).class_names == ("fish", "shark")


def test_columns_of_the_row_itself_and_crowds_and_sizes(hub: Hub, context: Context) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {
        "picture": [{"bytes": photo(1), "path": "a.jpg"}, {"bytes": photo(2), "path": "b.jpg"}],
        "bboxes": [BOXES, []],
        "label": [["fish", "shark"], []],
        "iscrowd": [[False, True], []],
        "width": [100, 100],
        "height": [50, None],
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(rows), stream)  # by no library that knows of images
    only(hub, stream.getvalue())
    run(context)
    first, second = labels(context, "data")
    assert first == {
        "file_name": "a.jpg",
        "width": 100,
        "height": 50,
        "objects": {"bbox": BOXES, "category": ["fish", "shark"], "iscrowd": [False, True]},
    }
    assert "width" not in second
    dataset = imported(context)
    assert len(dataset.boxes) == 1
    assert any(entry.reason == "crowd" for entry in read_ledger(context.base / "annotated"))


def test_boxes_that_are_none_are_left_to_annotate(hub: Hub, context: Context) -> None:
    rows = [row(0, [*BOXES, [float("nan"), 1, 2, 3]], [0, 1, 2]), row(1, BOXES, [-1, 2]) | {"objects": None}]
    only(hub, parquet(rows))
    run(context)
    assert [label["objects"]["bbox"] for label in labels(context, "data")] == [[*BOXES, []], []]
    params = annotate.Params.model_validate({"on_invalid": "drop"})
    annotate.run({"collect": context.base / "out"}, params, context.base / "annotated", context)
    assert [entry.reason for entry in read_ledger(context.base / "annotated")] == ["malformed_box"]


@pytest.mark.parametrize("kind", ["xyxy", "cxcywh", "xywhn", "xyxyn", "cxcywhn"])
def test_boxes_of_every_kind_come_out_the_same(kind: str, hub: Hub, context: Context) -> None:
    def turned(x: float, y: float, w: float, h: float) -> list[float]:
        box = {"xyxy": [x, y, x + w, y + h], "cxcywh": [x + w / 2, y + h / 2, w, h]}.get(kind.removesuffix("n"), [x, y, w, h])
        return [value / side for value, side in zip(box, (100, 50) * 2, strict=True)] if kind.endswith("n") else box

    boxes = [turned(*box) for box in ([0, 5, 20.5, 10], [70, 30, 30, 20], [0, 0, 100, 50], [50, 25, 10, 20])]
    only(hub, parquet([row(n, boxes, [0] * 4) for n in range(3)]))
    run(context)
    assert [entry.reason for entry in read_ledger(context.base / "out")] == [f"boxes_are_{kind}"]
    found = imported(context).boxes[["x1", "y1", "x2", "y2"]].head(4).to_numpy()
    assert np.allclose(found, [[0, 5, 20.5, 15], [70, 30, 100, 50], [0, 0, 100, 50], [50, 25, 60, 45]], atol=1e-4)


def test_boxes_that_could_be_two_kinds_are_refused(hub: Hub, context: Context) -> None:
    only(hub, parquet([row(n, [[50, 25, 20, 20]], [0]) for n in range(3)]))
    error = refused(context, DataError)
    assert error.message == (
        "What the four numbers of a box mean cannot be told: xywh and cxcywh fit all boxes (of 3 fit: xywh 3, xyxy 0, cxcywh 3)."
    )
    assert error.hint.startswith("Say it: collect.options.bbox=xywh, or another of xywh, xyxy,")
    run(context, bbox="cxcywh")
    assert labels(context, "data")[0]["objects"]["bbox"] == [[40, 15, 20, 20]]


def test_a_few_wrong_boxes_do_not_hide_what_the_others_mean() -> None:
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 50, (1000, 2)), rng.uniform(5, 50, (1000, 2))
    boxes, sizes = np.concatenate([corner, size], axis=1), np.full((1000, 2), 100.0)
    boxes[:5, 2] = 300
    assert decide(boxes, sizes).kind == "xywh"
    boxes[:300, 2] = 300
    with pytest.raises(DataError, match="no meaning fits all boxes"):
        decide(boxes, sizes)
    assert decide(np.zeros((0, 4)), np.zeros((0, 2))).kind == "xywh"
    assert as_xywh([1, 2, 3, 4], "xywh", 9, 9) == [1, 2, 3, 4]


# ---- which files


TABLES = """---
configs:
- config_name: small
  data_files:
  - split: train
    path: small/a*.parquet
  - split: test
    path: [small/b.parquet]
- config_name: large
  data_files: large/*.parquet
{default}---
"""


def tables(default: str = "") -> dict[str, bytes]:
    return {
        "README.md": TABLES.format(default=default).encode(),
        "small/a1.parquet": parquet([row(1, BOXES, [0, 0])]),
        "small/a2.parquet": parquet([row(2, BOXES, [0, 0])]),
        "small/b.parquet": parquet([row(3, BOXES, [0, 0])]),
        "large/x.parquet": parquet([row(n, BOXES, [0, 0]) for n in range(5)]),
    }


def test_one_of_several_tables(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = tables()
    error = refused(context, ParamsError)
    assert error.message == "mari/reef has several tables, and none is the default."
    assert "collect.options.config=small or large" in error.hint
    assert "has no table 'medium'" in refused(context, ParamsError, config="medium").message
    run(context, config="small")
    assert [path for path in written(context) if path.endswith(".jpg")] == ["test/3.jpg", "train/1.jpg", "train/2.jpg"]
    assert hub.requests["lfs"] == 3
    hub.repos[REPO] = tables("  default: true\n")
    assert run(context, out="large")["images"] == 5


@pytest.mark.parametrize("pattern", ["/etc/*.parquet", "../*.parquet", "https://host/x.parquet", "zip://a::b.zip", "~/x.parquet"])
def test_a_card_cannot_point_out_of_its_repository(pattern: str, hub: Hub, context: Context) -> None:
    card = f"---\nconfigs:\n- config_name: default\n  data_files: '{pattern}'\n---\n"
    only(hub, parquet([row(0, BOXES, [0, 0])]), README_md=card.encode())
    assert "names files outside of it" in refused(context, DataError).message
    card = "---\nconfigs:\n- config_name: default\n  data_dir: ../..\n---\n"
    only(hub, parquet([row(0, BOXES, [0, 0])]), README_md=card.encode())
    assert "names files outside of it" in refused(context, DataError).message


def test_a_card_that_names_what_is_not_there(hub: Hub, context: Context) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files: other.parquet\n---\n"
    only(hub, parquet([row(0, BOXES, [0, 0])]), README_md=card.encode())
    error = refused(context, DataError)
    assert "names files that are not there, or no Parquet files" in error.message
    assert "data/train-00000-of-00001.parquet" in error.hint
    only(
        hub, parquet([row(0, BOXES, [0, 0])]), README_md=b"---\nconfigs: [3, {config_name: default, data_files: {a: [1]}}]\n---\n"
    )
    refused(context, DataError)


def test_no_table_where_there_is_none(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = {"a.jpg": photo(1), "metadata.parquet": b"PAR1"}
    assert "has no Parquet files" in refused(context, DataError, kind="table").message


# ---- tables that are none, or attack


def test_columns_that_cannot_be_told(hub: Hub, context: Context) -> None:
    from datasets import Image, List, Value

    pixels, boxes = {"bytes": photo(1), "path": "x.jpg"}, {"bbox": List(List(Value("float32")))}
    only(hub, parquet([row(0, BOXES, [0, 0], mask=pixels)], mask=Image()))
    assert run(context)["images"] == 1  # `image` is the likelier name
    assert "no column 'maks'" in refused(context, ParamsError, image_column="maks").message
    assert "'image' has no boxes" in refused(context, ParamsError, objects_column="image").message
    rows = [{"photo": pixels, "mask": pixels, "parts": {"bbox": BOXES}, "wholes": {"bbox": BOXES}}]
    only(hub, table_of(rows, photo=Image(), mask=Image(), parts=boxes, wholes=boxes))
    assert refused(context, DataError).message == "The table has several columns of images (photo, mask)."
    error = refused(context, DataError, image_column="photo")
    assert error.message == "The table has several columns of boxes (parts, wholes)."
    assert run(context, out="chosen", image_column="photo", objects_column="parts")["images"] == 1


def test_a_table_without_images_or_boxes(hub: Hub, context: Context) -> None:
    from datasets import Image, List, Value

    only(hub, table_of([{"text": "x", "bbox": [1.0]}], text=Value("string"), bbox=List(Value("float32"))))
    error = refused(context, DataError)
    assert error.message == "The table has no column of images among text, bbox."
    assert "collect.options.image_column" in error.hint
    only(hub, table_of([{"image": {"bytes": photo(1), "path": None}, "text": "x"}], image=Image(), text=Value("string")))
    error = refused(context, DataError)
    assert error.message == "The table has no column of boxes among image, text."
    assert "collect.options.objects_column" in error.hint


def test_damaged_tables(hub: Hub, context: Context) -> None:
    whole = parquet([row(n, BOXES, [0, 0]) for n in range(40)])
    for damaged in (b"PAR1", b"", b"<html>", whole[:-9] + bytes(9), whole[:50] + bytes(3000) + whole[3050:]):
        only(hub, damaged)
        assert "malformed Parquet" in refused(context, DataError).message


def test_a_table_that_promises_too_much(hub: Hub, context: Context, monkeypatch: Any) -> None:
    only(hub, parquet([row(n, BOXES, [0, 0]) for n in range(10)]))
    monkeypatch.setattr(_huggingface_rows, "MAX_ROWS", 9)
    assert "10 rows with" in refused(context, DataError).message


def test_images_that_are_all_one_are_a_bomb(hub: Hub, context: Context, monkeypatch: Any) -> None:
    one = row(0, BOXES, [0, 0], None)
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    one["image"]["bytes"] = stream.getvalue()
    only(hub, parquet([one] * 40))
    monkeypatch.setattr(_huggingface_table, "MAX_RATIO", 4)
    assert "taken for a bomb" in refused(context, DataError).message


def test_nothing_of_a_card_is_run(hub: Hub, context: Context, monkeypatch: Any) -> None:
    card = CARD.replace("license:", "x: !!python/object/apply:os.system ['touch ran']\nlicense:")
    monkeypatch.chdir(context.base)
    only(hub, parquet([row(0, BOXES, [0, 0])]), README_md=card.encode(), reef_py=b"open('ran', 'w')")
    assert run(context)["license"] == "cc-by-4.0"
    assert not (context.base / "ran").exists()
