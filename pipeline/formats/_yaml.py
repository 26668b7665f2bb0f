"""YAML of unknown origin: texts, lists and mappings only, and no nesting that the parser itself would not survive."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.errors import DataError

MAX_DEPTH = 64
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def parse(text: str, path: str, first_line: int = 1) -> Any:
    """The value of a document; every scalar is a text: `no` is a name and not False.

    Args:
        first_line: the line of the file where `text` begins.

    Raises:
        DataError: no YAML, or nested so deeply that it can only be meant to do harm; the message starts with `path`, or
            `path:line`.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):  # the C loader would overflow the stack, and take the process along
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise DataError(f"{path}: malformed YAML (nested deeper than {MAX_DEPTH} levels)")
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 - builds only text, lists, mappings
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + first_line}" if mark else path
        raise DataError(f"{where}: malformed YAML ({getattr(error, 'problem', None) or 'unreadable'})") from error
