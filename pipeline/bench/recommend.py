"""Which model, runtime and device to take: the fastest valid cell that meets a wish, and why the others do not.

Speed is that of one image after the other, from file to boxes (single-stream, end to end): what a camera meets. The throughput of
large batches would promise frames that nobody has taken yet. The frame rate held against the wish is that of the mean time, since
a camera cannot skip the slow frames.

The Pareto front holds the cells that no other beats in both mAP and latency: any choice off it gives something away for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.bench import END_TO_END, statistics
from pipeline.bench.cells import Cell, LeftOut, Record, cells_of, ratio, shown, usable
from pipeline.bench.settings import SINGLE_STREAM
from pipeline.errors import DataError, UsageError, did_you_mean
from pipeline.wording import listed

MOST_RIVALS = 3


@dataclass(frozen=True)
class Wish:
    """What a choice must offer; None where anything will do.

    Attributes:
        task: needed where the records hold several: figures of different tasks cannot be ranked.
        min_map: least mAP50-95 of that very file on the test split.
        max_latency_ms: that 99 of 100 images keep: p99, end to end.
        max_memory_mib: most memory; of the GPU for cells that ran on one.
        device: `cuda` means any of them, `cuda:0` that one.
    """

    task: str | None = None
    target_fps: float | None = None
    min_map: float | None = None
    max_latency_ms: float | None = None
    max_memory_mib: float | None = None
    device: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A valid cell, and how it stands to the wish.

    Attributes:
        fps: images per second at the mean time.
        map50_95: of that file; None where nobody measured it.
        memory_mib: None where the machine did not tell.
        failures: what the wish asks for and it does not offer, a sentence each; empty where it meets the wish.
        notes: what to know though it meets the wish.
    """

    cell: Cell
    latency_ms: float
    p99_ms: float
    fps: float
    map50_95: float | None
    memory_mib: float | None
    failures: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation:
    """The choice (None where nothing meets the wish), all candidates from fast to slow, those on the Pareto front, and cells that
    are no candidates."""

    wish: Wish
    task: str
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]
    summary: str


def recommend(records: Mapping[str, Record], wish: Wish) -> Recommendation:
    """Choose among the cells of one or more records.

    Raises:
        UsageError: several tasks and none wished for, a task or device that no record holds.
        DataError: no valid cell of one image at a time.
    """
    cells = [cell for name, record in records.items() for cell in cells_of(name, record)]
    task = _task(cells, wish)
    of_task = [cell for cell in cells if cell.task == task and cell.scenario == SINGLE_STREAM and cell.batch == 1]
    on_device = [cell for cell in of_task if _is_on(cell, wish.device)]
    if wish.device and of_task and not on_device:
        raise UsageError(f"No cell ran on {wish.device}", did_you_mean(wish.device, {cell.device for cell in of_task}))
    good, left_out = usable(on_device, END_TO_END)
    if not good:
        raise DataError(
            f"No valid cell of {task} measures one image after the other",
            f"Run `benchmark` with the scenario {SINGLE_STREAM}.",
            list(map(str, left_out)),
        )
    candidates = sorted((_candidate(cell, wish) for cell in good), key=lambda each: each.latency_ms)
    meeting = [place for place, each in enumerate(candidates) if not each.failures]
    chosen = None
    if meeting:
        first, *others = (candidates[place] for place in meeting)
        notes = *first.notes, *_rivals(first.cell, [each.cell for each in others])
        chosen = candidates[meeting[0]] = replace(first, notes=notes)
    front = _front(candidates)
    return Recommendation(wish, task, chosen, tuple(candidates), front, tuple(left_out), _summary(chosen, candidates, wish))


def asked(wish: Wish) -> str:
    """The wish in words: `30 images per second, mAP50-95 of at least 0.5`."""
    parts = [
        f"{wish.target_fps:g} images per second" if wish.target_fps is not None else "",
        f"mAP50-95 of at least {wish.min_map:g}" if wish.min_map is not None else "",
        f"99 of 100 images within {wish.max_latency_ms:g} ms" if wish.max_latency_ms is not None else "",
        f"at most {wish.max_memory_mib:g} MiB of memory" if wish.max_memory_mib is not None else "",
        f"on {wish.device}" if wish.device else "",
    ]
    return ", ".join(part for part in parts if part) or "the fastest"


def as_json(recommendation: Recommendation) -> dict[str, Any]:
    """What `--json` prints."""

    def of_candidate(each: Candidate) -> dict[str, Any]:
        return {
            "record": each.cell.record,
            "cell": each.cell.title(),
            "latency_ms": each.latency_ms,
            "p99_ms": each.p99_ms,
            "fps": each.fps,
            "map50_95": each.map50_95,
            "memory_mib": each.memory_mib,
            "failures": list(each.failures),
            "notes": list(each.notes),
            "is_on_front": each in recommendation.front,
        }

    return {
        "wish": vars(recommendation.wish),
        "task": recommendation.task,
        "summary": recommendation.summary,
        "chosen": of_candidate(recommendation.chosen) if recommendation.chosen else None,
        "candidates": [of_candidate(each) for each in recommendation.candidates],
        "left_out": [cell.as_json() for cell in recommendation.left_out],
    }


def _task(cells: Sequence[Cell], wish: Wish) -> str:
    tasks = sorted({cell.task for cell in cells})
    if not tasks:
        raise DataError("The records hold no cells", "Run `benchmark` again.")
    if wish.task is not None and wish.task not in tasks:
        raise UsageError(f"No record holds the task {wish.task}", did_you_mean(wish.task, tasks))
    if wish.task is None and len(tasks) > 1:
        raise UsageError(
            f"The records hold several tasks: {listed(tasks)}", f"Say which, since they cannot be ranked: --task {tasks[0]}"
        )
    return wish.task or tasks[0]


def _is_on(cell: Cell, device: str | None) -> bool:
    return device is None or cell.device == device or cell.device.split(":")[0] == device


def _candidate(cell: Cell, wish: Wish) -> Candidate:
    times = cell.times_ms(END_TO_END)
    fps = 1000 / float(times.mean())
    limits = statistics.interval(cell.samples(END_TO_END), "mean")
    fps_high, fps_low = (1000 * statistics.NS_PER_MS / limit for limit in limits) if limits else (fps, fps)
    p99 = float(np.percentile(times, 99))
    on_gpu = cell.data.get("gpu_memory_peak_mib")
    memory = cell.data.get("memory_peak_mib") if on_gpu is None else on_gpu
    accuracy = cell.model.get("map50_95")
    failures, notes = [], []
    if wish.target_fps is not None:
        frame_ms = 1000 / wish.target_fps
        if fps < wish.target_fps:
            failures.append(f"too slow: {fps:.1f} images per second")
        else:
            if fps_low < wish.target_fps:
                notes.append(f"it may be too slow: the 95 % interval is {fps_low:.1f} to {fps_high:.1f} images per second")
            if p99 > frame_ms:
                notes.append(f"one image in a hundred takes {p99:.1f} ms or more, longer than the {frame_ms:.1f} ms of a frame")
    if wish.min_map is not None:
        if accuracy is None:
            failures.append("its mAP is not known: nobody measured this file")
        elif accuracy < wish.min_map:
            failures.append(f"not accurate enough: mAP50-95 {accuracy:.3f}")
        elif cell.model.get("measured_on"):
            notes.append(f"its mAP was measured on {shown(cell.model['measured_on'])}")
    if wish.max_latency_ms is not None and p99 > wish.max_latency_ms:
        failures.append(f"too late: p99 of {p99:.1f} ms")
    if wish.max_memory_mib is not None:
        if memory is None:
            failures.append("its memory is not known")
        elif memory > wish.max_memory_mib:
            failures.append(f"too large: {memory:,.0f} MiB of {'GPU memory' if on_gpu is not None else 'memory'}")
    return Candidate(cell, cell.typical_ms(END_TO_END), p99, fps, accuracy, memory, tuple(failures), tuple(notes))


def _rivals(chosen: Cell, others: Sequence[Cell]) -> Iterator[str]:
    """A note where others that meet the wish may be as fast."""
    noise = [cell for cell in others if ratio(cell, chosen, END_TO_END).is_noise]
    if noise:
        rest = f"; and {len(noise) - MOST_RIVALS} more" if len(noise) > MOST_RIVALS else ""
        yield f"as fast, within the noise: {'; '.join(map(_named, noise[:MOST_RIVALS]))}{rest}"


def _named(cell: Cell) -> str:
    return f"{cell.title('model', 'runtime', 'precision', 'place', 'imgsz')} of {cell.record}"


def _front(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Of candidates from fast to slow, those more accurate than all faster ones."""
    front: list[Candidate] = []
    known = [(each, each.map50_95) for each in candidates if each.map50_95 is not None]
    best = -1.0
    # Of equally fast ones the more accurate comes first, or the other would pass for a choice of its own.
    for each, accuracy in sorted(known, key=lambda pair: (pair[0].latency_ms, -pair[1])):
        if accuracy > best:
            front.append(each)
            best = accuracy
    return tuple(front)


def _summary(chosen: Candidate | None, candidates: Sequence[Candidate], wish: Wish) -> str:
    if chosen:
        accuracy = f", mAP50-95 {chosen.map50_95:.3f}" if chosen.map50_95 is not None else ""
        return f"Take {_named(chosen.cell)}: {chosen.fps:.1f} images per second, p50 {chosen.latency_ms:.1f} ms{accuracy}."
    nearest = min(candidates, key=lambda each: (len(each.failures), each.latency_ms))
    return f"Nothing measured offers {asked(wish)}. Nearest is {_named(nearest.cell)}: {'; '.join(nearest.failures)}."
