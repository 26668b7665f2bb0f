from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.stage import Context
from pipeline.stages import report
from pipeline.web import text
from tests.reporting import COMMIT, CONFIDENCE, JSON, NASTY, NASTY_FILE, OTHER, STAGES, Outline, dataset, finish, manifest, render


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of all stages; tests that change them take a copy."""
    base = tmp_path_factory.mktemp("finished")
    finish(base)
    return base


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "workspace"))


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
    assert "rebuilt from a wheel" in outline.text
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
    return Outline(page[page.index('<ul class="cautions"') : page.index("</ul>", page.index('<ul class="cautions"')) + 5]).text


def test_what_makes_figures_doubtful_stands_at_the_top_problems_first(page: str) -> None:
    found = cautions(page)
    assert "Problem engine fp16 was not made: no NVIDIA GPU" in found
    assert "Note preprocess left out 1 image (12.5 %)" in found
    assert "Note The licence of the images is not known" in found
    assert found.rindex("Problem") < found.index("Note")
    assert "near-duplicate" not in found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"group_id": ["a.png", "b.png", "c.png", "a.png", "e", "f", "g"]}, "than images of the same group: 2 images"),
        (
            {"dhash": ["f00f" * 32, "f" * 128, "00ff" * 32, "f00f" * 31 + "f00e", "0f" * 64, "f0" * 64, "3c" * 64]},
            "Near-duplicates on different sides of the split: 1 pair",
        ),
    ],
)
def test_leakage_is_found_in_the_finished_split(workspace: Path, change: JSON, expected: str) -> None:
    data = dataset()
    Dataset(data.class_names, data.images.assign(**change), data.boxes).save(workspace / "runs/split/v3")
    page = render(workspace)
    assert expected in cautions(page)
    assert "The split leaks." in page


def test_a_training_image_made_from_a_test_image_is_found(workspace: Path) -> None:
    data = dataset()
    source = data.images["source_id"].tolist()
    Dataset(data.class_names, data.images.assign(source_id=[source[-1], *source[1:]]), data.boxes).save(
        workspace / "runs/augment/v3"
    )
    assert "Made from images of val or test: 1 training image." in cautions(render(workspace))


def test_figures_of_val_an_unfinished_training_and_changed_files_are_cautioned_against(workspace: Path) -> None:
    train, measured = workspace / "runs/train/v3", workspace / "runs/evaluate/v3"
    metrics = json.loads((measured / "metrics.json").read_text(encoding="utf-8"))
    metrics |= {"split": "val"}
    metrics["per_class"][0] |= {"ap50_95": None, "recall": None}
    metrics["per_class"][1] |= {"recall": 0.0}
    files.write_text(measured / "metrics.json", json.dumps(metrics))
    manifest("train", train, {"epochs": 3, "best_epoch": 3}, {"epochs": 3}, git_commit=COMMIT + "+")
    found = cautions(render(workspace))
    assert "measured on val, by which the best epoch was chosen" in found
    assert "training had not levelled off" in found
    assert "train.epochs=6" in found
    assert "changed but not committed" in found
    assert f"No box on val, hence no figure and no part in the means: {NASTY}" in found
    assert f"Never found at the recommended threshold: {OTHER}" in found


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
