"""Names of files inside a data set: relative POSIX paths, the same on every system."""

from __future__ import annotations

import os
import re
import unicodedata

# Controls, and what Unicode counts as the end of a line: a list with one name a line could not hold them.
CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_DRIVE = re.compile("[A-Za-z]:")
MAX_NAME_BYTES = 255
"""Of a file or folder, on all common file systems."""


def is_safe_relative(path: str) -> bool:
    """Whether a string is a relative POSIX path that stays inside its folder, on every system."""
    if not path or "\\" in path or path.startswith("/") or "\0" in path:
        return False
    # On Windows "D:x" is a file of another drive, and "a:x" a stream hidden behind the file "a".
    if _DRIVE.match(path) or (os.name == "nt" and ":" in path):
        return False
    return ".." not in path.split("/")


def is_clean(path: str) -> bool:
    """Whether a name from elsewhere can be used once it is `portable`: safe, plain, short, without empty parts and dots."""
    is_safe = is_safe_relative(portable(path)) and not _DRIVE.match(path)
    return is_safe and is_plain(path) and not is_long(path) and not any(part in ("", ".") for part in path.split("/"))


def is_long(path: str) -> bool:
    """Whether a part of a name (Unicode) is longer than file systems can hold, or would be once it is `portable`."""
    return any(len(part.encode()) > MAX_NAME_BYTES for part in portable(path).split("/"))


def is_plain(path: str) -> bool:
    """Whether a name is Unicode (not bytes that are no UTF-8) without control characters and line ends."""
    if path.isprintable():
        return True
    return not CONTROL.search(path) and not any("\ud800" <= letter <= "\udfff" for letter in path)


# https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
_FORBIDDEN = re.compile(r'[<>:"|?*\\]')
_DEVICE = re.compile(r"(?:con(?:in\$|out\$)?|prn|aux|nul|(?:com|lpt)[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
_PERHAPS_ODD = re.compile(r'[<>:"|?*\\]|[. ](?:/|$)|(?:^|/)(?:con|prn|aux|nul|com|lpt)', re.IGNORECASE)


def portable(path: str) -> str:
    """The path, under names that every system can hold: some are forbidden on Windows alone (`aux.jpg`, `a?.jpg`, `a.`).

    Paths that differ only in their suffixes still do, so that the label file of an image stays that of this image.
    """
    if not _PERHAPS_ODD.search(path):
        return path
    return "/".join(map(_portable_name, path.split("/")))


def _portable_name(name: str) -> str:
    if name in (".", ".."):
        return name  # no name, but a way
    name = _FORBIDDEN.sub("_", name).rstrip(". ") or "_"
    return f"_{name}" if _DEVICE.match(name) else name


def folded(path: str) -> str:
    """Equal for paths that are one in some file system, where case or the form of Unicode (NFC, NFD) does not count."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


IMAGE_SUFFIXES = frozenset(
    {"jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "webp", "tif", "tiff", "ppm", "pgm", "gif", "avif", "heic", "heif"}
)

SUFFIX_OF = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "PPM": ".ppm"}
"""By kind, as `images.read_header` tells it."""

VIDEO_SUFFIXES = frozenset(
    {"mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "ts", "mts", "m2ts", "3gp", "flv", "ogv", "mjpeg", "mjpg"}
)


def is_image(path: str) -> bool:
    """Whether a file name has the suffix of an image, in any case."""
    return _has_suffix(path, IMAGE_SUFFIXES)


def is_video(path: str) -> bool:
    """Whether a file name has the suffix of a video, in any case."""
    return _has_suffix(path, VIDEO_SUFFIXES)


def _has_suffix(path: str, suffixes: frozenset[str]) -> bool:
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    return bool(stem) and suffix.lower() in suffixes
