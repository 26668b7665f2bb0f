"""What `collect` brings together: one source, or several that lie in a folder each, with an account of every file."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from pydantic import Field, ValidationError, field_validator

from pipeline import files, formats, plugins, urls
from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError, PipelineError, did_you_mean
from pipeline.ledger import Entry, Ledger
from pipeline.params_messages import sentences
from pipeline.paths import folded, is_clean, is_image, is_video, portable
from pipeline.sources import ORIGINS, UNKNOWN, Fetched, Origin, kept, local_path
from pipeline.stage import JSON, Context, StageParams
from pipeline.version import TIMES
from pipeline.wording import plural

PACKAGE = "pipeline.sources"

ABOUT = "source.json"

BY_PATH = ("archive", "folder")
"""Sources that are found by what a path leads to, so that nobody needs to name them."""

_TOLD = ("path", "origin", "group", "hash", "license")

INNER = ("kept",)
"""Sources that are not for typing."""

_ADDRESSES = (
    (r"https://(universe\.roboflow\.com|app\.roboflow\.(com|eu))/", "roboflow"),
    (r"https?://(www\.)?kaggle\.com/", "kaggle"),
    (r"https://(huggingface|hf)\.co/datasets/(?!.*/resolve/)", "huggingface"),
    (r"https?://(www\.)?github\.com/[^/]+/[^/]+(/tree/.*)?/?$", "github"),
    (r"rtsps?://", "camera"),
    (r"https?://", "url"),
)
"""Which source an address from a browser belongs to; the first that fits. Single files of a service are for `url`."""


class Source(StageParams):
    """One of several sources."""

    source: str = Field(min_length=1, description="as collect.source")
    name: str = Field(default="", description="the folder that its files get; default: what the source is called")
    options: dict[str, Any] = Field(default_factory=dict, description="as collect.options")
    license: str = Field(default="", description="of its images, when the source does not state it")
    format: formats.FormatName = Field(default="auto", description="of its labels, as annotate.format")

    @field_validator("name")
    @classmethod
    def _is_one_folder(cls, name: str) -> str:
        if name and ("/" in name or name.startswith(".") or not is_clean(name) or portable(name) != name):
            raise ValueError(f"'{name}' cannot be the name of a folder on every system")
        return name


@dataclass(frozen=True)
class Part:
    """A source whose place among the others is settled.

    Attributes:
        module: the plugin.
        location: what `collect.source` says after the plugin's name.
        folder: where its files lie below `files/`; "" for the only one.
    """

    wish: Source
    kind: str
    module: ModuleType
    location: str
    name: str
    folder: str

    @cached_property
    def options(self) -> StageParams:
        """Raises ParamsError when the source does not have them."""
        try:
            options: StageParams = self.module.Options.model_validate(self.wish.options)
        except ValidationError as error:
            problems = sentences(error, self.module.Options, lambda keys: "collect.options")
            raise ParamsError(f"The options of source '{self.kind}' cannot be used:", problems=problems) from error
        return options

    def fingerprint(self, seed: int, context: Context) -> str:
        """What the source holds now."""
        found: str = self.module.fingerprint(self.location, self.options, seed, context)
        return found

    def key(self, seed: int, context: Context) -> str:
        """Equal keys, equal files: neither the licence, nor the name, nor the other sources have a part in it."""
        return fingerprints.of_value([self.kind, self.location, self.options.model_dump(), self.fingerprint(seed, context)])


@dataclass(frozen=True)
class Collected:
    """What one source brought, its paths below `files/`."""

    part: Part
    key: str
    fetched: Fetched
    origins: list[Origin]
    entries: list[Entry]

    @cached_property
    def images(self) -> int:
        return sum(is_image(origin.path) for origin in self.origins)

    @cached_property
    def about(self) -> JSON:
        """What is known of the source, for manifests and cards."""
        return {
            "source": self.fetched.kind or self.part.kind,
            "license": self.fetched.license or self.part.wish.license or UNKNOWN,
            "homepage": self.fetched.homepage,
            "description": self.fetched.description,
        }


def resolve(source: str, context: Context) -> tuple[str, str]:
    """(name of the source module, location) of what `collect.source` says.

    `sample` and `name:location` name a source, and so does the address of a page that shows one; anything else is a path.
    """
    _refuse_secrets(source)
    known = plugins.names(PACKAGE)
    name, _, location = source.partition(":")
    if name in known:
        return name, location.removeprefix("//")
    for pattern, owner in _ADDRESSES:
        if re.match(pattern, source):
            return owner, source
    path = local_path(source, context)
    if path.is_dir():
        return "folder", source
    if path.is_file():
        if is_image(path.name):
            raise DataError(f"collect.source: {path.resolve()} is a single image.", "Give the folder that it lies in.")
        lists = path.suffix.lower() in (".txt", ".csv")
        return ("video" if is_video(path.name) else "url" if lists else "archive"), source
    named = [each for each in known if each not in BY_PATH + INNER]
    if "://" in source:
        raise DataError(f"collect.source: there is no source '{name}'.", did_you_mean(name, named))
    start = "Relative paths start where params.yaml lies, those that `collect` is given where you are."
    hint = f"{start} Sources with a name: {', '.join(named)}."
    raise DataError(f"collect.source: there is no folder or archive {path.resolve()}.", did_you_mean(source, named, hint))


def _refuse_secrets(source: str) -> None:
    """Raise ParamsError for an address with a password or token: params stand in every manifest."""
    before, is_address, _ = source.partition("://")
    address = source[before.rfind(":") + 1 :]  # without `camera:`
    if is_address and urls.has_secrets(address):
        raise ParamsError(
            f"collect.source: {urls.shown(address)} comes with a password or token, which would stand in every manifest.",
            "Leave it out: keys come from the environment or .env, see docs/collect.md. Or write the whole address into a text "
            "file, one line, and give that: url:my-url.txt, camera:my-camera.txt.",
        )


def arrange(wishes: Sequence[Source], context: Context, several: bool) -> list[Part]:
    """The sources in their order, each with a folder of its own where there are `several`.

    Raises:
        ParamsError: two have one name.
        DataError: one of them is not there.
    """
    parts: list[Part] = []
    taken: dict[str, str] = {}
    for wish in wishes:
        kind, location = resolve(wish.source, context)
        name = wish.name or _free_name(_name(kind, location), taken)
        if folded(name) in taken:
            first = taken[folded(name)]
            raise ParamsError(f"collect.sources: '{first}' and '{wish.source}' have the same name '{name}'.", "Name one anew.")
        taken[folded(name)] = wish.source
        parts.append(Part(wish, kind, plugins.load(PACKAGE, kind), location, name, name if several else ""))
    return parts


def _name(kind: str, location: str) -> str:
    """What a source is called: as its folder or file, else as its kind."""
    if kind in (*BY_PATH, "video", "kept"):
        stem = PurePosixPath(location.replace("\\", "/")).name
        stem = stem if kind in ("folder", "kept") else stem.partition(".")[0]
        kind = portable(re.sub(r"[^\w.-]+", "_", stem).lstrip(".")) or kind
    return kind


def _free_name(name: str, taken: Mapping[str, str]) -> str:
    number, free = 1, name
    while folded(free) in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def bring(part: Part, seed: int, out: Path, context: Context) -> Collected:
    """Fetch one source to its folder below `out/files`.

    Raises:
        PipelineError: as the source says it, with its name where there are several.
    """
    place = out / "files" / part.folder
    try:
        key = part.key(seed, context)
        fetched = _taken_over(key, place, context) or part.module.fetch(part.location, part.options, seed, place, context)
    except PipelineError as error:
        if part.folder:
            error.message = f"{part.name}: {error.message}"
            error.args = (str(error),)
        raise
    if not any(is_image(origin.path) for origin in fetched.files):
        others = plural(len(fetched.files), "other file")
        videos = sum(is_video(entry.path) for entry in fetched.ledger.entries)
        hint = f"To take frames from {plural(videos, 'video')}: collect.source=video:{part.location}" if videos else ""
        what = fetched.description or part.wish.source
        raise DataError(
            f"{what[:1].upper()}{what[1:]} holds no images ({others}).",
            hint or "Images are files with the suffix .jpg, .png, .bmp, .webp, .tif and the like.",
            [entry.detail for entry in fetched.ledger.entries if entry.item == "image" and entry.detail],
        )
    inside = f"{part.folder}/" if part.folder else ""
    origins = [replace(origin, path=inside + origin.path) for origin in fetched.files]
    entries = [
        replace(entry, path=entry.path and inside + entry.path, file=entry.file and inside + entry.file)
        for entry in fetched.ledger.entries
    ]
    return Collected(part, key, fetched, origins, entries)


def _taken_over(key: str, place: Path, context: Context) -> Fetched | None:
    """What the version before has of the same source, which is then not asked again; None where it has nothing, or not all."""
    if context.previous is None:
        return None
    try:
        summary = json.loads((context.previous / "manifest.json").read_text(encoding="utf-8"))["summary"]
        record = next((each for each in summary.get("sources", ()) if each.get("key") == key), None)
        return kept.take(context.previous, summary["sources"], record, place, context) if record else None
    except (FileNotFoundError, ValueError, KeyError):  # damaged, and nobody has verified it yet
        return None


def write(out: Path, brought: Sequence[Collected], context: Context) -> JSON:
    """Write `origins.jsonl`, `times.jsonl`, `source.json` and the ledger; returns the summary of the version."""
    pairs = [(each, origin) for each in brought for origin in each.origins]
    hashes = _hashes([origin for _, origin in pairs], out / "files", context)
    rows, times, size = [], [], 0
    for each, origin in pairs:
        stat = (out / "files" / origin.path).stat()
        size += stat.st_size
        rows.append(
            {
                "path": origin.path,
                "origin": origin.origin,
                "group": _group(each.part, origin),
                "hash": hashes[origin.path],
                "size": stat.st_size,
                "license": origin.license or each.about["license"],
            }
        )
        # A file that was taken over is a link to the earlier one, and keeps its time.
        times.append({"path": origin.path, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stat.st_mtime))})
    files.write_json_lines(out / ORIGINS, rows)
    files.write_json_lines(out / TIMES, times)
    ledger = Ledger(entry for each in brought for entry in each.entries)
    ledger.write(out)
    about = _about(brought)
    files.write_text(out / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    images = sum(each.images for each in brought)
    return {
        **about,
        "sources": [_record(each, rows) for each in brought],
        "images": images,
        "other_files": len(rows) - images,
        "bytes": size,
        "groups": len({row["group"] for row in rows if row["group"]}),
        "ledger": ledger.counts(),
    }


def _group(part: Part, origin: Origin) -> str:
    """Groups of two sources are two, whatever their names."""
    return f"{part.folder}/{origin.group}" if part.folder and origin.group else origin.group


def _about(brought: Sequence[Collected]) -> JSON:
    if len(brought) == 1 and not brought[0].part.folder:
        return brought[0].about
    parts = [{"name": each.part.name, **each.about, "format": each.part.wish.format} for each in brought]
    return {
        "source": ", ".join(dict.fromkeys(str(part["source"]) for part in parts)),
        "license": "; ".join(dict.fromkeys(str(part["license"]) for part in parts)),
        "homepage": "",
        "description": plural(len(parts), "source") + ": " + ", ".join(str(part["name"]) for part in parts),
        "sources": parts,
    }


def _record(each: Collected, rows: Sequence[JSON]) -> JSON:
    """What a later version needs to keep a source that is gone by then (`sources/kept.py`)."""
    inside = f"{each.part.folder}/" if each.part.folder else ""
    files_of_it = [[row[key].removeprefix(inside) for key in _TOLD] for row in rows if row["path"].startswith(inside)]
    return {
        "name": each.part.name,
        "folder": each.part.folder,
        "query": each.fetched.query or each.part.wish.source,
        "options": each.part.wish.options,
        **each.about,
        "stated_license": each.fetched.license,
        "key": each.key,
        "format": each.part.wish.format,
        "images": each.images,
        "other_files": len(each.origins) - each.images,
        "entries": len(each.entries),
        "digest": fingerprints.of_value(files_of_it),
    }


def _hashes(origins: Sequence[Origin], folder: Path, context: Context) -> dict[str, str]:
    """The hash of every file by path; only those that the source did not tell are read."""
    hashes = {origin.path: origin.hash for origin in origins}
    unknown = [path for path, digest in hashes.items() if not digest]
    if unknown:
        with context.progress("hash", len(unknown)) as advance:
            found = fingerprints.of_files((folder / path for path in unknown), advance)
        hashes.update(zip(unknown, found, strict=True))
    return hashes
