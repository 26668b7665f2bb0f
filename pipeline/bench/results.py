"""The rounds of one cell become its figures and its verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.bench import END_TO_END, statistics, watch
from pipeline.bench import record as records
from pipeline.bench.settings import STREAM, Method, statistic_of
from pipeline.bench.statistics import Samples
from pipeline.bench.timing import AGE, invalid_because
from pipeline.bench.worker import Round

JSON = dict[str, Any]


@dataclass(frozen=True)
class Rounds:
    """Of one cell.

    Attributes:
        wanted: for its interval to become narrow enough, as far as that is possible; it narrows as the root of their number.
        possible: within the time that a cell has.
    """

    wanted: int
    possible: int


class Results:
    """Of one cell, round by round.

    Attributes:
        rounds: those that are done.
    """

    def __init__(self, scenario: str, method: Method) -> None:
        self._scenario = scenario
        self._method = method
        self.rounds: list[Round] = []

    def samples(self, name: str) -> Samples:
        """Of a phase, of `end_to_end` or of `age`: of all rounds."""
        parts = [each.samples[name] for each in self.rounds]
        return Samples(np.concatenate([part.ns for part in parts]), tuple(len(part.ns) for part in parts), parts[0].inputs)

    def due(self) -> Rounds:
        """How many there should be."""
        method, done = self._method, len(self.rounds)
        in_time = int(done * method.max_seconds / max(self._seconds(), 1e-9))
        possible = max(done, method.rounds, min(in_time, method.max_rounds))
        if done < method.rounds:
            return Rounds(method.rounds, possible)
        # Of a clock that jumps it may be any number.
        too_wide = min((self._uncertainty() or 0.0) / method.max_uncertainty, possible)
        return Rounds(min(max(done, math.ceil(done * too_wide**2)), possible), possible)

    def cell(self, slowdown: float | None) -> JSON:
        """Everything of a record's cell that is not in its setting.

        Args:
            slowdown: see `looks`.
        """
        method, first = self._method, self.rounds[0]
        samples = {name: self.samples(name) for name in first.samples}
        whole = samples[END_TO_END]
        phases = {name: statistics.summary(each, method.seed) for name, each in samples.items()}
        counted = images = len(whole.ns) * first.images
        per_s, stream = statistics.throughput(whole, first.images), None
        if self._scenario == STREAM:
            counted, per_s = sum(each.frames for each in self.rounds), images / self._seconds()
            dropped = sum(each.dropped for each in self.rounds)
            ages = {"age_p50_ms": phases[AGE]["p50_ms"], "age_p99_ms": phases[AGE]["p99_ms"]}
            stream = {"fps": method.stream_fps, "frames": counted, "dropped": dropped, **ages}
        watched = watch.joined([each.watched for each in self.rounds])
        reasons = invalid_because(
            whole,
            self._seconds(),
            method.limits,
            uncertainty=self._uncertainty(),
            background_load=watched.background_load,
            slowdown=slowdown,
            throttled=watched.throttled,
            clock_went_back=any(each.clock_went_back for each in self.rounds),
            counted=counted,
        )
        return {
            "device": first.device,
            "load_ms": float(np.median([each.load_ms for each in self.rounds])),
            "first_ms": float(np.median([each.warm_up.first_ms[END_TO_END] for each in self.rounds])),
            "warm_up": {
                "samples": sum(each.warm_up.samples for each in self.rounds),
                "seconds": sum(each.warm_up.seconds for each in self.rounds),
                "stable": all(each.warm_up.stable for each in self.rounds),
            },
            "status": "invalid" if reasons else "valid",
            "reasons": reasons,
            "phases": phases,
            "images_per_s": per_s,
            "stream": stream,
            "memory_peak_mib": watched.memory_peak_mib,
            "gpu_memory_peak_mib": watched.gpu_memory_peak_mib,
            "energy_j_per_image": None if watched.energy_j is None else watched.energy_j / images,
            "drift": statistics.drift(whole),
            "watch": {**watched.summary(), "slowdown": slowdown},
            "samples": {name: records.pack(each) for name, each in samples.items()},
            "rounds": list(whole.rounds),
        }

    def _seconds(self) -> float:
        return sum(each.seconds for each in self.rounds)

    def _uncertainty(self) -> float | None:
        return statistics.uncertainty(self.samples(END_TO_END), statistic_of(self._scenario), self._method.seed)
