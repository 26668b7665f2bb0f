"""Run `collect` on one source, and read what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.files import is_temporary
from pipeline.ledger import read as read_ledger
from pipeline.stage import Context
from pipeline.stages import collect


def params(source: str, seed: int = 0, **options: object) -> collect.Params:
    return collect.Params.model_validate({"source": source, "options": options, "seed": seed})


def run(source: str, out: Path, context: Context, seed: int = 0, **options: object) -> dict[str, Any]:
    return collect.run({}, params(source, seed, **options), out, context)


def fingerprint_of(source: str, context: Context, seed: int = 0, **options: object) -> str:
    """By which a run finds out whether there is anything to do."""
    return collect.external(params(source, seed, **options), context)["source files"]


def collected(out: Path) -> list[str]:
    """The paths of all files, sorted."""
    return sorted(path.relative_to(out / "files").as_posix() for path in (out / "files").rglob("*") if path.is_file())


def published(out: Path) -> list[str]:
    """Those that go into the version: temporary ones stay behind."""
    return [path for path in collected(out) if not is_temporary(path.rpartition("/")[2])]


def origins(out: Path) -> list[dict[str, Any]]:
    # By "\n" alone: `splitlines` would also break at what may stand in a name, such as U+2028.
    return [json.loads(line) for line in (out / "origins.jsonl").read_text(encoding="utf-8").split("\n") if line]


def reasons(out: Path) -> set[tuple[str, str]]:
    """(path, reason) of all entries of the ledger."""
    return {(entry.path, entry.reason) for entry in read_ledger(out)}
