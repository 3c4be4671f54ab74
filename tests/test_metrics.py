"""From logits to accuracy, against numpy."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidprune.metrics import accuracy, mean_probabilities, rank_of


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
