"""URLs: which can be fetched, and how one is shown without the secrets in it.

Links that were signed for one person carry a token in the query, and private servers a password before the host. Neither may get
into a log, an error, a ledger or a manifest.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

MAX_LENGTH = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SECRET_NAME = re.compile(
    r"token|signature|secret|passw|credential|session|rlkey|(^|[_.-])(sig|auth|jwt|pwd|key|code)($|[_.-])|apikey|accesskey|authorization"
    r"|^x-(amz|goog|oss|cos|ms)-|^q-(sign|ak)|keyid",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"[A-Za-z0-9_.+/=~-]{40,}")
"""Long and without words: the shape of a token, whatever its name. File names in queries are shorter or have other characters."""


class Origin(NamedTuple):
    """Who is asked: credentials go to no other."""

    scheme: str
    host: str
    port: int


def problem(url: str) -> str:
    """Why a URL cannot be fetched; "" when it can."""
    if len(url) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH:,} characters"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "white space or control characters in the URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"not a URL ({error})"
    if parts.scheme.lower() not in _DEFAULT_PORTS:
        return "only http and https are fetched" if parts.scheme else "not a URL: it starts with neither http:// nor https://"
    return "" if host else "the URL names no host"


def origin(url: str) -> Origin:
    """Scheme, host and port of a URL without a `problem`."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return Origin(scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[scheme])


def credentials(url: str) -> str:
    """`user:password` as a server wants it, or ""."""
    parts = urlsplit(url)
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""


def without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host_and_port(parts), parts.path, parts.query, "")) if "@" in parts.netloc else url


def without_query(url: str) -> str:
    """What tells the kind of file: `https://host/a.jpg` of `https://host/a.jpg?width=640`."""
    return url.partition("#")[0].partition("?")[0]


def shown(url: str) -> str:
    """The URL as people may see it: no user, password, fragment, nor parameters that look like tokens."""
    try:
        parts = urlsplit(url)
        place = _host_and_port(parts)
    except ValueError:
        return re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    if "?" not in url and "#" not in url and "@" not in parts.netloc:
        return url
    kept = [pair for pair in parts.query.split("&") if not _is_secret(pair)]
    return urlunsplit((parts.scheme, place, parts.path, "&".join(kept), ""))


def has_secrets(url: str) -> bool:
    """Whether `shown` leaves out more than a fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "@" in url
    return "@" in parts.netloc or any(map(_is_secret, parts.query.split("&")))


def _is_secret(pair: str) -> bool:
    name, _, value = pair.partition("=")
    return bool(_SECRET_NAME.search(unquote(name)) or _SECRET_VALUE.fullmatch(unquote(value)))


def _host_and_port(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
