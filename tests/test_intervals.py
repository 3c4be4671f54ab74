"""Intervals and tests of pairs, against whole numbers, numpy and simulated truths."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidprune import sources
from vidprune.intervals import (
    Interval,
    difference_interval,
    mcnemar,
    mean_interval,
    share_interval,
)

counts = st.integers(0, 60)


def bounds(found: Interval) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


# --- means --------------------------------------------------------------------------------------


def test_bounds_are_percentiles_of_resampled_means():
    values = np.random.default_rng(0).exponential(size=50)
    generator = np.random.default_rng(1)
    means = [generator.choice(values, 50).mean() for _ in range(20_000)]
    found = mean_interval(torch.from_numpy(values), resamples=20_000)
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert bounds(found) == pytest.approx(np.percentile(means, [2.5, 97.5]), rel=0.02)


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform"])
def test_95_of_100_intervals_hold_the_truth(draw):
    truth = {"normal": 0.0, "exponential": 1.0, "uniform": 0.5}[draw]
    samples = torch.from_numpy(getattr(np.random.default_rng(7), draw)(size=(500, 60)))
    found = [bounds(mean_interval(sample, resamples=300)) for sample in samples]
    covered = np.mean([low <= truth <= high for low, high in found])
    assert 0.9 < covered < 0.98


def test_the_same_videos_have_the_same_interval_and_another_seed_another():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=40))
    first = mean_interval(values)
    torch.manual_seed(99)
    assert mean_interval(values) == first
    assert mean_interval(values, seed=1) != first


@pytest.mark.parametrize("at_once", [1, 7 * 33, 10**9])
def test_how_draws_are_cut_into_blocks_changes_nothing(monkeypatch, at_once):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=33))
    whole = mean_interval(values)
    monkeypatch.setattr(sources, "_AT_ONCE", at_once)
    assert mean_interval(values) == whole


def test_many_videos_are_drawn_in_blocks(monkeypatch):
    draw, sizes = torch.randint, []

    def see(high, size, **options):
        sizes.append(size)
        return draw(high, size, **options)

    monkeypatch.setattr(torch, "randint", see)
    found = mean_interval(torch.arange(20_000) % 2, resamples=500)
    assert sum(rows for rows, _ in sizes) == 500
    assert max(rows * videos for rows, videos in sizes) <= 2**22
    # A binomial share of 20 000 has a standard error of 0.0035.
    assert bounds(found) == pytest.approx((0.5 - 0.00693, 0.5 + 0.00693), abs=0.001)


def test_what_is_not_defined_is_left_out():
    values = torch.tensor([1.0, torch.nan, 4.0, torch.inf, 2.0])
    assert mean_interval(values) == mean_interval(torch.tensor([1.0, 4.0, 2.0]))


def test_no_video_has_no_interval_and_one_has_no_bounds():
    for nothing in ([], [torch.nan]):
        assert mean_interval(torch.tensor(nothing)) is None
    assert mean_interval(torch.tensor([3.0])) == Interval(value=3.0, low=None, high=None)


# --- shares -------------------------------------------------------------------------------------


def test_a_share_is_in_per_cent_and_lies_in_its_interval():
    found = share_interval(torch.arange(40) < 30)
    assert found.value == 75
    # The normal approximation: 75 +- 1.96 * 6.85.
    assert bounds(found) == pytest.approx((61.6, 88.4), abs=2.6)


def wilson(hits: int, videos: int) -> tuple[float, float]:
    """The shares, in per cent, that so many hits are 1.96 standard errors from, by bisection."""

    def far(share: float) -> bool:
        return abs(hits / videos - share) > 1.959964 * (share * (1 - share) / videos) ** 0.5

    def end(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if far(middle) else (middle, outside)
        return 100 * inside

    return end(hits / videos, 0.0), end(hits / videos, 1.0)


@pytest.mark.parametrize(("hits", "videos"), [(30, 40), (479, 480), (1, 7), (5, 10)])
def test_the_interval_of_a_share_is_where_its_score_is_not_too_far(hits, videos):
    found = share_interval(torch.arange(videos) < hits)
    assert bounds(found) == pytest.approx(wilson(hits, videos), abs=1e-4)


@pytest.mark.parametrize("videos", [1, 30, 480])
def test_more_hits_never_have_the_lower_bounds(videos):
    found = [bounds(share_interval(torch.arange(videos) < hits)) for hits in range(videos + 1)]
    lows, highs = zip(*found, strict=True)
    assert list(lows) == sorted(set(lows))
    assert list(highs) == sorted(set(highs))
    assert (lows[0], highs[-1]) == (0, 100)


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99])
def test_95_of_100_shares_lie_in_their_intervals_near_the_end_too(truth):
    hits = torch.from_numpy(np.random.default_rng(5).uniform(size=(1000, 480)) < truth)
    found = [bounds(share_interval(row)) for row in hits]
    assert 0.93 < np.mean([low <= 100 * truth <= high for low, high in found]) < 0.98


def test_no_video_has_no_share():
    assert share_interval(torch.zeros(0, dtype=torch.bool)) is None


# --- paired differences -------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_a_difference_is_that_of_the_means_and_turns_round_with_the_runs(pairs):
    first, second = torch.tensor(pairs).T
    found = difference_interval(first, second)
    expected = 100 * (np.mean([b for _, b in pairs]) - np.mean([a for a, _ in pairs]))
    assert found.value == pytest.approx(expected, abs=1e-9)
    back = difference_interval(second, first)
    if found.low is not None:
        low, high = bounds(found)
        assert low <= found.value <= high
        assert bounds(back) == pytest.approx((-high, -low), abs=1e-9)


def test_only_pairs_that_differ_make_a_difference_unsure():
    hard = torch.arange(200) % 2 == 0
    better = hard.clone()
    better[1:20:2] = True
    low, high = bounds(difference_interval(hard, better))
    # Ten pairs of 200 differ: a standard error of 1.5 points, where two bare means have 7.
    assert (low, high) == pytest.approx((2.0, 8.25), abs=0.6)


def pairs_of(lost: int, gained: int, videos: int) -> tuple[torch.Tensor, torch.Tensor]:
    number = torch.arange(videos)
    return number < lost, (number >= lost) & (number < lost + gained)


def test_a_pair_that_differs_is_never_surer_than_none():
    widths = []
    for lost in range(6):
        low, high = bounds(difference_interval(*pairs_of(lost, 0, 480)))
        widths.append(high - low)
    assert widths == sorted(set(widths))
    low, high = bounds(difference_interval(*pairs_of(0, 0, 480)))
    assert low == -high
    # Two pairs of 482 that were added: 1.96 sqrt(2) / 482.
    assert high == pytest.approx(0.575, abs=1e-3)


@pytest.mark.parametrize("videos", [1, 2, 10])
def test_a_difference_is_no_larger_than_all(videos):
    low, high = bounds(difference_interval(*pairs_of(0, videos, videos)))
    assert -100 <= low < high == 100


@pytest.mark.parametrize(("lost", "gained"), [(0.11, 0.01), (0.01, 0.005), (0.003, 0.003)])
def test_95_of_100_differences_lie_in_their_intervals(lost, gained):
    draws = np.random.default_rng(3).uniform(size=(1000, 480))
    reference = torch.from_numpy(draws < lost)
    other = torch.from_numpy((draws >= lost) & (draws < lost + gained))
    found = [bounds(difference_interval(*pair)) for pair in zip(reference, other, strict=True)]
    truth = 100 * (gained - lost)
    assert np.mean([low <= truth <= high for low, high in found]) > 0.94


def test_no_pair_has_no_difference():
    nothing = torch.zeros(0, dtype=torch.bool)
    assert difference_interval(nothing, nothing) is None


# --- McNemar ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 1, 1.0),
        (0, 5, 0.0625),
        (0, 6, 0.03125),
        # The sign test of 1 against 8 in tables of the binomial distribution.
        (1, 8, 0.0390625),
        # The worked example of a small sample in Fagerland, Lydersen & Laake (2013): 1 against 7.
        (1, 7, 0.0703125),
        (6, 16, 0.0524786),
    ],
)
def test_known_values(lost, gained, p):
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-5)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@given(counts, counts)
def test_it_is_the_two_sided_binomial_test(lost, gained):
    pairs = lost + gained
    as_uneven = [
        comb(pairs, k) for k in range(pairs + 1) if abs(2 * k - pairs) >= abs(lost - gained)
    ]
    expected = Fraction(sum(as_uneven), 2**pairs)
    assert mcnemar(lost, gained) == pytest.approx(float(expected), rel=1e-12)


def test_it_is_wrong_at_most_as_often_as_it_says():
    for level in (0.01, 0.05, 0.2):
        wrong = sum(comb(40, k) / 2**40 for k in range(41) if mcnemar(k, 40 - k) <= level)
        assert 0 < wrong <= level


def test_many_pairs_are_no_matter():
    # The normal approximation with its correction: z = 99 / sqrt(20000) = 0.7000.
    assert mcnemar(9950, 10_050) == pytest.approx(0.4839, abs=1e-3)
    assert mcnemar(0, 20_000) == 0.0
