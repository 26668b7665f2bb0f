"""From pixels to boxes, the same for every runtime: letterbox, decode, non-maximum suppression, and back to the photo.

A runtime contributes one function, `forward(batch) -> raw`; everything around it is here, once, so that a PyTorch, an ONNX and a
TFLite figure differ by what the network computed and by nothing else. numpy and OpenCV only: predicting must not need torch.

The semantics are those of Ultralytics (`LetterBox`, `non_max_suppression`, `scale_boxes`;
https://github.com/ultralytics/ultralytics, 8.4), so that our boxes can be held against `yolo predict`. One difference: classes
are kept apart by comparing class ids, not by moving each class 7,680 px away, which rounds the boxes of class 79 to 1/16 px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import boxes as geometry
from pipeline.detections import Detections, Image
from pipeline.errors import TrainingError

Batch = NDArray[np.float32]
"""(B, 3, H, W) float32, RGB, 0 to 1."""

PADDING_GREY = 114
STRIDE = 32
"""Input sides must be multiples of it."""
MAX_CANDIDATES = 30_000
"""Only the best of them enter non-maximum suppression."""
_NMS_BLOCK = 256


@dataclass(frozen=True)
class Thresholds:
    """What counts as a detection.

    Attributes:
        confidence: scores must be above it.
        iou: a box that overlaps a better one of its class by more is dropped.
        max_det: at most so many boxes per image, the best ones.
        multi_label: one box may carry several classes. Evaluation wants that, a user does not.
    """

    confidence: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    multi_label: bool = True


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in the network's input: scaled to fit, centred.

    Attributes:
        image_size: (height, width) of the image in pixels.
        input_size: (height, width) of the network's input.
        scaled_size: (height, width) of the scaled image.
        top, left: where the scaled image begins in the input.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    scaled_size: tuple[int, int]
    top: int
    left: int

    @classmethod
    def fit(cls, image_size: tuple[int, int], input_size: tuple[int, int], rectangular: bool = False) -> Letterbox:
        """The letterbox of an image; sides are rounded to whole pixels and never vanish.

        Args:
            image_size, input_size: (height, width) in pixels.
            rectangular: leave out whole strides of padding, for a network with a dynamic input: 640x384 instead of 640x640 for a
                photo of 16:9, at the same scale.
        """
        ratio = min(input_size[0] / image_size[0], input_size[1] / image_size[1])
        height, width = (max(round(side * ratio), 1) for side in image_size)
        outer_height, outer_width = input_size
        if rectangular:
            outer_height = height + (outer_height - height) % STRIDE
            outer_width = width + (outer_width - width) % STRIDE
        # 0.1 less: an odd pixel of padding goes to the bottom and to the right.
        top, left = round((outer_height - height) / 2 - 0.1), round((outer_width - width) / 2 - 0.1)
        return cls(image_size, (outer_height, outer_width), (height, width), top, left)

    def apply(self, image: Image) -> Image:
        """The network's input as uint8 RGB (H, W, 3), padded with grey."""
        canvas = np.full((*self.input_size, 3), PADDING_GREY, dtype=np.uint8)
        height, width = self.scaled_size
        inner = canvas[self.top : self.top + height, self.left : self.left + width]
        if self.scaled_size == self.image_size:
            inner[:] = image
        else:
            cv2.resize(image, (width, height), dst=inner, interpolation=cv2.INTER_LINEAR)
        return canvas

    def to_image(self, boxes: NDArray[np.float32]) -> geometry.Boxes:
        """Boxes (N, 4) in pixels of the input, to pixels of the image, cut to it."""
        height, width = self.image_size
        scale_y, scale_x = self.scaled_size[0] / height, self.scaled_size[1] / width
        offset = np.array([self.left, self.top, self.left, self.top], dtype=np.float64)
        scale = np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float64)
        return geometry.clip((boxes.astype(np.float64) - offset) / scale, width, height)


def to_batch(inputs: Sequence[Image]) -> Batch:
    """Letterboxed images (H, W, 3) of one size, as the network wants them."""
    height, width = inputs[0].shape[:2]
    batch = np.empty((len(inputs), 3, height, width), dtype=np.float32)
    for target, image in zip(batch, inputs, strict=True):
        for plane, channel in zip(target, cv2.split(image), strict=True):  # four times as fast as a transposed division
            np.divide(channel, np.float32(255), out=plane)
    return batch


def decode(
    raw: NDArray[np.float32], thresholds: Thresholds
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The boxes of one image after non-maximum suppression, best first.

    Args:
        raw: (4 + classes, anchors): centre x, centre y, width, height in pixels of the input, then a score per class.

    Returns:
        boxes (N, 4) float32 pixel edges of the input, scores (N,) float32, class ids (N,) int64.
    """
    return select(raw, thresholds)[:3]


def select(
    raw: NDArray[np.float32], thresholds: Thresholds
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """`decode`, and of each box the anchor (N,) int64 that it comes from: there the other rows of the output belong to it."""
    classes = raw[4:]
    anchors = np.flatnonzero(classes.max(axis=0) > thresholds.confidence)
    rows = np.ascontiguousarray(raw[:, anchors].T, dtype=np.float32)
    half = rows[:, 2:4] / 2
    edges = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    if thresholds.multi_label and len(classes) > 1:
        box, class_ids = np.nonzero(rows[:, 4:] > thresholds.confidence)
        edges, scores, anchors = edges[box], rows[box, 4 + class_ids], anchors[box]
    else:
        class_ids = rows[:, 4:].argmax(axis=1) if len(rows) else np.zeros(0, dtype=np.int64)
        scores = rows[np.arange(len(rows)), 4 + class_ids]
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    edges, scores, class_ids, anchors = edges[order], scores[order], class_ids[order], anchors[order]
    keep = suppress(edges, class_ids, thresholds.iou, thresholds.max_det)
    return edges[keep], scores[keep], class_ids[keep].astype(np.int64), anchors[keep]


def suppress(boxes: NDArray[np.float32], class_ids: NDArray[np.int64], iou: float, max_det: int) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    Candidates are taken in blocks: a block is held against everything kept so far in one matrix operation, and the search ends
    with the `max_det`-th box, so the cost does not grow with the square of the candidates.

    Args:
        boxes: (N, 4) pixel edges, best first.
        class_ids: (N,).
        iou: boxes of one class that overlap a kept one by more than this are dropped.

    Returns:
        Positions of the kept boxes, ascending, at most `max_det`.
    """
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(boxes), _NMS_BLOCK):
        block = np.arange(start, min(start + _NMS_BLOCK, len(boxes)))
        if len(kept):
            block = block[~_overlap(boxes, class_ids, block, kept, iou).any(axis=1)]
        dropped = np.zeros(len(block), dtype=np.bool_)
        overlap = _overlap(boxes, class_ids, block, block, iou)
        chosen: list[int] = []
        for position in range(len(block)):
            if dropped[position]:
                continue
            chosen.append(position)
            if len(kept) + len(chosen) == max_det:
                break
            dropped |= overlap[position]
        kept = np.concatenate([kept, block[chosen]])
        if len(kept) >= max_det:
            break
    return kept


def _overlap(
    boxes: NDArray[np.float32], class_ids: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64], iou: float
) -> NDArray[np.bool_]:
    """Whether boxes `a` and `b` (positions) are of one class and overlap by more than `iou`: (len(a), len(b))."""
    of_a, of_b = boxes[a][:, None], boxes[b][None]
    sides = np.minimum(of_a[..., 2:], of_b[..., 2:]) - np.maximum(of_a[..., :2], of_b[..., :2])
    np.maximum(sides, 0, out=sides)
    inter = sides[..., 0] * sides[..., 1]
    area_a, area_b = (np.prod(of[..., 2:] - of[..., :2], axis=-1) for of in (of_a, of_b))
    union = area_a + area_b - inter
    return np.asarray((inter > np.float32(iou) * union) & (class_ids[a][:, None] == class_ids[b][None]))


@dataclass(frozen=True)
class Network:
    """A loaded file of any task, as a runtime gives it; `Detector` is what detection makes of one.

    Attributes:
        forward: (B, 3, H, W) float32 → the outputs, each (B, …) float32; of a segmenter the boxes first, then the prototypes.
        class_names, imgsz, device, batch, fixed_batch: as of `Detector`.
        fixed_size: it takes images of `imgsz` alone.
        task: "detect", "segment", "classify" or "pose".
        keypoints: of a pose model: how many, and values of each (x, y, and visibility where there are three).
    """

    forward: Callable[[Batch], list[NDArray[np.float32]]]
    class_names: tuple[str, ...]
    imgsz: tuple[int, int]
    device: str = "cpu"
    batch: int = 1
    fixed_batch: bool = True
    fixed_size: bool = True
    task: str = "detect"
    keypoints: tuple[int, int] | None = None


class Detector:
    """A `Predictor` around any network with YOLO's output.

    The three phases `preprocess`, `forward` and `postprocess` are public because a benchmark times them one by one.

    Args:
        forward: (B, 3, H, W) float32 → (B, 4 + classes, anchors) float32, see `decode`.
        class_names: position = class id.
        imgsz: network input (height, width) in pixels; the largest one when `rectangular`.
        runtime: name of the runtime module.
        device: where it runs: "cpu", "cuda:0" …
        batch: images per forward pass, at most; exactly so many when `fixed_batch` (short batches are filled with zeros).
        rectangular: the network takes any input that is a multiple of 32, so wide images get a flat input.
    """

    def __init__(
        self,
        forward: Callable[[Batch], NDArray[np.float32]],
        class_names: Sequence[str],
        imgsz: tuple[int, int],
        runtime: str,
        *,
        device: str = "cpu",
        thresholds: Thresholds | None = None,
        batch: int = 1,
        fixed_batch: bool = True,
        rectangular: bool = False,
    ) -> None:
        self._forward = forward
        self.class_names = tuple(class_names)
        self.imgsz = imgsz
        self.runtime = runtime
        self.device = device
        self.thresholds = thresholds or Thresholds()
        self.batch = batch
        self.fixed_batch = fixed_batch
        self.rectangular = rectangular

    @classmethod
    def of(cls, network: Network, runtime: str, thresholds: Thresholds | None, rectangular: bool) -> Detector:
        """The detector around a network; one of another task is refused when it answers."""
        return cls(
            lambda inputs: network.forward(inputs)[0],
            network.class_names,
            network.imgsz,
            runtime,
            device=network.device,
            thresholds=thresholds,
            batch=network.batch,
            fixed_batch=network.fixed_batch,
            rectangular=rectangular and not network.fixed_size,
        )

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` per image, in the images' own pixels.

        Raises:
            ValueError: an image is not RGB uint8 (H, W, 3), or has no pixels.
        """
        found: list[Detections] = []
        for group in self._groups(images):
            batch, letterboxes = self.preprocess(group)
            found += self.postprocess(self.forward(batch), letterboxes)
        return found

    def _groups(self, images: Sequence[Image]) -> Iterator[Sequence[Image]]:
        """Runs of at most `batch` neighbours that share one input size."""
        start = 0
        for end in range(1, len(images) + 1):
            full = end - start == self.batch or end == len(images)
            if full or self._letterbox(images[end]).input_size != self._letterbox(images[start]).input_size:
                yield images[start:end]
                start = end

    def _letterbox(self, image: Image) -> Letterbox:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(f"expected an RGB image (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return Letterbox.fit(image.shape[:2], self.imgsz, self.rectangular)

    def preprocess(self, images: Sequence[Image]) -> tuple[Batch, list[Letterbox]]:
        """Letterbox at least one image; they must share one input size."""
        letterboxes = [self._letterbox(image) for image in images]
        return to_batch([box.apply(image) for box, image in zip(letterboxes, images, strict=True)]), letterboxes

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        """(B, 3, H, W) → (B, 4 + classes, anchors).

        Raises:
            TrainingError: the network answers in another form, as models for other tasks or with built-in suppression do.
        """
        missing = max(0, self.batch - len(batch)) if self.fixed_batch else 0
        filled = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), dtype=np.float32)]) if missing else batch
        raw = self._forward(filled)
        if raw.ndim != 3 or raw.shape[1] != 4 + len(self.class_names):
            raise TrainingError(
                f"The model's output is {raw.shape}, and not (images, {4 + len(self.class_names)}, boxes) as that of a detector "
                f"of {len(self.class_names)} classes.",
                "Only detectors without built-in suppression can be run; export the checkpoint with this pipeline.",
            )
        return raw[: len(batch)]

    def postprocess(self, raw: NDArray[np.float32], letterboxes: Sequence[Letterbox]) -> list[Detections]:
        """Suppress duplicates and map the boxes back to their images."""
        found = []
        for one, letterbox in zip(raw, letterboxes, strict=True):
            boxes, scores, class_ids = decode(one, self.thresholds)
            found.append(Detections(letterbox.to_image(boxes), scores, class_ids))
        return found
