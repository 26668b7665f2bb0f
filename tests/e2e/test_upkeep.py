"""Versions that are damaged, no longer needed, or in use: what verify and gc say and do, as a user meets them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.project import Project, make_project


def test_gc_lists_asks_and_keeps_what_is_needed(project: Project) -> None:
    for seed in (1, 2, 3):
        assert project.run("run", "..split", f"split.seed={seed}").returncode == 0
    project.run("tag", "split@v1", "keep")
    listed = project.run("gc", "split.seed=3")
    assert "split@v2" in listed.stdout
    assert "nothing was deleted" in listed.stdout
    assert "deleted 1 version\n" in project.run("gc", "--yes", "--set", "split.seed=3").stdout
    names = {path.name for path in (project.folder / "datasets/split").glob("v*")}
    assert names == {"v1", "v3"}
    assert "intact" in project.run("verify").stdout


def test_force_repairs_what_verify_finds_damaged(project: Project) -> None:
    assert project.run("run", "..preprocess").returncode == 0
    photo = "day 0/photo 0.png"
    with (project.folder / "datasets/collect/v1/files" / photo).open("r+b") as stream:  # the same inode in every stage
        stream.seek(60)
        stream.write(b"damaged")
    bad = json.loads(project.run("verify", "--json").stdout)["versions"]
    assert set(bad) == {"collect@v1", "annotate@v1", "preprocess@v1"}
    assert all(len(problems) == 1 and problems[0].endswith(f"s/{photo}") for problems in bad.values())
    done = project.run("run", "..preprocess", "--force", "collect", "--force", "annotate", "--force", "preprocess", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"][-1]["summary"]["images"] == 12
    assert "intact" in project.run("verify", "preprocess@v2").stdout
    first, second = (
        json.loads((project.folder / f"datasets/preprocess/v{number}/manifest.json").read_text(encoding="utf-8"))
        for number in (1, 2)
    )
    assert first["digest"] == second["digest"]


def spoil(project: Project, version: str) -> Path:
    """Change a picture of a version, and of that alone."""
    victim = next((project.folder / "datasets" / version / "images").rglob("*.png"))
    victim.unlink()
    victim.write_text("changed")
    return victim


def test_one_broken_manifest_stops_nothing_and_is_mended_as_told(project: Project) -> None:
    assert project.run("run", "..split").returncode == 0
    (project.folder / "datasets/split/v1/manifest.json").write_text("garbage")
    spoil(project, "annotate/v1")
    told = project.run("verify")
    assert told.returncode == 5
    assert "  split@v1\n    manifest.json is no JSON\n" in told.stdout
    assert "  annotate@v1\n    changed: images/" in told.stdout, "verify goes on behind it"
    assert "2 of 4 versions are not what was published.\nDamaged versions count as not there." in told.stdout
    for arguments in (("status",), ("versions", "split"), ("run", "--dry-run", "..split"), ("gc",)):
        done = project.run(*arguments)
        assert done.returncode == 0, done.stderr
    assert "would run: v1 is damaged" in project.run("status").stdout
    assert "damaged: manifest.json is no JSON" in project.run("versions", "split").stdout
    listed = json.loads(project.run("versions", "split", "--json").stdout)["versions"]
    assert listed == [{"stage": "split", "version": 1, "tags": [], "damaged": ["manifest.json is no JSON"]}]
    refused = project.run("show", "split@v1")
    assert (refused.returncode, "split@v1 is damaged: manifest.json is no JSON" in refused.stderr) == (3, True)

    # As verify says it, in this order.
    run, delete = (line.split("   ")[0].split()[3:] for line in told.stdout.splitlines()[-2:])
    done = project.run(*run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("because v1 is damaged") == 2
    assert "preprocess@v1 is of this very recipe" in done.stdout, "the same bytes came out again"
    assert "warning: split@v1 is damaged and counts as not there (manifest.json is no JSON)" in done.stderr
    assert "nothing was deleted" in project.run(*delete).stdout
    assert "deleted 2 versions" in project.run(*delete, "--yes").stdout
    assert "4 versions intact" in project.run("verify").stdout
    assert "nothing to do" in project.run(*run).stdout
    assert {path.name for path in (project.folder / "datasets/split").glob("v*")} == {"v2"}


def test_damage_that_is_mended_by_hand_is_forgotten(project: Project) -> None:
    assert project.run("run", "..split").returncode == 0
    before = next((project.folder / "datasets/split/v1/images").rglob("*.png")).read_bytes()
    victim = spoil(project, "split/v1")
    partly = project.run("verify", "split")
    assert "1 of 1 version is not what was published." in partly.stdout
    assert "Versions share files: `python -m pipeline verify` looks at all of them." in partly.stdout
    assert "because v1 is damaged" in project.run("run", "..split", "--dry-run").stdout
    victim.write_bytes(before)
    assert "nothing to delete" in project.run("gc", "--damaged", "--yes").stdout, "it looks once more before it deletes"
    assert "nothing to do" in project.run("run", "..split").stdout


def test_a_tag_keeps_a_damaged_version(project: Project) -> None:
    assert project.run("run", "..split").returncode == 0
    assert project.run("tag", "split@v1", "golden").returncode == 0
    spoil(project, "split/v1")
    project.run("verify")
    kept = project.run("gc", "--damaged", "--yes")
    assert "its tag 'golden' keeps it; `python -m pipeline tag --remove split@golden` takes that away" in kept.stderr
    assert (project.folder / "datasets/split/v1").exists()
    assert project.run("tag", "--remove", "split@golden").returncode == 0
    assert "deleted 1 version\n" in project.run("gc", "--damaged", "--yes").stdout


def test_a_file_too_many_makes_nothing_run_again(project: Project) -> None:
    assert project.run("run", "..annotate").returncode == 0
    (project.folder / "datasets/annotate/v1/Thumbs.db").write_text("")
    told = project.run("verify")
    assert (told.returncode, "Delete the files that are no part of a version." in told.stdout) == (5, True)
    assert "nothing to do" in project.run("run", "..annotate").stdout


def test_a_file_that_a_version_lost_is_no_bug_of_ours(project: Project) -> None:
    assert project.run("run", "..preprocess").returncode == 0
    victim = next((project.folder / "datasets/preprocess/v1/images").rglob("*.png"))
    victim.unlink()
    done = project.run("run", "..split")
    assert done.returncode == 3, done.stderr
    assert f"preprocess@v1 lacks images/{victim.parent.name}/{victim.name}" in done.stderr
    assert "Traceback" not in done.stderr


def test_work_of_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", count=12)
    assert project.run("run", "collect").returncode == 0
    left = project.folder / "datasets/.tmp/split-0123"
    left.mkdir(parents=True)
    (left / "half.bin").write_bytes(bytes(2_000))
    process = project.start("run", "..split", "collect.source=sample")
    deadline = time.monotonic() + 60
    while not (project.folder / ".cache/lock-holder.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        state = project.run("status").stdout
        assert f"a run is at work: process {process.pid}, since " in state
        assert "unfinished work" not in state
        second = project.run("run", "..split", "split.seed=8")
        refused = project.run("gc", "--yes")
    finally:
        process.kill()
        process.communicate()
    for done in (refused, second):
        assert done.returncode == 3
        assert f"in use by another run: process {process.pid}" in done.stderr
        assert done.stdout == "", "nothing is listed or planned that will not be done"
    assert "unfinished work: split-0123" in project.run("status").stdout
    listed = project.run("gc").stdout
    assert "  .tmp/split-0123" in listed
    assert "2.0 kB" in listed
    deleted = project.run("gc", "--yes").stdout
    assert "deleted 0 versions and " in deleted
    assert not left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("typed", "deleted"), [(b"\x04", False), (b"n\n", False), (b"y\n", True)])
def test_the_question_of_gc_can_be_answered_or_left(project: Project, typed: bytes, deleted: bool) -> None:
    import pty
    import subprocess

    for seed in ("1", "2"):
        assert project.run("run", "..split", f"split.seed={seed}").returncode == 0
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    command = [sys.executable, "-m", "pipeline", "gc", "split.seed=2"]
    done = subprocess.run(
        command, cwd=project.folder, env=project.env, stdin=theirs, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("deleted 1 version" in done.stdout) == deleted
    assert (project.folder / "datasets/split/v1").exists() != deleted
