"""Fonts for names in any script: which of them this machine has, and what to write where it has none.

Class names and file names come in every script, and a picture shows an empty box for each letter that its font lacks. DejaVu
Sans, which comes with matplotlib, has the European scripts, Arabic and Hebrew; for the others there are the fonts that Linux,
macOS and Windows bring along. What none of them can show is named otherwise: the number of a class can be looked up, a row of
boxes cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from pipeline.paths import is_plain

FIRST = "DejaVu Sans"
"""All that it can show looks the same on every machine."""

OTHERS = (
    # Chinese, Japanese and Korean: Linux …
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "IPAexGothic",
    "IPAGothic",
    "TakaoGothic",
    "NanumGothic",
    # … macOS …
    "PingFang SC",
    "Hiragino Sans GB",
    "Hiragino Sans",
    "Heiti SC",
    "Apple SD Gothic Neo",
    # … and Windows.
    "Microsoft YaHei",
    "Microsoft JhengHei",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "Malgun Gothic",
    "SimHei",
    "SimSun",
    # Thai and the scripts of India.
    "Noto Sans Thai",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Lohit Devanagari",
    "Loma",
    "Thonburi",
    "Kohinoor Devanagari",
    "Leelawadee UI",
    "Nirmala UI",
    # Many scripts and symbols in one.
    "Arial Unicode MS",
    "Droid Sans Fallback",
    "FreeSans",
    "Noto Emoji",
    "Noto Sans Symbols 2",
    "Symbola",
    "Segoe UI Symbol",
    "Segoe UI Emoji",
    "Unifont",
)


@lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Family → font file, for `FIRST` and those of `OTHERS` that this machine has, in that order."""
    with silent():
        from matplotlib import font_manager

        known = {entry.name for entry in font_manager.fontManager.ttflist}
        found: dict[str, str] = {}
        for family in (FIRST, *OTHERS):
            if family in known:
                with suppress(ValueError):  # it was removed since matplotlib listed the fonts
                    found[family] = font_manager.findfont(family, fallback_to_default=False)
        return found


def file_for(text: str) -> str | None:
    """The first font that has every letter of `text`; None when there is none.

    In matplotlib 3.11 and newer the path knows as `face_index` which font of a collection (`.ttc`) is meant.
    """
    letters = {ord(letter) for letter in text}
    return next((path for path in installed().values() if letters <= _letters(path)), None)


def legible(text: str, otherwise: str = "") -> str:
    """`text` where this machine has a font for it, else `otherwise`; where that is empty, the text in escapes (`\\u732b`)."""
    if is_plain(text) and (text.isascii() or file_for(text) is not None):
        return text
    return otherwise or text.encode("unicode_escape").decode("ascii")


@lru_cache(maxsize=len(OTHERS) + 1)
def _letters(path: str) -> frozenset[int]:
    """The code points that a font has glyphs for; none for a file that cannot be read."""
    from matplotlib import font_manager

    try:
        found: dict[int, Any] = font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(found)


@contextmanager
def silent() -> Iterator[None]:
    """Keep from stderr what matplotlib says of fonts: that it lists them for the first time, may not write down the list, or has
    no bold face of one."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
