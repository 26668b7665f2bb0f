from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.neighbours import near_groups, parse, twins

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
