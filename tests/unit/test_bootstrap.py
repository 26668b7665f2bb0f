"""scripts/bootstrap.py on a project of one file, without a network, and the files that say what it installs.

The project has a build backend of its own that needs nothing and takes as long as a file tells it to, so that a call can be
killed, or joined by another, in the middle of an installation.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("bootstrap.py", "steps.py", "check.py")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny"
version = "1"
optional-dependencies = {train = [], onnx = [], litert = [], roboflow = [], sample = [], dev = []}
"""

BACKEND = """
import pathlib, time, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    slow = pathlib.Path("slow")
    if slow.exists():
        time.sleep(float(slow.read_text()))
    name = "tiny-1-py3-none-any.whl"
    extras = "".join(f"Provides-Extra: {e}\\n" for e in ("train", "onnx", "litert", "roboflow", "sample", "dev"))
    files = {
        "tiny.pth": str(pathlib.Path.cwd()),
        "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n" + extras,
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr("tiny-1.dist-info/RECORD", "".join(f"{path},,\\n" for path in [*files, "tiny-1.dist-info/RECORD"]))
    return name
"""

MAIN = "import os, sys\nprint(sys.argv[1:], os.getcwd(), sys.prefix)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"  # with a space: paths are passed as they are
    (root / "scripts").mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(ROOT / "scripts" / name, root / "scripts")
    (root / "scripts" / "constraints.txt").write_text("", encoding="utf-8")
    (root / "scripts" / "weights.txt").write_text("# none\n", encoding="utf-8")
    (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (root / "backend.py").write_text(BACKEND, encoding="utf-8")
    (root / "pipeline").mkdir()
    (root / "pipeline" / "__main__.py").write_text(MAIN, encoding="utf-8")
    return root


def start(project: Path, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIPELINE_TORCH_INDEX": ""}
    command = [sys.executable, str(project / "scripts" / "bootstrap.py"), *arguments]
    return subprocess.Popen(
        command, cwd=cwd or project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def load(project: Path) -> ModuleType:
    """bootstrap.py as a module that takes `project` for its repository."""
    sys.path.insert(0, str(project / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location("bootstrap", project / "scripts" / "bootstrap.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@pytest.mark.skipif(os.name == "nt", reason="a killed process leaves nothing running on POSIX only")
def test_a_killed_install_two_calls_at_once_and_a_changed_recipe(project: Path, tmp_path: Path) -> None:
    # A call is killed while pip works.
    (project / "slow").write_text("4")
    killed = start(project, "doctor")
    log = project / ".venv" / "install.log"
    deadline = time.monotonic() + 120
    while not (log.exists() and "pip install" in log.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    # Two more at once: one waits until the pip that was left behind is done and starts anew, the other waits for that one.
    (project / "slow").write_text("0")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pipeline").mkdir(parents=True)
    (elsewhere / "pipeline" / "__main__.py").write_text("print('the wrong pipeline')")
    both = [start(project, "run", "all", "--set", "a b", cwd=elsewhere) for _ in range(2)]
    results = [finish(process) for process in both]
    for out, _ in results:
        assert out == f"['run', 'all', '--set', 'a b'] {elsewhere} {project / '.venv'}\n"
    said = [err for _, err in results]
    assert sum("made anew: the last install was not finished" in err for err in said) == 1
    assert sum("installed in" in err for err in said) == 1
    assert all("waiting for it" in err for err in said)

    # Nothing to do: nothing said, nothing run.
    before = log.read_bytes()
    out, err = finish(start(project, "run"))
    assert (out, err) == (f"['run'] {project} {project / '.venv'}\n", "")
    assert log.read_bytes() == before

    # Another recipe: the environment is kept and brought up to date.
    (project / "scripts" / "constraints.txt").write_text("# changed\n")
    _, err = finish(start(project, "run"))
    assert "brought up to date: what is to be installed has changed" in err
    assert "make .venv" not in err

    # Tests need more than a run; what a run needs is then there too.
    bootstrap = load(project)
    assert bootstrap.to_do(["runtime"]) == ("nothing", "")
    assert bootstrap.to_do(["runtime", "dev"]) == ("update", "it lacks the packages for tests")

    # An environment can be neither moved nor given another Python.
    stamp = json.loads(bootstrap.STAMP.read_text())
    for key, other in (("root", "/somewhere/else"), ("python", "3.10")):
        bootstrap.STAMP.write_text(json.dumps({**stamp, key: other}))
        action, reason = bootstrap.to_do(["runtime"])
        assert action == "anew"
        assert other in reason


def test_an_environment_of_the_users_own_is_left_alone(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "mine").touch()
    process = start(project, "run", "all")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "was not made by this script" in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in (project / ".venv").iterdir()] == ["mine"]


def test_help_installs_nothing(project: Path) -> None:
    out, _ = finish(start(project, "--help"))
    assert "scripts/bootstrap.py run all" in out
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_another_python_is_refused_in_one_line(project: Path, version: tuple[int, int]) -> None:
    bootstrap = load(project)
    with pytest.raises(
        bootstrap.Failure, match=rf"Python 3\.11 to 3\.13 is needed, this is {version[0]}\.{version[1]}; "
    ) as failure:
        bootstrap.check_python(version)
    assert failure.value.exit_code == 2
    assert "\n" not in str(failure.value)
    for fitting in ((3, 11), (3, 12), (3, 13)):
        bootstrap.check_python(fitting)


@pytest.mark.parametrize("name", ["bootstrap.py", "steps.py"])
def test_an_older_python_can_read_the_script(name: str) -> None:
    assert ast.parse((ROOT / "scripts" / name).read_text(encoding="utf-8"), feature_version=(3, 8)).body


@pytest.fixture
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/torch/" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_probe_of_the_cpu_index_never_delays(project: Path, address: str) -> None:
    bootstrap = load(project)
    assert bootstrap.answers(f"{address}/torch/")
    assert not bootstrap.answers(f"{address}/nothing/")
    with socket.socket() as silent:  # accepts connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert not bootstrap.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/torch/")
        assert time.monotonic() - started < bootstrap.PROBE_S + 1


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            "WARNING: connection broken by 'NewConnectionError(…)': /simple/torch/\nERROR: No matching distribution",
            "pypi.org ",
        ),
        (
            "Looking in indexes: https://me:secret@mirror.example:8080/simple\nWARNING: ProxyError(…)",
            "mirror.example cannot be reached",
        ),
        (
            "HTTPSConnectionPool(host='files.example', port=443): Read timed out. ReadTimeoutError",
            "files.example cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==2.14.1", "PyTorch has wheels for"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one that is pinned"),
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("The virtual environment was not created successfully because ensurepip is not available.", "apt install python3-venv"),
        ("something new", "  | something new"),
    ],
)
def test_a_failed_step_is_explained(project: Path, output: str, told: str) -> None:
    load(project)
    explained = sys.modules["steps"].explain(output, Path("install.log"))
    assert told in explained
    assert "secret" not in explained
    assert ("\n" in explained) == ("cannot be reached" not in explained)


# ---- what is installed


def pins() -> dict[str, str]:
    lines = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # tensorrt comes from an index of NVIDIA's own, in the version that fits the machine's CUDA.
    extras = [extra for name, extra in project["optional-dependencies"].items() if name != "tensorrt"]
    return [Requirement(text) for group in [project["dependencies"], *extras] for text in group]


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins().items()}
    for requirement in declared():
        version = pinned[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_the_two_builds_of_opencv_that_share_a_folder_have_one_version() -> None:
    assert pins()["opencv-python"] == pins()["opencv-python-headless"]


def test_what_ultralytics_would_miss_silently_can_be_imported(project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", load(project).SELF_TEST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ci_runs_the_test_command_that_the_readme_tells() -> None:
    command = "python3 scripts/bootstrap.py test"
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
