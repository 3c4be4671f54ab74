"""Where a forward's time goes, on a clock that ticks once at every look."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tiny_videomae import clips, tiny_videomae
from vidprune.backbones import attention_in_parts
from vidprune.backbones.attention_in_parts import set_attention
from vidprune.backbones.registry import adapt
from vidprune.benchmarking import account as module
from vidprune.benchmarking.account import KINDS, account
from vidprune.layout import Layout, TokenGrid
from vidprune.pruned import prune
from vidprune.reducers.base import Need, Reducer, Reduction, Signals
from vidprune.reducers.baselines import Random
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.sta import STA

BLOCKS = 6
# Query, key, value and output projections; the two layers of the MLP.
LINEAR = 6 * BLOCKS
# What `First` has of torch.
CALLS = 4


def halved(index: int, block: int, tokens: int, place: Place) -> Stage:
    return Stage(index=index, block=block, groups=1, entering=tokens, drop=tokens // 2, place=place)


@dataclass(frozen=True)
class First:
    """Keeps the first half at each of three blocks: device, arange, shape and expand."""

    needs: frozenset[Need] = frozenset()
    place: Place = Place.AFTER_BLOCK

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        return tuple(
            halved(index, block, grid.tokens >> index, self.place)
            for index, block in enumerate((1, 2, 4))
        )

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        kept = torch.arange(stage.kept, device=tokens.device)
        return Reduction(kept.expand(tokens.shape[0], -1))


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> "count[int]":
    """One more at every look: an operation, between two looks, takes one tick."""
    clock = count()
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    return clock


def spent(reducer: Reducer | None) -> dict[str, float]:
    return account(prune(tiny_videomae(), reducer), clips(2), clip_keys=torch.arange(2))


@pytest.mark.parametrize("reducer", [None, Random(r=3), STA(r=3), First()])
def test_the_kinds_sum_to_the_whole(ticks: "count[int]", reducer: Reducer | None) -> None:
    found = spent(reducer)
    assert tuple(found) == KINDS
    # From the first look to the last; the next one would be the whole plus one.
    assert sum(found.values()) == next(ticks) - 1


def test_on_the_true_clock_too() -> None:
    found = spent(STA(r=3))
    assert all(seconds > 0 for seconds in found.values())


@pytest.mark.parametrize("reducer", [None, Random(r=3), STA(r=3), First()])
def test_linear_layers_and_attention_of_the_blocks_are_all_there_is_of_them(
    ticks: "count[int]", reducer: Reducer | None
) -> None:
    found = spent(reducer)
    assert found["linear"] == LINEAR
    assert found["attention"] == BLOCKS


@pytest.mark.parametrize("reducer", [None, STA(r=3)])
def test_attention_in_parts_is_attention(
    ticks: "count[int]", reducer: Reducer | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_in_parts, "_BFLOAT16", True)
    model = tiny_videomae().bfloat16()
    set_attention(model, None)
    assert account(prune(model, reducer), clips(2).bfloat16())["attention"] == BLOCKS


def test_a_dense_model_selects_nothing(ticks: "count[int]") -> None:
    assert spent(None)["selection"] == 0


@pytest.mark.parametrize("place", list(Place))
def test_selection_is_what_the_reducer_does(ticks: "count[int]", place: Place) -> None:
    assert spent(First(place=place))["selection"] == 3 * CALLS


@pytest.mark.parametrize("need", ["keys", "queries", "values", "attention"])
def test_what_a_reducer_asks_for_is_selection_as_well(ticks: "count[int]", need: Need) -> None:
    bare, asking = spent(First()), spent(First(needs=frozenset({need})))
    assert asking["selection"] > bare["selection"]
    assert {kind: asking[kind] for kind in ("embedding", "linear", "attention", "gathers")} == {
        kind: bare[kind] for kind in ("embedding", "linear", "attention", "gathers")
    }


def test_pixels_are_asked_for_before_the_first_block(ticks: "count[int]") -> None:
    @dataclass(frozen=True)
    class OfPixels(First):
        needs: frozenset[Need] = frozenset({"pixels"})

        def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
            return (halved(0, 0, grid.tokens, Place.BEFORE_BLOCK),)

    @dataclass(frozen=True)
    class Without(OfPixels):
        needs: frozenset[Need] = frozenset()

    assert spent(OfPixels())["selection"] > spent(Without())["selection"] == CALLS


def test_gathers_come_with_every_stage(ticks: "count[int]") -> None:
    @dataclass(frozen=True)
    class Once(First):
        def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
            return super().plan(depth, grid)[:1]

    dense, once, thrice = (spent(r)["gathers"] for r in (None, Once(), First()))
    assert thrice - dense == 3 * (once - dense) > 0


def calls(part: Callable[[Tensor], object], given: Tensor) -> int:
    """How often a part of the model calls torch."""
    counted = 0

    class Counter(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal counted
            counted += 1
            return function(*args, **(kwargs or {}))

    with torch.inference_mode(), Counter():
        part(given)
    return counted


def test_embedding_comes_before_the_blocks_and_the_head_after(ticks: "count[int]") -> None:
    backbone, tokens = adapt(tiny_videomae()), torch.ones(2, 128, 24)
    before = calls(backbone.embed, clips(2))
    head = calls(lambda left: backbone.classify(backbone.pool(backbone.features(left))), tokens)
    found = spent(None)
    assert (found["embedding"], found["head"]) == (before, head)
    assert before > head > 0


def test_the_embedding_and_the_head_are_booked_apart(ticks: "count[int]") -> None:
    dense, deeper = (
        account(prune(tiny_videomae(num_hidden_layers=depth), None), clips(1)) for depth in (6, 9)
    )
    assert dense["embedding"] == deeper["embedding"] > 0
    assert dense["head"] == deeper["head"] > 0
    assert deeper["linear"] == 1.5 * LINEAR
    assert deeper["rest"] > dense["rest"]


def test_a_model_that_was_never_pruned_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="prune"):
        account(tiny_videomae(), clips(1))


def test_a_model_without_a_head_spends_it_on_its_features() -> None:
    spent = account(prune(tiny_videomae().videomae, Random(r=3)), clips(1))
    assert set(spent) == set(KINDS)
    assert 0 < spent["head"] < sum(spent.values())
