"""A data set on the Hugging Face hub: `huggingface:owner/name`, `huggingface:owner/name@revision`, or the address of its page.

https://huggingface.co/docs/hub/datasets (needs the extra `huggingface`; private and gated data sets a token, see `connect`).

Two kinds, told apart by whether the repository has Parquet files:

    table    rows with an image and its boxes; images are written as files with the bytes that the table holds, labels as
             `metadata.jsonl`, which is the label format `huggingface`
    files    images and label files as they are; archives among them are not opened

Nothing that a repository holds is run: loading scripts are passed over.

A query is its text: repository, revision and options. A branch (`main` unless given) means the commit that it was when the files
were collected; the same query again is reused without asking whether the branch has moved on, `collect … --force` asks anew, and
`@<commit>` pins it for good. The commit stands in the description and in the origin of every file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

from pydantic import Field

from pipeline import files
from pipeline import fingerprint as fingerprints
from pipeline.errors import DataError, ParamsError
from pipeline.ledger import Ledger
from pipeline.paths import is_clean, is_image
from pipeline.sources import ARCHIVES, Fetched, Origin, _huggingface_table, is_wanted
from pipeline.sources._huggingface_card import Card, read_card
from pipeline.sources._huggingface_files import download
from pipeline.sources._huggingface_hub import Commit, Entry, Hub, connect, find_commit
from pipeline.sources._names import settled
from pipeline.stage import Context
from pipeline.wording import plural

VERSION = 1
PAGES = ("https://huggingface.co/datasets/", "https://hf.co/datasets/")
"""How the address of a page begins; such an address is a location too."""
MAIN = "main"

_LOCATION = re.compile(r"(?P<repo>[\w.-]{1,96}(?:/[\w.-]{1,96})?)(?:@(?P<revision>[\w./-]{1,200}))?", re.ASCII)
_HIDDEN = re.compile(r"(^|/)\.(?!\.?(/|$))")  # `.gitattributes`, but neither `.` nor `..`


class Options(_huggingface_table.TableOptions):
    """Options of `huggingface:…`: those of tables, and two more."""

    kind: Literal["auto", "table", "files"] = Field(
        default="auto", description="table or files; auto takes a repository with Parquet files for a table"
    )
    allow_patterns: list[str] = Field(
        default_factory=list, description="of files, only those that match one (`images/*`); [] for all"
    )


@dataclass(frozen=True)
class Query:
    repo: str
    revision: str


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query; the network is not asked."""
    query = parse(location)
    return fingerprints.of_value(["huggingface", VERSION, query.repo, query.revision, options.model_dump(), seed])


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    query = parse(location)
    with connect(context) as hub:
        commit = find_commit(hub, query.repo, query.revision)
        card = read_card(hub, commit)
        if _is_table(commit, options):
            fetched = _huggingface_table.fetch(hub, commit, card, options, seed, out)
        else:
            fetched = _fetch_files(hub, commit, card, options, out)
    _remove_others(out, fetched.files)
    return fetched


def parse(location: str) -> Query:
    """The query that a location means.

    Args:
        location: "owner/name", "owner/name@revision", or the address of a page (`…/datasets/owner/name/tree/revision`).

    Raises:
        ParamsError: it is none of these.
    """
    page = next((page for page in PAGES if location.startswith(page)), "")
    short = re.split("[?#]", location.removeprefix(page), maxsplit=1)[0].strip().strip("/")
    if page:
        short = re.sub(r"/(viewer|discussions|blob/[^/]+/README\.md|embed)(/.*)?$", "", short)
        repo, tree, revision = short.partition("/tree/")
        # The hub writes the slashes of a revision as %2F, those of its own branches also as they are.
        found = re.fullmatch(r"refs/(?:convert|pr)/[^/]+|[^/]+", revision)
        if tree and not found:
            raise ParamsError(
                f"collect.source: '{location}' leads to a folder of a data set, and not to the data set.",
                "Give the address without the folder, and the folder as collect.options.allow_patterns=[folder/*].",
            )
        short = f"{repo}@{unquote(revision)}" if tree else short
    match = _LOCATION.fullmatch(short)
    revision = (match["revision"] or MAIN) if match else ""
    if not match or ".." in short or "//" in short or "--" in match["repo"] or revision[0] in "/-" or revision[-1] == "/":
        raise ParamsError(
            f"collect.source: '{location}' is not a data set of Hugging Face.",
            "Write huggingface:owner/name, huggingface:owner/name@revision, or the address of its page, "
            "such as https://huggingface.co/datasets/owner/name.",
        )
    return Query(match["repo"], revision)


def _is_table(commit: Commit, options: Options) -> bool:
    """Whether the repository is read as a table. Refuses options that are for the other kind."""
    is_table = options.kind == "table" or (options.kind == "auto" and bool(_huggingface_table.shards_in(commit)))
    of_tables = _huggingface_table.TableOptions.model_fields
    given = [
        name for name in (("allow_patterns",) if is_table else of_tables) if getattr(options, name) not in ("", "auto", 0, [])
    ]
    if given:
        kind, other = ("table", "files") if is_table else ("files", "table")
        raise ParamsError(
            f"collect.options.{given[0]} means nothing for {commit.repo}, which is collected as '{kind}'.",
            f"Leave it out, or set collect.options.kind={other}.",
        )
    return is_table


def _remove_others(out: Path, origins: Sequence[Origin]) -> None:
    """Delete what a killed run of the same query had brought from another commit."""
    brought = {origin.path for origin in origins}
    for path, entry in list(files.walk_relative(out)):
        if path not in brought:
            Path(entry.path).unlink()


# ---- a repository of files


def _fetch_files(hub: Hub, commit: Commit, card: Card, options: Options, out: Path) -> Fetched:
    ledger = Ledger()
    wanted = _wanted(commit, options.allow_patterns, ledger)
    if not any(is_image(entry.path) for entry in wanted):
        raise _no_images(hub, commit, options)
    targets = settled({entry.path: entry.path for entry in wanted}, ledger)
    wanted = [entry for entry in wanted if entry.path in targets]
    local = download(hub, commit, wanted)
    origins = []
    for path in sorted(local):
        files.link(local[path].path.resolve(), out / targets[path])
        origins.append(Origin(targets[path], f"huggingface:{commit.repo}@{commit.sha}:{path}", hash=local[path].hash))
    return Fetched(
        sorted(origins, key=lambda origin: origin.path),
        license=card.license,
        homepage=f"{hub.page(commit.repo)}/tree/{commit.sha}",
        description=f"the Hugging Face data set {commit.repo} at commit {commit.sha[:12]}",
        ledger=ledger,
    )


def _wanted(commit: Commit, patterns: list[str], ledger: Ledger) -> list[Entry]:
    """The files to bring. Names come from a stranger: those that are not safe go to the ledger, as does what holds no labels."""
    from huggingface_hub.utils import filter_repo_objects

    visible = [entry for entry in commit.entries if not _HIDDEN.search(entry.path)]
    chosen = list(filter_repo_objects(visible, allow_patterns=patterns or None, key=lambda entry: entry.path))
    if visible and not chosen:
        raise DataError(
            f"collect.options.allow_patterns: none of the {len(visible):,} files of {commit.repo} matches {patterns}.",
            f"There are files such as {', '.join(entry.path for entry in visible[:5])}.",
        )
    wanted: list[Entry] = []
    for entry in chosen:
        path = entry.path
        if not is_clean(path):
            ledger.add("file", "dropped", "unsafe_name", path=ascii(path)[1:-1])
        elif PurePosixPath(path).suffix.lower() in ARCHIVES:
            ledger.add("file", "dropped", "archive_not_opened", path=path)
        elif not is_wanted(path):
            ledger.add("file", "dropped", "not_an_image_nor_labels", path=path)
        else:
            wanted.append(entry)
    return wanted


def _no_images(hub: Hub, commit: Commit, options: Options) -> DataError:
    archives = [entry.path for entry in commit.entries if PurePosixPath(entry.path).suffix.lower() in ARCHIVES]
    if archives:
        hint = (
            f"An archive is collected by its address: collect.source={hub.page(commit.repo)}/resolve/{commit.sha}/{archives[0]}"
        )
    elif options.allow_patterns:
        hint = "Allow more in collect.options.allow_patterns."
    else:
        hint = f"The hub keeps Parquet copies of many data sets: collect.source=huggingface:{commit.repo}@refs/convert/parquet"
    held = f"{plural(len(commit.entries), 'file')}, {plural(len(archives), 'archive')} among them, which are not opened"
    return DataError(
        f"{commit.repo} has no images and no Parquet files ({held if archives else plural(len(commit.entries), 'file')}).", hint
    )
