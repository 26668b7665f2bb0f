"""The pixel work of the preprocess stage: where every pixel and every box goes, and the rendering of one image.

One `Geometry` per image size says it for both, so that boxes cannot drift from pixels. Coordinates are pixel edges: scaling an
image of 100 px to 50 px halves them exactly, without half-pixel offsets (this is what `cv2.resize` does to pixel areas).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import boxes as box_geometry
from pipeline.boxes import Boxes, Matrix
from pipeline.detections import Image
from pipeline.errors import ParamsError
from pipeline.images import Header
from pipeline.pixels.options import Crop, PreprocessParams, Resize

SUFFIXES_OF_KIND = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "BMP": (".bmp",), "WEBP": (".webp",)}
"""The suffixes by which training libraries find images, the one for new names first."""


@dataclass(frozen=True)
class Geometry:
    """The way of an image of one size: cut, scaled, set into a frame.

    Attributes:
        source: (width, height) of the upright input, px.
        crop: pixel edges (x1, y1, x2, y2) of the part that is kept.
        scaled: (width, height) to which that part is resized.
        offset: (left, top) of the scaled part in the output.
        size: (width, height) of the output.
    """

    source: tuple[int, int]
    crop: tuple[int, int, int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]

    @property
    def is_identity(self) -> bool:
        return self.crop == (0, 0, *self.source) and self.scaled == self.source and self.size == self.source

    @property
    def matrix(self) -> Matrix:
        """The affine map (2, 3) from pixel edges of the input to pixel edges of the output."""
        x1, y1, x2, y2 = self.crop
        scale_x, scale_y = self.scaled[0] / (x2 - x1), self.scaled[1] / (y2 - y1)
        return np.array([[scale_x, 0, self.offset[0] - x1 * scale_x], [0, scale_y, self.offset[1] - y1 * scale_y]])


def plan(width: int, height: int, crop: Crop, resize: Resize) -> Geometry:
    """The geometry of an upright image of `width` x `height` px.

    Raises:
        ParamsError: the crop, given in pixels, leaves nothing of an image of this size.
    """
    x1, y1, x2, y2 = _crop_edges(width, height, crop)
    scaled = _scaled_size(x2 - x1, y2 - y1, resize)
    size, offset = scaled, (0, 0)
    if resize.mode == "letterbox":
        size = (resize.width or 0, resize.height or 0)
        offset = ((size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2)
    return Geometry((width, height), (x1, y1, x2, y2), scaled, offset, size)


def _crop_edges(width: int, height: int, crop: Crop) -> tuple[int, int, int, int]:
    unit_x, unit_y = (width, height) if crop.unit == "fraction" else (1, 1)
    x1, x2 = round(crop.left * unit_x), width - round(crop.right * unit_x)
    y1, y2 = round(crop.top * unit_y), height - round(crop.bottom * unit_y)
    if x1 >= x2 or y1 >= y2:
        raise ParamsError(
            f"preprocess.crop leaves nothing of an image of {width}x{height} pixels.", "Cut off less, or use unit: fraction."
        )
    return x1, y1, x2, y2


def _scaled_size(width: int, height: int, resize: Resize) -> tuple[int, int]:
    if resize.mode == "none":
        return width, height
    if resize.mode == "stretch":
        return resize.width or 0, resize.height or 0
    limit_x, limit_y = (resize.size, resize.size) if resize.mode == "long_side" else (resize.width, resize.height)
    scale = min((limit_x or 0) / width, (limit_y or 0) / height)
    if not resize.upscale:
        scale = min(scale, 1.0)
    return max(1, round(width * scale)), max(1, round(height * scale))


def follow(boxes: Boxes, geometry: Geometry) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes (N, 4) of the input in the output, cut to what the crop keeps, and the share of each that was kept, (N,)."""
    x1, y1, x2, y2 = geometry.crop
    low, high = np.array([x1, y1, x1, y1], dtype=np.float64), np.array([x2, y2, x2, y2], dtype=np.float64)
    kept = np.clip(boxes, low, high)
    whole = box_geometry.area(boxes)
    share = np.divide(box_geometry.area(kept), whole, out=np.ones(len(boxes)), where=whole > 0)
    return box_geometry.transform(kept, geometry.matrix), share


def is_untouched(header: Header, geometry: Geometry, params: PreprocessParams) -> bool:
    """Whether a file can be passed on as it is: nothing changes its pixels and every trainer reads it."""
    plain = header.is_plain if params.auto_orient else header.has_plain_pixels
    grey_already = not params.grayscale or header.mode == "L"
    return plain and geometry.is_identity and grey_already and params.contrast == "none"


def render(image: Image, geometry: Geometry, params: PreprocessParams) -> Image:
    """Upright RGB (H, W, 3) to the output's pixels: crop, resize, grayscale, contrast, pad."""
    x1, y1, x2, y2 = geometry.crop
    picture = _resize(image[y1:y2, x1:x2], geometry.scaled)
    if params.grayscale:
        picture = cast(Image, cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    picture = _contrast(picture, params.contrast)  # before the padding, whose grey would count in the histogram
    if geometry.size == geometry.scaled:
        return np.ascontiguousarray(picture)
    left, top = geometry.offset
    right, bottom = geometry.size[0] - geometry.scaled[0] - left, geometry.size[1] - geometry.scaled[1] - top
    padded = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_CONSTANT, value=params.resize.pad)
    return cast(Image, padded)


def _resize(image: Image, size: tuple[int, int]) -> Image:
    """Averaging where an axis shrinks (no aliasing), cubic where it grows."""
    height, width = image.shape[:2]
    smaller = (min(width, size[0]), min(height, size[1]))
    if smaller != (width, height):
        image = cast(Image, cv2.resize(image, smaller, interpolation=cv2.INTER_AREA))
    if size != smaller:
        image = cast(Image, cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))
    return image


def _contrast(image: Image, method: str) -> Image:
    if method == "none":
        return image
    if method == "stretch":
        return _stretch(image)
    lightness, a, b = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    if method == "equalize":
        lightness = cv2.equalizeHist(lightness)
    else:
        lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lightness)
    return cast(Image, cv2.cvtColor(cv2.merge([lightness, a, b]), cv2.COLOR_LAB2RGB))


def _stretch(image: Image) -> Image:
    """The 2nd to 98th percentile of the brightness to 0..255, the same line for all three channels."""
    low, high = np.percentile(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (2, 98))
    if high - low < 1:
        return image
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    return cast(Image, cv2.LUT(image, table))


def output_path(path: str, kind: str, taken: frozenset[str]) -> str:
    """The name of an output file: `path` where its suffix tells the format, else with the right suffix appended.

    Appended, not replaced: `a.tif` and `a.png` of one folder must not become the same file.

    Args:
        path: the input's relative POSIX path.
        kind: format of the output, a key of `SUFFIXES_OF_KIND`.
        taken: all input paths, case-folded.
    """
    suffixes = SUFFIXES_OF_KIND[kind]
    if path.lower().endswith(suffixes):
        return path
    number, candidate = 1, path + suffixes[0]
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{path}.{number}{suffixes[0]}"
    return candidate
