"""Figures of samples: percentiles by the book, intervals that are right as often as they say, ratios, drift."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from pipeline.bench import statistics
from pipeline.bench.statistics import Ratio, Samples, Statistic

JSON = dict[str, Any]


def noisy(seed: int, rounds: int = 5, each: int = 20, between: float = 0.03, within: float = 0.03, ms: float = 10.0) -> Samples:
    """Log-normal samples; each round is faster or slower than the next by about `between`."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, between, (rounds, 1)) + rng.normal(0, within, (rounds, each))
    return Samples((ms * 1e6 * np.exp(logs)).ravel().astype(np.int64), (each,) * rounds)


def of_ms(*ms: float, rounds: tuple[int, ...] = ()) -> Samples:
    return Samples(np.array([round(value * 1e6) for value in ms], dtype=np.int64), rounds or (len(ms),))


def test_a_summary_has_the_figures_that_numpy_has() -> None:
    samples = of_ms(*range(1, 102), rounds=(1,) * 101)
    found = statistics.summary(samples)
    ms = samples.ns / 1e6
    assert {key: found[key] for key in ("n", "min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms")} == {
        "n": 101, "min_ms": 1, "p50_ms": 51, "p90_ms": 91, "p95_ms": 96, "p99_ms": 100, "max_ms": 101, "mean_ms": 51,
    }  # fmt: skip
    assert found["sd_ms"] == pytest.approx(np.std(ms, ddof=1))
    low, high = found["p50_ci95_ms"]
    assert 30 < low < 51 < high < 72


def test_a_single_sample_has_no_interval() -> None:
    found = statistics.summary(of_ms(4))
    assert found["p50_ms"] == found["max_ms"] == 4
    assert found["sd_ms"] == 0
    assert found["p50_ci95_ms"] is None


def test_no_samples_are_no_figure() -> None:
    with pytest.raises(ValueError, match="no samples"):
        statistics.summary(Samples(np.zeros(0, dtype=np.int64), (0,)))


def test_rounds_must_make_up_the_samples() -> None:
    with pytest.raises(ValueError, match=r"rounds of \[2, 2\] samples do not make up 3"):
        of_ms(1, 2, 3, rounds=(2, 2))


def test_equal_seeds_give_equal_intervals() -> None:
    samples = noisy(3, rounds=12)  # five can be drawn in few ways
    assert statistics.median_interval(samples, seed=1) == statistics.median_interval(samples, seed=1)
    assert statistics.median_interval(samples, seed=1) != statistics.median_interval(samples, seed=2)


def drawn_one_by_one(samples: Samples, statistic: str) -> np.ndarray:
    """Rounds drawn in so many words, all samples of each taken."""
    parts = np.split(samples.ns, np.cumsum(samples.rounds)[:-1])
    rng = np.random.default_rng(1)
    compute = np.median if statistic == "median" else np.mean
    return np.array([compute(np.concatenate([parts[k] for k in rng.integers(len(parts), size=len(parts))])) for _ in range(4000)])


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_resampled_figures_are_spread_as_if_rounds_were_drawn_one_by_one(statistic: Statistic) -> None:
    rounds = [noisy(seed, rounds=1, each=each, between=0.03).ns for seed, each in enumerate((15, 14, 3, 20))]
    samples = Samples(np.concatenate(rounds), tuple(map(len, rounds)))
    away, degrees = statistics._deviations(samples, statistic, np.random.default_rng(0))
    middle = float(np.median(samples.ns) if statistic == "median" else samples.ns.mean())
    slow = np.log(drawn_one_by_one(samples, statistic) / middle) * (4 / 3) ** 0.5
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    spread = np.quantile(slow, 0.95) - np.quantile(slow, 0.05)
    assert np.quantile(away, levels) == pytest.approx(np.quantile(slow, levels), abs=0.08 * spread)
    assert degrees == 3


@pytest.mark.parametrize(("between", "within"), [(0.03, 0.03), (0.02, 0.002)])
def test_the_interval_holds_the_true_median_as_often_as_it_says_although_rounds_differ(between: float, within: float) -> None:
    held = plain = 0
    for seed in range(100):
        samples = noisy(seed, between=between, within=within)
        low, high = statistics.median_interval(samples) or (0, 0)
        held += low <= 10e6 <= high
        low, high = statistics.median_interval(Samples(samples.ns, (1,) * 100)) or (0, 0)
        plain += low <= 10e6 <= high
    assert held >= 88
    assert plain < 65  # what taking all samples for independent would give


def in_turn(seed: int, *ms: float, within: float = 0.03, between: float = 0.02, stalls: float = 0.02) -> Samples:
    """Five rounds of 20 samples: photos of these times in turn, some samples held up."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, between, (5, 1)) + rng.normal(0, within, (5, 20))
    held_up = np.where(rng.random((5, 20)) < stalls, 2.0, 1.0)
    return Samples((np.tile(ms, 20 // len(ms)) * 1e6 * np.exp(logs) * held_up).ravel().astype(np.int64), (20,) * 5, len(ms))


FEW_PHOTOS = {
    "decode of the bundled four": ((3.42, 3.92, 5.25, 14.2), 0.03),
    "classify of the bundled four": ((11.1, 18.2, 19.1, 45.6), 0.05),
    "two of one's own": ((10, 20), 0.03),
}


def truly(ms: tuple[float, ...], within: float) -> float:
    """Nanoseconds of the median photo, of ever so many samples."""
    rounds = [in_turn(seed, *ms, within=within).ns for seed in range(10_000, 12_000)]
    return Samples(np.concatenate(rounds), (len(rounds[0]),) * len(rounds), len(ms)).median()


@pytest.mark.parametrize(("ms", "within"), FEW_PHOTOS.values(), ids=FEW_PHOTOS)
def test_photos_of_very_different_times_leave_the_interval_right(ms: tuple[float, ...], within: float) -> None:
    true = truly(ms, within)
    limits = [statistics.median_interval(in_turn(seed, *ms, within=within)) or (0, 0) for seed in range(200)]
    held = [low <= true <= high for low, high in limits]
    assert sum(held) >= 182  # 95 % less two and a half times the error of 200
    assert np.mean([high / low for low, high in limits]) < 1.09  # and not by being wide


@pytest.mark.parametrize(("ms", "within"), FEW_PHOTOS.values(), ids=FEW_PHOTOS)
def test_equal_machines_are_not_told_apart_by_a_median_between_two_photos(ms: tuple[float, ...], within: float) -> None:
    found = [statistics.ratio(in_turn(seed, *ms, within=within), in_turn(seed + 1000, *ms, within=within)) for seed in range(100)]
    assert sum(each.is_noise for each in found) >= 89
    assert not [each for each in found if not each.is_noise and not 1 / 1.1 < each.value < 1.1]


def test_the_median_is_that_of_the_median_photo() -> None:
    assert of_ms(3, 4, 5, 14).median() == 4.5e6
    samples = Samples(of_ms(*[3, 4, 8, 14] * 4, 9, 4).ns, (16, 2), 4)
    assert samples.median() == 6e6
    assert statistics.summary(samples)["p50_ms"] == 6
    assert samples.input_of().tolist() == [0, 1, 2, 3] * 4 + [0, 1]  # a round that was cut short starts with the first
    assert statistics.drift(Samples(of_ms(*[10, 20] * 50).ns, (20,) * 5, 2)) == 0


def test_a_single_round_of_several_photos_is_cut_into_passes() -> None:
    assert statistics._units(Samples(of_ms(*[1, 9] * 12).ns, (24,), 2)).tolist() == [4, 4, *[2] * 8]
    assert statistics._units(Samples(of_ms(1, 2, 3).ns, (3,), 4)).tolist() == [1, 1, 1]
    low, high = statistics.median_interval(Samples(of_ms(*[1, 9] * 12).ns, (24,), 2)) or (0, 0)
    assert low == high == 5e6


def test_no_input_takes_no_turn() -> None:
    with pytest.raises(ValueError, match="0 inputs"):
        Samples(of_ms(1).ns, (1,), 0)
    with pytest.raises(ValueError, match="no samples"):
        Samples(np.zeros(0, dtype=np.int64), ()).median()


def test_the_interval_widens_where_rounds_differ() -> None:
    def width(between: float) -> float:
        low, high = statistics.median_interval(noisy(7, between=between)) or (0, 0)
        return high - low

    assert width(0.1) > 3 * width(0.0)


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_uncertainty_is_how_far_the_farther_end_of_the_interval_lies(statistic: Statistic) -> None:
    samples = Samples(np.repeat(np.array([10, 11, 10, 12, 11]) * 1_000_000, 20), (20,) * 5)
    low, high = statistics.interval(samples, statistic) or (0.0, 0.0)
    middle = statistics.compute(samples, statistic)
    found = statistics.uncertainty(samples, statistic)
    assert found is not None
    assert (middle * (1 + found), middle * (1 - found)) == (
        pytest.approx(max(high, 2 * middle - low)),
        pytest.approx(min(low, 2 * middle - high)),
    )
    assert 0.05 < found < 0.2
    assert statistics.uncertainty(Samples(np.array([5]), (1,)), statistic) is None


def test_the_interval_takes_a_hundred_thousand_samples() -> None:
    samples = noisy(1, rounds=10, each=10_000)
    started = time.perf_counter()
    low, high = statistics.median_interval(samples) or (0, 0)
    assert low < 10.2e6
    assert high > 9.8e6
    assert time.perf_counter() - started < 20  # a guard against drawing every sample, not a measurement


def follow_each_other(seed: int, each: int = 400) -> Samples:
    """One round of samples of which each resembles the one before."""
    steps = np.random.default_rng(seed).normal(0, 0.6, each)
    logs = np.zeros(each)
    for number in range(1, each):
        logs[number] = 0.8 * logs[number - 1] + steps[number]
    return Samples((10e6 * np.exp(0.03 * logs)).astype(np.int64), (each,))


def test_samples_of_one_round_that_follow_each_other_are_not_taken_for_independent() -> None:
    held = [
        low <= 10e6 <= high for low, high in (statistics.median_interval(follow_each_other(seed)) or (0, 0) for seed in range(60))
    ]
    assert sum(held) >= 50


def test_a_median_that_is_no_time_has_no_interval() -> None:
    assert statistics.median_interval(of_ms(-3, -1, -2)) is None
    assert statistics.summary(of_ms(-3, -1, -2))["p50_ci95_ms"] is None


def test_the_interval_of_a_mean_follows_the_stalls_that_a_median_passes_over() -> None:
    ns = np.full(100, 10_000_000)
    ns[::20] = 30_000_000
    ns[::40] = 50_000_000
    samples = Samples(ns, (15, 25, 20, 30, 10))
    low, high = statistics.interval(samples, "mean") or (0, 0)
    assert 10e6 < low <= ns.mean() <= high
    assert statistics.interval(samples, "median") == statistics.median_interval(samples) == (10e6, 10e6)


# ---------------------------------------------------------------- ratios


def test_a_ratio_above_one_means_that_the_first_takes_longer() -> None:
    found = statistics.ratio(noisy(1, ms=112, between=0.01), noisy(2, ms=10, between=0.01))
    assert found.low < found.value < found.high
    assert found.low < 11.2 < found.high
    assert found.high - found.low < 1.5
    assert not found.is_noise
    assert found.rounds == 5


def test_equal_seeds_give_equal_ratios() -> None:
    assert statistics.ratio(noisy(1), noisy(2), seed=3) == statistics.ratio(noisy(1), noisy(2), seed=3)
    assert statistics.ratio(noisy(1), noisy(2), seed=3) != statistics.ratio(noisy(1), noisy(2), seed=4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"rounds": 3}, {"rounds": 3}),
        ({}, {}),
        ({}, {"rounds": 10}),
        ({"between": 0.05}, {"between": 0.005, "within": 0.01}),  # one machine is restless, the other is not
        ({"between": 0}, {"between": 0}),
    ],
)
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(first: JSON, second: JSON) -> None:
    held = [statistics.ratio(noisy(seed, **first), noisy(seed + 1000, **second)).is_noise for seed in range(100)]
    assert sum(held) >= 90


def test_rounds_that_differ_widen_the_interval_far_beyond_that_of_independent_samples() -> None:
    sides = [noisy(seed, each=50, between=0.05, within=0.01) for seed in (1, 2)]
    by_round = statistics.ratio(*sides)
    plain = statistics.ratio(*(Samples(side.ns, (1,) * len(side.ns)) for side in sides))
    assert by_round.high / by_round.low > 1.1 > plain.high / plain.low


def test_means_and_medians_are_told_apart() -> None:
    over, under = of_ms(*[1, 1, 10] * 5, rounds=(3,) * 5), of_ms(*[1] * 15, rounds=(3,) * 5)
    assert statistics.ratio(over, under).value == 1
    assert statistics.ratio(over, under, "mean").value == 4


def test_rounds_of_different_lengths_and_steady_times() -> None:
    found = statistics.ratio(of_ms(*[2] * 703, rounds=(3, 700, 0)), of_ms(*[1] * 11, rounds=(9, 2)))
    assert found == Ratio(2, 2, 2, 2)


def test_the_inverse_swaps_the_limits_and_a_factor_moves_all() -> None:
    assert Ratio(4, 2, 5, 3).inverse() == Ratio(0.25, 0.2, 0.5, 3)
    assert Ratio(4, 2, 5, 3).scaled(0.5) == Ratio(2, 1, 2.5, 3)


def test_absurd_times_of_a_record_give_finite_limits() -> None:
    absurd = Samples(np.array([1, 2**62] * 4, dtype=np.int64), (2, 6))
    assert np.isfinite([statistics.ratio(absurd, absurd).low, statistics.ratio(absurd, absurd).high]).all()


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        (of_ms(-1, 2), "above 0"),
        (of_ms(0, 1), "above 0"),
        (of_ms(1), "two samples"),
        (Samples(np.zeros(0, dtype=np.int64), ()), "two samples"),
    ],
)
def test_a_ratio_needs_times(samples: Samples, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        statistics.ratio(of_ms(1, 2), samples)
    with pytest.raises(ValueError, match=complaint):
        statistics.ratio(samples, of_ms(1, 2))


# ---------------------------------------------------------------- drift and throughput


def test_drift_is_the_way_from_the_first_round_to_the_last() -> None:
    steady = of_ms(*[10] * 10, rounds=(2,) * 5)
    warming = of_ms(*np.repeat([10, 10.5, 11, 11.5, 12], 2), rounds=(2,) * 5)
    assert statistics.drift(steady) == 0
    assert statistics.drift(warming) == pytest.approx(2 / 11)
    assert statistics.drift(Samples(warming.ns[::-1].copy(), warming.rounds)) == pytest.approx(-2 / 11)


def test_one_odd_round_is_no_drift() -> None:
    assert statistics.drift(of_ms(*np.repeat([10, 10, 10, 10, 20], 2), rounds=(2,) * 5)) == 0


@pytest.mark.parametrize(
    ("medians", "is_one"),
    [
        ((10, 11, 12, 13, 14), True),
        ((14, 13, 12, 11, 10), True),
        ((10, 11, 13, 12, 14), False),  # as one in twelve orders of five
        ((10, 11, 13, 12, 14, 15, 16, 18, 17, 20), True),
        ((10, 14, 11, 15, 12), False),  # the last is slower than the first, and nothing is steady
        ((10, 10, 10, 10, 10), False),
        ((10, 12, 14, 16), False),  # one in twelve, too
        ((10, 12), False),
        ((10,), False),
    ],
)
def test_a_trend_is_what_goes_one_way(medians: tuple[int, ...], is_one: bool) -> None:
    assert statistics.is_trend(of_ms(*medians, rounds=(1,) * len(medians))) is is_one


def test_one_round_tells_nothing_of_drift() -> None:
    assert statistics.drift(of_ms(1, 2, 3)) is None
    assert statistics.drift(of_ms(1, 2, 3, rounds=(3, 0))) is None


def test_throughput_counts_stalls() -> None:
    assert statistics.throughput(of_ms(100, 100, 100, 700), images_per_sample=8) == pytest.approx(32)
    assert statistics.throughput(Samples(np.zeros(0, dtype=np.int64), ()), 1) is None


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.706), (4, 2.776), (11, 2.201), (19, 2.093), (99, 1.984), (np.inf, 1.960)]
)
def test_quantiles_of_students_t(degrees: int, expected: float) -> None:
    assert statistics._t_quantile(degrees) == pytest.approx(expected, abs=0.003)


def test_students_t_between_whole_degrees_is_rather_too_large() -> None:
    assert 2.571 < statistics._t_quantile(4.5) == pytest.approx(2.659, abs=0.02)
    assert 2.201 < statistics._t_quantile(10.5) == pytest.approx(2.214, abs=0.003)
