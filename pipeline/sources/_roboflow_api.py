"""Talk to Roboflow through its official SDK, without its habits: it waits for ever, prints, and puts the key into every URL.

The SDK's client functions (`roboflow.adapters.rfapi`) are used for what they know: hosts and regions, routes, how an unfinished
export is told. The function by which they send a request is exchanged for `_get` meanwhile, because theirs has no time limit and
they drop the status and the Retry-After of a refusal. `Version.download` of the SDK is not used: it takes any folder that exists
for a finished download, and unpacks without a look at what is in the archive.

The key is a part of each URL, so no URL and no error of `requests` goes into a message; nor is one kept as its cause.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline import urls
from pipeline.downloads.connections import require_reachable, retry_after_s, wait_in_words
from pipeline.downloads.silence import Silence
from pipeline.errors import DataError, MissingDependency, NetworkError, UsageError, how_to_install
from pipeline.sources._asking import answered, pause
from pipeline.sources._credentials import secret
from pipeline.sources._lending import exchanged, muted
from pipeline.stage import JSON, Context
from pipeline.wording import one_line

KEY = "ROBOFLOW_API_KEY"
CONNECT_S = 3.5
"""How long a host may take to be found and reached; with the import of the SDK, no network is known within five seconds."""
READ_S = 60.0
"""How long it may be silent after that."""
PAUSES_S = (1.0, 4.0, 15.0)
LONGEST_WAIT_S = 120.0
"""A longer wait that Roboflow asks for is told, not waited for."""
HOW_TO_GET_A_KEY = (
    f"A free account has one (https://app.roboflow.com, Settings, API Keys): put it into the environment as {KEY}, or as a line "
    f"{KEY}=… into a file .env beside params.yaml, or log in with `roboflow auth login`."
)


@dataclass(frozen=True)
class Query:
    """One export of one version, which Roboflow never changes once it is made."""

    workspace: str
    project: str
    version: int
    format: str

    def __str__(self) -> str:
        return f"{self.workspace}/{self.project}/{self.version}"


@dataclass(frozen=True)
class Service:
    """The SDK's client functions, and the key that they want."""

    rfapi: Any
    key: str

    @property
    def base(self) -> str:
        return str(self.rfapi.API_URL)

    @property
    def host(self) -> str:
        return urls.origin(self.base).host


class Refused(Exception):
    """An answer with a status of 400 or above: the message in it, in one line and without the key, and when to come again."""

    def __init__(self, host: str, status: int, said: str, wait: str) -> None:
        super().__init__(f"{host} answers {status}")
        self.host, self.status, self.said, self.wait = host, status, said, wait


@contextmanager
def connect(context: Context, workspace: str) -> Iterator[Service]:
    """Load the SDK and lend its functions, with careful requests.

    Args:
        workspace: whose key to take from the file of the service's own login, if it holds several.

    Raises:
        MissingDependency: the SDK is not installed.
        UsageError: there is no key.
        NetworkError: the service cannot be reached.
    """
    rfapi = _load()
    key = find_key(context.base, workspace)
    original, silence = rfapi.http, Silence(context.warn)

    def get(url: str, **options: Any) -> Any:
        return _get(original, key, silence, context.warn, url, **options)

    require_reachable(str(rfapi.API_URL))
    with exchanged(rfapi, http=SimpleNamespace(get=get)), muted("urllib3.connectionpool", "urllib3.util.retry"):
        yield Service(rfapi, key)


def _load() -> Any:
    """Import the SDK and undo what that does to the process: it reads any .env file above it, and redefines how warnings look."""
    environment, look = dict(os.environ), warnings.formatwarning
    try:
        from roboflow.adapters import rfapi
    except ImportError as error:
        raise MissingDependency(f"The source 'roboflow' needs Roboflow's SDK ({error}).", how_to_install("roboflow")) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"Roboflow's SDK does not start: {type(error).__name__} while it reads its own config file.",
            "Repair or delete ~/.config/roboflow/config.json (on Windows ~/roboflow/config.json).",
        ) from None
    finally:
        warnings.formatwarning = look
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
    return rfapi


# ---- the key


def find_key(base: Path, workspace: str) -> str:
    """From the environment, else `.env` beside params.yaml, else the service's own config file; no other place is looked at."""
    from roboflow.config import load_roboflow_api_key

    key, where = secret(base, KEY), f"the variable {KEY} (of the environment, or of {base / '.env'})"
    if not key:
        try:
            key = str(load_roboflow_api_key(workspace) or "").strip()
        except (AttributeError, KeyError, TypeError, ValueError):
            key = ""  # a config file without a login
        where = "the key in Roboflow's config file"
    if not key:
        raise UsageError("Roboflow wants a key, and there is none.", HOW_TO_GET_A_KEY)
    if not re.fullmatch(r"[A-Za-z0-9_.~-]+", key):
        raise UsageError(f"{where} is no key: it holds other characters than letters, digits, '_' and '-'.", HOW_TO_GET_A_KEY)
    return key


def without_key(text: str, key: str) -> str:
    """`one_line`, with the key and whatever looks like one in a link taken out."""
    return one_line(re.sub(r"(key=)[^\s&\"']+", r"\1…", text.replace(key, "…")))


# ---- requests


def unreachable(host: str, reason: str) -> NetworkError:
    return NetworkError(
        f"{host} cannot be reached ({reason}).",
        "Check the network and its proxy; what was downloaded before can be used without.",
    )


def _get(http: Any, key: str, silence: Silence, warn: Callable[[str], None], url: str, **options: Any) -> Any:
    """A request with time limits, repeated where the service is busy or fails: all that is asked only reads.

    Raises NetworkError when there is no answer, Refused when it is a refusal.
    """
    for number, pause_s in enumerate((*PAUSES_S, None), 1):
        response = _answer(http, silence, url, **options)
        status, asked_s = response.status_code, retry_after_s(response.headers)
        if status < 400:
            return response
        said = _message(response)
        response.close()
        wait_s = max(pause_s or 0.0, asked_s or 0.0)
        if pause_s is None or not (status == 429 or status >= 500) or wait_s > LONGEST_WAIT_S:
            raise Refused(urls.origin(url).host, status, without_key(said, key), wait_in_words(asked_s))
        pause(warn, urls.origin(url).host, f"it answers {status}", number, len(PAUSES_S) + 1, wait_s)
    raise AssertionError  # the last round returns or raises


def _answer(http: Any, silence: Silence, url: str, **options: Any) -> Any:
    """Whatever its status; NetworkError when there is none."""
    import requests

    origin, failure = urls.origin(url), ""

    def once(limit_s: float) -> Any:
        return http.get(url, timeout=(CONNECT_S, limit_s), **{**options, "stream": True})

    try:
        response = answered(silence, origin, READ_S, False, once)
    except requests.RequestException as error:
        failure = reason_of(error)
    if failure:  # raised out here, for the error above holds the URL and would become part of this one
        raise unreachable(origin.host, failure)
    return response


def reason_of(error: Exception) -> str:
    """Why a request failed, in words of ours: those of `requests` contain the URL."""
    import requests

    reasons: tuple[tuple[type[Exception], str], ...] = (
        (requests.exceptions.ProxyError, "the proxy refuses"),
        (requests.exceptions.SSLError, "its certificate is not accepted"),
        (requests.exceptions.ConnectTimeout, f"no answer within {CONNECT_S:g} s"),
        (requests.exceptions.Timeout, f"silent for {READ_S:g} s"),
        (requests.exceptions.TooManyRedirects, "it redirects in a circle"),
        (requests.exceptions.ConnectionError, "the connection fails"),
        (requests.exceptions.ChunkedEncodingError, "the connection was cut"),
    )
    return next((words for kind, words in reasons if isinstance(error, kind)), type(error).__name__)


def _message(response: Any) -> str:
    """The message of a refusal. The whole answer is never shown: Roboflow repeats the key in it."""
    try:
        answer = json.loads(response.content[:100_000])
    except ValueError:
        return ""
    error = answer.get("error", answer.get("message", "")) if isinstance(answer, dict) else ""
    return str(error.get("message", "") if isinstance(error, dict) else error)


# ---- what can be asked


def ask_project(service: Service, query: Query) -> JSON:
    """What Roboflow knows of a project: `project`, and `versions` at the top or in it."""
    return _ask(service, query, service.rfapi.get_project, query.workspace, query.project)


def ask_version(service: Service, query: Query) -> JSON:
    """`version`: its `images`, whether it is still `generating`, its `progress` from 0 to 1."""
    return _ask(service, query, service.rfapi.get_version, query.workspace, query.project, str(query.version), True)


def ask_export(service: Service, query: Query) -> JSON:
    """`export` with a `link`; `ready` False and `progress` while it is made. The first question has Roboflow make it."""
    # The names that Roboflow's own pages use are not all known to its API; the SDK renames the same two.
    name = {"yolov5": "yolov5pytorch", "yolov7": "yolov7pytorch"}.get(query.format, query.format)
    return _ask(service, query, service.rfapi.get_version_export, query.workspace, query.project, str(query.version), name)


def _ask(service: Service, query: Query, function: Any, *arguments: Any) -> JSON:
    answer: Any = None
    try:
        answer = function(service.key, *arguments)
    except Refused:
        raise
    except (service.rfapi.RoboflowError, ValueError):  # neither 200 nor 202, or no JSON
        pass
    if not isinstance(answer, dict):
        raise NetworkError(
            f"{service.host} does not answer as Roboflow does when asked for {query}.",
            "A proxy or a login page may stand in between.",
        )
    return answer
