"""Running the commands of an installation: progress to the user, output to a log, an explanation when one fails.

Standard library only: scripts/bootstrap.py uses it before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HEARTBEAT_S = 20.0

# What the log of a failed step says, and what to do about it; the first that fits counts.
REMEDIES = (
    (r"No space left on device", "The disk is full: the environment takes 8 GB with CUDA, 3 GB without."),
    (r"ensurepip|No module named '?venv", "This Python lacks venv: on Debian and Ubuntu, `sudo apt install python3-venv`."),
    (
        r"No matching distribution found for torch",
        "PyTorch has wheels for Linux (x86-64, arm64), Windows (x64), macOS 14+ (arm64).",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "A file is not the one that is pinned: a broken download (try again), or a mirror that changes files.",
    ),
    (r"No matching distribution found", "The index lacks a pinned version: look at PIP_INDEX_URL and pip.conf, or use pypi.org."),
    (r"Permission denied|Access is denied", "A file cannot be written: close programs that use .venv, check who owns it."),
)
UNREACHABLE = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError")
HOST = re.compile(r"host=['\"]([^'\"]+)|Looking in indexes: https?://(?:[^@/\s]*@)?([^/:\s,]+)")


class Failure(Exception):
    """What the user is told. Exit code 2: this machine is not set up for it; 3: something cannot be fetched or written."""

    def __init__(self, message: str, exit_code: int = 3) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Line:
    """One line of progress on stderr: redrawn on a terminal, said again now and then elsewhere."""

    def __init__(self, title: str) -> None:
        self.title, self.started, self.terminal = title, time.monotonic(), sys.stderr.isatty()
        self.said = self.started
        if not self.terminal:
            say(f"{title} …")

    def show(self, detail: str) -> None:
        elapsed = f"{time.monotonic() - self.started:.0f} s"
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + f"{self.title} … {elapsed}  {detail}"[:width].ljust(width), end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said >= HEARTBEAT_S:
            self.said = time.monotonic()
            say(f"      {elapsed}  {detail[:120]}")

    def close(self) -> None:
        if self.terminal:
            self.show("")
            say("")
        else:
            say(f"{self.title}: {time.monotonic() - self.started:.0f} s")


class Steps:
    """Runs numbered commands in `cwd`, one after the other.

    Args:
        total: how many there will be, for the user.
        log: gets what the commands print.
        held_fd: an open file that the commands inherit, and with it its lock: if we are killed and one of them goes on, nobody
            installs beside it.
    """

    def __init__(self, total: int, log: Path, cwd: Path, held_fd: int) -> None:
        self.number, self.total, self.log, self.cwd = 0, total, log, cwd
        self.held_fds = () if os.name == "nt" else (held_fd,)

    def run(self, label: str, command: Sequence[str]) -> None:
        self.number += 1
        line = Line(f"[{self.number}/{self.total}] {label}")
        environment = {**os.environ, "PIP_USER": "0", "NO_ALBUMENTATIONS_UPDATE": "1"}
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            begin = log.tell()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.cwd, env=environment, pass_fds=self.held_fds
            )
            try:
                while process.poll() is None:
                    line.show(last_line(self.log, begin))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        line.close()
        if process.returncode:
            raise Failure(explain(self.log.read_bytes()[begin:].decode("utf-8", "replace"), self.log))


def last_line(log: Path, begin: int = 0) -> str:
    """What the running step said last; during pip's long silent installation, how many packages are there."""
    with contextlib.suppress(OSError):  # another call may be replacing the folder just now
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode("utf-8", "replace").split("\n")
        if any(line.startswith("Installing collected packages") for line in lines):
            folders = [*log.parent.glob("lib/python*/site-packages"), *log.parent.glob("Lib/site-packages")]
            there = sum(name.endswith(".dist-info") for folder in folders for name in os.listdir(folder))
            return f"{there} packages are in place"
        return next((line.strip() for line in reversed(lines) if line.strip() and not line.startswith("WARNING")), "")
    return ""


def explain(output: str, log: Path) -> str:
    """What to tell the user of a step that failed with this output: one line for the network, else its end and a remedy."""
    lines = output.strip().splitlines()[-20:]
    if UNREACHABLE.search("\n".join(lines)):
        found = HOST.search(output)
        host = (found[1] or found[2]) if found else "pypi.org"
        return f"{host} cannot be reached: check the network, the proxy (HTTPS_PROXY) or pip's index (PIP_INDEX_URL)"
    remedy = next((text for pattern, text in REMEDIES if re.search(pattern, output)), "")
    tail = "\n".join(f"  | {line}" for line in lines)
    return f"this step failed; the last lines of {log}:\n{tail}\n{remedy}".rstrip()
