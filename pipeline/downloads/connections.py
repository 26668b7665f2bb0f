"""Connections to hosts: kept open between files, through proxies, with the certificates that this machine trusts.

urllib3 does the talking, because it keeps connections open and is safe to share between threads, which the standard library's
`urllib.request` does and is not; requests would add a layer that costs as much again for every small file.

The usual environment variables count: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (and the system's settings on macOS and
Windows); SSL_CERT_FILE, SSL_CERT_DIR, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE.
"""

from __future__ import annotations

import base64
import email.utils
import math
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin

from pipeline import urls
from pipeline.downloads.items import Failed, Limits
from pipeline.downloads.silence import REMEDY, Attempt, Silence
from pipeline.errors import NetworkError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

REACH_S = 4.0
"""How long a host may take to be found and to answer at first: a machine without a network knows within five seconds."""
ADDRESS_S = 1.5
"""How long one of the addresses of a host may take of that; an IPv6 that leads nowhere must leave time for the next."""
CONNECT_S = 10.0
GIVE_UP_HOSTS = 8
"""When so many hosts cannot be reached, or keep silent, and no other was, it is the network that is missing."""
MAX_REDIRECTS = 10
MAX_WAIT_S = 100 * 86_400.0
"""Beyond it, it does not matter for how long a host wants to be left alone; dates may lie thousands of years ahead."""
MAX_REST = 1 << 16
"""Bytes of an answer that nobody wants, read so that its connection can be used again."""
_REDIRECTS = (301, 302, 303, 307, 308)


class Connections:
    """Thread-safe. A host that was not reached, or keeps silent for too long, is not asked again.

    Args:
        tell: see `Silence`.
    """

    def __init__(self, limits: Limits, tell: Callable[[str], None] | None = None) -> None:
        self._limits = limits
        self._silence = Silence(tell)
        self._lock = threading.Lock()
        self._managers: dict[str, PoolManager] = {}
        self._probes: dict[tuple[str, int], threading.Lock] = {}
        self._unreachable: dict[tuple[str, int], str] = {}
        self._reached: set[tuple[str, int]] = set()
        self._proxies: dict[urls.Origin, str] = {}
        self._context = _tls_context()

    def follow(self, url: str, headers: Mapping[str, str], to_owner: Mapping[str, str]) -> BaseHTTPResponse:
        """The answer to `url`, whatever its status, from where redirects lead to; the body is not read.

        Args:
            to_owner: further headers, for the host of `url` alone.

        Raises:
            Failed: no connection, one that broke, or redirects that lead nowhere.
            NetworkError: no host at all can be reached.
        """
        owner = urls.origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._get(url, {**headers, **to_owner} if urls.origin(url) == owner else headers)
            place = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not place:
                return response
            leave(response)
            url = urljoin(url, place).partition("#")[0]
            if wrong := urls.problem(url):
                raise Failed("bad_url", f"redirected to {urls.shown(url)[:200]}: {wrong}")
        raise Failed("too_many_redirects", f"more than {MAX_REDIRECTS} redirects")

    def _get(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        import urllib3
        from urllib3 import exceptions

        origin = urls.origin(url)
        proxy = self._proxy(origin)
        self._require_reachable(_endpoint(origin, proxy), _shown(origin, proxy))
        attempt = self._attempt(origin, proxy)
        read_s = attempt.limit_s
        try:
            manager = self._manager(proxy)
            response = manager.urlopen(
                "GET",
                urls.without_user(url),
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_S, read_s), read=read_s),
            )
        except (exceptions.LocationParseError, exceptions.LocationValueError, UnicodeError) as error:
            raise Failed("bad_url", f"not a URL ({error})") from error
        except exceptions.SSLError as error:
            detail = "the certificate or the encryption is refused; SSL_CERT_FILE names certificates to trust"
            raise Failed("tls", f"{detail} ({_brief(error)})") from error
        except (exceptions.ConnectTimeoutError, exceptions.NewConnectionError, exceptions.ProxyError) as error:
            raise Failed("connection_lost", f"no connection ({_brief(error)})", again=True, disconnected=True) from error
        except exceptions.ReadTimeoutError as error:
            self._timed_out(attempt)
            raise Failed("timeout", f"no answer within {read_s:.0f} s", again=True) from error
        except exceptions.HTTPError as error:
            raise Failed("connection_lost", f"the connection broke ({_brief(error)})", again=True) from error
        self._silence.heard(origin)
        if proxy:
            self._silence.heard(urls.origin(proxy))
        if read_s < self._limits.read_s:
            be_patient(response, self._limits.read_s)
        return response

    def waiting(self) -> str:
        """See `Silence.waiting`."""
        return self._silence.waiting()

    def give_up(self, url: str) -> None:
        """Ask this host no more: it was there and has gone."""
        origin = urls.origin(url)
        proxy = self._proxy(origin)
        with self._lock:
            self._unreachable[_endpoint(origin, proxy)] = f"{_shown(origin, proxy)} cannot be reached (it stopped answering)"

    def require_any(self) -> None:
        """Raise NetworkError when hosts were asked and not one could be reached."""
        with self._lock:
            if self._unreachable and not self._reached:
                raise NetworkError(f"{next(iter(self._unreachable.values()))}.", REMEDY)

    def _attempt(self, origin: urls.Origin, proxy: str) -> Attempt:
        """Silence is the proxy's until it has passed on any answer, and then that of the host behind it."""
        whose, shown = origin, origin.host
        if proxy and self._silence.is_silent(urls.origin(proxy)):
            whose, shown = urls.origin(proxy), _shown(origin, proxy)
        with self._given_up(whose):
            return self._silence.attempt(whose, self._limits.read_s, shown)

    def _timed_out(self, attempt: Attempt) -> None:
        with self._given_up(attempt.origin):
            self._silence.timed_out(attempt)

    @contextmanager
    def _given_up(self, whose: urls.Origin) -> Iterator[None]:
        """Take who has been silent for too long for somebody who cannot be reached."""
        try:
            yield
        except NetworkError as error:
            with self._lock:
                self._reached.discard(whose[1:])
                self._unreachable[whose[1:]] = why = error.message.rstrip(".")
                if len(self._unreachable) >= GIVE_UP_HOSTS and self._silence.nobody_heard():
                    raise
            raise Failed("host_unreachable", why) from error

    def _require_reachable(self, endpoint: tuple[str, int], shown: str) -> None:
        if endpoint not in self._reached:
            with self._lock:
                probing = self._probes.setdefault(endpoint, threading.Lock())
            with probing:
                if endpoint not in self._reached and endpoint not in self._unreachable:
                    self._probe(endpoint, shown)
        if endpoint in self._unreachable:
            if len(self._unreachable) >= GIVE_UP_HOSTS:
                self.require_any()
            raise Failed("host_unreachable", self._unreachable[endpoint])

    def _probe(self, endpoint: tuple[str, int], shown: str) -> None:
        why = _why_unreachable(*endpoint)
        with self._lock:
            if why:
                self._unreachable[endpoint] = f"{shown} cannot be reached ({why})"
            else:
                self._reached.add(endpoint)

    def _proxy(self, origin: urls.Origin) -> str:
        if origin not in self._proxies:  # looking through the environment takes longer than a small file
            self._proxies[origin] = _proxy(origin)
        return self._proxies[origin]

    def _manager(self, proxy: str) -> PoolManager:
        if proxy not in self._managers:
            with self._lock:
                self._managers.setdefault(proxy, self._new_manager(proxy))
        return self._managers[proxy]

    def _new_manager(self, proxy: str) -> PoolManager:
        import urllib3

        per_host = max(1, min(self._limits.parallel, self._limits.per_host))
        if not proxy:
            return urllib3.PoolManager(64, maxsize=per_host, ssl_context=self._context)
        user = urls.credentials(proxy)
        headers = {"Proxy-Authorization": basic(user)} if user else {}
        return urllib3.ProxyManager(
            urls.without_user(proxy), 64, maxsize=per_host, ssl_context=self._context, proxy_headers=headers
        )


def require_reachable(url: str) -> None:
    """For libraries that would keep trying: find out within `REACH_S` whether the host of a URL, or the proxy to it, is there.

    Raises:
        NetworkError: it is not.
    """
    origin = urls.origin(url)
    proxy = _proxy(origin)
    if why := _why_unreachable(*_endpoint(origin, proxy)):
        raise NetworkError(f"{_shown(origin, proxy)} cannot be reached ({why}).", REMEDY)


def basic(user_and_password: str) -> str:
    """The header of RFC 7617."""
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()


def _proxy(origin: urls.Origin) -> str:
    """The proxy that leads to a host, or ""."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    found = proxies.get(origin.scheme) or proxies.get("all") or ""
    if not found or proxy_bypass(f"{origin.host}:{origin.port}") or proxy_bypass(origin.host):
        return ""
    found = found if "://" in found else f"http://{found}"
    if wrong := urls.problem(found):
        raise NetworkError(f"The proxy {urls.shown(found)} cannot be used: {wrong}.", "Set HTTPS_PROXY to an http:// address.")
    return found


def _endpoint(origin: urls.Origin, proxy: str) -> tuple[str, int]:
    """Host and port that a connection is opened to."""
    return urls.origin(proxy)[1:] if proxy else origin[1:]


def _shown(origin: urls.Origin, proxy: str) -> str:
    return f"The proxy {urls.origin(proxy).host}, on the way to {origin.host}," if proxy else origin.host


def _why_unreachable(host: str, port: int) -> str:
    """Connect once, in a thread of its own: looking up a name alone can take twenty seconds, and cannot be told not to."""
    import socket

    answer: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), ADDRESS_S).close()
            answer.append("")
        except TimeoutError:
            answer.append("no answer")
        except socket.gaierror as error:
            answer.append(f"the name is not found: {error.strerror}")
        except (OSError, UnicodeError) as error:
            answer.append(getattr(error, "strerror", None) or str(error))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_S)
    return answer[0] if answer else f"no answer within {REACH_S:g} s"


def _tls_context() -> ssl.SSLContext:
    bundle = next((os.environ[name] for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    try:
        if bundle:
            folder = Path(bundle).is_dir()
            return ssl.create_default_context(capath=bundle if folder else None, cafile=None if folder else bundle)
        context = ssl.create_default_context()
    except OSError as error:
        raise NetworkError(f"The certificates in {bundle} cannot be read ({error}).", "Check REQUESTS_CA_BUNDLE.") from error
    known = ssl.get_default_verify_paths()
    if os.name == "posix" and not (known.cafile or known.capath):
        import certifi  # Python from python.org on macOS comes without certificates

        context.load_verify_locations(certifi.where())
    return context


def _brief(error: Exception) -> str:
    """The message of an error of urllib3, without the objects it prints before it."""
    text = str(error.__cause__ or error)
    return unquote(urls.shown(text.rpartition(">: ")[2]))[:200]


def status_line(response: BaseHTTPResponse) -> str:
    """`404 Not Found`; the phrase is the server's and may be anything."""
    phrase = "".join(letter for letter in (response.reason or "") if letter.isprintable())[:60]
    return f"{response.status} {phrase}".strip()


def be_patient(response: BaseHTTPResponse, read_s: float) -> None:
    """Allow for other silences in the rest of an answer than there was for its beginning; urllib3 has no word for it."""
    stream = getattr(getattr(response, "_fp", None), "fp", None)
    if (sock := getattr(getattr(stream, "raw", None), "_sock", None)) is not None:
        sock.settimeout(read_s)


def leave(response: BaseHTTPResponse) -> None:
    """Give the connection back for the next file if the rest of the answer is short, else close it."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) <= MAX_REST:
        response.drain_conn()
        response.release_conn()
    else:
        response.close()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from a Retry-After (RFC 9110, 10.2.3) of seconds or of a date, which is held against the server's own clock.

    Args:
        headers: of an answer, of any library: a mapping that does not tell upper from lower case.

    Returns:
        At most `MAX_WAIT_S`; None when there is none that can be read.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return min(float(value), MAX_WAIT_S)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
        now = headers.get("Date", "")
        wait_s = until - (email.utils.parsedate_to_datetime(now).timestamp() if now else time.time())
        return min(max(0.0, wait_s), MAX_WAIT_S)
    except (ValueError, TypeError, OverflowError):
        return None


def wait_in_words(wait_s: float | None) -> str:
    """What to say of a host that wants no more requests: `it asks to wait 30 s`, or from an hour on until when, in local time."""
    if wait_s is None:
        return "it does not say for how long"
    if wait_s < 120:
        return f"it asks to wait {wait_s:.0f} s"
    if wait_s < 3600:
        return f"it asks to wait {math.ceil(wait_s / 60)} min"
    if wait_s >= MAX_WAIT_S:
        return f"it asks to wait for more than {MAX_WAIT_S / 86_400:.0f} days"
    return f"it asks to wait until {time.strftime('%Y-%m-%d %H:%M', time.localtime(time.time() + wait_s))}"
