"""Download from Kaggle through its official library `kagglehub`, without its habits.

What the library knows is used: where keys are found, the requests, the hash of what comes, and to go on with a partial archive.
While it works, four of its parts are exchanged. Its session gets time limits and patience with 429 and 5xx, for the library waits
for ever and gives up at once. Its progress bar becomes ours. Its log is muted. And its unpacking, which knows no limits, becomes
ours, which also checks each file by its checksum: the library appends whatever it is sent to a partial archive.

Its cache is a folder in ours, for each version one of its own: what lies in `~/.cache/kagglehub` may have been changed by anyone
since, and is kept there unpacked, a second time. What it takes for complete is not believed: every download is forced.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline import urls
from pipeline.downloads.connections import require_reachable, retry_after_s
from pipeline.downloads.silence import REMEDY, Silence
from pipeline.errors import MissingDependency, NetworkError, UsageError, how_to_install
from pipeline.machine import require_room
from pipeline.sources._asking import answered, pause
from pipeline.sources._credentials import from_dotenv
from pipeline.sources._lending import environment, exchanged, muted
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

    def __init__(self, kagglehub: Any, host: str, has_key: bool, context: Context) -> None:
        self._kagglehub = kagglehub
        self._context = context
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
        with exchanged(http_resolver, _extract_archive=keep):
            for number, pause_s in enumerate((*PAUSES_S, None), 1):
                try:
                    get(handle, force_download=True)
                except _broken():  # amid an archive: what was not answered at all has had its attempts, see `Patient`
                    if pause_s is None:
                        raise
                    # It then goes on where it was cut off.
                    pause(self._context.warn, self.host, "broke off", number, len(PAUSES_S) + 1, pause_s)
                else:
                    return


def unanswered(host: str, error: Exception) -> NetworkError:
    """The error of ours for one of `requests`, which may hold a signed address."""
    return NetworkError(f"{host} does not answer ({type(error).__name__}).", REMEDY)


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
    session = _session_type(context)
    # Parts of `requests`, as the client uses them.
    lent = SimpleNamespace(**{**vars(kaggle_http_client.requests), "Session": session})
    settings = {"KAGGLEHUB_CACHE": str(cache), "DISABLE_KAGGLE_CACHE": "true", "DISABLE_COLAB_CACHE": "true"}
    with (
        environment({**settings, **_keys(context.base)}),
        exchanged(kaggle_http_client, requests=lent),
        exchanged(clients, tqdm=_bar(context, cache), already_printed_version_warning=True),
        muted("kagglehub", "urllib3.connectionpool", "urllib3.util.retry"),
    ):
        try:
            has_key = config.get_kaggle_credentials() is not None
        except (ValueError, OSError) as error:
            raise UsageError(f"The key for Kaggle cannot be read: {error}.", "Repair or delete the file.") from None
        yield Hub(kagglehub, urls.origin(endpoint).host, has_key, context)


def _keys(base: Path) -> dict[str, str]:
    """What `.env` beside params.yaml holds, unless the environment holds a key."""
    if any(os.environ.get(name) for name in (TOKEN, USER, KEY)):
        return {}
    return {name: value for name in (TOKEN, USER, KEY) if (value := from_dotenv(base, name))}


def _session_type(context: Context) -> type:
    import requests

    silence = Silence(context.warn)

    class Patient(requests.Session):
        """With time limits, and another attempt where it may help: all that is asked only reads.

        In the end it raises an error of ours, which the library hands through, so that nobody tries again.
        """

        def send(self, request: Any, **options: Any) -> Any:
            origin = urls.origin(request.url)

            def once(limit_s: float) -> Any:
                return super(Patient, self).send(request, **{**options, "stream": True, "timeout": (CONNECT_S, limit_s)})

            for number, pause_s in enumerate((*PAUSES_S, None), 1):
                try:
                    response = answered(silence, origin, READ_S, bool(options.get("stream")), once)
                except _broken() as error:
                    hopeless = isinstance(error, (requests.exceptions.SSLError, requests.exceptions.ProxyError))
                    if pause_s is None or hopeless:
                        raise unanswered(origin.host, error) from None
                    why = "no answer"
                else:
                    if response.history:  # what a redirect led to has had its attempts
                        return response
                    status = response.status_code
                    asked_s = retry_after_s(response.headers) or 0.0 if status == 429 else 0.0
                    if pause_s is None or not (status == 429 or status >= 500) or asked_s > LONGEST_WAIT_S:
                        return response
                    response.close()
                    pause_s, why = max(pause_s, asked_s), f"it answers {status}"
                pause(context.warn, origin.host, why, number, len(PAUSES_S) + 1, pause_s)
            raise AssertionError  # the last round returns or raises

    return Patient


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
