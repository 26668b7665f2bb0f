"""What reaches a terminal: tables that fit it, and colours only where they are understood."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest

from pipeline import console as console_module
from pipeline.console import Console

ROWS = [("split@v1", "would run: " + "; ".join(f"stage{n} v1 → v2" for n in range(9)), "4 train, 3 val"), ("train@v1", "-", "x")]


class Terminal(io.StringIO):
    """A screen without a file behind it, so that its width is told by the environment."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no file")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def on(screen: io.StringIO) -> Console:
    with redirect_stdout(screen):
        return Console()


def lines(screen: io.StringIO) -> list[str]:
    return screen.getvalue().splitlines()


def plain(text: str) -> str:
    return text.replace("\x1b[2m", "").replace("\x1b[0m", "")


def test_a_table_fits_the_terminal_by_cutting_its_widest_column(terminal: Terminal) -> None:
    on(terminal).table(("version", "state", "holds"), ROWS)
    header, first, second = map(plain, lines(terminal))
    assert max(map(len, (header, first, second))) <= 60
    assert first.startswith("  split@v1  would run: stage0 v1 → v2; st")
    assert first.endswith("…  4 train, 3 val")
    assert second.index("x") == first.index("4 train") == header.index("holds")


def test_what_is_piped_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    on(pipe := io.StringIO()).table(("version", "state", "holds"), ROWS)
    assert ROWS[0][1] in pipe.getvalue()


def test_a_terminal_that_is_far_too_narrow_keeps_columns_readable(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    on(terminal).table(("version", "state", "holds"), ROWS)
    assert "would run: …" in lines(terminal)[1]


def test_what_a_row_is_about_is_never_cut(terminal: Terminal) -> None:
    on(terminal).table(("version", *"abcde"), [("preprocess@v12", *["some words that fill a column"] * 5)])
    assert plain(lines(terminal)[1]).startswith("  preprocess@v12  some words …  ")


def test_wide_letters_are_counted_as_two(terminal: Terminal) -> None:
    on(terminal).table(("class", "boxes"), [("猫", 1), ("a\u0301b", 2), ("犬" * 40, 3)])
    rows = [plain(line) for line in lines(terminal)[1:]]
    assert rows[2].endswith("犬…  3")
    assert 2 * rows[2].count("犬") < 60
    assert rows[0].index("1") + 1 == rows[1].index("2") - 1, "one takes two places, the other's accent none"


def test_a_table_without_a_header_begins_with_its_rows(terminal: Terminal) -> None:
    on(terminal).table(("", ""), [("made", "today")])
    assert lines(terminal) == ["  made  today"]


@pytest.mark.parametrize(
    ("name", "value", "coloured"), [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)]
)
def test_colours_are_for_terminals_that_know_them(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str, coloured: bool
) -> None:
    monkeypatch.setenv(name, value)
    on(terminal).say("text", "bold")
    assert terminal.getvalue() == ("\x1b[1mtext\x1b[0m\n" if coloured else "text\n")


def test_a_terminal_that_cannot_move_its_cursor_gets_no_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with on(terminal).progress("work", 1) as advance:
        advance()
    assert terminal.getvalue() == ""


def test_lines_in_place_of_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console_module, "_QUIET_INTERVAL_S", 0)
    with Console().progress("download", 2) as advance:
        advance(0, rate="1 MB/s")  # a large file is under way
        advance()
    with Console().progress("record", 0) as advance:
        advance(3)
    with Console().progress("measure", 1) as advance:
        advance(1, more=2)
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first.strip() == "download: 0/2  rate 1 MB/s"
    assert second.strip().startswith("download: 1/2, ")
    assert third.strip() == "record: 3"
    assert fourth.strip().startswith("measure: 1/3, ")


def test_who_is_waited_for_is_told_sooner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console_module, "_WAITING_INTERVAL_S", 0)
    with Console().progress("download", 2) as advance:
        advance(0, rate="1 MB/s")
        advance(0, waiting="for host.org")
    assert capsys.readouterr().out.strip() == "download: 0/2  waiting for host.org"


def test_errors_and_warnings_are_coloured_by_where_they_go(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    console = on(terminal)
    console.warn("beware")
    console.error("wrong")
    assert capsys.readouterr().err == "warning: beware\nerror: wrong\n", "a file gets no escapes, though stdout is a terminal"


def test_json_keeps_stdout_for_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.table(("a",), [("b",)])
    console.json({"ü": 1})
    written = capsys.readouterr()
    assert json.loads(written.out) == {"ü": 1}
    assert written.err == "  a\n  b\n"
