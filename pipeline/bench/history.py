"""One machine over time: what became slower, by how much, and what was installed in between.

Each cell is followed through the records that hold it, in the order they were made, and held against the one before and against
the fastest ever. The fastest of many is partly luck, and a small loss is no news: a regression is flagged where the whole
interval of the slowdown lies above 1 by more than a threshold. That nothing changed is said only where the whole interval lies
within the threshold; of the others, that it cannot be told.

Records of another machine, of other inputs or by another method than the newest are left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.bench import END_TO_END
from pipeline.bench.cells import Cell, LeftOut, Record, cells_of, hardware, ratio, shown, usable
from pipeline.bench.compare import differing
from pipeline.bench.statistics import Ratio
from pipeline.errors import DataError

Change = Literal["", "slower", "faster", "none", "unclear"]

THRESHOLD = 0.05
MOST_CHANGES = 6
REMEDY = "more rounds make intervals narrower (benchmark.max_uncertainty, benchmark.max_rounds, and no --quick)"


@dataclass(frozen=True)
class Point:
    """A cell as one record measured it.

    Attributes:
        ms, interval_ms: per image, and its 95 % interval.
        slowdown: its time by that of the point before; None for the first.
        slowdown_to_best: its time by that of the fastest point before; None for the first.
        change: "slower" or "faster" beyond the threshold, "none" within it, "unclear"; "" for the first.
        told: that as a sentence.
    """

    record: str
    created_at: str
    ms: float
    interval_ms: tuple[float, float] | None
    slowdown: Ratio | None
    slowdown_to_best: Ratio | None
    change: Change
    told: str


@dataclass(frozen=True)
class Trend:
    """One cell over time, the oldest point first."""

    title: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class History:
    """Trends of at least two points, cells that say nothing of time, and records left out with the reason."""

    phase: str
    threshold: float
    trends: tuple[Trend, ...]
    left_out: tuple[LeftOut, ...]
    records_left_out: Mapping[str, tuple[str, ...]]

    @property
    def regressions(self) -> list[tuple[Trend, Point]]:
        """What the newest point of a trend lost; earlier losses stand in their points."""
        return [(trend, trend.points[-1]) for trend in self.trends if trend.points[-1].change == "slower"]

    @property
    def unclear(self) -> list[Trend]:
        """Those whose newest point may be slower or faster beyond the threshold, or neither."""
        return [trend for trend in self.trends if trend.points[-1].change == "unclear"]


def follow(records: Mapping[str, Record], phase: str = END_TO_END, threshold: float = THRESHOLD, seed: int = 0) -> History:
    """The history of each cell in records of one machine.

    Args:
        records: by their names (`cells.named`), in any order.
        phase: whose times are followed.
        threshold: slowdown that is no news, as a share: 0.05 for 5 %.

    Raises:
        DataError: fewer than two records that can be held against each other.
    """
    ordered = sorted(records.items(), key=lambda item: (item[1]["created_at"], item[0]))
    newest = ordered[-1]
    reasons = {name: tuple(_unlike(newest, (name, record), phase)) for name, record in ordered}
    excluded = {name: found for name, found in reasons.items() if found}
    kept = {name: record for name, record in ordered if name not in excluded}
    if len(kept) < 2:
        raise DataError(
            "A history needs two records of one machine, measured alike",
            "Run `benchmark` again with the same settings.",
            [f"{name}: {reason}" for name, found in excluded.items() for reason in found],
        )
    followed: dict[Hashable, list[Cell]] = {}
    left_out: list[LeftOut] = []
    for name, record in kept.items():
        good, bad = usable(cells_of(name, record), phase)
        left_out += bad
        for cell in good:
            followed.setdefault((cell.title(), cell.weights_hash), []).append(cell)
    alone = [LeftOut.of(cells[0], "once", ["measured in no other record"]) for cells in followed.values() if len(cells) == 1]
    trends = [_trend(cells, kept, phase, threshold, seed) for cells in followed.values() if len(cells) > 1]
    return History(phase, threshold, tuple(trends), (*left_out, *alone), excluded)


def as_json(history: History) -> dict[str, Any]:
    """What `--json` prints."""

    def of_ratio(found: Ratio | None) -> dict[str, Any] | None:
        return None if found is None else {"value": found.value, "ci95": [found.low, found.high]}

    return {
        "phase": history.phase,
        "threshold": history.threshold,
        "trends": [
            {
                "title": trend.title,
                "points": [
                    vars(point) | {"slowdown": of_ratio(point.slowdown), "slowdown_to_best": of_ratio(point.slowdown_to_best)}
                    for point in trend.points
                ],
            }
            for trend in history.trends
        ],
        "left_out": [cell.as_json() for cell in history.left_out],
        "records_left_out": {name: list(reasons) for name, reasons in history.records_left_out.items()},
    }


def _unlike(newest: tuple[str, Record], record: tuple[str, Record], phase: str) -> list[str]:
    now, then = hardware(newest[1]), hardware(record[1])
    other_machine = [
        f"another {part}: {then[part] or 'none'}, not {now[part] or 'none'}" for part in now if now[part] != then[part]
    ]
    return other_machine or differing(newest, record, phase)


def _trend(cells: list[Cell], records: Mapping[str, Record], phase: str, threshold: float, seed: int) -> Trend:
    points: list[Point] = []
    best = before = cells[0]
    limit = 1 + threshold
    for cell in cells:
        measured = cell.record, str(records[cell.record]["created_at"]), cell.typical_ms(phase), cell.interval_ms(phase, seed)
        if not points:
            points.append(Point(*measured, None, None, "", ""))
            continue
        slowdown = ratio(cell, before, phase, seed)
        to_best = slowdown if best is before else ratio(cell, best, phase, seed)
        changes = _changes(records[before.record], records[cell.record])
        change: Change = "unclear"
        told = f"cannot be told: {slowdown.low:.2f} to {slowdown.high:.2f} times what it took in {before.record}"
        if slowdown.low > limit:
            change, told = "slower", f"{_told(slowdown)} slower than in {before.record}{changes}"
        elif to_best.low > limit:
            change, told = "slower", f"{_told(to_best)} slower than at its best, in {best.record}"
        elif slowdown.high < 1 / limit:
            change, told = "faster", f"{_told(slowdown.inverse())} faster than in {before.record}{changes}"
        elif 1 / limit <= slowdown.low and slowdown.high <= limit:
            change, told = "none", f"no change beyond {threshold:.0%}"
        points.append(Point(*measured, slowdown, to_best, change, told))
        before = cell
        best = min(best, cell, key=lambda each: each.typical_ms(phase))
    return Trend(cells[0].title(), tuple(points))


def _told(found: Ratio) -> str:
    return f"{found.value:.2f}× [{found.low:.2f}, {found.high:.2f}]"


def _changes(then: Record, now: Record) -> str:
    """What was installed or set in between, as the end of a sentence."""
    before, after = _surroundings(then), _surroundings(now)
    changed = [name for name in dict.fromkeys((*after, *before)) if before.get(name) != after.get(name)]
    if not changed:
        return ""
    told = [f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}" for name in changed[:MOST_CHANGES]]
    rest = f" and {len(changed) - MOST_CHANGES} more" if len(changed) > MOST_CHANGES else ""
    return f"; since then {', '.join(told)}{rest}"


def _surroundings(record: Record) -> dict[str, str]:
    software = record["software"]
    known = {"Python": software.get("python"), **(software.get("packages") or {}), **(software.get("environment") or {})}
    return dict(_flat("", known)) | dict(_flat("", record["machine"]))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name} {key}".strip(), inner)
    else:
        yield shown(name, 40), shown(value, 40)
