"""Which cells there are: everything that was asked for, crossed, but for what says the same twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.bench.settings import OFFLINE, SINGLE_STREAM, Setting


@dataclass(frozen=True)
class Axes:
    """What is varied, for each model.

    Attributes:
        runtimes, precisions, devices: by name.
        imgsz: network inputs (height, width) in pixels; empty: each model's own.
        batches: images of one call, for the scenario "offline"; the others give one image at a time, by their nature.
        threads: of the CPU, for the device "cpu".
        scenarios: of `settings.SCENARIOS`.
    """

    runtimes: Sequence[str]
    precisions: Sequence[str] = ("fp32",)
    devices: Sequence[str] = ("cpu",)
    imgsz: Sequence[tuple[int, int]] = ()
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (1,)
    scenarios: Sequence[str] = (SINGLE_STREAM,)


def cells(name: str, task: str, own_imgsz: tuple[int, int], axes: Axes) -> Iterator[Setting]:
    """The cells of one model. What is to be held side by side, runtimes above all, stands side by side."""
    sizes = axes.imgsz or (own_imgsz,)
    for imgsz, scenario, device in product(sizes, axes.scenarios, axes.devices):
        batches = axes.batches if scenario == OFFLINE else (1,)
        threads: Sequence[int | None] = axes.threads if device == "cpu" else (None,)
        for batch, count, precision, runtime in product(batches, threads, axes.precisions, axes.runtimes):
            model = model_key(name, runtime, precision, imgsz, batch)
            yield Setting(task, model, runtime, precision, device, imgsz, batch, count, scenario)


def model_key(name: str, runtime: str, precision: str, imgsz: tuple[int, int], batch: int) -> str:
    """By which the record knows the file that a cell runs: files differ by size and batch, and so does what is known of them."""
    return f"{name}/{runtime}/{precision}/{imgsz[1]}x{imgsz[0]}/{batch}"
