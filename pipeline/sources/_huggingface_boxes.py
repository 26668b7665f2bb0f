"""What the four numbers of a box mean. Data sets on the hub do not say: most have x, y, width, height in pixels, as COCO does,
but two corners, centres, and fractions of the image occur.

https://huggingface.co/docs/datasets/object_detection
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIXELS = ("xywh", "xyxy", "cxcywh")
FRACTIONS = ("xywhn", "xyxyn", "cxcywhn")
TOLERANCE_PX = 1.0
"""By how much rounding may push a box over the edge."""
MOST = 0.99
"""Labels have mistakes: when no meaning fits all boxes, one that fits so many counts, if every other misfits far more."""
FAR_MORE = 10


@dataclass(frozen=True)
class Decision:
    """`kind` as in the option `bbox`; `why` in words."""

    kind: str
    why: str


def decide(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> Decision:
    """The one meaning with which boxes lie inside their images.

    Args:
        boxes: (N, 4), as the data set has them, all finite.
        sizes: (N, 2), width and height in pixels of the image of each box.

    Raises:
        DataError: none fits, or more than one does.
    """
    import numpy as np

    if not len(boxes):
        return Decision("xywh", "there are none")
    # A whole data set with boxes of at most one pixel does not occur, one in fractions does.
    candidates = FRACTIONS if np.abs(boxes).max() <= 1.01 else PIXELS
    fits = {kind: int(_inside(boxes, sizes, kind).sum()) for kind in candidates}
    total = len(boxes)
    told = ", ".join(f"{kind} {count:,}" for kind, count in fits.items())
    whole = [kind for kind, count in fits.items() if count == total]
    if len(whole) == 1:
        return Decision(whole[0], f"all {total:,} fit into their images; {told}")
    best, second = sorted(fits, key=lambda kind: -fits[kind])[:2]
    if not whole and fits[best] >= MOST * total and total - fits[second] >= FAR_MORE * (total - fits[best]):
        return Decision(best, f"{fits[best]:,} of {total:,} fit into their images; {told}")
    what = f"{' and '.join(whole)} fit all boxes" if whole else "no meaning fits all boxes"
    raise DataError(
        f"What the four numbers of a box mean cannot be told: {what} (of {total:,} fit: {told}).",
        f"Say it: collect.options.bbox={whole[0] if whole else best}, or another of {', '.join((*PIXELS, *FRACTIONS))}.",
    )


def _inside(boxes: NDArray[np.float64], sizes: NDArray[np.float64], kind: str) -> NDArray[np.bool_]:
    import numpy as np

    scale = np.concatenate([sizes, sizes], axis=1) if kind in FRACTIONS else 1.0
    a, b, c, d = (boxes * scale).T
    if kind.startswith("xywh"):
        left, top, right, bottom = a, b, a + c, b + d
    elif kind.startswith("xyxy"):
        left, top, right, bottom = a, b, c, d
    else:
        left, top, right, bottom = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    width, height = sizes.T + TOLERANCE_PX
    inside: NDArray[np.bool_] = (
        (left >= -TOLERANCE_PX)
        & (top >= -TOLERANCE_PX)
        & (right <= width)
        & (bottom <= height)
        & (right >= left)
        & (bottom >= top)
    )
    return inside


def as_xywh(box: Sequence[Any], kind: str, width: float, height: float) -> list[Any]:
    """A box of four finite numbers as x, y, width, height in pixels; the numbers themselves where they are that already."""
    if kind == "xywh":
        return list(box)
    a, b, c, d = (float(value) for value in box)
    if kind in FRACTIONS:
        a, b, c, d = a * width, b * height, c * width, d * height
    if kind.startswith("xyxy"):
        return [a, b, c - a, d - b]
    return [a - c / 2, b - d / 2, c, d] if kind.startswith("cxcywh") else [a, b, c, d]
