"""In which frame labels were drawn: that of the stored pixels, or upright, and at which size.

A camera held upright stores a photo lying down and notes the turn in EXIF. Some labelling tools show it turned, others do
not, and label files of both kinds exist. The rules:

1. `frame: upright` or `stored` in the params decides for every rotated photo.
2. `auto`: a photo turned by 90° whose label file declares a size is decided by that size.
3. What a size cannot decide (turns by 180°, mirrored or square photos, formats without sizes) follows the photos that were
   decided, if those agree; otherwise it is taken for upright, which stands in the ledger and in a warning.

Labels drawn on a smaller or larger copy of the image (same aspect ratio within 1 %) are scaled. A declared size that fits
neither is a defect of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes, orientation_matrix, transform
from pipeline.images import Header

ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Frame:
    """How the labels of one record lie on its image.

    Attributes:
        stored: drawn on the stored pixels, before the EXIF rotation.
        scale_x, scale_y: label pixels times this are image pixels, in the labels' own frame.
        note: ledger code, "" when there is nothing to say: `stored_frame`, `frame_undecided`, `resized`, `size_swapped`,
            `size_mismatch`.
    """

    stored: bool = False
    scale_x: float = 1.0
    scale_y: float = 1.0
    note: str = ""


PLAIN = Frame()


def decide(headers: Sequence[Header], sizes: Sequence[tuple[int, int]], policy: str) -> list[Frame]:
    """The frame of each record; `headers` and declared `sizes` (0 when unknown) one a record, `policy` auto, upright or
    stored."""
    decided = [_by_size(header, size) if header.orientation > 1 else False for header, size in zip(headers, sizes, strict=True)]
    votes = {stored for stored, header in zip(decided, headers, strict=True) if header.orientation > 1 and stored is not None}
    unanimous = votes.pop() if len(votes) == 1 else None
    frames = []
    for header, size, by_size in zip(headers, sizes, decided, strict=True):
        if header.orientation == 1:
            exact = not size[0] or size == (header.width, header.height)
            frames.append(PLAIN if exact else _sized(header, size, stored=False, note=""))
            continue
        stored = {"upright": False, "stored": True}.get(policy, unanimous if by_size is None else by_size)
        note = "frame_undecided" if stored is None else "stored_frame" if stored else ""
        frames.append(_sized(header, size, bool(stored), note))
    return frames


def _by_size(header: Header, size: tuple[int, int]) -> bool | None:
    """Whether a declared size is that of the stored frame; None when it cannot tell."""
    upright, stored = (header.width, header.height), header.stored_size
    if upright == stored or not size[0] or not size[1]:
        return None
    fits_upright, fits_stored = _same_aspect(size, upright), _same_aspect(size, stored)
    return None if fits_upright == fits_stored else fits_stored


def _same_aspect(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) < ASPECT_TOLERANCE


def _sized(header: Header, size: tuple[int, int], stored: bool, note: str) -> Frame:
    width, height = header.stored_size if stored else (header.width, header.height)
    if not size[0] or not size[1] or size == (width, height):
        return Frame(stored, note=note)
    if _same_aspect(size, (width, height)):
        return Frame(stored, width / size[0], height / size[1], note or "resized")
    return Frame(stored, note="size_swapped" if size == (height, width) else "size_mismatch")


def to_upright(
    boxes: Boxes,
    record: NDArray[np.int64],
    frames: Sequence[Frame],
    headers: Sequence[Header],
    normalised: bool,
) -> Boxes:
    """Boxes as the labels have them to pixel edges of the upright image.

    Args:
        boxes: (N, 4) edges, in pixels of the label's frame or as fractions of it if `normalised`.
        record: (N,) positions in `frames` and `headers`.
    """
    size = np.array([(header.width, header.height) for header in headers], dtype=np.float64).reshape(-1, 2)
    odd = np.array([frame.stored or frame.scale_x != 1 or frame.scale_y != 1 for frame in frames], dtype=bool)
    out = boxes * np.tile(size[record], 2) if normalised else boxes.copy()
    rows = np.flatnonzero(odd[record])
    if not len(rows):
        return out
    numbers = record[rows]
    pairs = list(zip(frames, headers, strict=True))
    own_size = np.array([h.stored_size if frame.stored else (h.width, h.height) for frame, h in pairs], dtype=np.float64)
    scale = np.array([(frame.scale_x, frame.scale_y) for frame in frames])
    fractions = boxes[rows] if normalised else boxes[rows] * np.tile((scale / own_size)[numbers], 2)
    turn = np.array([header.orientation if frame.stored else 1 for frame, header in pairs])[numbers]
    for orientation in np.unique(turn).tolist():
        # In fractions the map is the same for every image of an orientation.
        chosen = turn == orientation
        fractions[chosen] = transform(fractions[chosen], orientation_matrix(orientation, 1, 1))
    out[rows] = fractions * np.tile(size[numbers], 2)
    return out
