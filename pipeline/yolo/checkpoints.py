"""Checkpoints of a run in progress, whole at every instant, and the files that are left when it is done.

Ultralytics overwrites `last.pt` in place: a process killed while it does so leaves nothing to resume from. Here each epoch's
checkpoint is written beside it and renamed, and the one before stays as `previous.pt` for the case that the machine went down.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files

JSON = dict[str, Any]


@dataclass(frozen=True)
class Resume:
    """Where an interrupted run stands.

    Attributes:
        checkpoint: written after `epochs_done` epochs.
        seconds: what these epochs took.
        finished: nothing is left to train (all epochs, or no improvement for `patience` epochs).
    """

    checkpoint: Path
    epochs_done: int
    seconds: float
    finished: bool


def load(path: Path) -> JSON:
    """A checkpoint of our own run, unpickled by ultralytics' restricted loader."""
    from ultralytics.nn.tasks import torch_safe_load

    return dict(torch_safe_load(path, safe_only=True)[0])


def publish(part: Path, last: Path) -> None:
    """Give a checkpoint that was written as `part` its name; the one before it becomes `previous.pt`."""
    previous = last.with_name("previous.pt")
    if last.exists():
        previous.unlink(missing_ok=True)
        files.link(last, previous)
    os.replace(part, last)


def find(run: Path, epochs: int, patience: int) -> Resume | None:
    """The newest whole checkpoint of an interrupted run; makes `results.csv` and `best.pt` agree with it.

    None, and an empty folder, when there is none or a file is gone that it cannot be continued without.

    Raises:
        PermissionError: a checkpoint is there, and may not be read.
    """
    best, results = run / "weights" / "best.pt", run / "results.csv"
    for name in ("last.pt", "previous.pt"):
        path = run / "weights" / name
        try:
            checkpoint = load(path)
        except (PermissionError, MemoryError):  # a whole file perhaps, and no reason to throw the run away
            raise
        except Exception:  # noqa: BLE001, S112 - a torn file raises anything; then the one before it counts
            continue
        is_best = checkpoint["train_metrics"]["fitness"] == checkpoint["best_fitness"]
        done = int(checkpoint["epoch"]) + 1
        seconds = _cut_results(results, done)
        if not (is_best or best.exists()) or seconds is None:
            continue
        if is_best:
            files.copy(path, best)  # killed between the two files, best.pt would still be an older epoch's
        stalled = done - int(checkpoint["stopper"]["best_epoch"])
        return Resume(path, done, seconds, finished=done >= epochs or (0 < patience <= stalled))
    shutil.rmtree(run, ignore_errors=True)
    return None


def _cut_results(results: Path, epochs: int) -> float | None:
    """Drop the rows of epochs that no checkpoint holds: they are trained again.

    Returns:
        The seconds up to the last epoch that is left; None where the row of an epoch is gone, and the file as it was.
    """
    try:
        with results.open(encoding="utf-8", newline="") as stream:
            header, *rows = [row for row in csv.reader(stream) if row]
        whole = {int(row[0]): row for row in rows if len(row) == len(header) and row[0].isdecimal()}
        kept = [header, *(whole[epoch] for epoch in range(1, epochs + 1))]
        seconds = float(kept[-1][header.index("time")])
    except (OSError, ValueError, KeyError, csv.Error):  # no file, an empty one, or one that the machine tore when it went down
        return None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    files.write_text(results, text.getvalue())
    return seconds


def strip(checkpoint: JSON, arguments: JSON, target: Path) -> None:
    """Write what prediction, export and further training need, and nothing that differs between equal runs.

    No optimizer, no date, no path of this machine; weights in half precision, as ultralytics' own final files.
    """
    import torch
    import ultralytics

    model = (checkpoint.get("ema") or checkpoint["model"]).half()
    model.args, model.criterion = arguments, None
    for parameter in model.parameters():
        parameter.requires_grad = False
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": arguments,
        "train_metrics": checkpoint["train_metrics"],
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    files.write_bytes(target, buffer.getvalue())
