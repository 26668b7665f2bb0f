"""The examples of docs/extending.md, cut out of the page and run: a plugin really is one new file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.project import REPOSITORY, Project, make_photos


class Extended(Project):
    """A project that runs a copy of the package, to which the examples were added."""

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "PYTHONPATH": str(self.folder / "package")}


def examples() -> dict[str, str]:
    """Path in the repository → code, for every example of the page."""
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## .*?: `(\S+)`$.*?^```python\n(.*?)^```$", page, flags=re.M | re.S))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(REPOSITORY / "pipeline", folder / "package" / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for path, code in examples().items():
        target = folder / "package" / path
        assert not target.exists()
        target.write_text(code, encoding="utf-8")
    return folder / "package"


@pytest.fixture
def project(tmp_path: Path, package: Path) -> Extended:
    (tmp_path / "package").symlink_to(package, target_is_directory=True)
    (tmp_path / "params.yaml").write_text("seed: 3\n", encoding="utf-8")
    return Extended(tmp_path)


def test_the_page_has_an_example_of_every_kind() -> None:
    assert [Path(path).parent.name for path in examples()] == ["sources", "formats", "runtimes", "stages"]


def test_the_source_and_the_stage_run(project: Extended) -> None:
    done = project.run("run", "..card", "collect.source=stripes", "collect.options.images=12", "card.title=Stripes", "--json")
    assert done.returncode == 0, done.stderr
    stages = {stage["stage"]: stage for stage in json.loads(done.stdout)["stages"]}
    assert stages["annotate"]["summary"]["classes"] == {"stripe": 12}
    card = (Path(stages["card"]["path"]) / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Stripes")
    assert (
        "nothing to do"
        in project.run("run", "..card", "collect.source=stripes", "collect.options.images=12", "card.title=Stripes").stdout
    )
    assert project.run("run", "card", "card.titel=x").returncode == 2


def test_the_format_is_found_by_its_content(project: Extended) -> None:
    make_photos(project.folder / "photos", 3)
    for path in (project.folder / "photos").rglob("*.txt"):
        path.unlink()
    rows = [f"day {number % 2}/photo {number}.png\tthing\t10\t10\t30\t30.5\n" for number in range(3)]
    (project.folder / "photos" / "boxes.tsv").write_text("".join(rows), encoding="utf-8")
    done = project.run("run", "..annotate", "collect.source=photos", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)["stages"][-1]["summary"]
    assert (summary["format"], summary["classes"]) == ("tsv", {"thing": 3})
    (project.folder / "photos" / "boxes.tsv").write_text("a\tb\n", encoding="utf-8")
    broken = project.run("run", "..annotate", "collect.source=photos", "annotate.on_invalid=error")
    assert broken.returncode == 3
    assert "boxes.tsv:1" in broken.stderr


RUNTIME = """
import sys
from pathlib import Path
import numpy as np
from pipeline import runtimes
from pipeline.runtimes import ExportOptions
from tests import tiny_model

folder = Path(sys.argv[1])
weights = tiny_model.write(folder / "tiny.pt", folder / "cache")
made = runtimes.module("opencv").export(weights, folder / "out", ExportOptions(imgsz=(96, 96), cache=folder / "cache"))
photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
[ours], [reference] = (runtimes.for_file(path).load(path, "cpu").predict([photo]) for path in (made, weights))
assert len(ours) == len(reference) > 0
assert np.abs(ours.boxes[:20] - reference.boxes[:20]).max() < 0.1
"""


@pytest.mark.slow
def test_the_runtime_exports_and_predicts(project: Extended) -> None:
    command = [sys.executable, "-c", RUNTIME, str(project.folder)]
    env = {**project.env, "PYTHONPATH": os.pathsep.join([str(project.folder / "package"), str(REPOSITORY)])}
    done = subprocess.run(command, cwd=project.folder, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
