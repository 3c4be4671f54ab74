"""Watching changes nothing, and sees what the trace and the original model say."""

import pytest
import torch

from matrix import PAIRS, Model
from tiny_models import tiny
from vidprune import prune
from vidprune.backbones.registry import adapt
from vidprune.insight.standing import standing
from vidprune.insight.watching import watch
from vidprune.layout import TokenGrid

each_pair = pytest.mark.parametrize(("name", "spec"), PAIRS, ids=str)


def clip_of(model: torch.nn.Module, seed: int = 0) -> torch.Tensor:
    shape = adapt(model).clip_shape  # type: ignore[arg-type]
    return torch.randn((2, *shape), generator=torch.Generator().manual_seed(seed))


@each_pair
@torch.no_grad()
def test_it_sees_what_the_model_says(name: Model, spec: str) -> None:
    model = prune(tiny(name.family, name.grids.usual, head=name.head), spec)
    pixels, keys = clip_of(model), torch.tensor([3, 4])
    watched = watch(model, pixels, keys)
    output = model(pixels, clip_keys=keys, return_trace=True)
    if name.head:
        logits = output.logits.view(2, -1, output.logits.shape[-1]).mean(1)
        torch.testing.assert_close(watched.logits, logits)
    else:
        assert watched.logits is None
    assert [choice.origin.tolist() for choice in watched.choices] == [
        places.tolist() for places in output.trace.origin
    ]
    depth = adapt(model).depth
    assert [each.block for each in watched.outputs] == list(range(depth))
    last = watched.outputs[-1]
    if output.trace.origin:
        places = last.layout.origin
        if last.layout.valid is not None:
            places = places.masked_fill(~last.layout.valid, -1)
        assert places.tolist() == output.trace.origin[-1].tolist()
    assert last.tokens.shape[:2] == last.layout.origin.shape


@each_pair
@torch.no_grad()
def test_everybody_knows_who_stands_for_them(name: Model, spec: str) -> None:
    """Followed place by place through the trace of a clip."""
    model = prune(tiny(name.family, name.grids.usual, head=name.head), spec)
    choices = watch(model, clip_of(model), torch.tensor([3, 4])).choices
    for clip in range(2):
        stands: dict[int, int] = {}
        grid: TokenGrid | None = None
        for choice, found in zip(choices, standing(choices), strict=True):
            if choice.layout.grid != grid:
                grid = choice.layout.grid
                stands = {place: place for place in range(grid.tokens)}
            entered, survivors = choice.layout.origin[clip].tolist(), choice.origin[clip].tolist()
            valid = choice.layout.valid
            goes_to = {}
            for token, place in enumerate(entered):
                if valid is not None and not valid[clip, token]:
                    continue
                owner = choice.reduction.owner
                heir = -1 if owner is None else survivors[int(owner[clip, token])]
                goes_to[place] = place if place in survivors else heir
            stands = {place: goes_to.get(by, -1) for place, by in stands.items()}
            assert found[clip].tolist() == [stands[place] for place in range(grid.tokens)]


@torch.no_grad()
def test_outputs_are_the_hidden_states_of_the_original() -> None:
    model = tiny("videomae", TokenGrid(frames=3, rows=4, columns=4))
    pixels = clip_of(model)
    states = model(pixels, output_hidden_states=True).hidden_states
    outputs = watch(model, pixels).outputs
    assert [output.block for output in outputs] == [0, 1, 2, 3]
    for output, state in zip(outputs, states[1:], strict=True):
        torch.testing.assert_close(output.tokens, state)
