"""What the params may ask of pixels: the options of preprocess and of augment, with their limits.

Models only, so that reading params.yaml loads no image library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.stage import StageParams

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=32768)]
Grey = Annotated[int, Field(ge=0, le=255)]
NEUTRAL_GREY = 114
"""The grey with which detectors of the YOLO family pad their input."""


class Crop(StageParams):
    """How much is cut off each side of the upright image: shares of its width and height, or pixels."""

    unit: Literal["fraction", "pixels"] = Field(default="fraction", description="of the four numbers")
    left: float = Field(default=0, ge=0, description="cut off at the left")
    top: float = Field(default=0, ge=0, description="cut off at the top")
    right: float = Field(default=0, ge=0, description="cut off at the right")
    bottom: float = Field(default=0, ge=0, description="cut off at the bottom")

    @model_validator(mode="after")
    def _leaves_something(self) -> Crop:
        if self.unit == "fraction" and (self.left + self.right >= 1 or self.top + self.bottom >= 1):
            raise ValueError("fractions of opposite sides must add up to less than 1, or nothing is left")
        if self.unit == "pixels" and any(value % 1 for value in (self.left, self.top, self.right, self.bottom)):
            raise ValueError("pixels must be whole numbers")
        return self


class Resize(StageParams):
    """A new size for every image, after the crop.

    Modes: `none`; `stretch` to exactly width x height; `fit` inside width x height, keeping the aspect ratio; `letterbox` as
    `fit`, then padded to exactly width x height; `long_side` scales so that the longer side is `size`.
    """

    mode: Literal["none", "stretch", "fit", "letterbox", "long_side"] = Field(default="none", description="see above")
    width: Side | None = Field(default=None, description="pixels; for stretch, fit and letterbox")
    height: Side | None = Field(default=None, description="pixels; for stretch, fit and letterbox")
    size: Side | None = Field(default=None, description="pixels; for long_side")
    upscale: bool = Field(default=True, description="false: never enlarge (fit, letterbox, long_side)")
    pad: tuple[Grey, Grey, Grey] = Field(
        default=(NEUTRAL_GREY, NEUTRAL_GREY, NEUTRAL_GREY), strict=False, description="RGB of the letterbox's border"
    )

    @model_validator(mode="after")
    def _mode_has_its_keys(self) -> Resize:
        needed = {"none": set(), "long_side": {"size"}}.get(self.mode, {"width", "height"})
        given = {name for name in ("width", "height", "size") if getattr(self, name) is not None}
        if needed - given:
            raise ValueError(f"mode '{self.mode}' needs {' and '.join(sorted(needed - given))}")
        if given - needed:
            raise ValueError(f"mode '{self.mode}' does not use {' and '.join(sorted(given - needed))}")
        if self.mode == "stretch" and not self.upscale:
            raise ValueError("mode 'stretch' always gives width x height; upscale: false does not apply")
        return self


class MinArea(StageParams):
    """The smallest box that is kept, measured in the image that comes out: in square pixels, or as a share of the image."""

    pixels: float = Field(default=0, ge=0, description="square pixels")
    fraction: Share = Field(default=0, description="share of the image")


class PreprocessParams(StageParams):
    """Section `preprocess`: done in this order: orient, crop, resize, grayscale, contrast, pad; boxes follow."""

    auto_orient: bool = Field(
        default=True,
        description="turn EXIF-rotated photos upright for good; false: a photo that nothing else changes keeps its bytes and its "
        "tag (boxes are of the upright image either way)",
    )
    crop: Crop = Field(default_factory=Crop)
    resize: Resize = Field(default_factory=Resize)
    grayscale: bool = Field(default=False, description="no colours; the file keeps three channels")
    contrast: Literal["none", "stretch", "equalize", "clahe"] = Field(
        default="none",
        description="of the brightness, colours keep their hue: stretch the 2nd to 98th percentile, equalize the histogram, "
        "or equalize it locally (CLAHE, 8x8 tiles, clip limit 2)",
    )
    min_visibility: Share = Field(default=0.25, description="a box that keeps less of its area than this in the crop is dropped")
    min_area: MinArea = Field(default_factory=MinArea)
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="of images that are written anew")
    on_invalid: Literal["error", "drop"] = Field(
        default="drop", description="images whose pixels cannot be read: stop, or leave them out (each stands in the ledger)"
    )


class _Transform(StageParams):
    p: float = Field(default=0.5, gt=0, le=1, description="how often it is applied")


class Brightness(_Transform):
    """Brighter or darker by up to `limit` of full scale."""

    limit: float = Field(default=0.2, gt=0, le=1, description="share of full scale")


class Exposure(_Transform):
    """Gamma between 1 - limit and 1 + limit: lights and shadows move, black and white stay."""

    limit: float = Field(default=0.2, gt=0, lt=1, description="of gamma, either way")


class Blur(_Transform):
    """Gaussian blur with a sigma of up to `sigma` pixels."""

    sigma: float = Field(default=1.0, gt=0.1, le=20, description="pixels, at most")


class RandomCrop(_Transform):
    """A window of the image's aspect ratio that covers at least `min_scale` of its area, scaled back to the image's size."""

    min_scale: float = Field(default=0.7, gt=0, lt=1, description="share of the area, at least")


class Flip(_Transform):
    """Mirrored; with both directions allowed, each is drawn by itself."""

    horizontal: bool = Field(default=True, description="left and right")
    vertical: bool = Field(default=False, description="top and bottom")

    @model_validator(mode="after")
    def _some_direction(self) -> Flip:
        if not (self.horizontal or self.vertical):
            raise ValueError("set horizontal or vertical to true, or remove the flip")
        return self


class Rotate(_Transform):
    """Turned about the centre by up to `degrees`; the corners are filled with grey.

    `boxes`: `ellipse` bounds the ellipse inscribed in the box, `corners` bounds the turned box itself. An object seldom reaches
    into the corners of its box, so the corners' bounds grow with every degree while the ellipse's stay close to the object
    (A. Kalra et al., Towards Rotation Invariance in Object Detection, ICCV 2021). Signs and screens want `corners`.
    """

    degrees: float = Field(default=10, gt=0, le=180, description="either way, at most")
    boxes: Literal["ellipse", "corners"] = Field(default="ellipse", description="what the new box bounds")


class Hue(_Transform):
    """Hue turned by up to `degrees` on the colour wheel, saturation changed by up to the share `saturation` of full scale."""

    degrees: float = Field(default=10, ge=0, le=180, description="either way, at most")
    saturation: Share = Field(default=0.1, description="either way, at most")

    @model_validator(mode="after")
    def _some_change(self) -> Hue:
        if self.degrees == 0 and self.saturation == 0:
            raise ValueError("degrees and saturation are both 0, so nothing would change")
        return self


class Noise(_Transform):
    """Gaussian noise on every pixel with a standard deviation of up to `std` of full scale."""

    std: float = Field(default=0.03, gt=0, le=0.5, description="share of full scale, at most")


class Cutout(_Transform):
    """1 to `holes` grey rectangles, their sides up to `size` of the image's. An object that is hidden too much loses its box."""

    holes: int = Field(default=3, ge=1, le=64, description="at most")
    size: float = Field(default=0.1, gt=0, lt=1, description="share of a side, at most")


class Transform(StageParams):
    """One entry of `augment.transforms`: a mapping with a single key, the transform's name."""

    brightness: Brightness | None = None
    exposure: Exposure | None = None
    blur: Blur | None = None
    crop: RandomCrop | None = None
    flip: Flip | None = None
    rotate: Rotate | None = None
    hue: Hue | None = None
    noise: Noise | None = None
    cutout: Cutout | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Transform:
        given = [name for name, _ in self._given()]
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"expected one transform per list entry ({names}), got {given or 'none'}")
        return self

    def _given(self) -> Iterator[tuple[str, _Transform]]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    @property
    def name(self) -> str:
        return next(self._given())[0]

    @property
    def options(self) -> _Transform:
        return next(self._given())[1]


class AugmentParams(StageParams):
    """Section `augment`: copies of the training images, made once and kept. Val and test are never augmented."""

    copies: int = Field(default=0, ge=0, le=100, description="augmented copies per training image; 0: none")
    transforms: tuple[Transform, ...] = Field(default=(), strict=False, description="applied in this order")
    min_visibility: Share = Field(
        default=0.3, description="a box of which less than this stays visible in a copy is dropped there"
    )
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="of images that are written anew")
    contact_sheet_images: int = Field(default=24, ge=0, le=200, description="pictures on contact_sheet.jpg; 0: no sheet")
    seed: int = Field(default=0, ge=0, description="the seed of the whole run, unless given here")

    @model_validator(mode="after")
    def _copies_need_transforms(self) -> AugmentParams:
        if self.copies and not self.transforms:
            raise ValueError("copies without transforms would be duplicates: list some under transforms, or set copies: 0")
        return self
