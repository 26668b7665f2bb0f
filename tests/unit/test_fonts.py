"""Names in every script, on machines with and without a font for them. The font is made here; its letters are filled squares."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import drawing, fonts
from pipeline.metrics import pictures

ROOT = Path(__file__).parents[2]
CAT = "猫"
NAMES = ("dog", "straße", CAT, "猫 ม", "a\nb")


def make_font(path: Path, family: str) -> Path:
    """A font file with a black square for 猫 and for each letter of "0123456789. "."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    letters = {f"glyph{n}": letter for n, letter in enumerate(CAT + "0123456789. ")}
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 800), (950, 800), (950, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    order = [".notdef", *letters]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({ord(letter): name for name, letter in letters.items()})
    builder.setupGlyf(dict.fromkeys(order, square))
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with the fonts of matplotlib alone."""
    from matplotlib import font_manager

    own = [entry for entry in font_manager.fontManager.ttflist if entry.name not in fonts.OTHERS]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    fonts.installed.cache_clear()
    yield monkeypatch
    fonts.installed.cache_clear()


@pytest.fixture
def asian(bare: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has one of the fonts that are looked for."""
    from matplotlib import font_manager

    path = make_font(tmp_path / "font.ttf", "WenQuanYi Zen Hei")
    font_manager.fontManager.addfont(path)
    return path


@pytest.mark.usefixtures("bare")
def test_without_a_font_a_name_is_told_otherwise() -> None:
    assert list(fonts.installed()) == [fonts.FIRST]
    assert [fonts.legible(name, f"class {k}") for k, name in enumerate(NAMES)] == [
        "dog",
        "straße",
        "class 2",
        "class 3",
        "class 4",
    ]
    assert fonts.legible("写真 1.jpg") == "\\u5199\\u771f 1.jpg"
    assert fonts.legible("bytes \udcff.jpg") == "bytes \\udcff.jpg"


def test_with_a_font_it_is_written_as_it_is(asian: Path) -> None:
    assert fonts.legible(CAT, "class 2") == CAT
    assert fonts.legible("猫 ม", "class 3") == "class 3", "no font has both letters"
    assert Path(str(fonts.file_for(CAT))).samefile(asian)
    assert fonts.file_for("straße") == fonts.installed()[fonts.FIRST], "what DejaVu has looks the same on every machine"


def test_a_font_that_was_removed_since_is_passed_over(asian: Path) -> None:
    asian.unlink()
    assert fonts.legible(CAT, "class 2") == "class 2"


def drawn(name: str) -> np.ndarray:
    """What a name looks like as a label: white on the second class's blue."""
    grey = np.full((120, 300, 3), 128, dtype=np.uint8)
    return drawing.draw_boxes(grey, np.array([[20.0, 60.0, 280.0, 110.0]]), np.array([1]), ("", name))[:60]


@pytest.mark.usefixtures("asian")
def test_a_drawn_box_bears_the_letters_of_the_font() -> None:
    label = drawn(CAT)
    white = (label == 255).all(axis=2)
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    assert white[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.8, "the black square of the font"


@pytest.mark.usefixtures("bare")
def test_a_drawn_box_bears_a_number_where_no_font_has_the_letters() -> None:
    np.testing.assert_array_equal(drawn(CAT), drawn("class 1"))
    assert (drawn("straße") != drawn("stra\u0fffe")).any()


@pytest.mark.parametrize("machine", ["bare", "asian"])
def test_pictures_of_any_name_say_nothing_on_the_terminal(
    machine: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    request.getfixturevalue(machine)
    names = (*NAMES, "$\\frac$", "costs $5 or $6", "\udcff")
    counts = np.arange(81).reshape(9, 9)
    f1 = np.tile(np.linspace(0, 1, 999), (8, 1))
    with caplog.at_level(logging.WARNING):
        pictures.confusion_matrix(tmp_path / "m.png", names, counts, 0.5)
        pictures.f1_curve(tmp_path / "f1.png", dict(enumerate(names)), f1, 0.5, "best")
        sheet = drawing.contact_sheet([drawing.Tile(drawn(name), name) for name in names], 3, 300, 60, "猫", [(CAT, (1, 2, 3))])
    assert sheet.shape[2] == 3
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


def test_a_first_start_without_a_home_is_silent(tmp_path: Path) -> None:
    """matplotlib lists all fonts then, and says that it may not write the list down."""
    (tmp_path / "home").write_text("no folder", encoding="utf-8")
    code = "from pipeline import fonts; print(fonts.legible('straße'))"
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path / "home"), "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("straße", "")
