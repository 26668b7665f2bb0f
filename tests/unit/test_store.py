from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from pipeline import files
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
    recipe = {"inputs": {name: {"version": v.number, "digest": v.digest} for name, v in (inputs or {}).items()}}
    return store.publish(stage, work, {"key": key, "recipe": recipe, "summary": {}, "seconds": 1}, list((inputs or {}).values()))


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
    assert store.verify(version) == []


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
    version = store.publish("train", work, {"key": "t1", "recipe": {"inputs": {}}, "summary": {}}, [source])
    assert seen == ["own.txt"]
    assert version.checksums()["linked.txt"] == source.checksums()["sub/a.txt"]


def test_a_link_to_a_file_that_was_changed_since_is_hashed_again(store: Store) -> None:
    source = publish(store, key="k1")
    os.utime(source.path / "sub" / "a.txt", ns=(0, (source.path / CHECKSUMS).stat().st_mtime_ns + 1))
    with (source.path / "sub" / "a.txt").open("r+") as stream:
        stream.write("y")
    work = store.work_folder("train", "t1")
    files.link(source.path / "sub" / "a.txt", work / "linked.txt")
    version = store.publish("train", work, {"key": "t1", "recipe": {"inputs": {}}, "summary": {}}, [source])
    assert store.verify(version) == []


def test_a_file_missing_from_an_input_does_not_stop_the_publication(store: Store) -> None:
    source = publish(store, key="k1")
    work = store.work_folder("train", "t1")
    files.write_text(work / "a.txt", "a")
    files.link(work / "a.txt", work / "b.txt")
    (source.path / "sub" / "a.txt").unlink()
    version = store.publish("train", work, {"key": "t1", "recipe": {"inputs": {}}, "summary": {}}, [source])
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
    assert store.verify(version) == ["not part of it: new.txt", "changed: sub/a.txt"]
    (version.path / "sub" / "a.txt").unlink()
    assert "missing: sub/a.txt" in store.verify(version)


def test_verify_sees_forged_checksums(store: Store) -> None:
    version = publish(store)
    (version.path / "sub" / "a.txt").write_text("changed")
    from pipeline.fingerprint import checksums_text, of_file

    files.write_text(version.path / CHECKSUMS, checksums_text({"sub/a.txt": of_file(version.path / "sub" / "a.txt")}))
    assert store.verify(version) == [f"{CHECKSUMS} does not match the digest in {MANIFEST}"]


def test_tags_resolve_move_and_protect(store: Store) -> None:
    first, second = publish(store, key="k1"), publish(store, key="k2")
    store.tag(first, "best")
    assert store.resolve("collect@best") == first
    store.tag(second, "best")
    assert store.resolve("collect@best") == second
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


def test_a_torn_or_newer_manifest_is_named(store: Store) -> None:
    version = publish(store)
    manifest = json.loads((version.path / MANIFEST).read_text())
    (version.path / MANIFEST).write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(ArtifactError, match="schema 99"):
        store.find("collect", "k1")
    (version.path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.find("collect", "k1")


def _hold(workspace: str, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Store(Path(workspace), {}).lock():
        ready.set()
        done.wait(30)


def test_a_second_writer_is_told_who_holds_the_workspace(store: Store, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    process = spawn.Process(target=_hold, args=(str(tmp_path), ready, done))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ArtifactError, match=f"process {process.pid}"), store.lock():
            pass
    finally:
        done.set()
        process.join()
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
    with store.lock():
        pass
