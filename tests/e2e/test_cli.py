"""The command line as a user meets it: a process, its output and its exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.project import Project


def test_a_misspelled_command_stage_key_or_value_names_the_near_match_and_runs_nothing(project: Project) -> None:
    for arguments, expected in (
        (["rnu"], "Did you mean 'run'?"),
        (["run", "tarin"], "Did you mean 'train'?"),
        (["run", "preproces..train"], "Did you mean 'preprocess'?"),
        (["run", "train.epoch=3"], "Did you mean 'epochs'?"),
        (["run", "--set", "split.given=kep"], "split.given"),
        (["run", "--forse", "train"], "--forse"),
        (["show", "split@v9"], "split has no version yet"),
    ):
        done = project.run(*arguments)
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    assert not (project.folder / "datasets").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ("run all --dry", 2, "`run` has no option '--dry'.\nDid you mean '--dry-run'?"),
        ("run all --quite", 2, "`run` has no option '--quite'.\nDid you mean '--quiet'?"),
        ("run all --xyz", 2, "`run` has no option '--xyz'.\nSee `python -m pipeline run --help`."),
        ("status x", 2, "`status` does not take 'x'.\nSee `python -m pipeline status --help`."),
        ("run all split.fractions={train: 0.7}", 2, 'Put quotes around a value with blanks: "split.fractions={train: 0.7}"'),
        ("run collect.source=my photos --quiet", 2, 'Put quotes around a value with blanks: "collect.source=my photos"'),
        ("run train.epochs=3 tarin", 2, "Unknown stage 'tarin'.\nDid you mean 'train'?"),
        ("run trian.epochs=3", 2, "command line: unknown key 'trian'. Did you mean 'train'?"),
        ("run --params photos", 2, "photos is a folder.\nName the file by --params, such as photos"),
        ("run all --dry-run --workspace params.yaml", 2, "cannot be a folder: "),
        ("status --workspace params.yaml/below", 2, "Choose another --workspace."),
        ("predict photos --model params.yaml --out params.yaml", 2, "params.yaml cannot be a folder: a file is in its place."),
        ("init params.yaml", 2, "params.yaml cannot be a folder: a file is in its place."),
        ("init params.yaml/below", 2, "cannot be a folder: a file is in its place."),
        ("run collect collect.source=params.yaml", 3, "params.yaml is neither a folder nor an archive of a known kind"),
        ("tag split", 2, "A tag needs a name."),
        ("tag --remove split", 2, "'split' is not of the form STAGE@NAME."),
        ("tag --remove split@best", 2, "split has no tag 'best'."),
    ],
)
def test_a_mistake_is_told_with_its_remedy_and_never_as_a_bug(project: Project, arguments: str, code: int, expected: str) -> None:
    done = project.run(*arguments.split(" "))
    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="a place where no folder can be made by anybody")
@pytest.mark.parametrize("arguments", ["run collect --workspace /proc/x", "init /proc/x"])
def test_a_folder_that_cannot_be_made_is_named(project: Project, arguments: str) -> None:
    done = project.run(*arguments.split())
    assert done.returncode in (2, 3)
    assert "/proc/x" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_prints_the_plan_with_reasons_and_changes_nothing(project: Project) -> None:
    done = project.run("run", "..split", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("because no version yet") == 4
    assert not (project.folder / "datasets").exists()
    plan = json.loads(project.run("run", "..split", "--dry-run", "--json").stdout)["plan"]
    assert [step["stage"] for step in plan] == ["collect", "annotate", "preprocess", "split"]


def test_a_life_of_a_workspace(project: Project) -> None:
    first = project.run("run", "..split", "--json")
    assert first.returncode == 0, first.stderr
    assert [stage["reused"] for stage in json.loads(first.stdout)["stages"]] == [False] * 4

    again = project.run("run", "..split")
    assert "nothing to do" in again.stdout

    changed = project.run("run", "..split", "split.seed=5")
    assert "because seed 0 → 5" in changed.stdout
    assert json.loads(project.run("versions", "split", "--json").stdout)["versions"][-1]["version"] == 2

    assert "seed" in project.run("diff", "split@v1", "split@v2").stdout
    assert "intact" in project.run("verify").stdout
    assert project.run("tag", "split@v1", "first").stdout == "split@first is now v1\n"
    shown = project.run("show", "split@first").stdout
    assert "split@v1" in shown
    assert re.search(r"^  machine +\S.* cores?, [\d.]+ GiB, ", shown, re.MULTILINE)
    assert not [line for line in shown.splitlines() if line and not line.strip()]
    moved = project.run("tag", "split@v2", "first").stdout
    assert moved.startswith("split@first is now v2, no longer v1\n`gc` may delete split@v1")
    assert json.loads(project.run("tag", "--list", "--json").stdout) == {"tags": [{"version": "split@v2", "tag": "first"}]}
    assert "split@v2 is no longer split@first" in project.run("tag", "--remove", "split@first").stdout
    assert "no tags yet" in project.run("tag").stdout
    assert json.loads(project.run("show", "split", "--json").stdout)["recipe"]["params"]["seed"] == 5
    status = json.loads(project.run("status", "--json").stdout)["stages"]
    assert {row["stage"]: row["action"] for row in status}["split"] == "reuse"

    victim = next((project.folder / "datasets/split/v1/images").rglob("*.png"))
    victim.unlink()
    victim.write_text("changed")
    broken = project.run("verify", "split@v1")
    assert broken.returncode == 5
    assert "changed: images/" in broken.stdout


def test_a_reader_that_goes_away_does_not_end_the_run(project: Project) -> None:
    process = project.start("run", "..split")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(120) == 0
    assert (project.folder / "datasets/split/v1/manifest.json").exists()


def test_bare_settings_may_stand_anywhere(project: Project) -> None:
    done = project.run("run", "collect.license=CC0", "collect", "--quiet", "split.seed=2", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    misplaced = project.run("--quiet", "run")
    assert (misplaced.returncode, "command comes first" in misplaced.stderr) == (2, True)


def test_status_shows_a_source_that_is_gone(project: Project) -> None:
    done = project.run("status", "collect.source=gone")
    assert done.returncode == 0, done.stderr
    assert "there is no folder or archive" in done.stdout


def test_another_workspace_and_params_file(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    done = project.run("run", "collect", "--workspace", str(other), "--params", str(project.folder / "params.yaml"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (other / "datasets/collect/v1/manifest.json").exists()
    assert not (project.folder / "datasets").exists()


def test_errors_are_also_json(project: Project) -> None:
    done = project.run("run", "tarin", "--json")
    assert json.loads(done.stdout)["error"]["exit_code"] == 2


def test_a_source_that_is_gone_is_a_data_error(project: Project) -> None:
    done = project.run("run", "collect", "collect.source=nowhere")
    assert done.returncode == 3
    assert "there is no folder or archive" in done.stderr


def test_init_makes_a_project_and_never_overwrites_one(project: Project, tmp_path: Path) -> None:
    target = tmp_path / "new project"
    assert project.run("init", str(target)).returncode == 0
    assert project.run("run", "..train", "--dry-run", cwd=target).returncode == 0
    (target / "params.yaml").write_text("seed: 9\n")
    assert project.run("init", str(target)).returncode == 2
    assert (target / "params.yaml").read_text() == "seed: 9\n"


def test_doctor_looks_at_this_machine(project: Project) -> None:
    findings = json.loads(project.run("doctor", "--json").stdout)["findings"]
    assert {"machine", "Python", "GPU", "torch", "disk", "network: pypi.org"} <= {finding["topic"] for finding in findings}
    assert not [finding for finding in findings if finding["level"] == "bad"]


def test_the_no_op_path_loads_nothing_heavy(project: Project) -> None:
    assert project.run("run", "..split").returncode == 0
    code = (
        "import sys; from pipeline.cli import main; assert main(['run', '..split']) == 0; "
        "heavy = {'torch', 'pandas', 'cv2', 'ultralytics', 'numpy', 'albumentations', 'rich', 'urllib3', 'ssl'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project.folder, env=project.env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(project: Project) -> None:
    import signal
    import time

    process = project.start("run", "..split", "collect.source=sample")
    deadline = time.monotonic() + 60
    while not list(project.folder.glob("datasets/.tmp/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert project.run("run", "..split", "collect.source=sample").returncode == 0
