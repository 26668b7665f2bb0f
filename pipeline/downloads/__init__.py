"""Many URLs to files: in parallel, resumable, polite, and each file whole and checked before it has its name.

    items          what is wanted, within which limits, and what became of it
    silence        of hosts that accept a connection and do not answer
    connections    to hosts, kept open, through proxies, with this machine's certificates
    transfer       one attempt at one file
    schedule       which file is next, when a host may be asked, who gets another attempt
    meter          rate and time left
    crew           the threads that do it

What fails for good does not stop the rest: it is told with a reason. Ctrl-C and a killed process leave what is whole, and partial
files that the next call goes on from.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline import urls
from pipeline.downloads.crew import fetched
from pipeline.downloads.items import Check, Download, Limits, Outcome
from pipeline.downloads.silence import REMEDY
from pipeline.errors import NetworkError
from pipeline.machine import require_room
from pipeline.stage import Progress

__all__ = ["Check", "Download", "Limits", "Outcome", "download", "download_all"]

_HINTS = {
    "access_denied": "The host wants a login: write the URL with user:password@ or its token into a text file of your own.",
    "not_found": "Check the URL in a browser.",
    "bad_url": "Check the URL.",
    "wrong_hash": "The file is not the one that was meant: check where the hash comes from.",
}


def download(wanted: Download, progress: Progress, check: Check | None = None, limits: Limits | None = None) -> str:
    """One file; its BLAKE3, "" when it was there.

    Raises:
        NetworkError: it cannot be had.
    """
    outcome = download_all([wanted], progress, check, limits)[0]
    if outcome.reason:
        raise NetworkError(f"{outcome.detail}.", _HINTS.get(outcome.reason, REMEDY))
    return outcome.hash


def download_all(
    wanted: Sequence[Download],
    progress: Progress,
    check: Check | None = None,
    limits: Limits | None = None,
) -> list[Outcome]:
    """Fetch what is not there yet.

    Args:
        wanted: each with a target of its own. A target that exists is whole and is left as it is.
        progress: `Context.progress`; a step a file, with rate and time left beside it.
        check: called with each file, from several threads, before it gets its name.

    Returns:
        An outcome each, in the order of `wanted`.

    Raises:
        NetworkError: no host can be reached, told within five seconds; or those that can keep silent (`silence`), told then by
            the bar, and raised when they have had their time.
        DataError: the sizes are known, and the disk is too small.
    """
    outcomes: dict[Download, Outcome] = {}
    for each in wanted:
        if each.target.exists():
            outcomes[each] = Outcome(each)
        elif wrong := urls.problem(each.url):
            outcomes[each] = Outcome(each, "bad_url", f"{urls.shown(each.url)[:200]}: {wrong}")
    missing = [each for each in wanted if each not in outcomes]
    for folder in {each.target.parent for each in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    if missing:
        require_room(missing[0].target.parent, sum(each.size or 0 for each in missing))
        with progress("download", len(missing)) as advance:
            for outcome in fetched(missing, check, limits or Limits(), advance):
                outcomes[outcome.download] = outcome
    return [outcomes[each] for each in wanted]
