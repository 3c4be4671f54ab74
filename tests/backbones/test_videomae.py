"""VideoMAE as a backbone: its parts in turn are its own forward."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from tiny_videomae import clips, tiny_config, tiny_videomae
from vidprune.backbones.registry import adapt
from vidprune.backbones.videomae import VideoMAEShape, patch_sides
from vidprune.layout import Layout, TokenGrid
from vidprune.pruned import prune
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


def whole(tokens: Tensor) -> Layout:
    """A layout of so many tokens; VideoMAE's attention asks for none."""
    batch, length = tokens.shape[:2]
    grid = TokenGrid(frames=1, rows=1, columns=length)
    return Layout(grid=grid, origin=torch.arange(length).expand(batch, -1))


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
        tokens, normalised = backbone.attend(block, tokens, whole(tokens))
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
    tokens = backbone.embed(clips(2).double())
    _, normalised = backbone.attend(0, tokens, whole(tokens))
    mean = projected(model, 0, PARTS["keys"], clips(2).double()).mean(2)
    torch.testing.assert_close(backbone.head_mean(0, normalised, "keys"), mean)


# What reducers may ask for besides: pixels, attention.


SHAPES = [
    {},
    {"image_size": (32, 96)},
    {"num_frames": 12, "tubelet_size": 3},
    {"tubelet_size": 1, "num_frames": 3},
    {"patch_size": (8, 32), "image_size": (32, 64)},
    {"num_channels": 1},
]


def pixels_for(config: Any, *, batch: int = 2) -> Tensor:
    height, width = VideoMAEShape(config).grid.rows, VideoMAEShape(config).grid.columns
    sides = patch_sides(config)
    shape = (batch, config.num_frames, config.num_channels, height * sides[0], width * sides[1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_patches_are_the_tubes_cut_out_of_the_clip(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    pixels, (height, width) = pixels_for(config), patch_sides(config)
    grid, found = VideoMAEShape(config).grid, VideoMAEShape(config).patches(pixels)
    assert found.shape[:3] == (2, grid.tokens, config.tubelet_size)
    token = 0
    for time in range(grid.frames):
        for row in range(grid.rows):
            for column in range(grid.columns):
                for frame in range(config.tubelet_size):
                    cut = pixels[:, time * config.tubelet_size + frame]
                    cut = cut[:, :, row * height :, column * width :][:, :, :height, :width]
                    assert torch.equal(found[:, token, frame], cut.flatten(1))
                token += 1
    assert token == grid.tokens


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_patches_stand_in_the_order_of_the_model_s_tokens(changes: dict[str, Any]) -> None:
    model = tiny_videomae(num_hidden_layers=1, **changes).double()
    pixels = pixels_for(model.config).double()
    embedding = model.videomae.embeddings.patch_embeddings
    patches = adapt(model).patches(pixels)
    # Out, channel, frame, y, x -> out, frame, channel, y, x.
    weight = embedding.projection.weight.transpose(1, 2).flatten(1)
    projected = patches.flatten(2) @ weight.T + embedding.projection.bias
    torch.testing.assert_close(projected, embedding(pixels))


def logits_by_hand(model: Any, block: int, normalised: Tensor) -> Tensor:
    """Queries by keys of every head, (B, heads, N, N)."""
    attention = model.videomae.encoder.layer[block].attention.attention
    heads = attention.num_attention_heads
    query, key = (
        part(normalised).unflatten(-1, (heads, -1)) for part in (attention.query, attention.key)
    )
    return torch.einsum("bnhd,bmhd->bhnm", query, key) / query.shape[-1] ** 0.5


@torch.no_grad()
def test_the_attention_map_is_what_eager_attention_hands_out() -> None:
    model = tiny_videomae(attn_implementation="eager")
    seen = model(clips(2), output_attentions=True).attentions
    backbone = adapt(model)
    tokens = backbone.embed(clips(2))
    for block in range(backbone.depth):
        tokens, normalised = backbone.attend(block, tokens, whole(tokens))
        found = backbone.attention_map(block, normalised, whole(tokens), None)
        torch.testing.assert_close(found, seen[block].mean(1), rtol=1e-5, atol=1e-7)
        tokens = backbone.feed_forward(block, tokens)
    assert float(found.std()) > 1e-3


@pytest.mark.parametrize("qv_bias", [True, False])
@torch.no_grad()
def test_the_attention_map_takes_a_bias_per_key(qv_bias: bool) -> None:
    model = tiny_videomae(qv_bias=qv_bias).double()
    backbone = adapt(model)
    tokens = backbone.embed(clips(2).double())
    _, normalised = backbone.attend(0, tokens, whole(tokens))
    bias = torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
    bias[1, 100:] = float("-inf")
    wanted = (logits_by_hand(model, 0, normalised) + bias[:, None, None]).softmax(-1).mean(1)
    found = backbone.attention_map(0, normalised, whole(tokens), bias)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-7)
    assert (found[1, :, 100:] == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 128))
    plain = logits_by_hand(model, 0, normalised).softmax(-1).mean(1)
    assert float((wanted - plain).abs().max()) > 1e-2


@torch.no_grad()
def test_the_attention_map_of_half_precision_is_in_full() -> None:
    model = tiny_videomae()
    tokens = adapt(model).embed(clips(1))
    layout = whole(tokens)
    _, normalised = adapt(model).attend(0, tokens, layout)
    bias = torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
    wanted = adapt(model).attention_map(0, normalised, layout, bias)
    half = adapt(model.bfloat16()).attention_map(0, normalised.bfloat16(), layout, bias)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted, rtol=0.1, atol=1e-3)
    torch.testing.assert_close(half.sum(-1), torch.ones(1, 128))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_no_bias_and_a_bias_of_nought_are_one(attention: str) -> None:
    backbone = adapt(tiny_videomae(attn_implementation=attention))
    tokens = backbone.embed(clips(2))
    plain, normalised = backbone.attend(0, tokens, whole(tokens))
    biased, also = backbone.attend(0, tokens, whole(tokens), torch.zeros(2, 128))
    torch.testing.assert_close(biased, plain, rtol=1e-5, atol=1e-6)
    assert torch.equal(normalised, also)


@torch.no_grad()
def test_attention_with_a_bias_is_the_softmax_with_it() -> None:
    model = tiny_videomae().double()
    backbone = adapt(model)
    tokens = backbone.embed(clips(2).double())
    bias = torch.randn(2, 128, generator=torch.Generator().manual_seed(1)).double()
    found, normalised = backbone.attend(0, tokens, whole(tokens), bias)
    module = model.videomae.encoder.layer[0].attention
    weights = (logits_by_hand(model, 0, normalised) + bias[:, None, None]).softmax(-1)
    value = module.attention.value(normalised).unflatten(-1, (3, -1))
    mixed = torch.einsum("bhnm,bmhd->bnhd", weights, value).flatten(2)
    torch.testing.assert_close(found, module.output.dense(mixed) + tokens)


@torch.no_grad()
def test_a_bias_of_minus_infinity_removes_a_token_and_log_two_doubles_it() -> None:
    backbone = adapt(tiny_videomae().double())
    tokens = backbone.embed(clips(2).double())
    stays = torch.arange(128) % 5 != 2
    absent = torch.zeros(2, 128).masked_fill(~stays, float("-inf"))
    found, _ = backbone.attend(0, tokens, whole(tokens), absent)
    wanted, _ = backbone.attend(0, tokens[:, stays], whole(tokens[:, stays]))
    torch.testing.assert_close(found[:, stays], wanted)
    twice = torch.zeros(2, 128, dtype=torch.float64)
    twice[:, 7] = math.log(2)
    found, _ = backbone.attend(0, tokens, whole(tokens), twice)
    repeated = torch.cat([tokens, tokens[:, 7:8]], 1)
    wanted, _ = backbone.attend(0, repeated, whole(repeated))
    torch.testing.assert_close(found, wanted[:, :128])


def pooled(backbone: Any, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
    """Logits of what the blocks leave."""
    return backbone.classify(backbone.pool(backbone.features(tokens), weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_tokens_that_weigh_nothing_are_not_pooled(dtype: torch.dtype) -> None:
    backbone = adapt(tiny_videomae().to(dtype))
    tokens = backbone.embed(clips(2).to(dtype))
    weights = torch.zeros(2, 128)
    weights[:, :50] = 1 / 50
    found, wanted = pooled(backbone, tokens, weights), pooled(backbone, tokens[:, :50])
    assert found.dtype == dtype
    slack = 0.1 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found, wanted, rtol=slack, atol=slack)


def test_grid_counts_tubes_rows_and_columns() -> None:
    config = tiny_config(image_size=(64, 96), num_frames=12, tubelet_size=3)
    assert VideoMAEShape(config).grid == TokenGrid(frames=4, rows=4, columns=6)


def test_a_model_of_another_family_is_refused() -> None:
    config = ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=1, image_size=32)
    with pytest.raises(
        TypeError, match="ViTForImageClassification, which no backbone adapter knows"
    ):
        prune(ViTForImageClassification(config), STA(r=1))


def test_a_model_that_classifies_from_its_first_token_is_refused() -> None:
    with pytest.raises(TypeError, match="use_mean_pooling=False"):
        prune(tiny_videomae(use_mean_pooling=False), STA(r=1))
