"""collect: bring raw images, and the labels that come with them, from a source into a versioned folder.

The artifact holds `files/` (as the source has them, nested folders kept), `origins.jsonl` (where each file came from, its hash
and size), `source.json` and the ledger. Sources are never modified.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, ValidationError

from pipeline import files, plugins
from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError, did_you_mean
from pipeline.params_messages import sentences
from pipeline.paths import is_image, is_video
from pipeline.sources import Fetched, local_path
from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.wording import plural

PACKAGE = "pipeline.sources"

_BY_PATH = ("archive", "folder")
"""Sources that are found by what a path leads to, so that nobody needs to name them."""

_ROBOFLOW = tuple(f"https://{host}/" for host in ("universe.roboflow.com", "app.roboflow.com", "app.roboflow.eu"))
"""What a browser shows of a project."""


class Params(StageParams):
    source: str = Field(default="sample", min_length=1, description="a source's name, a folder, or a zip archive")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the chosen source")
    license: str = Field(default="", description="the licence of the images, when the source does not state it")
    seed: int = Field(default=0, ge=0, description="the seed of the whole run, unless given here")


def resolve(source: str, context: Context) -> tuple[str, str]:
    """(name of the source module, location) of what `collect.source` says.

    `sample` and `name:location` name a source; anything else is a path.
    """
    known = plugins.names(PACKAGE)
    name, _, location = source.partition(":")
    if name in known:
        return name, location.removeprefix("//")
    if source.startswith(_ROBOFLOW):
        return "roboflow", source
    if source.startswith(("http://", "https://")):
        return "url", source
    path = local_path(source, context)
    if path.is_dir():
        return "folder", source
    if path.is_file():
        return ("video" if is_video(path.name) else "archive"), source
    named = [each for each in known if each not in _BY_PATH]
    if "://" in source:
        raise DataError(f"collect.source: there is no source '{name}'.", did_you_mean(name, known))
    near = did_you_mean(source, named)
    hint = f"Relative paths start where params.yaml lies. Sources with a name: {', '.join(named)}."
    raise DataError(f"collect.source: there is no folder or archive {path.resolve()}.", near if near.startswith("Did") else hint)


def _options(module: ModuleType, name: str, params: Params) -> StageParams:
    try:
        options: StageParams = module.Options.model_validate(params.options)
    except ValidationError as error:
        problems = sentences(error, module.Options, lambda keys: "collect.options")
        raise ParamsError(f"The options of source '{name}' cannot be used:", problems=problems) from error
    return options


def external(params: Params, context: Context) -> dict[str, str]:
    name, location = resolve(params.source, context)
    module = plugins.load(PACKAGE, name)
    return {"source files": module.fingerprint(location, _options(module, name, params), params.seed, context)}


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    name, location = resolve(params.source, context)
    module = plugins.load(PACKAGE, name)
    fetched: Fetched = module.fetch(location, _options(module, name, params), params.seed, out / "files", context)
    images = sum(is_image(origin.path) for origin in fetched.files)
    if not images:
        raise DataError(
            f"{fetched.description or params.source} holds no images ({plural(len(fetched.files), 'other file')}).",
            "Images are files with the suffix .jpg, .png, .bmp, .webp, .tif and the like.",
        )
    paths = [out / "files" / origin.path for origin in fetched.files]
    hashes = _hashes(fetched, out / "files", context)
    sizes = [path.stat().st_size for path in paths]
    rows = (
        {"path": origin.path, "origin": origin.origin, "group": origin.group, "hash": hashes[origin.path], "size": size}
        for origin, size in zip(fetched.files, sizes, strict=True)
    )
    encode = json.JSONEncoder(ensure_ascii=False).encode
    files.write_text(out / "origins.jsonl", "".join([encode(row) + "\n" for row in rows]))
    about = {
        "source": name,
        "license": fetched.license or params.license or "unknown",
        "homepage": fetched.homepage,
        "description": fetched.description,
    }
    files.write_text(out / "source.json", json.dumps(about, ensure_ascii=False, indent=1) + "\n")
    fetched.ledger.write(out)
    groups = {origin.group for origin in fetched.files if origin.group}
    return {
        **about,
        "images": images,
        "other_files": len(paths) - images,
        "bytes": sum(sizes),
        "groups": len(groups),
        "ledger": fetched.ledger.counts(),
    }


def _hashes(fetched: Fetched, folder: Path, context: Context) -> dict[str, str]:
    """The hash of every file by path; only those that the source did not tell are read."""
    hashes = {origin.path: origin.hash for origin in fetched.files}
    unknown = [path for path, digest in hashes.items() if not digest]
    if unknown:
        with context.progress("hash", len(unknown)) as advance:
            found = fingerprints.of_files((folder / path for path in unknown), advance)
        hashes.update(zip(unknown, found, strict=True))
    return hashes


def headline(summary: JSON) -> str:
    counts = f"{plural(summary['images'], 'image')}, {plural(summary['other_files'], 'other file')}"
    return f"{counts} from {summary['description']}"


STAGE = Stage(
    inputs=(),
    params=Params,
    run=run,
    version=1,
    root="datasets",
    summary="bring images and labels from a source into a versioned folder",
    external=external,
    headline=headline,
)
