"""Killed at any moment, twice at once, a full or read-only disk: nothing half-made is taken for finished, and the run goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.project import Project, make_project

AUGMENT = """
augment:
  copies: 1
  transforms:
    - flip: {horizontal: true, p: 1.0}
"""


@pytest.fixture
def larger(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", count=150, params=AUGMENT)


def digests(project: Project) -> dict[str, str]:
    found = {}
    for path in sorted(project.folder.glob("datasets/*/v*/manifest.json")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found[f"{manifest['stage']}@v{manifest['version']}"] = manifest["digest"]
    return found


def test_killed_again_and_again_it_ends_like_an_undisturbed_run(larger: Project, tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    moments = random.Random(seed)
    # The longest undisturbed stretch grows, so that every stage is hit and the loop ends.
    kills = 0
    for attempt in range(12):
        process = larger.start("run", "..augment")
        try:
            process.communicate(timeout=moments.uniform(0.2, 0.8) + 0.35 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
        verified = larger.run("verify")
        assert verified.returncode == 0, verified.stdout
    assert kills >= 3
    done = larger.run("run", "..augment")
    assert done.returncode == 0, done.stderr
    assert all(name.endswith("@v1") for name in digests(larger))
    assert not list(larger.folder.glob("datasets/.tmp/*"))

    undisturbed = make_project(tmp_path / "other", count=150, params=AUGMENT)
    assert undisturbed.run("run", "..augment").returncode == 0
    assert digests(undisturbed) == digests(larger)


def test_two_runs_at_once_end_right_or_say_who_holds_the_workspace(larger: Project) -> None:
    first, second = larger.start("run", "..augment"), larger.start("run", "..augment")
    results = [(process.communicate(timeout=120), process.returncode) for process in (first, second)]
    codes = sorted(code for _, code in results)
    assert codes in ([0, 0], [0, 3])
    for (_, stderr), code in results:
        if code == 3:
            assert "in use by another run: process" in stderr
    assert larger.run("verify").returncode == 0
    assert all(name.endswith("@v1") for name in digests(larger))


BAD_DISK = """
import os, pathlib
_write = pathlib.Path.write_bytes
_left = int(os.environ["TEST_DISK_BYTES"])
_errno = int(os.environ["TEST_DISK_ERRNO"])
def write_bytes(self, data):
    global _left
    _left -= len(data)
    if _left < 0:
        raise OSError(_errno, os.strerror(_errno), str(self))
    return _write(self, data)
pathlib.Path.write_bytes = write_bytes
"""


@pytest.mark.parametrize(
    ("bytes_left", "code", "message"),
    [
        (100, errno.ENOSPC, "the disk is full"),
        (3_000, errno.ENOSPC, "the disk is full"),
        (60_000, errno.ENOSPC, "the disk is full"),
        (0, errno.EROFS, "the file system is read-only"),
        (0, errno.EACCES, "permission denied"),
    ],
)
def test_a_full_or_read_only_disk_is_a_clear_error_and_the_next_run_goes_on(
    project: Project, tmp_path: Path, bytes_left: int, code: int, message: str
) -> None:
    # A stand-in that needs neither a mount nor another user: Python loads `sitecustomize` first; here it counts what is written.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BAD_DISK, encoding="utf-8")
    env = {**project.env, "TEST_DISK_BYTES": str(bytes_left), "TEST_DISK_ERRNO": str(code)}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), env["PYTHONPATH"]])
    command = [sys.executable, "-m", "pipeline", "run", "..augment"]
    done = subprocess.run(command, cwd=project.folder, env=env, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 3, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert project.run("verify").returncode == 0
    assert project.run("run", "..augment").returncode == 0


def test_the_lock_of_a_killed_run_does_not_stay(larger: Project) -> None:
    process = larger.start("run", "..augment")
    deadline = time.monotonic() + 60
    while not (larger.folder / ".cache/lock-holder.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert larger.run("run", "..augment").returncode == 0
