"""What a plan refuses for the shape of a model; each family's own refusals stand in its tests."""

import pytest
import torch

from tiny_checkpoints import clip_for, tiny
from vidprune.pruned import prune

PROPORTIONAL = "fold=true,proportional_attention=true"


@pytest.mark.parametrize("reducer", ["sta", "random", "grid"])
def test_windows_of_one_level_have_no_say_for_sizes(reducer: str) -> None:
    """As those of several have none: see test_videoswin.py."""
    model, spec = tiny("videoswin", depths=(3,), num_heads=(2,)), f"{reducer}:r=4,stages=1"
    with pytest.raises(ValueError, match=r"in windows whose places.*leave proportional_attention"):
        prune(model, f"{spec},{PROPORTIONAL}")
    folded = prune(model, f"{spec},fold=true")
    with torch.no_grad():
        assert folded(clip_for(model)).logits.isfinite().all()


def test_what_drops_nothing_has_no_sizes_to_be_refused_for() -> None:
    model = tiny("videoswin", depths=(3,), num_heads=(2,))
    pruned = prune(model, f"sta:r=0,stages=1,{PROPORTIONAL}")
    with torch.no_grad():
        pixels = clip_for(model)
        assert torch.equal(pruned(pixels).logits, model(pixels).logits)


def test_more_than_sizes_is_named_first() -> None:
    model = tiny("videoswin", depths=(3,), num_heads=(2,))
    for spec in ("tome:r=4,proportional_attention=true", "vid-tldr:r=4"):
        with pytest.raises(ValueError, match="needs as many tokens in each"):
            prune(model, spec)
