"""A repository on GitHub, or a folder of one: `github:owner/repository@ref:folder`, or its address.

    collect.source: github:owner/repository                  the newest commit of the default branch
    collect.source: github:owner/repository@v1.2:data        the folder data/ at a tag, a branch or a commit
    collect.source: https://github.com/owner/repository/tree/main/data

A branch or tag stands for the commit that it led to when it was collected: the same query again reuses, without a network, and
`collect … --force` asks GitHub anew. The origin of each file names the commit.

Only what Git itself holds is in the archive of a commit: files in Git LFS are pointers there, and go to the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline.downloads import Download, download_all
from pipeline.downloads.silence import REMEDY
from pipeline.errors import DataError, NetworkError, ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import is_image, is_plain, is_safe_relative
from pipeline.sources import Fetched, Origin, _github_api, _spdx
from pipeline.sources._credentials import secret
from pipeline.sources._packed import members, telling_damage, why_no_zip
from pipeline.sources._unpacking import begin, begun, blaming, unpack
from pipeline.stage import Context, StageParams

_WEB = "https://github.com"
_ADDRESS = re.compile(
    r"https?://(?:www\.)?github\.com/(?P<repository>[^/]+/[^/]+?)(?:\.git)?(?:/tree/(?P<ref>[^/]+)(?:/(?P<folder>.+))?)?"
)
_SHORT = re.compile(r"(?P<repository>[^/@:]+/[^/@:]+?)(?:\.git)?(?:@(?P<ref>[^:]+))?(?::(?P<folder>.*))?")
_REPOSITORY = re.compile(r"[\w-]+/[\w.-]+", re.ASCII)
_REF = re.compile(r"(?!.*(?:\.\.|@\{|//))[^\s\x00-\x1f~^:?*\[\\]{1,250}")
_LICENSE = re.compile(r"(?:un)?licen[cs]e|copying", re.IGNORECASE)
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_MAX_POINTER = 1024


class Options(StageParams):
    """A repository has no options."""


@dataclass(frozen=True)
class Query:
    """`ref` is "HEAD" for the default branch, `folder` is "" for the whole repository."""

    repository: str
    ref: str
    folder: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.ref}" + (f":{self.folder}" if self.folder else "")


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query; the network is not asked."""
    return f"github 1, {parse(location)}"


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    query = parse(location)
    token = secret(context.base, _github_api.TOKEN)
    # A branch may have moved on since a run that was killed: its files belong to the commit that it had begun with.
    commit = query.ref if _github_api.is_commit(query.ref) else begun(out)
    commit = commit or _github_api.find_commit(query.repository, query.ref, token, context.warn)
    begin(out, commit)
    path = context.cache / "github" / f"{query.repository.replace('/', '-')}-{commit}.zip"
    _download(query, commit, token, path, context)
    ledger = Ledger()
    place = partial(_place, folder=query.folder)
    with blaming(f"The repository {query}: ", path):
        origins = unpack(path, out, context, ledger, place=place, keep_going=True, shown="its archive")
        license_name = _license(path, query.folder)
    if not origins:
        raise DataError(
            f"collect.source: the repository {query.repository} has no files in '{query.folder or '/'}' at {query.ref}.",
            "After : comes a folder as it stands on GitHub.",
        )
    origins = _without_pointers(origins, query, out, ledger)
    path.unlink()
    return Fetched(
        [replace(origin, origin=_page(query, commit, origin)) for origin in origins],
        license=license_name,
        homepage=f"{_WEB}/{query.repository}/tree/{commit}" + (f"/{quote(query.folder)}" if query.folder else ""),
        description=f"the repository {query} (commit {commit[:10]})",
        ledger=ledger,
    )


def parse(location: str) -> Query:
    """The query that a location means.

    Args:
        location: "owner/repository@ref:folder", or the address of a repository or of a folder in it. In an address the name of a
            branch is taken to have no "/".

    Raises:
        ParamsError: it is neither.
    """
    found = _ADDRESS.fullmatch(re.split("[?#]", location, maxsplit=1)[0].rstrip("/"))
    parts = found.groupdict() if found else {}
    if found:
        parts = {name: unquote(value) if value else "" for name, value in parts.items()}
    elif short := _SHORT.fullmatch(location):
        parts = {name: value or "" for name, value in short.groupdict().items()}
    repository, ref, folder = parts.get("repository") or "", parts.get("ref") or "HEAD", (parts.get("folder") or "").strip("/")
    right = _REPOSITORY.fullmatch(repository) and _REF.fullmatch(ref) and repository.partition("/")[2] not in (".", "..")
    if not right or (folder and not (is_safe_relative(folder) and is_plain(folder))):
        raise ParamsError(
            f"collect.source: '{location}' is no repository on GitHub.",
            "Write github:owner/repository, github:owner/repository@branch-tag-or-commit:folder, or the address of either.",
        )
    return Query(repository, ref, folder)


# ---- the archive of a commit


def _download(query: Query, commit: str, token: str, path: Path, context: Context) -> None:
    wanted = Download(_github_api.archive_url(query.repository, commit, token), path)
    outcome = download_all([wanted], context.progress, _require_zip)[0]
    if outcome.reason in ("not_found", "access_denied"):
        raise DataError(
            f"collect.source: GitHub hands out no commit {commit[:10]} of a repository '{query.repository}' ({outcome.detail}).",
            f"Check the address in a browser. For what is private, put a token into the variable {_github_api.TOKEN}.",
        )
    if outcome.reason:
        raise NetworkError(f"{outcome.detail}.", REMEDY)


def _require_zip(path: Path) -> None:
    if wrong := why_no_zip(path):
        raise DataError(wrong)


def _place(name: str, folder: str) -> str:
    """Where a file goes: without the folder that GitHub packs all into, and relative to the folder that is asked for."""
    path = name.partition("/")[2]
    if not folder:
        return path
    return path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""


def _page(query: Query, commit: str, origin: Origin) -> str:
    path = origin.origin.partition(":")[2].partition("/")[2]  # as it stands on GitHub: `archive.zip:repository-commit/path`
    return f"{_WEB}/{query.repository}/blob/{commit}/{quote(path)}"


def _license(path: Path, folder: str) -> str:
    """A guess at the licence, by the file in the folder that is asked for, else in the repository's top folder."""
    texts: dict[str, bytes] = {}
    for member, opener in members(path, path.name):
        parent, _, name = member.name.partition("/")[2].rpartition("/")
        if _LICENSE.match(name) and not (member.is_folder or member.wrong) and parent in ("", folder) and parent not in texts:
            with telling_damage(path.name), opener() as stream:
                texts[parent] = stream.read(4096)
    text = texts.get(folder, texts.get("", b""))
    return _spdx.guess(text.decode("utf-8", "replace"))


def _without_pointers(origins: Sequence[Origin], query: Query, out: Path, ledger: Ledger) -> list[Origin]:
    """Take out what is a pointer of Git LFS (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md) in place of a file."""
    pointers = {origin.path for origin in origins if _is_pointer(out / origin.path)}
    for path in sorted(pointers):
        ledger.add("image" if is_image(path) else "file", "dropped", "lfs_pointer", path=path)
        (out / path).unlink()
    images = [origin.path for origin in origins if is_image(origin.path)]
    if images and pointers.issuperset(images):
        raise DataError(
            f"All {len(images):,} images of the repository {query} are in Git LFS: GitHub's archive holds only pointers to them.",
            f"Use `git clone {_WEB}/{query.repository}` with Git LFS installed (https://git-lfs.com), and give the folder.",
        )
    return [origin for origin in origins if origin.path not in pointers]


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size > _MAX_POINTER:
        return False
    with path.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER
