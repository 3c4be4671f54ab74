"""Clips of one source: intervals that hold the truth where those over clips do not."""

from itertools import product

import numpy as np
import pytest
import torch

from vidprune.intervals import difference_interval, mean_interval, share_interval
from vidprune.sources import design_effect, sign_flip_p, sources_of

JHMDB = r"([^/]+)/(.+)_\1_[a-z]+_[^/]*$"


def test_names_belong_together_in_which_the_pattern_finds_the_same() -> None:
    names = [
        "../clips/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.mp4",
        "../clips/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_1.mp4",
        "../clips/clap/April_09_clap_u_nm_np1_ba_goo_1.mp4",
        "elsewhere.mp4",
        "elsewhere2.mp4",
    ]
    assert sources_of(names, JHMDB).tolist() == [0, 0, 1, 2, 3]
    assert sources_of(["a1", "a2", "b1"], "[a-z]").tolist() == [0, 0, 1]


def test_a_group_called_source_is_all_that_counts() -> None:
    names = ["run/Film_run_a.mp4", "walk/Film_walk_b.mp4", "walk/Other_walk_a.mp4"]
    pattern = r"([^/]+)/(?P<source>.+)_\1_[a-z]+"
    assert sources_of(names, pattern).tolist() == [0, 0, 1]


def test_a_pattern_must_find_something_and_part_something() -> None:
    with pytest.raises(ValueError, match="finds nothing in any of the 2 videos' names"):
        sources_of(["a.mp4", "b.mp4"], "zzz")
    with pytest.raises(ValueError, match="makes one source of all 2 videos"):
        sources_of(["a.mp4", "b.mp4"], "")
    assert sources_of(["a.mp4"], "a").tolist() == [0]


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match=r"source='\(' is no regular expression"):
        sources_of(["a"], "(")


def test_strangers_have_no_design_effect_and_twins_are_one() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(0))
    assert design_effect(values, torch.arange(200)) == pytest.approx(1, abs=1e-9)
    twins = values.repeat_interleave(3)
    found = design_effect(twins, torch.arange(200).repeat_interleave(3))
    assert found == pytest.approx(3, rel=0.02)


def test_where_all_are_alike_sources_count() -> None:
    assert design_effect(torch.ones(6), torch.tensor([0, 0, 0, 1, 1, 2])) == pytest.approx(14 / 6)


def test_strangers_have_the_intervals_that_they_have_without() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(80, generator=generator) < share for share in (0.4, 0.5))
    alone = torch.arange(80)
    assert share_interval(first, alone) == share_interval(first)
    plain, found = difference_interval(first, second), difference_interval(first, second, alone)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    values = torch.rand(80, generator=generator)
    assert mean_interval(values, alone) == mean_interval(values)


def test_95_of_100_intervals_hold_the_truth_where_clips_share_their_source() -> None:
    """And of those that take them for strangers far fewer."""
    generator = np.random.default_rng(3)
    sources = torch.arange(60).repeat_interleave(6)
    held = dict.fromkeys(("share", "difference", "mean", "strangers"), 0)
    for _ in range(300):
        own = generator.beta(0.7, 0.7, 60).repeat(6)
        before = torch.from_numpy(generator.random(360) < own)
        share = share_interval(before, sources)
        held["share"] += share.low <= 50 <= share.high
        plain = share_interval(before)
        held["strangers"] += plain.low <= 50 <= plain.high
        values = torch.from_numpy(own + generator.normal(0, 0.1, 360))
        mean = mean_interval(values, sources, resamples=300)
        held["mean"] += mean.low <= 0.5 <= mean.high
        mirrored = torch.from_numpy(generator.random(360) < own)
        difference = difference_interval(before, mirrored, sources)
        held["difference"] += difference.low <= 0 <= difference.high
    assert 0.9 < held["share"] / 300 <= 0.99
    assert 0.9 < held["mean"] / 300 <= 0.99
    assert 0.9 < held["difference"] / 300 <= 0.995
    assert held["strangers"] / 300 < 0.85


def test_flipping_signs_is_exact_where_all_flips_can_be_counted() -> None:
    differences = torch.tensor([1.0, 1, 0, -1, 1, 1, 1, 0])
    sources = torch.tensor([0, 0, 1, 1, 2, 3, 3, 4])
    sums = [2.0, -1, 1, 2]
    signs = torch.tensor(list(product((1.0, -1.0), repeat=4)))
    tosses = (signs * torch.tensor(sums)).sum(1).abs().tolist()
    exact = np.mean([toss >= abs(sum(sums)) for toss in tosses])
    assert sign_flip_p(differences, sources) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(torch.zeros(5), torch.arange(5)) == 1
