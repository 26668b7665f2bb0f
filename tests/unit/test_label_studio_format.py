"""What is peculiar to Label Studio's exports."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from pipeline import formats
from pipeline.dataset import Dataset
from pipeline.errors import DataError
from tests.label_writers.label_studio import RECT, rect, result, task
from tests.labelling import Collected, Result

GOLDEN = Path(__file__).parents[1] / "data" / "formats" / "label_studio"
CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="dog"/><Label value="car" alias="cat"/></RectangleLabels>
  <Choices name="scene" toName="image"><Choice value="day"/></Choices>
  <KeyPointLabels name="point" toName="image"><Label value="nose"/></KeyPointLabels>
</View>"""


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return Collected(tmp_path).image("a.jpg").image("b.jpg")


def read(collected: Collected, *tasks: Any, **params: Any) -> Result:
    return collected.text("tasks.json", json.dumps(tasks)).run(**params)


def kinds(found: Result) -> list[tuple[str, str]]:
    """What the ledger says of boxes."""
    return [(entry.action, entry.reason) for entry in found.entries if entry.item == "box"]


# --- What Label Studio itself wrote -----------------------------------------------------------------------------------------

STREET = [
    ("street (1).jpg", "car", 10, 10, 40, 30),
    ("street (1).jpg", "dog", 40, 5, 50, 25),  # 20 x 10 px, turned by 90° about its top-left corner (50, 5)
    ("street (1).jpg", "car", 3, 31, 17, 45),
    ("street (1).jpg", "dog", 42.223611, 12.834475, 77.776389, 37.165525),
    ("street (1).jpg", "cat", 60, 20, 95, 31),
    ("street (1).jpg", "coach", 5, 30, 15, 40),
    ("street (1).jpg", "van", 5, 30, 15, 40),
]
STREET_REASONS = {
    "box converted: ellipse": 1,
    "box converted: mask": 1,
    "box converted: polygon": 1,
    "box converted: rotated_box": 1,
    "box converted: several_labels": 1,
    "box dropped: keypoints": 1,
    "image kept: no_label_file": 2,  # skipped, and not looked at yet
    "image kept: other_annotations": 2,
}


@pytest.fixture
def uploaded(tmp_path: Path) -> Collected:
    collected = Collected(tmp_path)
    for name in ("street (1).jpg", "sky 2.png", "skipped.jpg", "nobody.jpg"):
        collected.image(name)
    return collected


def test_an_export(uploaded: Collected) -> None:
    uploaded.data("label_config.xml", (GOLDEN / "label_config.xml").read_bytes())
    found = uploaded.data("project.json", (GOLDEN / "project.json").read_bytes()).run()
    assert found.boxes() == STREET
    assert found.dataset.class_names == ("dog", "car", "cat", "van", "coach"), "as the configuration has them"
    assert found.reasons() == {
        **STREET_REASONS,
        "box dropped: tag": 1,
        "file kept: predictions_ignored": 1,
        "file kept: relations_ignored": 1,
        "image kept: annotation_cancelled": 1,
    }


def test_json_min(uploaded: Collected) -> None:
    found = uploaded.data("min.json", (GOLDEN / "project_min.json").read_bytes()).run()
    assert found.boxes() == STREET
    assert found.dataset.class_names == ("car", "cat", "coach", "dog", "van"), "alphabetical"
    assert found.reasons() == STREET_REASONS


def test_the_folder_that_label_studio_exports_has_other_names(uploaded: Collected) -> None:
    for path in uploaded.files.glob("*"):
        path.unlink()
    uploaded.image("images/39bfd98b-street_1.jpg").image("images/3e15c929-sky_2.png")
    found = uploaded.data("result.json", (GOLDEN / "project.json").read_bytes()).run()
    assert {box[0] for box in found.boxes()} == {"images/39bfd98b-street_1.jpg"}
    assert "image kept: no_label_file" not in found.reasons()


# --- Images -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("/data/upload/3/1a2b3c4d-a.jpg", "a.jpg"),
        ("upload/3/1a2b3c4d-a.jpg", "a.jpg"),
        ("/data/upload/3/1a2b3c4d-IMG_7_x.jpg", "IMG 7 (x).jpg"),
        ("/data/upload/3/1a2b3c4d-%C3%BC.jpg", "ü.jpg"),
        ("/storage-data/uploaded/?filepath=upload/3/1a2b3c4d-a.jpg", "a.jpg"),
        ("/data/local-files/?d=some/where/c%26d%2Be.jpg", "c&d+e.jpg"),
        ("/data/local-files/?d=two/1.jpg", "two/1.jpg"),
        ("/data/local-files/?d=f+g.jpg", "f+g.jpg"),
        ("/data/local-files/?d=two%5C1.jpg", "two/1.jpg"),
        ("http://localhost:8080/data/local-files/?d=two%2F1.jpg", "two/1.jpg"),
        ("s3://bucket/two/1.jpg", "two/1.jpg"),
        ("gs://bucket/deep/a.jpg", "a.jpg"),
        ("https://example.com/one/1.jpg?X-Signature=ab/cd&e=f.png#top", "one/1.jpg"),
        (r"C:\pictures\a.jpg", "a.jpg"),
        ("/data/upload/3/1a2b3c4d-a", "a.jpg"),
    ],
)
def test_names_of_images(collected: Collected, reference: str, path: str) -> None:
    for name in ("IMG 7 (x).jpg", "ü.jpg", "c&d+e.jpg", "one/1.jpg", "two/1.jpg", "f+g.jpg"):
        collected.image(name)
    found = read(collected, task(1, reference, [result(1, rect("cat"))]))
    assert [box[0] for box in found.boxes()] == [path]


def test_a_name_without_the_digits_may_still_mean_two_files(collected: Collected) -> None:
    collected.image("one/1.jpg").image("two/1.jpg")
    tasks = [task(1, "/data/upload/3/1a2b3c4d-1.jpg", [result(1, rect("cat"))]), task(2, "a.jpg", [result(1, rect("cat"))])]
    assert read(collected, *tasks).reasons()["image dropped: ambiguous_image"] == 1


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ({"text": "hello", "photo_of_car": "x/a.jpg"}, {}),
        ({"thumbnail": "b.jpg", "image": "a.jpg"}, {}),
        ({"thumbnail": "b.jpg", "other": "a.jpg"}, {"to_name": "other"}),
        ({"thumbnail": "b.jpg", "other": "a.jpg"}, {"source": "$other"}),
        ({"image": "a", "caption": "b.jpg"}, {}),
    ],
)
def test_the_column_of_the_image(collected: Collected, data: dict[str, str], columns: dict[str, str]) -> None:
    found = read(collected, {**task(1, "", [result(1, rect("cat"), **columns)]), "data": data})
    assert [box[0] for box in found.boxes()] == ["a.jpg"]


def test_two_images_a_task(collected: Collected) -> None:
    results = [result(1, rect("cat"), to_name="left"), result(2, rect("dog"), to_name="right")]
    two = {**task(1, "", results), "data": {"photo1": "a.jpg", "photo2": "b.jpg"}}
    collected.text(
        "config.xml",
        '<View><Image name="left" value="$photo2"/><Image name="right" value="$photo1"/>'
        '<RectangleLabels name="label" toName="left"><Label value="dog"/></RectangleLabels></View>',
    )
    assert [box[:2] for box in read(collected, two).boxes()] == [("a.jpg", "dog"), ("b.jpg", "cat")]
    (collected.files / "config.xml").unlink()
    sure = task(2, "a.jpg", [result(1, rect("cat"))])
    found = read(collected, two, sure)
    assert kinds(found) == [("dropped", "unknown_image")] * 2, "nothing says which is which"


def test_several_pages(collected: Collected) -> None:
    results = [result(1, rect("cat"), item_index=1), result(2, rect("dog"), item_index=0), result(3, rect("dog"), item_index=7)]
    found = read(collected, {**task(1, "", results), "data": {"pages": ["a.jpg", "b.jpg"]}})
    assert [box[:2] for box in found.boxes()] == [("a.jpg", "dog"), ("b.jpg", "cat")]
    assert kinds(found) == [("dropped", "unknown_image")]


def test_tasks_without_an_image(collected: Collected) -> None:
    text = {"start": 1, "end": 3, "text": "abc", "labels": ["name"]}
    video = {"framesCount": 9, "sequence": [{"frame": 1, **RECT}], "labels": ["cat"]}
    found = read(
        collected,
        task(1, "a.jpg", [result(1, rect("cat"))]),
        {**task(2, "", [result(1, text, "labels")]), "data": {"text": "abc"}},
        {**task(3, "", [result(1, video, "videorectangle")]), "data": {"video": "/data/upload/1/x.mp4"}},
        task(4, "data:image/png;base64,AAAA", [result(1, rect("cat"))]),
        {"id": 5, "annotations": []},
        7,
    )
    assert len(found.boxes()) == 1
    assert kinds(found) == [("dropped", "tag"), ("dropped", "video"), ("dropped", "unknown_image")]
    assert found.reasons()["image dropped: no_file_name"] == 5


def test_sizes_decide_the_frame_of_a_turned_photo(collected: Collected) -> None:
    collected.image("turned.jpg", 50, 100, orientation=6)  # upright: 100 x 50
    found = read(collected, task(1, "turned.jpg", [result(1, rect("cat"))]))
    assert found.boxes() == [("turned.jpg", "cat", 10, 10, 40, 30)]
    stored = result(1, rect("cat"), original_width=50, original_height=100)
    found = read(collected, task(1, "turned.jpg", [stored]))
    assert found.boxes() == [("turned.jpg", "cat", 40, 5, 80, 20)]
    assert found.reasons()["image converted: stored_frame"] == 1


def test_without_a_size(collected: Collected) -> None:
    bare = [
        {"type": "rectanglelabels", "value": rect("cat")},
        {"type": "rectanglelabels", "value": rect("dog", rotation=45)},
        {"type": "ellipselabels", "value": {"x": 50, "y": 50, "radiusX": 5, "radiusY": 10, "ellipselabels": ["dog"]}},
    ]
    found = read(collected, task(1, "a.jpg", bare))
    assert found.boxes() == [("a.jpg", "cat", 10, 10, 40, 30), ("a.jpg", "dog", 45, 20, 55, 30)]
    assert kinds(found) == [("dropped", "malformed_box"), ("converted", "ellipse")], "only a turn needs pixels"


# --- Annotations ------------------------------------------------------------------------------------------------------------


def annotation(number: int, *labels: str, at: str = "2024-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    results = [result(position, rect(label, x=position)) for position, label in enumerate(labels)]
    return {"id": number, "result": results, "updated_at": at, "was_cancelled": False, "ground_truth": False, **more}


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ([annotation(1, "cat"), annotation(2, "dog", at="2025-01-01")], "dog"),
        ([annotation(1, "cat", at="2025-01-01"), annotation(2, "dog")], "cat"),
        ([annotation(1, "cat", at=""), annotation(2, "dog", at="")], "dog"),
        ([annotation(1, "cat", ground_truth=True), annotation(2, "dog", at="2025-01-01")], "cat"),
        ([annotation(1, "cat", ground_truth=True, was_cancelled=True), annotation(2, "dog")], "dog"),
        ([annotation(1, "cat"), annotation(2, "dog", was_cancelled=True), {"id": 3, "skipped": True}], "cat"),
        ([annotation(1, "cat"), annotation(2, "dog", created_at="2030-01-01")], "dog"),
    ],
)
def test_which_annotation_counts(collected: Collected, annotations: list[Any], name: str) -> None:
    found = read(collected, {**task(1, "a.jpg", []), "annotations": annotations})
    assert [box[1] for box in found.boxes()] == [name]
    left = [
        one["id"] for one in annotations if one.get("result") and not one["was_cancelled"] and one["id"] != found_id(one, name)
    ]
    entries = [entry for entry in found.entries if entry.reason == "other_annotations"]
    assert [entry.detail.partition("left out: ")[2] for entry in entries] == [str(number) for number in left]
    assert all((entry.action, entry.path, entry.file) == ("kept", "a.jpg", "tasks.json") for entry in entries)


def found_id(one: dict[str, Any], name: str) -> int | None:
    return one["id"] if one["result"][0]["value"]["rectanglelabels"] == [name] else None


@pytest.mark.parametrize(("person", "name"), [(3, "cat"), ("3", "cat"), ("me@example.com", "dog"), (4, "dog")])
def test_the_annotations_of_one_person(collected: Collected, person: int | str, name: str) -> None:
    annotations = [annotation(1, "cat", completed_by=3), annotation(2, "dog", completed_by={"id": 4, "email": "me@example.com"})]
    tasks = [{**task(1, "a.jpg", []), "annotations": annotations}, {**task(2, "b.jpg", []), "annotations": annotations[:1]}]
    found = read(collected, *tasks, options={"completed_by": person})
    assert {box[1] for box in found.boxes()} == {name}
    assert found.summary["unlabelled"] == (0 if name == "cat" else 1), "what only others labelled is unlabelled"


def test_labelled_background_and_unlabelled(collected: Collected) -> None:
    collected.image("c.jpg").image("d.jpg")
    prediction = {"result": [result(1, rect("dog"))], "score": 0.5}
    tasks = [
        task(1, "a.jpg", [result(1, rect("cat"))], drafts=[{"result": []}, {}]),
        task(2, "b.jpg", []),
        {**task(3, "c.jpg", []), "annotations": [], "predictions": [prediction]},
        {"id": 4, "data": {"image": "d.jpg"}, "predictions": [prediction, prediction]},
    ]
    found = read(collected, *tasks)
    assert found.summary["unlabelled"] == 2
    assert [entry.path for entry in found.entries if entry.reason == "no_label_file"] == ["c.jpg", "d.jpg"]
    details = {entry.reason: entry.detail for entry in found.entries if entry.item == "file"}
    assert details == {"predictions_ignored": "3 predictions", "drafts_ignored": "2 drafts"}


def test_other_files_with_tasks(collected: Collected) -> None:
    one = task(1, "a.jpg", [result(1, rect("cat"))])
    old = {"id": 2, "data": {"image": "b.jpg"}, "completions": [{"id": 1, "result": [result(1, rect("dog"))]}]}
    collected.text("one.json", json.dumps(one)).text("old.json", json.dumps([old]))
    stored = {**one["annotations"][0], "task": {"id": 3, "data": {"image": "c.jpg"}}}
    collected.image("c.jpg").text("target/storage.json", json.dumps(stored))
    found = collected.run()
    assert [box[:2] for box in found.boxes()] == [("a.jpg", "cat"), ("b.jpg", "dog"), ("c.jpg", "cat")]


def test_json_min_of_a_hand_made_import(collected: Collected) -> None:
    """The converter writes null for what an imported file did not say."""
    rows = [
        {"image": "a.jpg", "id": 1, "label": [rect("cat")], "annotator": None, "annotation_id": None},
        {"image": "b.jpg", "id": 2, "annotator": None, "annotation_id": None},
    ]
    found = read(collected, *rows)
    assert [box[1] for box in found.boxes()] == ["cat"]
    assert found.summary["unlabelled"] == 1


# --- Broken files -----------------------------------------------------------------------------------------------------------


def test_wrong_types_anywhere(collected: Collected) -> None:
    deep = json.loads("[" * 900 + "]" * 900)
    good = task(
        1, "a.jpg", [result(1, rect("cat")), None, 5, [], {"value": 5}, {"id": [], "value": {}}, result(2, rect(deep, x=deep))]
    )
    odd = [
        {**task(2, "b.jpg", []), "annotations": {"a": 1}, "predictions": 5, "meta": []},
        {**task(3, "b.jpg", []), "annotations": [5, None, {"result": "none", "completed_by": deep}]},
        {"data": {"image": deep, "x": None}, "annotations": [{"id": deep, "result": [{"value": {"x": deep}}]}]},
        {"id": 10**30, "data": {}, "annotations": [{}]},
    ]
    found = read(collected, good, *odd)
    assert found.boxes() == [("a.jpg", "cat", 10, 10, 40, 30)]
    assert [reason for _, reason in kinds(found)] == ["malformed_box"] * 6 + ["unknown_image"]


def test_unreadable_files_are_named_in_one_go(collected: Collected) -> None:
    text = json.dumps([task(1, "a.jpg", [result(1, rect("cat"))])])
    collected.text("good.json", text).text("cut.json", text[:-3].replace("{", "{\n")).text("label_config.xml", CONFIG[:-3])
    with pytest.raises(DataError) as error:
        collected.run(on_invalid="drop")
    assert [problem.partition(": ")[0] for problem in error.value.problems] == ["label_config.xml:6", "cut.json:7"]


# --- The labelling configuration --------------------------------------------------------------------------------------------


def test_the_configuration_gives_the_order(collected: Collected) -> None:
    collected.text("deep/config.xml", CONFIG).text("other.xml", "<Viewer toName='x'><Labels/></Viewer>")
    found = read(collected, task(1, "a.jpg", [result(1, rect("bird")), result(2, rect("cat", x=1))]))
    assert found.dataset.class_names == ("dog", "cat", "bird"), "no point labels, no choices; what it does not list comes last"
    numbered = CONFIG.replace('"dog"', '"dog" category="7"').replace('"car"', '"car" category="0"')
    collected.text("deep/config.xml", numbered)
    assert collected.run().dataset.class_names == ("cat", "dog", "bird")


def test_what_is_written(tmp_path: Path) -> None:
    images = [{"path": "ü/a b+&.jpg", "width": 200, "height": 50}, {"path": "b.jpg", "width": 100, "height": 50}]
    dataset = Dataset.from_rows(["dog", 'c"a<t'], images, [(0, 1, 20, 2, 40, 12)])
    for folder in ("one", "two"):
        formats.load_writable("label_studio").write(dataset, None, tmp_path / folder)
    written = (tmp_path / "one/tasks.json").read_bytes()
    assert written == (tmp_path / "two/tasks.json").read_bytes()
    first, second = json.loads(written)
    assert first["data"]["image"] == "/data/local-files/?d=images/%C3%BC/a%20b%2B%26.jpg"
    (written_result,) = first["annotations"][0]["result"]
    assert written_result["value"] == {"x": 10, "y": 4, "width": 10, "height": 20, "rotation": 0, "rectanglelabels": ['c"a<t']}
    assert second["annotations"][0]["result"] == []
    root = ET.fromstring((tmp_path / "one/label_config.xml").read_text(encoding="utf-8"))
    assert [label.attrib for label in root.iter("Label")] == [
        {"value": "dog", "category": "0"},
        {"value": 'c"a<t', "category": "1"},
    ]


def test_a_class_name_that_xml_cannot_hold(tmp_path: Path) -> None:
    dataset = Dataset.from_rows(["a\x01b"], [{"path": "a.jpg", "width": 1, "height": 1}], [])
    with pytest.raises(DataError, match="XML cannot hold"):
        formats.load_writable("label_studio").write(dataset, None, tmp_path)
