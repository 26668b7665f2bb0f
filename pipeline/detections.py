"""What a detector answers, and the one thing evaluation, parity checks and benchmarks know of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, as_boxes

Image = NDArray[np.uint8]
"""RGB, uint8, (H, W, 3), upright."""


@dataclass(frozen=True)
class Detections:
    """The boxes found in one image, best first.

    Attributes:
        boxes: (N, 4) float64 pixel edges of the upright input image.
        scores: (N,) float32 in [0, 1], descending.
        class_ids: (N,) int64, positions in the predictor's `class_names`.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.class_ids.shape != (n,):
            raise ValueError(
                f"expected boxes (N, 4), scores (N,), class_ids (N,); got {self.boxes.shape}, {self.scores.shape}, "
                f"{self.class_ids.shape}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def make(cls, boxes: object, scores: object, class_ids: object) -> Detections:
        """From anything array-like, sorted by descending score (stable)."""
        score = np.asarray(scores, dtype=np.float32).reshape(-1)
        order = np.argsort(-score, kind="stable")
        ids = np.asarray(class_ids, dtype=np.int64).reshape(-1)
        return cls(as_boxes(np.asarray(boxes, dtype=np.float64))[order], score[order], ids[order])

    def above(self, confidence: float) -> Detections:
        """Those with a score of at least `confidence`."""
        keep = self.scores >= confidence
        return Detections(self.boxes[keep], self.scores[keep], self.class_ids[keep])


class Predictor(Protocol):
    """A loaded model of any runtime."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def imgsz(self) -> tuple[int, int]:
        """Network input, (height, width) in pixels."""
        ...

    @property
    def runtime(self) -> str: ...

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` per image, in the images' own pixels, whatever the network's input size."""
        ...
