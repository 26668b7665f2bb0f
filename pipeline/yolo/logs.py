"""Where ultralytics' output goes: to one file, in which no path of this machine is left."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def logged(path: Path, aliases: Mapping[Path, str]) -> Iterator[None]:
    """Send ultralytics' log and Python's warnings to a file, and nothing to the terminal.

    Args:
        aliases: folder → what the file calls it; the longest that fits counts.
    """
    from ultralytics.utils.tqdm import TQDM

    logger = logging.getLogger("ultralytics")
    handlers, level, show, new_bar = logger.handlers[:], logger.level, warnings.showwarning, TQDM.__init__
    to_file = _ToFile(path, encoding="utf-8")
    to_file.setFormatter(_Plain(aliases))
    logger.handlers = [to_file]
    logger.setLevel(logging.INFO)
    warnings.showwarning = lambda message, category, *_, **__: logger.warning("%s: %s", category.__name__, message)
    TQDM.__init__ = lambda bar, *args, **kwargs: new_bar(bar, *args, **(kwargs | {"disable": True}))
    try:
        yield
    finally:
        logger.handlers, warnings.showwarning, TQDM.__init__ = handlers, show, new_bar
        logger.setLevel(level)
        to_file.close()


class _ToFile(logging.FileHandler):
    """A disk that is full costs lines of the log: it must neither end the work here nor spill a traceback over the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        pass

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before is tried once more
            super().close()


class _Plain(logging.Formatter):
    """The message alone: no colours, and no path by which the user or the machine could be known."""

    def __init__(self, aliases: Mapping[Path, str]) -> None:
        super().__init__("%(message)s")
        spelled: dict[str, str] = {}
        for folder, alias in aliases.items():
            for path in (folder, folder.resolve()):
                # As Windows spells it, as ultralytics does, and as it stands in a dictionary that was printed.
                spelled |= dict.fromkeys((str(path), path.as_posix(), repr(str(path))[1:-1]), alias)
        self._aliases = spelled
        longest_first = "|".join(re.escape(path) for path in sorted(spelled, key=len, reverse=True))
        self._folders = re.compile(rf"(?<![\w.-])({longest_first})(?![\w-])") if spelled else None

    def format(self, record: logging.LogRecord) -> str:
        text = re.sub(r"\x1b\[[0-9;]*m", "", super().format(record))
        return self._folders.sub(lambda match: self._aliases[match[1]], text) if self._folders else text
