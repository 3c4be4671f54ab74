"""VideoMAE as a backbone: its parts in turn are its own forward."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from tiny_videomae import clips, tiny_config, tiny_videomae
from vidprune.backbones.registry import adapt
from vidprune.backbones.videomae import grid_of
from vidprune.layout import TokenGrid
from vidprune.model import prune
from vidprune.reducers.baselines import Random
from vidprune.reducers.sta import STA

PARTS = {"keys": "key", "queries": "query", "values": "value"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("reducer", [None, STA(r=0), Random(r=0)])
def test_nothing_dropped_is_the_original_bit_for_bit(
    dtype: torch.dtype, attention: str, reducer: Any
) -> None:
    model = tiny_videomae(attn_implementation=attention).to(dtype)
    assert model.config._attn_implementation == attention
    pixels = clips(2).to(dtype)
    with torch.no_grad():
        assert torch.equal(prune(model, reducer)(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize("changes", [{"qv_bias": False}, {"hidden_act": "relu"}, {"num_labels": 1}])
def test_nothing_dropped_is_the_original_for_other_configurations(changes: dict[str, Any]) -> None:
    model = tiny_videomae(**changes)
    with torch.no_grad():
        assert torch.equal(prune(model, None)(clips(1)).logits, model(clips(1)).logits)


def projected(model: Any, block: int, part: str, pixels: Tensor) -> Tensor:
    """What the attention of a block computes in the model's own forward, (B, N, heads, d)."""
    attention = model.videomae.encoder.layer[block].attention.attention
    seen: list[Tensor] = []
    handle = getattr(attention, part).register_forward_hook(lambda _m, _i, out: seen.append(out))
    model(pixels)
    handle.remove()
    return seen[0].unflatten(-1, (attention.num_attention_heads, -1))


@pytest.mark.parametrize("signal", PARTS)
@pytest.mark.parametrize("qv_bias", [True, False])
@torch.no_grad()
def test_head_mean_is_the_mean_over_heads_of_what_attention_computes(
    signal: Any, qv_bias: bool
) -> None:
    model = tiny_videomae(qv_bias=qv_bias).double()
    pixels = clips(2).double()
    backbone = adapt(model)
    tokens = backbone.embed(pixels)
    for block in range(backbone.depth):
        tokens, normalised = backbone.attend(block, tokens)
        mean = projected(model, block, PARTS[signal], pixels).mean(2)
        torch.testing.assert_close(
            backbone.head_mean(block, normalised, signal), mean, rtol=1e-12, atol=1e-12
        )
        tokens = backbone.feed_forward(block, tokens)


class WithAdapter(torch.nn.Linear):
    """A projection whose weight alone does not tell what it computes, as with LoRA."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + tokens.roll(1, -1)


@torch.no_grad()
def test_head_mean_of_a_projection_that_is_more_than_its_weight() -> None:
    model = tiny_videomae().double()
    attention = model.videomae.encoder.layer[0].attention.attention
    attention.key.__class__ = WithAdapter
    backbone = adapt(model)
    _, normalised = backbone.attend(0, backbone.embed(clips(2).double()))
    mean = projected(model, 0, PARTS["keys"], clips(2).double()).mean(2)
    torch.testing.assert_close(backbone.head_mean(0, normalised, "keys"), mean)


def test_grid_counts_tubes_rows_and_columns() -> None:
    config = tiny_config(image_size=(64, 96), num_frames=12, tubelet_size=3)
    assert grid_of(config) == TokenGrid(frames=4, rows=4, columns=6)


def test_a_model_of_another_family_is_refused() -> None:
    config = ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=1, image_size=32)
    with pytest.raises(
        TypeError, match="ViTForImageClassification, which no backbone adapter knows"
    ):
        prune(ViTForImageClassification(config), STA(r=1))


def test_a_model_that_classifies_from_its_first_token_is_refused() -> None:
    with pytest.raises(TypeError, match="use_mean_pooling=False"):
        prune(tiny_videomae(use_mean_pooling=False), STA(r=1))
