"""What the errors of `huggingface_hub` mean to a user, in a line. Theirs have several lines, with URLs that may be signed."""

from __future__ import annotations

from typing import Any

from pipeline.downloads.connections import retry_after_s, wait_in_words
from pipeline.errors import DataError, NetworkError, PipelineError

HOW_TO_LOG_IN = (
    "A free account makes tokens (https://huggingface.co/settings/tokens, kind Read): put one into the environment as HF_TOKEN, "
    "or as a line HF_TOKEN=… into a file .env beside params.yaml, or log in with `hf auth login`."
)
_TRANSPORT = {
    "ConnectError": "no connection, or its certificate is not accepted",
    "ConnectTimeout": "no connection in time",
    "ProxyError": "the proxy refuses",
    "ReadError": "the connection broke",
    "ReadTimeout": "silent for too long",
    "RemoteProtocolError": "the connection broke",
    "RuntimeError": "the connection broke",
    "TooManyRedirects": "it redirects in a circle",
}
_RUN_AGAIN = "Run again: files that are whole are kept."


class Busy(Exception):
    """The host asks for a wait that is too long."""

    def __init__(self, host: str, status: int, wait_s: float) -> None:
        super().__init__(f"{host} answers {status}")
        self.host, self.status, self.wait_s = host, status, wait_s


def offline() -> NetworkError:
    return NetworkError(
        "The hub is not asked: the variable HF_HUB_OFFLINE is set.", "Unset it; what was downloaded before can be used without."
    )


def explain(error: Exception, host: str, repo: str, revision: str, page: str, has_token: bool) -> PipelineError:
    """The error to raise instead.

    Raises:
        Exception: `error` itself, where it is of the disk or a bug.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # that it is not in the cache either, after something else went wrong
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, Busy):
        return _too_many(error.host, error.status, wait_in_words(error.wait_s))
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline()
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, host, repo, revision, page, has_token)
    if isinstance(error, (errors.HTTPError, RuntimeError)):  # a client that another thread has closed is a RuntimeError
        why = _TRANSPORT.get(type(error).__name__, type(error).__name__)
        return NetworkError(f"{host} does not hand out {repo} ({why}).", _RUN_AGAIN)
    if isinstance(error, errors.HFValidationError):
        return DataError(f"collect.source: '{repo}' cannot be the name of a data set.", "Write huggingface:owner/name.")
    if isinstance(error, OSError) and error.errno is None and not isinstance(error, errors.FileMetadataError):
        return NetworkError(f"{host} broke off: a file of {repo} has another length than it announced.", _RUN_AGAIN)
    if isinstance(error, (errors.FileMetadataError, ValueError, KeyError, TypeError, AttributeError)):
        return NetworkError(
            f"{host} does not answer as Hugging Face does when asked for {repo}.",
            "A proxy or a login page may stand in between; HF_ENDPOINT, if it is set, must name a hub.",
        )
    raise error


def _refused(error: Any, host: str, repo: str, revision: str, page: str, has_token: bool) -> PipelineError:
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        who = "this token has no access to it" if has_token else "there is no token"
        return NetworkError(
            f"The data set {repo} is gated, and {who} ({status}).",
            f"Agree to its terms at {page}, and wait if its owner wants to look. {HOW_TO_LOG_IN}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError(
            f"collect.source: the data set {repo} has no revision '{revision}' ({status}).", f"{page}/tree/main shows them."
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NetworkError(f"{host} lists a file of {repo} that it does not hand out ({status}).", _RUN_AGAIN)
    if isinstance(error, errors.DisabledRepoError):
        return DataError(f"collect.source: {host} has closed the data set {repo} ({status}).", f"{page} may say why.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        who = "this token" if has_token else "somebody without a token"
        return DataError(
            f"collect.source: {host} has no data set '{repo}' that {who} may see ({status}).",
            f"Its page tells the name: {page}. " + ("" if has_token else HOW_TO_LOG_IN),
        )
    if status in (401, 403):
        what = "the token" if has_token else "a request without a token"
        return NetworkError(f"{host} does not accept {what} for {repo} ({status}).", HOW_TO_LOG_IN)
    if status == 429:
        return _too_many(host, status, wait_in_words(retry_after_s(error.response.headers)))
    if status >= 500:
        return NetworkError(f"{host} fails when asked for {repo} ({status}).", "Only its owners can mend that: run again later.")
    return NetworkError(f"{host} refuses to hand out {repo} ({status}).", _RUN_AGAIN)


def _too_many(host: str, status: int, wait: str) -> NetworkError:
    return NetworkError(
        f"{host} answers no more for now: too many requests ({status}); {wait}.", f"{_RUN_AGAIN} A token may do more."
    )
