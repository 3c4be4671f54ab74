"""A budget by content out of settings that were tried: put together right, where it is worth it."""

from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import vidprune
from tiny_videomae import clips, tiny_videomae
from vidprune.macs import costs
from vidprune.metrics import divergence
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.reducers.spec import parse
from vidprune.tuning.limits import best_budget
from vidprune.tuning.search import Search
from vidprune.tuning.target import Target
from vidprune.tuning.trying import Bench, Video

CHEAP, DEAR = "sta:r=8", "sta:r=1"
COUNT = 40


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_videomae(num_labels=5)


def bench(model: PreTrainedModel, count: int = COUNT) -> Bench:
    """Clips that change the more the later they come."""
    protocol = protocol_for(model, ViewOptions())
    pixels = (clips(count, seed=3).clamp(-2, 2) * 60 + 128).to(torch.uint8)
    videos = []
    for number, views in enumerate(pixels.unflatten(0, (count, 1))):
        still = views[:, :1].expand_as(views)
        part = number / count
        views = (part * views.float() + (1 - part) * still.float()).round().to(torch.uint8)
        videos.append(Video(f"{number}.mp4", views, label=number % 5))
    return Bench(model, protocol, videos, 4, torch.device("cpu"))


def told(found: Bench, wrong: tuple[int, ...], *, unsure: tuple[int, ...]) -> Search:
    """A search in which the cheap setting gives videos of `wrong` another class, and is less sure
    of those of `unsure`; the dear one and the dense model give all their own."""
    own = torch.arange(COUNT) % 5
    for video in range(COUNT):
        right = 4.0 * torch.nn.functional.one_hot(own[video], 5)
        cheap = 4.0 * torch.nn.functional.one_hot((own[video] + (video in wrong)) % 5, 5)
        found._known["none", video] = right[None]
        found._known[DEAR, video] = 0.99 * right[None]
        found._known[CHEAP, video] = (0.5 if video in unsure else 1.0) * cheap[None]
    return Search(found, Target(kind="agreement", value=95.0), tuple(range(COUNT)))


def test_who_is_unsure_where_it_errs_stops_at_the_right_limit(model: PreTrainedModel) -> None:
    """Four of forty, of which the cheap setting errs in three: they are asked again."""
    search = told(bench(model), (5, 20, 35), unsure=(5, 12, 20, 35))
    tried = [search.whole(each) for each in (CHEAP, DEAR)]
    found = best_budget(search, tried, ("confidence", "change"), tried[1])
    assert found is not None
    chosen = parse(found.reducer)
    assert (chosen.settings[0], chosen.signal) == (parse(CHEAP), "confidence")
    assert found.losses.agreement.value == 100.0
    spent = [costs(model, each).gmacs_per_view for each in (CHEAP, DEAR, "none")]
    again = spent[1 + (chosen.settings[1] is None)]
    assert found.costs.gmacs == pytest.approx(spent[0] + again / 10)
    assert again == spent[1]


def test_change_that_parts_right_from_wrong_is_found_either_way(model: PreTrainedModel) -> None:
    """The cheap setting errs where clips change most, or least."""
    for wrong in (tuple(range(32, 40)), tuple(range(8))):
        search = told(bench(model), wrong, unsure=())
        tried = [search.whole(each) for each in (CHEAP, DEAR)]
        found = best_budget(search, tried, ("change",), tried[1])
        assert found is not None
        chosen = parse(found.reducer)
        first = CHEAP if wrong[0] else DEAR
        assert chosen.settings[0] == parse(first)
        assert found.losses.agreement.value == 100.0


def test_a_budget_that_one_setting_answers_alone_is_none(model: PreTrainedModel) -> None:
    """However well that one does."""
    search = told(bench(model), (), unsure=())
    tried = [search.whole(each) for each in (CHEAP, DEAR)]
    assert best_budget(search, tried, ("confidence",), None) is None


def test_where_nothing_tells_right_from_wrong_there_is_no_budget(model: PreTrainedModel) -> None:
    """One setting for all is better than two that are told apart by chance."""
    search = told(bench(model), tuple(range(0, 40, 5)), unsure=())
    tried = [search.whole(each) for each in (CHEAP, DEAR)]
    assert best_budget(search, tried, ("confidence", "change"), tried[1]) is None


def test_a_budget_is_what_its_settings_say_and_cost(model: PreTrainedModel) -> None:
    """By hand, over all views; of real answers, and of another model's forward."""
    found = bench(model, count=8)
    videos = range(8)
    sure = found.confidences(CHEAP, videos)
    limit = float(f"{sorted(sure)[4]:.6g}")
    reducer = f"confidence:{CHEAP}@{limit}@{DEAR}"
    stays = [each >= limit for each in sure]
    assert {*stays} == {True, False}
    parts = {each: found.probabilities(each, videos) for each in (CHEAP, DEAR)}
    expected = torch.stack(
        [parts[CHEAP if stay else DEAR][video] for video, stay in enumerate(stays)]
    )
    assert torch.equal(found.probabilities(reducer, videos), expected)
    cheap, dear = (costs(model, each).gmacs_per_view for each in (CHEAP, DEAR))
    mean = cheap + dear * stays.count(False) / 8
    assert found.spent(reducer, videos).gmacs == pytest.approx(mean)
    pruned = vidprune.prune(model, reducer)
    mean_, std = (
        torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    pixels = torch.cat([(found.videos[video].views / 255 - mean_) / std for video in videos])
    out = pruned(pixels)
    assert out.setting.tolist() == [int(not stay) for stay in stays]
    torch.testing.assert_close(out.logits.double().softmax(-1), expected, atol=1e-6, rtol=1e-5)


def test_a_mean_speed_is_over_the_time_that_views_take(model: PreTrainedModel) -> None:
    """Twice as fast for half of the views, and for the others once more at dense speed."""
    found = bench(model, count=4)
    clocked: dict[str, Any] = {CHEAP: (0.05, 2.0), "none": (0.1, 1.0)}
    found._seconds = lambda reducer, repeats: clocked[reducer]  # type: ignore[method-assign]
    sure = sorted(found.confidences(CHEAP, range(4)))
    reducer = f"confidence:{CHEAP}@{(sure[1] + sure[2]) / 2}@none"
    spent = found.spent(reducer, range(4), repeats=3)
    assert spent.latency_ms == pytest.approx(50 + 100 / 2)
    assert spent.speedup == pytest.approx(1 / (0.5 + 1 / 2))
    assert found.spent(reducer, range(4)).speedup is None


def test_a_mean_cost_has_an_error_and_it_is_left_to_spare(model: PreTrainedModel) -> None:
    """Over videos; what costs the same for all has none."""
    found = bench(model, count=4)
    sure = sorted(found.confidences(CHEAP, range(4)))
    reducer = f"confidence:{CHEAP}@{(sure[2] + sure[3]) / 2}@none"
    spent = found.spent(reducer, range(4))
    cheap, dense = (costs(model, each).gmacs_per_view for each in (CHEAP, "none"))
    each = torch.tensor([cheap, cheap + dense, cheap + dense, cheap + dense]).double()
    assert spent.gmacs == pytest.approx(each.mean().item())
    assert spent.error == pytest.approx((each.std() / 2 / each.mean()).item())
    target = Target(kind="gmacs", value=spent.gmacs)
    assert target.excess(spent.of(target)) == pytest.approx(0)
    assert target.excess(spent.of(target, cautious=True)) == pytest.approx(spent.error)
    assert found.spent(CHEAP, range(4)).error == 0


def test_no_other_budget_of_these_settings_and_limits_is_better(model: PreTrainedModel) -> None:
    """Against all of them, one by one, at a budget of arithmetic."""
    found = bench(model, count=6)
    videos = tuple(range(6))
    dense = costs(model, "none").gmacs_per_view
    search = Search(found, Target(kind="gmacs", value=0.9 * dense), videos)
    tried = [search.whole(each) for each in (CHEAP, "sta:r=4", DEAR)]
    best = best_budget(search, tried, ("confidence",), None)
    assert best is not None
    reference = found.probabilities("none", videos)
    others = []
    # Of settings that another beats in both cost and KL none is made.
    beaten = [
        each.reducer
        for each in tried
        for other in tried
        if other.costs.share < each.costs.share
        and other.losses.kl_nats.value <= each.losses.kl_nats.value
    ]
    settings = [each for each in (CHEAP, "sta:r=4", DEAR, "none") if each not in beaten]
    for cheap, dear in combinations(settings, 2):
        values = sorted(found.confidences(cheap, videos))
        for limit in [(low + high) / 2 for low, high in pairwise(values)]:
            text = f"confidence:{cheap}@{limit}@{dear}"
            if found.spent(text, videos).of(search.target, cautious=True) <= 0.9 * dense:
                other = found.probabilities(text, videos)
                others.append(float(divergence(reference, other).mean()))
    assert others
    assert best.losses.kl_nats.value == pytest.approx(min(others))
