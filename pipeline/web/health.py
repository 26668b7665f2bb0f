"""The part of the page about the health of the data: what `check` finds without opening images, and where the model disagrees."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.health import findings as table
from pipeline.health import model, opinions
from pipeline.health.examine import examine_tables
from pipeline.health.findings import Finding
from pipeline.health.opening import Subject
from pipeline.health.pictures import draw, is_plot
from pipeline.ledger import Entry
from pipeline.stage import Context
from pipeline.web import pictures
from pipeline.web.artifacts import Artifact

JSON = dict[str, Any]

STAGES = ("annotate", "preprocess", "split")
"""Whose ledgers tell what was wrong with the labels and images."""
PICTURES = 8
"""At most so many pictures of errors and warnings; statistics have theirs besides."""
ITEMS = 3


def part(artifacts: Mapping[str, Artifact]) -> JSON | None:
    """Findings by severity, with pictures; None where the split cannot be read."""
    split = artifacts["split"]
    if split.dataset is None:
        return None
    entries = [entry for stage in STAGES for entry in _entries(artifacts[stage])]
    found = [*examine_tables(split.dataset, entries), *_disagreements(artifacts)]
    subject = Subject(split.name, split.dataset, split.folder / "images", entries)
    with tempfile.TemporaryDirectory() as temporary:
        drawn = draw(_worth_a_picture(found), subject, [float("nan")] * len(split.dataset.images), Path(temporary), Context())
        shown = {one.code: pictures.chart(Path(temporary) / one.picture, one.title) for one in drawn if one.picture}
    rows = [
        {
            **asdict(one),
            "items": [item.told() for item in one.items[:ITEMS]],
            "chart": shown.get(one.code),
            "is_plot": is_plot(one.code),
        }
        for one in found
    ]
    return {
        "counts": table.counts(found),
        "told": [row for row in rows if row["severity"] != "info"],
        "notes": [row for row in rows if row["severity"] == "info"],
    }


def _entries(artifact: Artifact) -> Iterator[Entry]:
    for line in artifact.lines("ledger.jsonl"):
        try:
            yield Entry(**line)
        except TypeError:
            continue  # a damaged line; what can be shown is shown


def _disagreements(artifacts: Mapping[str, Artifact]) -> list[Finding]:
    """Likely label errors, by what evaluate found on its side of the split."""
    dataset = artifacts["split"].dataset
    try:
        return model.check(dataset, opinions.of_table(artifacts["evaluate"].folder, dataset)) if dataset else []
    except DataError:
        return []  # no table of detections: that part of the page is left out


def _worth_a_picture(found: list[Finding]) -> list[Finding]:
    told = [one for one in found if one.severity != "info"][:PICTURES]
    return told + [one for one in found if one.severity == "info"]
