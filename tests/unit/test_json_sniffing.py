"""Which keys a JSON file has, without parsing it and without reading it more than once."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from pipeline import formats
from pipeline.formats import _json
from pipeline.formats._json import has_keys, opens_with
from pipeline.labelling.fileset import FileSet


def file_set(folder: Path, data: bytes) -> FileSet:
    (folder / "x.json").write_bytes(data)
    return FileSet.scan(folder)


def test_keys_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "_PIECE", 64)
    for filler in range(60, 70):  # the second key lies across the border of two pieces
        files = file_set(tmp_path, b'{"a": "' + b"-" * filler + b'", "images": 1, "own_key": 2}')
        assert has_keys(files, "x.json", "images")
        assert has_keys(files, "x.json", "images", "own_key")
        assert not has_keys(files, "x.json", "images", "items")
        assert not has_keys(files, "x.json", "images", "other_key")
        assert not has_keys(files, "x.json", "images", opening=b"[")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_unicode_that_tools_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setattr(_json, "_PIECE", 33)
    files = file_set(tmp_path, ("\n " + json.dumps([{"name": "Zoë 🐈" * 9, "data": 1}], ensure_ascii=False)).encode(encoding))
    assert opens_with(files, "x.json", b"[")
    assert has_keys(files, "x.json", "name", "data", opening=b"[")
    assert not has_keys(files, "x.json", "data")


@pytest.mark.parametrize("data", [b"", b"\n", codecs.BOM_UTF16_LE, b'"images"', b"// settings\n{}"])
def test_what_is_no_json_object_or_array(tmp_path: Path, data: bytes) -> None:
    files = file_set(tmp_path, data)
    assert not has_keys(files, "x.json", "images")
    assert not opens_with(files, "x.json", b"[")


def test_all_formats_together_read_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} for number in range(2000)]
    document = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    files = file_set(tmp_path, json.dumps(document).encode())
    searched = []
    search = _json._search
    monkeypatch.setattr(_json, "_search", lambda files, path, keys: searched.append(path) or search(files, path, keys))
    monkeypatch.setattr(FileSet, "read_bytes", lambda files, path: pytest.fail(f"{path} is read whole"))
    assert formats.choose(files)[0] == "coco"
    assert searched == ["x.json"]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        (
            "createml",
            [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1, "y": 1, "width": 1, "height": 1}}]}],
        ),
        ("datumaro", {"categories": {"label": {"labels": [{"name": "cat"}]}}, "items": [{"id": "a", "annotations": []}]}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_pattern_is_looked_for_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, document: object, encoding: str
) -> None:
    monkeypatch.setattr(_json, "_PIECE", 37)
    files = file_set(tmp_path, json.dumps(document, indent=8).encode(encoding))
    monkeypatch.setattr(FileSet, "read_bytes", lambda files, path: pytest.fail(f"{path} is read whole"))
    assert formats.choose(files)[0] == name
