"""How values are written on the page; the filters of the templates. None is a dash."""

from __future__ import annotations

from datetime import datetime

from pipeline.web.artifacts import number
from pipeline.wording import three_places

DASH = "–"


def figure(value: object, digits: int = 3) -> str:
    """0.4567 → 0.457; what would be rounded to nothing is < 0.001"""
    known = number(value)
    if known is None:
        return DASH
    least = 10.0**-digits
    return f"< {least:.{digits}f}" if 0 < known < least / 2 else f"{round(known, digits) + 0.0:.{digits}f}"


def ms(value: object) -> str:
    """41.0 ms, 0.52 ms, 1,240 ms: three digits that count."""
    known = number(value)
    if known is None:
        return DASH
    return f"{three_places(known)} ms"


def count(value: object) -> str:
    """12345 → 12,345"""
    known = number(value)
    return DASH if known is None else f"{known:,.0f}"


def percent(share: object) -> str:
    """0.123 → 12.3 %; whole numbers at the ends, and never a rounded 0 or 100."""
    known = number(share)
    if known is None:
        return DASH
    if known in (0, 1):
        return f"{known:.0%}".replace("%", " %")
    return f"{min(max(known * 100, 0.1), 99.9):.1f} %"


def size(count_of_bytes: object) -> str:
    """Bytes, powers of 1000: 12.3 MB"""
    known = number(count_of_bytes)
    if known is None:
        return DASH
    for unit in ("B", "kB", "MB"):
        if known < 1000:
            return f"{known:.0f} B" if unit == "B" else f"{known:.1f} {unit}"
        known /= 1000
    return f"{known:.1f} GB"


def duration(seconds: object) -> str:
    """8.3 s, 2 min 5 s, 1 h 3 min"""
    known = number(seconds)
    if known is None:
        return DASH
    if known < 59.95:
        return f"{known:.1f} s"
    minutes, rest = divmod(round(known), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(text: object) -> str:
    """2025-03-01T12:30:05Z → 1 Mar 2025, 12:30 UTC, whatever the language of the machine."""
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    try:
        time = datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return DASH
    return f"{time.day} {months[time.month - 1]} {time.year}, {time.hour:02}:{time.minute:02} UTC"


def words(code: object) -> str:
    """straddles_given_split → straddles given split"""
    return str(code).replace("_", " ")


def value(setting: object) -> str:
    """A setting of params.yaml as one writes it there."""
    if setting is None:
        return "not set"
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, float):
        return f"{setting:g}"
    if isinstance(setting, list):
        return "[" + ", ".join(value(item) for item in setting) + "]"
    if isinstance(setting, dict):
        return "{" + ", ".join(f"{key}: {value(item)}" for key, item in setting.items() if item is not None) + "}"
    return str(setting) or "(empty)"


def plural(number_of: object, one: str, many: str = "") -> str:
    """1 image, 12 images"""
    return f"{count(number_of)} {one if number_of == 1 else many or one + 's'}"
