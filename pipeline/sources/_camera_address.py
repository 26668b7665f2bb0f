"""What stands after `camera:`: a webcam's number, the address of a stream, a text file with one, or a video in a camera's place.

Streams often want a login. It comes from the environment or `.env`, or the text file has the whole address: what is written in
the params stands in every manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pipeline import urls
from pipeline.errors import DataError, ParamsError
from pipeline.paths import is_video
from pipeline.sources import local_path
from pipeline.sources._credentials import secret
from pipeline.stage import Context

USER, PASSWORD = "CAMERA_USER", "CAMERA_PASSWORD"
SCHEMES = ("rtsp", "rtsps", "http", "https")
MAX_TEXT_BYTES = 1 << 16


@dataclass(frozen=True)
class Address:
    """Which camera is meant.

    Attributes:
        shown: as people may see it.
        target: what opens it; of a stream the address with its login.
    """

    kind: Literal["webcam", "stream", "video"]
    shown: str
    target: int | str | Path = field(repr=False)

    def with_login(self, base: Path) -> Address:
        """A stream's address without a login gets that of the environment, or else of `.env` in the folder `base`.

        Raises:
            DataError: there is a `.env`, and it is no text.
        """
        if self.kind != "stream" or "@" in urlsplit(str(self.target)).netloc:
            return self
        user, password = (secret(base, name) for name in (USER, PASSWORD))
        if not user:
            return self
        parts = urlsplit(str(self.target))
        place = f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"
        return Address(self.kind, self.shown, urlunsplit(parts._replace(netloc=place)))


def parse(location: str, context: Context) -> Address:
    """The camera that a location means.

    Raises:
        ParamsError: none.
        DataError: a file that is not there, or holds no address.
    """
    if location.isascii() and location.isdecimal() and len(location) < 4:
        return Address("webcam", f"camera {int(location)}", int(location))
    if "://" in location:
        return _stream(location, "collect.source")
    path = local_path(location, context)
    if not location or not path.is_file():
        raise DataError(
            f"collect.source: there is no camera '{location}'.",
            "After `camera:` comes a webcam's number (0), the address of a stream (rtsp://…, http://…), or a text file with one.",
        )
    if is_video(path.name):
        return Address("video", path.name, path)
    return _stream(_line_of(path), str(path))


def _stream(url: str, where: str) -> Address:
    shown = urls.shown(url)
    scheme, _, rest = url.partition("://")
    wrong = urls.problem(f"http://{rest}") if scheme.lower() in SCHEMES else f"a stream begins with {', '.join(SCHEMES)}://"
    if wrong:
        raise ParamsError(f"{where}: {shown[:200]} is no address of a stream: {wrong}.")
    return Address("stream", shown, url)


def _line_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1 or "://" not in lines[0]:
        raise DataError(f"{path}: neither a video nor a text with one address of a stream.", "Write one line: rtsp://…")
    return lines[0]
