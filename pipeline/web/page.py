"""The whole page: one HTML file with everything in it, the same bytes for the same artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.version import Version
from pipeline.web import cautions, data, health, making, results, speed, text, training
from pipeline.web.artifacts import Artifact, number
from pipeline.wording import listed

JSON = dict[str, Any]

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("figure", "count", "percent", "size", "duration", "moment", "words", "value", "plural", "ms")


def render(
    folders: Mapping[str, Path],
    title: str,
    images: int,
    benchmarks: Sequence[Version] = (),
    warn: Callable[[str], object] = lambda text: None,
) -> str:
    """The page as HTML.

    Args:
        folders: the artifact of each stage by its name.
        title: heading; "" for one made of the classes.
        images: how many of the worst and of the best images are shown.
        benchmarks: of any models, oldest first; those of this one are shown.
        warn: is told of benchmarks that cannot be read.
    """
    artifacts = {stage: Artifact.open(stage, folder) for stage, folder in folders.items()}
    parts: JSON = {
        "data": data.part(artifacts),
        "health": health.part(artifacts),
        "training": training.part(artifacts["train"]),
        "results": results.part(artifacts, images),
        "speed": speed.part(artifacts["train"], benchmarks, warn),
        "making": making.part(artifacts),
    }
    found = cautions.find(artifacts, parts["data"], parts["results"], parts["making"])
    names = {stage: artifact.name for stage, artifact in artifacts.items()}
    page = environment().get_template("page.html.j2")
    html: str = page.render(
        title=title or _title(parts["data"]),
        names=names,
        cautions=found,
        tiles=_tiles(parts),
        **parts,
    )
    return html.rstrip() + "\n"


def environment() -> Any:
    """The templates of this folder; all text is escaped, and a name that is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,  # names of files and classes come from anywhere
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(text, name) for name in FILTERS}
    return environment


def _title(part: JSON) -> str:
    names = [row["name"] for row in part["classes"]]
    if not names:
        return "Detector report"
    return f"Detector of {', '.join(names[:3])}" + (f" and {len(names) - 3} more classes" if len(names) > 3 else "")


def _tiles(parts: JSON) -> list[JSON]:
    """The headline figures: name, figure, a line below, and limits of an interval."""
    metrics = parts["results"]["metrics"]
    tiles: list[JSON] = []
    for name, label in (("map50_95", "mAP50-95"), ("map50", "mAP50")):
        if number(metrics.get(name)) is not None:
            limits = results.interval(metrics, name)
            note = f"95 % CI {text.figure(limits[0])}–{text.figure(limits[1])}" if limits else f"95 % CI {text.DASH}"
            tiles.append(
                {"label": label, "figure": text.figure(metrics[name]), "note": note, "interval": limits, "at": metrics[name]}
            )
    if number(metrics.get("f1")) is not None:
        note = f"precision {text.figure(metrics.get('precision'), 2)}, recall {text.figure(metrics.get('recall'), 2)}"
        tiles.append({"label": "F1", "figure": text.figure(metrics["f1"]), "note": note})
    if parts["results"]["confidence"] is not None:
        tiles.append({"label": "Use confidence", "figure": text.figure(parts["results"]["confidence"]), "note": "see how below"})
    return tiles + _verdicts(parts)


def _verdicts(parts: JSON) -> list[JSON]:
    """Tiles that say whether the exports and the split can be trusted."""
    tiles: list[JSON] = []
    exports = parts["results"]["exports"]
    if exports:
        made = [row for row in exports if row["ok"]]
        drops = [drop for row in made if (drop := number(row.get("map_drop"))) is not None]
        worst = max(drops, default=0.0)
        note = "no mAP lost" if worst < 0.00005 else f"largest mAP loss {text.figure(worst, 4)}"
        note = note if drops else "agreement was checked"
        tiles.append(
            {"label": "Exports", "figure": f"{len(made)} of {len(exports)}", "note": note, "good": len(made) == len(exports)}
        )
    leakage = parts["data"]["leakage"]
    if leakage:
        tiles.append(_leakage_tile(leakage["into"], leakage["held_out"]))
    return tiles


def _leakage_tile(into: list[str], held_out: list[JSON]) -> JSON:
    """Whether val and test are new; neither good nor bad where images look alike that the split does not take for duplicates."""
    if into:
        clean = [row["side"] for row in held_out if row["side"] not in into]
        note = f"into {listed(into)}" + (f"; {clean[0]} is not touched" if clean else "")
        return {"label": "Leakage", "figure": "found", "note": note, "good": False}
    if alike := [row["side"] for row in held_out if row["alike"]]:
        return {"label": "Leakage", "figure": "maybe", "note": f"images of {listed(alike)} look like others"}
    sides = listed(["train", *(row["side"] for row in held_out)])
    return {"label": "Leakage", "figure": "none", "note": f"between {sides}", "good": True}
