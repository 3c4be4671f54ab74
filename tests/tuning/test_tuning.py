"""A target is reached on videos that the search did not see, or it is said that it is not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import vidprune
from tiny_videomae import clips, tiny_config, tiny_videomae
from vidprune.cli import main
from vidprune.commands.tune import RECIPE, Asked, Sighted, _parted, tune
from vidprune.drawing.tuning import draw_tuning, pareto
from vidprune.intervals import Interval
from vidprune.macs import costs
from vidprune.metrics import divergence
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.reducers.spec import describe, parse
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.figures import losses as of_probabilities
from vidprune.tuning.record import Tuning
from vidprune.tuning.search import Budget, Search, Tried, best_of
from vidprune.tuning.space import METHODS, PUBLISHED, suggest
from vidprune.tuning.target import COSTS, Target
from vidprune.tuning.trying import Bench, Video


class Fixed:
    """A chooser of set values."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> str:
        assert self.values[name] in choices
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        assert low <= self.values[name] <= high
        return self.values[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert low <= self.values[name] <= high
        return self.values[name]


# What may be chosen.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
def test_what_is_proposed_costs_no_more_than_is_asked_and_little_less(
    method: str, share: float
) -> None:
    config = vidprune.load("demo").config
    dense = costs(config, "none").gmacs_per_view
    reducer = suggest(Fixed(method=method, **PUBLISHED), config, METHODS, share)
    assert reducer is not None
    found = costs(config, reducer).gmacs_per_view / dense
    assert share - 0.03 < found <= share
    assert ("fold=true" in reducer) == ("fold=true" in method)


def test_the_search_begins_with_the_paper_s_setting() -> None:
    """At the cost of r = 16: the same places, and the same amounts but for rounding."""
    config = vidprune.load("demo").config
    share = costs(config, "sta:r=16").gmacs_per_view / costs(config, "none").gmacs_per_view
    found = suggest(Fixed(method="sta", **PUBLISHED), config, METHODS, share)
    assert found == "sta:schedule=16/8/4,blocks=0/4/8"


def test_what_cannot_come_so_low_comes_as_low_as_it_can() -> None:
    """One token of each frame stays, after the third of six blocks."""
    config = tiny_config(num_hidden_layers=6)
    late = Fixed(method="sta", stages=1, first=2, last=1.0, tilt=1.0)
    assert suggest(late, config, METHODS, 0.2) == "sta:schedule=15/,blocks=2/"


def test_places_and_amounts_are_as_proposed() -> None:
    config = vidprune.load("demo").config
    chosen = Fixed(method="random:fold=true", stages=4, first=1, last=1.0, tilt=1.0)
    reducer = parse(suggest(chosen, config, METHODS, 0.6))
    assert reducer.blocks == (1, 4, 8, 11)
    assert len(set(reducer.schedule)) == 1
    assert reducer.fold


# What is reached.


def losses(agreement: float, kl: float, change: float = 0.0) -> Losses:
    return Losses(
        videos=30,
        agreement=Interval(value=agreement, low=agreement - 10, high=100.0),
        spared_agreement=agreement - 4,
        kl_nats=Interval(value=kl, low=kl / 2, high=2 * kl),
        change_points=Interval(value=change, low=change - 5, high=change + 5),
    )


def tried(share: float, kl: float, agreement: float = 100.0, **more: Any) -> Tried:
    spent = Spent(gmacs=2 * share, share=share, latency_ms=100 * share, speedup=1 / share)
    given = {"whole": True, "losses": losses(agreement, kl)} | more
    return Tried(reducer=f"sta:r={round(100 * share)}", costs=spent, **given)


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("gmacs", 1.0, 0.4),
        ("speedup", 2.0, 0.4),
        ("latency_ms", 45.0, 0.4),
        ("agreement", 90.0, 0.4),
        ("kl_nats", 0.05, 0.5),
        ("gmacs", 0.1, None),
    ],
)
def test_of_what_reaches_a_target_the_best_is_taken(
    kind: Any, value: float, wanted: float | None
) -> None:
    """The nearest to dense where a cost is given, else the cheapest; with a loss of one standard
    error less, and tried on all videos."""
    found = [
        tried(0.5, 0.03, 98.0),
        tried(0.4, 0.02 if kind in COSTS else 0.06, 96.0),
        tried(0.3, 0.04, 60.0),
        tried(0.2, 0.001, whole=False),
    ]
    best = best_of(Target(kind=kind, value=value), found)
    assert (best and best.costs.share) == wanted


def test_one_standard_error_is_left_between_a_loss_and_its_limit() -> None:
    found = losses(95.0, 0.04, -1.0)
    assert found.of(Target(kind="agreement", value=90.0), cautious=True) == 91.0
    assert found.of(Target(kind="kl_nats", value=0.1), cautious=True) == pytest.approx(0.06)
    # Of top-1 some dozens of videos tell nothing so fine.
    assert found.of(Target(kind="drop_points", value=1.0), cautious=True) == 1.0


def test_an_error_is_larger_where_clips_are_of_few_sources() -> None:
    """Of 80 strangers 90 % within the textbook's standard error; of 16 sources, each of one mind,
    within that of 16."""
    same = torch.ones(80, dtype=torch.bool)
    same[:8] = False
    dense = torch.tensor([0.9, 0.1]).expand(80, -1).double()
    other = torch.where(same[:, None], dense, dense.flip(-1))
    alone, of_few = (
        of_probabilities(dense, other, None, sources).spared_agreement
        for sources in (None, torch.arange(80) // 5)
    )
    assert alone == pytest.approx(90 - 100 * (0.9 * 0.1 / 80) ** 0.5, abs=0.6)
    assert of_few == pytest.approx(90 - 100 * (0.9 * 0.1 / 16) ** 0.5, abs=3.5)
    assert of_few < alone - 3


@pytest.mark.parametrize(
    ("kind", "value"), [("speedup", 0.5), ("agreement", 101.0), ("kl_nats", -1.0), ("gmacs", -2.0)]
)
def test_a_target_that_cannot_be_is_refused(kind: Any, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{kind}={value:g} must lie between"):
        Target(kind=kind, value=value)


# Trying.


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_videomae(num_hidden_layers=6)


def bench(model: PreTrainedModel, count: int = 6, segments: int = 1) -> Bench:
    protocol = replace(protocol_for(model, ViewOptions()), segments=segments)
    pixels = (clips(count * segments, seed=3).clamp(-2, 2) * 60 + 128).to(torch.uint8)
    videos = [
        Video(f"{number}.mp4", views, label=number % 5)
        for number, views in enumerate(pixels.unflatten(0, (count, segments)))
    ]
    return Bench(model, protocol, videos, 4, torch.device("cpu"))


def test_answers_are_the_model_s_own(model: PreTrainedModel) -> None:
    """Over two views, in whatever order and company a video is asked for."""
    found = bench(model, segments=2)
    pruned = vidprune.prune(model, "sta:r=4")
    for video in (4, 1):
        mean, std = (
            torch.tensor(each)[:, None, None]
            for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        pixels = (found.videos[video].views / 255 - mean) / std
        with torch.inference_mode():
            wanted = pruned(pixels).logits.double().softmax(-1).mean(0)
        torch.testing.assert_close(found.probabilities("sta:r=4", [3, video])[1], wanted)


def test_what_is_hopeless_on_a_third_of_the_videos_is_given_up(model: PreTrainedModel) -> None:
    own = bench(model)
    dense, pruned = (own.probabilities(each, range(6)) for each in ("none", "sta:r=8"))
    kl = divergence(dense, pruned)
    limit = kl.min().item() / 100
    search = Search(own, Target(kind="kl_nats", value=limit), tuple(range(6)))
    given_up = search.tried("sta:r=8")
    assert (given_up.whole, given_up.losses.videos) == (False, 2)
    kept = replace(search, target=Target(kind="kl_nats", value=10.0)).tried("sta:r=8")
    assert (kept.whole, kept.losses.videos) == (True, 6)
    assert kept.losses.kl_nats.value == pytest.approx(kl.mean().item())


def test_a_search_is_the_same_for_the_same_seed(model: PreTrainedModel) -> None:
    gmacs = 0.6 * costs(model, "none").gmacs_per_view
    target = Target(kind="gmacs", value=gmacs)
    first, second, other = (
        [each.reducer for each in Search(bench(model), target, tuple(range(6)), seed=seed)(budget)]
        for seed, budget in ((0, Budget(trials=8)), (0, Budget(trials=8)), (1, Budget(trials=8)))
    )
    assert first == second
    assert first != other
    assert len(set(first)) == len(first) > 4
    assert all(costs(model, each).gmacs_per_view <= gmacs for each in first)
    assert len(first) <= 8


def test_time_ends_a_search(model: PreTrainedModel) -> None:
    search = Search(bench(model), Target(kind="gmacs", value=1.0), tuple(range(6)))
    assert len(list(search(Budget(trials=50, seconds=1e-9)))) == 1


# What the search sees and what it does not.


def test_no_source_is_on_both_sides() -> None:
    asked = Asked(target=Target(kind="agreement", value=90.0))
    sources = torch.arange(40) // 4
    seen, unseen = _parted(40, sources, asked)
    assert sorted((*seen, *unseen)) == list(range(40))
    assert not {int(sources[each]) for each in seen} & {int(sources[each]) for each in unseen}
    assert len(unseen) == 12
    assert _parted(40, sources, asked) == (seen, unseen)
    assert _parted(40, sources, replace(asked, seed=1)) != (seen, unseen)


def test_too_few_videos_are_refused() -> None:
    asked = Asked(target=Target(kind="agreement", value=90.0), check_share=0.1)
    with pytest.raises(ValueError, match="of 12 videos 11 are left for the search and 1 for"):
        _parted(12, torch.arange(12), asked)


# The command.


@pytest.fixture(scope="module")
def found(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuning, Path]:
    output = tmp_path_factory.mktemp("tuned")
    model = vidprune.load("demo")
    sighted = [Sighted(str(path), path) for path in sorted(videos.rglob("*.mp4"))]
    record = tune(
        model,
        protocol_for(model, ViewOptions()),
        sighted,
        Asked(target=Target(kind="gmacs", value=1.1), budget=Budget(trials=6)),
        output=output,
        checkpoint="demo",
        workers=0,
    )
    return record, output


def test_the_outcome_is_checked_on_videos_that_the_search_did_not_see(
    found: tuple[Tuning, Path], videos: Path
) -> None:
    record, _ = found
    assert record.reached
    assert record.costs is not None
    assert record.check is not None
    assert record.costs.gmacs <= 1.1
    assert record.costs.speedup is not None
    assert (record.searched, record.check.videos) == (8, 4)
    assert [Path(video["path"]).parent.name for video in record.unreadable] == ["broken"]
    # Of the method's other costs too.
    known = [each for each in (*record.tried, *record.others) if each.costs.gmacs <= 1.1]
    best = min(known, key=lambda each: each.losses.kl_nats.value)
    assert record.reducer == best.reducer
    assert record.published is not None
    assert record.published.reducer.startswith("sta:r=")
    shares = [each.costs.share for each in record.others]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) > 3


def test_the_record_and_the_recipe_are_read_back(found: tuple[Tuning, Path]) -> None:
    record, output = found
    assert Tuning.from_json((output / "tune.json").read_text()) == record
    path = str(output / RECIPE)
    assert describe(parse(path)) == record.reducer
    pruned = vidprune.prune(vidprune.load("demo"), path)
    assert describe(pruned.reducer) == record.reducer
    assert vidprune.costs(pruned).gmacs_per_view == pytest.approx(record.costs.gmacs)


def test_every_command_takes_a_recipe(
    found: tuple[Tuning, Path], videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, output = found
    path = str(output / RECIPE)
    assert main(["predict", str(videos / "growing"), "--model", "demo", "--reducer", path]) == 0
    words = ["agreement", str(videos / "growing"), "--model", "demo", "--reducer", path, "--json"]
    capsys.readouterr()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["rows"][1]["reducer"] == record.reducer


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("{}", "is no recipe of vidprune tune"),
        ("nothing", "is no recipe of vidprune tune"),
        ('{"reducer": "other.json"}', "is no recipe of vidprune tune"),
        ('{"reducer": "newest:r=1"}', "reducer 'newest' is not known"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        parse(str(path))


def test_the_plot_shows_every_setting(found: tuple[Tuning, Path], tmp_path: Path) -> None:
    svg, png = draw_tuning(found[0], tmp_path / "tune")
    text = svg.read_text()
    for name in ("sta:fold=true", "tome", "found", "the best setting, at other costs"):
        assert name in text
    assert png.stat().st_size > 10_000


def test_what_another_beats_in_both_is_off_the_line() -> None:
    front = pareto([tried(0.5, 0.01), tried(0.4, 0.02), tried(0.45, 0.03), tried(0.3, 0.02)])
    assert [each.costs.share for each in front] == [0.5, 0.3]


def test_a_target_that_is_out_of_reach_says_how_far(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--data", str(videos), "--model", "demo", "--kl-nats", "0", "--trials", "3"]
    assert main([*words, "--workers", "0", "--output", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "nothing that was tried reaches it" in said
    assert "the nearest" in said
    recipe = json.loads((tmp_path / RECIPE).read_text())
    assert (recipe["reducer"], recipe["reached"]) == ("none", False)


def test_what_no_setting_comes_near_is_said(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--data", str(videos), "--model", "demo", "--gmacs", "0.01", "--trials", "3"]
    assert main([*words, "--workers", "0", "--output", str(tmp_path)]) == 1
    assert "no setting comes near that cost" in " ".join(capsys.readouterr().out.split())


def test_another_command_s_outcome_is_kept_beside(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--data", str(videos), "--model", "demo", "--gmacs", "1.5", "--workers", "0"]
    words += ["--batch-size", "1"]
    for trials in ("1", "1", "2"):
        assert main([*words, "--trials", trials, "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "the recipe.json that another command left there is recipe.1.json now" in said
    kept, own = (json.loads((tmp_path / name).read_text()) for name in ("tune.1.json", "tune.json"))
    assert (len(kept["tried"]), len(own["tried"])) == (1, 2)
    assert (tmp_path / "tune.1.png").exists()
    assert not (tmp_path / "tune.2.json").exists()
