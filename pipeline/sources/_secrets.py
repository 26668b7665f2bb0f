"""Keys and tokens: from the environment, else from a file `.env` beside params.yaml."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.errors import DataError

_LINE = re.compile(r"""\s*(?:export\s+)?(?P<name>\w+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^#\s]*))""")


def find(name: str, base: Path) -> str:
    """The value of a variable, "" where it is not set.

    Args:
        base: the folder of params.yaml.

    Raises:
        DataError: `.env` is no text; its content is not shown.
    """
    if value := os.environ.get(name, "").strip():
        return value
    path = base / ".env"
    if not path.is_file():
        return ""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}).", "It must be text in UTF-8.") from None
    found = [each for each in map(_LINE.match, lines) if each and each["name"] == name]
    return (found[-1]["double"] or found[-1]["single"] or found[-1]["bare"] or "") if found else ""
