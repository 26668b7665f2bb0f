"""Part of Open Images, fetched from a real server on this machine that has small tables of the official kind."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from pipeline.errors import DataError, NetworkError, ParamsError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _openimages_tables, openimages
from pipeline.stage import Context
from tests import collecting, serving
from tests.collecting import assert_limit_and_seed_choose, fingerprint_of
from tests.serving import Server

BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
LIST = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,"
    "OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation"
)
DOG, CAT, ANIMAL, TAIL, UNICORN = "/m/0bt9lr", "/m/01yrx", "/m/0jbk", "/m/tail", "/m/unicorn"
CC_BY = "https://creativecommons.org/licenses/by/2.0/"
BOX_PLACE = "/v5/validation-annotations-bbox.csv"
LIST_PLACE = "/2018_04/validation/validation-images-with-rotation.csv"


def name(split: str, number: int) -> str:
    return f"{['train', 'validation', 'test'].index(split)}{number:015x}"


def row(image_id: str, code: str, occluded: int = 0, group: int = 0, depiction: int = 0, more: str = "") -> str:
    return f"{image_id},xclick,{code},1,0.012500,0.195312,0.148438,0.587500,{occluded},1,{group},{depiction},0{more}"


@pytest.fixture
def server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Of each split 12 images: image i shows a dog, a cat or an animal twice by i % 3, and all of them a tail."""
    monkeypatch.setattr(_openimages_tables, "METADATA", server.url)
    monkeypatch.setattr(openimages, "IMAGES", f"{server.url}/images")
    picture = io.BytesIO()
    PillowImage.new("RGB", (100, 50)).save(picture, "JPEG")
    for split in ("train", "validation", "test"):
        ids = [name(split, number) for number in range(12)]
        more, header = (",0.5" * 8, "".join(f",XClick{n}" for n in range(8))) if split == "train" else ("", "")
        kinds = (DOG, CAT, ANIMAL)
        boxes = [row(each, kinds[n % 3], more=more) for n, each in enumerate(ids) for _ in range(2)]
        boxes += [row(each, TAIL, more=more) for each in ids]
        titles = [
            f'{each},{split},u,v,{CC_BY},w,"Ann, A.","two\nlines ""q""",1,m,t,{90.0 * (n % 2)}' for n, each in enumerate(ids)
        ]
        server.pages[f"/{_openimages_tables.BOXES[split]}"] = "\n".join([BOXES + header, *boxes, ""]).encode()
        server.pages[f"/{_openimages_tables.IMAGES[split]}"] = "\r\n".join([LIST, *titles, ""]).encode()
        server.pages |= {f"/images/{split}/{each}.jpg": picture.getvalue() for each in ids}
    classes = ((TAIL, "Tail"), (CAT, "Cat"), (DOG, "Dog"), (ANIMAL, "Animal"), (UNICORN, "Unicorn"))
    server.pages[f"/{_openimages_tables.CLASSES}"] = "\n".join(["LabelName,DisplayName", *map(",".join, classes)]).encode()
    animal = {
        "LabelName": ANIMAL,
        "Subcategory": [{"LabelName": DOG}, {"LabelName": CAT, "Part": [{"LabelName": TAIL}]}],
        "Part": [{"LabelName": TAIL}],
    }
    hierarchy = {"LabelName": "/m/0bl9f", "Subcategory": [animal, {"LabelName": UNICORN}]}
    server.pages[f"/{_openimages_tables.HIERARCHY}"] = json.dumps(hierarchy).encode()
    return server


def run(out: Path, context: Context, seed: int = 0, **options: object) -> dict[str, Any]:
    return collecting.run("openimages", out, context, seed, **options)


def table(out: Path, file: str) -> list[dict[str, str]]:
    with (out / "files" / "annotations" / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ids(out: Path) -> list[str]:
    return sorted(path.stem for path in (out / "files" / "images").iterdir())


def test_only_the_wanted_classes_are_fetched(server: Server, tmp_path: Path, context: Context) -> None:
    summary = run(tmp_path / "out", context, classes=["Cat"])
    wanted = [name("validation", number) for number in (1, 4, 7, 10)]
    assert ids(tmp_path / "out") == wanted
    text = (tmp_path / "out/files/annotations/annotations-bbox.csv").read_text(encoding="utf-8")
    assert text.splitlines() == [BOXES, *(row(each, CAT) for each in wanted for _ in range(2))]
    descriptions = table(tmp_path / "out", "class-descriptions-boxable.csv")
    assert descriptions == [{"LabelName": CAT, "DisplayName": "Cat"}]
    assert summary["images"] == 4
    assert server.counts()[BOX_PLACE] == server.counts()[LIST_PLACE] == 1
    assert sum(server.counts().values()) == 4 + 3


def test_licence_and_author_of_every_image_are_kept(server: Server, tmp_path: Path, context: Context) -> None:
    place = LIST_PLACE
    lines = server.pages[place].decode().replace(f"{name('validation', 4)},", "other,", 1)
    server.pages[place] = lines.replace(CC_BY, "https://other", 2).encode()
    options = openimages.Options(classes=["Cat"])
    fetched = openimages.fetch("", options, 0, tmp_path / "out" / "files", context)
    licenses = {origin.path[-5:]: origin.license for origin in fetched.files if origin.path.startswith("images/")}
    assert licenses == {"1.jpg": "https://other", "4.jpg": "", "7.jpg": CC_BY, "a.jpg": CC_BY}
    assert fetched.license == f"annotations CC BY 4.0; images {CC_BY}: 2; https://other: 1; unknown: 1"
    assert [(entry.reason, entry.path[-5:]) for entry in fetched.ledger.entries] == [("no_license", "4.jpg")]
    rows = table(tmp_path / "out", "images-with-rotation.csv")
    assert [found["ImageID"] for found in rows] == [name("validation", number) for number in (1, 7, 10)]
    assert {(found["Author"], found["Title"]) for found in rows} == {("Ann, A.", 'two\nlines "q"')}
    assert [found["Rotation"] for found in rows] == ["90.0", "90.0", "0.0"]
    assert list(rows[0]) == LIST.split(",")


def test_subclasses_are_wanted_only_on_demand(server: Server, tmp_path: Path, context: Context) -> None:
    run(tmp_path / "one", context, classes=["Animal"])
    run(tmp_path / "all", context, classes=["Animal"], include_subclasses=True)
    assert len(ids(tmp_path / "one")) == 4
    assert len(ids(tmp_path / "all")) == 12
    assert {found["LabelName"] for found in table(tmp_path / "all", "annotations-bbox.csv")} == {DOG, CAT, ANIMAL}  # no tails
    assert [found["DisplayName"] for found in table(tmp_path / "all", "class-descriptions-boxable.csv")] == [
        "Cat",
        "Dog",
        "Animal",
    ]


def test_images_with_boxes_that_are_not_wanted_are_left_out(server: Server, tmp_path: Path, context: Context) -> None:
    first, second, third, fourth = (name("validation", number) for number in (1, 4, 7, 10))
    rows = [row(first, CAT, group=1), row(second, CAT, depiction=1), row(third, CAT, occluded=1), row(fourth, DOG, group=1)]
    server.pages[BOX_PLACE] += "\n".join([*rows, ""]).encode()
    for option, refused in (("skip_group_of", first), ("skip_depiction", second), ("skip_occluded", third)):
        run(tmp_path / option, context, classes=["Cat"], **{option: True})
        assert ids(tmp_path / option) == sorted({first, second, third, fourth} - {refused})
    run(tmp_path / "all", context, classes=["Cat"])
    assert len(ids(tmp_path / "all")) == 4


def test_a_larger_limit_adds_to_a_smaller_one_and_the_seed_chooses(server: Server, tmp_path: Path, context: Context) -> None:
    def take(name: str, limit: int, seed: int) -> list[str]:
        run(tmp_path / name, context, seed, limit=limit)
        return ids(tmp_path / name)

    assert_limit_and_seed_choose(take)


def test_several_splits_are_kept_and_one_is_divided_anew(server: Server, tmp_path: Path, context: Context) -> None:
    from pipeline.dataset import Dataset
    from pipeline.stages import annotate

    found = {}
    for splits in (["validation"], ["train", "test", "validation"]):
        folder = tmp_path / str(len(splits))
        run(folder / "collected", context, classes=["Dog", "Cat"], splits=splits, limit=5)
        annotate.STAGE.run({"collect": folder / "collected"}, annotate.STAGE.params(), folder / "out", context)
        found[len(splits)] = Dataset.load(folder / "out")
    assert list(found[1].class_names) == list(found[3].class_names) == ["Cat", "Dog"]
    assert (len(found[1].images), len(found[1].boxes)) == (5, 5)  # of two equal boxes annotate keeps one
    assert (len(found[3].images), len(found[3].boxes)) == (15, 15)
    assert set(found[1].images["split"]) == {""}
    assert found[3].images["split"].value_counts().to_dict() == {"train": 5, "val": 5, "test": 5}
    assert found[1].boxes[["x1", "x2", "y1", "y2"]].iloc[0].tolist() == pytest.approx([1.25, 19.5312, 7.4219, 29.375])
    assert "XClick7" in table(tmp_path / "3" / "collected", "train-annotations-bbox.csv")[0]


def test_the_tables_are_fetched_once(server: Server, tmp_path: Path, context: Context) -> None:
    run(tmp_path / "cats", context, classes=["Cat"])
    run(tmp_path / "dogs", context, classes=["Dog"])
    assert server.counts()[BOX_PLACE] == server.counts()[LIST_PLACE] == 1


def test_an_image_that_cannot_be_had_is_in_the_ledger_and_not_in_the_tables(
    server: Server, tmp_path: Path, context: Context
) -> None:
    server.pages[BOX_PLACE] += f"{row('../evil', CAT)}\n".encode()
    del server.pages[f"/images/validation/{name('validation', 1)}.jpg"]
    server.odd[f"/images/validation/{name('validation', 4)}.jpg"] = [serving.html]
    run(tmp_path / "out", context, classes=["Cat"], max_missing=0.6)
    here = [name("validation", number) for number in (7, 10)]
    assert ids(tmp_path / "out") == here
    assert [found["ImageID"] for found in table(tmp_path / "out", "images-with-rotation.csv")] == here
    assert {found["ImageID"] for found in table(tmp_path / "out", "annotations-bbox.csv")} == set(here)
    assert sorted(entry.reason for entry in read_ledger(tmp_path / "out")) == ["not_an_image", "not_found", "unsafe_name"]
    assert not list(tmp_path.rglob("evil*"))
    with pytest.raises(NetworkError, match="3 of 5 images"):
        run(tmp_path / "strict", context, classes=["Cat"])


def test_unknown_classes_are_named(server: Server, tmp_path: Path, context: Context) -> None:
    with pytest.raises(ParamsError) as caught:
        run(tmp_path / "out", context, classes=["Cat", "Anmial"])
    assert caught.value.problems == ("'Anmial': Did you mean 'Animal'?",)
    assert BOX_PLACE not in server.counts()
    with pytest.raises(DataError, match="no such images of"):
        run(tmp_path / "out", context, classes=["Unicorn"])


@pytest.mark.parametrize("place", [BOX_PLACE, LIST_PLACE, f"/{_openimages_tables.CLASSES}", f"/{_openimages_tables.HIERARCHY}"])
def test_what_is_no_table_is_refused_and_not_kept(place: str, server: Server, tmp_path: Path, context: Context) -> None:
    right = server.pages[place]
    server.pages[place] = b"<html>Please log in</html>"
    options: dict[str, Any] = {"classes": ["Animal"], "include_subclasses": True}
    with pytest.raises(NetworkError, match=place.rpartition("/")[2]):
        run(tmp_path / "out", context, **options)
    server.pages[place] = right
    assert run(tmp_path / "out", context, **options)["images"] == 12


def test_a_damaged_row_is_told_with_its_line(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages[BOX_PLACE] = server.pages[BOX_PLACE][:-20]
    with pytest.raises(DataError, match=r"validation-annotations-bbox\.csv: line 37 has \d+ cells, the header 13") as caught:
        run(tmp_path / "out", context, classes=["Cat"])
    (cached,) = (path for path in (context.cache / "downloads").iterdir() if path.read_bytes() == server.pages[BOX_PLACE])
    assert str(cached) in caught.value.hint


def test_a_damaged_list_of_images_is_told(server: Server, tmp_path: Path, context: Context) -> None:
    server.pages[LIST_PLACE] = server.pages[LIST_PLACE].replace(b"Ann", b"\xff\xfe", 1)
    with pytest.raises(DataError, match=r"validation-images-with-rotation\.csv: line \d+ is damaged"):
        run(tmp_path / "out", context, classes=["Cat"])


def test_the_next_version_takes_over_what_is_there(server: Server, tmp_path: Path, context: Context) -> None:
    run(tmp_path / "first", context, classes=["Cat"], limit=2)
    before = len(server.requests)
    later = Context(base=context.base, cache=context.cache, previous=tmp_path / "first")
    run(tmp_path / "second", later, classes=["Cat"], limit=4)
    assert len(server.requests) - before == 2


def test_the_fingerprint_is_the_query(server: Server, context: Context) -> None:
    def printed(seed: int = 0, **options: object) -> str:
        return fingerprint_of("openimages", context, seed, **{"limit": 5, **options})

    assert printed() == printed() != printed(seed=1)
    assert (
        len({printed(), printed(limit=6), printed(classes=["Cat"]), printed(splits=["test"]), printed(skip_occluded=True)}) == 5
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ("openimages", {}, "neither classes nor a limit"),
        ("openimages:train", {"limit": 5}, "is not known"),
        ("openimages", {"limit": 5, "splits": []}, "needs 1 or more entries"),
        ("openimages", {"limit": 5, "splits": ["val"]}, "expected train, validation or test"),
    ],
)
def test_mistakes_in_the_params(source: str, options: dict[str, Any], told: str, context: Context) -> None:
    with pytest.raises(ParamsError, match=told):
        fingerprint_of(source, context, **options)
