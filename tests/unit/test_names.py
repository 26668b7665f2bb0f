"""Names of files from elsewhere: held by every system, one a file, and labels still those of their images."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.ledger import read as read_ledger
from pipeline.paths import folded, portable
from pipeline.sources import _url_list
from pipeline.stage import Context
from pipeline.stages import annotate
from tests.collecting import collected, origins, reasons, run
from tests.huggingface_service import REPO, SOURCE, Hub
from tests.packing import compressed, member, tar_of, zip_of
from tests.roboflow_service import photo
from tests.serving import Server

ODD = {
    "aux.jpg": "_aux.jpg",
    "CON": "_CON",
    "com1.tar.gz": "_com1.tar.gz",
    "CONIN$": "_CONIN$",
    "conout$.jpg": "_conout$.jpg",
    "lpt¹.jpg": "_lpt¹.jpg",
    "nul .jpg": "_nul .jpg",
    "a.": "a",
    "a/../.../b": "a/../_/b",
    "a ": "a",
    "a. . /b.jpg": "a/b.jpg",
    "x:y.jpg": "x_y.jpg",
    'x/a?*"<>|\\b.jpg': "x/a_______b.jpg",
    "prn/aux/1.jpg": "_prn/_aux/1.jpg",
}
PLAIN = [
    "a.jpg",
    "auxiliary.jpg",
    "con-1.jpg",
    "a..b.jpg",
    "com.jpg",
    "com10.jpg",
    "ü ñ/日本.jpg",
    "a b.jpg",
    "console/nullable.jpg",
    "conin.jpg",
]


def boxes(context: Context, out: str = "out") -> dict[str, int]:
    """How many boxes each image has once it is annotated."""
    into = context.base / f"{out}-annotated"
    annotate.run({"collect": context.base / out}, annotate.Params(), into, context)
    images, rows = pd.read_parquet(into / "images.parquet"), pd.read_parquet(into / "boxes.parquet")
    return {image["path"]: int((rows["image"] == number).sum()) for number, image in images.iterrows()}


@pytest.mark.parametrize(("name", "expected"), [*ODD.items(), *((name, name) for name in PLAIN)])
def test_portable(name: str, expected: str) -> None:
    assert portable(name) == expected
    assert portable(expected) == expected


def test_lists_of_urls_know_the_same_rule() -> None:
    assert [_url_list.safe_name(name) for name in ("aux.jpg", "a. ", "x:y.jpg", "..")] == ["_aux.jpg", "a", "x_y.jpg", "_"]


def test_folded() -> None:
    assert folded("Grüße.JPG") == folded(unicodedata.normalize("NFD", "GRÜSSE.jpg"))
    assert folded("a.jpg") != folded("b.jpg")


# ---- renamed


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_label_files_stay_those_of_their_renamed_images(tmp_path: Path, context: Context, kind: str) -> None:
    files = {"classes.txt": b"fish\n"}
    for number, stem in enumerate(("aux", "12:30", "b", "com1 "), 1):
        files[f"images/{stem}.jpg"] = photo(number)
        files[f"labels/{stem}.txt"] = "".join(f"0 .5 .5 .2 .{n}\n" for n in range(1, number + 1)).encode()
    members = [member(*each) for each in files.items()]
    (tmp_path / "d").write_bytes(zip_of(files) if kind == "zip" else compressed(tar_of(*members), kind))
    run("d", tmp_path / "out", context)
    assert [name for name in collected(tmp_path / "out") if name.startswith("images")] == [
        "images/12_30.jpg",
        "images/_aux.jpg",
        "images/_com1 .jpg",
        "images/b.jpg",
    ]
    assert ("images/_aux.jpg", "renamed") in reasons(tmp_path / "out")
    assert {row["path"]: row["origin"] for row in origins(tmp_path / "out")}["images/12_30.jpg"] == "d:images/12:30.jpg"
    found = {path.rpartition("/")[2]: count for path, count in boxes(context).items()}
    assert found == {"_aux.jpg": 1, "12_30.jpg": 2, "b.jpg": 3, "_com1 .jpg": 4}


def test_label_files_that_name_a_renamed_image_find_it(tmp_path: Path, context: Context) -> None:
    names = ["x:y.jpg", "aux.jpg", "con/1.jpg"]
    document = {
        "images": [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 20], "iscrowd": 0} for n in range(3)],
        "categories": [{"id": 1, "name": "fish"}],
    }
    (tmp_path / "d.zip").write_bytes(
        zip_of({"labels.json": json.dumps(document).encode()} | {f"images/{name}": photo(n) for n, name in enumerate(names)})
    )
    run("d.zip", tmp_path / "out", context)
    assert boxes(context) == {"images/_aux.jpg": 1, "images/_con/1.jpg": 1, "images/x_y.jpg": 1}


def test_boxes_of_an_image_that_is_missing_stay_away_from_those_of_its_portable_name(tmp_path: Path, context: Context) -> None:
    names = ["images/scan:1.jpg", "images/x:y.jpg"]
    document = {
        "images": [{"id": n, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 20], "iscrowd": 0} for n in range(2)],
        "categories": [{"id": 1, "name": "fish"}],
    }
    there = {"images/scan_1.jpg": photo(1), "images/x:y.jpg": photo(2), "labels.json": json.dumps(document).encode()}
    (tmp_path / "d.zip").write_bytes(zip_of(there))
    run("d.zip", tmp_path / "out", context)
    assert boxes(context) == {"images/scan_1.jpg": 0, "images/x_y.jpg": 1}
    assert {("images/scan:1.jpg", "image_missing"), ("images/scan_1.jpg", "no_label_file")} <= reasons(tmp_path / "out-annotated")


def test_folders_and_lists_of_a_data_yaml_that_were_renamed(tmp_path: Path, context: Context) -> None:
    row = b"0 .5 .5 .2 .2\n"
    files = {
        "data.yaml": b"train: set:1/images\nval: ./con/images\ntest: list?.txt\nnames: [fish]\n",
        "list?.txt": b"z/images/c|d.jpg\n",
        **{
            f"{folder}/images/{stem}.jpg": photo(n)
            for n, (folder, stem) in enumerate((("set:1", "a"), ("con", "b"), ("z", "c|d")))
        },
        **{f"{folder}/labels/{stem}.txt": row for folder, stem in (("set:1", "a"), ("con", "b"), ("z", "c|d"))},
    }
    (tmp_path / "d.zip").write_bytes(zip_of(files))
    run("d.zip", tmp_path / "out", context)
    assert boxes(context) == {"_con/images/b.jpg": 1, "set_1/images/a.jpg": 1, "z/images/c_d.jpg": 1}
    images = pd.read_parquet(tmp_path / "out-annotated" / "images.parquet")
    assert dict(zip(images["path"], images["split"], strict=True)) == {
        "_con/images/b.jpg": "val",
        "set_1/images/a.jpg": "train",
        "z/images/c_d.jpg": "test",
    }


def test_several_sources_with_renamed_files(tmp_path: Path, context: Context) -> None:
    from pipeline.stages import collect

    document = {
        "images": [{"id": 1, "file_name": "aux.jpg", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "fish"}],
    }
    for number, name in enumerate(("one", "two")):
        (tmp_path / f"{name}.zip").write_bytes(zip_of({"aux.jpg": photo(number), "x.json": json.dumps(document).encode()}))
    params = collect.Params.model_validate({"sources": [{"source": "one.zip"}, {"source": "two.zip"}]})
    collect.run({}, params, tmp_path / "out", context)
    assert boxes(context) == {"one/_aux.jpg": 1, "two/_aux.jpg": 1}


def test_a_repository_of_files_at_hugging_face(hub: Hub, context: Context) -> None:
    pytest.importorskip("datasets")
    hub.repos[REPO] = {"images/aux.jpg": photo(1), "labels/aux.txt": b"0 .5 .5 .2 .2\n", "b.jpg": photo(2), "B.jpg": photo(3)}
    run(SOURCE, context.base / "out", context)
    assert collected(context.base / "out") == ["images/_aux.jpg", "labels/_aux.txt"]
    assert [row["origin"].rpartition(":")[2] for row in origins(context.base / "out")] == ["images/aux.jpg", "labels/aux.txt"]
    assert sorted(entry.reason for entry in read_ledger(context.base / "out")) == [
        "duplicate_name",
        "duplicate_name",
        "renamed",
        "renamed",
    ]


def test_a_repository_on_github_links_to_the_name_it_has_there(
    server: Server, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "a" * 40
    monkeypatch.setenv("GITHUB_CODELOAD_URL", server.url)
    server.pages[f"/mari/reef/zip/{commit}"] = zip_of({f"reef-{commit}/data/x:y.jpg": photo(1)})
    run(f"github:mari/reef@{commit}:data", context.base / "out", context)
    (row,) = origins(context.base / "out")
    assert row["path"] == "x_y.jpg"
    assert row["origin"] == f"https://github.com/mari/reef/blob/{commit}/data/x%3Ay.jpg"


def test_an_instances_file_of_coco(server: Server, tmp_path: Path, context: Context) -> None:
    images = [{"id": 7, "file_name": "aux.jpg", "width": 100, "height": 50, "coco_url": f"{server.url}/7"}]
    boxes_of_it = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 20], "iscrowd": 0, "area": 600}]
    document = {
        "images": images,
        "annotations": boxes_of_it,
        "categories": [{"id": 1, "name": "fish"}],
        "info": {},
        "licenses": [],
    }
    (tmp_path / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    server.pages["/7"] = photo(7)
    run("coco", tmp_path / "out", context, annotations="instances.json")
    assert ("images/_aux.jpg", "renamed") in reasons(tmp_path / "out")
    assert boxes(context) == {"images/_aux.jpg": 1}


@pytest.mark.parametrize("name", ["aux", "a.", "x:y", "a?", "a\nb"])
def test_a_folder_of_a_source_has_a_name_for_every_system(tmp_path: Path, context: Context, name: str) -> None:
    from pipeline.stages import collect

    with pytest.raises((PipelineError, ValueError), match="cannot be the name of a folder on every system"):
        collect.Params.model_validate({"sources": [{"source": "photos", "name": name}]})


# ---- names that meet


@pytest.mark.parametrize(
    "pair",
    [
        ("a.jpg", "A.JPG"),
        ("images/Grüße.jpg", unicodedata.normalize("NFD", "images/grüße.jpg")),
        ("12:30.jpg", "12_30.jpg"),
        ("a//b.jpg", "a/b.jpg"),
    ],
)
def test_of_names_that_meet_none_is_taken_for_the_other(tmp_path: Path, context: Context, pair: tuple[str, str]) -> None:
    for name, order in (("1.tar", pair), ("2.tar", pair[::-1])):
        (tmp_path / name).write_bytes(tar_of(*(member(each, each.encode()) for each in order), member("ok.jpg", b"1")))
        run(name, tmp_path / name[0], context)
        assert collected(tmp_path / name[0]) == ["ok.jpg"]
        entries = read_ledger(tmp_path / name[0])
        assert [(entry.item, entry.action, entry.reason) for entry in entries] == [("image", "dropped", "duplicate_name")] * 2
        assert all(f"'{each}'" in entry.detail for each in pair for entry in entries)
    (tmp_path / "3.tar").write_bytes(tar_of(*map(member, pair)))
    with pytest.raises(PipelineError, match="holds no images"):
        run("3.tar", tmp_path / "out3", context)


def test_three_names_that_meet(tmp_path: Path, context: Context) -> None:
    (tmp_path / "d.zip").write_bytes(zip_of({"a.jpg": b"1", "A.jpg": b"2", "a.JPG": b"3", "ok.jpg": b"4"}))
    run("d.zip", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["ok.jpg"]
    assert len(read_ledger(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    "pair", [("x.jpg", "x.jpg./y.jpg"), ("a", "a/b.jpg"), ("x/A/b/c.jpg", "x/a"), ("n/x.jpg", "N/x.jpg/y.jpg")]
)
def test_a_file_in_a_folders_place(tmp_path: Path, context: Context, pair: tuple[str, str]) -> None:
    for name, order in (("1.tar", pair), ("2.tar", pair[::-1])):
        (tmp_path / name).write_bytes(tar_of(*(member(each, each.encode()) for each in order), member("ok.jpg", b"1")))
        run(name, tmp_path / name[0], context)
        assert collected(tmp_path / name[0]) == ["ok.jpg"]
        entries = read_ledger(tmp_path / name[0])
        assert [(entry.action, entry.reason) for entry in entries] == [("dropped", "duplicate_name")] * 2
        assert all(f"'{each}'" in entry.detail for each in pair for entry in entries)


def test_a_file_in_a_folders_place_at_hugging_face(hub: Hub, context: Context) -> None:
    pytest.importorskip("datasets")
    hub.repos[REPO] = {"x.jpg": photo(1), "x.jpg./y.jpg": photo(2), "b.jpg": photo(3)}
    run(SOURCE, context.base / "out", context)
    assert collected(context.base / "out") == ["b.jpg"]
    assert reasons(context.base / "out") == {("x.jpg", "duplicate_name"), ("x.jpg/y.jpg", "duplicate_name")}


def test_images_whose_labels_are_left_out_do_not_become_background(tmp_path: Path, context: Context) -> None:
    row = b"0 .5 .5 .2 .2\n"
    files = {f"images/{stem}.jpg": photo(n) for n, stem in enumerate("abc")} | {
        "classes.txt": b"fish\n",
        **dict.fromkeys(
            ("labels/a.txt", "labels/A.txt", "labels/b.txt", "c.jpg.json", "C.JPG.json", "readme.md", "README.md"), row
        ),
    }
    (tmp_path / "d.zip").write_bytes(zip_of(files))
    run("d.zip", tmp_path / "out", context)
    assert {("images/a.jpg", "labels_left_out"), ("images/c.jpg", "labels_left_out")} <= reasons(tmp_path / "out")
    assert boxes(context) == {"images/b.jpg": 1}


def test_names_of_an_instances_file_that_meet(server: Server, tmp_path: Path, context: Context) -> None:
    names = ["a.jpg", "a.jpg/b.jpg", "c.jpg", "C.JPG", "d.jpg", "d.jpg", "ok.jpg"]
    images = [
        {"id": number, "file_name": name, "width": 100, "height": 50, "coco_url": f"{server.url}/{number}"}
        for number, name in enumerate(names)
    ]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "fish"}], "info": {}, "licenses": []}
    (tmp_path / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    server.pages["/6"] = photo(6)
    run("coco", tmp_path / "out", context, annotations="instances.json", max_missing=1)
    assert [path for path in collected(tmp_path / "out") if path.startswith("images/")] == ["images/ok.jpg"]
    assert [entry.reason for entry in read_ledger(tmp_path / "out")] == ["duplicate_name"] * 6
