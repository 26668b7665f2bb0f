"""Reading finished artifacts for a reader: whatever is missing or damaged is None, and that part of the page is left out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.dataset import Dataset
from pipeline.errors import ArtifactError

JSON = dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """The folder of one finished stage.

    Attributes:
        manifest: `manifest.json`; empty when there is none.
    """

    stage: str
    folder: Path
    manifest: JSON

    @classmethod
    def open(cls, stage: str, folder: Path) -> Artifact:
        return cls(stage, folder, as_dict(read_json(folder / "manifest.json")))

    @property
    def name(self) -> str:
        """`train@v3`, or the stage alone when the folder was never published."""
        version = self.manifest.get("version")
        return f"{self.stage}@v{version}" if version else self.stage

    @property
    def summary(self) -> JSON:
        return as_dict(self.manifest.get("summary"))

    @property
    def params(self) -> JSON:
        return as_dict(dig(self.manifest, "recipe.params"))

    @cached_property
    def dataset(self) -> Dataset | None:
        try:
            return Dataset.load(self.folder)
        except ArtifactError:
            return None

    def json(self, name: str) -> Any:
        return read_json(self.folder / name)

    def lines(self, name: str) -> Iterator[JSON]:
        """The objects of a JSON-lines file, one at a time: a ledger can be long."""
        try:
            with (self.folder / name).open(encoding="utf-8") as stream:
                for line in stream:
                    yield as_dict(json.loads(line))
        except (OSError, ValueError):
            return

    def rows(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file by its header."""
        try:
            with (self.folder / name).open(encoding="utf-8", newline="") as stream:
                return [
                    {(key or "").strip(): (value or "").strip() for key, value in row.items()} for row in csv.DictReader(stream)
                ]
        except (OSError, ValueError, AttributeError, csv.Error):
            return []

    def place(self, *parts: str) -> str:
        """The path of a file as a user types it in the workspace: `runs/train/v3/weights/best.pt`."""
        return "/".join((*self.folder.parts[-3:], *parts))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def as_dict(value: object) -> JSON:
    return value if isinstance(value, dict) else {}


def dig(values: Mapping[str, Any], path: str) -> Any:
    """`dig(manifest, "recipe.params.seed")`; None where the way ends."""
    found: Any = values
    for key in path.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return None
        found = found[key]
    return found


def number(value: object) -> float | None:
    """A finite number, also from the text of a CSV; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except ValueError:
        return None
    return result if math.isfinite(result) else None
