"""The Hugging Face hub through its own client `huggingface_hub`, kept from hanging and from talking.

The client retries by itself, and would do so for minutes. Added here: whether the host can be reached at all is known within five
seconds; every request has a time limit; a wait that the host asks for is told, and refused when it is too long.

Files come by plain HTTP and not by Xet, the hub's own protocol, to which none of this applies.

https://huggingface.co/docs/huggingface_hub/guides/download
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline import files, urls
from pipeline.downloads.connections import require_reachable, retry_after_s
from pipeline.downloads.silence import Silence
from pipeline.errors import MissingDependency, NetworkError, PipelineError, UsageError, how_to_install
from pipeline.sources._credentials import secret
from pipeline.sources._huggingface_errors import HOW_TO_LOG_IN, Busy, explain, offline
from pipeline.sources._lending import exchanged, muted
from pipeline.sources._unpacking import MAX_FILES
from pipeline.stage import Context

Answer = TypeVar("Answer")

ENDPOINT, TOKEN = "HF_ENDPOINT", "HF_TOKEN"
DEFAULT_ENDPOINT = "https://huggingface.co"
CONNECT_S = 5.0
READ_S = 20.0
"""How long a host that has answered before may be silent."""
MAX_WAIT_S = 300.0
"""The hub counts requests in windows of five minutes; who is asked to wait for longer had better come again."""
TRIES = 3
_CHUNK = 1 << 20
_TALKERS = ("huggingface_hub", "datasets", "httpx2", "httpx", "httpcore2", "httpcore", "filelock", "fsspec")
"""Loggers of the libraries below; some of what they say contains signed URLs."""


@dataclass(frozen=True)
class Entry:
    """A file of a repository. `sha256` is that of a large one, `git_sha1` the blob id that git gives to a small one."""

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class Commit:
    """What a revision meant when the hub was asked. `repo` is the name that the hub itself uses."""

    repo: str
    sha: str
    entries: tuple[Entry, ...]


_THREADS = "huggingface-"


@dataclass(frozen=True)
class Hub:
    """A loaded client."""

    library: Any
    endpoint: str
    token: str
    cache: Path
    context: Context
    silence: Silence
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return urls.origin(self.endpoint).host

    @property
    def thread(self) -> str:
        """The name of its threads."""
        return f"{_THREADS}{id(self)}"

    def page(self, repo: str) -> str:
        return f"{urls.shown(self.endpoint)}/datasets/{repo}"


@contextmanager
def connect(context: Context) -> Iterator[Hub]:
    """Load the client and have it behave.

    Raises:
        MissingDependency: it is not installed.
        UsageError: the endpoint or the token is none.
    """
    endpoint = os.environ.get(ENDPOINT, "").strip().rstrip("/") or DEFAULT_ENDPOINT
    if wrong := urls.problem(endpoint):
        raise UsageError(f"The variable {ENDPOINT} is no address of a hub: {wrong}.", f"Unset it for {DEFAULT_ENDPOINT}.")
    try:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils._http import default_client_factory
    except ImportError as error:
        raise MissingDependency(
            f"The source 'huggingface' needs the libraries of Hugging Face ({error}).", how_to_install("huggingface")
        ) from error
    hub = Hub(huggingface_hub, endpoint, find_token(context.base), context.cache / "huggingface", context, Silence(context.warn))

    patience = _Patience(hub)

    def new_client() -> Any:
        client = default_client_factory()
        client.event_hooks = {"request": [*client.event_hooks["request"], patience.asks], "response": [patience.answered]}
        client.send = patience.sends(client.send)
        return client

    with exchanged(constants, HF_HUB_DISABLE_XET=True, DOWNLOAD_CHUNK_SIZE=_CHUNK), muted(*_TALKERS):
        try:
            huggingface_hub.set_client_factory(new_client)
            yield hub
        finally:
            hub.stop.set()
            huggingface_hub.set_client_factory(default_client_factory)


def find_token(base: Path) -> str:
    """From the environment, else `.env` beside params.yaml, else the file that `hf auth login` writes; "" for public data sets.

    Raises:
        UsageError: what is there is no token.
    """
    from huggingface_hub import get_token

    token = secret(base, TOKEN)
    if not token:
        try:
            token = get_token() or ""
        except (OSError, ValueError, RuntimeError):
            token = ""  # a file that cannot be read, or a login that has run out
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise UsageError(f"{TOKEN} is no token: it holds blanks or letters beyond ASCII.", HOW_TO_LOG_IN)
    return token


class _Patience:
    """Called with every request and every answer.

    The client has time limits of its own for some requests, up to 35 s, and none for others. It waits as long as it is asked to,
    which is told here, and refused when it is too long.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub, self._told_until = hub, 0.0

    def sends(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """`send`, which follows redirects, called anew while a host on the way has never answered."""
        from huggingface_hub.errors import HTTPError

        def patiently(request: Any, **options: Any) -> Any:
            name = threading.current_thread().name
            if name.startswith(_THREADS) and name != self._hub.thread:
                # Of a download that is over: the library tries again by whatever client is there now, and closes it if it fails.
                raise RuntimeError("this download is over")
            while True:
                try:
                    return send(request, **options)
                except HTTPError as error:
                    attempt = error.request.extensions.get("attempt")
                    is_silent = attempt is not None and self._hub.silence.is_silent(attempt.origin)
                    if type(error).__name__ != "ReadTimeout" or not is_silent:
                        raise
                self._hub.silence.timed_out(attempt)

        return patiently

    def asks(self, request: Any) -> None:
        attempt = self._hub.silence.attempt(urls.origin(str(request.url)), READ_S)
        timeout = {"connect": CONNECT_S, "read": attempt.limit_s, "write": READ_S, "pool": None}
        request.extensions = {**request.extensions, "timeout": timeout, "attempt": attempt}

    def answered(self, response: Any) -> None:
        self._hub.silence.heard(urls.origin(str(response.request.url)))
        response.request.extensions["timeout"]["read"] = READ_S  # for the rest of this answer
        if response.status_code not in (429, 503):
            return
        client_s = client_wait_s(response.headers)
        wait_s = client_s or retry_after_s(response.headers) or 0.0
        host = response.request.url.host
        if wait_s > MAX_WAIT_S:
            raise Busy(host, response.status_code, wait_s)
        if wait_s > 3 and time.monotonic() > self._told_until:
            self._told_until = time.monotonic() + wait_s
            self._hub.context.warn(f"{host} asks for {wait_s:.0f} s without requests ({response.status_code}).")
        if response.request.method == "HEAD" or not client_s:  # after HEAD, the client would ask again at once
            time.sleep(wait_s)


def client_wait_s(headers: Any) -> float:
    """Seconds that the client waits by itself, 0 for none: of `RateLimit` when nothing remains of a window, or of `Retry-After`.

    It does not read a date there.
    """
    limit = re.search(r";\s*r=0\s*;\s*t=(\d{1,9})", headers.get("ratelimit", ""))
    if limit:
        return float(limit[1])
    return retry_after_s(headers) or 0.0 if headers.get("retry-after", "").strip().isdecimal() else 0.0


# ---- what a revision means


def find_commit(hub: Hub, repo: str, revision: str) -> Commit:
    """Ask the hub which commit a revision is, and what is in it. A full commit id that is known already needs no network.

    Without a network a branch or tag is taken for what it was when it was last asked for, and the user is told.

    Raises:
        NetworkError: not reached, or refused.
        DataError: no such data set or revision.
    """
    record = hub.cache / "commits" / f"{hashlib.blake2s(f'{hub.endpoint} {repo} {revision}'.encode()).hexdigest()[:24]}.json"
    known = _read_record(record)
    if known and known.sha == revision:
        return known
    try:
        require_online(hub)
    except NetworkError as error:
        if known is None:
            raise
        hub.context.warn(f"{error.message} '{revision}' of {known.repo} is taken to be commit {known.sha[:12]}, as before.")
        return known
    commit = _ask(hub, repo, revision)
    files.write_text(record, json.dumps(asdict(commit), ensure_ascii=False) + "\n")
    return commit


def _read_record(path: Path) -> Commit | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Commit(known["repo"], known["sha"], tuple(Entry(**entry) for entry in known["entries"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ask(hub: Hub, repo: str, revision: str) -> Commit:
    from huggingface_hub.hf_api import RepoFile

    api = hub.library.HfApi(endpoint=hub.endpoint, token=hub.token or False, library_name="yolo-pipeline")

    def ask() -> Commit:
        info = api.dataset_info(repo, revision=revision)
        name, sha = str(info.id), str(info.sha)
        if not re.fullmatch("[0-9a-f]{40}", sha) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
            raise ValueError(sha)
        entries = []
        for item in api.list_repo_tree(name, recursive=True, revision=sha, repo_type="dataset"):
            if isinstance(item, RepoFile):
                lfs = item.lfs
                size, sha256 = (lfs.size, lfs.sha256) if lfs else (item.size, "")
                entries.append(Entry(str(item.path), int(size), str(sha256), "" if lfs else str(item.blob_id)))
            if len(entries) > MAX_FILES:
                raise NetworkError(f"{hub.host} lists more than {MAX_FILES:,} files of {repo}: that is no data set.")
        return Commit(name, sha, tuple(entries))

    return explained(hub, repo, revision, lambda: _again(ask))


def _again(ask: Callable[[], Answer]) -> Answer:
    """What the client does for files it does not do for this question: try again when the host is busy."""
    from huggingface_hub.errors import HfHubHTTPError

    tries = 0
    while True:
        try:
            return ask()
        except HfHubHTTPError as error:
            tries += 1
            if tries == TRIES or error.response.status_code not in (429, 500, 502, 503, 504):
                raise
            time.sleep(client_wait_s(error.response.headers) or 2.0 ** (tries - 1))


def explained(hub: Hub, repo: str, revision: str, call: Callable[[], Answer]) -> Answer:
    """What `call` returns, or the error of ours that its failure means; raised after `except`, for theirs hold the request."""
    failure: PipelineError
    try:
        return call()
    except PipelineError:
        raise
    except Exception as error:  # noqa: BLE001 - `explain` lets through what is of the disk, or a bug
        failure = explain(error, hub.host, repo, revision, hub.page(repo), bool(hub.token))
    raise failure


def require_online(hub: Hub) -> None:
    """Raise NetworkError when the hub is not reached, or by the user's wish not asked."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise offline()
    require_reachable(hub.endpoint)
