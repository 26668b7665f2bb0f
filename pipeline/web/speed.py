"""The part of the page about speed: benchmarks of this very model that the workspace holds, the newest of each machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.bench import END_TO_END, RECORD
from pipeline.bench import record as records
from pipeline.bench.cells import Cell, Record, cells_of, hardware, ratio, shown, usable
from pipeline.bench.compare import times_told
from pipeline.bench.inputs import hash_of
from pipeline.runtimes import REFERENCE
from pipeline.version import Version
from pipeline.web.artifacts import Artifact

JSON = dict[str, Any]

MOST_MACHINES = 8


def part(train: Artifact, benchmarks: Sequence[Version], warn: Callable[[str], object]) -> JSON | None:
    """Everything the template of this part shows; None where nobody has timed this model.

    Args:
        benchmarks: oldest first.
        warn: is told of records that cannot be read.
    """
    weights = train.folder / "weights" / "best.pt"
    ours = hash_of(weights) if benchmarks and weights.is_file() else ""
    machines: dict[tuple[str, ...], JSON] = {}
    unreadable = []
    for version in reversed(benchmarks):
        try:
            record = records.read(version.path / RECORD)
        except records.RecordError as error:
            warn(f"{version.name} is left out of the page: {error.message}")
            unreadable.append(version.name)
            continue
        key = (*hardware(record).values(), record["label"])
        if key not in machines and (cells := _cells_of_model(version.name, record, ours)):
            machines[key] = _machine(version, record, cells)
    if not machines and not unreadable:
        return None
    return {
        "machines": list(machines.values())[:MOST_MACHINES],
        "more": max(0, len(machines) - MOST_MACHINES),
        "unreadable": unreadable,
    }


def _cells_of_model(name: str, record: Record, weights_hash: str) -> list[Cell]:
    return [cell for cell in cells_of(name, record) if cell.weights_hash and cell.weights_hash == weights_hash]


def _machine(version: Version, record: Record, cells: Sequence[Cell]) -> JSON:
    measured = [cell for cell in cells if cell.data["phases"]]
    good = {id(cell) for cell in usable(cells, END_TO_END)[0]}
    references = {_place(cell): cell for cell in cells if cell.runtime == REFERENCE and id(cell) in good}
    return {
        "name": shown(record["label"]) or version.name,
        "version": version.name,
        "file": "/".join((*version.path.parts[-3:], RECORD)),
        "hardware": ", ".join(text for text in hardware(record).values() if text),
        "created_at": record["created_at"],
        "partial": shown(record["partial_reason"], 200) if record["partial"] else "",
        "rows": [_row(cell, references.get(_place(cell)) if id(cell) in good else None) for cell in measured],
        "unmeasured": len(cells) - len(measured),
    }


def _place(cell: Cell) -> tuple[object, ...]:
    """Where and how a cell ran: what it has to share with the checkpoint it is held against."""
    return cell.device, cell.threads, cell.imgsz, cell.batch, cell.scenario


def _row(cell: Cell, reference: Cell | None) -> JSON:
    figures = cell.data["phases"][END_TO_END]
    limits = figures["p50_ci95_ms"]
    told = ""
    if reference is not None and reference is not cell:
        told = times_told(ratio(reference, cell, END_TO_END))
    return {
        "title": cell.title("runtime", "precision"),
        "where": cell.title("place", "imgsz", "batch", "scenario"),
        "p50_ms": figures["p50_ms"] / cell.batch,
        "ci95_ms": [limit / cell.batch for limit in limits] if limits else None,
        "p99_ms": figures["p99_ms"] / cell.batch,
        "images_per_s": cell.data["images_per_s"],
        "memory_mib": cell.data["memory_peak_mib"],
        "times_as_fast": told,
        "is_reference": reference is cell,
        "status": cell.status,
        "reasons": cell.reasons,
    }
