"""From logits to accuracy and to nearness, against numpy and loops."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidprune import metrics
from vidprune.metrics import (
    accuracy,
    divergence,
    mean_probabilities,
    nearness,
    rank_correlation,
    rank_of,
    same_class,
    top_class,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_a_video_scores_the_mean_of_its_views_softmax():
    logits = np.random.default_rng(0).normal(size=(6, 9)) * 5
    ours = mean_probabilities(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(ours, softmax(logits).mean(0), rtol=1e-12)


def test_one_sure_view_weighs_no_more_than_an_unsure_one():
    # The mean of logits is highest for class 0, the mean of probabilities for class 1.
    logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    assert logits.mean(0).argmax() == 0
    assert mean_probabilities(logits).argmax() == 1


def test_half_precision_logits_are_averaged_in_double():
    assert mean_probabilities(torch.zeros(3, 4, dtype=torch.bfloat16)).dtype == torch.float64


@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5]), min_size=1, max_size=8), st.data())
def test_rank_is_the_place_in_a_stable_sort(scores, data):
    label = data.draw(st.integers(0, len(scores) - 1))
    by_score = sorted(range(len(scores)), key=lambda index: -scores[index])
    assert rank_of(label, torch.tensor(scores)) == by_score.index(label)


def test_of_equal_scores_the_lower_class_is_first():
    assert [rank_of(label, torch.full((3,), 1 / 3)) for label in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("label", [0, 3, 6])
def test_logits_that_overflowed_are_no_hit(label):
    logits = torch.full((2, 7), torch.nan)
    assert rank_of(label, mean_probabilities(logits)) >= 5


def test_accuracy_counts_the_first_and_the_first_five():
    found = accuracy(Counter([0, 0, 1, 4, 5, 300, 2, 0]))
    assert (found.top1, found.top5, found.num_videos) == (37.5, 75.0, 8)


def test_no_video_has_no_accuracy():
    found = accuracy({})
    assert (found.top1, found.top5, found.num_videos) == (None, None, 0)


# --- how near ------------------------------------------------------------------------------------


def probabilities(videos: int, classes: int, *, seed: int) -> torch.Tensor:
    logits = np.random.default_rng(seed).normal(size=(videos, classes)) * 3
    return torch.from_numpy(softmax(logits))


def ranks_by_loops(scores: list[float]) -> list[float]:
    """From 1; equal scores share the mean of the places that they take together."""
    places = {
        score: [place for place, other in enumerate(sorted(scores), 1) if other == score]
        for score in scores
    }
    return [sum(places[score]) / len(places[score]) for score in scores]


def spearman_by_loops(first: list[float], second: list[float]) -> float:
    return float(np.corrcoef(ranks_by_loops(first), ranks_by_loops(second))[0, 1])


some_scores = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7])
OVERFLOWED = torch.full((1, 4), torch.nan, dtype=torch.float64)


def test_the_top_class_is_the_one_of_rank_0():
    scores = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    assert top_class(scores).tolist() == [1, 0, 2]
    hits = [
        [label for label in range(3) if rank_of(label, row) == 0] == [top]
        for row, top in zip(scores, top_class(scores).tolist(), strict=True)
    ]
    assert all(hits)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_overflowed_has_no_class_and_agrees_with_nothing(value):
    bad = mean_probabilities(torch.tensor([[0.0, 1.0, 2.0, value]])).reshape(1, 4)
    good = torch.tensor([[0.1, 0.1, 0.7, 0.1]], dtype=torch.float64)
    overflowed = value != -torch.inf
    assert top_class(bad).item() == (-1 if overflowed else 2)
    assert same_class(good, bad).item() is not overflowed
    assert same_class(bad, good).item() is not overflowed
    assert same_class(bad, bad).item() is not overflowed


def test_divergence_is_the_sum_of_its_definition():
    first, second = (probabilities(5, 9, seed=seed) for seed in (0, 1))
    expected = (first * (first / second).log()).sum(-1)
    torch.testing.assert_close(divergence(first, second), expected, rtol=1e-12, atol=0)
    assert (divergence(first, second) != divergence(second, first)).all()


def test_a_class_that_the_reference_rules_out_adds_nothing():
    first = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
    second = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64)
    assert divergence(first, second).item() == pytest.approx(0.5 * np.log(2))
    assert divergence(first, first).item() == 0


def test_a_class_that_only_the_other_rules_out_costs_much_and_not_infinitely_much():
    sure = mean_probabilities(torch.tensor([[800.0, 0.0]])).reshape(1, 2)
    assert sure[0, 1] == 0
    other = sure.flip(-1)
    assert 700 < divergence(sure, other).item() < 709


@given(st.lists(st.tuples(some_scores, some_scores), min_size=2, max_size=8))
def test_divergence_is_at_least_what_the_distance_says(pairs):
    rows = torch.tensor(pairs, dtype=torch.float64).T + 1e-9
    first, second = rows / rows.sum(-1, keepdim=True)
    found = divergence(first[None], second[None]).item()
    # Pinsker's inequality; both are 0 where they are equal.
    assert found >= 0
    assert found >= (first - second).abs().sum().item() ** 2 / 2 - 1e-12


@given(st.lists(st.tuples(some_scores, some_scores), min_size=2, max_size=9))
def test_rank_correlation_is_that_by_loops(pairs):
    first, second = (list(scores) for scores in zip(*pairs, strict=True))
    found = rank_correlation(torch.tensor([first]), torch.tensor([second])).item()
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearman_by_loops(first, second), abs=1e-12)


def test_rank_correlation_knows_the_order_alone():
    scores = probabilities(4, 11, seed=0)
    torch.testing.assert_close(rank_correlation(scores, scores.log() * 7), torch.ones(4).double())
    torch.testing.assert_close(rank_correlation(scores, -scores), -torch.ones(4).double())


def test_a_textbook_rank_correlation():
    # 1 - 6 * (sum of squared differences, 194) / (10 * 99), without ties.
    first = torch.tensor([[86, 97, 99, 100, 101, 103, 106, 110, 112, 113]])
    second = torch.tensor([[2, 20, 28, 27, 50, 29, 7, 17, 6, 12]])
    assert rank_correlation(first, second).item() == pytest.approx(-29 / 165)


def test_many_videos_are_ranked_in_blocks(monkeypatch):
    first, second = (probabilities(7, 5, seed=seed) for seed in (0, 1))
    whole = rank_correlation(first, second)
    monkeypatch.setattr(metrics, "_VIDEOS_AT_ONCE", 2)
    assert torch.equal(rank_correlation(first, second), whole)
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    expected = [spearman_by_loops(*pair) for pair in pairs]
    assert whole.tolist() == pytest.approx(expected)


def test_nearness_to_itself_is_complete():
    found = nearness(*[probabilities(50, 4, seed=0)] * 2)
    assert found.agreement.value == 100
    assert (found.kl_nats.value, found.kl_nats.high) == (0, 0)
    assert found.rank_correlation.value == pytest.approx(1)
    assert found.not_finite == 0


def test_videos_that_overflowed_do_not_agree_and_are_in_no_mean():
    good, other = (probabilities(3, 4, seed=seed) for seed in (0, 0))
    other[0] = other[0].roll(1)
    alone = nearness(good, other)
    found = nearness(
        torch.cat([good, OVERFLOWED, good[:1], OVERFLOWED]),
        torch.cat([other, other[:1], OVERFLOWED, OVERFLOWED]),
    )
    assert found.not_finite == 3
    assert found.agreement.value == pytest.approx(100 * 2 / 6)
    assert (found.kl_nats, found.rank_correlation) == (alone.kl_nats, alone.rank_correlation)


def test_without_a_video_or_a_number_there_is_nothing_to_say():
    nothing = nearness(torch.zeros(0, 4), torch.zeros(0, 4))
    assert (nothing.agreement, nothing.kl_nats, nothing.rank_correlation) == (None, None, None)
    overflowed = nearness(OVERFLOWED, OVERFLOWED)
    assert overflowed.agreement.value == 0
    assert (overflowed.kl_nats, overflowed.rank_correlation) == (None, None)
