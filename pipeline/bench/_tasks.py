"""Before and after the network, for each task, with numpy and OpenCV (classifiers: Pillow) and no torch.

The semantics are those of Ultralytics 8.4.190's predictors at their default thresholds: `LetterBox`, `non_max_suppression`,
`process_mask`, `scale_coords`, `classify_transforms` (https://github.com/ultralytics/ultralytics). The letterbox is square, as
every export has it; a checkpoint run by `yolo predict` has a rectangular one unless it is given `rect=False`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.bench import _portable
from pipeline.detections import Detections, Image
from pipeline.errors import TrainingError
from pipeline.inference import Batch, Letterbox, Network, Thresholds, select, to_batch

THRESHOLDS = Thresholds(confidence=0.25, iou=0.7, max_det=300, multi_label=False)
TOP = 5

Floats = NDArray[np.float32]


class Inputs(NamedTuple):
    """What the network gets, and how each image lies in it; without letterboxes for classifiers, which cut the image."""

    batch: Batch
    letterboxes: tuple[Letterbox, ...]


class Outputs(NamedTuple):
    """What the network answers, each (B, …), and how each image lay in its input."""

    raw: list[Floats]
    letterboxes: tuple[Letterbox, ...]


@dataclass(frozen=True)
class Segmented:
    """`masks` (N, H, W) uint8, 0 or 1, in the network's input with its padding; N as in `detections`."""

    detections: Detections
    masks: NDArray[np.uint8]


@dataclass(frozen=True)
class Posed:
    """`keypoints` (N, K, 2 or 3) float64: x, y in pixels of the image, and visibility 0 to 1; N as in `detections`."""

    detections: Detections
    keypoints: NDArray[np.float64]


@dataclass(frozen=True)
class Classified:
    """The five best classes, or all where there are fewer, best first: ids (5,) int64 and probabilities (5,) float32."""

    class_ids: NDArray[np.int64]
    probabilities: Floats


def letterboxed(images: Sequence[Image], imgsz: tuple[int, int]) -> Inputs:
    """Scaled to fit and padded with grey."""
    letterboxes = tuple(Letterbox.fit(image.shape[:2], imgsz) for image in images)
    return Inputs(to_batch([box.apply(image) for box, image in zip(letterboxes, images, strict=True)]), letterboxes)


def cropped(images: Sequence[Image], imgsz: tuple[int, int]) -> Inputs:
    """The shorter side scaled to that of a square input, and the middle cut out; an oblong input gets the whole image, squeezed.

    By Pillow, whose filter widens when it shrinks an image, as torchvision's `Resize` of a Pillow image does.
    """
    return Inputs(to_batch([_crop(image, imgsz) for image in images]), ())


def _crop(image: Image, imgsz: tuple[int, int]) -> Image:
    height, width = imgsz
    tall, wide = image.shape[:2]
    if height == width:
        short = min(tall, wide)
        scaled = (height, int(height * wide / short)) if tall <= wide else (int(width * tall / short), width)
    else:
        scaled = imgsz
    pixels = image if scaled == (tall, wide) else _resize(image, scaled)
    top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


def _resize(image: Image, size: tuple[int, int]) -> Image:
    if _portable.is_installed():
        return _portable.resize_antialiased(image, size)
    from PIL import Image as PillowImage

    return np.asarray(PillowImage.fromarray(image).resize((size[1], size[0]), PillowImage.Resampling.BILINEAR))


def check(network: Network, raw: Sequence[Floats], name: str) -> None:
    """Raise TrainingError unless the outputs have the form that the task's postprocessing reads."""
    classes, shapes = len(network.class_names), [output.shape for output in raw]
    if network.task == "classify":
        fits = len(shapes[0]) == 2 and shapes[0][1] == classes
    elif network.task == "segment":
        fits = [len(shape) for shape in shapes] == [3, 4] and shapes[0][1] == 4 + classes + shapes[1][1]
    else:
        number, values = network.keypoints or (0, 0)
        fits = len(shapes[0]) == 3 and shapes[0][1] == 4 + classes + number * values
    if not fits:
        raise TrainingError(
            f"{name} answers with {', '.join(map(str, shapes))}, which is not what a '{network.task}' model of {classes} classes "
            "gives.",
            "Only models without built-in suppression can be timed; export the checkpoint with this pipeline.",
        )


def segmented(outputs: Outputs, classes: int) -> list[Segmented]:
    """Suppress duplicates, and mix each box's mask from the prototypes; boxes whose mask is empty are left out."""
    boxes, prototypes = outputs.raw
    return [_segment(*one, classes) for one in zip(boxes, prototypes, outputs.letterboxes, strict=True)]


def _segment(raw: Floats, prototypes: Floats, letterbox: Letterbox, classes: int) -> Segmented:
    edges, scores, class_ids, anchors = select(raw[: 4 + classes], THRESHOLDS)
    height, width = letterbox.input_size
    masks = np.zeros((len(edges), height, width), dtype=np.uint8)
    coefficients = raw[4 + classes :, anchors].T
    for mask, weights, box in zip(masks, coefficients, edges, strict=True):
        _mix(mask, weights, prototypes, box)
    keep = masks.any(axis=(1, 2))
    return Segmented(Detections(letterbox.to_image(edges[keep]), scores[keep], class_ids[keep]), masks[keep])


def _mix(mask: NDArray[np.uint8], weights: Floats, prototypes: Floats, box: Floats) -> None:
    """Set in `mask` (H, W) the pixels in the box where the weighted prototypes, scaled up, are positive.

    Only the part of the prototypes under the box is mixed and scaled, with a pixel around it, so that all pixels in the box have
    the values that scaling the whole would give.
    """
    height, width = mask.shape
    factor = height // prototypes.shape[1]
    left, top, right, bottom = (
        int(np.clip(np.ceil(edge), 0, side)) for edge, side in zip(box, (width, height, width, height), strict=True)
    )
    if right <= left or bottom <= top:
        return
    first_row, first_column = max(top // factor - 1, 0), max(left // factor - 1, 0)
    part = prototypes[:, first_row : -(-bottom // factor) + 1, first_column : -(-right // factor) + 1]
    mixed = np.tensordot(weights, part, axes=1)
    scaled = cv2.resize(mixed, (mixed.shape[1] * factor, mixed.shape[0] * factor), interpolation=cv2.INTER_LINEAR)
    row, column = first_row * factor, first_column * factor
    mask[top:bottom, left:right] = scaled[top - row : bottom - row, left - column : right - column] > 0


def posed(outputs: Outputs, classes: int, shape: tuple[int, int]) -> list[Posed]:
    """Suppress duplicates, and map boxes and keypoints back to the image, cut to it."""
    return [_pose(*one, classes, shape) for one in zip(outputs.raw[0], outputs.letterboxes, strict=True)]


def _pose(raw: Floats, letterbox: Letterbox, classes: int, shape: tuple[int, int]) -> Posed:
    edges, scores, class_ids, anchors = select(raw[: 4 + classes], THRESHOLDS)
    keypoints = raw[4 + classes :, anchors].T.reshape(len(anchors), *shape).astype(np.float64)
    height, width = letterbox.image_size
    tall, wide = letterbox.scaled_size
    for axis, offset, side, scaled in ((0, letterbox.left, width, wide), (1, letterbox.top, height, tall)):
        keypoints[..., axis] = np.clip((keypoints[..., axis] - offset) / (scaled / side), 0, side)
    return Posed(Detections(letterbox.to_image(edges), scores, class_ids), keypoints)


def classified(outputs: Outputs) -> list[Classified]:
    """The best classes; the softmax is in the network."""
    return [_classify(probabilities) for probabilities in outputs.raw[0]]


def _classify(probabilities: Floats) -> Classified:
    best = np.argsort(-probabilities, kind="stable")[:TOP].astype(np.int64)
    return Classified(best, probabilities[best])
