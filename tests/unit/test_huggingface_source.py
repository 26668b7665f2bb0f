"""The source `huggingface`: locations, repositories of files, the cache, tokens; against a server on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError, MissingDependency, ParamsError, UsageError
from pipeline.ledger import read as read_ledger
from pipeline.sources import huggingface
from pipeline.sources.huggingface import Query
from pipeline.stage import Context
from pipeline.stages import annotate
from tests.huggingface_service import (
    REPO,
    SOURCE,
    TOKEN,
    Hub,
    no_secrets,
    photo,
    refused,
    run,
    written,
)

pytest.importorskip("datasets", reason="needs the extra huggingface")

FILES = {
    ".gitattributes": b"*.zip filter=lfs\n",
    "README.md": b"---\nlicense: [mit, other]\nlicense_name: reef-1\n---\n# Reef\n",
    "data.yaml": b"names: [fish, shark]\n",
    "images/train/a.jpg": photo(1),
    "images/valid/b.png": photo(2, "PNG"),
    "labels/train/a.txt": b"1 0.5 0.5 0.2 0.4\n",
    "labels/valid/b.txt": b"",
    "clip.mp4": b"no labels",
    "more.zip": b"PK",
}


# ---- locations


@pytest.mark.parametrize(
    ("location", "query"),
    [
        ("mari/reef", Query("mari/reef", "main")),
        ("cppe-5", Query("cppe-5", "main")),
        ("mari/reef@v1.0", Query("mari/reef", "v1.0")),
        ("mari/reef@refs/convert/parquet", Query("mari/reef", "refs/convert/parquet")),
        ("https://huggingface.co/datasets/mari/reef", Query("mari/reef", "main")),
        ("https://huggingface.co/datasets/mari/reef/", Query("mari/reef", "main")),
        ("https://huggingface.co/datasets/mari/reef/tree/dev?x=1#y", Query("mari/reef", "dev")),
        ("https://huggingface.co/datasets/mari/reef/tree/refs%2Fpr%2F3", Query("mari/reef", "refs/pr/3")),
        ("https://huggingface.co/datasets/mari/reef/tree/refs/convert/parquet", Query("mari/reef", "refs/convert/parquet")),
        ("https://huggingface.co/datasets/mari/reef/viewer/default/train", Query("mari/reef", "main")),
        ("https://hf.co/datasets/mari/reef", Query("mari/reef", "main")),
    ],
)
def test_locations(location: str, query: Query) -> None:
    assert huggingface.parse(location) == query


@pytest.mark.parametrize(
    "location",
    [
        "",
        "a/b/c",
        "mari/reef@",
        "mari/../reef",
        "mari/reef@../x",
        "mari/reef@-x",
        "mari/reef@/x",
        "ma ri/reef",
        "mari//reef",
        "a--b/c",
    ],
)
def test_what_is_no_location(location: str) -> None:
    with pytest.raises(ParamsError) as caught:
        huggingface.parse(location)
    assert "is not a data set of Hugging Face" in caught.value.message


def test_a_folder_of_a_data_set_is_told_apart() -> None:
    with pytest.raises(ParamsError) as caught:
        huggingface.parse("https://huggingface.co/datasets/mari/reef/tree/main/images")
    assert "allow_patterns" in caught.value.hint


def test_the_fingerprint_is_the_query_and_needs_no_network(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    def of(location: str, seed: int = 0, **options: Any) -> str:
        return huggingface.fingerprint(location, huggingface.Options(**options), seed, context)

    assert of("mari/reef") == of("mari/reef@main") == of("https://huggingface.co/datasets/mari/reef")
    others = {of("mari/reef@v1"), of("mari/reef", limit=3), of("mari/reef", seed=1), of("mari/reef", allow_patterns=["a"])}
    assert len({of("mari/reef"), *others}) == 5


def test_planning_loads_no_library() -> None:
    code = (
        "import sys; from pipeline.sources import huggingface; from pipeline.stage import Context;"
        "huggingface.fingerprint('a/b', huggingface.Options(), 0, Context());"
        "print([name for name in ('datasets', 'huggingface_hub', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- files


def test_files_come_as_they_are(hub: Hub, context: Context, bars: list[str], capfd: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    hub.repos[REPO] = FILES
    summary = run(context)
    wanted = sorted(set(FILES) - {".gitattributes", "clip.mp4", "more.zip"})
    assert written(context) == wanted
    assert all((context.base / "out" / "files" / path).read_bytes() == FILES[path] for path in wanted)
    assert summary["license"] == "mit, reef-1"
    assert summary["homepage"] == f"{hub.url}/datasets/{REPO}/tree/{'a' * 40}"
    assert summary["description"] == f"the Hugging Face data set {REPO} at commit {'a' * 12}"
    assert [(entry.reason, entry.path) for entry in read_ledger(context.base / "out")] == [
        ("not_an_image_nor_labels", "clip.mp4"),
        ("archive_not_opened", "more.zip"),
    ]
    assert hub.requests["file"] == len(wanted) - 1  # an empty file is not asked for
    assert bars == ["ask for the card 1/1", f"download {len(wanted)}/{len(wanted)}"]
    assert capfd.readouterr() == ("", "")  # the libraries have bars and words of their own
    assert not [record for record in caplog.records if record.name.split(".")[0] in ("huggingface_hub", "httpx2", "httpcore2")]
    params = annotate.Params.model_validate({"format": "yolo"})
    assert annotate.run({"collect": context.base / "out"}, params, context.base / "annotated", context)["boxes"] == 1


def test_patterns_choose_files(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = FILES
    run(context, allow_patterns=["images/*", "labels/"])
    assert written(context) == ["images/train/a.jpg", "images/valid/b.png", "labels/train/a.txt", "labels/valid/b.txt"]
    error = refused(context, DataError, allow_patterns=["photos/*"])
    assert "none of the 8 files of mari/reef matches ['photos/*']" in error.message
    assert "README.md" in error.hint


def test_options_of_the_other_kind_are_refused(hub: Hub, context: Context) -> None:
    error = refused(context, ParamsError, allow_patterns=["a"])
    assert error.message == "collect.options.allow_patterns means nothing for mari/reef, which is collected as 'table'."
    assert "kind=files" in error.hint
    assert "collect.options.limit means nothing" in refused(context, ParamsError, kind="files", limit=3).message


def test_archives_alone_are_pointed_at(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = {"data.zip": b"PK", "reef.py": b"raise SystemExit('run')"}
    error = refused(context, DataError)
    assert error.message == "mari/reef has no images and no Parquet files (2 files, 1 archive among them, which are not opened)."
    assert f"{hub.url}/datasets/{REPO}/resolve/{'a' * 40}/data.zip" in error.hint
    hub.repos["mari/script"] = {"reef.py": b"raise SystemExit('run')"}
    assert "huggingface:mari/script@refs/convert/parquet" in refused(context, DataError, source="huggingface:mari/script").hint


def test_names_that_lead_elsewhere_are_left_out(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = {
        "../evil.jpg": photo(1),
        "a\nb.jpg": photo(2),
        "ok.jpg": photo(3),
        "OK.jpg": photo(4),
        "x//y.jpg": photo(5),
        "fine.jpg": photo(6),
    }
    run(context)
    assert written(context) == ["fine.jpg"]
    reasons = sorted(entry.reason for entry in read_ledger(context.base / "out"))
    assert reasons == ["duplicate_name", "duplicate_name", "unsafe_name", "unsafe_name", "unsafe_name"]
    assert not (context.base / "out" / "evil.jpg").exists()


def test_a_card_that_cannot_be_parsed_is_told(hub: Hub, context: Context, warnings: list[str]) -> None:
    hub.repos[REPO] = FILES | {"README.md": b"---\nlicense: [\n---\n"}
    assert run(context)["license"] == "unknown"
    assert warnings == [
        "README.md of mari/reef:3: malformed YAML (did not find expected node content): its licence and tables are not known."
    ]


# ---- what is kept


def test_files_of_a_commit_are_downloaded_once(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = FILES
    run(context)
    hub.requests.clear()
    run(context, out="again")
    assert hub.requests == {"info": 1, "tree": 1}
    hub.branches["main"] = "b" * 40
    hub.repos[REPO] = FILES | {"images/train/new.jpg": photo(9)}
    assert "b" * 12 in run(context, out="newer")["description"]
    assert "images/train/new.jpg" in written(context, "newer")


def test_without_a_network_a_branch_is_what_it_was(hub: Hub, context: Context, warnings: list[str], monkeypatch: Any) -> None:
    run(context)
    hub.close()
    assert "a" * 12 in run(context, out="again", limit=3)["description"]
    assert warnings[0].startswith("127.0.0.1 cannot be reached (")
    assert warnings[0].endswith(f"'main' of {REPO} is taken to be commit {'a' * 12}, as before.")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run(context, out="offline")
    assert warnings[-1].startswith("The hub is not asked: the variable HF_HUB_OFFLINE is set.")


def test_a_commit_needs_no_network_a_second_time(hub: Hub, context: Context, warnings: list[str]) -> None:
    run(context, source=f"{SOURCE}@{'a' * 40}")
    hub.close()
    run(context, out="again", source=f"{SOURCE}@{'a' * 40}")
    assert not warnings


def test_a_damaged_file_in_the_cache_is_fetched_again(hub: Hub, context: Context) -> None:
    hub.repos[REPO] = FILES
    run(context)
    for blob in context.cache.rglob("blobs/*"):
        data = blob.read_bytes()
        blob.unlink()  # it is the file of the version, too
        blob.write_bytes(bytes(len(data)))
    run(context, out="again")
    assert (context.base / "again" / "files" / "images" / "train" / "a.jpg").read_bytes() == FILES["images/train/a.jpg"]


def test_what_a_killed_run_left_is_not_taken_for_complete(hub: Hub, context: Context) -> None:
    blobs = context.cache / "huggingface" / "datasets--mari--reef" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc.12345678.incomplete").write_bytes(b"half")
    stale = context.base / "out" / "files" / "train"
    stale.mkdir(parents=True)
    (stale / "from-another-commit.jpg").write_bytes(photo(3))
    (stale / "0.jpg").write_bytes(photo(99))
    run(context)
    assert not list(context.cache.rglob("*.incomplete"))
    assert "train/from-another-commit.jpg" not in written(context)
    assert (stale / "0.jpg").read_bytes() == photo(0)


# ---- tokens


@pytest.mark.parametrize("place", ["environment", "file", "login"])
def test_a_token_is_found_and_told_to_nobody_else(place: str, hub: Hub, context: Context, monkeypatch: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    hub.needs_token = True
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    elif place == "file":
        (context.base / ".env").write_text(f"# mine\nexport HF_TOKEN='{TOKEN}' # the one\n", encoding="utf-8-sig")
    else:
        (context.base / "home").mkdir()
        (context.base / "home" / "token").write_text(TOKEN)
    assert run(context)["images"] == 9
    assert hub.tokens == {"hub": {f"Bearer {TOKEN}"}, "lfs": {""}}
    assert TOKEN not in caplog.text
    no_secrets(context.base)
    assert [path for path in (context.base / "home").rglob("*") if path.is_file() and path.name != "token"] == []


def test_a_token_that_is_none(hub: Hub, context: Context, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret\nX: y")
    error = refused(context, UsageError)
    assert "HF_TOKEN is no token" in error.message
    assert "s3cret" not in str(error)


def test_an_endpoint_that_is_none(hub: Hub, context: Context, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    assert "HF_ENDPOINT is no address" in refused(context, UsageError).message


def test_missing_libraries_are_named(hub: Hub, context: Context, monkeypatch: Any) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "datasets", None)
        assert "[huggingface]" in refused(context, MissingDependency).hint
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "[huggingface]" in refused(context, MissingDependency).hint


def test_the_command_runs_and_reuses_without_a_network(hub: Hub, tmp_path: Path) -> None:
    """In a process of its own: the libraries load their parts when they are first asked for."""
    command = [sys.executable, "-m", "pipeline", "run", "collect..annotate", "--workspace", str(tmp_path / "own")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def result() -> subprocess.CompletedProcess[str]:
        arguments = [*command, f"collect.source={SOURCE}"]
        return subprocess.run(arguments, capture_output=True, text=True, encoding="utf-8", env=environment, cwd=tmp_path)

    (tmp_path / "params.yaml").touch()
    first = result()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "9 images, 14 boxes" in first.stdout + first.stderr
    hub.close()
    second = result()
    assert second.returncode == 0, second.stdout + second.stderr
