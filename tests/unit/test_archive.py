from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from pipeline import files
from pipeline.errors import DataError
from pipeline.sources import _packed, _unpacking
from pipeline.stage import Context
from tests.collecting import collected, origins, reasons, run
from tests.packing import compressed, member, tar_of, zip_of


def pack(path: Path, entries: dict[str, bytes]) -> Path:
    path.write_bytes(zip_of(entries))
    return path


def test_a_zip_is_unpacked_with_its_folders(tmp_path: Path, context: Context) -> None:
    pack(
        tmp_path / "d.zip",
        {"train/a.jpg": b"1", "train/a.txt": b"2", "__MACOSX/._a.jpg": b"3", "doc.pdf": b"4", "w\\b.jpg": b"5"},
    )
    summary = run("d.zip", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["train/a.jpg", "train/a.txt", "w/b.jpg"]
    assert summary["images"] == 2


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "C:/a.jpg", "D:evil.jpg", "a/../../b.jpg", "..\\a.jpg"])
def test_no_path_leaves_the_folder(tmp_path: Path, context: Context, name: str) -> None:
    pack(tmp_path / "d.zip", {name: b"1", "ok.jpg": b"2"})
    with pytest.raises(DataError, match="leads out of the folder"):
        run("d.zip", tmp_path / "out", context)
    assert not (tmp_path / "out" / "files").exists()


def test_links_bombs_and_impossible_names_are_refused(tmp_path: Path, context: Context) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        run("links.zip", tmp_path / "out", context)
    pack(tmp_path / "bomb.zip", {"a.jpg": bytes(_packed.MAX_RATIO * 2**20 + 2**24)})
    with pytest.raises(DataError, match="bomb"):
        run("bomb.zip", tmp_path / "out", context)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as packed:
        packed.writestr("a.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a.jpg", b"2")
    with pytest.raises(DataError, match=r"'a\.jpg' occurs twice"):
        run("twice.zip", tmp_path / "out", context)
    pack(tmp_path / "long.zip", {f"{'ü' * 150}.jpg": b"1"})
    with pytest.raises(DataError, match="more than 255 bytes"):
        run("long.zip", tmp_path / "out", context)
    pack(tmp_path / "longer.zip", {f"aux.{'a' * 247}.jpg": b"1"})  # 255 bytes, and one more once it is portable
    with pytest.raises(DataError, match="more than 255 bytes"):
        run("longer.zip", tmp_path / "out", context)


def test_damaged_archives_are_data_errors(tmp_path: Path, context: Context) -> None:
    whole = pack(tmp_path / "d.zip", {"a.jpg": bytes(range(256)) * 40}).read_bytes()
    for name, data in {
        "cut.zip": whole[: len(whole) // 2],
        "flip.zip": whole[:60] + b"\xff\xff" + whole[62:],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="damaged"):
            run(name, tmp_path / f"out-{name}", context)


@pytest.mark.parametrize("content", [b"", b"<html>", b"Rar!\x1a\x07", b"7z\xbc\xaf", b"x" * 512])
def test_a_file_that_never_was_an_archive_is_named_as_such(tmp_path: Path, context: Context, content: bytes) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(
        DataError, match=r"data is neither a folder nor an archive of a known kind .*\nUnpack archives of other kinds"
    ):
        run("data", tmp_path / "out", context)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_any_compression_is_a_data_error(tmp_path: Path, context: Context, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w", method) as packed:
        packed.writestr("a.jpg", bytes(range(256)) * 40)
    data = bytearray((tmp_path / "d.zip").read_bytes())
    start = 30 + len("a.jpg") + 9  # behind the headers of the entry and of LZMA
    data[start : start + 40] = b"\xff" * 40
    (tmp_path / "d.zip").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        run("d.zip", tmp_path / "out", context)


def test_a_full_disk_is_not_taken_for_a_damaged_archive(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "d.zip", {"a.jpg": b"1"})

    def full(source: object, target: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_unpacking, "copy_hashed", full)
    with pytest.raises(OSError, match="No space left"):
        run("d.zip", tmp_path / "out", context)


def test_folders_packed_with_backslashes(tmp_path: Path, context: Context) -> None:
    pack(tmp_path / "d.zip", {"imgs\\": b"", "imgs\\a.jpg": b"1", "x//b.jpg": b"2", "x/./c.jpg": b"3"})
    run("d.zip", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["imgs/a.jpg", "x/b.jpg", "x/c.jpg"]
    assert [row["path"] for row in origins(tmp_path / "out")] == ["imgs/a.jpg", "x/b.jpg", "x/c.jpg"]


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\u2028b.jpg", "a\x85b.jpg"])
def test_control_characters_in_an_archive_are_named(tmp_path: Path, context: Context, name: str) -> None:
    pack(tmp_path / "d.zip", {name: b"1", "ok.jpg": b"2"})
    with pytest.raises(DataError, match="control characters in its name: rename") as caught:
        run("d.zip", tmp_path / "out", context)
    assert ascii(name) in caught.value.problems[0]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_killed_run_goes_on(tmp_path: Path, context: Context, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{index}.jpg" for index in range(5)]
    if kind == "zip":
        pack(tmp_path / "d", {name: name.encode() for name in names})
    else:
        (tmp_path / "d").write_bytes(compressed(tar_of(*(member(name, name.encode()) for name in names)), kind))
    original, calls = _unpacking.copy_hashed, []

    def third_time(source: Any, target: Any) -> str:
        calls.append(source)
        if len(calls) == 3:
            target.write(b"half")
            raise KeyboardInterrupt
        return original(source, target)

    monkeypatch.setattr(_unpacking, "copy_hashed", third_time)
    with pytest.raises(KeyboardInterrupt):
        run("d", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["0.jpg", "1.jpg"]
    run("d", tmp_path / "out", context)
    assert len(calls) == 6
    assert {row["path"]: row["hash"] for row in origins(tmp_path / "out")} == {
        name: blake3(name.encode()).hexdigest() for name in names
    }


# ---------------------------------------------------------------- encrypted, nested


def test_an_encrypted_zip_is_refused_in_a_line(tmp_path: Path, context: Context) -> None:
    path = pack(tmp_path / "d.zip", {"a.jpg": b"1", "b.jpg": b"2"})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(mark)
        data[start + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"d\.zip is encrypted \(1 of 2 files\)\.\nUnpack it with its password"):
        run("d.zip", tmp_path / "out", context)


def test_archives_in_an_archive_stay_closed_unless_asked_for(tmp_path: Path, context: Context) -> None:
    inner = compressed(tar_of(member("a.jpg"), member("deep.zip", zip_of({"x.jpg": b"1"}))), "tar.gz")
    pack(tmp_path / "d.zip", {"b.jpg": b"2", "sub/train.tar.gz": inner, "val.ZIP": zip_of({"a.jpg": b"3"})})
    run("d.zip", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["b.jpg"]
    assert reasons(tmp_path / "out") == {("sub/train.tar.gz", "nested_archive"), ("val.ZIP", "nested_archive")}
    run("d.zip", tmp_path / "out2", context, nested=True)
    assert collected(tmp_path / "out2") == ["b.jpg", "sub/train/a.jpg", "val/a.jpg"]
    assert reasons(tmp_path / "out2") == {("sub/train/deep.zip", "not_an_image_nor_labels")}
    assert {row["path"]: row["origin"] for row in origins(tmp_path / "out2")} == {
        "b.jpg": "d.zip:b.jpg",
        "sub/train/a.jpg": "d.zip:sub/train.tar.gz:a.jpg",
        "val/a.jpg": "d.zip:val.ZIP:a.jpg",
    }


def test_an_archive_of_archives_alone_says_how_to_open_them(tmp_path: Path, context: Context) -> None:
    pack(tmp_path / "d.zip", {"train.zip": zip_of({"a.jpg": b"1"})})
    with pytest.raises(DataError, match=r"no images but archives, such as 'train\.zip'\.\ncollect\.options\.nested=true"):
        run("d.zip", tmp_path / "out", context)


def test_archives_in_an_archive_share_its_limits_and_rules(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(tmp_path / "slip.zip", {"train.zip": zip_of({"../a.jpg": b"1"})})
    with pytest.raises(DataError, match=r"slip\.zip:train\.zip is not unpacked") as caught:
        run("slip.zip", tmp_path / "out", context, nested=True)
    assert caught.value.problems == ("'../a.jpg' leads out of the folder",)
    pack(tmp_path / "meet.zip", {"train/A.jpg": b"1", "train.zip": zip_of({"a.jpg": b"1"})})
    with pytest.raises(DataError, match="upper and lower case"):
        run("meet.zip", tmp_path / "out2", context, nested=True)
    monkeypatch.setattr(_unpacking, "MAX_FILES", 4)
    pack(tmp_path / "many.zip", {f"{index}.zip": zip_of({"a.jpg": b"1"}) for index in range(3)})
    with pytest.raises(DataError, match="bomb"):
        run("many.zip", tmp_path / "out3", context, nested=True)


def test_what_another_state_left_is_emptied(tmp_path: Path) -> None:
    out = tmp_path / "files"
    files.write_text(out / "old.jpg", "1")
    _unpacking.begin(out, "one")
    assert not (out / "old.jpg").exists()
    files.write_text(out / "new.jpg", "1")
    _unpacking.begin(out, "one")
    assert (out / "new.jpg").exists()
    _unpacking.begin(out, "two")
    assert not (out / "new.jpg").exists()
    assert all(files.is_temporary(path.name) for path in out.iterdir())
