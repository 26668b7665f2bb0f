"""What collect has already: `kept:NAME@DIGEST` is what a version of collect holds of a source of that name.

`collect … --append` names the earlier sources so. They are not looked at again: a memory card may be gone, a camera shows
something else by now, and what a service would send today may differ. The digest, of which eight characters do, is that of the
files and of where they came from, as `show collect` tells it; so it never means another source that is called alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from pipeline import files
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Entry, Ledger
from pipeline.ledger import read as read_ledger
from pipeline.sources import ORIGINS, UNKNOWN, Fetched, Origin
from pipeline.stage import JSON, Context, StageParams
from pipeline.store import Store, Version

SHORT = 8


class Options(StageParams):
    """What is kept has no options."""


def location_of(record: JSON) -> str:
    """How `kept:` names a source that a manifest has a record of."""
    return f"{record['name']}@{record['digest'][:SHORT]}"


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The files and where they came from, whichever version holds them."""
    return str(_find(location, context)[1]["digest"])


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    version, record = _find(location, context)
    fetched = take(version.path, version.manifest["summary"]["sources"], record, out, context)
    return replace(fetched, license="" if record["license"] == UNKNOWN else record["license"])


def take(folder: Path, sources: Sequence[JSON], record: JSON, out: Path, context: Context) -> Fetched:
    """Link what a version in `folder` holds of one of its `sources` to `out`.

    Raises:
        FileNotFoundError: a file of it is gone.
    """
    inside = f"{record['folder']}/" if record["folder"] else ""
    origins = list(_origins(folder, inside, record["license"]))
    with context.progress(f"link {record['name']}", len(origins)) as advance:
        for origin in origins:
            files.link(folder / "files" / inside / origin.path, out / origin.path)
            advance()
    return Fetched(
        origins,
        license=record["stated_license"],
        homepage=record["homepage"],
        description=record["description"],
        ledger=Ledger(_entries(folder, sources, record, inside)),
        kind=record["source"],
        query=record["query"],
    )


def _find(location: str, context: Context) -> tuple[Version, JSON]:
    """The newest version that holds what is meant, and what its manifest says of it."""
    name, at, digest = location.rpartition("@")
    if not at or len(digest) < SHORT:
        raise ParamsError(
            f"collect.source: 'kept:{location}' does not say which files: a name is followed by @ and a digest.",
            "`python -m pipeline show collect` tells the digest of each source.",
        )
    store = Store(context.cache.parent, {"collect": "datasets"})
    for version in store.newest_first("collect"):
        for record in version.manifest["summary"].get("sources", ()):
            if record["name"] == name and record["digest"].startswith(digest):
                return version, record
    raise DataError(
        f"collect.source: no version of collect holds what 'kept:{location}' means.",
        "`python -m pipeline versions collect` lists the versions, `show collect@vN` the sources of one.",
    )


def _origins(folder: Path, inside: str, common_license: str) -> Iterator[Origin]:
    for row in files.read_json_lines(folder / ORIGINS):
        if row["path"].startswith(inside):
            path, group = row["path"].removeprefix(inside), row["group"].removeprefix(inside)
            own = "" if row["license"] == common_license else row["license"]
            yield Origin(path, row["origin"], group, row["hash"], own)


def _entries(folder: Path, sources: Sequence[JSON], record: JSON, inside: str) -> Iterator[Entry]:
    """The account of one source; the ledger of a version has those of its sources one after the other."""
    start = sum(before["entries"] for before in takewhile(lambda each: each["name"] != record["name"], sources))
    for entry in read_ledger(folder)[start : start + record["entries"]]:
        yield replace(entry, path=entry.path.removeprefix(inside), file=entry.file.removeprefix(inside))
