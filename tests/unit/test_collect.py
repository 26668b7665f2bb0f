from __future__ import annotations

import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from pipeline import collecting, files, fingerprint
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import read as read_ledger
from pipeline.stage import Context
from pipeline.stages import collect
from pipeline.stages.collect import Params
from tests.collecting import collected, origins


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.JPG", "sub dir/ä.png", "sub dir/ä.txt", "b/a.JPG", "notes.docx", ".hidden/x.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def run(source: str, out: Path, context: Context, **params: object) -> dict[str, object]:
    return collect.run({}, Params.model_validate({"source": source, **params}), out, context)


def test_a_folder_is_copied_with_its_sub_folders_and_never_touched(photos: Path, tmp_path: Path, context: Context) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in photos.rglob("*")}
    summary = run("photos", tmp_path / "out", context, license="CC0")
    assert collected(tmp_path / "out") == ["a.JPG", "b/a.JPG", "sub dir/ä.png", "sub dir/ä.txt"]
    assert summary["images"] == 3
    assert summary["license"] == "CC0"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in photos.rglob("*")} == before
    assert not (tmp_path / "out" / "files" / "a.JPG").samefile(photos / "a.JPG")
    assert [(entry.path, entry.reason) for entry in read_ledger(tmp_path / "out")] == [("notes.docx", "not_an_image_nor_labels")]


def test_origins_tell_hash_and_size(photos: Path, tmp_path: Path, context: Context) -> None:
    run("photos", tmp_path / "out", context)
    rows = origins(tmp_path / "out")
    assert [row["path"] for row in rows] == ["a.JPG", "b/a.JPG", "sub dir/ä.png", "sub dir/ä.txt"]
    assert all(len(row["hash"]) == 64 and row["size"] > 0 for row in rows)


def test_a_change_in_the_folder_changes_the_fingerprint(photos: Path, context: Context) -> None:
    params = Params(source="photos")
    first = collect.external(params, context)
    assert collect.external(params, context) == first
    (photos / "new.jpg").write_text("new")
    assert collect.external(params, context) != first


def test_a_file_of_times_that_the_user_has_is_content_like_any_other(photos: Path, context: Context) -> None:
    (photos / "times.jsonl").write_text("1")
    first = collect.external(Params(source="photos"), context)
    (photos / "times.jsonl").write_text("22")
    assert collect.external(Params(source="photos"), context) != first


def test_videos_and_archives_of_any_kind_stand_in_the_ledger(photos: Path, tmp_path: Path, context: Context) -> None:
    for name in ("drive.mts", "old.txz", "old.tbz2"):
        (photos / name).write_text("x")
    run("photos", tmp_path / "out", context)
    dropped = {entry.path for entry in read_ledger(tmp_path / "out")}
    assert dropped == {"drive.mts", "notes.docx", "old.tbz2", "old.txz"}


def test_what_is_no_source_is_named(photos: Path, context: Context) -> None:
    with pytest.raises(DataError, match=r"there is no folder or archive .*smaple\.\nDid you mean 'sample'"):
        collecting.resolve("smaple", context)
    with pytest.raises(DataError) as caught:
        collecting.resolve("sub/../nothing", context)
    assert caught.value.message == f"collect.source: there is no folder or archive {photos.resolve().parent / 'nothing'}."
    assert caught.value.hint.startswith("Relative paths start where params.yaml lies, ")
    assert "archive" not in caught.value.hint, "a path is enough"
    with pytest.raises(DataError, match=r"there is no source 'robofow'\.\nDid you mean 'roboflow'"):
        collecting.resolve("robofow://team/project/3", context)
    with pytest.raises(DataError, match=r"a\.JPG is a single image\.\nGive the folder that it lies in"):
        collecting.resolve("photos/a.JPG", context)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sample", ("sample", "")),
        ("folder:photos", ("folder", "photos")),
        ("./photos", ("folder", "./photos")),
        ("photos/drive.MP4", ("video", "photos/drive.MP4")),
        ("photos/a.zip", ("archive", "photos/a.zip")),
        ("https://host/x.zip", ("url", "https://host/x.zip")),
        ("photos/list.txt", ("url", "photos/list.txt")),
        ("rtsp://10.0.0.9/stream1", ("camera", "rtsp://10.0.0.9/stream1")),
        ("roboflow://team/project/3", ("roboflow", "team/project/3")),
        ("github:owner/images@main:data", ("github", "owner/images@main:data")),
        ("https://github.com/owner/images", ("github", "https://github.com/owner/images")),
        ("https://github.com/owner/images/tree/main/a", ("github", "https://github.com/owner/images/tree/main/a")),
        ("https://github.com/owner/images/archive/main.zip", ("url", "https://github.com/owner/images/archive/main.zip")),
        ("https://www.kaggle.com/datasets/owner/fish", ("kaggle", "https://www.kaggle.com/datasets/owner/fish")),
        ("huggingface://mari/reef", ("huggingface", "mari/reef")),
        *(
            (address, (name, address))
            for name, address in (
                ("roboflow", "https://universe.roboflow.com/team/project"),
                ("kaggle", "https://www.kaggle.com/datasets/mari/reef"),
                ("huggingface", "https://huggingface.co/datasets/mari/reef"),
                ("url", "https://huggingface.co/datasets/mari/reef/resolve/main/data.zip"),
                ("huggingface", "https://hf.co/datasets/mari/reef"),
                ("kaggle", "http://www.kaggle.com/datasets/mari/reef"),
                ("github", "https://github.com/mari/reef"),
                ("github", "https://github.com/mari/reef/tree/main/images"),
                ("url", "https://github.com/mari/reef/releases/download/v1/data.zip"),
            )
        ),
    ],
)
def test_a_source_is_known_by_what_is_given(source: str, expected: tuple[str, str], photos: Path, context: Context) -> None:
    (photos / "drive.MP4").touch()
    (photos / "list.txt").touch()
    (photos / "a.zip").touch()
    assert collecting.resolve(source, context) == expected


def test_unknown_options_are_named(photos: Path, context: Context, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"collect\.options: unknown key 'imges'. Did you mean 'images'"):
        run("sample", tmp_path / "out", context, options={"imges": 3})
    with pytest.raises(ParamsError, match=r"collect\.options: images: must be at least 1, got 0"):
        run("sample", tmp_path / "out", context, options={"images": 0})
    with pytest.raises(ParamsError, match=r"collect\.options: unknown key 'x'\. There are none here\."):
        run("photos", tmp_path / "out", context, options={"x": 0})


def test_a_folder_without_images_and_the_workspace_itself_are_refused(tmp_path: Path, context: Context) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    with pytest.raises(DataError, match=r"The folder 'texts' holds no images \(1 other file\)\."):
        run("texts", tmp_path / "out", context)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        run("workspace/../empty", tmp_path / "out", context)
    assert caught.value.message == f"{tmp_path.resolve() / 'empty'} holds no files."
    with pytest.raises(DataError, match="contains the workspace"):
        run(".", tmp_path / "out", context)


def test_unchanged_files_are_linked_from_the_version_before(photos: Path, tmp_path: Path, context: Context) -> None:
    from pipeline.fingerprint import checksums_text, of_file

    previous = tmp_path / "v1"
    run("photos", previous, context)
    paths = [path for path in previous.rglob("*") if path.is_file()]
    hashes = {path.relative_to(previous).as_posix(): of_file(path) for path in paths}
    files.write_text(previous / "checksums.b3", checksums_text(hashes))
    (photos / "a.JPG").write_text("changed")
    (photos / "b" / "a.JPG").rename(photos / "b" / "renamed.jpg")
    run("photos", tmp_path / "v2", replace(context, previous=previous))
    assert (tmp_path / "v2/files/b/renamed.jpg").samefile(previous / "files/b/a.JPG")
    assert (tmp_path / "v2/files/a.JPG").read_text() == "changed"
    assert (previous / "files/a.JPG").read_text() == "a.JPG"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read for nothing but their hash."""
    paths: list[Path] = []
    original = fingerprint.of_file

    def spy(path: Path) -> str:
        paths.append(path)
        return original(path)

    monkeypatch.setattr(fingerprint, "of_file", spy)
    # Files of this test are young by ctime, which cannot be set.
    monkeypatch.setattr(fingerprint, "RACY_NS", -10_000_000_000)
    return paths


def test_one_new_file_is_all_that_is_hashed(photos: Path, tmp_path: Path, context: Context, hashed: list[Path]) -> None:
    first = collect.external(Params(source="photos"), context)
    previous = tmp_path / "v1"
    run("photos", previous, context)
    hashes = {f"files/{row['path']}": row["hash"] for row in origins(previous)}
    files.write_text(previous / "checksums.b3", fingerprint.checksums_text(hashes))
    hashed.clear()
    (photos / "new.jpg").write_text("new")
    assert collect.external(Params(source="photos"), context) != first
    run("photos", tmp_path / "v2", replace(context, previous=previous))
    assert hashed == [photos / "new.jpg"]
    expected = {path: fingerprint.of_file(tmp_path / "v2/files" / path) for path in collected(tmp_path / "v2")}
    assert {row["path"]: row["hash"] for row in origins(tmp_path / "v2")} == expected


def test_files_of_a_killed_run_are_hashed_as_they_are(photos: Path, tmp_path: Path, context: Context) -> None:
    files.write_text(tmp_path / "out" / "files" / "a.JPG", "brought before")
    run("photos", tmp_path / "out", context)
    assert origins(tmp_path / "out")[0]["hash"] == blake3(b"brought before").hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_links_are_followed_and_dangling_ones_accounted_for(photos: Path, tmp_path: Path, context: Context) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.jpg").write_text("far")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    run("photos", tmp_path / "out", context)
    assert "linked/far.jpg" in collected(tmp_path / "out")
    assert not (tmp_path / "out/files/linked").is_symlink()
    assert ("file", "dropped", "dangling_link", "gone.jpg") in [
        (entry.item, entry.action, entry.reason, entry.path) for entry in read_ledger(tmp_path / "out")
    ]


def test_a_home_that_nobody_knows_is_a_name_like_any_other(context: Context) -> None:
    with pytest.raises(DataError, match=r"there is no folder or archive .*~nobody-of-this-name"):
        collecting.resolve("~nobody-of-this-name/photos", context)


def test_a_version_before_that_lost_its_list_of_files_is_no_help_and_no_harm(
    photos: Path, tmp_path: Path, context: Context
) -> None:
    (tmp_path / "v1").mkdir()
    run("photos", tmp_path / "out", replace(context, previous=tmp_path / "v1"))
    assert len(collected(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("summary", "expected"), [((1, 1), "1 image, 1 other file from it"), ((1200, 0), "1,200 images, 0 other files from it")]
)
def test_the_headline_counts_as_people_do(summary: tuple[int, int], expected: str) -> None:
    assert collect.headline({"images": summary[0], "other_files": summary[1], "description": "it"}) == expected


def test_an_archive_is_hashed_once(tmp_path: Path, context: Context, hashed: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.jpg", b"1")
    first = collect.external(Params(source="d.zip"), context)
    assert collect.external(Params(source="d.zip"), context) == first
    assert hashed == [path]
    run("d.zip", tmp_path / "out", context)
    assert hashed == [path]
    assert origins(tmp_path / "out")[0]["hash"] == blake3(b"1").hexdigest()
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.jpg", b"2")
    assert collect.external(Params(source="d.zip"), context) != first


def test_the_seed_and_options_are_part_of_the_fingerprint_of_the_sample(context: Context) -> None:
    prints = {
        collect.external(Params.model_validate(values), context)["source files"]
        for values in ({}, {"seed": 1}, {"options": {"images": 100}})
    }
    assert len(prints) == 3
