"""What libraries say of a failure names files in somebody's folders; a record keeps the file's name and drops the way to it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

_WAY = re.compile(r"(?<![\w.])(?:[A-Za-z]:|~)?(?:[\\/]+[^\\/\s:'\"<>|]+)*[\\/]+(?=[^\\/\s:'\"<>|]+)")
"""Everything of an absolute path but its last part; without blanks, which nobody can tell from the text around."""


def without_places(text: str) -> str:
    """A text without folders: "cannot load /home/ann/models/best.onnx: …" becomes "cannot load best.onnx: …".

    The folders that are known (home, the current and the temporary one) are found whatever is in their names.
    """
    known = {str(folder) for folder in (Path.home(), Path.cwd(), Path(tempfile.gettempdir()))}
    for folder in sorted(known - {Path(Path.home().anchor).as_posix(), "/"}, key=len, reverse=True):
        text = re.sub(re.escape(folder) + r"(?=[\\/])", "", text)
    return _WAY.sub("", text)
