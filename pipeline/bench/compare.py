"""Two or more records against each other: how many times faster, with an interval, in a sentence a row.

The first record is the base. There are two kinds of rows: like with like (same task, model, runtime, precision, image size, batch
and scenario; device and threads may differ, and are named then), and the best that each machine can do per task and precision,
whatever runtime and device that takes.

Records that were not measured alike are refused, or, with force, every row says what makes it doubtful. A cell without a row is
listed with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.bench import END_TO_END
from pipeline.bench.cells import Cell, LeftOut, Record, cells_of, ratio, shown, usable
from pipeline.bench.settings import size_told
from pipeline.bench.statistics import Ratio
from pipeline.errors import DataError
from pipeline.wording import listed

OWN_OF_A_RUN = frozenset({"seed", "scenarios", "overhead_ns", "max_slowdown"})
"""Entries of a method that may differ: the order of the cells, what else was measured, what the timer itself took, and what is
allowed to the neighbours of a virtual machine, which the other machine may not be."""

OF_PIXELS = frozenset({"image_library"})
"""Entries that concern files and pixels: what comes after them takes as long with any."""
AFTER_PIXELS = frozenset({"inference", "postprocess"})

MOST_NAMED = 3
TITLE = ("task", "model", "runtime", "precision", "place", "imgsz", "batch", "scenario")


@dataclass(frozen=True)
class Row:
    """A cell of the base beside one of another record.

    Attributes:
        title: what both have in common.
        ratio: time of the base by time of the other: above 1 the other is faster.
        notes: what differs, and may.
        unlike: what makes the comparison doubtful; only with force.
    """

    task: str
    title: str
    base: Cell
    other: Cell
    base_ms: float
    other_ms: float
    ratio: Ratio
    verdict: str
    notes: tuple[str, ...]
    unlike: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Records by name, the first the base; rows like with like, rows of the best, cells without a row, and remarks on whole
    records."""

    records: Mapping[str, Record]
    phase: str
    rows: tuple[Row, ...]
    best: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    remarks: tuple[str, ...]


def compare(records: Mapping[str, Record], phase: str = END_TO_END, force: bool = False, seed: int = 0) -> Comparison:
    """Hold the first record against each of the others.

    Args:
        records: at least two, by their names (`cells.named`).
        phase: whose times are compared.
        force: compare records that are not alike, too.

    Raises:
        DataError: records that are not alike, with every difference, or that have nothing in common.
    """
    base_name, *others = records
    cells = {name: cells_of(name, record) for name, record in records.items()}
    sides = {name: usable(found, phase) for name, found in cells.items()}
    left_out = [cell for _, unusable in sides.values() for cell in unusable]
    differences: list[str] = []
    like: list[tuple[Pair, tuple[str, ...]]] = []
    best: list[tuple[Pair, tuple[str, ...]]] = []
    for name in others:
        unlike = differing((base_name, records[base_name]), (name, records[name]), phase)
        base, other = sides[base_name][0], sides[name][0]
        family = _families(base, other)
        like += [(pair, (*unlike, *_doubts(*pair))) for pair in _alike(base, other, family)]
        best += [(pair, (*unlike, *_doubts(*pair))) for pair in _fastest(base, other, family, phase)]
        differences += unlike
    differences += [doubt for _, doubts in (*like, *best) for doubt in doubts]
    if differences and not force:
        raise DataError(
            f"The records were not measured alike: {listed(list(records))}",
            "Measure with the same inputs, method and models (`benchmark pack` carries them to the other machine), "
            "or compare all the same with --force, which marks the rows.",
            list(dict.fromkeys(differences)),
        )
    matched = {cell for pair, _ in (*like, *best) for cell in pair}
    unmatched = [cell for good, _ in sides.values() for cell in good if cell not in matched]
    left_out += [LeftOut.of(cell, "no counterpart", [_missing(cell, base_name, cells, phase)]) for cell in unmatched]
    if not matched:
        raise DataError(
            f"Nothing in {listed(list(records))} can be compared: no valid cell of one has a counterpart in another",
            "Measure the same tasks and models on all machines.",
            list(map(str, left_out)),
        )
    rows, of_best = ([_row(*pair, phase, doubts, seed) for pair, doubts in pairs] for pairs in (like, best))
    return Comparison(records, phase, tuple(rows), tuple(of_best), tuple(left_out), _remarks(records))


def verdict(name: str, found: Ratio) -> str:
    """`workstation is 11.2× [10.8, 11.5] faster`, or that there is no difference beyond the noise.

    Args:
        name: of the record that stands below the line of the ratio.
    """
    return times_told(found) if found.is_noise else f"{name} is {times_told(found)}"


def times_told(found: Ratio) -> str:
    """`11.2× [10.8, 11.5] faster`: what stands below the line of a ratio of times, against what stands above it."""
    if found.is_noise:
        return f"no difference beyond the noise ({found.low:.2f}× to {found.high:.2f}×)"
    word = "faster" if found.value > 1 else "slower"
    told = found if found.value > 1 else found.inverse()
    digits = 0 if told.value >= 100 else 1 if told.value >= 10 else 2 if told.value >= 1.1 else 3
    return f"{told.value:.{digits}f}× [{told.low:.{digits}f}, {told.high:.{digits}f}] {word}"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """What `--json` prints: no samples, no whole records."""

    def of_row(row: Row) -> dict[str, Any]:
        return {
            "task": row.task,
            "title": row.title,
            "base": {"record": row.base.record, "cell": row.base.title(), "ms_per_image": row.base_ms},
            "other": {"record": row.other.record, "cell": row.other.title(), "ms_per_image": row.other_ms},
            "ratio": row.ratio.value,
            "ratio_ci95": [row.ratio.low, row.ratio.high],
            "verdict": row.verdict,
            "notes": list(row.notes),
            "unlike": list(row.unlike),
        }

    return {
        "records": list(comparison.records),
        "phase": comparison.phase,
        "rows": [of_row(row) for row in comparison.rows],
        "best": [of_row(row) for row in comparison.best],
        "left_out": [cell.as_json() for cell in comparison.left_out],
        "remarks": list(comparison.remarks),
    }


# ---------------------------------------------------------------- were they measured alike?


def differing(base: tuple[str, Record], other: tuple[str, Record], phase: str) -> list[str]:
    """How inputs and method of two records differ as far as a phase is concerned, a sentence each; empty where they are alike."""
    return _other_inputs(base, other) + _other_method(base, other, phase)


def _other_inputs(base: tuple[str, Record], other: tuple[str, Record]) -> list[str]:
    out = []
    for (name, record), (without_name, without) in ((base, other), (other, base)):
        held = Counter(entry["hash"] for entry in without["inputs"])
        extra = []
        for entry in record["inputs"]:
            if not held[entry["hash"]]:
                extra.append(shown(entry["name"], 40))
            held[entry["hash"]] -= bool(held[entry["hash"]])
        if extra:
            rest = f" and {len(extra) - MOST_NAMED} more" if len(extra) > MOST_NAMED else ""
            out.append(
                f"inputs: {name} measured {', '.join(extra[:MOST_NAMED])}{rest}, which {without_name} did not, or not alike"
            )
    return out


def _other_method(base: tuple[str, Record], other: tuple[str, Record], phase: str) -> list[str]:
    (base_name, first), (other_name, second) = base, other
    indifferent = OWN_OF_A_RUN | (OF_PIXELS if phase in AFTER_PIXELS else set())
    methods = [
        dict(_settings({key: method[key] for key in method.keys() - indifferent}))
        for method in (first["method"], second["method"])
    ]
    keys = sorted(methods[0].keys() | methods[1].keys())
    return [
        f"method: {shown(key)} is {_setting(methods[0], key)} in {base_name} and {_setting(methods[1], key)} in {other_name}"
        for key in keys
        if methods[0].get(key) != methods[1].get(key)
    ]


def _settings(method: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`warm_up.tolerance` and its value."""
    for key, value in method.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _setting(method: Mapping[str, Any], key: str) -> str:
    return shown(method[key]) if key in method else "not told"


def _doubts(base: Cell, other: Cell) -> tuple[str, ...]:
    what = f"{base.task} {base.model_name}"
    out = []
    if base.file_hash and base.file_hash == other.file_hash:
        pass  # the very same file, whatever is known of where it came from
    elif not base.weights_hash or not other.weights_hash:
        silent = listed([cell.record for cell in (base, other) if not cell.weights_hash])
        out.append(f"weights: nothing tells whether both measured the same {what}: no weights hash in {silent}")
    elif base.weights_hash != other.weights_hash:
        hashes = (f"{shown(cell.weights_hash, 12)} in {cell.record}" for cell in (base, other))
        out.append(f"weights: {what} is {' and '.join(hashes)}")
    if base.imgsz != other.imgsz:
        sizes = (f"{size_told(cell.imgsz)} in {cell.record}" for cell in (base, other))
        out.append(f"image size: {what} is {' and '.join(sizes)}")
    cameras = [cell.data.get("stream") or {} for cell in (base, other)]
    if cameras[0].get("fps") != cameras[1].get("fps"):
        rates = (
            f"{stream.get('fps', 0):g} frames/s in {cell.record}" for stream, cell in zip(cameras, (base, other), strict=True)
        )
        out.append(f"camera: {what} met {' and '.join(rates)}")
    return tuple(out)


# ---------------------------------------------------------------- what belongs together

Pair = tuple[Cell, Cell]


def _families(base: Sequence[Cell], other: Sequence[Cell]) -> Callable[[Cell], str]:
    """A model's identity across two records: its name in the base where its weights are known there, else its own name."""
    by_weights = {(cell.task, cell.weights_hash): cell.model_name for cell in reversed(base) if cell.weights_hash}
    return lambda cell: by_weights.get((cell.task, cell.weights_hash), cell.model_name)


def _alike(base: Sequence[Cell], other: Sequence[Cell], family: Callable[[Cell], str]) -> list[Pair]:
    """Cells of the same kind, first those that agree in all, then those whose device or threads differ and that are the only
    ones left. Another image size counts only where the kind has no pair at all; it is then a doubt."""

    def kind(cell: Cell) -> Hashable:
        return (cell.task, family(cell), cell.runtime, cell.precision, cell.batch, cell.scenario)

    looser: tuple[Callable[[Cell], Hashable], ...] = (
        lambda cell: (kind(cell), cell.imgsz, cell.device, cell.threads),
        lambda cell: (kind(cell), cell.imgsz, cell.device),
        lambda cell: (kind(cell), cell.imgsz),
    )
    pairs: list[Pair] = []
    for key in looser:
        pairs += _only_ones(base, other, key, {cell for pair in pairs for cell in pair})
    paired_kinds = {kind(first) for first, _ in pairs}
    pairs += _only_ones(base, other, kind, {cell for cell in (*base, *other) if kind(cell) in paired_kinds})
    place = {cell: number for number, cell in enumerate(base)}
    return sorted(pairs, key=lambda pair: place[pair[0]])


def _only_ones(base: Sequence[Cell], other: Sequence[Cell], key: Callable[[Cell], Hashable], taken: set[Cell]) -> list[Pair]:
    """Pairs of equal key, where either side has exactly one cell of it."""
    groups: list[dict[Hashable, list[Cell]]] = [{}, {}]
    for side, cells in zip(groups, (base, other), strict=True):
        for cell in cells:
            if cell not in taken:
                side.setdefault(key(cell), []).append(cell)
    return [(cells[0], groups[1][k][0]) for k, cells in groups[0].items() if len(cells) == 1 == len(groups[1].get(k, ()))]


def _fastest(base: Sequence[Cell], other: Sequence[Cell], family: Callable[[Cell], str], phase: str) -> list[Pair]:
    """The fastest cell of either side per task, model, precision, image size and scenario."""

    def kind(cell: Cell) -> Hashable:
        return (cell.task, family(cell), cell.precision, cell.imgsz, cell.scenario)

    winners: list[dict[Hashable, Cell]] = [{}, {}]
    for side, cells in zip(winners, (base, other), strict=True):
        for cell in cells:
            held = side.get(kind(cell))
            if held is None or cell.typical_ms(phase) < held.typical_ms(phase):
                side[kind(cell)] = cell
    return [(cell, winners[1][k]) for k, cell in winners[0].items() if k in winners[1]]


def _missing(cell: Cell, base_name: str, cells: Mapping[str, Sequence[Cell]], phase: str) -> str:
    """Why a usable cell has no counterpart."""
    opposite = [name for name in cells if name != base_name] if cell.record == base_name else [base_name]
    kin = tuple(part for part in TITLE if part != "place")
    for name in opposite:
        found = [other for other in cells[name] if other.title(*kin) == cell.title(*kin)]
        if any(other.is_valid and not other.lacks(phase) for other in found):
            return f"{name} has no such cell of equal device and threads, nor only one that differs in them"
        if found:
            return f"{name} has it, but {'without samples' if found[0].is_valid else found[0].status}"
    return f"{listed(opposite, 'or')} did not measure it"


# ---------------------------------------------------------------- rows


def _row(base: Cell, other: Cell, phase: str, unlike: tuple[str, ...], seed: int) -> Row:
    found = ratio(base, other, phase, seed)
    same = [part for part in TITLE if base.title(part) == other.title(part)]
    return Row(
        task=base.task,
        title=base.title(*same),
        base=base,
        other=other,
        base_ms=base.typical_ms(phase),
        other_ms=other.typical_ms(phase),
        ratio=found,
        verdict=verdict(other.record, found),
        notes=_notes(base, other, found),
        unlike=unlike,
    )


def _notes(base: Cell, other: Cell, found: Ratio) -> tuple[str, ...]:
    def against(one: object, two: object) -> str:
        return f"{base.record} {one}, {other.record} {two}"

    out = []
    if base.model_name != other.model_name:
        out.append("same weights under two names: " + against(f"calls them {base.model_name}", other.model_name))
    if base.runtime != other.runtime:
        out.append(against(f"by {base.runtime} on {base.place}", f"by {other.runtime} on {other.place}"))
    elif base.place != other.place:
        out.append(against(f"on {base.place}", f"on {other.place}"))
    if base.batch != other.batch:
        out.append(against(f"in batches of {base.batch}", f"in batches of {other.batch}"))
    if base.data.get("stream") and other.data.get("stream"):
        out.append("frames dropped: " + against(*(_dropped(cell.data["stream"]) for cell in (base, other))))
    if made_up := {"random", "transferred"} & {cell.model.get("weights") for cell in (base, other)}:
        out.append(f"weights are {listed(sorted(made_up))}: what comes after inference has other boxes to handle than in use")
    if found.rounds == 1:
        out.append("one round only: the interval does not cover how rounds differ")
    return tuple(out)


def _dropped(stream: Mapping[str, Any]) -> str:
    return f"{stream['dropped']:,} of {stream['frames']:,}"


def _remarks(records: Mapping[str, Record]) -> tuple[str, ...]:
    return tuple(
        f"{name} is a partial record: {shown(record.get('partial_reason') or 'it does not say why', 200)}"
        for name, record in records.items()
        if record.get("partial")
    )
