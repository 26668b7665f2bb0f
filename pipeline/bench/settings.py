"""What is measured, and how: a `Setting` is one cell of the grid, a `Method` holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pipeline.bench.statistics import Statistic
from pipeline.bench.timing import Limits, WarmUpRule

JSON = dict[str, Any]

SCENARIOS = SINGLE_STREAM, OFFLINE, STREAM = ("single-stream", "offline", "stream")


def size_told(imgsz: Sequence[int]) -> str:
    """`640 px` for a square, else `640x384 px`, width by height as `--imgsz` has it, from (height, width)."""
    height, width = imgsz
    return f"{height} px" if height == width else f"{width}x{height} px"


def threads_told(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def statistic_of(scenario: str) -> Statistic:
    """What the times of a scenario are judged by: throughput is images over all of the time, latency a typical image."""
    return "mean" if scenario == OFFLINE else "median"


def batches_in_turn(images: int, batch: int) -> int:
    """How many batches it takes for every image to come equally often."""
    return math.lcm(images, batch) // batch


@dataclass(frozen=True)
class Setting:
    """One cell, as the record has it.

    Attributes:
        model: key of the record's `models`: "yolo11n/onnx/fp32/640x640/1".
        imgsz: network input (height, width) in pixels.
        batch: images of one call of the network.
        threads: of the CPU; None on other devices, where the runtime chooses.
    """

    task: str
    model: str
    runtime: str
    precision: str
    device: str
    imgsz: tuple[int, int]
    batch: int = 1
    threads: int | None = None
    scenario: str = SINGLE_STREAM

    def as_json(self) -> JSON:
        return asdict(self) | {"imgsz": list(self.imgsz)}

    @classmethod
    def of(cls, cell: JSON) -> Setting:
        """That of a record's cell."""
        return cls(**{each.name: cell[each.name] for each in fields(cls)} | {"imgsz": tuple(cell["imgsz"])})

    def __str__(self) -> str:
        parts = [self.task, f"{self.runtime} {self.precision}", self.device]
        parts += [threads_told(self.threads)] if self.threads is not None else []
        parts += [size_told(self.imgsz)]
        parts += [f"batch {self.batch}"] if self.batch != 1 else []
        parts += [self.scenario] if self.scenario != SINGLE_STREAM else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Method:
    """How every cell is measured.

    Attributes:
        min_seconds, min_samples: of each cell, over all rounds; both must be reached.
        max_seconds: then a cell ends with what it has, and is invalid where that is too little.
        rounds: in which the cells take turns.
        max_rounds: of a cell whose figure is not known to `max_uncertainty` after `rounds`; it goes on as long as that.
        cool_down_s: pause after each round of all cells.
        warm_up: when a cell is warm.
        max_uncertainty, max_drift, max_background_load, max_slowdown: see `timing.Limits`.
        stream_fps: frames a second of the camera in the scenario "stream".
        together: cells that take turns; others come after them.
    """

    min_seconds: float = 3.0
    min_samples: int = 100
    max_seconds: float = 60.0
    rounds: int = 5
    max_rounds: int = 10
    cool_down_s: float = 0.5
    warm_up: WarmUpRule = field(default_factory=WarmUpRule)
    max_uncertainty: float = 0.1
    max_drift: float = 0.05
    max_background_load: float = 0.25
    max_slowdown: float = 0.15
    seed: int = 0
    stream_fps: float = 30.0
    together: int = 12

    @property
    def limits(self) -> Limits:
        return Limits(**{each.name: getattr(self, each.name) for each in fields(Limits)})

    def as_json(self, scenarios: Sequence[str], overhead_ns: float, image_library: str) -> JSON:
        """The record's `method`."""
        own = asdict(self)
        del own["stream_fps"]  # stands in the cells that have a camera
        return {
            **own,
            "scenarios": list(scenarios),
            "overhead_ns": overhead_ns,
            "image_library": image_library,
        }


_QUICK = Method(min_seconds=1.0, min_samples=30, max_seconds=6.0, rounds=3, max_rounds=4, cool_down_s=0.1)
_QUICK_UNCERTAINTY = 0.25
"""Three rounds know little of how rounds differ: their intervals are wide also where nothing disturbs."""


def quick(method: Method, kept: Collection[str] = ()) -> Method:
    """Less of everything but of what is `kept`, for a first look: intervals are wider, and nothing is noticed of drift."""
    fields = {"min_seconds", "min_samples", "max_seconds", "rounds", "max_rounds", "cool_down_s"}.difference(kept)
    less = {name: min(getattr(method, name), getattr(_QUICK, name)) for name in fields}
    if "max_uncertainty" not in kept:
        less["max_uncertainty"] = max(method.max_uncertainty, _QUICK_UNCERTAINTY)
    return replace(method, **less, warm_up=replace(method.warm_up, max_seconds=min(method.warm_up.max_seconds, 2.0)))
