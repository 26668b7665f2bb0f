"""What a person sees: tables, plan lines, progress bars. Together with cli.py the only place that prints."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TextIO

from pipeline.runner import Outcome, Step
from pipeline.stage import Advance

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_QUIET_INTERVAL_S, _WAITING_INTERVAL_S = 15.0, 4.0
"""How often there is a line where there is no bar, and how often while a host does not answer."""
_NARROWEST, _NAME = 12, 24
"""Places that a column keeps on a narrow terminal, and the first one, which says what a row is about; below that, lines wrap."""


class Console:
    """Prints to stdout; with `as_json` everything for people goes to stderr and stdout gets one JSON document.

    Implements the runner's `Reporter`.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self._quiet = quiet
        self._stream: TextIO = sys.stderr if as_json else sys.stdout
        self._position = (0, 0)
        for stream in (sys.stdout, sys.stderr):
            # Windows consoles and pipes may not know our characters; a missing glyph must not end a run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")

    def style(self, text: str, *styles: str) -> str:
        return _styled(text, styles, self._stream)

    def say(self, text: str = "", *styles: str) -> None:
        if not self._quiet:
            _print(self.style(text, *styles), self._stream)

    def json(self, document: object) -> None:
        # ASCII: a pipe on Windows has some code page, and whoever reads it expects JSON in UTF-8.
        _print(json.dumps(document, indent=1, default=str), sys.stdout)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Left-aligned columns below a dimmed header, if there is one.

        On a terminal the widest columns are cut until a row is a line; what goes into a file or another program stays
        whole.
        """
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(_cells(row[i]) for row in [list(header), *texts]) for i in range(len(header))]
        if self._stream.isatty():
            room = _columns(self._stream) - 2 * len(widths)
            spare = [width - (_NARROWEST if i else _NAME) for i, width in enumerate(widths)]
            while sum(widths) > room and max(spare) > 0:
                widest = spare.index(max(spare))
                widths[widest], spare[widest] = widths[widest] - 1, spare[widest] - 1
        if any(header):
            self.say(_row(header, widths), "dim")
        for row in texts:
            self.say(_row(row, widths))

    def error(self, text: str) -> None:
        _print(_styled("error: ", ("red", "bold"), sys.stderr) + text, sys.stderr)

    # ---------------------------------------------------------------- Reporter

    def plan(self, steps: Sequence[Step]) -> None:
        self.say("plan", "bold")
        width = max(len(step.stage) for step in steps)
        for step in steps:
            name = step.stage.ljust(width)
            if step.run:
                self.say(f"  {name}  {self.style('run  ', 'yellow')}  because {'; '.join(step.reasons)}")
            else:
                version = step.version.name if step.version else ""
                self.say(f"  {name}  {self.style('reuse', 'green')}  {version}")
        self._position = (0, len(steps))

    def started(self, step: Step) -> None:
        self.say(f"\n{self._count()} {self.style(step.stage, 'bold')}")

    def finished(self, outcome: Outcome) -> None:
        if outcome.reused:
            self.say(
                f"\n{self._count()} {self.style(outcome.stage, 'bold')}  reused: {outcome.version.name} is of this very recipe"
            )
        else:
            self.say(
                f"      {outcome.version.name}  {outcome.version.manifest['headline']}  {duration(outcome.seconds)}", "green"
            )
        self._position = (self._position[0] + 1, self._position[1])

    def warn(self, text: str) -> None:
        _print(_styled(f"warning: {text}", ("yellow",), sys.stderr), sys.stderr)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """A bar with counts and time left; without a terminal a line now and then instead."""
        if self._quiet:
            yield lambda n=1, **info: None
        elif _is_screen(self._stream):
            with _bar(label, total, self._stream) as advance:
                yield advance
        else:
            yield self._lines(label, total)

    def _lines(self, label: str, total: int) -> Advance:
        started = last = time.monotonic()
        done = 0

        def advance(n: int = 1, more: int = 0, **info: object) -> None:
            nonlocal last, done, total
            done, total = done + n, total + more
            now = time.monotonic()
            interval_s = _WAITING_INTERVAL_S if "waiting" in info else _QUIET_INTERVAL_S
            if now - last >= interval_s and (done < total or not total):
                last = now
                of = f"/{total}" if total else ""
                left = f", {duration((now - started) / done * (total - done))} left" if done and total else ""
                self.say(f"      {label}: {done}{of}{left}{_info(info)}")

        return advance

    def _count(self) -> str:
        return self.style(f"[{self._position[0] + 1}/{self._position[1]}]", "dim")


def _is_screen(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor and show colours; that of an editor often cannot."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _columns(stream: TextIO) -> int:
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _styled(text: str, styles: Sequence[str], stream: TextIO) -> str:
    if not styles or not _is_screen(stream) or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{';'.join(_STYLES[style] for style in styles)}m{text}\x1b[0m"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  " + "  ".join(_fitted(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _fitted(text: str, width: int) -> str:
    """Cut or filled up to a width on the screen."""
    if _cells(text) > width:
        ends = accumulate(map(_cells, text))
        text = "".join(letter for letter, end in zip(text, ends, strict=True) if end < width) + "…"
    return text + " " * (width - _cells(text))


def _cells(text: str) -> int:
    """How wide a text is on the screen: Chinese characters and emoji take two places, accents that combine none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def _print(text: str, stream: TextIO) -> None:
    """Print; a reader that has gone away (`… | head`) does not end the work."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # The interpreter flushes once more when it exits, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _bar(label: str, total: int, stream: TextIO) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console as RichConsole

    columns = (
        progress.TextColumn("      {task.description}"),
        progress.BarColumn(bar_width=32),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        progress.TextColumn("{task.fields[info]}"),
    )
    with progress.Progress(*columns, console=RichConsole(file=stream), transient=True) as bar:
        task = bar.add_task(label, total=total or None, info="")

        def advance(n: int = 1, more: int = 0, **info: object) -> None:
            nonlocal total
            if info:
                bar.update(task, info=_info(info))
            if more:
                total += more
                bar.update(task, total=total)
            bar.advance(task, n)

        yield advance


def _info(info: Mapping[str, object]) -> str:
    parts = (f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in info.items())
    return "  " + "  ".join(parts) if info else ""


def duration(seconds: float) -> str:
    """`8.3 s`, `2 min 5 s`, `1 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as `12.3 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
