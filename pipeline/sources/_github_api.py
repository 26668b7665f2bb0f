"""Ask GitHub which commit a name means, and where its archive lies.

https://docs.github.com/en/rest/commits/commits#get-a-commit,
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pipeline import urls
from pipeline.downloads import Limits
from pipeline.downloads.connections import Connections, retry_after_s, status_line
from pipeline.downloads.items import Failed
from pipeline.downloads.silence import REMEDY
from pipeline.errors import DataError, NetworkError, ParamsError, PipelineError

TOKEN = "GITHUB_TOKEN"  # noqa: S105 - the name of the variable
API, CODELOAD = "GITHUB_API_URL", "GITHUB_CODELOAD_URL"
_DEFAULTS = {API: "https://api.github.com", CODELOAD: "https://codeload.github.com"}
_SHA = re.compile("[0-9a-f]{40}")
PAUSES_S = (1.0, 3.0)
LONGEST_WAIT_S = 60.0
"""A longer wait is told, not waited for."""
_MAX_ANSWER = 1 << 16


@dataclass(frozen=True)
class _Answer:
    status: int
    line: str
    headers: Mapping[str, str]
    body: bytes


def is_commit(ref: str) -> bool:
    """Whether a name is a whole hash, which means the same for ever."""
    return bool(_SHA.fullmatch(ref))


def archive_url(repository: str, commit: str, token: str) -> str:
    """Where a zip of all files lies; the URL holds the token, if there is one (`urls.shown` leaves it out).

    Private repositories are handed out by the API alone. For others codeload is asked, which needs no share of the API's limit.
    """
    if not token:
        return f"{_base(CODELOAD)}/{repository}/zip/{commit}"
    scheme, _, host = _base(API).partition("://")
    return f"{scheme}://x-access-token:{quote(token, safe='')}@{host}/repos/{repository}/zipball/{commit}"


def find_commit(repository: str, ref: str, token: str, warn: Callable[[str], None]) -> str:
    """The hash of the commit that a branch, a tag or the beginning of a hash leads to.

    Args:
        repository: "owner/name".
        ref: "HEAD" is the newest commit of the default branch.
        warn: `Context.warn`, for waits.

    Raises:
        DataError: no such repository or commit.
        NetworkError: not reached, refused, or limited.
    """
    url = f"{_base(API)}/repos/{repository}/commits/{quote(ref, safe='/')}"
    response = _ask(url, token, warn)
    if response.status != 200:
        raise _refusal(response, repository, ref, token)
    commit = response.body[:100].decode("ascii", "replace").strip()
    if not is_commit(commit):
        raise NetworkError(
            f"{urls.origin(url).host} does not answer as GitHub does when asked for {repository}.",
            "A proxy or a login page may stand in between.",
        )
    return commit


def _base(variable: str) -> str:
    base = (os.environ.get(variable, "").strip() or _DEFAULTS[variable]).rstrip("/")
    if wrong := urls.problem(base):
        raise ParamsError(f"The variable {variable} is no address: {wrong}.", f"GitHub's own is {_DEFAULTS[variable]}.")
    return base


def _ask(url: str, token: str, warn: Callable[[str], None]) -> _Answer:
    """The answer, whatever its status but for failures that pass."""
    connections, host = Connections(Limits(), warn), urls.origin(url).host
    for pause_s in (*PAUSES_S, None):
        try:
            response = _answer(connections, url, token)
        except Failed as failure:
            if pause_s is None or not failure.again:
                named = failure.detail if failure.reason == "host_unreachable" else f"{host}: {failure.detail}"
                raise NetworkError(f"{named}.", REMEDY) from failure
        else:
            asked_s = _rate_limit_wait_s(response)
            if pause_s is None or (response.status < 500 and (asked_s is None or asked_s > LONGEST_WAIT_S)):
                return response
            pause_s = max(pause_s, min(asked_s or 0.0, LONGEST_WAIT_S))
            if asked_s:
                warn(f"{host} asks for {pause_s:.0f} s without requests ({response.status}).")
        time.sleep(pause_s)
    raise AssertionError  # the last round returns or raises


def _answer(connections: Connections, url: str, token: str) -> _Answer:
    from urllib3 import exceptions

    headers = {"Accept": "application/vnd.github.sha", "User-Agent": "yolo-pipeline", "X-GitHub-Api-Version": "2022-11-28"}
    response = connections.follow(url, headers, {"Authorization": f"Bearer {token}"} if token else {})
    try:
        return _Answer(response.status, status_line(response), response.headers, response.read(_MAX_ANSWER))
    except exceptions.HTTPError as error:
        raise Failed("cut_off", "the connection broke", again=True) from error
    finally:
        response.close()


def _rate_limit_wait_s(response: _Answer) -> float | None:
    """How long GitHub wants to be left alone, by any of its headers; None when it does not say so."""
    if response.status not in (403, 429):
        return None
    after_s, reset = retry_after_s(response.headers), response.headers.get("X-RateLimit-Reset", "")
    if after_s is not None:
        return after_s
    if response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
        return max(0.0, float(reset[:12]) - time.time())
    return 60.0 if response.status == 429 else None


def _refusal(response: _Answer, repository: str, ref: str, token: str) -> PipelineError:
    status, wait_s = response.status, _rate_limit_wait_s(response)
    get_token = f"A token (https://github.com/settings/tokens) goes into the variable {TOKEN}, or into .env beside params.yaml."
    if wait_s is not None:
        until = time.strftime("%H:%M", time.localtime(time.time() + wait_s))
        more = "Run again then." if token else f"Run again then. With a token the limit is 5,000 requests an hour. {get_token}"
        return NetworkError(f"GitHub answers no more requests from here before {until} ({status}, rate limit).", more)
    if status == 401:
        return NetworkError(f"GitHub does not accept the token in {TOKEN} (401).", get_token)
    if status in (403, 404):
        known = "with this token" if token else "without a token"
        return DataError(
            f"collect.source: GitHub has no repository '{repository}' that can be seen {known}, or no '{ref}' in it ({status}).",
            "Check the address in a browser." if token else f"Check the address in a browser. {get_token}",
        )
    if status in (409, 422):
        return DataError(
            f"collect.source: the repository '{repository}' has no commit '{ref}' ({status}).",
            "After @ comes a branch, a tag or a commit; without it the default branch is meant.",
        )
    return NetworkError(f"GitHub fails when asked for {repository} ({response.line}).", "Run again later.")
