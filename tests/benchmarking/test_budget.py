"""Settings of equal arithmetic, against a search through all that there are."""

from functools import cache

import pytest

from tiny_videomae import tiny_config
from vidprune.backbones.architectures import architecture
from vidprune.backbones.checkpoints import resized
from vidprune.backbones.videoswin_model import VideoSwinConfig
from vidprune.benchmarking.budget import (
    matched_frames,
    matched_reducer,
    matched_size,
    matched_views,
)
from vidprune.macs import costs
from vidprune.reducers.spec import describe, parse, with_r

CONFIGS = {
    "128 tokens": tiny_config(num_hidden_layers=3),
    "18 tokens": tiny_config(num_hidden_layers=4, num_frames=4, image_size=48),
    # Grids of 4x12x12, 4x6x6 and 4x3x3 tokens, windows of 2x3x3.
    "pyramid": VideoSwinConfig(
        num_frames=8,
        image_size=48,
        embed_dim=12,
        depths=(1, 2, 2),
        num_heads=(2, 3, 4),
        window_size=(2, 3, 3),
    ),
}
CASES = [
    ("128 tokens", "sta"),
    ("128 tokens", "sta:order=FBF,fold=true"),
    ("128 tokens", "random"),
    ("128 tokens", "random:stages=1,blocks=1/"),
    ("128 tokens", "grid"),
    ("18 tokens", "random:fold=true"),
    ("18 tokens", "grid:stages=2"),
    ("18 tokens", "tome"),
    ("18 tokens", "tome:schedule=decreasing"),
    ("18 tokens", "vid-tldr"),
    ("18 tokens", "run-length"),
]


@cache
def every_cost(name: str, spec: str) -> dict[str, float]:
    """GMACs of the reducer at every r that fits."""
    found = {}
    for r in range(1, 33):
        text = with_r(spec, r)
        try:
            found[describe(parse(text))] = costs(CONFIGS[name], text).gmacs_per_view
        except ValueError:
            continue
    return found


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_a_rival_gets_the_r_whose_cost_is_nearest(name: str, spec: str) -> None:
    known = every_cost(name, spec)
    assert len(set(known.values())) >= 4, "there is something to choose from"
    dense = costs(CONFIGS[name]).gmacs_per_view
    for share in (0.1, 0.5, 0.77, 0.99, 1.2):
        found = matched_reducer(CONFIGS[name], spec, share * dense)
        nearest = min(abs(other - share * dense) for other in known.values())
        assert abs(known[found] - share * dense) == pytest.approx(nearest, abs=1e-12), share


@pytest.mark.parametrize("r", [1, 2, 3])
def test_a_reducer_is_matched_to_itself(r: int) -> None:
    gmacs = costs(CONFIGS["128 tokens"], f"random:r={r}").gmacs_per_view
    assert matched_reducer(CONFIGS["128 tokens"], "random", gmacs) == f"random:r={r}"


def test_the_text_is_the_shortest_that_says_the_same() -> None:
    gmacs = costs(CONFIGS["128 tokens"], "sta:r=3").gmacs_per_view
    found = matched_reducer(CONFIGS["128 tokens"], "random:seed=0,fold=true", gmacs)
    assert found == describe(parse(found))
    assert "seed" not in found


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("best", "reducer 'best' is not known"),
        ("random:r=4", "option 'r' of reducer random is given twice"),
        ("random:colour=4", "no option 'colour'"),
    ],
)
def test_what_is_no_reducer_without_r_is_refused(spec: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        matched_reducer(CONFIGS["128 tokens"], spec, 0.01)


def test_where_no_r_fits_it_says_why() -> None:
    with pytest.raises(ValueError, match="a group holds 1 tokens"):
        matched_reducer(tiny_config(image_size=16, num_frames=4), "random", 0.01)


# --- pyramids, whose costs rise where gaps cannot be closed ---------------------------------------


@pytest.mark.parametrize("name", ["swin3d_t", "swin3d_b"])
@pytest.mark.parametrize(
    ("rival", "like", "found"),
    [
        ("random", "sta:r=256", "random:r=256"),
        ("random", "sta:r=320", "random:r=320"),
        ("grid", "sta:r=256", "grid:r=256"),
        ("grid", "sta:r=320", "grid:r=320"),
        ("random:gaps=filled", "sta:r=256,gaps=filled", None),
        ("random:fold=true", "sta:r=256", None),
        ("random:fold=true", "sta:r=320", None),
    ],
)
def test_a_rival_s_gaps_are_closed_where_the_reducer_s_are(
    name: str, rival: str, like: str, found: str | None
) -> None:
    config = architecture(name)
    wanted = costs(config, like)
    match = matched_reducer(config, rival, wanted.gmacs_per_view, like=like)
    assert costs(config, match).gaps == wanted.gaps
    assert match == (found or match)


@pytest.mark.parametrize("r", [256, 320])
@pytest.mark.parametrize("rival", ["random", "random:fold=true", "grid"])
def test_of_all_r_that_close_every_gap_the_nearest_is_taken(rival: str, r: int) -> None:
    config = architecture("swin3d_t")
    gmacs = costs(config, f"sta:r={r}").gmacs_per_view
    closed = [with_r(rival, r) for r in range(32, 392, 32)]
    away = {text: abs(costs(config, text).gmacs_per_view - gmacs) for text in closed}
    match = matched_reducer(config, rival, gmacs, like=f"sta:r={r}")
    assert match == describe(parse(min(away, key=lambda text: away[text])))


@pytest.mark.parametrize("rival", ["random", "grid", "sta", "random:gaps=filled"])
def test_without_a_form_to_match_every_r_of_a_pyramid_counts(rival: str) -> None:
    config, known = CONFIGS["pyramid"], every_cost("pyramid", rival)
    by_r = list(known.values())
    assert (by_r != sorted(by_r, reverse=True)) == ("filled" not in rival), (
        "closed gaps come and go"
    )
    for gmacs in (*by_r[::4], 0.9 * min(by_r), 1.1 * max(by_r)):
        found = matched_reducer(config, rival, gmacs)
        assert abs(known[found] - gmacs) == min(abs(other - gmacs) for other in by_r)


def test_where_no_r_has_that_form_any_counts() -> None:
    config, like = CONFIGS["pyramid"], "sta:r=16,gaps=filled"
    wanted = costs(config, like)
    forms = [costs(config, text).gaps for text in every_cost("pyramid", "random")]
    assert wanted.gaps not in forms
    found = matched_reducer(config, "random", wanted.gmacs_per_view, like=like)
    assert found == matched_reducer(config, "random", wanted.gmacs_per_view)


def test_a_pyramid_says_too_why_no_r_fits() -> None:
    with pytest.raises(ValueError, match="does not fit a model that merges"):
        matched_reducer(CONFIGS["pyramid"], "tome", 0.01, like="sta:r=16")


# --- cheaper dense models -----------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.2, 0.45, 0.6, 0.8, 1.0])
def test_fewer_frames_and_smaller_ones_are_the_nearest_there_are(share: float) -> None:
    config = tiny_config()
    gmacs = share * costs(config).gmacs_per_view
    for found, values, change in (
        (matched_frames(config, gmacs), range(2, 16, 2), "frames"),
        (matched_size(config, gmacs), range(16, 64, 16), "size"),
    ):
        away = {
            value: abs(costs(resized(config, **{change: value})).gmacs_per_view - gmacs)  # type: ignore[arg-type]
            for value in values
        }
        assert found == min(away, key=lambda value: away[value])


def test_where_nothing_is_smaller_there_is_none() -> None:
    config = tiny_config(num_frames=2, image_size=16)
    assert matched_frames(config, 0.001) is None
    assert matched_size(config, 0.001) is None


@pytest.mark.parametrize(
    ("views", "share", "found"),
    [
        (15, 0.5, (0, 2, 4, 6, 8, 10, 12, 14)),
        (15, 0.54, (0, 2, 4, 6, 8, 10, 12, 14)),
        (15, 0.34, (0, 3, 7, 10, 14)),
        (15, 0.1, (0, 14)),
        (15, 0.09, (7,)),
        (15, 1e-6, (7,)),
        (6, 0.5, (0, 2, 5)),
        (6, 0.9, (0, 1, 2, 3, 5)),
        (4, 0.3, (1,)),
        (2, 0.4, (0,)),
    ],
)
def test_fewer_views_are_spread_over_all(views: int, share: float, found: tuple[int, ...]) -> None:
    assert matched_views(views, share) == found


@pytest.mark.parametrize(("views", "share"), [(1, 0.1), (1, 1.0), (15, 0.98), (15, 1.2)])
def test_all_views_are_not_fewer(views: int, share: float) -> None:
    assert matched_views(views, share) is None


def test_fewer_views_are_so_many_different_ones() -> None:
    for views in range(2, 40):
        for count in range(1, views):
            found = matched_views(views, count / views)
            assert found is not None
            assert len(set(found)) == len(found) == count
            assert set(found) <= set(range(views))
