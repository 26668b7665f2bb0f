"""Part of a COCO data set, fetched from a real server on this machine; with real annotations where the shared data is."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from pipeline import fingerprint
from pipeline.errors import DataError, NetworkError, ParamsError
from pipeline.ledger import read as read_ledger
from pipeline.stage import Context
from tests import collecting, serving
from tests.collecting import assert_limit_and_seed_choose, fingerprint_of
from tests.serving import Server


def instances(server: Server, count: int = 12) -> dict[str, Any]:
    """`count` images; image i shows category 1 + i % 3 twice, category 9 nobody."""
    stream = io.BytesIO()
    PillowImage.new("RGB", (100, 50)).save(stream, "JPEG")
    names = [f"{number:012}.jpg" for number in range(count)]
    server.pages |= {f"/val2017/{name}": stream.getvalue() for name in names}
    return {
        "info": {"year": 2017},
        "licenses": [{"id": 1, "name": "CC BY 2.0", "url": "u"}, {"id": 4, "name": "CC BY-NC 2.0", "url": "v"}],
        "images": [
            {
                "id": 100 + number,
                "file_name": name,
                "width": 100,
                "height": 50,
                "license": 4 if number % 2 else 1,
                "coco_url": f"{server.url}/val2017/{name}",
            }
            for number, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": 2 * number + k,
                "image_id": 100 + number,
                "category_id": 1 + number % 3,
                "bbox": [k, 1.5, 10, 20],
                "iscrowd": 0,
            }
            for number in range(count)
            for k in range(2)
        ],
        "categories": [{"id": number, "name": name} for number, name in ((1, "dog"), (2, "cat"), (3, "cow"), (9, "unicorn"))],
    }


def write(folder: Path, document: dict[str, Any]) -> None:
    (folder / "instances.json").write_text(json.dumps(document), encoding="utf-8")


def run(out: Path, context: Context, seed: int = 0, **options: object) -> dict[str, Any]:
    given = {"annotations": "instances.json", **options}
    return collecting.run("coco", out, context, seed, **given)


def reduced(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "files" / "annotations" / "instances.json").read_text(encoding="utf-8"))
    return document


def ids(out: Path) -> list[int]:
    return [row["id"] for row in reduced(out)["images"]]


def test_only_the_wanted_classes_are_fetched(server: Server, tmp_path: Path, context: Context) -> None:
    write(tmp_path, instances(server))
    summary = run(tmp_path / "out", context, classes=["cat"])
    document = reduced(tmp_path / "out")
    assert ids(tmp_path / "out") == [101, 104, 107, 110]
    assert [row["category_id"] for row in document["annotations"]] == [2] * 8
    assert document["annotations"][0] == {"id": 2, "image_id": 101, "category_id": 2, "bbox": [0, 1.5, 10, 20], "iscrowd": 0}
    assert [row["name"] for row in document["categories"]] == ["cat"]
    assert len(server.requests) == summary["images"] == 4
    assert (tmp_path / "out" / "files" / "images" / "000000000001.jpg").exists()


def test_the_licence_of_every_image_is_kept(server: Server, tmp_path: Path, context: Context) -> None:
    write(tmp_path, instances(server))
    summary = run(tmp_path / "out", context, classes=["cat"], limit=3)
    document = reduced(tmp_path / "out")
    assert {row["license"] for row in document["images"]} <= {1, 4}
    assert [row["name"] for row in document["licenses"]] == ["CC BY 2.0", "CC BY-NC 2.0"]
    assert "CC BY" in summary["license"]


def test_a_larger_limit_adds_to_a_smaller_one_and_the_seed_chooses(server: Server, tmp_path: Path, context: Context) -> None:
    def take(name: str, limit: int, seed: int) -> list[int]:
        run(tmp_path / name, context, seed, limit=limit)
        return ids(tmp_path / name)

    write(tmp_path, instances(server))
    assert_limit_and_seed_choose(take)


def test_an_image_that_cannot_be_had_is_in_the_ledger_and_not_in_the_annotations(
    server: Server, tmp_path: Path, context: Context
) -> None:
    document = instances(server)
    document["images"][1]["file_name"] = "../evil.jpg"
    del document["images"][2]["coco_url"]
    write(tmp_path, document)
    del server.pages["/val2017/000000000000.jpg"]
    server.odd["/val2017/000000000003.jpg"] = [serving.html]
    run(tmp_path / "out", context, max_missing=0.5)
    assert ids(tmp_path / "out") == list(range(104, 112))
    assert {row["image_id"] for row in reduced(tmp_path / "out")["annotations"]} == set(range(104, 112))
    assert sorted(entry.reason for entry in read_ledger(tmp_path / "out")) == [
        "no_url",
        "not_an_image",
        "not_found",
        "unsafe_name",
    ]
    assert not (tmp_path / "evil.jpg").exists()
    with pytest.raises(NetworkError, match="4 of 12 images"):
        run(tmp_path / "strict", context)


def test_annotations_in_a_zip_on_the_web_are_fetched_once(server: Server, tmp_path: Path, context: Context) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("annotations/instances_train2017.json", "{}")
        archive.writestr("annotations/instances_val2017.json", json.dumps(instances(server)))
    server.pages["/annotations.zip"] = stream.getvalue()
    url = f"{server.url}/annotations.zip"
    run(tmp_path / "cats", context, annotations=url, classes=["cat"])
    run(tmp_path / "dogs", context, annotations=url, classes=["dog"])
    assert server.counts()["/annotations.zip"] == 1
    with pytest.raises(DataError, match=r"no instances_test\.json") as caught:
        run(tmp_path / "out", context, annotations=url, split="test")
    assert "instances_train2017.json" in caught.value.hint


def test_unknown_classes_are_named(server: Server, tmp_path: Path, context: Context) -> None:
    write(tmp_path, instances(server))
    with pytest.raises(ParamsError) as caught:
        run(tmp_path / "out", context, classes=["cat", "dgo"])
    assert caught.value.problems == ("'dgo': Did you mean 'dog'?",)
    with pytest.raises(DataError, match="no images of"):
        run(tmp_path / "out", context, classes=["unicorn"])


@pytest.mark.parametrize(
    "content", ["", "[]", '{"images": 5}', "<html>", '{"images":[{"id":"x"}],"annotations":[],"categories":[]}', "[" * 99999]
)
def test_what_is_no_instances_file(content: str, tmp_path: Path, context: Context) -> None:
    (tmp_path / "instances.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"instances\.json is not a COCO instances file"):
        run(tmp_path / "out", context)


def test_the_fingerprint_is_the_query_and_a_local_file(
    server: Server, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "RACY_NS", 0)

    def printed(seed: int = 0, **options: object) -> str:
        return fingerprint_of("coco", context, seed, **options)

    assert printed() == printed() != printed(seed=1)
    assert len({printed(), printed(limit=5), printed(classes=["cat"]), printed(split="train2017")}) == 4
    write(tmp_path, instances(server))
    before = printed(annotations="instances.json")
    write(tmp_path, instances(server, 3))
    assert printed(annotations="instances.json") != before
    assert server.requests == []


def test_mistakes_in_the_params(tmp_path: Path, context: Context) -> None:
    for source, options in (
        ("coco:val2017", {}),
        ("coco", {"annotations": "https://u:p@h/a.zip"}),
        ("coco", {"annotations": "ftp://h/a.zip"}),
    ):
        with pytest.raises(ParamsError):
            fingerprint_of(source, context, **options)
    with pytest.raises(DataError, match="there is no file"):
        fingerprint_of("coco", context, annotations="none.json")


def test_annotate_reads_what_was_collected(server: Server, tmp_path: Path, context: Context) -> None:
    from pipeline.dataset import Dataset
    from pipeline.stages import annotate

    write(tmp_path, instances(server))
    run(tmp_path / "collected", context, classes=["cat", "cow"])
    stage = annotate.STAGE
    stage.run({"collect": tmp_path / "collected"}, stage.params(), tmp_path / "out", context)
    dataset = Dataset.load(tmp_path / "out")
    assert list(dataset.class_names) == ["cat", "cow"]
    assert (len(dataset.images), len(dataset.boxes)) == (8, 16)
    assert set(dataset.images["split"]) == {""}


def test_real_annotations(server: Server, shared_data: Path, tmp_path: Path, context: Context) -> None:
    folder = shared_data / "traffic-coco"
    document = json.loads((folder / "annotations" / "instances_default.json").read_text(encoding="utf-8"))
    for image in document["images"]:
        image["coco_url"] = f"{server.url}/{image['file_name']}"
        server.pages[f"/{image['file_name']}"] = next(folder.rglob(Path(image["file_name"]).name)).read_bytes()
    write(tmp_path, document)
    run(tmp_path / "out", context, classes=["Tram"], limit=5)
    tram = next(row["id"] for row in document["categories"] if row["name"] == "Tram")
    found = reduced(tmp_path / "out")
    assert len(found["images"]) == 5
    expected = [row for row in document["annotations"] if row["category_id"] == tram and row["image_id"] in ids(tmp_path / "out")]
    assert sorted(found["annotations"], key=lambda row: row["id"]) == sorted(expected, key=lambda row: row["id"])
