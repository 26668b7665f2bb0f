"""The shape of the code, read from its imports: what depends on what, what loads heavy libraries, who prints, how long files are.

The rules are those of docs/architecture.md. A new plugin needs no edit here. A new module of pipeline/ counts as one of the tools
that stages and plugins share, until it is named in another layer.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pipeline"

# From the top down: a module may import from its own layer and from those below. Names are modules and folders of pipeline/.
LAYERS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (name, frozenset(modules.split()))
    for name, modules in (
        (
            "command line",
            "__main__ bench_commands benchmark_command cli collect_command commands console disk_errors doctor health_commands "
            "upkeep_commands version_commands",
        ),
        ("runner", "reasons runner"),
        ("stages", "stages"),
        ("tools and plugins", ""),  # everything that is not named: sources, formats, runtimes, metrics, yolo, …
        ("data", "boxes columns dataset detections images ledger parallel"),
        (
            "base",
            "benchmark_params files fingerprint locking machine params params_messages params_yaml paths plugins stage store "
            "version wording",
        ),
        ("errors", "errors"),
    )
)
REST = 3

HEAVY = ("torch", "ultralytics", "albumentations", "pandas", "cv2", "numpy", "matplotlib", "rich", "jinja2", "onnxruntime")
PRINTING = {"cli.py", "console.py"}
MAX_LINES = 400


def layer(module: str) -> int:
    """The index of the layer of a module such as "pipeline.stages.train"; "pipeline" itself holds a version and is below all."""
    parts = module.split(".")
    if len(parts) == 1:
        return len(LAYERS)
    return next((index for index, (_, names) in enumerate(LAYERS) if parts[1] in names), REST)


def sources() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(module: str) -> Iterator[tuple[str, int]]:
    """(module of ours, line) for every import in a module, wherever in it; those for types too, since a reader follows them."""
    known = sources()
    for node in ast.walk(tree(known[module])):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{known[module]}:{node.lineno}: imports are written in full"
            # `from pipeline.formats import yolo` means a module, `from pipeline.formats import Evidence` a name in one.
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in inner]
        else:
            continue
        yield from ((name, node.lineno) for name in names if name.split(".")[0] == "pipeline")


def where(module: str, line: int) -> str:
    return f"{sources()[module].relative_to(ROOT)}:{line}"


def test_dependencies_point_down() -> None:
    wrong = [
        f"{where(module, line)}: {LAYERS[layer(module)][0]} may not import {imported}"
        for module in sources()
        for imported, line in imports(module)
        if layer(imported) < layer(module)
    ]
    assert not wrong, "\n".join(wrong)


def test_stages_do_not_know_each_other() -> None:
    wrong = [
        f"{where(module, line)}: imports {imported}"
        for module in sources()
        if module.startswith("pipeline.stages.")
        for imported, line in imports(module)
        if imported.startswith("pipeline.stages.") and not imported.rpartition(".")[2].startswith("_")
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_command_line_but_the_entry_point() -> None:
    importers = {module for module in sources() for imported, _ in imports(module) if imported == "pipeline.cli"}
    assert importers <= {"pipeline.__main__"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {imported for imported, _ in imports(module) if imported in sources()} - {module} for module in sources()}
    while leaves := [module for module, needed in graph.items() if not needed]:
        for leaf in leaves:
            del graph[leaf]
        for needed in graph.values():
            needed.difference_update(leaves)
    # What is left stands in a circle, or imports one that does.
    imported = set().union(*graph.values())
    assert not graph, f"in a circle: {sorted(imported & graph.keys())}"


def test_a_run_with_nothing_to_do_loads_no_heavy_library() -> None:
    """Everything that planning a run imports: the command line, and all stages for their records."""
    stages = [module for module in sources() if module.startswith("pipeline.stages.")]
    code = "import importlib, sys\n"
    code += f"for name in {['pipeline.cli', *stages]!r}:\n"
    code += "    importlib.import_module(name)\n"
    code += f"    loaded = sorted(sys.modules.keys() & set({HEAVY!r}))\n"
    code += "    assert not loaded, f'{name} loads {loaded}'\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr


def test_only_the_command_line_prints() -> None:
    wrong = [
        where(module, node.lineno)
        for module, path in sources().items()
        if path.relative_to(PACKAGE).as_posix() not in PRINTING
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", ["pipeline", "scripts", "tests", "benchmarks"])
def test_files_are_short_enough_to_be_read(folder: str) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    too_long = [f"{path.relative_to(ROOT)}: {length} lines" for path, length in lengths.items() if length > MAX_LINES]
    assert not too_long, "\n".join(too_long)


def test_every_module_says_first_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in sources().values() if not ast.get_docstring(tree(path))]
    assert not silent, "\n".join(silent)


def test_every_extra_that_a_runtime_names_can_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        str(node.value.args[0].value): path
        for path in (PACKAGE / "runtimes").glob("*.py")
        for node in tree(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REQUIRES"
        if isinstance(node.value, ast.Call) and node.value.args and isinstance(node.value.args[0], ast.Constant)
    }
    unknown = [
        f"{path.relative_to(ROOT)}: no extra {name}"
        for name, path in named.items()
        if name not in project["optional-dependencies"]
    ]
    assert named
    assert not unknown, "\n".join(unknown)
