"""A version of a Roboflow project: `roboflow:workspace/project/3`, or the link to its page on Roboflow Universe.

https://docs.roboflow.com/datasets/versions/dataset-versions/exporting-data (needs a key and the extra `roboflow`).

The default format is COCO. Of the exports that Roboflow offers it says most: each image with its size, those without a box
too; all classes in their order, used or not; the licence; polygons marked as such, which YOLO's rows mix with boxes. The split
is the folder: train, valid, test.

A version never changes, so what was once downloaded is kept in the cache, with its hash, and used without a network. An
archive that broke off is gone on with, also when the command is given again.

Roboflow multiplies photos (augmentation) and cuts videos into frames. The names tell, and copies of one photo or frames of one
video become a group, so that no split parts them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from pipeline import files
from pipeline import fingerprint as fingerprints
from pipeline.errors import ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import is_image
from pipeline.sources import Fetched, Origin
from pipeline.sources._roboflow_api import Query, Service, connect, without_key
from pipeline.sources._roboflow_export import download, prepare
from pipeline.sources._unpacking import blaming, unpack
from pipeline.stage import JSON, Context, StageParams
from pipeline.wording import one_line

LINKS = ("https://universe.roboflow.com/", "https://app.roboflow.com/", "https://app.roboflow.eu/")
"""How the address of a version's page begins; such an address is a location too."""

_LOCATION = re.compile(r"(?P<workspace>[\w-]+)/(?P<project>[\w-]+)(?:/(?:dataset|model))?/(?P<version>\d{1,6})", re.ASCII)
_LICENSE = re.compile(r"^License: *(\S.*)$", re.MULTILINE)
_COPY = re.compile(r"(?P<photo>.+)\.rf\.[\w-]{8,}\.\w+", re.ASCII | re.DOTALL)
_FRAME = re.compile(r"(?P<video>.+_(?:mp4|mov|avi|mkv|webm|m4v))-\d+(?:_\w+)?", re.IGNORECASE | re.DOTALL)


class Options(StageParams):
    """`format`: the kind of export. `overwrite_cache`: download again. `wait_minutes`: for an export that is not made yet."""

    format: str = Field(default="coco", pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="coco, yolov8, voc, createml …")
    overwrite_cache: bool = Field(default=False, description="download again what was downloaded before")
    wait_minutes: float = Field(default=30, gt=0, description="how long Roboflow may take to make the export")


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query. Roboflow freezes versions, so the same query brings the same files, and no network is needed to know that."""
    query = parse(location, options)
    return f"roboflow 1, {query}, {query.format}"


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    query = parse(location, options)
    target = context.cache / "roboflow" / query.workspace / f"{query.project}-{query.version}-{query.format}.zip"
    record = None if options.overwrite_cache else _cached(target)
    if record is None:
        with connect(context, query.workspace) as service:
            answer = prepare(service, query, 60 * options.wait_minutes, context)
            record = _describe(service, query, answer)
            record["hash"] = download(service, answer, query, target, context)
        files.write_text(_sidecar(target), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    ledger = Ledger()
    hint = "Run again: it is downloaded anew. If that does not help, try another collect.options.format."
    with blaming(f"Roboflow's export of {query} cannot be used: ", _sidecar(target), hint):
        unpacked = unpack(target, out, context, ledger)
    return Fetched(
        _origins(unpacked, f"roboflow:{query}/{query.format}"),
        license=record["license"] or _license(out),
        homepage=record["homepage"],
        description=record["description"],
        ledger=ledger,
    )


def parse(location: str, options: Options) -> Query:
    """The query that a location means.

    Args:
        location: "workspace/project/3", or the address of the page of a version.

    Raises:
        ParamsError: it is neither, or names no version.
    """
    short = next((location.removeprefix(link) for link in LINKS if location.startswith(link)), location)
    path = re.split("[?#]", short, maxsplit=1)[0].strip().strip("/")
    path = re.sub(r"/(download|images|browse|health)(/.*)?$", "", path)  # pages of a version beside its own
    found = _LOCATION.fullmatch(path)
    if not found or not int(found["version"]):
        raise ParamsError(
            f"collect.source: '{location}' is not a version of a Roboflow project.",
            "Write roboflow:workspace/project/3, or the address of the version's page, "
            "such as https://universe.roboflow.com/workspace/project/dataset/3.",
        )
    return Query(found["workspace"], found["project"], int(found["version"]), options.format)


# ---- what was downloaded before


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _cached(target: Path) -> dict[str, str] | None:
    """What is known of an archive that was downloaded whole; None when there is none, or not as it was written."""
    try:
        record = json.loads(_sidecar(target).read_text(encoding="utf-8"))
        known = {name: str(record[name]) for name in ("license", "homepage", "description", "hash")}
        return known if fingerprints.of_file(target) == known["hash"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _describe(service: Service, query: Query, answer: JSON) -> dict[str, str]:
    """Licence, homepage and description as the service tells them; its texts are cleaned, for they are a stranger's."""
    project, version = (value if isinstance(value := answer.get(name), dict) else {} for name in ("project", "version"))

    def text(about: JSON, name: str) -> str:
        return without_key(str(about.get(name) or ""), service.key)

    # The pages of other regions and of Universe lie on other hosts than the API.
    european = service.host.endswith(".eu")
    page = f"{LINKS[2] if european else LINKS[1]}{query}"
    if project.get("public") is not False and not european:
        page = f"{LINKS[0]}{query.workspace}/{query.project}/dataset/{query.version}"
    title = text(project, "name") or query.project
    named = f" ({text(version, 'name')})" if text(version, "name") else ""
    return {
        "license": text(version, "license") or text(project, "license"),
        "homepage": page,
        "description": f"version {query.version}{named} of the Roboflow project '{title}'",
    }


# ---- what is in it


def _origins(unpacked: list[Origin], source: str) -> list[Origin]:
    """Where each file came from, and which images come from one photo or video."""
    groups = {origin.path: _group(origin.path) for origin in unpacked if is_image(origin.path)}
    sizes = Counter(groups.values())
    return [
        replace(
            origin,
            origin=f"{source}:{origin.origin.partition(':')[2]}",  # as it stands in the archive
            group=groups[origin.path] if sizes[groups.get(origin.path, "")] > 1 else "",
        )
        for origin in unpacked
    ]


def _group(path: str) -> str:
    """`clip_mp4-12_jpg.rf.<hash>.jpg` → `clip_mp4`, `photo_jpg.rf.<hash>.jpg` → `photo_jpg`, any other name as it is."""
    name = path.rpartition("/")[2]
    copy = _COPY.fullmatch(name)
    if not copy:
        return path
    frame = _FRAME.fullmatch(copy["photo"])
    return frame["video"] if frame else copy["photo"]


def _license(out: Path) -> str:
    """The licence in the README that Roboflow puts into every export."""
    try:
        with (out / "README.dataset.txt").open("rb") as stream:
            text = stream.read(100_000).decode("utf-8", "replace")
    except OSError:
        return ""
    found = _LICENSE.search(text)
    return one_line(found[1]) if found else ""
