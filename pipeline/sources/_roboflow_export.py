"""Have Roboflow make an export, wait for it, and download it whole."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import urls
from pipeline.downloads import Download, Limits, download_all
from pipeline.downloads.silence import REMEDY
from pipeline.errors import DataError, NetworkError, PipelineError
from pipeline.sources import _roboflow_api as api
from pipeline.sources._packed import why_no_zip
from pipeline.sources._roboflow_api import Query, Refused, Service
from pipeline.sources._unpacking import MAX_BYTES
from pipeline.stage import JSON, Context

POLL_S = 2.0
"""Between two questions whether it is done."""
LIMITS = Limits(longest_wait_s=api.LONGEST_WAIT_S, read_s=api.READ_S, max_bytes=MAX_BYTES)
_EXPIRED = "Links run out after a while: run again."
_HINTS = {
    "access_denied": _EXPIRED,
    "not_found": _EXPIRED,
    "too_many_requests": "Run again then: what has come is kept.",
    "server_error": "Only Roboflow can mend that: run again later, what has come is kept.",
    "empty_file": "Run again.",
    "check_failed": "Run again; behind a proxy or a login page, let it pass.",
}


def prepare(service: Service, query: Query, limit_s: float, context: Context) -> JSON:
    """Wait until the version and its export are made; what Roboflow says of them, with `export.link`.

    Args:
        limit_s: how long both may take together.

    Raises:
        DataError: no such project, version or format; or the time is up.
        NetworkError: refused, or not reached.
    """
    deadline = time.monotonic() + limit_s

    def version() -> tuple[JSON, float | None]:
        answer = api.ask_version(service, query)
        about = _mapping(answer, "version")
        busy = bool(about.get("generating")) or about.get("images") == 0
        return answer, _fraction(about) if busy else None

    def export() -> tuple[JSON, float | None]:
        answer = api.ask_export(service, query)
        return answer, _fraction(answer) if answer.get("ready") is False else None

    try:
        described = _wait(version, "Roboflow makes the version", deadline, query, limit_s, context)
    except Refused as refused:
        failure = _explain(refused, query) or _absent(service, query, refused)
    else:
        try:
            return {**described, **_wait(export, "Roboflow makes the export", deadline, query, limit_s, context)}
        except Refused as refused:
            failure = _explain(refused, query) or _not_exported(query, refused)
    raise failure


def _wait(
    ask: Callable[[], tuple[JSON, float | None]], label: str, deadline: float, query: Query, limit_s: float, context: Context
) -> JSON:
    """Ask until `ask` tells no progress any more; its last answer."""
    answer, progress = ask()
    if progress is None:
        return answer
    shown = 0
    with context.progress(f"{label} (%)", 100) as advance:
        while progress is not None:
            percent = max(shown, int(100 * progress))
            if percent > shown:
                advance(percent - shown)
                shown = percent
            left = deadline - time.monotonic()
            if left <= 0:
                raise DataError(
                    f"{label} of {query} for longer than {limit_s / 60:g} min ({shown} % done).",
                    "It goes on there: run again later, or raise collect.options.wait_minutes.",
                )
            time.sleep(min(POLL_S, left))
            answer, progress = ask()
    return answer


def _fraction(about: JSON) -> float:
    """Progress within 0 to 1: Roboflow has been seen to tell more than 100 %, and may tell nothing."""
    progress = about.get("progress")
    known = isinstance(progress, int | float) and math.isfinite(progress)
    return min(1.0, max(0.0, float(progress))) if known and progress is not None else 0.0


def _explain(refused: Refused, query: Query) -> PipelineError | None:
    """The refusals that mean the same wherever they are met; None for another."""
    host, status = refused.host, refused.status
    said = f": {refused.said}" if refused.said else ""
    if status in (401, 403):
        return NetworkError(f"{host} does not accept the key for {query} ({status}){said}", api.HOW_TO_GET_A_KEY)
    if status == 429:
        return NetworkError(f"{host} answers no more for now: too many requests (429); {refused.wait}.", "Run again then.")
    if status >= 500:
        return NetworkError(
            f"{host} fails when asked for {query} ({status}){said}", "Only Roboflow can mend that: run again later."
        )
    return None


def _absent(service: Service, query: Query, refused: Refused) -> PipelineError:
    """Whether it is the version or the whole project that does not exist."""
    project = f"{query.workspace}/{query.project}"
    try:
        versions = _versions(api.ask_project(service, query))
    except Refused as again:
        return _explain(again, query) or DataError(
            f"collect.source: Roboflow has no project '{project}' that this key may see ({again.status}).",
            "The address of the project's page tells both names: https://universe.roboflow.com/<workspace>/<project>.",
        )
    if query.version in versions:
        return NetworkError(f"{refused.host} does not tell of {query} ({refused.status}): {refused.said}", "Run again later.")
    there = f"Versions that exist: {', '.join(map(str, versions))}." if versions else "It has none yet: generate one on its page."
    return DataError(f"collect.source: the project '{project}' has no version {query.version} ({refused.status}).", there)


def _not_exported(query: Query, refused: Refused) -> PipelineError:
    said = f": {refused.said}" if refused.said else "."
    return DataError(
        f"collect.options.format: {refused.host} does not export {query} as '{query.format}' ({refused.status}){said}",
        "Choose one of https://roboflow.com/formats that fits the kind of project, such as coco, yolov8 or voc.",
    )


def _versions(answer: JSON) -> list[int]:
    """The numbers of a project's versions; each has an id such as "workspace/project/3"."""
    listed = answer.get("versions") or _mapping(answer, "project").get("versions")
    rows = listed if isinstance(listed, list) else []
    ids = (str(each.get("id")).rpartition("/")[2] for each in rows if isinstance(each, dict))
    return sorted(int(number) for number in ids if number.isascii() and number.isdigit())


def _mapping(answer: JSON, name: str) -> JSON:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


# ---- the download


def download(service: Service, answer: JSON, query: Query, target: Path, context: Context) -> str:
    """Bring the archive that `answer` links to; its BLAKE3.

    The link is another one each time, and the archive behind it the same: what has come of it is gone on from, by later runs too,
    if the host still calls it by the same ETag.

    Args:
        target: is replaced when the new archive is whole.

    Raises:
        NetworkError: not reached, refused, cut off, of another length than announced, or no zip archive.
    """
    link = _mapping(answer, "export").get("link")
    allowed = ("https://",) if service.base.startswith("https://") else ("https://", "http://")
    if not isinstance(link, str) or not link.startswith(allowed) or urls.problem(link):
        raise NetworkError(f"{service.host} tells no link to the export.", "Run again; if that does not help, ask Roboflow.")
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)  # whole, but nobody knows of when: a run was killed before it gave it its name
    wanted = Download(link, fresh, identity=f"roboflow {query} {query.format}")
    outcome = download_all([wanted], context.progress, _require_zip, LIMITS)[0]
    if outcome.reason:
        why = outcome.detail.removeprefix(f"{urls.shown(link)}: ")  # the link opens the archive to whoever has it
        hint = _HINTS.get(outcome.reason, REMEDY)
        raise NetworkError(f"{urls.origin(link).host} does not hand out the export of {query}: {why}.", hint)
    os.replace(fresh, target)
    return outcome.hash


def _require_zip(path: Path) -> None:
    if wrong := why_no_zip(path):
        raise DataError(f"it sent {wrong}")
