"""Pairs of images that look alike, by the Hamming distance of their 64-bit perceptual hashes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024


def as_integers(hashes: list[str]) -> NDArray[np.uint64]:
    """Hashes of 16 hex digits to (N,) uint64."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def near_pairs(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """All pairs (i, j), i < j, whose hashes differ in at most `distance` bits: (M, 2).

    Every pair is compared, a block of rows against all that follow, so the answer is exact; 5,000 images take a moment.
    """
    found = []
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK, None]
        bits = np.bitwise_count(rows ^ hashes[None, start:])
        i, j = np.nonzero(bits <= distance)
        found.append(np.stack([i, j], axis=1)[i < j] + start)
    return np.concatenate(found).astype(np.int64) if found else np.zeros((0, 2), dtype=np.int64)


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected component of each of `count` items, (N,): the smallest item number in it."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in pairs.tolist():
        first, second = sorted((root(a), root(b)))
        parent[second] = first
    return np.array([root(item) for item in range(count)], dtype=np.int64)
