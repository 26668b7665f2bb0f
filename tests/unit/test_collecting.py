"""Several sources in one version of collect, and sources that are kept when others are added."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline import cli, collecting
from pipeline.collecting import Source
from pipeline.errors import DataError, ParamsError
from pipeline.stage import Context
from pipeline.stages import collect
from pipeline.version import content_digest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two folders beside it: `cats` with VOC labels and `dogs` without any."""
    for folder, names in (("cats", ("a.jpg", "sub/b.jpg")), ("dogs", ("a.jpg", "c.jpg"))):
        for number, name in enumerate(names):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(os.fspath(path), np.full((48, 64, 3), 40 * number + ord(folder[0]), np.uint8))
    for name in ("a", "sub/b"):
        (tmp_path / "cats" / f"{name}.xml").write_text(
            f"<annotation><filename>{Path(name).name}.jpg</filename><size><width>64</width><height>48</height></size>"
            "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>"
        )
    (tmp_path / "dogs" / "notes.docx").write_text("x")
    work = tmp_path / "work"
    assert cli.main(["init", os.fspath(work)]) == 0
    monkeypatch.chdir(work)
    return work


def yp(*words: str) -> int:
    return cli.main(["collect", *words, "--quiet"])


def rows(version: Path, name: str = "origins.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (version / name).read_text(encoding="utf-8").splitlines()]


def collected(project: Path, number: int) -> Path:
    return project / "datasets" / "collect" / f"v{number}"


def summary(project: Path, number: int) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((collected(project, number) / "manifest.json").read_text(encoding="utf-8"))
    summary: dict[str, Any] = manifest["summary"]
    return summary


def test_each_of_several_sources_has_a_folder_a_licence_and_an_account(project: Path) -> None:
    sources = '[{source: ../cats, license: CC0-1.0}, {source: "folder:../dogs", name: hounds}]'
    assert cli.main(["run", "collect..annotate", f"collect.sources={sources}", "--quiet"]) == 0
    found = rows(collected(project, 1))
    assert [(row["path"], row["license"]) for row in found] == [
        ("cats/a.jpg", "CC0-1.0"),
        ("cats/a.xml", "CC0-1.0"),
        ("cats/sub/b.jpg", "CC0-1.0"),
        ("cats/sub/b.xml", "CC0-1.0"),
        ("hounds/a.jpg", "unknown"),
        ("hounds/c.jpg", "unknown"),
    ]
    assert [entry["path"] for entry in rows(collected(project, 1), "ledger.jsonl")] == ["hounds/notes.docx"]
    assert summary(project, 1)["license"] == "CC0-1.0; unknown"
    annotated = json.loads((project / "datasets/annotate/v1/manifest.json").read_text(encoding="utf-8"))["summary"]
    assert (annotated["images"], annotated["boxes"], annotated["format"]) == (4, 2, "voc, none")
    card = (project / "datasets/annotate/v1/CARD.md").read_text(encoding="utf-8")
    assert "| cats | CC0-1.0 |" in card
    assert "| hounds | unknown |" in card


def test_append_keeps_what_is_there_without_looking_at_its_source_again(project: Path) -> None:
    assert yp("../cats", "--license", "CC0-1.0") == 0
    first = rows(collected(project, 1))
    (project.parent / "cats").rename(project.parent / "gone")
    assert yp("../dogs", "--append") == 0
    second = rows(collected(project, 2))
    assert [{**row, "path": f"cats/{row['path']}"} for row in first] == second[: len(first)]
    assert [row["path"] for row in second[len(first) :]] == ["dogs/a.jpg", "dogs/c.jpg"]
    old, new = collected(project, 1) / "files/a.jpg", collected(project, 2) / "files/cats/a.jpg"
    assert old.stat().st_ino == new.stat().st_ino, "linked, not copied"
    assert rows(collected(project, 2), "times.jsonl")[0]["time"] == rows(collected(project, 1), "times.jsonl")[0]["time"]
    assert [each["query"] for each in summary(project, 2)["sources"]] == ["../cats", "../dogs"]
    assert yp("../dogs", "--append", "--name", "more") == 0
    assert [each["name"] for each in summary(project, 3)["sources"]] == ["cats", "dogs", "more"]
    ledger = [entry["path"] for entry in rows(collected(project, 3), "ledger.jsonl")]
    assert ledger == ["dogs/notes.docx", "more/notes.docx"]
    assert summary(project, 3)["license"] == "CC0-1.0; unknown"


def test_what_is_kept_never_means_another_source_that_is_called_alike(project: Path) -> None:
    for name in ("x", "y"):
        (project.parent / name).mkdir()
    (project.parent / "cats").rename(project.parent / "x" / "images")
    (project.parent / "dogs").rename(project.parent / "y" / "images")
    assert yp("../x/images") == 0
    assert yp("../y/images", "--append") == 0
    sources = json.loads((collected(project, 2) / "manifest.json").read_text(encoding="utf-8"))["recipe"]["params"]["sources"]
    assert yp("../y/images") == 0  # an experiment: now the newest one called so is another
    assert cli.main(["gc", "--yes", "--quiet", f"collect.sources={json.dumps(sources)}"]) in (0, 2)
    assert cli.main(["run", "collect", "--force", "collect", f"collect.sources={json.dumps(sources)}", "--quiet"]) == 0
    assert [row["path"] for row in rows(collected(project, 4))] == [row["path"] for row in rows(collected(project, 2))]
    assert yp("kept:images@0123456789") == 3
    assert yp("kept:images") == 2


def test_the_same_source_again_is_looked_at_again_in_its_place(project: Path) -> None:
    assert yp("../cats") == 0
    assert yp("../dogs", "--append") == 0
    (project.parent / "dogs" / "new.jpg").write_bytes((project.parent / "dogs" / "a.jpg").read_bytes())
    assert yp("../dogs", "--append") == 0
    assert [(each["name"], each["images"]) for each in summary(project, 3)["sources"]] == [("cats", 2), ("dogs", 3)]


def test_a_licence_or_a_name_fetches_nothing_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.sources import sample

    assert yp("sample", "--images", "3") == 0
    monkeypatch.setattr(sample, "fetch", None)
    assert yp("sample", "--images", "3", "--license", "CC0-1.0", "--name", "digits") == 0
    assert {row["license"] for row in rows(collected(project, 2))} == {summary(project, 1)["license"]}, (
        "the source states its own"
    )
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert yp("../cats") == 0
    assert yp("../cats", "--license", "CC0-1.0") == 0
    assert {row["license"] for row in rows(collected(project, 4))} == {"CC0-1.0"}
    (collected(project, 4) / "files" / "a.jpg").unlink()
    assert yp("../cats", "--license", "CC-BY-4.0") == 0
    assert (collected(project, 5) / "files" / "a.jpg").exists(), "what the version before has lost is fetched"


@pytest.mark.parametrize(
    "source",
    [
        "https://app.roboflow.com/mari/sharks/3?api_key=S3CRET",
        "https://universe.roboflow.com/ds/AbCd?key=S3CRET",
        "https://www.kaggle.com/datasets/a/b?token=S3CRET",
        "github:https://S3CRET@github.com/o/r",
        "camera:rtsp://me:S3CRET@10.0.0.9/a",
        "https://host/data.zip?rlkey=S3CRET",
    ],
)
def test_addresses_with_secrets_are_refused_and_not_repeated(
    source: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert yp(source) == 2
    said = capsys.readouterr()
    assert "comes with a password or token" in said.err
    assert "S3CRET" not in said.err + said.out


def test_what_was_appended_is_up_to_date_when_params_say_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yp("../cats") == 0
    capsys.readouterr()
    assert cli.main(["collect", "../dogs", "--append"]) == 0
    text = capsys.readouterr().out
    section = text[text.index("collect:\n") :]
    params = (project / "params.yaml").read_text(encoding="utf-8")
    start, end = params.index("collect:"), params.index("annotate:")
    (project / "params.yaml").write_text(params[:start] + section + "\n" + params[end:], encoding="utf-8")
    assert cli.main(["run", "collect", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert (stage["version"], stage["reused"]) == (2, True)


def test_the_same_files_at_another_time_are_the_same_content_and_times_are_verified(project: Path) -> None:
    digests = {content_digest({"files/a.jpg": "1", "times.jsonl": times}) for times in ("2", "3")}
    assert len(digests) == 1
    assert yp("../cats") == 0
    assert cli.main(["verify", "collect@v1", "--quiet"]) == 0
    (collected(project, 1) / "times.jsonl").write_text("other")
    assert cli.main(["verify", "collect@v1", "--quiet"]) == 5


def test_what_cannot_be_appended(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yp("../cats", "--append") == 2
    assert "there is no version of collect yet" in capsys.readouterr().err
    assert yp("../cats") == 0
    assert yp("../dogs", "--append", "--name", "CATS") == 2
    assert "have the same name 'CATS'" in capsys.readouterr().err
    assert yp("kept:birds@01234567") == 3
    assert "no version of collect holds what 'kept:birds@01234567' means" in capsys.readouterr().err
    assert yp() == 2
    assert yp("") == 2
    assert yp("../cats", "collect.license=CC0") == 2
    assert "has no place there" in capsys.readouterr().err
    assert yp("../cats", "--label-format", "vco") == 2
    assert "Did you mean 'voc'" in capsys.readouterr().err
    assert yp() == 2
    assert "`collect` needs a source" in capsys.readouterr().err


def test_a_source_without_images_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project.parent / "films").mkdir()
    (project.parent / "films" / "drive.mp4").write_text("x")
    assert cli.main(["run", "collect", "collect.sources=[{source: ../cats}, {source: ../films}]", "--quiet"]) == 3
    error = capsys.readouterr().err
    assert "The folder 'films' holds no images" in error
    assert "To take frames from 1 video: collect.source=video:../films" in error
    assert cli.main(["run", "collect", "collect.sources=[{source: ../cats}, {source: ../nothing}]", "--quiet"]) == 3
    assert "there is no folder or archive" in capsys.readouterr().err
    assert not collected(project, 1).exists()


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--every", "0.5"], {"every_s": 0.5}),
        (["--every-s=2"], {"every_s": 2}),
        (["--scenes", "--max-frames", "7"], {"scenes": True, "max_frames": 7}),
        (["--scenes=false", "--format", "png"], {"scenes": False, "format": "png"}),
    ],
)
def test_words_become_options_of_the_source(words: list[str], chosen: dict[str, object]) -> None:
    from pipeline.collect_command import _options_of

    assert _options_of("video", words, Path()) == chosen


def test_lists_and_text_on_the_command_line() -> None:
    from pipeline.collect_command import _options_of

    assert _options_of("coco", ["--classes", "dog, traffic light", "--limit", "200"], Path()) == {
        "classes": ["dog", "traffic light"],
        "limit": 200,
    }
    assert _options_of("url", ["--sha256", "12e4"], Path()) == {"sha256": "12e4"}, "text stays text, whatever YAML takes it for"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--iamges", "3"], "Did you mean '--images'"),
        (["sample", "--images"], "--images needs a value"),
        (["sample", "more"], "`collect` does not take 'more'"),
        (["sample", "--images", "none"], "collect.options: images: expected a whole number"),
        (["smaple"], "Did you mean 'sample'"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    words: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert yp(*words) in (2, 3)
    assert said in capsys.readouterr().err


def test_help_lists_sources_and_their_options(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["collect", "--help"]) == 0
    text = capsys.readouterr().out
    assert "roboflow" in text
    assert "\n  kept" not in text
    assert cli.main(["collect", "sample", "--help"]) == 0
    assert "--images  200" in capsys.readouterr().out


def test_a_path_on_the_command_line_starts_where_the_user_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    words = ["--params", "work/params.yaml", "--workspace", "work"]
    assert yp("cats", *words) == 0
    assert yp("folder:dogs", "--append", *words) == 0
    assert yp("sample", "--images", "2", *words) == 0
    assert [each["images"] for each in summary(project, 2)["sources"]] == [2, 2]


def test_a_path_in_an_option_on_the_command_line_starts_where_the_user_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.collect_command import _options_of

    instances = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "annotations": [], "categories": []}
    (project.parent / "mine.json").write_text(json.dumps(instances))
    monkeypatch.chdir(project.parent)
    words = ["coco", "--params", "work/params.yaml", "--workspace", "work", "--annotations"]
    assert yp(*words, "mine.json") == 3
    assert "1 of 1 images could not be had" in capsys.readouterr().err, "it was read"
    assert yp(*words, "none.json") == 3
    assert f"there is no file {project.parent / 'none.json'}" in capsys.readouterr().err
    assert _options_of("coco", ["--annotations=mine.json"], project) == {"annotations": os.fspath(project.parent / "mine.json")}
    assert _options_of("coco", ["--annotations", "http://h/a.json"], project) == {"annotations": "http://h/a.json"}
    monkeypatch.chdir(project)
    assert _options_of("coco", ["--annotations", "../mine.json"], project) == {"annotations": "../mine.json"}, "it can be moved"


def test_names_of_sources(tmp_path: Path) -> None:
    for name in ("day 1/photos", "day 2/photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "drive.tar.gz").touch()
    wishes = [Source(source=each) for each in ("day 1/photos", "day 2/photos", "drive.tar.gz", "sample", "sample")]
    parts = collecting.arrange(wishes, Context(base=tmp_path), several=True)
    assert [part.folder for part in parts] == ["photos", "photos-2", "drive", "sample", "sample-2"]
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        Source(source="sample", name="../up")


def test_one_way_to_say_it() -> None:
    with pytest.raises(ValueError, match="with `sources`, source, options and license"):
        collect.Params.model_validate({"source": "photos", "sources": [{"source": "sample"}]})


def test_unknown_options_are_of_a_named_source(tmp_path: Path) -> None:
    (part,) = collecting.arrange([Source(source="sample", options={"size": "big"})], Context(base=tmp_path), several=False)
    with pytest.raises(ParamsError, match=r"options of source 'sample' cannot be used:\n.*size: expected a whole number"):
        part.options  # noqa: B018 - a property


def test_a_source_that_fails_is_named(tmp_path: Path) -> None:
    wishes = [Source(source="sample", name="digits"), Source(source="archive:none.zip", name="old")]
    parts = collecting.arrange(wishes, Context(base=tmp_path, cache=tmp_path / ".cache"), several=True)
    with pytest.raises(DataError, match=r"^old: collect\.source: there is no archive"):
        collecting.bring(parts[1], 0, tmp_path / "out", Context(base=tmp_path, cache=tmp_path / ".cache"))


def test_words_of_any_script_and_values_that_look_like_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.parent / "cats").rename(project.parent / "🐱 Fotos")
    assert yp("../🐱 Fotos") == 0
    assert summary(project, 1)["sources"][0]["query"] == "../🐱 Fotos"
    assert yp("~nobody-of-this-name/photos") == 3
    assert "there is no folder or archive" in capsys.readouterr().err
    options: list[dict[str, Any]] = []
    monkeypatch.setattr("pipeline.collect_command._section", lambda *given: options.append(given[2]) or {"source": "../🐱 Fotos"})
    assert yp("huggingface:mari/reef", "--allow-patterns", "split=train/*,x=1", "seed=3") == 0
    assert options == [{"allow_patterns": ["split=train/*", "x=1"]}]
