"""Write docs/formats.md, a row and a section for every label format, from the modules that read and write them.

    python scripts/formats_reference.py

A test fails when the page is not up to date.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import get_args

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline import formats  # noqa: E402

PAGE = ROOT / "docs" / "formats.md"
HEAD = """# Label formats

Made by `scripts/formats_reference.py` from the modules in `pipeline/formats/`, one file each.

`annotate.format: auto` and `convert --from auto` find the format by content, say why, and refuse with the candidates where two
fit. Whatever the format: file names are resolved, boxes checked, clipped and accounted for in one place, shapes that are no boxes
become their tight boxes where that is sound and stand in the ledger, and pixels are never read to import. Every format that is
written is read back equal to 1e-6 px by the tests, and files of the tools themselves lie in `tests/data/formats`.
TFRecord is not read: its files hold the images themselves, which collect would have to unpack, and the one light reader on PyPI
(`tfrecord` 1.14.6, of May 2025) passes over the checksums of the records. Export CSV or COCO from where the records were made.

What a format can hold, beside boxes with a class and a file: **splits** (which image is train, val or test), **class order** (the
order of the classes, and classes without boxes), **background** (images without boxes), **sizes** (width and height of the
images: such labels can be converted without them). `convert` says what is lost.

"""


def page() -> str:
    names = formats.names()
    kinds = get_args(formats.Holdable)
    titles = " | ".join(kind.replace("_", " ") for kind in kinds)
    lines = [f"| format | marked by | read | write | {titles} |", f"|---|---|{'---|' * (2 + len(kinds))}"]
    for name in names:
        module = formats.load(name)
        held = " | ".join("✓" if kind in module.HOLDS else "" for kind in kinds)
        first = _escape(_sections(name)[0])
        lines.append(f"| [`{name}`](#{name}) | {first} | ✓ | {'✓' if hasattr(module, 'write') else ''} | {held} |")
    for name in names:
        _, *paragraphs = _sections(name)
        lines += [f"\n## {name}", *_options(name), *(f"\n{paragraph}" for paragraph in paragraphs)]
    return HEAD + "\n".join(lines).rstrip() + "\n"


def _sections(name: str) -> list[str]:
    """The paragraphs of a module's docstring, each in one line."""
    text = inspect.getdoc(formats.load(name)) or ""
    return [_one_line(paragraph) for paragraph in text.split("\n\n")]


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).strip()


def _options(name: str) -> list[str]:
    model = formats.load(name).Options
    if not model.model_fields:
        return []
    return [f"\nOptions: {_one_line(inspect.getdoc(model) or '')}"]


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
