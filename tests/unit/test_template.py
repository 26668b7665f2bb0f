"""What users read is true: the template, the reference of the params, and the commands in the README."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml

from pipeline import cli, params, runner
from pipeline.commands import TEMPLATE

ROOT = Path(__file__).parents[2]


def test_a_new_project_gets_the_params_of_the_repository() -> None:
    assert TEMPLATE.read_text(encoding="utf-8") == (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_file_is_valid_and_has_every_section() -> None:
    stages = runner.discover()
    params.load(ROOT / "params.yaml", stages)
    written = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert set(written) == {"seed", "device", "workers", "health", "benchmark", *stages}


def made_page(script: str) -> str:
    """What a script in scripts/ makes of the code as it is."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.page())


def test_the_page_of_formats_is_up_to_date() -> None:
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == made_page("formats_reference")


def test_the_page_of_sources_is_up_to_date_and_describes_every_option() -> None:
    text = made_page("sources_reference")
    assert (ROOT / "docs" / "collect.md").read_text(encoding="utf-8") == text, "run scripts/sources_reference.py"
    assert [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_the_reference_is_up_to_date_and_describes_every_key() -> None:
    text = made_page("params_reference")
    assert (ROOT / "docs" / "params.md").read_text(encoding="utf-8") == text, "run scripts/params_reference.py"
    assert [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_the_readme_shows_every_command() -> None:
    _, names = cli._build_parser()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"python -m pipeline {name}" not in readme] == []
