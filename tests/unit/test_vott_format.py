"""What is peculiar to VoTT's JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from tests.labelling import Collected


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path)


def region(kind: Any, tags: Any, *points: tuple[Any, Any], box: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = {"id": "r", "type": kind, "tags": tags, "points": [{"x": x, "y": y} for x, y in points]}
    return found if box is None else found | {"boundingBox": dict(zip(("left", "top", "width", "height"), box, strict=True))}


def rectangle(*tags: str, box: tuple[Any, ...] = (1, 2, 8, 6)) -> dict[str, Any]:
    return region("RECTANGLE", list(tags), box=box)


def asset(name: str, *regions: Any, **more: Any) -> dict[str, Any]:
    about = {"id": f"id-{name}", "name": name, "path": f"file:/home/me/{name}", "state": 2 if regions else 1, "type": 1}
    return {"asset": about | {"size": {"width": 100, "height": 50}} | more, "regions": list(regions), "version": "2.2.0"}


def export(*assets: dict[str, Any], tags: Any = ("dog", "cat"), **more: Any) -> str:
    entries = {entry["asset"]["id"]: entry for entry in assets}
    listed = [{"name": tag, "color": "#fff"} for tag in tags] if isinstance(tags, tuple) else tags
    return json.dumps({"name": "pets", "tags": listed, "assets": entries, "version": "2.2.0", **more}, indent=4)


def project(*assets: dict[str, Any], tags: tuple[str, ...] = ("dog", "cat")) -> str:
    """A `.vott` file, which lists the assets without their regions."""
    entries = {entry["asset"]["id"]: entry["asset"] for entry in assets}
    return json.dumps({"name": "pets", "tags": [{"name": tag} for tag in tags], "assets": entries})


def test_regions_of_every_kind(collected: Collected) -> None:
    triangle = (10, 10), (30, 10), (20, 40)
    text = export(
        asset(
            "a.jpg",
            rectangle("cat"),
            rectangle("dog", "cat", "dog", box=(20, 20, 10, 10)),
            region("POLYGON", ["dog"], *triangle, box=(10, 10, 20, 30)),
            region("SQUARE", ["dog"], (50, 10), (60, 10), (60, 20), (50, 20)),
            region("RECTANGLE", ["fox"], box=("40", 30, 5.5, 5)),
            region("POLYLINE", ["dog"], *triangle, box=(10, 10, 20, 30)),
            region("POINT", ["dog"], (10, 10), box=(10, 10, 0, 0)),
            rectangle(),
            region("RECTANGLE", "cat", box=(1, 1, 2, 2)),
            region("RECTANGLE", ["cat"], box=(1, None, 2, 2)),
            region("RECTANGLE", ["cat"], ("x", 1), (2, 2)),
        ),
        tags=("dog", "cat", "bird"),
    )
    result = collected.image("a.jpg").text("pets-export.json", text).run()
    assert result.summary["format"] == "vott"
    assert [box[1:] for box in result.boxes()] == [
        ("cat", 1, 2, 9, 8),
        ("dog", 20, 20, 30, 30),
        ("cat", 20, 20, 30, 30),
        ("dog", 10, 10, 30, 40),
        ("dog", 50, 10, 60, 20),
        ("fox", 40, 30, 45.5, 35),
    ]
    assert result.dataset.class_names == ("dog", "cat", "bird", "fox"), "the project's tags in their order, then others"
    assert result.reasons() == {
        "box converted: polygon": 1,
        "box converted: several_tags": 1,
        "box dropped: malformed_box": 2,
        "box dropped: no_class": 2,
        "box dropped: point": 1,
        "box dropped: polyline": 1,
    }
    (entry,) = [entry for entry in result.entries if entry.reason == "polyline"]
    lines = text.splitlines()
    assert entry.line == [number for number, line in enumerate(lines, 1) if '"points"' in line][5]
    assert entry.detail == "region 6"


def test_images_seen_and_unseen(collected: Collected) -> None:
    for name in ("tagged", "empty", "unseen"):
        collected.image(f"{name}.jpg")
    assets = asset("tagged.jpg", rectangle("cat")), asset("empty.jpg"), asset("unseen.jpg", state=0), asset("film.mp4", type=2)
    result = collected.text("pets-export.json", export(*assets)).run()
    assert result.reasons() == {"image kept: no_label_file": 1}
    assert result.summary["background"] == 2
    assert collected.run(include_unlabelled=False).dataset.images["path"].tolist() == ["empty.jpg", "tagged.jpg"]


def test_a_file_for_each_asset(collected: Collected) -> None:
    for name in ("tagged", "empty", "unseen"):
        collected.image(f"{name}.jpg")
    tagged, empty, unseen = asset("tagged.jpg", rectangle("cat")), asset("empty.jpg"), asset("unseen.jpg", state=0)
    collected.text("target/0f-asset.json", json.dumps(tagged))
    result = collected.run()
    assert result.boxes() == [("tagged.jpg", "cat", 1, 2, 9, 8)]
    assert result.dataset.class_names == ("cat",)
    assert result.reasons() == {"image kept: no_label_file": 2}
    collected.text("target/pets.vott", project(tagged, empty, unseen))
    result = collected.run()
    assert result.dataset.class_names == ("dog", "cat"), "the tags of the project"
    assert result.reasons() == {"image kept: no_label_file": 1}, "the project says that empty.jpg was looked at"
    assert result.summary["background"] == 2


def test_a_tagged_image_whose_file_is_missing_is_no_background(collected: Collected) -> None:
    one, two = asset("1.jpg", rectangle("cat")), asset("2.jpg", rectangle("cat"))
    collected.image("1.jpg").image("2.jpg").text("1-asset.json", json.dumps(one)).text("pets.vott", project(one, two))
    with pytest.raises(DataError) as error:
        collected.run()
    assert error.value.problems == ("pets.vott: /home/me/2.jpg has regions, but id-2.jpg-asset.json is not there",)
    assert collected.run(on_invalid="drop").reasons() == {"image dropped: malformed_label_file": 1}


def test_asset_files_are_believed_over_an_older_export(collected: Collected) -> None:
    old, new, other = asset("a.jpg", rectangle("cat")), asset("a.jpg", rectangle("dog")), asset("b.jpg", rectangle("cat"))
    collected.image("a.jpg").image("b.jpg").text("0f-asset.json", json.dumps(new))
    result = collected.text("vott-json-export/pets-export.json", export(old, other)).run()
    assert [box[:2] for box in result.boxes()] == [("a.jpg", "dog"), ("b.jpg", "cat")]
    assert result.reasons() == {"file kept: repeated_assets": 1}


def test_frames_of_a_video_stay_together(collected: Collected) -> None:
    video = {"id": "v", "name": "car.mp4", "path": "file:C:/films/car.mp4", "type": 2}
    frames = []
    for second in (4.2, 5):
        name = f"car.mp4#t={second}"
        frames.append(asset(name, rectangle("cat"), path=f"file:C:/films/{name}", type=3, timestamp=second, parent=video))
        collected.image(f"vott-json-export/{name}.jpg")
    result = collected.image("a.jpg").text("pets-export.json", export(*frames, asset("a.jpg", rectangle("dog")))).run()
    groups = dict(zip(result.dataset.images["path"], result.dataset.images["group_id"], strict=True))
    assert groups == {
        "a.jpg": "a.jpg",
        "vott-json-export/car.mp4#t=4.2.jpg": "C:/films/car.mp4",
        "vott-json-export/car.mp4#t=5.jpg": "C:/films/car.mp4",
    }
    assert result.reasons() == {}


def test_names_of_images(collected: Collected) -> None:
    for name in ("x/1.jpg", "y/1.jpg", "Grüße 1.jpg", "blob.jpg", "named.jpg"):
        collected.image(f"images/{name}")
    box = rectangle("cat")
    text = export(
        asset("1.jpg", box, id="1", path="file:C:/Users/me/x/1.jpg"),
        asset("1.jpg", box, id="2", path="file:../source/y/1.jpg"),
        asset("Gr%C3%BC%C3%9Fe%201.jpg", box, path="file:/home/me/Gr%C3%BC%C3%9Fe%201.jpg"),
        asset("blob.jpg", box, path="https://store.blob.core.windows.net/x/blob.jpg?sv=2019-02-02&sig=a%2Fb.jpg"),
        asset("named.jpg", box, path=None),
    )
    result = collected.text("pets-export.json", text).run()
    assert len(result.boxes()) == 5
    assert result.reasons() == {}


def test_photos_turned_by_exif_are_decided_by_their_size(collected: Collected) -> None:
    for name in ("stored.jpg", "up.jpg", "unknown.jpg"):
        collected.image(name, 100, 50, orientation=6)
    up = asset("up.jpg", rectangle("cat"), size={"width": 50, "height": 100})
    collected.text("pets-export.json", export(asset("stored.jpg", rectangle("cat")), up, asset("unknown.jpg", size=None)))
    result = collected.run()
    assert result.boxes() == [("stored.jpg", "cat", 42, 1, 48, 9), ("up.jpg", "cat", 1, 2, 9, 8)]
    assert result.reasons() == {"image converted: stored_frame": 1, "image kept: frame_undecided": 1}


def test_splits_of_file_names(collected: Collected) -> None:
    collected.image("1.jpg").image("2.jpg").text("train-export.json", export(asset("1.jpg", rectangle("cat"))))
    result = collected.text("test-export.json", export(asset("2.jpg", rectangle("cat")))).run()
    assert result.splits() == {"1.jpg": "train", "2.jpg": "test"}


def test_items_that_are_none(collected: Collected) -> None:
    good = asset("a.jpg", rectangle("cat"), "region", None, {})
    document = json.loads(export(good))
    document["tags"] = ["cat", None, {"name": 7}, {"name": "dog"}]
    document["assets"] |= {"1": "text", "2": asset("", rectangle("cat"), path=None), "3": {"asset": [], "regions": [{}]}, "4": {}}
    collected.image("a.jpg").text("x-export.json", json.dumps(document))
    result = collected.run()
    assert [box[1:] for box in result.boxes()] == [("cat", 1, 2, 9, 8)]
    assert result.dataset.class_names == ("dog", "cat")
    assert result.reasons() == {"box dropped: no_class": 3, "box dropped: unknown_image": 2, "image dropped: no_file_name": 3}


def test_files_that_cannot_be_read(collected: Collected) -> None:
    good = asset("a.jpg", rectangle("cat"))
    collected.image("a.jpg").text("0-asset.json", json.dumps(good, indent=1)).text(
        "1-asset.json", json.dumps(good, indent=1)[:60]
    )
    collected.text("2-asset.json", json.dumps(good | {"regions": {}})).text("x-export.json", '{"tags": [], "assets": []}')
    collected.text("pets.vott", "").text("settings.json", "{ // a comment\n}").text("scene.json", '{"asset": {"version": "2.0"}}')
    with pytest.raises(DataError) as error:
        collected.run()
    assert [problem.split(" (")[0] for problem in error.value.problems] == [
        "1-asset.json:5: malformed JSON",
        "2-asset.json: 'regions' must be a list",
        "pets.vott:1: malformed JSON",
        "x-export.json: 'assets' must be an object",
    ]
