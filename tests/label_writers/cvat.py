"""CVAT's XML for images, for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, quoteattr

from tests.label_writers import Box
from tests.labelling import Collected


def meta(names: Iterable[str], more: str = "") -> str:
    """What CVAT writes before the labels; `more` goes into the task."""
    labels = "".join(f"<label><name>{escape(name)}</name><type>any</type></label>\n" for name in names)
    return f"<version>1.1</version>\n<meta><task><id>7</id>{more}\n<labels>\n{labels}</labels></task></meta>\n"


def label(where: Collected, folder: str, labels: Mapping[str, Iterable[Box]], names: list[str]) -> None:
    images = "".join(
        f'<image id="{number}" name={quoteattr(path)} width="100" height="50">\n'
        + "".join(
            f'<box label={quoteattr(name)} occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0">\n</box>\n'
            for name, x1, y1, x2, y2 in boxes
        )
        + "</image>\n"
        for number, (path, boxes) in enumerate(labels.items())
    )
    document = f"<annotations>\n{meta(names, '<mode>annotation</mode>')}{images}</annotations>\n"
    where.text(f"{folder}annotations.xml", '<?xml version="1.0" encoding="utf-8"?>\n' + document)
