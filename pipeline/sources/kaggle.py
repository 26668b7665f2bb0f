"""A data set or the data of a competition on Kaggle, through its official library (extra `kaggle`).

    collect.source: kaggle:owner/dataset                     the newest version
    collect.source: kaggle:owner/dataset/versions/3
    collect.source: kaggle:competitions/name                 needs a key, and its rules accepted on its page
    collect.source: https://www.kaggle.com/datasets/owner/dataset

Without a version it stands for the newest one when it was collected: the same query again reuses, without a network, and
`collect … --force` asks Kaggle anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipeline import files
from pipeline.downloads.connections import retry_after_s, wait_in_words
from pipeline.errors import DataError, NetworkError, ParamsError, PipelineError, UsageError
from pipeline.ledger import Ledger
from pipeline.sources import Fetched
from pipeline.sources._kaggle_hub import KEY, TOKEN, USER, About, Hub, connect, unanswered
from pipeline.sources._unpacking import begin, begun, blaming, unpack
from pipeline.stage import Context, StageParams

_WEB = "https://www.kaggle.com"
_ADDRESS = re.compile(r"https?://(?:www\.)?kaggle\.com/(?:datasets/)?(?P<rest>.+)")
_DATASET = re.compile(r"(?P<owner>[\w-]+)/(?P<name>[\w-]+)(?:/versions/(?P<version>[1-9]\d{0,5}))?", re.ASCII)
_COMPETITION = re.compile(r"(?:competitions|c)/(?P<name>[\w-]+)", re.ASCII)
_TABS = re.compile(r"/(?:data|overview|code|discussion|rules|leaderboard|models|suggestions|settings)(?:/.*)?$")
_HOW_TO_GET_A_KEY = (
    f"A token from https://www.kaggle.com/settings (API) goes into {TOKEN}, or a user name and a key into {USER} and {KEY}: in "
    "the environment, in .env beside params.yaml, or in ~/.kaggle/kaggle.json."
)


class Options(StageParams):
    """Kaggle's data have no options."""


@dataclass(frozen=True)
class Query:
    """`owner` is "" for a competition, `version` 0 for the newest one (a competition has no versions)."""

    owner: str
    name: str
    version: int = 0

    def __str__(self) -> str:
        if not self.owner:
            return f"competitions/{self.name}"
        return f"{self.owner}/{self.name}" + (f"/versions/{self.version}" if self.version else "")

    @property
    def page(self) -> str:
        return f"{_WEB}/datasets/{self}" if self.owner else f"{_WEB}/{self}"


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The query; the network is not asked."""
    return f"kaggle 1, {parse(location)}"


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    asked = parse(location)
    # A newer version may have come since a run that was killed: its files belong to the version that it had begun with.
    query = replace(asked, version=asked.version or int(begun(out) or 0))
    folder = context.cache / "kaggle" / "-".join(filter(None, (query.owner or "competition", query.name)))
    archive, about = _kept(query, folder)
    if about is None:
        with connect(context, folder / "hub") as hub, _explained(hub, asked):
            about = hub.describe(query.owner, query.name) if query.owner else About(0, query.name, "")
            query = replace(query, version=query.version or about.version)
            archive = folder / f"{query.version}.archive"
            files.write_text(_sidecar(archive), json.dumps(asdict(about)))
            (folder / "hub").mkdir(exist_ok=True)
            hub.download(str(query) if query.owner else query.name, archive)
    begin(out, str(query.version))
    ledger = Ledger()
    with blaming(f"Kaggle's {query} cannot be used: ", archive):
        origins = unpack(archive, out, context, ledger, name=f"kaggle:{query}", shown="what it sent")
    shutil.rmtree(folder)
    kind = f"version {query.version} of the Kaggle data set" if query.owner else "the data of the Kaggle competition"
    return Fetched(
        origins,
        license=about.license,
        homepage=query.page,
        description=f"{kind} '{about.title or query.name}'",
        ledger=ledger,
    )


def parse(location: str) -> Query:
    """The query that a location means.

    Args:
        location: "owner/dataset", "owner/dataset/versions/3", "competitions/name", or the address of a page of either.

    Raises:
        ParamsError: it is none of these.
    """
    found = _ADDRESS.fullmatch(re.split("[?#]", location, maxsplit=1)[0].rstrip("/"))
    path = _TABS.sub("", found["rest"]) if found else location.strip("/")
    if competition := _COMPETITION.fullmatch(path):
        return Query("", competition["name"])
    if (dataset := _DATASET.fullmatch(path)) and dataset["owner"] not in ("datasets", "models", "code", "competitions", "c"):
        return Query(dataset["owner"], dataset["name"], int(dataset["version"] or 0))
    raise ParamsError(
        f"collect.source: '{location}' is no data set on Kaggle.",
        "Write kaggle:owner/dataset, kaggle:owner/dataset/versions/3, kaggle:competitions/name, or the address of its page.",
    )


def _sidecar(archive: Path) -> Path:
    return archive.with_suffix(".json")


def _kept(query: Query, folder: Path) -> tuple[Path, About | None]:
    """The archive that a run had downloaded whole when it was killed, and what is known of it; None when there is none."""
    archive = folder / f"{query.version}.archive"
    if (query.owner and not query.version) or not archive.is_file():
        return archive, None
    try:
        return archive, About(**json.loads(_sidecar(archive).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return archive, None


# ---- refusals


@contextmanager
def _explained(hub: Hub, query: Query) -> Iterator[None]:
    """Turn what the library raises into errors of ours. Its own are not shown as causes: they may hold signed addresses."""
    import requests
    from kagglehub import exceptions

    failure: PipelineError
    try:
        yield
    except PipelineError:
        raise
    except exceptions.UnauthenticatedError:
        failure = UsageError(f"Kaggle wants a key for {query}, and there is none.", _HOW_TO_GET_A_KEY)
    except exceptions.DataCorruptionError:
        failure = NetworkError(f"{hub.host} sent {query} damaged: its hash is not the one announced.", "Run again.")
    except requests.HTTPError as error:
        failure = _refusal(error.response, hub, query)
    except requests.exceptions.JSONDecodeError:
        failure = _not_kaggle(hub, query)
    except requests.exceptions.ChunkedEncodingError:
        failure = NetworkError(f"{hub.host} broke off during the download of {query}.", "Run again: it goes on where it stopped.")
    except requests.RequestException as error:
        failure = unanswered(hub.host, error)
    except (TypeError, AttributeError, KeyError, ValueError):  # of the library, about an answer in another form
        failure = _not_kaggle(hub, query)
    else:
        return
    raise failure from None


def _not_kaggle(hub: Hub, query: Query) -> PipelineError:
    return NetworkError(
        f"{hub.host} does not answer as Kaggle does when asked for {query}.", "A proxy or a login page may stand in between."
    )


def _refusal(response: object, hub: Hub, query: Query) -> PipelineError:
    status = int(getattr(response, "status_code", 0))
    kind = "data set" if query.owner else "competition"
    if status in (401, 403) and not hub.has_key:
        return UsageError(
            f"Kaggle shows {query} to nobody without a key ({status}), or there is no such {kind}.", _HOW_TO_GET_A_KEY
        )
    if status == 401:
        return NetworkError(f"Kaggle does not accept the key for {query} (401).", _HOW_TO_GET_A_KEY)
    if status == 403:
        page = query.page if query.owner else f"{query.page}/rules"
        what = "asks for consent, is private, or does not exist" if query.owner else "wants its rules accepted, or does not exist"
        return DataError(
            f"collect.source: Kaggle refuses {query} (403): it {what}.", f"Open {page} in a browser with the same account."
        )
    if status == 404:
        return DataError(f"collect.source: there is no {kind} {query} on Kaggle (404).", f"Check the address: {query.page}")
    if status == 429:
        wait = wait_in_words(retry_after_s(getattr(response, "headers", {})))
        return NetworkError(f"{hub.host} answers no more for now: too many requests (429); {wait}.", "Run again then.")
    return NetworkError(f"{hub.host} fails when asked for {query} ({status}).", "Run again later.")
