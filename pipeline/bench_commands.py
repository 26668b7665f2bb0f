"""The commands about records of benchmarks: `benchmark compare`, `history`, `recommend` and `show`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.bench import END_TO_END, PHASES, RECORD
from pipeline.commands import Options, Project
from pipeline.console import Console
from pipeline.errors import DataError, UsageError
from pipeline.store import BENCHMARK, Store, Version
from pipeline.wording import listed, plural
from pipeline.wording import three_places as _ms

if TYPE_CHECKING:
    from pipeline.bench.cells import LeftOut, Record
    from pipeline.bench.compare import Comparison, Row
    from pipeline.bench.history import Trend
    from pipeline.bench.recommend import Candidate

_MARK = "Made by yolo-pipeline"
"""Stands in every page of ours: a page without it is somebody else's."""


class Add(Protocol):
    """Adds a command and returns its parser, which knows the options that all commands have."""

    def __call__(self, name: str, function: Callable[[Options, Console], int], text: str) -> ArgumentParser: ...


def add(command: Add) -> None:
    """Add the commands. A RECORD is a file, a folder that holds a record.json, or a version such as benchmark@v3."""
    of = compared = command("benchmark compare", compare, "how many times faster: records of two or more machines side by side")
    of.add_argument(
        "records", nargs="*", metavar="RECORD", help="record.json, its folder, or benchmark@v3; the first is the base"
    )
    of.add_argument("--force", action="store_true", dest="unlike", help="compare records that were not measured alike, too")
    of = followed = command("benchmark history", history, "one machine over time: what became slower")
    of.add_argument("records", nargs="*", metavar="RECORD", help="default: all of this workspace")
    for parser in (compared, followed):
        parser.add_argument("--phase", choices=PHASES, default=END_TO_END, help="whose times; default: end_to_end")
    of = recommended = command("benchmark recommend", recommend, "the fastest cell that meets a wish")
    of.add_argument("records", nargs="*", metavar="RECORD", help="default: benchmark@latest")
    of.add_argument("--target-fps", type=float, metavar="N", help="images a second, one after the other")
    of.add_argument("--min-map", type=float, metavar="M", help="mAP50-95 of that very file on the test split, 0 to 1")
    of.add_argument("--max-latency", type=float, metavar="MS", help="99 of 100 images take no longer, file to result")
    of.add_argument("--max-memory", type=float, metavar="MIB", help="of the GPU where the cell runs on one")
    of.add_argument("--task", help="detect, segment, classify or pose")
    of.add_argument("--device", help="cpu, cuda, cuda:0 …")
    for parser, folder in ((compared, "comparison"), (followed, "history"), (recommended, "choice")):
        default = Path(f"benchmark-{folder}")
        parser.add_argument("--out", type=Path, default=default, metavar="DIR", help=f"page and pictures; default: {default}")
    shown = command("benchmark show", show, "the table of a record")
    shown.add_argument("records", nargs="?", metavar="RECORD", help="default: benchmark@latest")


# ---------------------------------------------------------------- compare


def compare(options: Options, console: Console) -> int:
    """Hold the first record against each of the others."""
    if len(options.records) < 2:
        raise UsageError(
            "A comparison needs two records.",
            "For example: python -m pipeline benchmark compare benchmark@latest workstation.json",
        )
    _require_ours(options.out)
    with console.progress("compare", len(options.records) + 2) as advance:
        records = _read(options.records, options, console, advance)
        from pipeline.bench import compare as comparing
        from pipeline.bench import page

        found = comparing.compare(records, options.phase, options.unlike)
        advance()
        written = page.write(options.out, f"Benchmark: {listed(list(records))}", comparison=found)
        advance()
    _say_comparison(found, console)
    _say_page(written, console)
    if console.as_json:
        console.json({**comparing.as_json(found), "page": str(written)})
    return 0


def _say_comparison(found: Comparison, console: Console) -> None:
    base, *others = found.records
    for remark in found.remarks:
        console.warn(remark)
    like = {(row.base, row.other) for row in found.rows}
    # The best of each is often the only one it has, which stands there already.
    best = [row for row in found.best if (row.base, row.other) not in like]
    for heading, rows in (("like with like", found.rows), ("the best of each machine", best)):
        if rows:
            console.say(f"\n{heading}, {found.phase.replace('_', ' ')}, milliseconds per image", "bold")
            names = ("cell", base, others[0] if len(others) == 1 else "other", "")
            console.table(names, [(row.title, _ms(row.base_ms), _ms(row.other_ms), row.verdict) for row in rows])
            _say_notes(rows, console)
    _say_left_out(found.left_out, console)


def _say_notes(rows: Sequence[Row], console: Console) -> None:
    """What rows have in common is told once."""
    for name, style in (("unlike", "yellow"), ("notes", "dim")):
        told: dict[str, list[Row]] = {}
        for row in rows:
            for note in getattr(row, name):
                told.setdefault(note, []).append(row)
        for note, of in told.items():
            which = "" if len(of) == len(rows) else f"{of[0].title}: " if len(of) == 1 else f"{len(of)} rows: "
            console.say(f"  {'not alike: ' if name == 'unlike' else ''}{which}{note}", style)


def _say_left_out(cells: Iterable[LeftOut], console: Console) -> None:
    told: dict[tuple[str, str, tuple[str, ...]], list[LeftOut]] = {}
    for cell in cells:
        told.setdefault((cell.record, cell.status, cell.reasons), []).append(cell)
    if told:
        console.say("\nwithout a result", "bold")
    for (record, status, reasons), of in told.items():
        what = of[0].title if len(of) == 1 else plural(len(of), "cell")
        console.say(f"  {record}: {status}: {what}: {'; '.join(reasons)}", "dim")


# ---------------------------------------------------------------- history


def history(options: Options, console: Console) -> int:
    """Follow each cell through the records of one machine."""
    _require_ours(options.out)
    references = options.records or [version.name for version in _store(options, console).versions(BENCHMARK)]
    if len(references) < 2:
        raise UsageError(
            f"A history needs two records, and here {'is one' if references else 'is none'}.",
            "`python -m pipeline benchmark` makes one each time.",
        )
    with console.progress("follow", len(references) + 2) as advance:
        records = _read(references, options, console, advance, tolerant=not options.records)
        from pipeline.bench import history as following
        from pipeline.bench import page

        found = following.follow(records, options.phase)
        advance()
        written = page.write(options.out, "Benchmark: history", history=found)
        advance()
    console.say(f"{found.phase.replace('_', ' ')}, milliseconds per image", "bold")
    console.table(("cell", "records", "first", "newest", ""), [_trend_row(trend) for trend in found.trends])
    if lost := found.regressions:
        console.say(f"  {len(lost)} of {plural(len(found.trends), 'cell')} slower than before", "red")
    if unclear := found.unclear:
        console.say(f"  {len(unclear)} of {plural(len(found.trends), 'cell')} cannot be told: {following.REMEDY}", "dim")
    for name, reasons in found.records_left_out.items():
        console.say(f"  {name} is left out: {'; '.join(reasons)}", "dim")
    _say_left_out(found.left_out, console)
    _say_page(written, console)
    if console.as_json:
        console.json({**following.as_json(found), "page": str(written)})
    return 0


def _trend_row(trend: Trend) -> tuple[str, ...]:
    first, newest = trend.points[0], trend.points[-1]
    return trend.title, str(len(trend.points)), _ms(first.ms), _ms(newest.ms), newest.told


# ---------------------------------------------------------------- recommend


def recommend(options: Options, console: Console) -> int:
    """Choose the fastest valid cell that meets a wish."""
    _require_ours(options.out)
    for name in ("target_fps", "min_map", "max_latency", "max_memory"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {value:g}.")
    if options.min_map is not None and options.min_map > 1:
        raise UsageError(f"--min-map is a share, 0 to 1, not {options.min_map:g}.", "For 50 % say --min-map 0.5")
    references = options.records or [f"{BENCHMARK}@latest"]
    with console.progress("choose", len(references) + 2) as advance:
        records = _read(references, options, console, advance)
        from pipeline.bench import page
        from pipeline.bench import recommend as choosing

        wish = choosing.Wish(
            options.task, options.target_fps, options.min_map, options.max_latency, options.max_memory, options.device
        )
        found = choosing.recommend(records, wish)
        advance()
        written = page.write(options.out, "Benchmark: which to take", recommendation=found)
        advance()
    console.say(f"{found.task}: wished for {choosing.asked(wish)}", "bold")
    console.table(
        ("cell", "record", "p50 ms", "p99 ms", "images/s", "mAP50-95", ""),
        [_candidate_row(each, each is found.chosen) for each in found.candidates],
    )
    _say_left_out(found.left_out, console)
    console.say(f"\n{found.summary}", "bold")
    for note in found.chosen.notes if found.chosen else ():
        console.say(f"  {note}")
    _say_page(written, console)
    if console.as_json:
        console.json({**choosing.as_json(found), "page": str(written)})
    return 0


def _candidate_row(each: Candidate, chosen: bool) -> tuple[str, ...]:
    return (
        each.cell.title("model", "runtime", "precision", "place", "imgsz"),
        each.cell.record,
        _ms(each.latency_ms),
        _ms(each.p99_ms),
        f"{each.fps:.1f}",
        "" if each.map50_95 is None else f"{each.map50_95:.3f}",
        "← take this" if chosen else "; ".join(each.failures),
    )


# ---------------------------------------------------------------- show


def show(options: Options, console: Console) -> int:
    """The table of one record."""
    reference = options.records or f"{BENCHMARK}@latest"
    ((_, record),) = _read([reference], options, console, lambda: None).items()
    if console.as_json:
        console.json({**record, "cells": [{**cell, "samples": sorted(cell["samples"])} for cell in record["cells"]]})
    else:
        from pipeline.bench import tables

        console.say(tables.text(record).removesuffix("\n"))
    return 0


# ---------------------------------------------------------------- records


def _read(
    references: Sequence[str], options: Options, console: Console, advance: Callable[[], None], tolerant: bool = False
) -> dict[str, Record]:
    """Records by the names that rows and pages call them.

    Args:
        tolerant: one that is damaged is passed over with a warning: nobody asked for it by name.

    Raises:
        DataError: a record that cannot be read, by file and key.
    """
    from pipeline.bench import record as records
    from pipeline.bench.cells import named

    found = []
    for reference in references:
        path, name = _place(reference, options, console)
        try:
            found.append((name, records.read(path)))
        except records.RecordError as error:
            # The message starts with the file's name, which many records share.
            told = DataError(str(path.parent / error.message), error.hint)
            if not tolerant:
                raise told from error
            console.warn(f"{name} is left out: {told.message}")
        advance()
    return named(found)


def _place(reference: str, options: Options, console: Console) -> tuple[Path, str]:
    """The file that is meant, and what it is called unless it has a label."""
    path = Path(reference).expanduser()
    if path.is_dir():
        return path / RECORD, path.resolve().name
    if reference.partition("@")[0] == BENCHMARK and not path.exists():
        version = _version(reference, _store(options, console))
        return version.path / RECORD, version.name
    if path.suffix == ".zip":
        raise UsageError(f"{reference} is an archive, not a record.", f"The record in it is a file of its own: results/{RECORD}.")
    return path, path.parent.name if path.name == RECORD and path.parent.name else path.stem


def _store(options: Options, console: Console) -> Store:
    return Project.open(options, console).store


def _version(reference: str, store: Store) -> Version:
    if not store.versions(BENCHMARK):
        raise UsageError(f"No record is meant by '{reference}': here is none yet.", "`python -m pipeline benchmark` makes one.")
    return store.resolve(reference)


def _require_ours(out: Path) -> None:
    """Before any work: a page that somebody else made stays as it is."""
    page = out / "index.html"
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file.", "Choose a folder.")
    if page.exists() and _MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"--out {out} holds an index.html that is not of this command.", "Choose another folder.")


def _say_page(path: Path, console: Console) -> None:
    console.say(f"\npage and pictures: {path}", "bold")
