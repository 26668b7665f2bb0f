"""What collect has already: `kept:NAME` is all that the newest version of collect with a source of that name holds of it.

`collect … --append` names the earlier sources so. They are not looked at again: a memory card may be gone, a camera shows
something else by now, and what a service would send today may differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError
from pipeline.ledger import Entry, Ledger
from pipeline.ledger import read as read_ledger
from pipeline.sources import ORIGINS, UNKNOWN, Fetched, Origin, read_rows
from pipeline.stage import JSON, Context, StageParams
from pipeline.store import Store, Version


class Options(StageParams):
    """What is kept has no options."""


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The files and where they came from, whichever version holds them."""
    return str(_find(location, context)[1]["digest"])


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    version, record = _find(location, context)
    inside = f"{record['folder']}/" if record["folder"] else ""
    origins = list(_origins(version, inside))
    with context.progress(f"link {location}", len(origins)) as advance:
        for origin in origins:
            files.link(version.path / "files" / inside / origin.path, out / origin.path)
            advance()
    ledger = Ledger()
    ledger.entries = list(_entries(version, record, inside))
    return Fetched(
        origins,
        license="" if record["license"] == UNKNOWN else record["license"],
        homepage=record["homepage"],
        description=record["description"],
        ledger=ledger,
        kind=record["source"],
        query=record["query"],
    )


def _find(name: str, context: Context) -> tuple[Version, JSON]:
    """The newest version with a source of this name, and what its manifest says of it."""
    store = Store(context.cache.parent, {"collect": "datasets"})
    for version in reversed(store.versions("collect")):
        for record in version.manifest["summary"].get("sources", ()):
            if record["name"] == name:
                return version, record
    raise DataError(
        f"collect.source: no version of collect has a source named '{name}'.",
        "`python -m pipeline versions collect` lists them, `show collect@vN` says what one holds.",
    )


def _origins(version: Version, inside: str) -> Iterator[Origin]:
    for row in read_rows(version.path / ORIGINS):
        if row["path"].startswith(inside):
            path, group = row["path"].removeprefix(inside), row["group"].removeprefix(inside)
            yield Origin(path, row["origin"], group, row["hash"], "" if row["license"] == UNKNOWN else row["license"])


def _entries(version: Version, record: JSON, inside: str) -> Iterator[Entry]:
    """The account of one source; the ledger of a version has those of its sources one after the other."""
    sources = version.manifest["summary"]["sources"]
    start = sum(before["entries"] for before in takewhile(lambda each: each["name"] != record["name"], sources))
    for entry in read_ledger(version.path)[start : start + record["entries"]]:
        path, file = entry.path.removeprefix(inside), entry.file.removeprefix(inside)
        yield Entry(entry.item, entry.action, entry.reason, path, file, entry.line, entry.detail)
