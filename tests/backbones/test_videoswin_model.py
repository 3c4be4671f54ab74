"""VideoSwin: the dense model, its windows, its attention over filled grids, its checkpoints."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import videoswin_by_rolls
from videoswin_by_rolls import Sizes
from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.videoswin_checkpoints import (
    SIZES,
    architecture,
    is_videoswin,
    to_mmaction,
    to_ours,
    to_torchvision,
)
from vidprune.backbones.videoswin_model import (
    DropPath,
    VideoSwinConfig,
    VideoSwinForVideoClassification,
    VideoSwinModel,
    WindowAttention,
    level_grids,
    merged_grid,
)
from vidprune.backbones.window_attention import attend_filled, attend_whole
from vidprune.backbones.windows import Cut
from vidprune.layout import TokenGrid

CPU = torch.device("cpu")
TINY = {
    "num_frames": 8,
    "image_size": 24,
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 3),
    "window_size": (2, 3, 3),
    "num_labels": 5,
}


def tiny_videoswin(*, seed: int = 0, **changes: Any) -> VideoSwinForVideoClassification:
    """Every weight is drawn, so that none is without effect."""
    model = VideoSwinForVideoClassification(VideoSwinConfig(**TINY | changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            centre = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
            width = 1.0 if name == "relative_position_bias_table" else 0.3
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * width + centre)
    return model


def pixels_for(config: VideoSwinConfig, *, batch: int = 2) -> Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(1)
    shape = (batch, config.num_frames, config.num_channels, height, width)
    return torch.randn(shape, generator=generator)


def by_rolls(model: VideoSwinForVideoClassification, pixels: Tensor) -> Tensor:
    config = model.config
    sizes = Sizes(config.patch_size, config.depths, config.num_heads, config.window_size)
    return videoswin_by_rolls.logits(to_torchvision(model.state_dict()), sizes, pixels)


SHAPES: list[dict[str, Any]] = [
    {},
    # Rows, columns and frames that windows do not fill.
    {"image_size": (28, 40)},
    {"num_frames": 6, "window_size": (2, 3, 3)},
    {"num_frames": 14, "window_size": (4, 3, 2), "image_size": (28, 40)},
    # Pixels that patches do not fill, and an odd border before merging.
    {"num_frames": 7, "image_size": (30, 41)},
    # Windows as large as the grid or larger: along one axis, along all.
    {"num_frames": 8, "window_size": (4, 3, 3)},
    {"num_frames": 4, "window_size": (8, 3, 3), "image_size": 48},
    {"num_frames": 8, "window_size": (2, 4, 9), "image_size": (40, 24)},
    {"num_frames": 4, "window_size": (4, 7, 7)},
    # Windows of one axis, odd and even sides, one place.
    {"window_size": (3, 1, 4)},
    {"window_size": (1, 1, 1)},
    {"depths": (3, 1, 2), "num_heads": (1, 4, 6), "image_size": 40},
    {"depths": (4,), "num_heads": (3,)},
    {"qkv_bias": False, "image_size": 28, "mlp_ratio": 2.0},
    {"num_channels": 1, "patch_size": (1, 8, 4), "num_frames": 3},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@torch.no_grad()
def test_the_model_is_the_one_by_rolls(changes: dict[str, Any]) -> None:
    model = tiny_videoswin(**changes)
    pixels = pixels_for(model.config)
    wanted = by_rolls(model, pixels)
    torch.testing.assert_close(model(pixels).logits, wanted, rtol=1e-5, atol=1e-5)
    assert float(wanted.std()) > 0.1


@torch.no_grad()
def test_the_model_is_the_one_by_rolls_to_the_last_digit_of_double() -> None:
    model = tiny_videoswin(image_size=(28, 40)).double()
    pixels = pixels_for(model.config).double()
    wanted = by_rolls(model, pixels)
    torch.testing.assert_close(model(pixels).logits, wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_model_takes_clips_of_another_size_than_configured() -> None:
    model = tiny_videoswin()
    pixels = torch.randn(1, 6, 3, 40, 20, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(pixels).logits, by_rolls(model, pixels), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_model_in_half_precision() -> None:
    model = tiny_videoswin(image_size=28)
    pixels = pixels_for(model.config)
    wanted = model(pixels).logits
    half = model.bfloat16()(pixels.bfloat16()).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), wanted, rtol=0.1, atol=0.1)


# Grids and windows.


def test_grids_of_the_stages() -> None:
    grids = level_grids(VideoSwinConfig())
    assert [str(grid) for grid in grids] == ["16x56x56", "16x28x28", "16x14x14", "16x7x7"]


def test_grids_round_up() -> None:
    grids = level_grids(VideoSwinConfig(num_frames=31, image_size=(225, 20)))
    assert [str(grid) for grid in grids] == ["16x57x5", "16x29x3", "16x15x2", "16x8x1"]


@torch.no_grad()
def test_tokens_lie_as_the_grids_say() -> None:
    model = tiny_videoswin(num_frames=7, image_size=(30, 41)).videoswin
    grids = level_grids(model.config)
    tokens, grid = model.patch_embed(pixels_for(model.config))
    for stage, wanted in zip(model.levels, grids, strict=True):
        assert grid == wanted
        assert tokens.shape[1] == grid.tokens
        tokens, grid = stage(tokens, grid)
    assert grid == grids[-1]


def test_windows_are_clipped_to_the_grid() -> None:
    grid = TokenGrid(frames=8, rows=7, columns=9)
    cut = Cut(grid=grid, window=(8, 9, 7), shift=(4, 4, 3))
    assert (cut.sides, cut.shifts, cut.counts) == ((8, 7, 7), (0, 0, 3), (1, 1, 2))
    assert cut.padded
    assert not Cut(grid=grid, window=(8, 7, 3), shift=(4, 3, 1)).padded


CUTS = [
    Cut(grid=TokenGrid(frames=f, rows=r, columns=c), window=window, shift=shift)
    for (f, r, c), window in [
        ((4, 6, 6), (2, 3, 3)),
        ((5, 7, 4), (2, 3, 3)),
        ((2, 8, 3), (8, 3, 5)),
        ((1, 2, 2), (8, 7, 7)),
    ]
    for shift in [(0, 0, 0), (window[0] // 2, window[1] // 2, window[2] // 2)]
]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_every_place_stands_in_one_window(cut: Cut) -> None:
    places, homes = cut.places(CPU), cut.homes(CPU)
    assert places.shape == (cut.windows, cut.places_per_window)
    assert places.dtype == homes.dtype == torch.int64
    inside = places[places >= 0]
    assert inside.sort().values.tolist() == list(range(cut.grid.tokens))
    assert cut.padded == bool((places == -1).any())
    assert (places.flatten()[homes] == torch.arange(cut.grid.tokens)).all()
    assert sum(cut.kinds) == cut.windows


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_places_that_may_attend_each_other_are_neighbours(cut: Cut) -> None:
    """Within a region no two places are further apart than a window is long."""
    apart = cut.apart(CPU)
    if not any(cut.shifts):
        assert apart is None
        assert len(cut.kinds) == 1
        return
    assert apart is not None
    assert set(apart.unique().tolist()) <= {0.0, -100.0}
    per_window = (apart == 0).repeat_interleave(torch.tensor(cut.kinds), 0)
    places = cut.places(CPU)
    rows, columns = cut.grid.rows, cut.grid.columns
    where = torch.stack(
        [places // (rows * columns), places // columns % rows, places % columns], -1
    )
    near = ((where[:, :, None] - where[:, None]).abs() < torch.tensor(cut.sides)).all(-1)
    both = (places[:, :, None] >= 0) & (places[:, None] >= 0)
    assert (per_window & both == near & both).all()
    assert not per_window.all()


@pytest.mark.parametrize("window", [(2, 3, 3), (1, 4, 2), (3, 1, 1)])
def test_offsets_tell_every_relative_position_apart(window: tuple[int, int, int]) -> None:
    grid = TokenGrid(frames=8, rows=8, columns=8)
    offsets = Cut(grid=grid, window=window, shift=(0, 0, 0)).offsets(CPU)
    where = torch.cartesian_prod(*(torch.arange(side) for side in window))
    apart = where[:, None] - where
    seen: dict[int, list[int]] = {}
    for row, offset in zip(offsets.flatten().tolist(), apart.flatten(0, 1).tolist(), strict=True):
        assert seen.setdefault(row, offset) == offset
    assert sorted(seen) == list(range(math.prod(2 * side - 1 for side in window)))


def test_offsets_of_a_clipped_window_are_the_first_of_the_full_one() -> None:
    small, large = (TokenGrid(frames=s, rows=s, columns=s) for s in (2, 8))
    clipped = Cut(grid=small, window=(3, 4, 3), shift=(0, 0, 0)).offsets(CPU)
    full = Cut(grid=large, window=(3, 4, 3), shift=(0, 0, 0)).offsets(CPU)
    assert torch.equal(clipped, full[:8, :8])


def test_what_is_remembered_under_inference_mode_serves_gradients() -> None:
    cut = Cut(grid=TokenGrid(frames=3, rows=5, columns=7), window=(2, 3, 3), shift=(1, 1, 1))
    with torch.inference_mode():
        places, homes = cut.places(CPU), cut.homes(CPU)
    assert not places.is_inference()
    assert not homes.is_inference()
    assert cut.places(CPU) is places


def test_fake_tensors_are_not_remembered() -> None:
    from torch._subclasses import FakeTensorMode

    cut = Cut(grid=TokenGrid(frames=3, rows=5, columns=8), window=(2, 3, 3), shift=(1, 1, 1))
    with FakeTensorMode():
        assert type(cut.places(CPU)) is not Tensor
    known = cut.places(CPU)
    assert type(known) is Tensor
    with FakeTensorMode():
        assert type(cut.places(CPU)) is not Tensor


# Attention over a grid of which only some tokens are left.


def tiny_attention(window: Sequence[int], *, seed: int = 0) -> WindowAttention:
    model = tiny_videoswin(seed=seed, window_size=tuple(window))
    return model.videoswin.levels[0].blocks[0].attention


def tokens_of(count: int, *, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, count, 12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@torch.no_grad()
def test_a_filled_grid_with_nothing_dropped_is_the_whole_grid(cut: Cut) -> None:
    attention = tiny_attention(cut.window).double()
    tokens = tokens_of(cut.grid.tokens)
    order = torch.arange(cut.grid.tokens).expand(2, -1)
    tables = cut.tables(CPU)
    wanted = attend_whole(attention, tokens, tables)
    assert torch.equal(attend_filled(attention, tokens, order, order, tables), wanted)
    shuffled = torch.stack([torch.randperm(cut.grid.tokens) for _ in range(2)])
    rows = torch.arange(2)[:, None]
    found = attend_filled(attention, tokens[rows, shuffled], shuffled.argsort(1), shuffled, tables)
    torch.testing.assert_close(found, wanted[rows, shuffled])


def by_loops(
    attention: WindowAttention, kept: Tensor, source: Tensor, places: Tensor, cut: Cut
) -> Tensor:
    """One clip, one kept token and one head at a time: (K, C), (N,), (K,) to (K, C)."""
    grid, sides, table = cut.grid, cut.sides, attention.relative_position_bias_table
    counts, width = cut.counts, kept.shape[1] // attention.heads
    index = Cut(grid=TokenGrid(frames=99, rows=99, columns=99), window=cut.window, shift=(0, 0, 0))
    offsets = index.offsets(CPU)

    def members(place: int) -> list[tuple[int, tuple[bool, ...], int]]:
        """(position in the window, which axes came round, place or -1) of a place's window."""
        shape = (grid.frames, grid.rows, grid.columns)
        at = (place // (shape[1] * shape[2]), place // shape[2] % shape[1], place % shape[2])
        padded = [count * side for count, side in zip(counts, sides, strict=True)]
        moved = [(a - s) % p for a, s, p in zip(at, cut.shifts, padded, strict=True)]
        found = []
        for number, inner in enumerate(torch.cartesian_prod(*map(torch.arange, sides)).tolist()):
            new = [m // side * side + i for m, side, i in zip(moved, sides, inner, strict=True)]
            old = [(n + s) % p for n, s, p in zip(new, cut.shifts, padded, strict=True)]
            came = tuple(o < n for o, n in zip(old, new, strict=True))
            outside = any(o >= side for o, side in zip(old, shape, strict=True))
            flat = (old[0] * shape[1] + old[1]) * shape[2] + old[2]
            found.append((number, came, -1 if outside else flat))
        return found

    out = torch.zeros_like(kept)
    for row, place in enumerate(places.tolist()):
        window = members(place)
        me, my_region, _ = next(member for member in window if member[2] == place)
        filled = [kept[source[p]] if p >= 0 else torch.zeros_like(kept[0]) for *_, p in window]
        qkv = attention.qkv(torch.stack(filled)).unflatten(-1, (3, attention.heads, width))
        for head in range(attention.heads):
            scores = qkv[:, 1, head] @ qkv[me, 0, head] / math.sqrt(width)
            scores = scores + table[offsets[me, : len(window)], head]
            apart = torch.tensor([came != my_region for _, came, _ in window])
            weights = (scores - 100.0 * apart).softmax(0)
            out[row, head * width : (head + 1) * width] = weights @ qkv[:, 2, head]
    return attention.proj(out)


@pytest.mark.parametrize("cut", CUTS, ids=str)
@torch.no_grad()
def test_a_filled_grid_is_what_loops_make_of_it(cut: Cut) -> None:
    attention = tiny_attention(cut.window).double()
    generator = torch.Generator().manual_seed(4)
    count = cut.grid.tokens
    kept = tokens_of(max(count // 3, 1))
    places = torch.stack([torch.randperm(count, generator=generator) for _ in range(2)])
    places = places[:, : kept.shape[1]]
    source = torch.randint(kept.shape[1], (2, count), generator=generator)
    source.scatter_(1, places, torch.arange(kept.shape[1]).expand(2, -1))
    found = attend_filled(attention, kept, source, places, cut.tables(CPU))
    for clip in range(2):
        wanted = by_loops(attention, kept[clip], source[clip], places[clip], cut)
        torch.testing.assert_close(found[clip], wanted)


# As a model of transformers.


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = tiny_videoswin()
    model.save_pretrained(tmp_path)
    back = VideoSwinForVideoClassification.from_pretrained(tmp_path).eval()
    mine, saved = model.config.to_dict(), back.config.to_dict()
    assert saved | {"_name_or_path": ""} == mine
    assert back.config.window_size == (2, 3, 3)
    pixels = pixels_for(model.config)
    with torch.no_grad():
        assert torch.equal(back(pixels).logits, model(pixels).logits)
        bare = VideoSwinModel.from_pretrained(tmp_path).eval()
        wanted = model.videoswin(pixels).last_hidden_state
        assert torch.equal(bare(pixels).last_hidden_state, wanted)


def test_a_new_model_has_its_weights_drawn() -> None:
    model = VideoSwinForVideoClassification(VideoSwinConfig(**TINY))
    table = model.videoswin.levels[0].blocks[0].attention.relative_position_bias_table
    assert 0.01 < float(table.detach().std()) < 0.03
    assert float(model.classifier.bias.detach().abs().max()) == 0


def test_outputs() -> None:
    model = tiny_videoswin()
    pixels = pixels_for(model.config)
    output = model(pixels, labels=torch.tensor([1, 4]))
    wanted = nn.functional.cross_entropy(output.logits, torch.tensor([1, 4]))
    torch.testing.assert_close(output.loss, wanted)
    (logits,) = model(pixels, return_dict=False)
    assert torch.equal(logits, output.logits)
    tokens = model.videoswin(pixels).last_hidden_state
    assert tokens.shape == (2, 4 * 3 * 3, 24)
    without = tiny_videoswin(num_labels=0)
    mean = without.videoswin(pixels).last_hidden_state.mean(1)
    assert torch.equal(without(pixels).logits, mean)


def test_gradients_reach_every_weight() -> None:
    model = tiny_videoswin(image_size=28)
    model(pixels_for(model.config), labels=torch.tensor([0, 3])).loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0, name


def test_dropped_paths() -> None:
    model = tiny_videoswin(drop_path_rate=0.3, depths=(2, 2))
    blocks = [block for stage in model.videoswin.levels for block in stage.blocks]
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    dropped = DropPath(0.25).train()(torch.ones(4000, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(DropPath(0.25).eval()(dropped), dropped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_size": (7, 7)}, "must be three sides"),
        ({"window_size": 7}, "window_size=7 must be three sides"),
        ({"window_size": "abc"}, "must be three sides"),
        ({"window_size": (2.5, 4, 4)}, "must be three sides"),
        ({"patch_size": (0, 4, 4)}, "must be three sides"),
        ({"patch_size": 4}, "patch_size=4 must be three sides"),
        ({"depths": 2}, "depths=2 must list the blocks of each stage"),
        ({"depths": (2, 0)}, "1 or more in each"),
        ({"depths": (-1, 2)}, "1 or more in each"),
        ({"depths": (2, True)}, "1 or more in each"),
        ({"depths": (), "num_heads": ()}, "must have one entry per stage"),
        ({"num_heads": (0, 3)}, r"num_heads=\(0, 3\) must list the heads of each stage"),
        ({"num_heads": (2, -3)}, "must list the heads of each stage"),
        ({"image_size": 0}, "image_size=0 must be the side of a square"),
        ({"image_size": (32,)}, "or height and width"),
        ({"image_size": (32, 0)}, "or height and width"),
        ({"image_size": "224"}, "image_size='224' must be the side"),
        ({"image_size": 22.5}, "image_size=22.5 must be the side"),
        ({"num_frames": 0}, "num_frames=0 must be a whole number"),
        ({"embed_dim": "12"}, "embed_dim='12' must be a whole number"),
        ({"num_channels": 0}, "num_channels=0 must be a whole number"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be a number from 0 to less than 1"),
        ({"drop_path_rate": -0.1}, "drop_path_rate=-0.1 must be a number from 0"),
        ({"drop_path_rate": "0.1"}, "drop_path_rate='0.1' must be a number from 0"),
        ({"depths": (2, 2, 2)}, "one entry per stage"),
        ({"num_heads": (2, 5)}, "24 channels of stage 1 do not divide into 5 heads"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoSwinConfig(**TINY | changes)


def test_configurations_from_json_have_lists() -> None:
    lists = {name: list(value) for name, value in TINY.items() if isinstance(value, tuple)}
    config = VideoSwinConfig(**TINY | lists | {"image_size": [24, 32], "drop_path_rate": 0})
    assert (config.depths, config.window_size) == ((2, 2), (2, 3, 3))
    assert level_grids(config) == level_grids(VideoSwinConfig(**TINY | {"image_size": (24, 32)}))


# Graphs.


@torch.no_grad()
def test_the_model_is_one_graph() -> None:
    model = tiny_videoswin(image_size=28, depths=(2, 1))
    pixels = pixels_for(model.config)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pixels).logits, model(pixels).logits)


@torch.no_grad()
def test_attention_over_a_filled_grid_is_one_graph() -> None:
    cut = CUTS[3]
    attention = tiny_attention(cut.window)
    order = torch.arange(cut.grid.tokens).expand(2, -1)
    tokens = tokens_of(cut.grid.tokens).float()
    torch._dynamo.reset()
    compiled = torch.compile(attend_filled, fullgraph=True, backend="eager")
    found = compiled(attention, tokens, order, order, cut.tables(CPU))
    torch.testing.assert_close(found, attend_whole(attention, tokens, cut.tables(CPU)))


class Filled(nn.Module):
    """The attention of a block over a filled grid, to be exported."""

    def __init__(self, attention: WindowAttention, cut: Cut) -> None:
        super().__init__()
        self.attention, self.cut = attention, cut

    def forward(self, kept: Tensor, source: Tensor, places: Tensor) -> Tensor:
        return attend_filled(self.attention, kept, source, places, self.cut.tables(CPU))


@torch.no_grad()
def test_attention_over_a_filled_grid_is_exported_with_any_batch() -> None:
    cut = CUTS[3]
    module = Filled(tiny_attention(cut.window), cut)
    order = torch.arange(cut.grid.tokens)

    def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
        tokens = tokens_of(cut.grid.tokens, batch=batch).float()
        return tokens, order.expand(batch, -1).clone(), order.expand(batch, -1).clone()

    axis = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(module, inputs(2), dynamic_shapes=(axis,) * 3, strict=True)
    for batch in (1, 3):
        found = program.module()(*inputs(batch))
        torch.testing.assert_close(found, module(*inputs(batch)))


@pytest.mark.slow
@torch.no_grad()
def test_the_model_is_exported_with_any_batch() -> None:
    model = tiny_videoswin(image_size=28)
    axis = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(
        model, (pixels_for(model.config),), dynamic_shapes={"pixel_values": axis}, strict=True
    )
    for batch in (1, 3):
        pixels = pixels_for(model.config, batch=batch)
        torch.testing.assert_close(program.module()(pixels).logits, model(pixels).logits)


# Checkpoints.

SINCE_1_0 = partial(to_mmaction, norm="norm2")
LAYOUTS = [to_torchvision, to_mmaction, SINCE_1_0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["torchvision", "original", "mmaction"])
@pytest.mark.parametrize("window", [None, (2, 3, 3)])
@torch.no_grad()
def test_checkpoints_of_every_layout_are_the_same_model(layout: Any, window: Any) -> None:
    model = tiny_videoswin(depths=(2, 1, 1), num_heads=(2, 3, 4))
    theirs = layout(model.state_dict(), window=window)
    assert is_videoswin(theirs)
    indices = [name for name in theirs if name.endswith("relative_position_index")]
    assert len(indices) == (0 if window is None else 4)
    ours = to_ours(theirs)
    other = tiny_videoswin(seed=1, depths=(2, 1, 1), num_heads=(2, 3, 4))
    other.load_state_dict(ours, strict=True)
    pixels = pixels_for(model.config)
    assert torch.equal(other(pixels).logits, model(pixels).logits)
    assert layout(ours, window=window).keys() == theirs.keys()


def test_names_of_the_layouts() -> None:
    state = tiny_videoswin().state_dict()
    ours = "videoswin.levels.1.blocks.1.mlp.fc2.weight"
    merging = "videoswin.levels.0.downsample.reduction.weight"
    names = {
        to_torchvision: ("features.2.1.mlp.3.weight", "features.1.reduction.weight", "norm.bias"),
        to_mmaction: (
            "backbone.layers.1.blocks.1.mlp.fc2.weight",
            "backbone.layers.0.downsample.reduction.weight",
            "backbone.norm.bias",
        ),
        partial(to_mmaction, norm="norm1"): (
            "backbone.layers.1.blocks.1.mlp.fc2.weight",
            "backbone.layers.0.downsample.reduction.weight",
            "backbone.norm1.bias",
        ),
    }
    for layout, (in_block, in_merging, in_norm) in names.items():
        theirs = layout(state)
        assert theirs[in_block] is state[ours]
        assert theirs[in_merging] is state[merging]
        assert theirs[in_norm] is state["videoswin.norm.bias"]
        assert theirs.keys().isdisjoint(state)
    assert "head.weight" in to_torchvision(state)
    assert "cls_head.fc_cls.weight" in to_mmaction(state)


def test_what_is_no_videoswin_is_refused_by_name() -> None:
    theirs = to_torchvision(tiny_videoswin().state_dict())
    flat = theirs | {"patch_embed.proj.weight": torch.zeros(12, 3, 4, 4)}
    assert not is_videoswin(flat)
    table = "blocks.0.attn.relative_position_bias_table"
    cases: list[tuple[dict[str, Tensor], str]] = [
        (flat, "Swin for images"),
        ({f"layers.0.{table}": torch.zeros(1)}, "backbone alone"),
        (dict(tiny_videoswin().state_dict()), "vidprune's own VideoSwin"),
        ({"conv1.weight": torch.zeros(1)}, "names are such as conv1.weight"),
        (theirs | {"features.0.0.gate": torch.zeros(1)}, "1 tensors .*: features.0.0.gate"),
        (theirs | {"decoder.weight": torch.zeros(1)}, "no place in a VideoSwin: decoder.weight"),
    ]
    for state, message in cases:
        with pytest.raises(CheckpointError, match=message):
            to_ours(state)
    with pytest.raises(CheckpointError, match=r"decoder\.weight; give the state dict"):
        to_mmaction({"decoder.weight": torch.zeros(1)})


def test_published_architectures() -> None:
    # Parameters in millions, as torchvision's documentation has them.
    for name, millions in (("swin3d_t", 28.158), ("swin3d_s", 49.817), ("swin3d_b", 88.048)):
        with torch.device("meta"):
            model = VideoSwinForVideoClassification(architecture(name))
        count = sum(weight.numel() for weight in model.parameters())
        assert count == pytest.approx(millions * 1e6, abs=1e3), name
    config = architecture("swin3d_b_ssv2")
    assert (config.window_size, config.num_labels) == ((16, 7, 7), 174)
    assert architecture("swin3d_t", num_labels=7).num_labels == 7
    with pytest.raises(ValueError, match="choose one of swin3d_t"):
        architecture("swin_l")
    assert list(SIZES) == ["swin3d_t", "swin3d_s", "swin3d_b", "swin3d_b_ssv2"]


@pytest.mark.slow
@torch.no_grad()
def test_torchvision_s_model_is_ours() -> None:
    models = pytest.importorskip(
        "torchvision.models.video", reason="no torchvision beside this torch", exc_type=Exception
    )
    theirs = models.swin3d_t(weights=None).eval()
    ours = VideoSwinForVideoClassification(architecture("swin3d_t")).eval()
    ours.load_state_dict(to_ours(theirs.state_dict()), strict=True)
    pixels = torch.randn(1, 16, 3, 112, 96, generator=torch.Generator().manual_seed(0))
    wanted = theirs(pixels.transpose(1, 2))
    torch.testing.assert_close(ours(pixels).logits, wanted, rtol=1e-4, atol=1e-4)
    back = to_torchvision(ours.state_dict(), window=(8, 7, 7))
    theirs.load_state_dict(back, strict=True)


def test_parts_are_of_use_alone() -> None:
    """What an adapter does: a block in halves, then merging."""
    model = tiny_videoswin().videoswin
    tokens, grid = model.patch_embed(pixels_for(model.config))
    stage = model.levels[0]
    whole, merged = stage(tokens, grid)
    for block in stage.blocks:
        tokens = tokens + block.attention(block.norm1(tokens), block.cut(grid))
        tokens = block.feed_forward(tokens)
    again, small = stage.downsample(tokens, grid)
    assert torch.equal(again, whole)
    assert small == merged == merged_grid(grid)
