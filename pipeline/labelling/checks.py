"""What is wrong with boxes, and what can be mended: one vectorised pass over all boxes of a data set.

| reason          | what                                                             | fix                    | drop    |
|-----------------|------------------------------------------------------------------|------------------------|---------|
| `not_finite`    | a coordinate is NaN or infinite                                  | dropped                | dropped |
| `inverted`      | x2 < x1 or y2 < y1                                               | edges swapped          | dropped |
| `zero_area`     | no width or no height                                            | dropped                | dropped |
| `outside_image` | no part of it on the image                                       | dropped                | dropped |
| `out_of_bounds` | beyond the edge                                                  | clipped                | dropped |
| `rounding`      | beyond the edge by less than 1 px or 1/1000 of the image         | clipped                | clipped |
| `duplicate_box` | same image, class and edges as one before                        | dropped                | dropped |

`rounding` is no defect: other tools round, and half the data sets in the world would have none left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, clip
from pipeline.ledger import Action

EPSILON_PX = 1e-6
"""Differences below it are the noise of adding and multiplying, not worth a word."""
ROUNDING_PX = 1.0
ROUNDING_SHARE = 1e-3


@dataclass
class Verdict:
    """The boxes after mending, which of them remain, and what was found: (reason, action, row numbers), by severity."""

    boxes: Boxes
    keep: NDArray[np.bool_]
    findings: list[tuple[str, Action, NDArray[np.int64]]] = field(default_factory=list)

    def drop(self, reason: str, rows: NDArray[np.bool_]) -> None:
        rows = rows & self.keep
        self.note(reason, "dropped", rows)
        self.keep &= ~rows

    def note(self, reason: str, action: Action, rows: NDArray[np.bool_]) -> None:
        if rows.any():
            self.findings.append((reason, action, np.flatnonzero(rows)))


def check(boxes: Boxes, width: NDArray[np.float64], height: NDArray[np.float64], mend: bool) -> Verdict:
    """Look at every box once.

    Args:
        boxes: (N, 4) pixel edges of the upright image; any float.
        width, height: (N,) of the box's image, in pixels.
        mend: swap and clip; False drops what is inverted or out of bounds.
    """
    found = Verdict(boxes.copy(), np.ones(len(boxes), dtype=bool))
    found.drop("not_finite", np.asarray(~np.isfinite(boxes).all(axis=1)))
    found.boxes[~found.keep] = 0
    inverted = (found.boxes[:, 2] < found.boxes[:, 0]) | (found.boxes[:, 3] < found.boxes[:, 1])
    if mend:
        found.note("inverted", "fixed", inverted & found.keep)
        found.boxes = np.concatenate(
            [np.minimum(found.boxes[:, :2], found.boxes[:, 2:]), np.maximum(found.boxes[:, :2], found.boxes[:, 2:])], axis=1
        )
    else:
        found.drop("inverted", inverted)
    found.drop("zero_area", _is_empty(found.boxes))
    clipped = clip(found.boxes, width, height)
    found.drop("outside_image", _is_empty(clipped))
    beyond_x = np.maximum(-found.boxes[:, 0], found.boxes[:, 2] - width)
    beyond_y = np.maximum(-found.boxes[:, 1], found.boxes[:, 3] - height)
    beyond = np.maximum(beyond_x, beyond_y) > EPSILON_PX
    slack_x, slack_y = np.maximum(ROUNDING_PX, ROUNDING_SHARE * width), np.maximum(ROUNDING_PX, ROUNDING_SHARE * height)
    near = (beyond_x < slack_x) & (beyond_y < slack_y)
    found.note("rounding", "clipped", beyond & near & found.keep)
    if mend:
        found.note("out_of_bounds", "clipped", beyond & ~near & found.keep)
    else:
        found.drop("out_of_bounds", beyond & ~near)
    found.boxes = clipped
    return found


def _is_empty(boxes: Boxes) -> NDArray[np.bool_]:
    with np.errstate(over="ignore"):
        return np.asarray((boxes[:, 2:] - boxes[:, :2] <= EPSILON_PX).any(axis=1))
