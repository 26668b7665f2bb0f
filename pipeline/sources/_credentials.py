"""Secrets: from the environment, else from a file `.env` beside params.yaml."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.errors import DataError

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>\w+)\s*=\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>(?:[^\s#]\S*)?))"""
)


def secret(base: Path, name: str) -> str:
    """The value of a variable of the environment, else of `base/.env`; "" where neither has it.

    Raises:
        DataError: there is a `.env`, and it is no text.
    """
    return os.environ.get(name, "").strip() or from_dotenv(base, name)


def from_dotenv(base: Path, name: str) -> str:
    """The value of a variable in `base/.env`, or "".

    Raises:
        DataError: the file cannot be read.
    """
    path = base / ".env"
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}).", "It must be text in UTF-8.") from None
    found = [line for line in map(_LINE.match, text.splitlines()) if line and line["name"] == name]
    return next((value for kind in ("single", "double", "bare") if (value := found[-1][kind])), "") if found else ""
