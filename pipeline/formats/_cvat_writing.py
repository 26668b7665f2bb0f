"""CVAT's XML files as CVAT writes them, for both of its formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pipeline.errors import DataError
from pipeline.formats._common import plain_number
from pipeline.formats._xml import escape, quoteattr

_EDGES = ("xtl", "ytl", "xbr", "ybr")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(
    name: str,
    count: int,
    details: Mapping[str, str],
    class_names: Sequence[str],
    body: Iterable[str],
    size: tuple[int, int] | None = None,
) -> str:
    """A whole file as CVAT writes it.

    Args:
        name, count: of the task, and how many images or frames it has.
        details: more elements of the task.
        body: what follows `<meta>`, in lines.
        size: width and height of the video, in pixels.
    """
    values = {
        "name": name,
        "size": str(count),
        **details,
        "start_frame": "0",
        "stop_frame": str(max(count - 1, 0)),
        "frame_filter": "",
    }
    task = [f"      <{tag}>{_checked(escape(value))}</{tag}>" for tag, value in values.items()]
    labels = [
        f"        <label>\n          <name>{_checked(escape(name))}</name>\n          <attributes></attributes>\n        </label>"
        for name in class_names
    ]
    head = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta>", "    <task>"]
    sizes = []
    if size:
        sizes = [
            f"      <original_size>\n        <width>{size[0]}</width>\n        <height>{size[1]}</height>\n      </original_size>"
        ]
    middle = ["      <labels>", *labels, "      </labels>", *sizes, "    </task>", "  </meta>"]
    return "\n".join([*head, *task, *middle, *body, "</annotations>", ""])


def attributes(values: Mapping[str, str]) -> str:
    """` label="a cat" width="640"`, escaped.

    Raises:
        DataError: a value that no XML can hold.
    """
    return "".join([f" {name}={_checked(quoteattr(value))}" for name, value in values.items()])


def edges(box: Sequence[float]) -> str:
    """` xtl="1" ytl="2" xbr="3" ybr="4"`"""
    return "".join([f' {name}="{plain_number(value)}"' for name, value in zip(_EDGES, box, strict=True)])


def _checked(value: str) -> str:
    wrong = _NO_XML.search(value)
    if wrong:
        raise DataError(f"{value!r:.80} has the character {wrong[0]!a}, which XML cannot hold", "Rename it.")
    return value
