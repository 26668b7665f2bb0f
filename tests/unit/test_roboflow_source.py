"""The source `roboflow`, against a server on this machine that answers as Roboflow's does."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.downloads import transfer
from pipeline.errors import NetworkError, ParamsError, UsageError
from pipeline.ledger import read as read_ledger
from pipeline.sources import roboflow
from pipeline.stage import Context
from pipeline.stages import annotate, collect
from tests.collecting import origins
from tests.packing import zip_of
from tests.roboflow_service import (
    ETAG,
    KEY,
    LINK_KEY,
    SOURCE,
    Roboflow,
    coco_export,
    no_secrets,
    photo,
    refused,
    run,
    send_part,
)

pytest.importorskip("roboflow", reason="needs the extra roboflow")


def test_an_export_is_brought_unpacked_and_described(service: Roboflow, context: Context, capfd: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    summary = run(context)
    assert summary["images"] == 4
    assert summary["license"] == "CC BY 4.0"
    assert summary["homepage"] == "https://universe.roboflow.com/mari/sharks-tiny/dataset/3"
    assert summary["description"] == "version 3 (raw) of the Roboflow project 'Sharks Tiny'"
    rows = origins(context.base / "out")
    assert rows[-1]["origin"] == "roboflow:mari/sharks-tiny/3/coco:valid/c.jpg"
    assert {row["path"]: row["group"] for row in rows if row["group"]} == {
        "train/a_jpg.rf.0123456789ab.jpg": "a_jpg",
        "train/a_jpg.rf.ba9876543210.jpg": "a_jpg",
    }
    assert capfd.readouterr() == ("", "")
    assert KEY not in caplog.text
    assert LINK_KEY not in caplog.text
    no_secrets(context.base)
    import roboflow as sdk

    assert service.agents == {f"roboflow-python/{sdk.__version__}", "yolo-pipeline"}


def test_split_class_order_and_background_reach_the_data_set(service: Roboflow, context: Context) -> None:
    run(context)
    labels = annotate.run({"collect": context.base / "out"}, annotate.STAGE.params(), context.base / "labels", context)
    assert labels["images"] == 4
    from pipeline.dataset import Dataset

    dataset = Dataset.load(context.base / "labels")
    assert dataset.class_names == ("fish", "never-used", "shark")
    assert dataset.images["split"].tolist() == ["train", "train", "train", "val"]
    assert len(dataset.boxes) == 3
    assert dataset.images["group_id"].nunique() == 3


def test_a_real_yolo_export_reaches_the_data_set(service: Roboflow, context: Context, shared_data: Path) -> None:
    folder = shared_data / "sharks-yolo"
    paths = [path for path in folder.rglob("*") if path.is_file()]
    service.packed = zip_of({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})
    del service.project["license"]
    summary = run(context, format="yolov8")
    assert summary["license"] == "MIT"  # of the README in the archive
    assert summary["groups"] == 1  # all are frames of sharks.mp4
    annotate.run({"collect": context.base / "out"}, annotate.STAGE.params(), context.base / "labels", context)
    from pipeline.dataset import Dataset

    dataset = Dataset.load(context.base / "labels")
    assert dataset.class_names == ("fish", "primary", "shark")
    assert dataset.images["split"].value_counts().to_dict() == {"train": 7, "val": 2, "test": 1}
    assert len(dataset.boxes) == 60


def test_the_same_query_needs_no_network(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    params = collect.Params(source=SOURCE)
    before = collect.external(params, context)
    run(context)
    asked = list(service.requests)
    monkeypatch.delenv("ROBOFLOW_API_KEY")
    run(context, out="again")
    assert service.requests == asked
    assert (context.base / "again" / "origins.jsonl").read_bytes() == (context.base / "out" / "origins.jsonl").read_bytes()
    assert collect.external(params, context) == before
    other = collect.Params(source=SOURCE, options={"format": "voc"})
    assert collect.external(other, context) != before


def test_overwrite_cache_downloads_again(service: Roboflow, context: Context) -> None:
    run(context)
    service.packed = zip_of(coco_export() | {"valid/new.jpg": photo(9)})
    assert run(context, out="again")["images"] == 4
    assert run(context, out="third", overwrite_cache=True)["images"] == 5
    assert run(context, out="fourth")["images"] == 5
    assert service.requests.count("download") == 2


def test_what_an_interrupted_download_left_is_not_taken_for_complete(service: Roboflow, context: Context) -> None:
    run(context)
    (held,) = (context.cache / "roboflow").rglob("*.zip")
    held.write_bytes(held.read_bytes()[:-100])
    assert run(context, out="again")["images"] == 4
    held.with_name(held.name + ".json").unlink()  # killed between the archive and its record
    assert run(context, out="third")["images"] == 4
    held.with_name(held.name + ".json").write_text("{")
    assert run(context, out="fourth")["images"] == 4
    assert service.requests.count("download") == 4


def test_a_download_that_broke_off_goes_on_though_the_link_is_another(
    service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WORTH_RESUMING", 1)
    half = len(service.packed) // 2
    service.faults["download"] = lambda to: send_part(to, service.packed[:half], len(service.packed), ETag=ETAG)
    assert f"the connection broke after {half:,} of" in refused(context).message
    del service.faults["download"]
    assert run(context)["images"] == 4
    assert service.ranges == [f"bytes={half}-"]
    assert len(set(service.links)) == 2


def test_what_the_cache_holds_stays_until_the_new_archive_is_whole(service: Roboflow, context: Context) -> None:
    run(context)
    service.faults["download"] = lambda to: send_part(to, service.packed[:100], len(service.packed))
    with pytest.raises(NetworkError):
        run(context, out="again", overwrite_cache=True)
    assert run(context, out="third")["images"] == 4
    (kept,) = (context.cache / "roboflow").rglob("*.zip")
    kept.with_name(f"{kept.name}.new").write_bytes(b"whole, but of a run that was killed")
    del service.faults["download"]
    assert run(context, out="fourth", overwrite_cache=True)["images"] == 4


def test_an_export_that_is_not_made_yet_is_waited_for(service: Roboflow, context: Context, bars: list[str]) -> None:
    service.busy = {"version": [0.2, 1.48], "export": [0, 0.5, 0.25, 0.75]}
    assert run(context)["images"] == 4
    assert bars[:2] == ["Roboflow makes the version (%) 100/100", "Roboflow makes the export (%) 75/100"]
    assert bars[2] == "download 1/1"


def test_without_a_key(service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY")
    error = refused(context, UsageError)
    assert "app.roboflow.com" in error.hint
    assert ".env" in error.hint
    assert service.requests == []


@pytest.mark.parametrize("content", [f"ROBOFLOW_API_KEY={KEY}\n", f"\ufeff# mine\nexport ROBOFLOW_API_KEY = '{KEY}'\r\n"])
def test_the_key_of_an_env_file(content: str, service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY")
    (context.base / ".env").write_bytes(content.encode())
    assert run(context)["images"] == 4
    assert "ROBOFLOW_API_KEY" not in os.environ
    no_secrets(context.base)


def test_the_key_of_the_services_own_config(
    service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY")
    login = tmp_path / "login" / "config.json"
    login.parent.mkdir()
    login.write_text(json.dumps({"workspaces": {"x1": {"url": "other", "apiKey": KEY}}, "RF_WORKSPACE": "other"}))
    monkeypatch.setenv("ROBOFLOW_CONFIG_DIR", str(login))
    assert run(context)["images"] == 4


@pytest.mark.parametrize("wrong", ["my key & more", "ä" * 20, "a\nb"])
def test_what_is_no_key_is_not_sent(wrong: str, service: Roboflow, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", wrong)
    error = refused(context, UsageError)
    assert wrong not in str(error)
    assert service.requests == []


def test_files_that_are_no_labels_stand_in_the_ledger(service: Roboflow, context: Context) -> None:
    service.packed = zip_of(coco_export() | {"train/model.pt": b"x"})
    run(context)
    assert [(entry.path, entry.reason) for entry in read_ledger(context.base / "out")] == [
        ("train/model.pt", "not_an_image_nor_labels")
    ]


@pytest.mark.parametrize(
    "location",
    [
        "mari/sharks-tiny/3",
        "https://universe.roboflow.com/mari/sharks-tiny/dataset/3",
        "https://universe.roboflow.com/mari/sharks-tiny/model/3?api=1#top",
        "https://universe.roboflow.com/mari/sharks-tiny/dataset/3/download/yolov8",
        "https://app.roboflow.com/mari/sharks-tiny/3/",
    ],
)
def test_locations(location: str, context: Context) -> None:
    query = roboflow.parse(location, roboflow.Options())
    assert (query.workspace, query.project, query.version, query.format) == ("mari", "sharks-tiny", 3, "coco")


@pytest.mark.parametrize(
    "location",
    [
        *("", "mari/sharks-tiny", "mari/sharks-tiny/0", "mari/sharks-tiny/x", "mari/sharks-tiny/٣", "ä/b/1"),
        *("../../3", "a/b/c/3", "mari/sh?api_key=1/3"),
        *("https://universe.roboflow.com/mari/sharks-tiny", "https://example.com/mari/sharks-tiny/3"),
    ],
)
def test_what_is_no_location(location: str, context: Context) -> None:
    with pytest.raises(ParamsError, match=r"collect\.source"):
        roboflow.fingerprint(location, roboflow.Options(), 0, context)


def test_groups_of_frames_and_copies() -> None:
    assert roboflow._group("train/clip_mp4-12_jpg.rf.0123456789abcdef.jpg") == "clip_mp4"
    assert roboflow._group("train/my photo_JPG.rf.0123456789abcdef.jpg") == "my photo_JPG"
    assert roboflow._group("train/photo.jpg") == "train/photo.jpg"


def test_the_stage_and_the_plan_import_no_sdk() -> None:
    code = "import sys; from pipeline.sources import roboflow; sys.exit('roboflow' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sdk_is_loaded_without_its_side_effects(tmp_path: Path) -> None:
    """In a process of its own: the import of the SDK takes over warnings, and a broken config file stops it."""
    code = (
        "import warnings; look = warnings.formatwarning\n"
        "from pipeline.sources import _roboflow_api\n"
        "print(_roboflow_api._load().API_URL)\n"
        "assert warnings.formatwarning is look"
    )
    environment = {**os.environ, "API_URL": "http://127.0.0.1:1", "ROBOFLOW_CONFIG_DIR": str(tmp_path / "config.json")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("http://127.0.0.1:1\n", "")
    (tmp_path / "config.json").write_text('{"workspaces": "s3cret')
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "DataError: Roboflow's SDK does not start" in done.stderr
    assert "s3cret" not in done.stderr
