"""Download from Kaggle through its official library `kagglehub`, without its habits.

What the library knows is used: where keys are found, the requests, the hash of what comes, and to go on with a partial archive.
While it works, four of its parts are exchanged. Its session gets time limits and patience with 429 and 5xx, for the library waits
for ever and gives up at once. Its progress bar becomes ours. Its log is muted. And its unpacking, which knows no limits, becomes
ours, which also checks each file by its checksum: the library appends whatever it is sent to a partial archive.

Its cache is a folder in ours, for each version one of its own: what lies in `~/.cache/kagglehub` may have been changed by anyone
since, and is kept there unpacked, a second time. What it takes for complete is not believed: every download is forced.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline import urls
from pipeline.downloads.connections import require_reachable
from pipeline.errors import MissingDependency, UsageError, how_to_install
from pipeline.machine import require_room
from pipeline.sources._credentials import from_dotenv
from pipeline.stage import Context
from pipeline.wording import one_line

TOKEN, USER, KEY = "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"
CONNECT_S, READ_S = 10.0, 60.0
PAUSES_S = (1.0, 4.0, 15.0)
LONGEST_WAIT_S = 120.0
"""A longer wait that Kaggle asks for is told, not waited for."""
_MIB = 1 << 20


@dataclass(frozen=True)
class About:
    """What Kaggle tells of a data set."""

    version: int
    title: str
    license: str


class Hub:
    """The library, as `connect` lends it."""

    def __init__(self, kagglehub: Any, host: str, has_key: bool) -> None:
        self._kagglehub = kagglehub
        self.host = host
        self.has_key = has_key

    def describe(self, owner: str, dataset: str) -> About:
        from kagglehub.clients import build_kaggle_client
        from kagglehub.exceptions import handle_call
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = owner, dataset
        with build_kaggle_client() as client:
            answer = handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))
        return About(int(answer.current_version_number), one_line(answer.title), one_line(answer.license_name))

    def download(self, handle: str, target: Path) -> None:
        """Bring the archive of "owner/dataset/versions/3", or of the competition "name", to `target`."""
        from kagglehub import http_resolver

        def keep(archive: str, folder: str) -> None:
            os.replace(archive, target)
            Path(archive).touch()  # the library deletes it

        get = self._kagglehub.dataset_download if "/" in handle else self._kagglehub.competition_download
        with _exchanged(http_resolver, "_extract_archive", keep):
            for pause_s in (*PAUSES_S, None):
                try:
                    get(handle, force_download=True)
                except _broken():
                    if pause_s is None:
                        raise
                    time.sleep(pause_s)  # it then goes on where it was cut off
                else:
                    return


def _broken() -> tuple[type[Exception], ...]:
    """How `requests` tells that a connection broke."""
    import requests

    return (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


@contextmanager
def connect(context: Context, cache: Path) -> Iterator[Hub]:
    """Lend the library, in good manners.

    Args:
        cache: a folder for what the library keeps.

    Raises:
        MissingDependency: it is not installed.
        UsageError: the file with the key is damaged.
        NetworkError: Kaggle cannot be reached; told within five seconds.
    """
    try:
        import kagglehub
        from kagglehub import clients, config
        from kagglesdk import kaggle_env, kaggle_http_client
    except ImportError as error:
        raise MissingDependency(f"The source 'kaggle' needs kagglehub ({error}).", how_to_install("kaggle")) from error
    endpoint = kaggle_env.get_endpoint(kaggle_env.get_env())
    require_reachable(endpoint)
    session = _session_type()
    # Parts of `requests`, as the client uses them.
    lent = SimpleNamespace(**{**vars(kaggle_http_client.requests), "Session": session})
    settings = {"KAGGLEHUB_CACHE": str(cache), "DISABLE_KAGGLE_CACHE": "true", "DISABLE_COLAB_CACHE": "true"}
    with (
        _environment({**settings, **_keys(context.base)}),
        _exchanged(kaggle_http_client, "requests", lent),
        _exchanged(clients, "tqdm", _bar(context, cache)),
        _exchanged(clients, "already_printed_version_warning", True),
        _muted("kagglehub"),
    ):
        try:
            has_key = config.get_kaggle_credentials() is not None
        except (ValueError, OSError) as error:
            raise UsageError(f"The key for Kaggle cannot be read: {error}.", "Repair or delete the file.") from None
        yield Hub(kagglehub, urls.origin(endpoint).host, has_key)


def _keys(base: Path) -> dict[str, str]:
    """What `.env` beside params.yaml holds, unless the environment holds a key."""
    if any(os.environ.get(name) for name in (TOKEN, USER, KEY)):
        return {}
    return {name: value for name in (TOKEN, USER, KEY) if (value := from_dotenv(base, name))}


def _session_type() -> type:
    import requests

    class Patient(requests.Session):
        """With time limits, and another attempt where it may help: all that is asked only reads."""

        def send(self, request: Any, **options: Any) -> Any:
            if options.get("timeout") is None:
                options["timeout"] = (CONNECT_S, READ_S)
            for pause_s in (*PAUSES_S, None):
                try:
                    response = super().send(request, **options)
                except _broken() as error:
                    # What a redirect led to has had its attempts.
                    hopeless = isinstance(error, (requests.exceptions.SSLError, requests.exceptions.ProxyError))
                    if pause_s is None or hopeless or getattr(error, "request", request) is not request:
                        raise
                else:
                    asked_s = asked_wait_s(response.headers) if response.status_code == 429 else 0.0
                    passing = response.status_code == 429 or response.status_code >= 500
                    if not passing or pause_s is None or asked_s > LONGEST_WAIT_S or response.history:
                        return response
                    response.close()
                    pause_s = max(pause_s, asked_s)
                time.sleep(pause_s)
            raise AssertionError  # the last round returns or raises

    return Patient


def asked_wait_s(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After; 0 where there is none. Kaggle tells no dates."""
    value = headers.get("Retry-After", "").strip()
    return float(value[:9]) if value.isdecimal() else 0.0


def _bar(context: Context, folder: Path) -> type:
    """What takes the place of `tqdm`, of which the library uses this much."""

    class Bar:
        def __init__(self, total: int, initial: int = 0, **_: Any) -> None:
            require_room(folder, total - initial)
            self._bytes = initial
            self._shown: AbstractContextManager[Callable[..., None]] = context.progress(
                "download (MiB)", max(1, math.ceil(total / _MIB))
            )

        def __enter__(self) -> Bar:
            self._advance = self._shown.__enter__()
            self._advance(self._bytes // _MIB)
            return self

        def __exit__(self, *error: Any) -> None:
            self._shown.__exit__(*error)

        def update(self, count: int) -> None:
            before, self._bytes = self._bytes, self._bytes + count
            self._advance(self._bytes // _MIB - before // _MIB)

    return Bar


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _exchanged(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def _muted(name: str) -> Iterator[None]:
    """The library's handlers write to the console, and messages to it hold addresses with a signature."""
    logger = logging.getLogger(name)
    handlers = logger.handlers[:]
    logger.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        logger.handlers[:] = handlers
