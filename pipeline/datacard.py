"""The data card: what a version of a data set is, where it comes from, and what is known to be wrong with it, in Markdown.

The sections follow the questions of T. Gebru et al., "Datasheets for Datasets", 2018, https://arxiv.org/abs/1803.09010, as far as
a program can answer them. Whatever users or label files wrote is text here: it cannot break a table, nor become markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import files
from pipeline.dataset import SPLITS, Dataset
from pipeline.health.examine import examine_tables
from pipeline.health.findings import Finding
from pipeline.ledger import Entry
from pipeline.wording import plural

FILE_NAME = "CARD.md"
ORIGIN = "origin.json"

UNKNOWN = "unknown"
MOST_CLASSES = 200
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])")


def read_origin(folder: Path) -> dict[str, Any]:
    """Where the images come from, as a version of collect or annotate says; empty where it does not."""
    for name in (ORIGIN, "source.json"):
        path = folder / name
        if path.exists():
            facts = json.loads(path.read_text(encoding="utf-8"))
            return facts if isinstance(facts, dict) else {}
    return {}


def write_card(
    out: Path, dataset: Dataset, facts: Mapping[str, object], entries: Sequence[Entry], alike: NDArray[np.int64] | None = None
) -> None:
    """Write the card of a stage's version, and the facts on its origin for the cards further down.

    Args:
        entries: the ledgers of the version and of those above it: what was wrong with the labels.
        alike: see `examine_tables`.
    """
    files.write_text(out / ORIGIN, json.dumps(dict(facts), ensure_ascii=False, indent=1) + "\n")
    files.write_text(out / FILE_NAME, write(dataset, facts, examine_tables(dataset, entries, alike)))


def write(dataset: Dataset, facts: Mapping[str, object], findings: Sequence[Finding]) -> str:
    """The card of a data set.

    Args:
        facts: what is known of its origin, in the order in which it is shown: `source`, `license`, `homepage`, `format` …
            Values are shown as text; empty ones are left out, but a missing licence is told.
    """
    parts = [
        "# Data card",
        _origin(facts),
        _counts(dataset),
        "## Classes",
        "\n".join(_classes(dataset)),
        *_splits(dataset),
        "## Known problems",
        _findings(findings),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: object) -> str:
    """Text that Markdown shows as it is within a line: every character that could begin markup there is escaped.

    Source: https://github.github.com/gfm, 2.4 and 6.
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _linked(value: object) -> str:
    """A web address as a link that shows where it leads, all else as plain text."""
    return f"<{value}>" if re.fullmatch(r"https?://[^\s<>|\\`]+", str(value)) else plain(value)


def _origin(facts: Mapping[str, object]) -> str:
    known = {key: value for key, value in facts.items() if value not in ("", None) and key != "sources"}
    known.setdefault("license", UNKNOWN)
    names = {"license": "licence"}
    rows = [(names.get(key, key).replace("_", " "), _linked(value)) for key, value in known.items()]
    return "\n".join([*_table(("origin", ""), rows), *_sources(facts.get("sources"))])


def _sources(sources: object) -> Iterator[str]:
    """A row a source, where collect has several."""
    if isinstance(sources, list):
        rows = [tuple(_linked(each.get(key) or "") for key in ("name", "license", "homepage", "description")) for each in sources]
        yield ""
        yield from _table(("source", "licence", "homepage", ""), rows)


def _counts(dataset: Dataset) -> str:
    sizes = dataset.images[["width", "height"]].value_counts()
    images, boxes = plural(len(dataset.images), "image"), plural(len(dataset.boxes), "box", "boxes")
    classes = plural(len(dataset.class_names), "class", "classes")
    numbers = [f"{images}, {boxes}, {classes}; {dataset.background():,} without a box."]
    if len(sizes) == 1:
        width, height = sizes.index[0]
        numbers.append(f"All images are {width} x {height} px.")
    elif len(sizes):
        low, high = dataset.images[["width", "height"]].min(), dataset.images[["width", "height"]].max()
        numbers.append(f"Images are {low['width']} to {high['width']} px wide and {low['height']} to {high['height']} px high.")
    return " ".join(numbers)


def _classes(dataset: Dataset) -> Iterator[str]:
    boxes = list(dataset.boxes_per_class().values())
    pairs = np.unique(dataset.boxes[["class_id", "image"]].to_numpy(), axis=0)
    images = np.bincount(pairs[:, 0], minlength=len(dataset.class_names)).tolist()
    total = max(1, len(dataset.boxes))
    rows = [
        (str(number), plain(name), f"{boxes[number]:,}", f"{boxes[number] / total:.1%}", f"{images[number]:,}")
        for number, name in enumerate(dataset.class_names)
    ]
    yield from _table(("id", "class", "boxes", "share", "images"), rows[:MOST_CLASSES])
    if len(rows) > MOST_CLASSES:
        yield f"\n… and {len(rows) - MOST_CLASSES:,} more; `classes.json` has them all."


def _splits(dataset: Dataset) -> Iterator[str]:
    rows = []
    for name in SPLITS:
        part = dataset.of_split(name)
        number = len(part.images)
        if number:
            share = f"{number / len(dataset.images):.1%}"
            groups = f"{part.images['group_id'].nunique():,}"
            rows.append((name, f"{number:,}", share, f"{len(part.boxes):,}", groups))
    if rows:
        yield "## Splits"
        yield "\n".join(_table(("split", "images", "share", "boxes", "groups"), rows))


def _findings(findings: Sequence[Finding]) -> str:
    told = [found for found in findings if found.severity != "info"]
    if not told:
        return "None that the checks know of."
    rows = [(found.severity, f"`{found.code}`", f"{found.count:,}", plain(found.title), plain(found.detail)) for found in told]
    table = _table(("severity", "code", "count", "what", "detail"), rows)
    return "\n".join([*table, "", "`python -m pipeline check` tells which images and boxes, and what to do."])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
