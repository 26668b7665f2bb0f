"""Which device of PyTorch's a word means: the one rule for training, measuring and every runtime that goes through torch.

A device that was asked for by name is used or refused, never replaced. Importing torch takes seconds, so nothing is asked about
the CPU.
"""

from __future__ import annotations

import re
import warnings

from pipeline import machine
from pipeline.errors import MissingDependency, UsageError, how_to_install


def pick(wanted: str, training: bool = False) -> str:
    """The device's own name: "cpu", "mps" or "cuda:<n>".

    Args:
        wanted: "cpu", "mps", "cuda", "cuda:<n>", or "auto": an NVIDIA GPU where there is one, else the CPU.
        training: "auto" also takes Apple's GPU. Measuring stays on the CPU there, where float32 is computed as on other machines.

    Raises:
        UsageError: there is no such device, or PyTorch cannot use it.
    """
    if wanted == "cpu":
        return "cpu"
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(f"PyTorch cannot be imported: {error}", how_to_install("train")) from error
    with warnings.catch_warnings(record=True) as said:  # of a driver that is too old
        warnings.simplefilter("always")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda:0" if gpus else "mps" if apple and training else "cpu"
    there = ["cpu", *(["mps"] if apple else []), *(f"cuda:{number}" for number in range(gpus))]
    if not re.fullmatch(r"mps|cuda(:\d+)?", wanted):
        raise UsageError(f"'{wanted}' is no device.", f"Devices here: auto, {', '.join(there)}.")
    found = "cuda:0" if wanted == "cuda" else wanted
    if found not in there:
        raise UsageError(
            f"The device '{wanted}' is not there{_why(wanted, gpus, torch.version.cuda, [str(each.message) for each in said])}.",
            f"Set `device: auto` in params.yaml (or device=auto on the command line); this machine has {', '.join(there)}.",
        )
    return found


def for_artifacts(wanted: str) -> str:
    """The device that exported files are judged on: PyTorch's GPU binds the checkpoint, not a runtime that may have none."""
    return wanted if wanted in ("auto", "cpu") else "auto"


def require(wanted: str) -> None:
    """Raise as `pick` does unless a device that was asked for by name is there; "auto" costs nothing, for there is always one."""
    if wanted != "auto":
        pick(wanted)


def _why(wanted: str, gpus: int, cuda_of_torch: str | None, said: list[str]) -> str:
    """What is known of the reason, to follow the statement."""
    if not wanted.startswith("cuda") or gpus:
        return ""
    names = machine.gpu_names()
    if names and cuda_of_torch is None:
        return f": this machine has {names[0]}, but its PyTorch is a build for CPUs"
    return f": PyTorch says: {said[-1].rstrip('.')}" if said else ""
