"""Paints a planned scene as a camera would see it: photo, paper with a shadow, ink, light, blur and noise.

Images are float32 (H, W, 3) in 0 to 255 until the end. All chance comes from the seeds in the plan.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.detections import Image
from pipeline.sources import _handwriting
from pipeline.sources._handwriting import Mask
from pipeline.sources._scenes import Scene
from pipeline.sources._sheets import RGB, Sheet, footprint, project

Canvas = NDArray[np.float32]


def paint(scene: Scene, photo: Image) -> Image:
    """The scene as RGB uint8 (H, W, 3), upright; `photo` holds the pixels of `scene.photo`."""
    light = np.random.default_rng(scene.light)
    size = (scene.width, scene.height)
    seen = cv2.warpPerspective(photo, scene.backdrop, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    canvas = seen.astype(np.float32) * np.float32(light.uniform(0.8, 1.05))
    falling = light.uniform(-1, 1, 2) * 0.012 * max(size) + (0, 0.006 * max(size))  # where shadows fall, in pixels
    for sheet in scene.sheets:
        _put(canvas, sheet, falling)
    canvas *= _illumination(size, light)
    return _expose(canvas, light, np.random.default_rng(scene.noise))


def _put(canvas: Canvas, sheet: Sheet, falling: NDArray[np.float64]) -> None:
    """Draw one sheet and what is written on it."""
    if sheet.kind != "bare":
        shape = footprint(sheet)
        left, top, covered = project(shape, sheet.matrix)
        _cast_shadow(canvas, left, top, covered, falling)
        _, _, surface = project(_surface(sheet, shape), sheet.matrix)
        # Both were blurred by the projection alike, so dividing by the coverage gives back the colour up to the very edge.
        _blend(canvas, left, top, covered, surface / np.maximum(covered, 1e-3)[:, :, None])
    for mark in sheet.marks:
        left, top, ink = project(_handwriting.stroke(mark.number), sheet.matrix @ mark.matrix)
        if sheet.kind == "bare":
            _draw_on_photo(canvas, left, top, ink, sheet.ink)
        else:
            rub = 0.45 if sheet.kind == "slate" else 0.12
            texture = np.random.default_rng([sheet.grain, mark.number]).uniform(1 - rub, 1, ink.shape).astype(np.float32)
            _blend(canvas, left, top, ink * texture * 0.96, np.array(sheet.ink, dtype=np.float32))


def _window(canvas: Canvas, left: int, top: int, mask: Mask) -> tuple[Canvas, tuple[slice, slice]]:
    """The part of the canvas under a mask placed at (left, top), and the part of the mask that is inside."""
    height, width = canvas.shape[:2]
    rows = slice(max(0, -top), max(0, height - top))
    columns = slice(max(0, -left), max(0, width - left))
    bottom, right = top + mask.shape[0], left + mask.shape[1]
    return canvas[max(0, top) : max(0, bottom), max(0, left) : max(0, right)], (rows, columns)


def _blend(canvas: Canvas, left: int, top: int, coverage: Mask, colour: NDArray[np.float32]) -> None:
    """Lay `colour` (3,) or (h, w, 3) over the canvas."""
    under, inside = _window(canvas, left, top, coverage)
    if under.size:
        alpha = coverage[inside][:, :, None]
        under += alpha * ((colour if colour.ndim == 1 else colour[inside]) - under)


def _cast_shadow(canvas: Canvas, left: int, top: int, covered: Mask, falling: NDArray[np.float64]) -> None:
    """A contact shadow all round and a softer one to the side that lies away from the light."""
    spread = max(2, round(0.008 * max(canvas.shape)))
    padded = cv2.copyMakeBorder(covered, 4 * spread, 4 * spread, 4 * spread, 4 * spread, cv2.BORDER_CONSTANT, value=0)
    for shift, blur, strength in ((0.25, 0.6, 0.25), (1.0, 1.0, 0.38)):
        soft = cv2.GaussianBlur(padded, (0, 0), spread * blur) * np.float32(strength)
        x, y = (round(float(value) * shift) for value in falling)
        _blend(canvas, left - 4 * spread + x, top - 4 * spread + y, soft, np.zeros(3, dtype=np.float32))


def _draw_on_photo(canvas: Canvas, left: int, top: int, ink: Mask, colour: RGB) -> None:
    """Paint straight on the photo, with a rim of the opposite brightness, so that it can be read on any ground."""
    bright = sum(colour) > 330
    width = max(2, round(0.03 * max(ink.shape)))
    padded = cv2.copyMakeBorder(ink, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=0)
    rim = cv2.dilate(padded, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1)))
    rim = cv2.GaussianBlur(rim, (0, 0), 0.8)
    _blend(canvas, left - 8, top - 8, rim * 0.9, np.full(3, 24 if bright else 246, dtype=np.float32))
    _blend(canvas, left, top, ink, np.array(colour, dtype=np.float32))


def _surface(sheet: Sheet, shape: Mask) -> Canvas:
    """The paper in sheet pixels, RGB float32 (H, W, 3), already multiplied by its coverage `shape`."""
    rng = np.random.default_rng(sheet.grain)
    height, width = sheet.height, sheet.width
    surface = np.empty((height, width, 3), dtype=np.float32)
    surface[:] = sheet.paper
    {"sticky": _sticky, "ruled": _ruled, "tag": _tag, "badge": _badge, "slate": _slate}[sheet.kind](surface, rng)
    fibre = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 1.2)
    surface *= (1 + 0.02 * fibre)[:, :, None]
    return np.clip(surface, 0, 255) * shape[:, :, None]


def _sticky(surface: Canvas, rng: np.random.Generator) -> None:
    """Held by a strip at the top, it curls towards the bottom."""
    down = np.linspace(0, 1, surface.shape[0], dtype=np.float32)
    shade = 1 - 0.05 * np.exp(-(((down - 0.2) / 0.06) ** 2)) + 0.07 * down**2 - 0.16 * np.clip(down - 0.9, 0, 1)
    surface *= shade[:, None, None]


def _ruled(surface: Canvas, rng: np.random.Generator) -> None:
    """Lines or squares, sometimes with a red margin, and a fold."""
    height, width = surface.shape[:2]
    step = int(rng.integers(24, 34))
    for y in range(step, height, step):
        cv2.line(surface, (0, y), (width, y), (150, 182, 222), 2, cv2.LINE_AA)
    if rng.random() < 0.5:
        for x in range(step, width, step):
            cv2.line(surface, (x, 0), (x, height), (150, 182, 222), 2, cv2.LINE_AA)
    else:
        cv2.line(surface, (24, 0), (24, height), (226, 130, 130), 2, cv2.LINE_AA)
    fold = int(rng.integers(width // 3, 2 * width // 3))
    surface[:, fold:] *= np.float32(0.95)


def _tag(surface: Canvas, rng: np.random.Generator) -> None:
    """Cardboard with a printed frame and a ring round the hole."""
    height, width = surface.shape[:2]
    cut = height // 4
    ink = tuple(float(value) * 0.6 for value in surface[0, 0])
    cv2.rectangle(surface, (cut + 26, 12), (width - 14, height - 14), ink, 3, cv2.LINE_AA)
    cv2.circle(surface, (cut, height // 2), 17, (176, 70, 52), -1, cv2.LINE_AA)


def _badge(surface: Canvas, rng: np.random.Generator) -> None:
    """A round sticker with a coloured rim."""
    height, width = surface.shape[:2]
    rims = ((206, 42, 48), (30, 96, 176), (34, 138, 86), (240, 142, 30), (40, 40, 44))
    rim = rims[int(rng.integers(len(rims)))]
    cv2.circle(surface, (width // 2, height // 2), min(width, height) // 2 - 9, rim, 14, cv2.LINE_AA)


def _slate(surface: Canvas, rng: np.random.Generator) -> None:
    """A small blackboard: wiped chalk and a wooden frame."""
    height, width = surface.shape[:2]
    dust = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 14)
    surface += 60 * np.clip(dust, -0.05, 0.3)[:, :, None]
    wood = np.array((170, 122, 74), dtype=np.float32)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), sigmaX=12, sigmaY=0.8)
    frame = np.ones((height, width), dtype=bool)
    frame[18:-18, 18:-18] = False
    surface[frame] = (wood * (1 + 0.5 * grain[:, :, None]))[frame]
    cv2.rectangle(surface, (17, 17), (width - 18, height - 18), (18, 20, 20), 2, cv2.LINE_AA)


def _illumination(size: tuple[int, int], light: np.random.Generator) -> Canvas:
    """Factors (H, W, 3): light from one side, dark corners, a colour cast, sometimes the edge of a shadow across the scene."""
    width, height = size
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = light.uniform(0, 2 * np.pi)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    factor = 1 + np.float32(light.uniform(0.02, 0.16)) * along - np.float32(light.uniform(0.03, 0.12)) * (x * x + y * y)
    if light.random() < 0.35:
        across = x * np.float32(np.cos(angle + 1.1)) + y * np.float32(np.sin(angle + 1.1)) - np.float32(light.uniform(-0.5, 0.5))
        factor *= 1 - np.float32(light.uniform(0.15, 0.38)) / (1 + np.exp(-across / np.float32(light.uniform(0.02, 0.08))))
    warmth = light.normal(0, 0.035)
    cast = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
    return np.asarray(factor[:, :, None] * cast, dtype=np.float32)


def _expose(canvas: Canvas, light: np.random.Generator, noise: np.random.Generator) -> Image:
    """What the lens and the sensor do: a little blur, and noise that is alike in the three channels for the most part."""
    blur = light.uniform(0, 0.75)
    if blur > 0.25:
        canvas = cv2.GaussianBlur(canvas, (0, 0), blur)
    height, width = canvas.shape[:2]
    level = light.uniform(0.8, 3.0)
    grain = noise.standard_normal((height, width, 1), dtype=np.float32) * np.float32(0.85 * level)
    grain = grain + noise.standard_normal((height, width, 3), dtype=np.float32) * np.float32(0.5 * level)
    return np.clip(canvas + grain + 0.5, 0, 255).astype(np.uint8)
