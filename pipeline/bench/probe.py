"""Looking at a machine: small files, commands and packages that may not be there."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """The content of a small file without white space around it; "" where it is missing or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().rstrip("\0")
    except OSError:
        return ""


def read_number(path: Path) -> int:
    """The whole number in a file; 0 where there is none."""
    text = read_text(path)
    return int(text) if text.lstrip("-").isdigit() else 0


def output(*command: str) -> str:
    """What a command prints; "" where it is missing, fails or takes longer than 20 seconds (PowerShell can take five)."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace") if done.returncode == 0 else ""


def optional(module: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
