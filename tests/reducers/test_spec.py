"""Reducers as text."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprune.reducers.baselines import Random
from vidprune.reducers.schedule import SCHEDULES
from vidprune.reducers.spec import describe, parse, with_r
from vidprune.reducers.sta import FIRST_GROUPS, SCORES, SIMILARITIES, STA


@st.composite
def schedules(draw: st.DrawFn) -> dict[str, object]:
    count = draw(st.integers(1, 4))
    options: dict[str, object] = {}
    if draw(st.booleans()):
        options["r"] = draw(st.integers(0, 200))
        options["schedule"] = draw(st.sampled_from(SCHEDULES))
    else:
        drops = st.lists(st.integers(0, 200), min_size=count, max_size=count)
        options["schedule"] = tuple(draw(drops))
    if draw(st.booleans()):
        options["stages"] = count
    if draw(st.booleans()):
        options["blocks"] = tuple(sorted(draw(st.permutations(range(40)))[:count]))
    return options


@st.composite
def reducers(draw: st.DrawFn) -> STA | Random:
    options = draw(schedules()) | {"seed": draw(st.integers(-5, 10**9))}
    if draw(st.booleans()):
        return Random(**options)
    reducer = STA(
        **options,
        similarity=draw(st.sampled_from(SIMILARITIES)),
        score=draw(st.sampled_from(SCORES)),
        first_group=draw(st.sampled_from(FIRST_GROUPS)),
    )
    if draw(st.booleans()):
        return reducer
    count = reducer.num_stages
    order = "".join(draw(st.lists(st.sampled_from("FB"), min_size=count, max_size=count)))
    return replace(reducer, order=order)


@given(reducer=reducers())
def test_what_is_described_parses_back(reducer: STA | Random) -> None:
    assert parse(describe(reducer)) == reducer


@pytest.mark.parametrize(
    ("reducer", "text"),
    [
        (None, "none"),
        (STA(r=64), "sta:r=64"),
        (STA(r=0), "sta:r=0"),
        (Random(r=64), "random:r=64"),
        (Random(r=64, seed=3), "random:r=64,seed=3"),
        (STA(schedule=(64, 32, 16), order="BFB"), "sta:schedule=64/32/16,order=BFB"),
        (STA(r=8, blocks=(0, 8, 16)), "sta:r=8,blocks=0/8/16"),
        (
            STA(r=8, schedule="constant", score="temporal"),
            "sta:r=8,schedule=constant,score=temporal",
        ),
    ],
)
def test_text_is_short_and_reads_as_the_call(reducer: STA | Random | None, text: str) -> None:
    assert describe(reducer) == text
    assert parse(text) == reducer


@pytest.mark.parametrize("text", [" none ", "none:", "none"])
def test_none_is_no_reducer(text: str) -> None:
    assert parse(text) is None


def test_space_around_is_nothing() -> None:
    assert parse(" sta:r=64 ") == STA(r=64)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("best:r=8", "reducer 'best' is not known; choose one of none, sta, random"),
        ("", "reducer '' is not known"),
        ("none:r=8", "none"),
        ("sta", "r=None must be a whole number"),
        ("sta:64", "reducer sta has no option '64'; its options are r, schedule"),
        ("sta:r", "option 'r' of reducer sta needs a value, such as r="),
        ("sta:r=", "option 'r=' of reducer sta needs a value"),
        ("random:r=8,order=FBF", "reducer random has no option 'order'"),
        ("sta:r=-8", "r=-8 must be a whole number of at least 0"),
        ("sta:r=--8", "r='--8' must be a whole number of at least 0"),
        ("sta:r=8²", "r='8²' must be a whole number of at least 0"),
        ("sta:r=lots", "r='lots' must be a whole number"),
        ("sta:r=8,order=5", "order=5 must hold one F or B"),
        ("sta:r=8,stages=two", "stages='two' must be a whole number of at least 1"),
        ("sta:r=8,blocks=a/b/c", "blocks='a/b/c' must list whole numbers"),
        ("sta:r=8,seed=x", "seed='x' must be a whole number"),
        ("sta:r=8,r=16", "option 'r' of reducer sta is given twice"),
        ("sta:r=8,schedule=1/2/3", "give one of the two"),
        ("sta:r=8,score=x", "score='x' is not known"),
    ],
)
def test_text_that_makes_no_reducer_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(text)


def test_nothing_is_dropped_for_0() -> None:
    assert with_r("sta:fold=true", 0) == "none"
    assert with_r("sta:fold=true", 3) == "sta:fold=true,r=3"
    assert with_r("sta", 3) == "sta:r=3"
