"""Images that look alike, by the difference hashes of `images.dhash`.

Two hashes are held against each other where they tell something: at the edges of brightness that stand out in either picture.
Even areas say nothing, so two white pages with other things on them are not alike, while two frames of a still camera are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HASH_DIGITS = 128
WORDS = 4
"""64-bit words in each half of a hash."""

MIN_EDGES = 4
"""A picture with fewer strong edges (a blank tile, a black frame) is near to none: its hash says nothing."""


def parse(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of `images.dhash` to (N, 8) uint64: four words of strong edges, four of edges that are at least weak.

    Raises:
        ValueError: a text is no such hash.
    """
    if any(len(text) != HASH_DIGITS for text in hashes):
        raise ValueError(f"a hash has {HASH_DIGITS} hex digits")
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, 2 * WORDS)


def look_alikes(hashes: Sequence[str], distance: int) -> NDArray[np.int64]:
    """The `near_groups` of hashes of which some are not known (""): a number for each image, (N,), equal for those of one group;
    -1 where the hash is not known.
    """
    known = np.flatnonzero([bool(text) for text in hashes])
    groups = np.full(len(hashes), -1)
    if len(known):
        groups[known] = known[near_groups(parse([hashes[row] for row in known.tolist()]), distance)]
    return groups


def near_groups(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """The group of each image, (N,): the smallest image number in it. Near images are in one group, and so are chains of them.

    Two images are near when, of every 64 strong edges of the two, at most `distance` are missing from the other or turned round.

    Exact, in O(N) memory: each image is compared with those that no group has reached yet, so data sets in which all images are
    alike are the quickest. 50,000 images of which no two are alike take some seconds.
    """
    groups = np.arange(len(hashes))
    telling = np.flatnonzero(_edges(hashes.T) >= MIN_EDGES)
    distinct, which = np.unique(hashes[telling], axis=0, return_inverse=True)
    label = _label(distinct, distance)[which.reshape(-1)]
    _, first, members = np.unique(label, return_index=True, return_inverse=True)
    groups[telling] = telling[first][members.reshape(-1)]
    return groups


def _label(hashes: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """A number for every hash, (N,), equal for those of one group: breadth-first, over what was not reached before."""
    label = np.arange(len(hashes))
    is_waiting = np.ones(len(hashes), dtype=np.bool_)
    waiting, table, reached = label.copy(), _Table.of(hashes), 0
    for seed in range(len(hashes)):
        if not is_waiting[seed]:
            continue
        is_waiting[seed] = False
        reached += 1
        queue = [seed]
        while queue:
            if reached > 0.1 * len(waiting):  # not at each find: copying what is left would take most of the time
                left = is_waiting[waiting]
                waiting, table, reached = waiting[left], _Table(table.words[:, left], table.edges[left]), 0
            found = waiting[_near(hashes[queue.pop()], table, distance)]
            found = found[is_waiting[found]]
            is_waiting[found] = False
            label[found] = seed
            reached += len(found)
            queue.extend(found.tolist())
    return label


def are_near(one: str, other: str, distance: int) -> bool:
    """Whether two hashes of `images.dhash` are near in the sense of `near_groups`; of a pair alone in a thirtieth of the time."""
    half = HASH_DIGITS // 2
    (strong, weak), (other_strong, other_weak) = ((int(text[:half], 16), int(text[half:], 16)) for text in (one, other))
    edges, other_edges = strong.bit_count(), other_strong.bit_count()
    contradictions = (strong & ~other_weak).bit_count() + (other_strong & ~weak).bit_count()
    return min(edges, other_edges) >= MIN_EDGES and contradictions <= distance * (edges + other_edges) // 64


def twins(
    hashes: NDArray[np.uint64], rank: NDArray[np.int64], kin: Sequence[NDArray[np.int64]], distance: int
) -> NDArray[np.int64]:
    """Of each image one of lower rank that is near in the sense of `near_groups`, (N,); -1 where there is none.

    Exact, in O(N) memory. As in `near_groups`, images that have found theirs are not compared again, so data sets in which all
    images are alike are the quickest.

    Args:
        rank: (N,) such as 0 for train, 1 for val.
        kin: columns, (N,) each; two images that are equal in one of them are no twins.
    """
    found = np.full(len(hashes), -1)
    telling = np.flatnonzero(_edges(hashes.T) >= MIN_EDGES)
    waiting = telling[rank[telling] > rank[telling].min(initial=0)]
    table, reached = _Table.of(hashes[waiting]), 0
    for one in telling[np.argsort(rank[telling], kind="stable")].tolist():
        if reached > 0.1 * len(waiting):  # see `_label`
            left = found[waiting] < 0
            waiting, table, reached = waiting[left], _Table(table.words[:, left], table.edges[left]), 0
        near = waiting[_near(hashes[one], table, distance)]
        near = near[(rank[near] > rank[one]) & (found[near] < 0)]
        for column in kin:
            near = near[column[near] != column[one]]
        found[near] = one
        reached += len(near)
    return found


@dataclass(frozen=True)
class _Table:
    """Hashes to compare with, one word after the other in memory: `words` (8, N), and their numbers of strong `edges` (N,)."""

    words: NDArray[np.uint64]
    edges: NDArray[np.int32]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> _Table:
        words = np.ascontiguousarray(hashes.T)
        return cls(words, _edges(words))


def _edges(words: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Strong edges in each of (8, N) hashes: (N,)."""
    edges: NDArray[np.int32] = np.bitwise_count(words[:WORDS]).sum(axis=0, dtype=np.int32)
    return edges


def _near(one: NDArray[np.uint64], table: _Table, distance: int) -> NDArray[np.intp]:
    """The columns of the table that are near a hash, (8,)."""
    limit = distance * (table.edges + _edges(one[:, None])) // 64
    # Contradictions only add up, so the first word alone rules out nearly all.
    first = _contradictions(one, table.words, 0)
    left = np.flatnonzero(first <= limit)
    total = first[left].astype(np.int32)
    for word in range(1, WORDS):
        total += _contradictions(one, table.words[:, left], word)
    return left[total <= limit[left]]


def _contradictions(one: NDArray[np.uint64], words: NDArray[np.uint64], word: int) -> NDArray[np.uint8]:
    """Edges that are strong in one hash and not even weak in the other, in one of the four words: (N,)."""
    strong, weak = words[word], words[WORDS + word]
    count: NDArray[np.uint8] = np.bitwise_count(strong & ~one[WORDS + word]) + np.bitwise_count(~weak & one[word])
    return count


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
