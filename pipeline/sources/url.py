"""Images from the web: a list of their URLs, or the URL of an archive.

    collect.source: url:list.txt                      a URL a line, or a CSV with a column `url`
    collect.source: url:https://host/data.tar.gz      unpacked as an archive on this machine would be

What fails for good stands in the ledger with its reason, and the run goes on unless more than `max_missing` of the list is
missing. A list is asked for again only when it is changed: what a URL leads to is taken to stay what it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from pipeline import fingerprint as fingerprints
from pipeline import urls
from pipeline.downloads import Download, Limits, download
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import SUFFIX_OF, is_image
from pipeline.sources import Fetched, Origin, _url_list, _web, archive, local_path
from pipeline.sources._unpacking import blaming, unpack
from pipeline.sources._url_list import Entry
from pipeline.stage import Context, StageParams

VERSION = 1


class Options(StageParams):
    """Options of `url:…`."""

    sha256: str = Field(default="", pattern="^([0-9a-fA-F]{64})?$", description="of the file that a single URL leads to")
    suffix: str = Field(
        default="",
        pattern=r"^(\.[A-Za-z0-9]{2,5})?$",
        description="appended to names without a suffix of an image ('.jpg'); '' finds it by looking into the file",
    )
    keep_folders: bool = Field(
        default=False,
        description="keep host and folders of the URLs as folders; else a file lies flat under the last part of its URL",
    )
    nested: bool = Field(default=False, description="as the option of an archive")
    max_missing: _web.MaxMissing = 0.05
    per_host: _web.PerHost = 16
    requests_per_second: _web.RequestsPerSecond = 0.0


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query, and the content of a local list; the network is not asked."""
    query = ["url", VERSION, location, options.model_dump()]
    if not _is_url(location):
        query.append(fingerprints.FolderIndex(context.cache).file_digest(_list_file(location, context)))
    return fingerprints.of_value(query)


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    if _is_url(location):
        return _fetch_single(Entry(location, sha256=options.sha256), options, seed, out, context)
    path = _list_file(location, context)
    entries = _url_list.read(path)
    if not entries:
        raise DataError(f"{path}: the list holds no URL.", "Write one URL a line, each starting with http:// or https://.")
    if len(entries) == 1 and not is_image(urls.without_query(entries[0].url)):
        sha256 = entries[0].sha256 or options.sha256
        return _fetch_single(replace(entries[0], sha256=sha256), options, seed, out, context)
    if options.sha256:
        raise ParamsError("collect.options.sha256 is for a single URL.", "A CSV may have a column `sha256`.")
    return _fetch_list(entries, path, options, out, context)


def _is_url(location: str) -> bool:
    """Whether the location itself is a URL."""
    if "://" not in location:
        return False
    if wrong := urls.problem(location):
        raise ParamsError(f"collect.source: {urls.shown(location)} cannot be fetched: {wrong}.")
    return True


def _list_file(location: str, context: Context) -> Path:
    path = local_path(location, context)
    if not location or not path.is_file():
        raise DataError(
            f"collect.source: there is no list {path}.",
            "After `url:` comes a text file with a URL a line, or a URL with http:// or https://.",
        )
    return path


# ---- a list of images


def _fetch_list(entries: Sequence[Entry], path: Path, options: Options, out: Path, context: Context) -> Fetched:
    ledger = Ledger()
    wanted = _without_repeats(entries, path, ledger)
    names = _url_list.unique_names(wanted, options.keep_folders, options.suffix, SUFFIX_OF.values())
    images = [
        _web.WebImage(entry.url, _with_suffix(name, out), path.name, entry.line, entry.size, entry.sha256)
        for entry, name in zip(wanted, names, strict=True)
    ]
    asked = _web.limits(options.per_host, options.requests_per_second)
    origins = _web.bring(images, out, context, ledger, asked=asked, max_missing=options.max_missing)
    origins = [_with_found_suffix(origin, out) for origin in origins]
    hosts = {urls.origin(image.url).host for image in images if not urls.problem(image.url)}
    description = (
        f"{len(origins):,} URLs of the list '{path.name}' from {min(hosts) if len(hosts) == 1 else f'{len(hosts)} hosts'}"
    )
    return Fetched(sorted(origins, key=lambda origin: origin.path), description=description, ledger=ledger)


def _without_repeats(entries: Sequence[Entry], path: Path, ledger: Ledger) -> list[Entry]:
    first: dict[str, Entry] = {}
    for entry in entries:
        same = first.setdefault(entry.url, entry)
        if same is not entry:
            detail = f"the URL stands in line {same.line}"
            ledger.add("image", "dropped", "duplicate_url", file=path.name, line=entry.line, detail=detail)
    return list(first.values())


def _with_suffix(name: str, out: Path) -> str:
    """The name, or the one that a killed run gave the file after it had looked into it."""
    if is_image(name):
        return name
    return next((name + suffix for suffix in SUFFIX_OF.values() if (out / (name + suffix)).exists()), name)


def _with_found_suffix(origin: Origin, out: Path) -> Origin:
    if is_image(origin.path):
        return origin
    from pipeline import images

    old = out / origin.path
    found = origin.path + SUFFIX_OF.get(images.read_header(old).kind, ".png")
    old.replace(out / found)
    return replace(origin, path=found)


# ---- a single URL


def _fetch_single(entry: Entry, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    """An archive, or a single image where the URL says so. The archive lies in the cache until it is unpacked."""
    if is_image(urls.without_query(entry.url)):
        return _fetch_list([entry], Path("the URL"), options, out, context)
    key = hashlib.blake2s(f"{entry.url}\n{entry.sha256}".encode(), digest_size=10).hexdigest()
    path = context.cache / "downloads" / key / _url_list.unique_names([entry], False, "", ())[0]
    asked = Limits(per_host=options.per_host, requests_per_second=options.requests_per_second)
    download(Download(entry.url, path, entry.size, entry.sha256), context.progress, limits=asked)
    shown = urls.shown(entry.url)
    ledger = Ledger()
    with blaming(f"{shown}: ", path):
        origins = unpack(path, out, context, ledger, nested=options.nested, name=shown, shown=path.name)
    archive.require_opened(origins, ledger, f"{shown}: {path.name}")
    path.unlink()
    return Fetched(origins, homepage=shown, description=f"the archive '{path.name}'", ledger=ledger)
