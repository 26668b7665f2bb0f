"""Names of files inside a data set: relative POSIX paths, the same on every system."""

from __future__ import annotations

from pathlib import PurePosixPath


def is_safe_relative(path: str) -> bool:
    """Whether a string is a relative POSIX path that stays inside its folder, on every system."""
    if not path or "\\" in path or path.startswith("/") or "\0" in path:
        return False
    parts = PurePosixPath(path).parts
    return ".." not in parts and not (len(parts[0]) == 2 and parts[0][1] == ":")


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def is_image(path: str) -> bool:
    """Whether a file name has the suffix of an image, in any case."""
    return PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
