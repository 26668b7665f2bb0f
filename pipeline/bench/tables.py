"""A record as a table that people read; for a terminal, and as plain text.

Records come from other machines: what is text in them is shown on one line and without control characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.bench import END_TO_END
from pipeline.bench.cells import shown
from pipeline.bench.settings import OFFLINE, SINGLE_STREAM, STREAM, Setting, size_told, threads_told
from pipeline.wording import three_places

JSON = dict[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]

_WORTH_TELLING = 0.05
"""Of a slowdown that is allowed."""

_SCENARIOS = {
    SINGLE_STREAM: "one image after the other: milliseconds end to end, from the file to the result",
    OFFLINE: "throughput: batches, as fast as they go",
    STREAM: "a camera: frames that came too fast were dropped; age is from the arrival of a frame to its result",
}


def sections(record: JSON) -> Iterator[tuple[str, Table]]:
    """A heading and a table for each scenario that was measured."""
    for scenario, heading in _SCENARIOS.items():
        cells = [cell for cell in record["cells"] if cell["scenario"] == scenario and cell["phases"]]
        if cells:
            yield heading, _table(record, cells, scenario)


def remarks(record: JSON) -> list[str]:
    """Why cells are not valid: each reason once, as the first cell has it, with how many cells there are of its kind. And what
    neighbours took of the others."""
    found: dict[tuple[str, ...], list[str]] = {}
    for cell in record["cells"]:
        on = shown(f"{cell['runtime']} {cell['precision']} on {cell['device']}")
        for reason in cell["reasons"] if cell["status"] != "valid" else ():
            invalid = cell["status"] == "invalid"
            kind = (cell["status"], reason.partition(":")[0].partition(" for ")[0]) if invalid else (cell["status"], on, reason)
            found.setdefault(kind, []).append(f"{cell['status']}: {on}: {shown(reason, 300)}")
    told = [lines[0] + (f" ({len(lines)} cells, the first)" if len(lines) > 1 else "") for lines in found.values()]
    slowdown = max(
        ((cell["watch"] or {}).get("slowdown") or 0.0 for cell in record["cells"] if cell["status"] == "valid"), default=0.0
    )
    if slowdown >= _WORTH_TELLING:
        told.append(f"note: the processors of this virtual machine were {slowdown:.0%} slower on average than at their best")
    return told


def text(record: JSON) -> str:
    """Machine, tables and remarks, for a file."""
    cpu, gpus = record["machine"]["cpu"], [gpu["name"] for gpu in record["machine"]["gpus"]]
    made = [record["tool"], record["created_at"], *([record["label"]] if record["label"] else [])]
    threads = [] if cpu["usable_threads"] is None else [threads_told(cpu["usable_threads"])]
    lines = [", ".join(map(shown, made)), ", ".join(map(shown, [cpu["name"], *threads, *gpus]))]
    if record["partial"]:
        lines.append(f"partial: {shown(record['partial_reason'], 300)}")
    for heading, (header, rows) in sections(record):
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines += ["", heading]
        lines += [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (header, *rows)
        ]
    if found := remarks(record):
        lines += ["", *found]
    return "\n".join(lines) + "\n"


def _table(record: JSON, cells: Sequence[JSON], scenario: str) -> Table:
    models = record["models"]
    best = _best_batches(cells) if scenario == OFFLINE else set()
    columns: list[tuple[str, Callable[[JSON], str]]] = [
        ("task", lambda cell: str(cell["task"])),
        ("model", lambda cell: shown(models[cell["model"]]["name"])),
        ("runtime", lambda cell: shown(f"{cell['runtime']} {cell['precision']}")),
        ("on", _place),
        ("px", lambda cell: size_told(cell["imgsz"]).removesuffix(" px")),
    ]
    if scenario == OFFLINE:
        columns.append(("batch", lambda cell: f"{cell['batch']}{' (best)' if Setting.of(cell) in best else ''}"))
        columns.append(("images/s", lambda cell: _number(cell["images_per_s"])))
    elif scenario == STREAM:
        columns.append(("frames/s", lambda cell: f"{cell['stream']['fps']:g}"))
        columns.append(("dropped", lambda cell: f"{cell['stream']['dropped']} of {cell['stream']['frames']}"))
        columns.append(("age p50", lambda cell: _number(cell["stream"]["age_p50_ms"])))
        columns.append(("age p99", lambda cell: _number(cell["stream"]["age_p99_ms"])))
    else:
        columns.append(("p50 [95 %]", lambda cell: _with_interval(cell["phases"][END_TO_END])))
        columns.append(("p99", lambda cell: _number(cell["phases"][END_TO_END]["p99_ms"])))
        columns.append(("inference", lambda cell: _number((cell["phases"].get("inference") or {}).get("p50_ms"))))
        columns.append(("images/s", lambda cell: _number(cell["images_per_s"])))
    columns.append(("memory", lambda cell: "" if cell["memory_peak_mib"] is None else f"{cell['memory_peak_mib']:.0f} MiB"))
    if any(models[cell["model"]]["map50_95"] is not None for cell in cells):
        columns.append(("mAP50-95", lambda cell: _accuracy(models[cell["model"]]["map50_95"])))
    columns.append(("", lambda cell: "" if cell["status"] == "valid" else cell["status"].upper()))
    return tuple(name for name, _ in columns), [tuple(tell(cell) for _, tell in columns) for cell in cells]


def _best_batches(cells: Sequence[JSON]) -> set[Setting]:
    """Of the cells that differ by the batch alone, and so by the file, the one with the most images a second."""
    families: dict[Setting, list[JSON]] = {}
    for cell in cells:
        families.setdefault(replace(Setting.of(cell), model=cell["model"].split("/")[0], batch=0), []).append(cell)
    best = set()
    for family in families.values():
        measured = [cell for cell in family if cell["status"] == "valid" and cell["images_per_s"]]
        if measured and len(family) > 1:
            best.add(Setting.of(max(measured, key=lambda cell: float(cell["images_per_s"]))))
    return best


def _place(cell: JSON) -> str:
    device = shown(cell["device"])
    return device if cell["threads"] is None else f"{device}, {threads_told(cell['threads'])}"


def _with_interval(figures: JSON) -> str:
    low, high = figures["p50_ci95_ms"] or (figures["p50_ms"], figures["p50_ms"])
    return f"{_number(figures['p50_ms'])} [{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    return "" if value is None else three_places(value)


def _accuracy(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
