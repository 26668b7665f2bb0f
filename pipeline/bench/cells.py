"""What comparisons see of a record: its cells by name, each with its model and its times.

Records come from other machines: their text is shown on one line and without control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.bench import PHASES, statistics
from pipeline.bench.record import samples_of
from pipeline.bench.settings import size_told, statistic_of, threads_told
from pipeline.bench.statistics import Floats, Ratio, Samples, Statistic

JSON = dict[str, Any]
Record = dict[str, Any]

_LONGEST = 80


def printable(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def shown(text: object, longest: int = _LONGEST) -> str:
    """Text of a record on one line: what cannot be printed, or turns the direction of writing, becomes �."""
    line = printable(str(text).strip())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def named(records: Sequence[tuple[str, Record]]) -> dict[str, Record]:
    """Records by unique names: the label, else the name given with it (of its file), with the id where two are called alike."""
    first = [shown(record.get("label") or name, 40) or "record" for name, record in records]
    out: dict[str, Record] = {}
    for name, (_, record) in zip(first, records, strict=True):
        unique = name if first.count(name) == 1 else f"{name} ({shown(record.get('id'), 12)})"
        again = (f"{unique} #{number}" for number in range(2, len(records) + 1))
        out[next(each for each in (unique, *again) if each not in out)] = record
    return out


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the record that is called `record`; `model` is the record's entry on its model, `images` its number of images."""

    record: str
    data: JSON
    model: JSON
    images: int = 1
    _unpacked: dict[str, Samples] = field(default_factory=dict, init=False, repr=False)

    @property
    def is_valid(self) -> bool:
        return bool(self.data["status"] == "valid")

    @property
    def status(self) -> str:
        return shown(self.data["status"], 20)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(shown(reason, 300) for reason in self.data.get("reasons") or ())

    @property
    def task(self) -> str:
        return shown(self.data["task"])

    @property
    def model_name(self) -> str:
        return shown(self.model.get("name") or self.data["model"])

    @property
    def weights_hash(self) -> str:
        return str(self.model.get("weights_hash") or "")

    @property
    def file_hash(self) -> str:
        return str(self.model.get("file_hash") or "")

    @property
    def runtime(self) -> str:
        return shown(self.data["runtime"])

    @property
    def precision(self) -> str:
        return shown(self.data["precision"])

    @property
    def device(self) -> str:
        return shown(self.data["device"])

    @property
    def imgsz(self) -> tuple[int, ...]:
        return tuple(self.data["imgsz"])

    @property
    def batch(self) -> int:
        return int(self.data["batch"])

    @property
    def threads(self) -> int | None:
        return None if self.data.get("threads") is None else int(self.data["threads"])

    @property
    def scenario(self) -> str:
        return shown(self.data["scenario"])

    @property
    def place(self) -> str:
        """`cpu, 2 threads`; on other devices the threads say nothing."""
        return self.device if self.threads is None or self.device != "cpu" else f"cpu, {threads_told(self.threads)}"

    def title(self, *parts: str) -> str:
        """`detect · yolo11n · onnx · fp32 · cpu, 2 threads · 640 px · single-stream`: all of it, or the properties named."""
        told = {
            "task": self.task,
            "model": self.model_name,
            "runtime": self.runtime,
            "precision": self.precision,
            "place": self.place,
            "imgsz": size_told(self.imgsz),
            "batch": f"batch {self.batch}" if self.batch != 1 else "",
            "scenario": self.scenario,
        }
        return " · ".join(text for part, text in told.items() if text and (not parts or part in parts))

    @property
    def statistic(self) -> Statistic:
        return statistic_of(self.scenario)

    def lacks(self, phase: str) -> str:
        """Why the times of a phase cannot be compared; "" where they can."""
        if phase not in (self.data.get("samples") or {}):
            known = [name for name in PHASES if name in (self.data.get("samples") or {})]
            return f"it holds no samples of {phase}" + (f", only of {', '.join(known)}" if known else "")
        try:
            samples = self.samples(phase)
        except ValueError as error:
            return f"its samples of {phase} are damaged: {error}"
        if len(samples.ns) < 2:
            return f"it holds {'one sample' if len(samples.ns) else 'no samples'} of {phase}, where two are the least"
        return "" if samples.ns.min() > 0 else f"its samples of {phase} hold times of zero or less"

    def samples(self, phase: str) -> Samples:
        """Nanoseconds per call, raw.

        Raises:
            ValueError: samples that are not what the record says.
        """
        if phase not in self._unpacked:
            if self.batch < 1:
                raise ValueError("a batch of an impossible size")
            self._unpacked[phase] = samples_of(self.data, phase, self.images)
        return self._unpacked[phase]

    def times_ms(self, phase: str) -> Floats:
        """(n,) milliseconds per image; the time of a batch counts in equal parts for its images.

        Raises:
            ValueError: samples that are not what the record says.
        """
        return self.samples(phase).ns / statistics.NS_PER_MS / self.batch

    def typical_ms(self, phase: str) -> float:
        """The statistic of this cell's scenario, over all rounds."""
        return statistics.compute(self.samples(phase), self.statistic) / statistics.NS_PER_MS / self.batch

    def interval_ms(self, phase: str, seed: int = 0) -> tuple[float, float] | None:
        """Its 95 % interval; None for a single sample."""
        found = statistics.interval(self.samples(phase), self.statistic, seed)
        return found and (found[0] / statistics.NS_PER_MS / self.batch, found[1] / statistics.NS_PER_MS / self.batch)


def ratio(over: Cell, under: Cell, phase: str, seed: int = 0) -> Ratio:
    """Time per image of one cell by that of another, judged as the scenario of the first is; both are `usable`."""
    found = statistics.ratio(over.samples(phase), under.samples(phase), over.statistic, seed)
    return found.scaled(under.batch / over.batch)


def cells_of(name: str, record: Record) -> list[Cell]:
    """The cells of a record that is called `name`, in its order."""
    images = len(record["inputs"])
    return [Cell(name, data, record["models"].get(data["model"]) or {}, images) for data in record["cells"]]


def hardware(record: Record) -> dict[str, str]:
    """What makes a machine the same as before, in words; "" for what it does not tell. Clouds and shops give many machines the
    same processor."""
    machine = record["machine"]
    cpu, memory_gib = machine["cpu"], machine["memory_gib"]
    gpus = ", ".join(str(gpu["name"]) for gpu in machine["gpus"])
    return {
        "processor": shown(cpu["name"]),
        "GPU": shown(gpus),
        "model": shown(machine["model"]),
        "number of cores": f"{cpu['cores']} cores" if cpu["cores"] else "",
        "number of threads": threads_told(cpu["usable_threads"]) if cpu["usable_threads"] else "",
        "memory": f"{memory_gib:.0f} GiB" if memory_gib else "",
    }


@dataclass(frozen=True)
class LeftOut:
    """A cell that nothing is said about, and why; `record` is the name of its record."""

    record: str
    title: str
    status: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.record}: {self.title}: {self.status}: {'; '.join(self.reasons)}"

    def as_json(self) -> JSON:
        return vars(self) | {"reasons": list(self.reasons)}

    @classmethod
    def of(cls, cell: Cell, status: str = "", reasons: Iterable[str] = ()) -> LeftOut:
        """Without reasons those of the cell itself."""
        given = tuple(reasons) or cell.reasons or ("no reason is recorded",)
        return cls(cell.record, cell.title(), status or cell.status, given)


def usable(cells: Iterable[Cell], phase: str) -> tuple[list[Cell], list[LeftOut]]:
    """The valid cells that hold times of a phase, and the others."""
    good: list[Cell] = []
    left_out: list[LeftOut] = []
    for cell in cells:
        if not cell.is_valid:
            left_out.append(LeftOut.of(cell))
        elif missing := cell.lacks(phase):
            left_out.append(LeftOut.of(cell, "no samples", [missing]))
        else:
            good.append(cell)
    return good, left_out
