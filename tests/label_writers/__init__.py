"""One writer a format of what the tests of formats want to see read, laid out as the format's own tool would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tests.labelling import Collected

Box = tuple[str, float, float, float, float]
LabelWriter = Callable[[Collected, str, Mapping[str, Iterable[Box]], list[str]], None]
"""`label(where, folder, labels, names)`: label files below `folder` for images of 100 x 50 px in `images/` beside them.

`labels` has the boxes (class, x1, y1, x2, y2) of each path below `images/`, which are written as given, however wrong."""
