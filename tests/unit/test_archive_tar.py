from __future__ import annotations

import gzip
import random
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3

from pipeline.errors import DataError
from pipeline.ledger import Ledger
from pipeline.sources import _packed
from pipeline.sources._unpacking import blaming, unpack
from pipeline.stage import Context
from tests.collecting import collected, origins, reasons, run
from tests.packing import TARS, compressed, member, tar_of


def noise(count: int) -> bytes:
    return random.Random(0).randbytes(count)


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_any_kind_is_known_by_its_content(tmp_path: Path, context: Context, kind: str, layout: int) -> None:
    folder = tarfile.TarInfo("./train")
    folder.type = tarfile.DIRTYPE
    data = tar_of(
        (folder, b""),
        member("./train/a.jpg", noise(3000)),
        member("./train/" + "ä" * 40 + ".txt", b"2"),
        member("./._a.jpg"),
        member("doc.pdf"),
        member("empty.txt", b""),
        kind=layout,
    )
    (tmp_path / "data.bin").write_bytes(compressed(data, kind))
    summary = run("data.bin", tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["empty.txt", "train/a.jpg", "train/" + "ä" * 40 + ".txt"]
    assert summary["images"] == 1
    row = next(row for row in origins(tmp_path / "out") if row["path"] == "train/a.jpg")
    assert row["origin"] == "data.bin:./train/a.jpg"
    assert row["hash"] == blake3(noise(3000)).hexdigest()
    assert reasons(tmp_path / "out") == {("doc.pdf", "not_an_image_nor_labels")}


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "C:/a.jpg", "a/../../b.jpg", "..\\a.jpg"])
def test_no_path_of_a_tar_leaves_the_folder(tmp_path: Path, context: Context, name: str) -> None:
    (tmp_path / "d.tar").write_bytes(tar_of(member("ok.jpg"), member(name)))
    with pytest.raises(DataError, match="leads out of the folder"):
        run("d.tar", tmp_path / "out", context)
    assert not (tmp_path / "out" / "files").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Q"])
def test_links_devices_and_unknown_kinds_in_a_tar_are_named(tmp_path: Path, context: Context, kind: bytes) -> None:
    odd = member("odd.jpg", b"", type=kind, linkname="/etc/passwd")
    (tmp_path / "d.tar").write_bytes(tar_of(member("ok.jpg"), odd))
    with pytest.raises(DataError) as caught:
        run("d.tar", tmp_path / "out", context)
    assert caught.value.problems == ("'odd.jpg' is a link or a device",)
    assert not (tmp_path / "out" / "files").exists()


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.995])
def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path, context: Context, kind: str, share: float) -> None:
    whole = compressed(tar_of(*(member(f"{index}.jpg", noise(4096)) for index in range(20))), kind)
    (tmp_path / "d").write_bytes(whole[: int(len(whole) * share)] if kind != "tar" else whole[: int(20 * 4608 * share)])
    with pytest.raises(DataError, match="the archive is damaged"):
        run("d", tmp_path / "out", context)
    assert not (tmp_path / "out" / "files").exists()


def test_a_tar_that_is_cut_between_two_files_is_refused(tmp_path: Path, context: Context) -> None:
    (tmp_path / "d.tar").write_bytes(tar_of(member("a.jpg"), member("b.jpg"))[:1024])
    with pytest.raises(DataError, match="cut short"):
        run("d.tar", tmp_path / "out", context)


def test_a_damaged_header_does_not_end_a_tar_in_silence(tmp_path: Path, context: Context) -> None:
    data = bytearray(tar_of(member("a.jpg"), member("b.jpg"), member("c.jpg")))
    data[1024 + 10] ^= 255
    (tmp_path / "d.tar").write_bytes(data)
    with pytest.raises(DataError, match="a header in it is damaged"):
        run("d.tar", tmp_path / "out", context)


def test_a_second_tar_behind_the_first_is_not_lost_in_silence(tmp_path: Path, context: Context) -> None:
    (tmp_path / "d.tar").write_bytes(tar_of(member("a.jpg")) + tar_of(member("b.jpg")))
    with pytest.raises(DataError, match="more data follows its end"):
        run("d.tar", tmp_path / "out", context)


@pytest.mark.parametrize("kind", TARS[1:])
def test_a_flipped_bit_is_found(tmp_path: Path, context: Context, kind: str) -> None:
    data = bytearray(compressed(tar_of(member("a.jpg", noise(50_000))), kind))
    data[25_000] ^= 1
    (tmp_path / "d").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        run("d", tmp_path / "out", context)


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz"])
def test_a_bomb_of_a_tar_is_refused_before_it_is_unpacked(tmp_path: Path, context: Context, kind: str) -> None:
    header = tarfile.TarInfo("a.jpg")
    header.size = 2**40
    path = tmp_path / "d"
    path.write_bytes(compressed(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**22), kind))
    with pytest.raises(DataError, match="bomb"):
        run("d", tmp_path / "out", context)


def test_a_name_longer_than_the_memory_is_refused(tmp_path: Path, context: Context) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    (tmp_path / "d.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**16))
    with pytest.raises(DataError, match="bomb"):
        run("d.tar", tmp_path / "out", context)


def test_a_bomb_of_headers_is_refused(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packed, "MAX_RATIO", 5)
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(tarfile.TarInfo("a/").tobuf() * (6 * 2**20 // 512), 1))
    with pytest.raises(DataError, match="bomb"):
        run("d.tar.gz", tmp_path / "out", context)


def test_a_negative_size_is_damage(tmp_path: Path, context: Context) -> None:
    block = bytearray(tarfile.TarInfo("b.jpg").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", -1024)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "d.tar").write_bytes(tar_of(member("a.jpg"))[:1024] + bytes(block) + bytes(10240))
    with pytest.raises(DataError, match="damaged"):
        run("d.tar", tmp_path / "out", context)


def test_a_name_within_a_name_is_damage(tmp_path: Path, context: Context) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 512
    (tmp_path / "d.tar").write_bytes((header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 3000 + bytes(1024))
    with pytest.raises(DataError, match="damaged"):
        run("d.tar", tmp_path / "out", context)


def test_a_gz_of_something_else_is_no_archive(tmp_path: Path, context: Context) -> None:
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 1000))
    with pytest.raises(DataError, match="damaged or of an unknown kind"):
        run("archive:labels.csv.gz", tmp_path / "out", context)


def test_an_archive_of_nothing_holds_no_images(tmp_path: Path, context: Context) -> None:
    (tmp_path / "d.tar").write_bytes(bytes(10240))
    with pytest.raises(DataError, match="holds no images"):
        run("d.tar", tmp_path / "out", context)


def test_what_the_disk_has_no_room_for_is_not_begun(tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(member("a.jpg", noise(300_000))))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=200_000))
    with pytest.raises(DataError, match=r"has 0\.0 GB left, and .*a\.tar unpacked takes 0\.0 GB"):
        run("a.tar", tmp_path / "out", context)
    assert collected(tmp_path / "out") == []


def test_an_archive_from_elsewhere_is_forgotten_when_it_is_bad_and_kept_when_the_disk_is_full(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(member("a.jpg", noise(300_000))))
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=200_000))
        with pytest.raises(DataError, match=r"GB left, and a\.tar unpacked takes"), blaming("What they sent: ", path):
            unpack(path, tmp_path / "full", context, Ledger())
    assert path.exists()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"^What they sent: it: the archive is damaged"), blaming("What they sent: ", path):
        unpack(path, tmp_path / "cut", context, Ledger(), shown="it")
    assert not path.exists()
