from __future__ import annotations

from pathlib import Path

import yaml

from pipeline import params, runner
from pipeline.commands import TEMPLATE

ROOT = Path(__file__).parents[2] / "params.yaml"


def test_a_new_project_gets_the_params_of_the_repository() -> None:
    assert TEMPLATE.read_text(encoding="utf-8") == ROOT.read_text(encoding="utf-8")


def test_the_file_is_valid_and_has_every_section() -> None:
    stages = runner.discover()
    params.load(ROOT, stages)
    assert set(yaml.safe_load(ROOT.read_text(encoding="utf-8"))) == {"seed", "device", "workers", *stages}
