"""Comparison, history and recommendation as one HTML page with everything in it, in the style of the report.

All text of records is from other machines: the templates escape it, and the page may load or run nothing (its content security
policy says so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.bench import END_TO_END, PHASES, pictures
from pipeline.bench.cells import Cell, Record, cells_of, hardware, shown
from pipeline.bench.compare import Comparison, Row
from pipeline.bench.history import REMEDY, History, Trend
from pipeline.bench.recommend import Recommendation, asked
from pipeline.web import charts
from pipeline.web.page import environment
from pipeline.web.pictures import Photo, chart
from pipeline.web.text import DASH
from pipeline.wording import listed, plural

JSON = dict[str, Any]

NAME = "index.html"
MOST_TILES = 8
MOST_CHARTS = 24
LARGEST_PICTURE_BYTES = 1_000_000
_LONGEST_FACT = 300


def write(
    out: Path,
    title: str,
    comparison: Comparison | None = None,
    history: History | None = None,
    recommendation: Recommendation | None = None,
) -> Path:
    """Write the pictures as PNG files and the page that holds them into the folder `out`; returns the page's path.

    Args:
        title: heading of the page.
        comparison, history, recommendation: the parts it has; at least one.
    """
    out.mkdir(parents=True, exist_ok=True)
    html: str = (
        environment()
        .get_template("benchmark.html.j2")
        .render(
            title=title,
            comparison=_comparison(comparison, out) if comparison else None,
            history=_history(history) if history else None,
            recommendation=_recommendation(recommendation, out) if recommendation else None,
        )
    )
    path = out / NAME
    files.write_text(path, html.rstrip() + "\n")
    return path


# ---------------------------------------------------------------- comparison


def _comparison(comparison: Comparison, out: Path) -> JSON:
    base, *others = comparison.records
    unlike = list(dict.fromkeys(reason for row in (*comparison.rows, *comparison.best) for reason in row.unlike))
    return {
        "base": base,
        "others": listed(others),
        "several": len(others) > 1,
        "phase": _words(comparison.phase),
        "tiles": _tiles(comparison.best or comparison.rows),
        "rows": comparison.rows,
        "best": comparison.best,
        "left_out": comparison.left_out,
        "remarks": comparison.remarks,
        "unlike": unlike,
        "machines": [_machine(name, record) for name, record in comparison.records.items()],
        "phases": [
            _phases(cell) for name, record in comparison.records.items() for cell in cells_of(name, record) if cell.is_valid
        ],
        "phase_names": [_words(phase) for phase in PHASES],
        "ratios": _ratios(out / "ratios.png", comparison.rows, "Like with like"),
        "best_ratios": _ratios(out / "best.png", comparison.best, "The best of each machine"),
        "distributions": _distributions(out / "distributions.png", comparison),
    }


def _tiles(rows: Sequence[Row]) -> list[JSON]:
    tiles = []
    for row in rows[:MOST_TILES]:
        told = row.ratio if row.ratio.value >= 1 else row.ratio.inverse()
        word = "faster" if row.ratio.value > 1 else "slower"
        word = "no difference" if row.ratio.is_noise else f"{row.other.record} {word}"
        figure = "≈ 1×" if row.ratio.is_noise else f"{told.value:.1f}×"
        tiles.append(
            {
                "label": row.base.title("task", "precision"),
                "figure": figure,
                "note": f"{word}, {told.low:.2f}× to {told.high:.2f}×",
            }
        )
    return tiles


def _machine(name: str, record: Record) -> JSON:
    software = record.get("software") or {}
    packages: Mapping[str, Any] = software.get("packages") or {}
    machine: Mapping[str, Any] = record.get("machine") or {}
    return {
        "name": name,
        "hardware": {part: text for part, text in hardware(record).items() if text},
        "created_at": record.get("created_at"),
        "python": shown(software.get("python", DASH)),
        "tool": shown(record.get("tool", DASH)),
        "packages": ", ".join(f"{shown(package, 40)} {shown(version, 40)}" for package, version in sorted(packages.items())),
        "details": {shown(key): _fact(value) for key, value in machine.items() if value not in (None, "", [], {})},
    }


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return shown(", ".join(f"{key}: {_fact(item)}" for key, item in value.items()), _LONGEST_FACT)
    if isinstance(value, list):
        return shown(", ".join(_fact(item) for item in value), _LONGEST_FACT)
    return shown(value, _LONGEST_FACT)


def _phases(cell: Cell) -> JSON:
    known: Mapping[str, Any] = cell.data.get("phases") or {}
    return {
        "record": cell.record,
        "title": cell.title(),
        "p50": [(known.get(phase) or {}).get("p50_ms") for phase in PHASES],
        "p99": (known.get(END_TO_END) or {}).get("p99_ms"),
        "images_per_s": cell.data.get("images_per_s"),
        "memory_mib": cell.data.get("memory_peak_mib"),
    }


def _ratios(path: Path, rows: Sequence[Row], title: str) -> JSON | None:
    if not rows:
        return None
    rest = pictures.ratios(path, rows, title)
    said = "; ".join(f"{row.title}: {row.verdict}" for row in rows[: pictures.MOST_BARS])
    return _plate(path, f"{title}. {said}", rest)


def _distributions(path: Path, comparison: Comparison) -> JSON | None:
    rows = comparison.rows or comparison.best
    rest = pictures.distributions(path, rows, comparison.phase)
    return _plate(path, "Share of images that took at most so long, for each pair; p50 and p99 are in the tables", rest)


def _plate(path: Path, alt: str, rest: int = 0) -> JSON | None:
    picture: Photo | None = chart(path, alt, LARGEST_PICTURE_BYTES)
    return (
        {"picture": picture, "rest": f"{plural(rest, 'row')} more did not fit into the picture." if rest else ""}
        if picture
        else None
    )


def _words(phase: str) -> str:
    return phase.replace("_", " ")


# ---------------------------------------------------------------- history and recommendation


def _history(history: History) -> JSON:
    return {
        "phase": _words(history.phase),
        "threshold": history.threshold,
        "regressions": history.regressions,
        "unclear": len(history.unclear),
        "remedy": REMEDY,
        "trends": history.trends,
        "charts": [_chart(trend) for trend in history.trends[:MOST_CHARTS]],
        "left_out": history.left_out,
        "records_left_out": history.records_left_out,
    }


def _chart(trend: Trend) -> charts.LineChart:
    runs = [float(number) for number in range(1, len(trend.points) + 1)]
    name, points = "ms per image", trend.points
    whiskers = {name: [point.interval_ms for point in points]}
    return charts.line_chart(trend.title, runs, {name: [point.ms for point in points]}, whiskers=whiskers)


def _recommendation(recommendation: Recommendation, out: Path) -> JSON:
    path = out / "pareto.png"
    alt = "mAP against latency; the front: " + "; ".join(
        f"{each.cell.title('model', 'runtime', 'precision')} {each.latency_ms:.1f} ms, mAP {each.map50_95:.3f}"
        for each in recommendation.front
    )
    return {
        "task": recommendation.task,
        "asked": asked(recommendation.wish),
        "summary": recommendation.summary,
        "is_met": recommendation.chosen is not None,
        "chosen": recommendation.chosen,
        "candidates": [
            {"at": each, "is_chosen": each is recommendation.chosen, "is_on_front": each in recommendation.front}
            for each in recommendation.candidates
        ],
        "plate": _plate(path, alt) if pictures.pareto(path, recommendation) else None,
        "left_out": recommendation.left_out,
    }
