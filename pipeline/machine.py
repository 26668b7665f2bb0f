"""What this machine is: for manifests, for `doctor`, and for choosing a device. Never part of a recipe."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

JSON = dict[str, Any]


@lru_cache(maxsize=1)
def describe() -> JSON:
    """Operating system, processor, memory, GPU and Python. No host name, no user name, no path."""
    return {
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "gpu": gpu_names(),
        "python": platform.python_version(),
    }


def usable_cores() -> int:
    """Cores this process may run on (containers and `taskset` give fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_names() -> list[str]:
    """NVIDIA GPUs as the driver names them; empty without one. Does not import torch."""
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def number_gpus_as_nvml() -> None:
    """To be called before CUDA is used: by itself it puts the fastest GPU first, and `cuda:1` would be another one than
    nvidia-smi's, whose temperature, load and energy are read."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def version_of(distribution: str) -> str:
    """The installed version of a distribution, "" when it is not installed; reads folder names, imports nothing."""
    return _installed().get(_normal(distribution), "")


@lru_cache(maxsize=1)
def _installed() -> dict[str, str]:
    """Name → version from the names of `<name>-<version>.dist-info` folders; parsing each METADATA file takes 2 ms a package."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in names:
            name, dash, version = entry.removesuffix(".dist-info").partition("-")
            if dash and entry.endswith(".dist-info"):
                found.setdefault(_normal(name), version)
    return found


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def free_bytes(path: Path) -> int:
    """Free space of the file system that holds `path`, or would hold it."""
    existing = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    return shutil.disk_usage(existing).free


class NoRoom(DataError):
    """The disk is too small; what was fetched already is as good as before."""


def require_room(folder: Path, needed: int, what: str = "what is to be fetched") -> None:
    """Raise NoRoom when the disk that holds `folder` has less than `needed` bytes left for `what`."""
    free = free_bytes(folder)
    if needed > free:
        raise NoRoom(
            f"{folder} has {free / 1e9:,.1f} GB left, and {what} takes {needed / 1e9:,.1f} GB.",
            "Free some space, or collect less (`limit`).",
        )


def git_commit(folder: Path) -> str:
    """The commit that `folder` is at, with "+" when files were changed; "" outside a repository or without git."""
    import subprocess

    git = shutil.which("git")
    if git is None:
        return ""

    def ask(*arguments: str) -> str:
        try:
            done = subprocess.run([git, *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = ask("rev-parse", "HEAD")
    return commit + ("+" if commit and ask("status", "--porcelain", "--untracked-files=no") else "")


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
