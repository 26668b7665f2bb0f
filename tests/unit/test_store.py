from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline import files, locking
from pipeline.errors import ArtifactError, UsageError
from pipeline.store import CHECKSUMS, MANIFEST, Store, Version


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, {"collect": "datasets", "train": "runs"})


def publish(
    store: Store, stage: str = "collect", key: str = "k1", inputs: dict[str, Version] | None = None, text: str = "x"
) -> Version:
    work = store.work_folder(stage, key)
    files.write_text(work / "sub" / "a.txt", text)
    recipe = {"params": {}, "inputs": {name: {"version": v.number, "digest": v.digest} for name, v in (inputs or {}).items()}}
    return store.publish(stage, work, {"key": key, "recipe": recipe, "summary": {}, "seconds": 1}, list((inputs or {}).values()))


def damage(version: Version, name: str = "sub/a.txt", text: str = "changed") -> None:
    files.write_text(version.path / name, text)


def test_versions_count_up_and_are_found_by_key(store: Store) -> None:
    first, second = publish(store, key="k1"), publish(store, key="k2")
    assert [version.name for version in store.versions("collect")] == ["collect@v1", "collect@v2"]
    assert store.find("collect", "k1") == first
    assert store.find("collect", "nothing") is None
    assert store.latest("collect") == second


def test_the_digest_is_of_the_content_alone(store: Store) -> None:
    assert publish(store, key="k1").digest == publish(store, key="k2").digest
    assert publish(store, key="k3", text="y").digest != store.resolve("collect@v1").digest


def test_numbers_are_never_given_twice(store: Store) -> None:
    publish(store, key="k1")
    store.delete(publish(store, key="k2"))
    assert publish(store, key="k3").number == 3


def test_work_of_a_killed_run_is_found_again_and_its_leftovers_are_not_published(store: Store) -> None:
    work = store.work_folder("collect", "k1")
    files.write_text(work / "finished.txt", "1")
    (work / ".123-abcd.part.txt").write_text("half")
    (work / MANIFEST).write_text("from a kill between writing and renaming")
    assert store.work_folder("collect", "k1") == work
    version = publish(store, key="k1")
    assert version.checksums().keys() == {"finished.txt", "sub/a.txt"}
    assert version.verify() == []


def test_hard_links_of_inputs_are_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = publish(store, key="k1")
    work = store.work_folder("train", "t1")
    files.link(source.path / "sub" / "a.txt", work / "linked.txt")
    files.write_text(work / "own.txt", "own")
    seen: list[str] = []
    from pipeline import fingerprint

    original = fingerprint.of_files
    monkeypatch.setattr(
        fingerprint, "of_files", lambda paths, advance=None: original([seen.append(p.name) or p for p in paths], advance)
    )
    version = store.publish("train", work, {"key": "t1", "recipe": {"params": {}, "inputs": {}}, "summary": {}}, [source])
    assert seen == ["own.txt"]
    assert version.checksums()["linked.txt"] == source.checksums()["sub/a.txt"]


def test_a_link_to_a_file_that_was_changed_since_is_hashed_again(store: Store) -> None:
    source = publish(store, key="k1")
    os.utime(source.path / "sub" / "a.txt", ns=(0, (source.path / CHECKSUMS).stat().st_mtime_ns + 1))
    with (source.path / "sub" / "a.txt").open("r+") as stream:
        stream.write("y")
    work = store.work_folder("train", "t1")
    files.link(source.path / "sub" / "a.txt", work / "linked.txt")
    version = store.publish("train", work, {"key": "t1", "recipe": {"params": {}, "inputs": {}}, "summary": {}}, [source])
    assert version.verify() == []


def test_a_file_missing_from_an_input_does_not_stop_the_publication(store: Store) -> None:
    source = publish(store, key="k1")
    work = store.work_folder("train", "t1")
    files.write_text(work / "a.txt", "a")
    files.link(work / "a.txt", work / "b.txt")
    (source.path / "sub" / "a.txt").unlink()
    version = store.publish("train", work, {"key": "t1", "recipe": {"params": {}, "inputs": {}}, "summary": {}}, [source])
    assert version.checksums().keys() == {"a.txt", "b.txt"}


def test_damaged_tags_are_an_error_and_not_overwritten(store: Store) -> None:
    version = publish(store)
    store.tag(version, "best")
    (store.folder("collect") / "tags.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"tags\.json is damaged"):
        store.tag(version, "other")


def test_verify_names_changed_missing_and_added_files(store: Store) -> None:
    version = publish(store)
    (version.path / "sub" / "a.txt").write_text("changed")
    files.write_text(version.path / "new.txt", "n")
    assert version.verify() == ["not part of it: new.txt", "changed: sub/a.txt"]
    (version.path / "sub" / "a.txt").unlink()
    assert "missing: sub/a.txt" in version.verify()


def test_verify_sees_forged_checksums(store: Store) -> None:
    version = publish(store)
    (version.path / "sub" / "a.txt").write_text("changed")
    from pipeline.fingerprint import checksums_text, of_file

    files.write_text(version.path / CHECKSUMS, checksums_text({"sub/a.txt": of_file(version.path / "sub" / "a.txt")}))
    assert version.verify() == [f"{CHECKSUMS} does not match the digest in {MANIFEST}"]


def test_tags_resolve_move_and_protect(store: Store) -> None:
    first, second = publish(store, key="k1"), publish(store, key="k2")
    assert store.tag(first, "best") == ""
    assert store.resolve("collect@best") == first
    assert store.tag(second, "best") == "v1", "whose name it was before"
    assert store.resolve("collect@best") == second
    assert (store.tags_of(first), store.tags_of(second)) == ([], ["best"])
    with pytest.raises(UsageError, match="Did you mean 'best'"):
        store.untag("collect", "bets")
    assert store.untag("collect", "best") == "v2"
    assert store.tags("collect") == {}
    for bad in ("v3", "latest", "a/b", ""):
        with pytest.raises(UsageError):
            store.tag(first, bad)


def test_resolve_names_the_near_match(store: Store) -> None:
    with pytest.raises(UsageError, match="no version yet"):
        store.resolve("collect")
    store.tag(publish(store), "golden")
    with pytest.raises(UsageError, match="Did you mean 'golden'"):
        store.resolve("collect@goldn")
    with pytest.raises(UsageError, match="Did you mean 'collect'"):
        store.resolve("colect@v1")


def test_gc_keeps_latest_tagged_current_and_their_inputs(store: Store) -> None:
    collects = [publish(store, key=f"k{i}", text=str(i)) for i in range(5)]
    publish(store, "train", "t1", {"collect": collects[0]})
    publish(store, "train", "t2", {"collect": collects[1]})
    store.tag(collects[2], "keep")
    unneeded = {version.name for version in store.unneeded({("collect", 4)})}
    # v5 is the latest, v4 current, v3 tagged, v2 the input of the latest training; train v1 and its input v1 are left over.
    assert unneeded == {"collect@v1", "train@v1"}


def test_a_manifest_of_a_newer_release_is_named_and_left_alone(store: Store) -> None:
    version = publish(store)
    manifest = json.loads((version.path / MANIFEST).read_text())
    (version.path / MANIFEST).write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(ArtifactError, match=r"collect@v1 has schema 99(.|\n)*release that wrote it"):
        store.find("collect", "k1")
    assert store.damaged() == []


# ---------------------------------------------------------------- damage


@pytest.fixture
def warnings(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(store, "_warn", told.append)
    return told


BROKEN = ["", "garbage", "[]", "{}", '{"schema": 1}', '{"schema": "1"}', '{"schema": 1, "recipe": {"inputs": 3}}', "[" * 100_000]


@pytest.mark.parametrize("text", BROKEN)
def test_a_version_whose_manifest_cannot_be_read_counts_as_not_there(store: Store, warnings: list[str], text: str) -> None:
    first, second = publish(store, key="k1"), publish(store, key="k2")
    (second.path / MANIFEST).write_text(text)
    store = Store(store.workspace, {"collect": "datasets", "train": "runs"}, warnings.append)
    assert store.latest("collect") == first
    assert store.find("collect", "k2") is None
    assert store.versions("collect") == [first]
    assert store.every("collect") == [first, second]
    [warning] = warnings
    assert warning.startswith("collect@v2 is damaged and counts as not there (manifest.json is ")
    assert warning.endswith("`python -m pipeline gc --damaged` deletes it.")
    assert second.verify() == store.damage(store.every("collect")[1])
    with pytest.raises(ArtifactError, match=r"collect@v2 is damaged: manifest\.json is"):
        store.resolve("collect@v2")
    assert publish(store, key="k2").number == 3
    assert [version.name for version in store.damaged()] == ["collect@v2"]
    assert store.unneeded(set()) == [first], "it is offered as damaged, not as unneeded"
    store.delete(store.damaged()[0])
    assert store.damaged() == []


def test_a_missing_manifest_and_a_file_in_place_of_a_version_are_damage(store: Store) -> None:
    version = publish(store)
    (version.path / MANIFEST).unlink()
    (store.folder("collect") / "v7").write_text("no folder")
    assert [store.damage(version)[0] for version in store.every("collect")] == [
        "manifest.json is missing",
        "manifest.json cannot be read (Not a directory)" if os.name == "posix" else "manifest.json is missing",
    ]
    assert store.next_number("collect") == 8
    for version in store.damaged():
        store.delete(version)
    assert store.every("collect") == []
    assert store.next_number("collect") == 8


def test_noted_damage_counts_until_the_files_are_back(store: Store, warnings: list[str]) -> None:
    version = publish(store, key="k1")
    damage(version)
    assert store.find("collect", "k1") == version, "nobody has looked yet"
    store.note_damage(version, version.verify())
    assert store.find("collect", "k1") is None
    assert store.find("collect", "k1") is None
    assert warnings == [
        "collect@v1 is damaged and counts as not there (changed: sub/a.txt); `python -m pipeline gc --damaged` deletes it."
    ]
    with pytest.raises(ArtifactError, match=r"Every version of collect is damaged(.|\n)*run \.\.collect"):
        store.resolve("collect")
    assert store.resolve("collect@v1", damaged=True) == version
    damage(version, text="x")
    store.note_damage(version, version.verify())
    assert store.find("collect", "k1") == version


def test_a_file_too_many_is_told_but_no_damage(store: Store) -> None:
    version = publish(store)
    damage(version, "Thumbs.db")
    assert version.verify() == ["not part of it: Thumbs.db"]
    store.note_damage(version, version.verify())
    assert store.find("collect", "k1") == version


def test_with_a_damaged_image_the_tables_still_count_with_a_damaged_table_they_do_not(store: Store) -> None:
    version = publish(store)
    store.note_damage(version, [f"changed: images/{number}.png" for number in range(100)])
    assert store.has_its_tables(version)
    store.note_damage(version, [*(f"changed: images/{number}.png" for number in range(100)), "changed: images.parquet"])
    assert not store.has_its_tables(version)
    assert len(store.damage(version)) == 20, "of a whole folder that is lost, a note need not name every file"


def test_a_damaged_note_of_damage_stops_nothing(store: Store) -> None:
    version = publish(store)
    for text in ("{", "[]", '{"v1": 3}'):
        (store.folder("collect") / "damaged.json").write_text(text)
        assert store.latest("collect") == version
    store.note_damage(version, ["changed: sub/a.txt"])
    assert store.latest("collect") is None


def test_checksums_that_are_missing_or_no_list_are_damage(store: Store) -> None:
    version = publish(store)
    for text, expected in (("nonsense", "is no list of hashes"), (None, "is missing")):
        if text is None:
            (version.path / CHECKSUMS).unlink()
        else:
            (version.path / CHECKSUMS).write_text(text)
        assert version.verify() == [f"{CHECKSUMS} {expected}"]
        with pytest.raises(ArtifactError, match=f"collect@v1 is damaged: {CHECKSUMS} {expected}"):
            version.checksums()
    work = store.work_folder("train", "t1")
    files.link(version.path / "sub" / "a.txt", work / "linked.txt")
    made = store.publish("train", work, {"key": "t1", "recipe": {"params": {}, "inputs": {}}, "summary": {}}, [version])
    assert made.verify() == []


def test_verify_goes_on_behind_a_file_that_cannot_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import fingerprint

    work = store.work_folder("collect", "k1")
    for name in ("a", "b", "c"):
        files.write_text(work / name, name)
    version = store.publish("collect", work, {"key": "k1", "recipe": {"params": {}, "inputs": {}}, "summary": {}}, [])
    (version.path / "c").write_text("changed")
    read = fingerprint.of_file

    def failing(path: Path) -> str:
        if path.name == "b":
            raise OSError(5, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(fingerprint, "of_file", failing)
    assert version.verify() == ["cannot be read: b", "changed: c"]


def test_a_workspace_with_a_file_in_place_of_a_folder_is_named(store: Store) -> None:
    (store.workspace / "datasets").write_text("no folder")
    with pytest.raises(ArtifactError, match="a file is in its place"):
        store.latest("collect")


def test_notes_that_are_no_mapping_are_named(store: Store) -> None:
    publish(store)
    (store.folder("collect") / "highest.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"highest\.json is damaged(.|\n)*Delete it: numbers then go on"):
        store.next_number("collect")


# ---------------------------------------------------------------- one writer at a time


def _hold(workspace: str, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Store(Path(workspace), {}).lock():
        ready.set()
        done.wait(30)


def test_a_second_writer_is_told_who_holds_the_workspace(store: Store, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(str(tmp_path), ready, done))
    assert store.holder() == ""
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ArtifactError, match=f"process {process.pid}"), store.lock():
            pass
        assert store.holder().startswith(f"process {process.pid}, since ")
        with pytest.raises(ArtifactError, match=f"process {process.pid}"):
            store.require_free()
    finally:
        done.set()
        process.join()
    store.require_free()
    with store.lock():
        pass


def test_the_lock_dies_with_its_process(store: Store, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, never = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(str(tmp_path), ready, never))
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join()
    assert (store.cache / "lock-holder.json").exists()
    assert store.holder() == "", "a note alone holds nothing"
    with store.lock():
        pass


@pytest.fixture
def taken(store: Store) -> Iterator[FileLock]:
    """The lock of a process that has not written yet who it is, or has just taken its note away."""
    store.cache.mkdir(parents=True)
    with FileLock(store.cache / "workspace.lock", thread_local=False) as lock:
        yield lock


def test_a_second_writer_waits_until_the_first_has_said_who_it_is(store: Store, taken: FileLock) -> None:
    note = json.dumps({"pid": 7, "since": "today", "command": "run"})
    timer = threading.Timer(0.3, files.write_text, (store.cache / "lock-holder.json", note))
    timer.start()
    with pytest.raises(ArtifactError, match="in use by another run: process 7, since today"), store.lock():
        pass
    timer.join()


def test_a_second_writer_waits_for_a_first_that_is_about_to_end(store: Store, taken: FileLock) -> None:
    timer = threading.Timer(0.3, taken.release)
    timer.start()
    with store.lock():
        assert not taken.is_locked
        assert json.loads((store.cache / "lock-holder.json").read_text(encoding="utf-8"))["pid"] == os.getpid()
    timer.join()


def test_a_writer_that_never_says_who_it_is_is_not_waited_for_long(
    store: Store, taken: FileLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_PATIENCE_S", 0.1)
    with pytest.raises(ArtifactError, match="in use by another run: a process that has just begun"), store.lock():
        pass
