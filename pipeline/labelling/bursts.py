"""Photos taken in one go: what must stay on one side of a split although neither folder nor file name says so.

Whoever holds the shutter down, or takes the same thing three times to be sure, makes pictures that show the same objects in the
same light, often too different for a perceptual hash. The camera's clock tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from pipeline.images import Header


def find_bursts(headers: Sequence[Header | None], seconds: float) -> dict[int, int]:
    """For every photo of a burst the first photo of it (positions in `headers`); photos that stand alone are left out.

    Photos of one camera (maker, model and serial number) form a burst when each was taken within `seconds` of the one before.
    Those without a camera or a time are in none; 0 seconds joins nothing.
    """
    by_camera: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for number, header in enumerate(headers):
        if header is not None and header.camera and header.taken_s is not None:
            by_camera[header.camera].append((header.taken_s, number))
    first: dict[int, int] = {}
    if seconds <= 0:
        return first
    for shots in by_camera.values():
        for (before, number), (after, following) in pairwise(sorted(shots)):
            if after - before <= seconds:
                first[following] = first.setdefault(number, number)
    return first
