"""What `doctor` looks at: is this machine able to do what the params may ask for, and what to install if not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import machine
from pipeline.errors import how_to_install
from pipeline.wording import plural

NETWORK_TIMEOUT_S = 2.0
LOW_DISK_BYTES = 5 * 10**9


@dataclass(frozen=True)
class Finding:
    """One line: `level` is ok, info, warn (something optional is missing) or bad (the pipeline cannot run)."""

    topic: str
    level: Literal["ok", "info", "warn", "bad"]
    text: str
    remedy: str = ""


def examine(workspace: Path, advance: Callable[[int], object]) -> list[Finding]:
    """All findings, in the order of `CHECKS`."""
    findings: list[Finding] = []
    for check in CHECKS:
        findings += check(workspace)
        advance(1)
    return findings


def _machine(workspace: Path) -> list[Finding]:
    about = machine.describe()
    text = f"{about['cpu']}, {plural(about['cores'], 'core')}, {about['memory_gib']} GiB, {about['os']} ({about['architecture']})"
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    python = Finding("Python", "ok" if supported else "bad", about["python"], "" if supported else "Use Python 3.11 to 3.13.")
    return [Finding("machine", "ok", text), python]


def _gpu(workspace: Path) -> list[Finding]:
    names = machine.gpu_names()
    if not names:
        return [Finding("GPU", "info", "no NVIDIA GPU; training and inference use the CPU (or Apple's MPS)")]
    try:
        import torch

        usable = bool(torch.cuda.is_available())
    except ImportError:
        usable = False
    remedy = "" if usable else "Install a CUDA build of PyTorch that fits the driver: https://pytorch.org/get-started/locally/"
    return [
        Finding("GPU", "ok" if usable else "warn", ", ".join(names) + ("" if usable else ", but PyTorch cannot use it"), remedy)
    ]


def _core(workspace: Path) -> list[Finding]:
    extras = {"ultralytics": "train", "torch": "train", "roboflow": "roboflow", "scikit-learn": "sample"}
    core = ("opencv-python", "albumentations", "pandas", "hotcoco", "blake3")
    findings = []
    for name, extra in {**extras, **dict.fromkeys(core, "train")}.items():
        version = machine.version_of(name)
        findings.append(Finding(name, "ok" if version else "bad", version or "missing", "" if version else how_to_install(extra)))
    return findings


def _runtimes(workspace: Path) -> list[Finding]:
    from pipeline import runtimes

    findings = []
    for name in runtimes.names():
        module = runtimes.module(name)
        requires: runtimes.Requires = module.REQUIRES
        missing = runtimes.missing_modules(dict.fromkeys((*requires.load, *requires.export)))
        reason = "" if missing else module.unavailable() if hasattr(module, "unavailable") else ""
        if missing:
            missing_text = f"missing: {', '.join(missing)}"
            findings.append(Finding(f"runtime: {name}", "warn", missing_text, how_to_install(requires.extra)))
        else:
            findings.append(Finding(f"runtime: {name}", "info" if reason else "ok", reason or ", ".join(requires.load)))
    return findings


def _network(workspace: Path) -> list[Finding]:
    hosts = {
        "pypi.org": "packages",
        "github.com": "official weights, and the source github",
        "api.roboflow.com": "the source roboflow",
        "huggingface.co": "the source huggingface",
        "www.kaggle.com": "the source kaggle",
        "images.cocodataset.org": "the source coco",
        "storage.googleapis.com": "the source openimages",
    }
    with ThreadPoolExecutor(len(hosts)) as pool:
        reached = dict(zip(hosts, pool.map(_reaches, hosts), strict=True))
    return [
        Finding(f"network: {host}", "ok" if reached[host] else "info", f"{'reached' if reached[host] else 'not reached'} ({use})")
        for host, use in hosts.items()
    ]


def _reaches(host: str) -> bool:
    try:
        with socket.create_connection((host, 443), timeout=NETWORK_TIMEOUT_S):
            return True
    except OSError:
        return False


def _disk(workspace: Path) -> list[Finding]:
    free = machine.free_bytes(workspace)
    level: Literal["ok", "warn"] = "ok" if free > LOW_DISK_BYTES else "warn"
    remedy = "" if level == "ok" else "`python -m pipeline gc` lists versions that nothing needs."
    findings = [Finding("disk", level, f"{free / 1e9:.0f} GB free in {workspace}", remedy)]
    probe = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
    try:
        with (probe / ".write-test").open("x"):
            pass
        (probe / ".write-test").unlink()
    except FileExistsError:
        (probe / ".write-test").unlink(missing_ok=True)
    except OSError as error:
        findings.append(Finding("workspace", "bad", f"cannot write to {probe}: {error.strerror}", "Choose another --workspace."))
    return findings


CHECKS: tuple[Callable[[Path], list[Finding]], ...] = (_machine, _gpu, _core, _runtimes, _network, _disk)
