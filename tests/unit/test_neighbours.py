from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.neighbours import are_near, near_groups, parse, twins

# A few looks and small deviations from them, so that near images occur.
LOOKS = st.tuples(st.integers(0, 2), st.lists(st.integers(0, 255), max_size=3))


def hash_of(look: int, flips: list[int]) -> str:
    strong = int.from_bytes(np.random.default_rng(look).bytes(32))
    for bit in flips:
        strong ^= 1 << bit
    return f"{strong:064x}" * 2


@given(st.lists(st.tuples(LOOKS, st.integers(0, 2), st.integers(0, 3)), max_size=14))
def test_twins_are_near_of_lower_rank_and_no_kin_and_none_is_left_out(
    images: list[tuple[tuple[int, list[int]], int, int]],
) -> None:
    hashes = parse([hash_of(*look) for look, _, _ in images])
    rank = np.array([rank for _, rank, _ in images], dtype=np.int64)
    kin = np.array([group for _, _, group in images], dtype=np.int64)
    found = twins(hashes, rank, [kin], 6)
    for one in range(len(images)):
        candidates = [
            other
            for other in range(len(images))
            if rank[other] < rank[one] and kin[other] != kin[one] and near_groups(hashes[[other, one]], 6).tolist() == [0, 0]
        ]
        assert (int(found[one]) in candidates) if candidates else found[one] == -1


def test_blank_pictures_have_no_twin() -> None:
    assert twins(parse(["0" * 128] * 2), np.array([0, 1]), [], 6).tolist() == [-1, -1]


@given(LOOKS, LOOKS)
def test_a_pair_is_near_where_its_group_says_so(one: tuple[int, list[int]], other: tuple[int, list[int]]) -> None:
    hashes = [hash_of(*one), hash_of(*other)]
    assert are_near(*hashes, 6) == (near_groups(parse(hashes), 6).tolist() == [0, 0])


def test_weak_edges_count_for_a_pair_as_for_a_group() -> None:
    rng = np.random.default_rng(3)
    answers = set()
    for _ in range(200):
        strong = rng.integers(0, 2, 256)
        other = strong ^ (rng.random(256) < rng.uniform(0, 0.3))
        weak, other_weak = (np.maximum(bits, rng.integers(0, 2, 256)) for bits in (strong, other))
        hashes = [np.packbits([*bits, *weak_bits]).tobytes().hex() for bits, weak_bits in ((strong, weak), (other, other_weak))]
        near = are_near(*hashes, 6)
        assert near == (near_groups(parse(hashes), 6).tolist() == [0, 0])
        answers.add(near)
    assert answers == {True, False}
    assert not are_near("0" * 128, "0" * 128, 6)
